//! What one piece of work allocates.

use crate::core::{self, Totals};
use crate::counts::{Counts, Side};

/// What a piece of work returned, and what it allocated and freed on its thread.
#[derive(Clone, Copy, Debug)]
pub struct Measured<R> {
    /// What the work returned.
    pub result: R,
    sides: [Counts; 2],
}

impl<R> Measured<R> {
    /// Gives what was booked on side `c`: zero where no hooks see it (see [`crate::Snapshot::sees`]).
    pub fn c(&self) -> Counts {
        self.sides[Side::C.index()]
    }

    /// Gives what was booked on side `rust`.
    pub fn rust(&self) -> Counts {
        self.sides[Side::Rust.index()]
    }

    /// Gives both sides' sum.
    pub fn all(&self) -> Counts {
        self.sides.into_iter().sum()
    }
}

/// Runs `work` and measures, exactly, what this thread allocates and frees meanwhile.
///
/// `live_*` is what was left behind, and negative when older blocks were freed.
/// What other threads do is not part of it. A thread that found no slot of its
/// own (after thousands of live ones) measures nothing.
///
/// ```
/// # #[global_allocator]
/// # static ALLOC: heapledger::Alloc = heapledger::Alloc::system();
/// let measured = heapledger::measure(|| {
///     let scratch = vec![1u8; 1000];
///     scratch.iter().map(|byte| u32::from(*byte)).sum::<u32>()
/// });
/// assert_eq!(measured.result, 1000);
/// # if heapledger::ledger().is_active() {
/// assert_eq!(measured.rust().allocated_bytes, 1000);
/// assert_eq!(measured.rust().live_bytes, 0);
/// # }
/// ```
pub fn measure<R>(work: impl FnOnce() -> R) -> Measured<R> {
    let before = core::thread_totals().map(counts);
    let result = work();
    let after = core::thread_totals().map(counts);
    Measured {
        result,
        sides: [after[0] - before[0], after[1] - before[1]],
    }
}

fn counts(totals: Totals) -> Counts {
    Counts::new(
        (totals.allocated_bytes, totals.allocated_blocks),
        (totals.freed_bytes, totals.freed_blocks),
        totals.requested_bytes,
        totals.reallocs,
    )
}
