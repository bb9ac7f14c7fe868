//! The C core's functions, and what stands in for them where there is no core.
//!
//! Everything unsafe about talking to the core is here; the rest of the crate
//! calls these wrappers.

use std::alloc::Layout;

#[cfg(feature = "criterion")]
pub(crate) mod work;

#[cfg(heapledger_core)]
pub(crate) use linked::*;

#[cfg(not(heapledger_core))]
pub(crate) use absent::*;

#[allow(
    dead_code,
    unused_imports,
    reason = "the driver inside a program is built on it"
)]
pub(crate) mod pressure;

/// Counters of one side, as the core fills them in (`hl_totals` of `interpose/ledger.h`).
pub(crate) use crate::ledger::layout::Totals;

#[cfg(heapledger_core)]
mod linked {
    use super::{Layout, Totals};

    // Declared in interpose/api.h and interpose/rust.c.
    unsafe extern "C" {
        fn hl_core_rust_alloc(bytes: usize, alignment: usize) -> *mut u8;
        fn hl_core_rust_alloc_zeroed(bytes: usize, alignment: usize) -> *mut u8;
        fn hl_core_rust_dealloc(block: *mut u8, bytes: usize, alignment: usize);
        fn hl_core_rust_realloc(
            block: *mut u8,
            old: usize,
            alignment: usize,
            new: usize,
        ) -> *mut u8;
        fn hl_core_wrapped_allocated(block: *mut u8, bytes: usize, is_realloc: u32);
        fn hl_core_wrapped_retire(block: *mut u8) -> u32;
        fn hl_core_wrapped_restore(block: *mut u8, owner: u32);
        fn hl_core_wrapped_unbook(owner: u32, bytes: usize);
        fn hl_core_inner_enter();
        fn hl_core_inner_leave();
        fn hl_core_scope_id(name: *const u8, bytes: usize) -> u32;
        fn hl_core_scope_enter(scope: u32);
        fn hl_core_scope_leave();
        fn hl_core_charge(what: *const std::ffi::c_char, bytes: usize, freed: u32);
        fn hl_core_thread_totals(totals: *mut Totals);
        fn hl_core_copy_words(reference: u64, words: *mut u64, count: usize) -> i32;
    }

    /// Allocates from the program's malloc and books the block on side rust.
    ///
    /// # Safety
    /// As [`std::alloc::GlobalAlloc::alloc`].
    #[inline]
    pub(crate) unsafe fn system_alloc(layout: Layout) -> *mut u8 {
        // SAFETY: the core passes size and alignment on to malloc or posix_memalign.
        unsafe { hl_core_rust_alloc(layout.size(), layout.align()) }
    }

    /// # Safety
    /// As [`std::alloc::GlobalAlloc::alloc_zeroed`].
    #[inline]
    pub(crate) unsafe fn system_alloc_zeroed(layout: Layout) -> *mut u8 {
        // SAFETY: as above, with calloc.
        unsafe { hl_core_rust_alloc_zeroed(layout.size(), layout.align()) }
    }

    /// # Safety
    /// As [`std::alloc::GlobalAlloc::dealloc`].
    #[inline]
    pub(crate) unsafe fn system_dealloc(block: *mut u8, layout: Layout) {
        // SAFETY: the caller owns the block, and it came from system_alloc.
        unsafe { hl_core_rust_dealloc(block, layout.size(), layout.align()) }
    }

    /// # Safety
    /// As [`std::alloc::GlobalAlloc::realloc`].
    #[inline]
    pub(crate) unsafe fn system_realloc(block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller owns the block, and it came from system_alloc with this layout.
        unsafe { hl_core_rust_realloc(block, layout.size(), layout.align(), bytes) }
    }

    /// Books a block that another allocator has just given out.
    #[inline]
    pub(crate) fn wrapped_allocated(block: *mut u8, bytes: usize, is_realloc: bool) {
        // SAFETY: the core uses the address as a key and does not look behind it.
        unsafe { hl_core_wrapped_allocated(block, bytes, is_realloc.into()) }
    }

    /// Takes a block out of the books' map; gives what `wrapped_freed` or `wrapped_restore` want.
    #[inline]
    pub(crate) fn wrapped_retire(block: *mut u8) -> u32 {
        // SAFETY: as above.
        unsafe { hl_core_wrapped_retire(block) }
    }

