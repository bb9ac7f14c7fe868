//! What one piece of work allocates, by side, with its peak.

use std::ops::Sub;

use crate::core::work::{self, ProcessCounts};
use crate::core::{self, Totals};
use crate::counts::{Counts, Side};

/// What one piece of work allocated, freed, held at most and left behind, in the whole process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Books {
    /// Side `c`; `None` where it is not seen.
    pub c: Option<SideBooks>,
    /// Side `rust`; `None` where it is not seen.
    pub rust: Option<SideBooks>,
    /// The highest live bytes of both sides together; their own peaks may lie at other moments.
    pub peak_live_bytes: i64,
    /// Whether peaks are exact: this thread did all the work. Else they are within 64 KiB a thread.
    pub peaks_are_exact: bool,
}

/// What one piece of work did on one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SideBooks {
    /// What was allocated and freed. `live_*` is what was left behind, negative when older
    /// blocks were freed.
    pub counts: Counts,
    /// The highest live bytes above those at the start; never negative.
    pub peak_live_bytes: i64,
}

impl Books {
    /// Runs `work` and measures it, on both sides and over all threads.
    ///
    /// ```
    /// # #[global_allocator]
    /// # static ALLOC: heapledger::Alloc = heapledger::Alloc::system();
    /// let (rows, books) = heapledger::criterion::Books::of(|| {
    ///     let scratch = vec![0u8; 1000];
    ///     vec![scratch[0]; 10]
    /// });
    /// # if heapledger::ledger().is_active() {
    /// let rust = books.rust.unwrap();
    /// assert_eq!((rust.counts.allocated_blocks, rust.counts.allocated_bytes), (2, 1010));
    /// assert_eq!((rust.peak_live_bytes, rust.counts.live_bytes), (1010, 10));
    /// # }
    /// # drop(rows);
    /// ```
    pub fn of<R>(work: impl FnOnce() -> R) -> (R, Books) {
        let (result, taken) = Taken::by(work);
        (result, taken.books())
    }

    /// Gives one side's; `None` where it is not seen.
    pub fn side(&self, side: Side) -> Option<SideBooks> {
        match side {
            Side::C => self.c,
            Side::Rust => self.rust,
        }
    }

    /// Gives the bytes allocated on the sides that are seen.
    pub(super) fn allocated_bytes(&self) -> u64 {
        let sides = [self.c, self.rust].into_iter().flatten();
        sides.map(|side| side.counts.allocated_bytes).sum()
    }
}

/// The counters of both sides, of this thread and of all, at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    pub thread: [Counts; 2],
    pub process: [Counts; 2],
    pub sees: [bool; 2],
}

impl Reading {
    /// Reads them without allocating.
    pub fn now() -> Reading {
        let thread = core::thread_totals().map(of_thread);
        let Some(books) = work::process_books() else {
            return Reading::default();
        };
        Reading {
            thread,
            process: [books.c, books.rust].map(of_process),
            sees: [books.sees_c, books.sees_rust].map(|seen| seen != 0),
        }
    }
}

/// What was booked between two readings.
impl Sub for Reading {
    type Output = Reading;

    fn sub(self, earlier: Reading) -> Reading {
        let less = |now: [Counts; 2], then: [Counts; 2]| [now[0] - then[0], now[1] - then[1]];
        Reading {
            thread: less(self.thread, earlier.thread),
            process: less(self.process, earlier.process),
            sees: self.sees,
        }
    }
}

fn of_thread(totals: Totals) -> Counts {
    Counts::new(
        (totals.allocated_bytes, totals.allocated_blocks),
        (totals.freed_bytes, totals.freed_blocks),
        totals.requested_bytes,
        totals.reallocs,
    )
}

fn of_process(counts: ProcessCounts) -> Counts {
    Counts::new(
        (counts.allocated_bytes, counts.allocated_blocks),
        (counts.freed_bytes, counts.freed_blocks),
        counts.requested_bytes,
        counts.reallocs,
    )
}

/// One piece of work, with its peaks: c, rust, all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub booked: Reading,
    /// Whether no other thread has booked anything meanwhile.
    alone: bool,
    pub thread_peaks: [i64; 3],
    /// This thread's where it was alone, else within a quantum a thread.
    pub process_peaks: [i64; 3],
}

impl Taken {
    pub fn by<R>(work: impl FnOnce() -> R) -> (R, Taken) {
        let lowest = work::process_peaks(true);
        let before = Reading::now();
        let (result, watch) = work::watched(work);
        let booked = Reading::now() - before;
        let highest = work::process_peaks(false);
        // Counters only grow: where the sums agree, no other thread has booked anything.
        let alone = booked.thread == booked.process;
        let mut process_peaks = watch.peak;
        if !alone {
            for (peak, (high, low)) in process_peaks.iter_mut().zip(highest.iter().zip(lowest)) {
                *peak = high - low;
            }
        }
        let taken = Taken {
            booked,
            alone,
            thread_peaks: watch.peak,
            process_peaks,
        };
        (result, taken)
    }

    pub fn books(&self) -> Books {
        let peaks = self.process_peaks;
        let side = |side: Side| {
            let index = side.index();
            self.booked.sees[index].then_some(SideBooks {
                counts: self.booked.process[index],
                peak_live_bytes: peaks[index],
            })
        };
        Books {
            c: side(Side::C),
            rust: side(Side::Rust),
            peak_live_bytes: peaks[2],
            peaks_are_exact: self.alone,
        }
    }
}
