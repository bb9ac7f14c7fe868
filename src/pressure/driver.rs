//! The thread that drives clean-ups in this process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::*;
use std::time::{Duration, Instant};

use super::caller::{Caller, Late};
use super::cycle::{Claim, Cycle, CycleRecord};
use super::drive::{Driver as Drives, drive};
use super::exchange::{Decision, Event, Note, Readings};
use super::handle::{CallEnding, Cleanup, IN_FORCE, ReclaimerCall, Shared};
use super::journal;
use super::limits::{Level, Limits};
use super::policy::Policy;
use super::readings::{ControlGroup, resident_bytes};
use super::reclaimers::{Outcome, Priority, RECLAIM_DEADLINE, Remark, Standing};
use super::stalls::StallWatch;
use crate::core::pressure as core;
use crate::ledger::layout;
use crate::snapshot::ledger;

/// Nothing needs a look, and a lost wake-up costs no more than this.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

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

/// See [`Driver::run`].
pub(super) struct Driver {
    shared: Arc<Shared>,
    start: Instant,
    start_mono_ns: u64,
    group: Option<ControlGroup>,
    stalls: Option<StallWatch>,
    standings: BTreeMap<u64, Standing>,
    registrations: u64,
    caller: Option<Caller>,
    /// Of the cycle that is under way, until it has settled.
    calls: Vec<ReclaimerCall>,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>) -> Driver {
        let follows_group = IN_FORCE.follows_group.load(Relaxed);
        let group = follows_group.then(ControlGroup::own).flatten();
        let stalls = follows_group
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
            shared,
            start: Instant::now(),
            start_mono_ns: mono_ns(),
            group,
            stalls,
            standings: BTreeMap::new(),
            registrations: 0,
            caller: None,
            calls: Vec::new(),
        }
    }

    /// Drives clean-ups until it is told to stop. `live_bytes` is from when it was asked for.
    pub(super) fn run(mut self, live_bytes: u64) {
        let growth_ratio = IN_FORCE.growth_ratio();
        let begin = Readings {
            live_bytes,
            ..self.read()
        };
        let mut policy = Policy::new(growth_ratio, &begin);
        drive(&mut self, &mut policy);
        core::arm(i64::MAX);
        core::set_level(0);
        core::drive(false);
        drop(self.stalls.take());
        self.shared.end();
    }

    fn read(&self) -> Readings {
        Readings {
            now: self.start.elapsed(),
            live_bytes: live_bytes(),
            limits: Limits {
                soft_bytes: IN_FORCE.soft_limit(),
                hard_bytes: IN_FORCE.hard_limit(),
                group: self.group.as_ref().and_then(ControlGroup::read),
            },
            resident_bytes: resident_bytes(std::process::id()),
        }
    }

    /// A clean-up is over: in the ledger first, so that who waits for it finds it there.
    fn tell(&mut self, record: CycleRecord) {
        let reclaimers = std::mem::take(&mut self.calls);
        let cleanup = Cleanup { record, reclaimers };
        core::note(&journal::entry(&cleanup, self.start_mono_ns));
        self.shared.add(cleanup);
        core::signal();
    }

    /// What the user limits are live bytes. Memory that is free and about to be used again is given
    /// back only where the resident set itself is too large, since getting it again costs page faults.
    fn is_worth_trimming(&self) -> bool {
        let readings = self.read();
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
                claims.extend(call.claimed_bytes.map(|claimed_bytes| Claim {
                    reclaimer: self.calls.len() as u32,
                    claimed_bytes,
                    took: call.took,
                }));
                self.calls.push(call);
            }
        }
        claims
    }

    /// Handles are never used again, and a program may register and unregister without end.
    fn forget_gone(&mut self) {
        let priorities = [Priority::Cache, Priority::Host, Priority::Allocator];
        let there = priorities.map(|priority| core::list(priority as u32));
        self.standings
            .retain(|handle, _| there.iter().flatten().any(|listed| listed == handle));
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
            self.shared.say([format!("{name}: {said}")]);
        }
        Some(ReclaimerCall {
            name,
            claimed_bytes: claim.and_then(|claim| u64::try_from(claim.claimed_bytes).ok()),
            took,
            ending,
        })
    }
}

impl Drives for Driver {
    fn readings(&mut self, _: &Event) -> Option<Readings> {
        (!self.shared.stop.load(Acquire)).then(|| self.read()) // pairs with the store of whoever ends it
    }

    fn publish(&mut self, decision: &Decision) {
        self.shared.level.store(decision.level as u32, Relaxed);
        // At every look: a recorder that drove before us may have left another one there.
        core::set_level(decision.level as u32);
        if decision.level_before.is_some() {
            core::signal();
        }
        let notes = decision.notes.iter();
        self.shared
            .say(notes.map(|note: Note| note.name().to_owned()));
        if let Some(record) = decision.finished.clone() {
            self.tell(record);
        }
    }

    fn reclaim(&mut self, cycle: &Cycle) -> Event {
        core::arm(i64::MAX);
        core::signal();
        self.calls.clear();
        self.forget_gone();
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
        if IN_FORCE.trims.load(Relaxed) && self.is_worth_trimming() {
            core::trim();
        }
        Event::Purged { number }
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
}

/// Gives what both sides of this process hold.
pub(super) fn live_bytes() -> u64 {
    let live = ledger().live();
    u64::try_from(live.c_live_bytes + live.rust_live_bytes).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_unregistered_is_forgotten() {
        let shared = Arc::new(Shared::new(std::process::id(), Vec::new()));
        let mut driver = Driver::new(shared);
        for handle in [u64::MAX, u64::MAX - 1] {
            driver.standing(handle, Priority::Cache); // no such is registered any more
        }
        driver.forget_gone();
        assert!(driver.standings.is_empty());
    }
}
