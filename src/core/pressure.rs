//! Cleanup pressure in this process: the words, and the reclaimers that were
//! registered, from whatever language.
//!
//! A driver's round: [`arm`], [`wait`] for [`Word::Crossed`]; then disarm
//! (`arm(i64::MAX)`), [`take`], and if the policy says so [`signal`] and
//! [`call`] each of [`list`], class by class; settle, and arm again.

pub(crate) use crate::ledger::layout::{Cleanup, Pressure};

/// A futex among the words, as `HL_WORD_` of `interpose/api.h`.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum Word {
    /// Somebody wants the driver.
    Crossed = 0,
    /// A clean-up was asked of the helper.
    Request = 1,
    /// The helper has done one.
    Done = 2,
}

/// What is asked of a reclaimer: `struct hl_reclaim_request` of `include/heapledger.h`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Request {
    bytes: usize,
    /// Of the clean-up.
    pub number: u32,
    /// 0 calm to 3 critical.
    pub level: u32,
    /// 0: as much as there is.
    pub target_bytes: i64,
    /// CLOCK_MONOTONIC; 0: none.
    pub deadline_mono_ns: u64,
}

impl Request {
    /// Makes a request.
    pub(crate) fn new(number: u32, level: u32, target_bytes: i64, deadline_mono_ns: u64) -> Self {
        Request {
            bytes: size_of::<Request>(),
            number,
            level,
            target_bytes,
            deadline_mono_ns,
        }
    }
}

/// A reclaimer as C registers it: `struct hl_reclaimer`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Reclaimer {
    bytes: usize,
    name: *const std::ffi::c_char,
    priority: u32,
    reserved: u32,
    reclaim: unsafe extern "C" fn(*mut std::ffi::c_void, *const Request) -> i64,
    context: *mut std::ffi::c_void,
}

/// What one call of a reclaimer came to: `hl_claim` of `interpose/api.h`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Claim {
    /// Whose it is.
    pub handle: u64,
    /// What it says it freed; negative: it cannot tell.
    pub claimed_bytes: i64,
    /// How long it took.
    pub took_ns: u64,
    /// 0 caches, 1 host collectors, 2 allocators.
    pub priority: u32,
    reserved: u32,
    name: [u8; NAME_BYTES],
}

/// `HL_RECLAIMER_NAME_BYTES`, the zero at its end included.
const NAME_BYTES: usize = 48;

/// What stands before the zero.
fn text(name: &[u8]) -> std::borrow::Cow<'_, str> {
    let end = name.iter().position(|&byte| byte == 0);
    String::from_utf8_lossy(&name[..end.unwrap_or(name.len())])
}

impl Claim {
    /// The name that the reclaimer was registered under.
    pub(crate) fn name(&self) -> std::borrow::Cow<'_, str> {
        text(&self.name)
    }
}

/// As many as the core has room for.
pub(crate) const MAX_RECLAIMERS: usize = 64;

#[cfg(heapledger_core)]
pub(crate) use linked::*;

#[cfg(not(heapledger_core))]
pub(crate) use absent::*;

#[cfg(heapledger_core)]
mod linked {
    use super::{
        Claim, Cleanup, MAX_RECLAIMERS, NAME_BYTES, Pressure, Reclaimer, Request, Word, text,
    };
    use std::ffi::{CStr, c_void};
    use std::mem::MaybeUninit;
    use std::time::Duration;

    // Declared in interpose/api.h; each goes to whoever keeps the books.
    unsafe extern "C" {
        fn hl_core_pressure_read(words: *mut Pressure) -> i32;
        fn hl_core_pressure_arm(live_bytes: i64) -> i32;
        fn hl_core_pressure_take() -> u32;
        fn hl_core_pressure_wait(word: u32, seen: u32, at_most_ns: u64) -> i32;
        fn hl_core_pressure_ask(target_bytes: u64) -> i32;
        fn hl_core_pressure_poke();
        fn hl_core_pressure_fd() -> i32;
        fn hl_core_pressure_drive(drives: u32) -> i32;
        fn hl_core_cleanup_note(cleanup: *const Cleanup);
        fn hl_core_allocator_trim() -> i32;
        fn hl_core_reclaim_name(handle: u64, name: *mut u8) -> i32;
        fn hl_core_pressure_level_set(level: u32);
        fn hl_core_pressure_request(level: u32, target_bytes: i64);
        fn hl_core_pressure_signal();
        fn hl_core_pressure_refuse(live_bytes: i64);
        fn hl_core_reclaim_register(reclaimer: *const Reclaimer, helped: u32) -> u64;
        fn hl_core_reclaim_unregister(handle: u64);
        fn hl_core_reclaim_list(priority: u32, handles: *mut u64, room: u32) -> u32;
        fn hl_core_reclaim_call(handle: u64, request: *const Request, claim: *mut Claim) -> i32;
    }

