//! The driver as its program sees it: started, asked, ended, and begun anew after a fork.

use std::collections::VecDeque;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::caller::IN_CALL;
use super::cycle::CycleRecord;
use super::driver::{Driver, live_bytes};
use super::limits::Level;
use super::operator::Operator;
use super::settings::Settings;
use crate::core::pressure as core;
use crate::{Error, Result};

/// Cycles that are remembered.
const HISTORY: usize = 256;
/// Notes that are kept.
const MAX_NOTES: usize = 64;

/// The process in which a driver runs; 0: none. What a forked child finds here is its parent's.
static DRIVEN: AtomicU32 = AtomicU32::new(0);
/// What a forked child began by itself, since its parent had a driver. Never freed: the
/// thread may be in use of it for as long as the process is there.
static REVIVED: AtomicPtr<Arc<Shared>> = AtomicPtr::new(ptr::null_mut());

/// What is in force, also for a forked child that begins anew. Limits may change at any time.
pub(super) static IN_FORCE: InForce = InForce {
    soft_bytes: AtomicU64::new(NO_LIMIT),
    hard_bytes: AtomicU64::new(NO_LIMIT),
    operators_soft_bytes: AtomicU64::new(NO_LIMIT),
    operators_hard_bytes: AtomicU64::new(NO_LIMIT),
    growth_bits: AtomicU64::new(0),
    follows_group: AtomicBool::new(true),
    trims: AtomicBool::new(true),
    refuses: AtomicBool::new(false),
};
const NO_LIMIT: u64 = u64::MAX;

/// See [`IN_FORCE`].
pub(super) struct InForce {
    soft_bytes: AtomicU64,
    hard_bytes: AtomicU64,
    operators_soft_bytes: AtomicU64,
    operators_hard_bytes: AtomicU64,
    growth_bits: AtomicU64,
    pub(super) follows_group: AtomicBool,
    pub(super) trims: AtomicBool,
    refuses: AtomicBool,
}

impl InForce {
    fn set(&self, settings: &Settings, operator: &Operator) {
        let growth = operator.growth(settings.growth_ratio);
        self.growth_bits.store(growth.to_bits(), Relaxed);
        self.follows_group.store(settings.follows_group, Relaxed);
        self.trims.store(settings.trims, Relaxed);
        self.refuses.store(settings.refuses, Relaxed);
        let operators_soft = operator.soft_bytes.unwrap_or(NO_LIMIT);
        let operators_hard = operator.hard_bytes.unwrap_or(NO_LIMIT);
        self.operators_soft_bytes.store(operators_soft, Relaxed);
        self.operators_hard_bytes.store(operators_hard, Relaxed);
        self.set_limits(settings.soft_bytes, settings.hard_bytes);
    }

    /// The program's own; the operator's stay in force where they are lower.
    fn set_limits(&self, soft: Option<u64>, hard: Option<u64>) {
        let lower = |own: Option<u64>, operators: &AtomicU64| {
            own.unwrap_or(NO_LIMIT).min(operators.load(Relaxed))
        };
        let soft = lower(soft, &self.operators_soft_bytes);
        let hard = lower(hard, &self.operators_hard_bytes);
        self.soft_bytes.store(soft, Relaxed);
        self.hard_bytes.store(hard, Relaxed);
        self.refuse();
    }

    /// Tells the core past what C's requests are to fail.
    fn refuse(&self) {
        let refuses = self.refuses.load(Relaxed);
        let limit = self.hard_limit().filter(|_| refuses);
        let limit = limit.and_then(|bytes| i64::try_from(bytes).ok());
        core::refuse(limit.unwrap_or(i64::MAX));
    }

    pub(super) fn soft_limit(&self) -> Option<u64> {
        Some(self.soft_bytes.load(Relaxed)).filter(|bytes| *bytes != NO_LIMIT)
    }

    pub(super) fn hard_limit(&self) -> Option<u64> {
        Some(self.hard_bytes.load(Relaxed)).filter(|bytes| *bytes != NO_LIMIT)
    }

    pub(super) fn growth_ratio(&self) -> f64 {
        f64::from_bits(self.growth_bits.load(Relaxed))
    }
}

/// Gives the hard limit of the driver in this process.
pub(super) fn hard_limit_bytes() -> Option<u64> {
    let is_driven = DRIVEN.load(Acquire) == std::process::id();
    IN_FORCE.hard_limit().filter(|_| is_driven)
}

/// One clean-up, and what each reclaimer did in it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Cleanup {
    /// Trigger, level, bytes before and freed, settle time.
    pub record: CycleRecord,
    /// Those that were called, in their order.
    pub reclaimers: Vec<ReclaimerCall>,
}

