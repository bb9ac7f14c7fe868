//! The thread that drives clean-ups in this process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::caller::{Caller, IN_CALL, Late};
use super::cycle::{Claim, Cycle, CycleRecord};
use super::exchange::{Decision, Event, Note, Order, Readings};
use super::limits::{Level, Limits};
use super::policy::Policy;
use super::readings::{ControlGroup, resident_bytes};
use super::reclaimers::{Outcome, Priority, RECLAIM_DEADLINE, Remark, Standing};
use super::settings::Settings;
use super::stalls::StallWatch;
use crate::core::pressure as core;
use crate::ledger::layout;
use crate::snapshot::ledger;
use crate::{Error, Result};

/// Cycles that are remembered.
const HISTORY: usize = 256;
/// Nothing needs a look, and a lost wake-up costs no more than this.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The process in which a driver runs; 0: none. A forked child has another number, and none.
static DRIVEN: AtomicU32 = AtomicU32::new(0);
/// The limits of that driver. They may change while it runs.
static SOFT_BYTES: AtomicU64 = AtomicU64::new(NO_LIMIT);
static HARD_BYTES: AtomicU64 = AtomicU64::new(NO_LIMIT);
const NO_LIMIT: u64 = u64::MAX;

fn limit(of: &AtomicU64) -> Option<u64> {
    let bytes = of.load(Relaxed);
    (bytes != NO_LIMIT).then_some(bytes)
}

/// Gives the hard limit of the driver in this process.
pub(super) fn hard_limit_bytes() -> Option<u64> {
    let is_driven = DRIVEN.load(Acquire) == std::process::id();
    limit(&HARD_BYTES).filter(|_| is_driven)
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
    /// What it says that it freed.
    pub claimed_bytes: u64,
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
    stop: AtomicBool,
    stalled: AtomicBool,
    level: AtomicU32,
    told: Mutex<Told>,
    /// A cycle has ended, or the driver has.
    changed: Condvar,
}

#[derive(Default)]
struct Told {
    cleanups: VecDeque<Arc<Cleanup>>,
    cycles: u64,
    notes: Vec<String>,
    is_over: bool,
}

impl Shared {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Clean-ups are driven until this is dropped.
#[must_use = "clean-ups end when this is dropped"]
pub struct Pressure {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    pid: u32,
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
        SOFT_BYTES.store(settings.soft_bytes.unwrap_or(NO_LIMIT), Relaxed);
        HARD_BYTES.store(settings.hard_bytes.unwrap_or(NO_LIMIT), Relaxed);
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            level: AtomicU32::new(0),
            told: Mutex::default(),
            changed: Condvar::new(),
        });
        let of_thread = Arc::clone(&shared);
        let spawned = thread::Builder::new()
            .name("heapledger".into())
            .spawn(move || Driver::new(settings, of_thread).run());
        match spawned {
            Ok(thread) => Ok(Pressure {
                shared,
                thread: Some(thread),
                pid,
            }),
            Err(error) => {
                DRIVEN.store(0, Release);
                Err(Error::Thread(error))
            }
        }
    }

    /// Gives the level.
    pub fn level(&self) -> Level {
        Level::from_number(self.shared.level.load(Relaxed))
    }

    /// Changes the limits; `None` for none. Takes effect at once.
    pub fn set_limits(&self, soft_bytes: Option<u64>, hard_bytes: Option<u64>) {
        SOFT_BYTES.store(soft_bytes.unwrap_or(NO_LIMIT), Relaxed);
        HARD_BYTES.store(hard_bytes.unwrap_or(NO_LIMIT), Relaxed);
        core::poke();
    }

    /// Counts the clean-ups so far.
    pub fn cycles(&self) -> u64 {
        self.shared.told().cycles
    }

    /// Gives the last 256 clean-ups, the oldest first.
    pub fn cleanups(&self) -> Vec<Arc<Cleanup>> {
        self.shared.told().cleanups.iter().cloned().collect()
    }

    /// Gives what there was to say, each thing once: `ineffective`, `baseline_above_limit`,
    /// `drift`, and reclaimers that are slow or disabled.
    pub fn notes(&self) -> Vec<String> {
        self.shared.told().notes.clone()
    }

    /// Waits until so many clean-ups have ended since the start, at most so long; tells whether they have.
    pub fn wait_for_cycles(&self, cycles: u64, at_most: Duration) -> bool {
        let (told, _) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.told(), at_most, |told| {
                told.cycles < cycles && !told.is_over
            })
            .unwrap_or_else(PoisonError::into_inner);
        told.cycles >= cycles
    }
}

