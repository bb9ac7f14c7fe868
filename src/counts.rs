//! The counters that every view of the ledger shares.

use std::ops::{AddAssign, Sub};

/// Who called: the malloc family or the Rust global allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "cli", serde(rename_all = "lowercase"))]
pub enum Side {
    /// malloc, calloc, realloc, ... and what reaches them (strdup, operator new).
    C,
    /// Rust's global allocator.
    Rust,
}

impl Side {
    /// Both sides, in the order in which reports show them.
    pub const ALL: [Side; 2] = [Side::C, Side::Rust];

    pub(crate) fn from_index(index: usize) -> Side {
        Side::ALL[index & 1]
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Gives the side's name in reports: `c` or `rust`.
    pub fn name(self) -> &'static str {
        match self {
            Side::C => "c",
            Side::Rust => "rust",
        }
    }
}

/// What was allocated and freed by some part of the program, to the byte.
///
/// Bytes are usable bytes on side `c` (what the allocator really gave) and
/// requested bytes on side `rust`. `allocated - freed = live` always holds.
/// A snapshot taken while other threads run may show a block's free and not
/// yet its allocation, so live figures are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct Counts {
    /// Bytes held now.
    pub live_bytes: i64,
    /// Blocks held now.
    pub live_blocks: i64,
    /// Bytes ever allocated.
    pub allocated_bytes: u64,
    /// Blocks ever allocated.
    pub allocated_blocks: u64,
    /// Bytes ever freed.
    pub freed_bytes: u64,
    /// Blocks ever freed.
    pub freed_blocks: u64,
    /// Successful reallocs of a live block; each is also one free and one allocation.
    pub reallocs: u64,
    /// Bytes ever asked for.
    pub requested_bytes: u64,
}

impl Counts {
    pub(crate) fn new(
        allocated: (u64, u64),
        freed: (u64, u64),
        requested_bytes: u64,
        reallocs: u64,
    ) -> Counts {
        Counts {
            live_bytes: allocated.0.wrapping_sub(freed.0) as i64,
            live_blocks: allocated.1.wrapping_sub(freed.1) as i64,
            allocated_bytes: allocated.0,
            allocated_blocks: allocated.1,
            freed_bytes: freed.0,
            freed_blocks: freed.1,
            reallocs,
            requested_bytes,
        }
    }

    /// Tells whether nothing was ever booked here.
    pub fn is_untouched(&self) -> bool {
        *self == Counts::default()
    }

    /// Tells whether allocated - freed = live, in bytes and blocks.
    pub fn adds_up(&self) -> bool {
        self.allocated_bytes.wrapping_sub(self.freed_bytes) as i64 == self.live_bytes
            && self.allocated_blocks.wrapping_sub(self.freed_blocks) as i64 == self.live_blocks
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        *self = Counts::new(
            (
                self.allocated_bytes.wrapping_add(other.allocated_bytes),
                self.allocated_blocks.wrapping_add(other.allocated_blocks),
            ),
            (
                self.freed_bytes.wrapping_add(other.freed_bytes),
                self.freed_blocks.wrapping_add(other.freed_blocks),
            ),
            self.requested_bytes.wrapping_add(other.requested_bytes),
            self.reallocs.wrapping_add(other.reallocs),
        );
    }
}

/// Gives what was booked between two readings of the same counters.
impl Sub for Counts {
    type Output = Counts;

    fn sub(self, earlier: Counts) -> Counts {
        Counts::new(
            (
                self.allocated_bytes.wrapping_sub(earlier.allocated_bytes),
                self.allocated_blocks.wrapping_sub(earlier.allocated_blocks),
            ),
            (
                self.freed_bytes.wrapping_sub(earlier.freed_bytes),
                self.freed_blocks.wrapping_sub(earlier.freed_blocks),
            ),
            self.requested_bytes.wrapping_sub(earlier.requested_bytes),
            self.reallocs.wrapping_sub(earlier.reallocs),
        )
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Counts>>(counts: I) -> Counts {
        counts.fold(Counts::default(), |mut sum, next| {
            sum += next;
            sum
        })
    }
}