/// What one reclaimer did in a clean-up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReclaimerCall {
    /// As registered.
    pub name: String,
    /// What it says that it freed; `None` where it cannot tell, panicked or has not returned.
    pub claimed_bytes: Option<u64>,
    /// How long its call took, or has taken when its deadline passed.
    pub took: Duration,
    /// How it ended.
    pub ending: CallEnding,
}

/// How a reclaimer's call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallEnding {
    /// It returned.
    Returned,
    /// It panicked, which was caught.
    Panicked,
    /// Its deadline passed; it was left alone.
    Late,
}

/// What the thread and its owner share.
pub(super) struct Shared {
    pid: u32,
    pub(super) stop: AtomicBool,
    pub(super) stalled: AtomicBool,
    pub(super) level: AtomicU32,
    told: Mutex<Told>,
    /// A cycle has ended, or the driver has.
    changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Told {
    cleanups: VecDeque<Arc<Cleanup>>,
    cycles: u64,
    notes: Vec<String>,
    is_over: bool,
}

impl Shared {
    pub(super) fn new(pid: u32, notes: Vec<String>) -> Shared {
        Shared {
            pid,
            stop: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            level: AtomicU32::new(0),
            told: Mutex::new(Told {
                notes,
                ..Told::default()
            }),
            changed: Condvar::new(),
            thread: Mutex::default(),
        }
    }

    /// Starts the thread; where none is to be had, nobody drives.
    fn start(shared: &Arc<Shared>) -> std::io::Result<()> {
        // Before the program goes on: a recorder that saw it grow first would ask for a clean-up, too.
        core::drive(true);
        let of_thread = Arc::clone(shared);
        // Before the program goes on as well: what it allocates until the thread has its first turn is growth.
        let live_bytes = live_bytes();
        let builder = thread::Builder::new().name("heapledger".into());
        match builder.spawn(move || Driver::new(of_thread).run(live_bytes)) {
            Ok(thread) => {
                *shared.thread() = Some(thread);
                Ok(())
            }
            Err(error) => {
                core::drive(false);
                shared.end();
                Err(error)
            }
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who ask what there is to say, each thing once, and not without end: a program
    /// may register slow reclaimers again and again.
    pub(super) fn say(&self, notes: impl IntoIterator<Item = String>) {
        let kept = &mut self.told().notes;
        for note in notes {
            if kept.len() < MAX_NOTES && !kept.contains(&note) {
                kept.push(note);
            }
        }
    }

    /// A clean-up is over.
    pub(super) fn add(&self, cleanup: Cleanup) {
        let mut told = self.told();
        if told.cleanups.len() == HISTORY {
            told.cleanups.pop_front();
        }
        told.cycles += 1;
        told.cleanups.push_back(Arc::new(cleanup));
        self.changed.notify_all();
    }

    /// Nobody drives any more.
    pub(super) fn end(&self) {
        core::refuse(i64::MAX);
        self.told().is_over = true;
        self.changed.notify_all();
        DRIVEN.store(0, Release);
    }
}

/// Gives what is shared with the driver that this forked child has, since its parent had one;
/// begins it with the first call. `None` in a process that was not forked off a driven one, or
/// that started a driver of its own.
///
/// From here and not from a fork handler: between fork and exec no thread may be started, since
/// a process with two may no longer enter namespaces or change its user for itself alone.
pub(super) fn revive() -> Option<&'static Arc<Shared>> {
    let parent = DRIVEN.load(Acquire);
    let pid = std::process::id();
    if parent == 0 {
        return None;
    }
    if parent == pid
        || DRIVEN
            .compare_exchange(parent, pid, AcqRel, Acquire)
            .is_err()
    {
        return revived(pid);
    }
    let shared = Box::leak(Box::new(Arc::new(Shared::new(pid, Vec::new()))));
    REVIVED.store(shared, Release); // pairs with the load in `revived`
    // Without a thread the child goes on without clean-ups, as it would without a ledger.
    let _ = Shared::start(shared);
    revived(pid)
}

fn revived(pid: u32) -> Option<&'static Arc<Shared>> {
    // SAFETY: null, or leaked by `revive`, in this process or in one that it was forked off.
    let shared = unsafe { REVIVED.load(Acquire).as_ref() };
    shared.filter(|shared| shared.pid == pid)
}

/// Clean-ups are driven until this is dropped.
///
/// In a forked child the parent's thread is not there. The child's own begins, with the same
/// settings, at its first call of anything here or of [`Ledger::register`],
/// [`Ledger::request_cleanup`], [`Ledger::try_reserve`], [`Ledger::reserve_within`] or
/// [`Ledger::subscribe`]; reclaimers that the parent registered are registered there too. A
/// worker that calls none of these calls [`Pressure::level`] once. It counts its own clean-ups,
/// from 0. A child that drops this before it begins has no driver, and may start another one.
///
/// [`Ledger::register`]: crate::Ledger::register
/// [`Ledger::request_cleanup`]: crate::Ledger::request_cleanup
/// [`Ledger::try_reserve`]: crate::Ledger::try_reserve
/// [`Ledger::reserve_within`]: crate::Ledger::reserve_within
/// [`Ledger::subscribe`]: crate::Ledger::subscribe
#[must_use = "clean-ups end when this is dropped"]
pub struct Pressure {
    shared: Arc<Shared>,
}

impl Pressure {
    pub(super) fn start(settings: Settings) -> Result<Pressure> {
        let pid = std::process::id();
        if core::read().is_none() {
            return Err(Error::NoLedger);
        }
        if DRIVEN.swap(pid, AcqRel) == pid {
            return Err(Error::PressureRunning);
        }
        let (operator, notes) = Operator::from_environment();
        IN_FORCE.set(&settings, &operator);
        let shared = Arc::new(Shared::new(pid, notes));
        Shared::start(&shared).map_err(Error::Thread)?;
        Ok(Pressure { shared })
    }

