//! Reads what mode full keeps: every stack with all that it allocated, and the
//! calls that no program may make.
//!
//! A ledger that is being written is read as it is: figures of one row may be
//! an operation apart from each other, those of a process that has ended are exact.

use std::iter::Sum;
use std::ops::{Add, AddAssign};

use super::layout::{self, Header};
use super::pages::{Pages, page_reference, read_array};
use super::stacks::{Extent, Frame, KeyReader, StackKey, read_head, read_rows};
use crate::counts::Side;

/// All that a ledger tells whose mode is full.
#[derive(Debug)]
pub(crate) struct Exact {
    /// Live bytes of all stacks.
    #[allow(dead_code, reason = "the sum over the stacks is as good")]
    pub live_bytes: u64,
    /// The most that they ever were.
    pub most_bytes: u64,
    /// One row for each stack, side, scope and thread; some have nothing allocated and
    /// are here for `misuses` alone.
    pub stacks: Vec<ExactStack>,
    /// In order of their first times.
    pub misuses: Vec<Misuse>,
    /// Calls that no record was left for.
    pub misuses_left_out: u64,
}

/// One stack of one thread in one scope, and all that it allocated.
#[derive(Clone, Debug)]
pub(crate) struct ExactStack {
    pub side: Side,
    /// 0 = none.
    pub scope: u32,
    /// The thread's identifier as the kernel gave it; 0: several threads'.
    pub thread: u32,
    pub extent: Extent,
    /// Some frames were found by frame pointers alone.
    pub guessed: bool,
    /// Innermost first.
    pub frames: Vec<Frame>,
    pub allocated: Amount,
    /// Of `allocated`, by whomever.
    pub freed: Amount,
    /// Of `freed`: by the next operation of the thread that had allocated it.
    pub temporary: Amount,
    /// Live when the process held its most.
    pub at_peak: Amount,
}

/// Blocks and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub blocks: u64,
    pub bytes: u64,
}

/// Calls of one kind with the same stacks, all as sure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Misuse {
    pub kind: MisuseKind,
    /// The block may have been handed out again past the hooks, and the calls be right.
    pub may_be_right: bool,
    pub call: MisusedCall,
    /// The pointer that the first of them gave.
    pub block: u64,
    /// Of the block that it is, was, or lies inside; 0: of none, or not known.
    pub bytes: u64,
    /// How far inside a live block the pointer lies.
    pub inside: Option<u64>,
    /// What Rust said that the size is, where it was another.
    pub said_bytes: Option<u64>,
    /// Index into `Exact::stacks` of that block's allocation.
    pub allocated: Option<usize>,
    /// The same of its first free.
    pub freed: Option<usize>,
    /// The same of these calls.
    pub called: Option<usize>,
    /// The thread that made the first of them.
    pub thread: u32,
    /// When that was, `CLOCK_MONOTONIC`.
    pub mono_ns: u64,
    /// How many there were.
    pub count: u64,
}

/// What was wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MisuseKind {
    /// Its block had been freed already.
    DoubleFree,
    /// It was given what is no block: inside one, or where no allocator has memory.
    NeverAllocated,
    /// Nobody saw the allocation of its block, which may be one of another allocator's.
    NeverSeen,
    /// C freed what Rust had allocated.
    RustByC,
    /// Rust freed what C had allocated.
    CByRust,
    /// Rust freed with another size than it had asked for.
    OtherSize,
}

/// The function that was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MisusedCall {
    Free,
    Realloc,
}

impl ExactStack {
    /// Gives what is allocated and not freed.
    pub(crate) fn live(&self) -> Amount {
        Amount {
            blocks: self.allocated.blocks.saturating_sub(self.freed.blocks),
            bytes: self.allocated.bytes.saturating_sub(self.freed.bytes),
        }
    }

    fn of(key: StackKey, row: &layout::Exact, excursion: u64) -> ExactStack {
        let amount = |blocks, bytes| Amount { blocks, bytes };
        let mut stack = ExactStack {
            side: key.side,
            scope: key.scope,
            thread: key.thread,
            extent: key.extent,
            guessed: key.guessed,
            frames: key.frames,
            allocated: amount(row.allocated_blocks, row.allocated_bytes),
            freed: amount(
                row.freed_blocks.wrapping_add(row.elsewhere_blocks),
                row.freed_bytes.wrapping_add(row.elsewhere_bytes),
            ),
            temporary: amount(row.temporary_blocks, row.temporary_bytes),
            at_peak: Amount::default(),
        };
        stack.at_peak = match row.excursion == excursion && excursion % 2 == 1 {
            true => amount(row.peak_blocks.max(0) as u64, row.peak_bytes.max(0) as u64),
            false => stack.live(),
        };
        stack
    }
}

