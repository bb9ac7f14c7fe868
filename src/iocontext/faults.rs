//! Failures on purpose: the n-th allocation of C or callback of a thread fails.

use std::cell::Cell;
use std::ffi::c_void;
use std::io;

use super::ffi::{self, Memory};
use super::source::Source;
use crate::Result;

thread_local! {
    /// Steps taken so far, and the one to fail: 0 = none.
    static STEPS: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// Takes a step; true when it is the one to fail.
fn fails() -> bool {
    STEPS.with(|steps| {
        let (taken, failing) = steps.get();
        steps.set((taken + 1, failing));
        taken + 1 == failing
    })
}

/// Makes the library's allocations steps, on all threads and for good.
///
/// # Errors
/// [`Error::NoIoContext`](crate::Error::NoIoContext).
///
/// # Safety
/// No object of the library exists, and no other thread uses it during the call.
pub unsafe fn count_allocations() -> Result<()> {
    let memory = Memory {
        malloc,
        calloc,
        realloc,
        free: libc::free,
    };
    // SAFETY: the caller's promise; the library copies the struct.
    unsafe { (ffi::library()?.ic_set_memory)(&memory) };
    Ok(())
}

/// Runs `work` with its step number `failing` (from 1) made to fail; 0 lets all pass. Gives what it
/// returned and how many steps it took on this thread.
pub fn run<R>(failing: u64, work: impl FnOnce() -> R) -> (R, u64) {
    STEPS.set((0, failing));
    let result = work();
    (result, STEPS.replace((0, 0)).0)
}

unsafe extern "C" fn malloc(bytes: usize) -> *mut c_void {
    if fails() {
        return std::ptr::null_mut();
    }
    // SAFETY: as the caller's call of malloc.
    unsafe { libc::malloc(bytes) }
}

unsafe extern "C" fn calloc(count: usize, bytes: usize) -> *mut c_void {
    if fails() {
        return std::ptr::null_mut();
    }
    // SAFETY: as the caller's call of calloc.
    unsafe { libc::calloc(count, bytes) }
}

unsafe extern "C" fn realloc(block: *mut c_void, bytes: usize) -> *mut c_void {
    if fails() {
        return std::ptr::null_mut();
    }
    // SAFETY: as the caller's call of realloc.
    unsafe { libc::realloc(block, bytes) }
}

/// How a callback fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It returns an error.
    Error,
    /// It panics, without the panic hook's message.
    Panic,
}

/// A source each of whose callbacks is a step.
pub struct FaultySource<S> {
    source: S,
    failure: Failure,
}

impl<S> FaultySource<S> {
    /// Wraps a source.
    pub fn new(source: S, failure: Failure) -> FaultySource<S> {
        FaultySource { source, failure }
    }

    fn step(&self) -> io::Result<()> {
        match (fails(), self.failure) {
            (false, _) => Ok(()),
            (true, Failure::Error) => Err(io::ErrorKind::ConnectionReset.into()),
            (true, Failure::Panic) => std::panic::resume_unwind(Box::new("a step failed")),
        }
    }
}

impl<S: Source> Source for FaultySource<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.step()?;
        self.source.read(into)
    }

    fn seek(&mut self, offset: u64) -> io::Result<u64> {
        self.step()?;
        self.source.seek(offset)
    }

    fn size(&mut self) -> io::Result<Option<u64>> {
        self.step()?;
        self.source.size()
    }
}