    /// Copies all words; `None` without a ledger.
    pub(crate) fn read() -> Option<Pressure> {
        let mut words = MaybeUninit::uninit();
        // SAFETY: room for one hl_pressure, whose mirror layout.rs checks.
        let status = unsafe { hl_core_pressure_read(words.as_mut_ptr()) };
        // SAFETY: 0 says that the core filled all of it.
        (status == 0).then(|| unsafe { words.assume_init() })
    }

    /// Asks to be woken when live bytes are past the threshold; `Some(true)` where they are
    /// already, which no thread may come to notice. `i64::MAX` disarms. `None` without a ledger.
    pub(crate) fn arm(live_bytes: i64) -> Option<bool> {
        // SAFETY: the core writes words of its own.
        match unsafe { hl_core_pressure_arm(live_bytes) } {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// Takes back what was crossed, and gives it: `CROSSED_` bits.
    pub(crate) fn take() -> u32 {
        // SAFETY: as above.
        unsafe { hl_core_pressure_take() }
    }

    /// Waits while a word is `seen`, at most so long; may return early. False without a ledger, at once.
    pub(crate) fn wait(word: Word, seen: u32, at_most: Duration) -> bool {
        let at_most_ns = u64::try_from(at_most.as_nanos()).unwrap_or(u64::MAX);
        // SAFETY: the core waits on words of its own.
        unsafe { hl_core_pressure_wait(word as u32, seen, at_most_ns) == 0 }
    }

    /// Wishes for a clean-up, as `hl_request_cleanup`; false without a ledger.
    pub(crate) fn ask(target_bytes: u64) -> bool {
        // SAFETY: as above.
        unsafe { hl_core_pressure_ask(target_bytes) == 0 }
    }

    /// Wakes the driver's thread, which finds `CROSSED_POKED`.
    pub(crate) fn poke() {
        // SAFETY: as above.
        unsafe { hl_core_pressure_poke() }
    }

    /// Says in the ledger that this process drives its own clean-ups, or does so no more;
    /// a recorder leaves those alone that do. False without a ledger.
    pub(crate) fn drive(drives: bool) -> bool {
        // SAFETY: the core writes words of its own.
        unsafe { hl_core_pressure_drive(drives.into()) == 0 }
    }

    /// Writes a clean-up down in the ledger, which numbers it. By the driver's thread alone.
    pub(crate) fn note(cleanup: &Cleanup) {
        // SAFETY: the core copies what it is given.
        unsafe { hl_core_cleanup_note(cleanup) }
    }

    /// Opens an eventfd, as `hl_pressure_fd`.
    pub(crate) fn open_fd() -> Option<std::os::fd::OwnedFd> {
        // SAFETY: no arguments.
        let file = unsafe { hl_core_pressure_fd() };
        // SAFETY: a new descriptor that the core leaves to its caller.
        (file >= 0).then(|| unsafe { std::os::fd::FromRawFd::from_raw_fd(file) })
    }

    /// Lets the allocator give memory back; false where it is not glibc's.
    pub(crate) fn trim() -> bool {
        // SAFETY: no arguments.
        unsafe { hl_core_allocator_trim() == 0 }
    }

    /// Gives the name of a reclaimer; `None` when it is gone.
    pub(crate) fn name(handle: u64) -> Option<String> {
        let mut name = [0u8; NAME_BYTES];
        // SAFETY: room for a name of the core's length.
        let status = unsafe { hl_core_reclaim_name(handle, name.as_mut_ptr()) };
        (status == 0).then(|| text(&name).into_owned())
    }

    /// Says the level, 0 to 3; eventfds tell of it when it changed.
    pub(crate) fn set_level(level: u32) {
        // SAFETY: as above.
        unsafe { hl_core_pressure_level_set(level) }
    }

    /// Asks the helper's thread, where there is one, for a clean-up of its own.
    pub(crate) fn request_helper(level: u32, target_bytes: i64) {
        // SAFETY: as above.
        unsafe { hl_core_pressure_request(level, target_bytes) }
    }

    /// Makes the eventfds readable: a clean-up begins.
    pub(crate) fn signal() {
        // SAFETY: the core checks what is behind each descriptor before it writes.
        unsafe { hl_core_pressure_signal() }
    }

    /// Has C's requests of 64 KiB and more refused past so many live bytes, or past the
    /// operator's limit where it is lower; `i64::MAX` for none of the program's own.
    pub(crate) fn refuse(live_bytes: i64) {
        // SAFETY: as above.
        unsafe { hl_core_pressure_refuse(live_bytes) }
    }

    /// Registers a reclaimer; 0 when there is no room or no ledger. With `helped` the core's own
    /// thread is there to call it; a program with a driver of its own needs none.
    ///
    /// # Safety
    /// `reclaim` may be called with `context` on any one thread at a time until
    /// [`unregister`] has returned, and must not unwind.
    pub(crate) unsafe fn register(
        name: &CStr,
        priority: u32,
        reclaim: unsafe extern "C" fn(*mut c_void, *const Request) -> i64,
        context: *mut c_void,
        helped: bool,
    ) -> u64 {
        let reclaimer = Reclaimer {
            bytes: size_of::<Reclaimer>(),
            name: name.as_ptr(),
            priority,
            reserved: 0,
            reclaim,
            context,
        };
        // SAFETY: the core copies what it is given, the name too; the rest is the caller's promise.
        unsafe { hl_core_reclaim_register(&raw const reclaimer, helped.into()) }
    }

    /// Unregisters; waits for a call in flight, except from inside it.
    pub(crate) fn unregister(handle: u64) {
        // SAFETY: the core looks handles up and ignores those that are none.
        unsafe { hl_core_reclaim_unregister(handle) }
    }

    /// Gives the reclaimers of a class: 0 caches, 1 host collectors, 2 allocators.
    pub(crate) fn list(priority: u32) -> Vec<u64> {
        let mut handles = vec![0; MAX_RECLAIMERS];
        // SAFETY: room for as many as is said.
        let found =
            unsafe { hl_core_reclaim_list(priority, handles.as_mut_ptr(), MAX_RECLAIMERS as u32) };
        handles.truncate(found as usize);
        handles
    }

    /// Calls a reclaimer on this thread; `None` when it is gone, or being called on another.
    pub(crate) fn call(handle: u64, request: &Request) -> Option<Claim> {
        let mut claim = MaybeUninit::uninit();
        // SAFETY: a request that outlives the call, and room for one claim.
        let status = unsafe { hl_core_reclaim_call(handle, request, claim.as_mut_ptr()) };
        // SAFETY: 0 says that the core filled all of it.
        (status == 0).then(|| unsafe { claim.assume_init() })
    }
}

#[cfg(all(test, heapledger_core))]
#[path = "pressure_tests.rs"]
mod tests;

#[cfg(not(heapledger_core))]
mod absent {
    use super::{Claim, Cleanup, Pressure, Request, Word};
    use std::ffi::{CStr, c_void};
    use std::time::Duration;

    pub(crate) fn read() -> Option<Pressure> {
        None
    }
    pub(crate) fn arm(_: i64) -> Option<bool> {
        None
    }
    pub(crate) fn take() -> u32 {
        0
    }
    pub(crate) fn wait(_: Word, _: u32, _: Duration) -> bool {
        false
    }
    pub(crate) fn ask(_: u64) -> bool {
        false
    }
    pub(crate) fn poke() {}
    pub(crate) fn drive(_: bool) -> bool {
        false
    }
    pub(crate) fn note(_: &Cleanup) {}
    pub(crate) fn open_fd() -> Option<std::os::fd::OwnedFd> {
        None
    }
    pub(crate) fn trim() -> bool {
        false
    }
    pub(crate) fn name(_: u64) -> Option<String> {
        None
    }
    pub(crate) fn set_level(_: u32) {}
    pub(crate) fn request_helper(_: u32, _: i64) {}
    pub(crate) fn signal() {}
    pub(crate) fn refuse(_: i64) {}
    pub(crate) unsafe fn register(
        _: &CStr,
        _: u32,
        _: unsafe extern "C" fn(*mut c_void, *const Request) -> i64,
        _: *mut c_void,
        _: bool,
    ) -> u64 {
        0
    }
    pub(crate) fn unregister(_: u64) {}
    pub(crate) fn list(_: u32) -> Vec<u64> {
        Vec::new()
    }
    pub(crate) fn call(_: u64, _: &Request) -> Option<Claim> {
        None
    }
}
