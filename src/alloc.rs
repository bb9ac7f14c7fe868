//! The counting global allocator.

use std::alloc::{GlobalAlloc, Layout};

use crate::core;

/// A global allocator that books every Rust allocation on side `rust`.
///
/// ```
/// #[global_allocator]
/// static ALLOC: heapledger::Alloc = heapledger::Alloc::system();
///
/// let before = heapledger::ledger().snapshot();
/// let page = vec![0u8; 4096];
/// let after = heapledger::ledger().snapshot();
/// # if heapledger::ledger().is_active() {
/// assert_eq!(after.rust().live_bytes - before.rust().live_bytes, 4096);
/// # }
/// # drop(page);
/// ```
///
/// Nothing in `alloc`, `dealloc`, `realloc` and `alloc_zeroed` panics, locks or
/// allocates beyond what the inner allocator does. A block is booked with its
/// Layout's size. The call site is the caller of `__rust_alloc` where the
/// compiler made that a jump (release builds), and the shim itself otherwise.
///
/// Where no ledger can be kept the calls are forwarded and
/// [`Ledger::is_active`](crate::Ledger::is_active) is false.
#[derive(Debug)]
pub struct Alloc<A = System> {
    inner: A,
    /// The inner allocator books for itself: true of [`System`] alone.
    books_itself: bool,
}

/// The program's own malloc: what [`Alloc::system`] allocates from.
///
/// That is glibc's, or the jemalloc, tcmalloc or mimalloc that is linked or
/// preloaded. The malloc hooks, if there are any, are passed by, so that a
/// block is booked once.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Alloc<System> {
    /// Allocates from the program's malloc.
    pub const fn system() -> Alloc<System> {
        Alloc {
            inner: System,
            books_itself: true,
        }
    }
}

impl<A> Alloc<A> {
    /// Allocates from `inner`, any other global allocator.
    ///
    /// What `inner` takes from malloc while it serves a call is not booked on
    /// side `c`: each block counts once. All its blocks have one call site;
    /// scopes tell them apart.
    pub const fn new(inner: A) -> Alloc<A> {
        Alloc {
            inner,
            books_itself: false,
        }
    }

    /// Gives the wrapped allocator.
    pub const fn inner(&self) -> &A {
        &self.inner
    }
}

// SAFETY: the core gives what malloc, posix_memalign, calloc and realloc gave
// for the same size and alignment, or NULL, and frees with free.
unsafe impl GlobalAlloc for System {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on as it came.
        unsafe { core::system_alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on as it came.
        unsafe { core::system_alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: passed on as it came.
        unsafe { core::system_dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: passed on as it came.
        unsafe { core::system_realloc(block, layout, new_size) }
    }
}

/// Books a block unless it is NULL, and hands it on.
#[inline]
fn book(block: *mut u8, bytes: usize) -> *mut u8 {
    if !block.is_null() {
        core::wrapped_allocated(block, bytes, false);
    }
    block
}

// SAFETY: every call goes to the inner allocator with the caller's own
// arguments, and what it returns is returned; booking uses addresses as keys only.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Alloc<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if self.books_itself {
            // SAFETY: passed on as it came.
            return unsafe { self.inner.alloc(layout) };
        }
        // SAFETY: passed on as it came.
        book(
            core::unbooked(|| unsafe { self.inner.alloc(layout) }),
            layout.size(),
        )
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if self.books_itself {
            // SAFETY: passed on as it came.
            return unsafe { self.inner.alloc_zeroed(layout) };
        }
        // SAFETY: passed on as it came.
        book(
            core::unbooked(|| unsafe { self.inner.alloc_zeroed(layout) }),
            layout.size(),
        )
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if self.books_itself {
            // SAFETY: passed on as it came.
            return unsafe { self.inner.dealloc(block, layout) };
        }
        // Before the free: afterwards another thread may have the address.
        core::wrapped_freed(core::wrapped_retire(block), layout.size());
        // SAFETY: passed on as it came.
        core::unbooked(|| unsafe { self.inner.dealloc(block, layout) });
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if self.books_itself {
            // SAFETY: passed on as it came.
            return unsafe { self.inner.realloc(block, layout, new_size) };
        }
        let owner = core::wrapped_retire(block);
        // SAFETY: passed on as it came.
        let moved = core::unbooked(|| unsafe { self.inner.realloc(block, layout, new_size) });
        if moved.is_null() {
            if owner != 0 {
                core::wrapped_restore(block, owner);
            }
            return moved;
        }
        core::wrapped_freed(owner, layout.size());
        core::wrapped_allocated(moved, new_size, owner != 0);
        moved
    }
}

