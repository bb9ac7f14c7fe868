//! Reclaimers written in Rust.

use std::cell::Cell;
use std::ffi::{CString, c_void};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::limits::Level;
use super::reclaimers::Priority;
use crate::core::pressure as core;

/// Frees memory when it is asked to: a cache, a pool, a collector.
///
/// Called on a thread of heapledger's own, never from inside an allocation and
/// never twice at a time. It may allocate, free, register and unregister, itself
/// as well. A panic is caught; after the third the reclaimer is not called any
/// more. A call that outlasts its deadline is left alone, others go on meanwhile.
pub trait Reclaim: Send + Sync {
    /// Gives the bytes that it could free, where it knows.
    fn reclaimable(&self) -> Option<usize> {
        None
    }

    /// Frees memory; gives what it believes to have freed.
    fn reclaim(&self, request: &ReclaimRequest) -> Reclaimed;
}

/// What is asked of a reclaimer.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ReclaimRequest {
    /// What should come free in all: a wish, neither a bound nor this reclaimer's share. 0: as much as there is.
    pub target_bytes: u64,
    /// How urgent it is.
    pub level: Level,
    /// When others are called in its place.
    pub deadline: Instant,
}

/// What a reclaimer believes to have freed: a claim, beside which the ledger sets what came free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Bytes; `None`: it cannot tell.
    pub bytes: Option<u64>,
}

impl Reclaimed {
    /// Nothing was freed.
    pub const NOTHING: Reclaimed = Reclaimed::bytes(0);

    /// What was freed cannot be told, as after a collection whose finalizers free.
    pub const UNKNOWN: Reclaimed = Reclaimed { bytes: None };

    /// So many bytes were.
    pub const fn bytes(bytes: u64) -> Reclaimed {
        Reclaimed { bytes: Some(bytes) }
    }
}

/// What C's reclaimers give that cannot tell.
const UNKNOWN: i64 = -1;
/// After so many panics a reclaimer is not called any more.
const MAX_PANICS: u32 = 3;

/// What stands behind the core's `context`.
struct Entry {
    reclaim: Arc<dyn Reclaim>,
    panics: AtomicU32,
}

/// A reclaimer that is called until this is dropped.
///
/// Dropping waits for a call in flight, except from inside that call.
#[must_use = "the reclaimer is unregistered when this is dropped"]
pub struct Registration {
    /// 0: nobody calls it.
    handle: u64,
    entry: *const Entry,
}

// SAFETY: the entry is an Arc's, of what is Send and Sync itself.
unsafe impl Send for Registration {}
// SAFETY: as above; a shared registration offers no way to the entry.
unsafe impl Sync for Registration {}

impl Registration {
    /// Registers a reclaimer. Names are cut to 47 bytes; 64 reclaimers fit.
    pub(crate) fn new(name: &str, priority: Priority, reclaim: Arc<dyn Reclaim>) -> Registration {
        let text: Vec<u8> = name.bytes().take_while(|byte| *byte != 0).collect();
        let name = CString::new(text).unwrap_or_default();
        let entry = Arc::into_raw(Arc::new(Entry {
            reclaim,
            panics: AtomicU32::new(0),
        }));
        // Whoever drives clean-ups in this process calls it; a recorder's requests need the helper.
        let helped = std::env::var_os(super::ACTIONS).is_some();
        // SAFETY: `entry` stays until `unregister` has returned (drop), and `call` does not unwind.
        let handle = unsafe {
            core::register(
                &name,
                priority as u32,
                call,
                entry.cast_mut().cast::<c_void>(),
                helped,
            )
        };
        Registration { handle, entry }
    }

    /// Tells whether the reclaimer is called at all: not without a ledger, nor as the 65th.
    pub fn is_active(&self) -> bool {
        self.handle != 0
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.handle != 0 {
            core::unregister(self.handle);
        }
        // SAFETY: from `Arc::into_raw`, once; a call in flight, which may be the one that drops
        // this, holds a count of its own.
        drop(unsafe { Arc::from_raw(self.entry) });
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Registration")
            .field("is_active", &self.is_active())
            .finish()
    }
}

/// What the core calls.
///
/// # Safety
/// `context` is an [`Entry`] of a registration that is not dropped yet, and `request` is whole.
unsafe extern "C" fn call(context: *mut c_void, request: *const core::Request) -> i64 {
    let entry = context.cast::<Entry>().cast_const();
    // SAFETY: the registration's count is there: its drop waits until the core no longer calls.
    let entry = unsafe {
        Arc::increment_strong_count(entry);
        Arc::from_raw(entry)
    };
    // SAFETY: the caller's promise.
    let request = unsafe { &*request };
    if entry.panics.load(Relaxed) >= MAX_PANICS {
        return 0;
    }
    let request = ReclaimRequest {
        target_bytes: u64::try_from(request.target_bytes).unwrap_or(0),
        level: Level::from_number(request.level),
        deadline: deadline(request.deadline_mono_ns),
    };
    match catch_unwind(AssertUnwindSafe(|| entry.reclaim.reclaim(&request))) {
        Ok(freed) => freed
            .bytes
            .map_or(UNKNOWN, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        Err(_) => {
            entry.panics.fetch_add(1, Relaxed);
            PANICKED.set(true);
            UNKNOWN
        }
    }
}

thread_local! {
    /// A reclaimer has panicked on this thread; whoever calls it takes this back.
    pub(super) static PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// The core's clock as Rust's: both are CLOCK_MONOTONIC.
fn deadline(mono_ns: u64) -> Instant {
    let now = Instant::now();
    let left = match mono_ns {
        0 => super::reclaimers::RECLAIM_DEADLINE,
        _ => Duration::from_nanos(mono_ns.saturating_sub(super::driver::mono_ns())),
    };
    now.checked_add(left).unwrap_or(now)
}