impl Drop for Pressure {
    fn drop(&mut self) {
        // A forked child has no such thread, and perhaps inherited its locks in the middle.
        if std::process::id() != self.pid {
            std::mem::forget(self.thread.take());
            std::mem::forget(Arc::clone(&self.shared));
            return;
        }
        self.shared.stop.store(true, Release);
        core::poke();
        let Some(thread) = self.thread.take() else {
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
        formatter
            .debug_struct("Pressure")
            .field("level", &self.level())
            .finish()
    }
}

/// The clock that reclaimers' deadlines are on.
pub(super) fn mono_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: room for one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

struct Driver {
    settings: Settings,
    shared: Arc<Shared>,
    start: Instant,
    group: Option<ControlGroup>,
    stalls: Option<StallWatch>,
    standings: BTreeMap<u64, Standing>,
    registrations: u64,
    caller: Option<Caller>,
    /// Of the cycle that is under way, until it has settled.
    calls: Vec<ReclaimerCall>,
}

impl Driver {
    fn new(settings: Settings, shared: Arc<Shared>) -> Driver {
        let group = settings.follows_group.then(ControlGroup::own).flatten();
        let stalls = settings
            .follows_group
            .then(|| {
                let shared = Arc::clone(&shared);
                let report = move || {
                    shared.stalled.store(true, Release);
                    core::poke();
                };
                StallWatch::start(group.as_ref(), report)
            })
            .flatten();
        Driver {
            settings,
            shared,
            start: Instant::now(),
            group,
            stalls,
            standings: BTreeMap::new(),
            registrations: 0,
            caller: None,
            calls: Vec::new(),
        }
    }

    fn run(mut self) {
        let mut policy = Policy::new(self.settings.growth_ratio, &self.readings());
        let mut event = Event::Look;
        while !self.shared.stop.load(Acquire) {
            let decision = policy.step(&self.readings(), event);
            self.publish(&decision);
            event = match decision.order {
                Some(Order::Reclaim(cycle)) => self.reclaim(&cycle),
                Some(Order::Purge { number }) => self.purge(number, decision.level),
                None => self.wait(&decision),
            };
        }
        core::arm(i64::MAX);
        core::set_level(0);
        drop(self.stalls.take());
        self.shared.told().is_over = true;
        self.shared.changed.notify_all();
        DRIVEN.store(0, Release);
    }

    fn readings(&self) -> Readings {
        let live = ledger().live();
        Readings {
            now: self.start.elapsed(),
            live_bytes: u64::try_from(live.c_live_bytes + live.rust_live_bytes).unwrap_or(0),
            limits: Limits {
                soft_bytes: limit(&SOFT_BYTES),
                hard_bytes: limit(&HARD_BYTES),
                group: self.group.as_ref().and_then(ControlGroup::read),
            },
            resident_bytes: resident_bytes(std::process::id()),
        }
    }

    fn publish(&mut self, decision: &Decision) {
        if decision.level_before.is_some() {
            self.shared.level.store(decision.level as u32, Relaxed);
            core::set_level(decision.level as u32);
            core::signal();
        }
        let ended = decision.finished.clone();
        if ended.is_none() && decision.notes.iter().next().is_none() {
            return;
        }
        let calls = match ended {
            Some(_) => std::mem::take(&mut self.calls),
            None => Vec::new(),
        };
        let mut told = self.shared.told();
        told.notes.extend(
            decision
                .notes
                .iter()
                .map(|note: Note| note.name().to_owned()),
        );
        if let Some(record) = ended {
            if told.cleanups.len() == HISTORY {
                told.cleanups.pop_front();
            }
            told.cycles += 1;
            told.cleanups.push_back(Arc::new(Cleanup {
                record,
                reclaimers: calls,
            }));
            self.shared.changed.notify_all();
            drop(told);
            core::signal();
        }
    }

    /// Waits for somebody to want the driver, at most until the decision's next look.
    fn wait(&mut self, decision: &Decision) -> Event {
        let armed = i64::try_from(decision.armed_bytes).unwrap_or(i64::MAX);
        if core::arm(armed) == Some(true) {
            return Event::Crossed;
        }
        let now = self.start.elapsed();
        let at_most = decision
            .look_at
            .map_or(LONGEST_WAIT, |at| at.saturating_sub(now))
            .min(LONGEST_WAIT);
        core::wait(core::Word::Crossed, 0, at_most);
        core::arm(i64::MAX);
        let why = core::take();
        if self.shared.stalled.swap(false, AcqRel) {
            Event::Psi
        } else if why & layout::CROSSED_ASKED != 0 {
            let asked = core::read().map_or(0, |words| words.asked_bytes);
            Event::Asked {
                target_bytes: u64::try_from(asked).unwrap_or(0),
            }
        } else if why & layout::CROSSED_ARMED != 0 {
            Event::Crossed
        } else {
            Event::Look
        }
    }