#[cfg(all(test, heapledger_core))]
mod tests {
    use super::*;
    use crate::measure;

    /// Exercises every entry with sizes and alignments that go different ways inside.
    fn exercise(alloc: &impl GlobalAlloc) {
        let small = Layout::from_size_align(100, 8).expect("a layout");
        let aligned = Layout::from_size_align(1000, 64).expect("a layout");
        // SAFETY: no size is zero, and each block is used with the layout it has at the time.
        unsafe {
            let kept = alloc.alloc(small);
            kept.write_bytes(7, 100);
            let grown = alloc.realloc(kept, small, 5000);
            assert!(
                std::slice::from_raw_parts(grown, 100)
                    .iter()
                    .all(|byte| *byte == 7)
            );
            let zeroed = alloc.alloc_zeroed(aligned);
            assert_eq!(zeroed as usize % 64, 0);
            assert!(
                std::slice::from_raw_parts(zeroed, 1000)
                    .iter()
                    .all(|byte| *byte == 0)
            );
            zeroed.write_bytes(9, 1000);
            let shrunk = alloc.realloc(zeroed, aligned, 10);
            assert_eq!(shrunk as usize % 64, 0);
            assert!(
                std::slice::from_raw_parts(shrunk, 10)
                    .iter()
                    .all(|byte| *byte == 9)
            );
            alloc.dealloc(shrunk, Layout::from_size_align(10, 64).expect("a layout"));
            alloc.dealloc(grown, Layout::from_size_align(5000, 8).expect("a layout"));
            let left = alloc.alloc(small);
            assert!(!left.is_null());
            std::hint::black_box(left);
        }
    }

    fn assert_exact(alloc: &impl GlobalAlloc) {
        let measured = measure(|| exercise(alloc)).rust();
        assert_eq!(measured.allocated_blocks, 5);
        assert_eq!(measured.allocated_bytes, 100 + 5000 + 1000 + 10 + 100);
        assert_eq!((measured.live_blocks, measured.live_bytes), (1, 100));
        assert_eq!(measured.reallocs, 2);
        assert_eq!(measured.requested_bytes, measured.allocated_bytes);
        assert!(measured.adds_up());
    }

    #[test]
    fn the_system_allocator_is_booked_to_the_byte() {
        assert_exact(&Alloc::system());
    }

    #[test]
    fn a_wrapped_allocator_is_booked_to_the_byte() {
        assert_exact(&Alloc::new(std::alloc::System));
    }

    #[test]
    fn wrapping_our_own_system_allocator_books_each_block_once() {
        assert_exact(&Alloc::new(System));
    }

    #[test]
    fn a_failed_realloc_changes_nothing() {
        let layout = Layout::from_size_align(100, 8).expect("a layout");
        for alloc in [
            &Alloc::system() as &dyn GlobalAlloc,
            &Alloc::new(std::alloc::System),
        ] {
            // SAFETY: the block is freed with the layout it was allocated with.
            let measured = measure(|| unsafe {
                let block = alloc.alloc(layout);
                let too_much = isize::MAX as usize - 8;
                assert!(alloc.realloc(block, layout, too_much).is_null());
                alloc.dealloc(block, layout);
            });
            assert_eq!(measured.rust().allocated_blocks, 1);
            assert_eq!(
                (measured.rust().live_bytes, measured.rust().reallocs),
                (0, 0)
            );
        }
    }

    #[test]
    fn looking_does_not_change_the_books() {
        let alloc = Alloc::system();
        let layout = Layout::from_size_align(64, 8).expect("a layout");
        // SAFETY: the block is freed with the layout it was allocated with.
        unsafe { alloc.dealloc(alloc.alloc(layout), layout) };
        let measured = measure(|| {
            let snapshot = crate::ledger().snapshot();
            snapshot.owners().count()
        });
        assert!(measured.result > 0);
        assert!(measured.all().is_untouched());
    }
}