    /// Undoes `wrapped_retire`.
    #[inline]
    pub(crate) fn wrapped_restore(block: *mut u8, owner: u32) {
        // SAFETY: as above.
        unsafe { hl_core_wrapped_restore(block, owner) }
    }

    /// Books the free of a retired block.
    #[inline]
    pub(crate) fn wrapped_freed(owner: u32, bytes: usize) {
        // SAFETY: an owner is only ever looked up, with its bounds checked by its width.
        unsafe { hl_core_wrapped_unbook(owner, bytes) }
    }

    /// Runs `work` with this thread's allocations unbooked.
    #[inline]
    pub(crate) fn unbooked<R>(work: impl FnOnce() -> R) -> R {
        /// Leaves on unwinding too.
        struct Inside;
        impl Drop for Inside {
            fn drop(&mut self) {
                // SAFETY: pairs with the enter below, on the same thread.
                unsafe { hl_core_inner_leave() }
            }
        }
        // SAFETY: touches this thread's own state only.
        unsafe { hl_core_inner_enter() };
        let _inside = Inside;
        work()
    }

    /// Gives a scope's identifier, 0 when there is no room or no ledger.
    pub(crate) fn scope_id(name: &str) -> u32 {
        // SAFETY: pointer and length are of one live str.
        unsafe { hl_core_scope_id(name.as_ptr(), name.len()) }
    }

    /// Enters a scope on this thread.
    pub(crate) fn scope_enter(scope: u32) {
        // SAFETY: touches this thread's own state only.
        unsafe { hl_core_scope_enter(scope) }
    }

    /// Leaves the innermost scope of this thread.
    pub(crate) fn scope_leave() {
        // SAFETY: as above; leaving without having entered does nothing.
        unsafe { hl_core_scope_leave() }
    }

    /// Sums up what this thread has booked, by side.
    pub(crate) fn thread_totals() -> [Totals; 2] {
        let mut totals = [Totals::default(); 2];
        // SAFETY: the core fills two of them, as the layout check knows them.
        unsafe { hl_core_thread_totals(totals.as_mut_ptr()) };
        totals
    }

    /// Copies words of this process's ledger; false where it has none there.
    /// Books memory that malloc never sees, under a name.
    pub(crate) fn charge(what: &std::ffi::CStr, bytes: usize, freed: bool) {
        // SAFETY: the name ends with a zero; the core copies it.
        unsafe { hl_core_charge(what.as_ptr(), bytes, freed.into()) }
    }

    /// Copies words of the ledger; false where there are none.
    pub(crate) fn copy_words(reference: u64, out: &mut [u64]) -> bool {
        // SAFETY: pointer and count are of one live slice; the core checks the reference.
        unsafe { hl_core_copy_words(reference, out.as_mut_ptr(), out.len()) == 0 }
    }
}

#[cfg(not(heapledger_core))]
#[allow(missing_docs)]
mod absent {
    use super::{Layout, Totals};
    use std::alloc::{GlobalAlloc, System};

    pub(crate) unsafe fn system_alloc(layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is System's.
        unsafe { System.alloc(layout) }
    }
    pub(crate) unsafe fn system_alloc_zeroed(layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is System's.
        unsafe { System.alloc_zeroed(layout) }
    }
    pub(crate) unsafe fn system_dealloc(block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is System's.
        unsafe { System.dealloc(block, layout) }
    }
    pub(crate) unsafe fn system_realloc(block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller's promise is System's.
        unsafe { System.realloc(block, layout, bytes) }
    }
    pub(crate) fn wrapped_allocated(_: *mut u8, _: usize, _: bool) {}
    pub(crate) fn wrapped_retire(_: *mut u8) -> u32 {
        0
    }
    pub(crate) fn wrapped_restore(_: *mut u8, _: u32) {}
    pub(crate) fn wrapped_freed(_: u32, _: usize) {}
    pub(crate) fn unbooked<R>(work: impl FnOnce() -> R) -> R {
        work()
    }
    pub(crate) fn scope_id(_: &str) -> u32 {
        0
    }
    pub(crate) fn scope_enter(_: u32) {}
    pub(crate) fn scope_leave() {}
    pub(crate) fn thread_totals() -> [Totals; 2] {
        [Totals::default(); 2]
    }
    pub(crate) fn charge(_: &std::ffi::CStr, _: usize, _: bool) {}
    pub(crate) fn copy_words(_: u64, _: &mut [u64]) -> bool {
        false
    }
}