    // ---- reclaimers ----

    fn reclaim(&mut self, cycle: &Cycle) -> Event {
        core::arm(i64::MAX);
        core::signal();
        self.calls.clear();
        let mut claims = Vec::new();
        for priority in [Priority::Cache, Priority::Host] {
            claims.extend(self.round(priority, cycle.number, cycle.level, cycle.target_bytes));
        }
        Event::Finished {
            number: cycle.number,
            claims,
        }
    }

    fn purge(&mut self, number: u64, level: Level) -> Event {
        self.round(Priority::Allocator, number, level, 0);
        if self.settings.trims && self.is_worth_trimming() {
            core::trim();
        }
        Event::Purged { number }
    }

    /// What the user limits are live bytes. Memory that is free and about to be used again is given
    /// back only where the resident set itself is too large, since getting it again costs page faults.
    fn is_worth_trimming(&self) -> bool {
        let readings = self.readings();
        let user = [readings.limits.soft_bytes, readings.limits.hard_bytes];
        match (user.into_iter().flatten().min(), readings.resident_bytes) {
            (Some(limit), Some(resident)) => resident > limit,
            _ => true,
        }
    }

    fn round(
        &mut self,
        priority: Priority,
        number: u64,
        level: Level,
        target_bytes: u64,
    ) -> Vec<Claim> {
        let mut turns: Vec<(Standing, u64)> = core::list(priority as u32)
            .into_iter()
            .map(|handle| (self.standing(handle, priority), handle))
            .filter(|(standing, _)| standing.is_enabled())
            .collect();
        turns.sort_by_key(|(standing, _)| standing.turn());
        let mut claims = Vec::new();
        for (_, handle) in turns {
            let request = core::Request::new(
                number as u32,
                level as u32,
                i64::try_from(target_bytes).unwrap_or(i64::MAX),
                mono_ns() + RECLAIM_DEADLINE.as_nanos() as u64,
            );
            if let Some(call) = self.call(handle, request) {
                claims.push(Claim {
                    reclaimer: self.calls.len() as u32,
                    claimed_bytes: call.claimed_bytes,
                    took: call.took,
                });
                self.calls.push(call);
            }
        }
        claims
    }

    fn standing(&mut self, handle: u64, priority: Priority) -> Standing {
        let registrations = &mut self.registrations;
        *self.standings.entry(handle).or_insert_with(|| {
            *registrations += 1;
            Standing::new(priority, *registrations)
        })
    }

    /// Calls a reclaimer on a thread that may be left behind with it; `None` when it is gone or
    /// still busy with an earlier call.
    fn call(&mut self, handle: u64, request: core::Request) -> Option<ReclaimerCall> {
        let start = Instant::now();
        let caller = match self.caller.take() {
            Some(caller) => caller,
            None => Caller::start()?,
        };
        let (claim, ending, took) = match caller.call(handle, request) {
            Ok(answer) => {
                self.caller = Some(caller);
                let (claim, panicked) = answer?;
                let ending = match panicked {
                    true => CallEnding::Panicked,
                    false => CallEnding::Returned,
                };
                (Some(claim), ending, Duration::from_nanos(claim.took_ns))
            }
            Err(Late) => (None, CallEnding::Late, start.elapsed()),
        };
        let name = match &claim {
            Some(claim) => claim.name().into_owned(),
            None => core::name(handle).unwrap_or_default(),
        };
        let outcome = match ending {
            CallEnding::Panicked => Outcome::Panicked,
            CallEnding::Returned | CallEnding::Late => Outcome::Returned,
        };
        let standing = self.standings.get_mut(&handle);
        let remark = standing.and_then(|standing| standing.called(outcome, took));
        let said = match remark {
            Some(Remark::Slow) => Some("slow"),
            Some(Remark::Disabled) => Some("disabled after three panics"),
            None => None,
        };
        if let Some(said) = said {
            self.shared.told().notes.push(format!("{name}: {said}"));
        }
        Some(ReclaimerCall {
            name,
            claimed_bytes: claim.map_or(0, |claim| u64::try_from(claim.claimed_bytes).unwrap_or(0)),
            took,
            ending,
        })
    }
}
