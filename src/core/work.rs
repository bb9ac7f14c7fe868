//! What the core tells of one piece of work: sums of the process, and peaks.

/// A thread's exact live bytes since it began to be watched (`hl_watch` of `interpose/core.h`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watch {
    pub on: i64,
    pub live: [i64; 2],
    /// c, rust, all; never below 0.
    pub peak: [i64; 3],
}

impl Watch {
    pub(crate) const BEGUN: Watch = Watch {
        on: 1,
        live: [0; 2],
        peak: [0; 3],
    };

    /// Adds what an inner watch saw, which began where this one stood still.
    fn take_in(&mut self, inner: &Watch) {
        if self.on == 0 {
            return;
        }
        let [c, rust] = self.live;
        for (index, before) in [c, rust, c + rust].into_iter().enumerate() {
            self.peak[index] = self.peak[index].max(before + inner.peak[index]);
        }
        for (live, more) in self.live.iter_mut().zip(inner.live) {
            *live += more;
        }
    }
}

/// Runs `work` on this thread, watched: gives exactly how many bytes more it held at most.
///
/// A watched thread books off the fast path, so times taken meanwhile say nothing.
pub(crate) fn watched<R>(work: impl FnOnce() -> R) -> (R, Watch) {
    /// Puts the outer watch back on unwinding too.
    struct Outer(Watch);
    impl Outer {
        fn back(&mut self) -> Watch {
            let mut inner = Watch::default();
            exchange_watch(&mut inner);
            self.0.take_in(&inner);
            exchange_watch(&mut self.0);
            inner
        }
    }
    impl Drop for Outer {
        fn drop(&mut self) {
            self.back();
        }
    }
    let mut outer = Outer(Watch::BEGUN);
    exchange_watch(&mut outer.0);
    let result = work();
    let seen = outer.back();
    std::mem::forget(outer);
    (result, seen)
}

/// One side's sums (`struct hl_counts` of `include/heapledger.h`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessCounts {
    pub live_bytes: i64,
    pub live_blocks: i64,
    pub allocated_bytes: u64,
    pub allocated_blocks: u64,
    pub freed_bytes: u64,
    pub freed_blocks: u64,
    pub reallocs: u64,
    pub requested_bytes: u64,
    pub peak_live_bytes: i64,
}

/// The sums of all threads (`struct hl_books` of `include/heapledger.h`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessBooks {
    bytes: usize,
    pub sees_c: u32,
    pub sees_rust: u32,
    pub c: ProcessCounts,
    pub rust: ProcessCounts,
    all: ProcessCounts,
}

#[cfg(heapledger_core)]
mod linked {
    use super::{ProcessBooks, Watch};

    // Declared in interpose/api.h.
    unsafe extern "C" {
        fn hl_core_snapshot(books: *mut ProcessBooks) -> i32;
        fn hl_core_watch(watch: *mut Watch);
        fn hl_core_process_peaks(peaks: *mut i64, anew: u32);
    }

    /// Sums up what all threads have booked; `None` where no books are kept. Allocates nothing.
    pub(crate) fn process_books() -> Option<ProcessBooks> {
        let mut books = ProcessBooks {
            bytes: size_of::<ProcessBooks>(),
            ..ProcessBooks::default()
        };
        // SAFETY: the struct says its size, and the core writes no further.
        (unsafe { hl_core_snapshot(&mut books) } == 0).then_some(books)
    }

    /// Exchanges this thread's watch with another one.
    pub(super) fn exchange_watch(watch: &mut Watch) {
        // SAFETY: the core reads and writes one hl_watch, whose mirror this is.
        unsafe { hl_core_watch(watch) }
    }

    /// Gives the process's highest live bytes (c, rust, all) since the last call
    /// that began `anew`, which gives what is live now. Late by a quantum a thread.
    pub(crate) fn process_peaks(anew: bool) -> [i64; 3] {
        let mut peaks = [0; 3];
        // SAFETY: the core writes HL_SIDES + 1 words, which is three.
        unsafe { hl_core_process_peaks(peaks.as_mut_ptr(), anew.into()) };
        peaks
    }
}

#[cfg(not(heapledger_core))]
mod absent {
    use super::{ProcessBooks, Watch};

    pub(crate) fn process_books() -> Option<ProcessBooks> {
        None
    }
    pub(super) fn exchange_watch(_: &mut Watch) {}
    pub(crate) fn process_peaks(_: bool) -> [i64; 3] {
        [0; 3]
    }
}

#[cfg(not(heapledger_core))]
use absent::exchange_watch;
#[cfg(not(heapledger_core))]
pub(crate) use absent::{process_books, process_peaks};
#[cfg(heapledger_core)]
use linked::exchange_watch;
#[cfg(heapledger_core)]
pub(crate) use linked::{process_books, process_peaks};
