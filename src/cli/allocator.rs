//! The command's global allocator.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use crate::Alloc;
use crate::demo::WORKER_C;

/// Books the command's own allocations in the demo's workers, and passes them on
/// everywhere else: a `report` on a directory of ledgers must not add one.
#[derive(Debug)]
pub struct Allocator {
    /// 0: nobody has looked yet.
    books: AtomicU8,
}

static BOOKED: Alloc = Alloc::system();
const PLAIN: std::alloc::System = std::alloc::System;

const YES: u8 = 1;
const NO: u8 = 2;

impl Allocator {
    /// Makes the allocator; it decides at its first call.
    pub const fn new() -> Allocator {
        Allocator {
            books: AtomicU8::new(0),
        }
    }

    #[inline]
    fn is_booking(&self) -> bool {
        match self.books.load(Relaxed) {
            YES => true,
            NO => false,
            _ => self.decide(),
        }
    }

    /// The first call comes before `main`, on the only thread.
    #[cold]
    fn decide(&self) -> bool {
        // SAFETY: the name ends with a zero, and nobody changes the environment before `main`.
        let is_set = !unsafe { libc::getenv(WORKER_C.as_ptr()) }.is_null();
        self.books.store(if is_set { YES } else { NO }, Relaxed);
        is_set
    }
}

impl Default for Allocator {
    fn default() -> Allocator {
        Allocator::new()
    }
}

// SAFETY: each call goes to one and the same allocator, which keeps the contract.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.is_booking() {
            // SAFETY: passed on as it came.
            true => unsafe { BOOKED.alloc(layout) },
            // SAFETY: as above.
            false => unsafe { PLAIN.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match self.is_booking() {
            // SAFETY: passed on as it came.
            true => unsafe { BOOKED.alloc_zeroed(layout) },
            // SAFETY: as above.
            false => unsafe { PLAIN.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.is_booking() {
            // SAFETY: the block came from the same allocator: the decision never changes.
            true => unsafe { BOOKED.dealloc(block, layout) },
            // SAFETY: as above.
            false => unsafe { PLAIN.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        match self.is_booking() {
            // SAFETY: the block came from the same allocator: the decision never changes.
            true => unsafe { BOOKED.realloc(block, layout, bytes) },
            // SAFETY: as above.
            false => unsafe { PLAIN.realloc(block, layout, bytes) },
        }
    }
}