impl Add for Amount {
    type Output = Amount;

    fn add(self, other: Amount) -> Amount {
        Amount {
            blocks: self.blocks.saturating_add(other.blocks),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Amount) {
        *self = *self + other;
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Amount>>(all: I) -> Amount {
        all.fold(Amount::default(), Add::add)
    }
}

impl Exact {
    /// Reads the stacks of a ledger with so many modules; `None` where its mode is not full.
    pub(crate) fn read(pages: &dyn Pages, header: &Header, modules: usize) -> Option<Exact> {
        let head = read_head(pages, header).filter(|head| head.rows == layout::ROWS_EXACT)?;
        let records = read_misuses(pages, &head);
        let mut keys = KeyReader::new(pages, modules);
        let mut stacks = Vec::new();
        // Where a row's stack stands in `stacks`, by 1 + its index.
        let mut places = std::collections::HashMap::new();
        let named: std::collections::HashSet<u32> = records
            .iter()
            .flat_map(|record| [record.allocated, record.freed, record.called])
            .collect();
        for (index, row) in read_rows::<layout::Exact>(pages, &head) {
            let number = index as u32 + 1;
            if row.allocated_blocks == 0 && !named.contains(&number) {
                continue;
            }
            if let Some(key) = keys.read(&row.stack) {
                places.insert(number, stacks.len());
                stacks.push(ExactStack::of(key, &row, head.excursion));
            }
        }
        let place = |number: u32| places.get(&number).copied();
        let mut misuses: Vec<Misuse> = records
            .iter()
            .filter_map(|record| Misuse::of(record, place))
            .collect();
        misuses.sort_by_key(|misuse| misuse.mono_ns);
        Some(Exact {
            live_bytes: stacks.iter().map(|stack| stack.live().bytes).sum(),
            most_bytes: head.most_bytes.max(0) as u64,
            stacks,
            misuses,
            misuses_left_out: head.misuses_dropped,
        })
    }
}

impl Misuse {
    /// `None` for a record that is not complete.
    fn of(record: &layout::Misuse, place: impl Fn(u32) -> Option<usize>) -> Option<Misuse> {
        let kind = match record.kind {
            layout::MISUSE_DOUBLE_FREE => MisuseKind::DoubleFree,
            layout::MISUSE_NEVER_ALLOCATED => MisuseKind::NeverAllocated,
            layout::MISUSE_NEVER_SEEN => MisuseKind::NeverSeen,
            layout::MISUSE_RUST_BY_C => MisuseKind::RustByC,
            layout::MISUSE_C_BY_RUST => MisuseKind::CByRust,
            layout::MISUSE_OTHER_SIZE => MisuseKind::OtherSize,
            _ => return None,
        };
        let sizes = kind == MisuseKind::OtherSize;
        Some(Misuse {
            kind,
            may_be_right: record.doubt != 0,
            call: match record.call {
                layout::CALL_REALLOC => MisusedCall::Realloc,
                _ => MisusedCall::Free,
            },
            block: record.block,
            bytes: record.bytes,
            inside: Some(record.inside).filter(|&inside| inside != 0 && !sizes),
            said_bytes: Some(record.inside).filter(|_| sizes),
            allocated: place(record.allocated),
            freed: place(record.freed),
            called: place(record.called),
            thread: record.thread,
            mono_ns: record.mono_ns,
            count: record.count,
        })
    }
}

fn read_misuses(pages: &dyn Pages, head: &layout::Samples) -> Vec<layout::Misuse> {
    let mut records = Vec::new();
    let most = layout::MISUSE_PAGES * layout::MISUSES_PER_PAGE;
    let mut left = (head.misuse_count as usize).min(most);
    for &page in &head.misuse_pages {
        let count = left.min(layout::MISUSES_PER_PAGE);
        left -= count;
        if page != 0 && count != 0 {
            let found = read_array::<layout::Misuse>(pages, page_reference(page), count);
            records.extend(found.into_iter().flatten());
        }
    }
    records
}

#[cfg(all(test, feature = "cli", heapledger_core))]
#[path = "exact_tests.rs"]
mod tests;