    /// This process's; `None` in a forked child that has none.
    fn shared(&self) -> Option<&Arc<Shared>> {
        if self.shared.pid == std::process::id() {
            Some(&self.shared)
        } else {
            revive()
        }
    }

    /// Gives the level.
    pub fn level(&self) -> Level {
        let level = self.shared().map_or(0, |shared| shared.level.load(Relaxed));
        Level::from_number(level)
    }

    /// Changes the limits; `None` for none of the program's own. Takes effect at once.
    pub fn set_limits(&self, soft_bytes: Option<u64>, hard_bytes: Option<u64>) {
        if self.shared().is_some() {
            IN_FORCE.set_limits(soft_bytes, hard_bytes);
            core::poke();
        }
    }

    /// Gives how many of C's requests were refused in this process so far, and their bytes; see
    /// [`Settings::refuse_past_hard_limit`].
    pub fn refused(&self) -> (u64, u64) {
        core::read().map_or((0, 0), |words| (words.refused, words.refused_bytes))
    }

    /// Counts the clean-ups so far.
    pub fn cycles(&self) -> u64 {
        self.shared().map_or(0, |shared| shared.told().cycles)
    }

    /// Gives the last 256 clean-ups, the oldest first.
    pub fn cleanups(&self) -> Vec<Arc<Cleanup>> {
        let cleanups = |shared: &Arc<Shared>| shared.told().cleanups.iter().cloned().collect();
        self.shared().map_or_else(Vec::new, cleanups)
    }

    /// Gives what there was to say, each thing once: `ineffective`, `baseline_above_limit`,
    /// `drift`, reclaimers that are slow or disabled, and what the environment says in vain.
    pub fn notes(&self) -> Vec<String> {
        let notes = |shared: &Arc<Shared>| shared.told().notes.clone();
        self.shared().map_or_else(Vec::new, notes)
    }

    /// Waits until so many clean-ups have ended since the start, at most so long; tells whether they have.
    pub fn wait_for_cycles(&self, cycles: u64, at_most: Duration) -> bool {
        let Some(shared) = self.shared() else {
            return cycles == 0;
        };
        let (told, _) = shared
            .changed
            .wait_timeout_while(shared.told(), at_most, |told| {
                told.cycles < cycles && !told.is_over
            })
            .unwrap_or_else(PoisonError::into_inner);
        told.cycles >= cycles
    }
}

impl Drop for Pressure {
    fn drop(&mut self) {
        let pid = std::process::id();
        let shared = if self.shared.pid == pid {
            &self.shared
        } else {
            // The parent's may have been inherited with its locks in the middle: not looked at.
            std::mem::forget(Arc::clone(&self.shared));
            let parents = DRIVEN.compare_exchange(self.shared.pid, 0, AcqRel, Acquire);
            match revived(pid) {
                Some(shared) => shared,
                None if parents.is_ok() => return core::refuse(i64::MAX),
                None => return,
            }
        };
        shared.stop.store(true, Release);
        core::poke();
        let Some(thread) = shared.thread().take() else {
            return;
        };
        // From inside a reclaimer the driver cannot be waited for: it waits for us.
        if !IN_CALL.get() {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Pressure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = Level::from_number(self.shared.level.load(Relaxed));
        formatter
            .debug_struct("Pressure")
            .field("level", &level)
            .finish()
    }
}

#[cfg(all(test, feature = "cli", heapledger_core))]
#[path = "handover_tests.rs"]
mod tests;
