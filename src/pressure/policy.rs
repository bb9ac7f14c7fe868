//! Decides when to clean up. Time and readings come in, decisions go out: no
//! clock, no I/O, no thread, and the same input gives the same output.
//!
//! The driver calls [`Policy::step`] whenever something happened, or at the time
//! that the last decision named. A cycle goes through these phases, of which
//! there is only ever one:
//!
//! ```text
//!   idle --(due)--> running --(round finished)--> settling --(flat)--> purging --(purged)--> idle
//! ```
//!
//! In *running* the driver calls caches and host collectors, in *settling* it
//! only comes back with samples, in *purging* the allocator gives memory back.
//! What is wished for while a cycle is not due yet stays pending in idle.
//!
//! ```
//! use std::time::Duration;
//! use heapledger::pressure::{Event, Level, Limits, Order, Policy, Readings, Trigger};
//!
//! let mut readings = Readings {
//!     limits: Limits { soft_bytes: Some(500 << 20), ..Limits::default() },
//!     ..Readings::default()
//! };
//! let mut policy = Policy::new(1.0, &readings);
//! let decision = policy.step(&readings, Event::Look);
//! assert_eq!(decision.armed_bytes, 64 << 20); // growth comes before any limit
//!
//! readings.now = Duration::from_secs(2);
//! readings.live_bytes = 410 << 20; // more than 80 % of the limit
//! let decision = policy.step(&readings, Event::Crossed);
//! let Some(Order::Reclaim(cycle)) = decision.order else { panic!("no cycle") };
//! assert_eq!((cycle.trigger, cycle.level), (Trigger::SoftLimit, Level::Moderate));
//! ```

use std::time::Duration;

use super::cycle::{Claim, Cycle, CycleRecord, Trigger};
use super::exchange::{Decision, Event, NOT_ARMED, Note, Notes, Order, Readings};
use super::limits::{Level, Room, percent};
use super::pacer::{Effect, INEFFECTIVE_PERCENT, Pacer};
use super::settle::{SAMPLE_EVERY, Settling};

/// The shortest pause between two cycles, below critical.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// The pause in lengths of the last cycle, below critical.
const PAUSE_LENGTHS: u32 = 5;
/// What the kernel reports counts once in this time at each level, and holds for as long.
const PSI_EVERY: Duration = Duration::from_secs(15);
/// How often to look where no crossing tells: a level to be left, a group that others fill.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Live bytes and the resident set lie apart in every program; past both of these it is said.
const DRIFT_BYTES: u64 = 256 << 20;
const DRIFT_PERCENT: u64 = 50;

/// Where the one cycle stands.
#[derive(Clone, Debug)]
enum Phase {
    Idle,
    Running(Cycle),
    Settling(Cycle, Settling, Vec<Claim>),
    Purging(CycleRecord),
}

/// The policy of one process. A forked child begins with a new one.
#[derive(Clone, Debug)]
pub struct Policy {
    now: Duration,
    live_bytes: u64,
    room: Option<Room>,
    has_group: bool,
    phase: Phase,
    pacer: Pacer,
    /// How full the room is; what is published may be higher.
    fullness: Level,
    published: Level,
    /// The level has risen, and no cycle has answered it yet.
    has_risen: bool,
    /// By level: so many rises are to go by, since answering them came to nothing.
    rises_to_skip: [u32; 4],
    asked_bytes: Option<u64>,
    psi: Psi,
    /// End and length of the last cycle.
    last: Option<(Duration, Duration)>,
    cycles: u64,
    said: Notes,
}

/// What the kernel has reported.
#[derive(Clone, Debug, Default)]
struct Psi {
    /// By level: when a report last counted.
    counted_at: [Option<Duration>; 4],
    held_until: Duration,
    is_pending: bool,
    answered_at: Option<Duration>,
}

impl Policy {
    /// Begins with what is live now as the baseline. `growth_ratio` is the part
    /// of it that may be added before a clean-up; infinity for no such trigger.
    pub fn new(growth_ratio: f64, readings: &Readings) -> Policy {
        let live_bytes = readings.live_bytes.min(NOT_ARMED);
        Policy {
            now: readings.now,
            live_bytes,
            room: None,
            has_group: false,
            phase: Phase::Idle,
            pacer: Pacer::new(growth_ratio, live_bytes),
            fullness: Level::Calm,
            published: Level::Calm,
            has_risen: false,
            rises_to_skip: [0; 4],
            asked_bytes: None,
            psi: Psi::default(),
            last: None,
            cycles: 0,
            said: Notes::default(),
        }
    }

    /// The level as last decided.
    pub fn level(&self) -> Level {
        self.published
    }

    /// Takes what happened and what is known, and says what follows.
    ///
    /// Events that do not fit the phase, such as the answer to a cycle that is
    /// over, change nothing.
    pub fn step(&mut self, readings: &Readings, event: Event) -> Decision {
        self.take(readings);
        let said_before = self.said;
        let mut order = None;
        let mut finished = None;
        match event {
            Event::Look | Event::Crossed => {}
            Event::Psi => self.count_psi(),
            Event::Asked { target_bytes } => {
                self.asked_bytes = self.asked_bytes.max(Some(target_bytes));
            }
            Event::Finished { number, claims } => self.begin_settling(number, claims),
            Event::Purged { number } => finished = self.finish(number, readings.resident_bytes),
        }
        if self.settle() {
            order = Some(Order::Purge {
                number: self.cycles,
            });
        } else if let Some(cycle) = self.start_if_due() {
            order = Some(Order::Reclaim(cycle));
        }
        let level_before = self.publish();
        Decision {
            armed_bytes: self.armed_bytes(),
            look_at: self.look_at(),
            level: self.published,
            level_before,
            order,
            finished,
            notes: self.said.without(said_before),
        }
    }

    // ---- what comes in ----

    fn take(&mut self, readings: &Readings) {
        self.now = self.now.max(readings.now);
        self.live_bytes = readings.live_bytes.min(NOT_ARMED);
        self.room = Room::within(&readings.limits, self.live_bytes);
        self.has_group = readings.limits.group.is_some();
        let fullness = self.room.map_or(Level::Calm, |room| {
            room.level(self.live_bytes, self.fullness)
        });
        // A rise during a cycle may be the reclaimers' own doing, and the cycle answers it.
        if fullness > self.fullness && matches!(self.phase, Phase::Idle) {
            let skip = &mut self.rises_to_skip[fullness as usize];
            if *skip == 0 {
                self.has_risen = true;
            } else {
                *skip -= 1;
            }
        }
        self.has_risen &= fullness > Level::Calm;
        self.fullness = fullness;
    }

    fn count_psi(&mut self) {
        let level = self.urgency();
        let counted_at = &mut self.psi.counted_at[level as usize];
        if counted_at.is_some_and(|at| self.now.saturating_sub(at) < PSI_EVERY) {
            return;
        }
        *counted_at = Some(self.now);
        self.psi.held_until = self.now.saturating_add(PSI_EVERY);
        // Its budget is a time: fruitless answers thin out as those to growth do.
        let budgets = self.pacer.budgets();
        let is_worth_it = self.psi.answered_at.is_none_or(|at| {
            budgets == 1 || self.now.saturating_sub(at) >= PSI_EVERY.saturating_mul(budgets)
        });
        self.psi.is_pending |= is_worth_it && matches!(self.phase, Phase::Idle);
    }

    // ---- the cycle ----

    fn start_if_due(&mut self) -> Option<Cycle> {
        if !matches!(self.phase, Phase::Idle) {
            return None;
        }
        self.psi.is_pending &= self.is_psi_held();
        let (trigger, level) = self.wanted()?;
        if self.now < self.due() {
            return None;
        }
        self.cycles += 1;
        let cycle = Cycle {
            number: self.cycles,
            trigger,
            level,
            target_bytes: self.target_bytes(trigger),
            before_bytes: self.live_bytes,
            started: self.now,
        };
        // It answers all that is wished for.
        if self.psi.is_pending {
            self.psi.answered_at = Some(self.now);
        }
        self.psi.is_pending = false;
        self.has_risen = false;
        self.asked_bytes = None;
        self.phase = Phase::Running(cycle);
        Some(cycle)
    }

    /// Why a cycle should start now, were it not for the pause.
    fn wanted(&self) -> Option<(Trigger, Level)> {
        let trigger = match self.room {
            Some(room) if self.has_risen || self.live_bytes > self.limit_threshold_bytes() => {
                room.set_by
            }
            _ if self.live_bytes > self.pacer.threshold_bytes(self.room) => Trigger::Growth,
            _ if self.psi.is_pending => Trigger::Psi,
            _ if self.asked_bytes.is_some() => Trigger::Asked,
            _ => return None,
        };
        Some((trigger, self.urgency()))
    }

    fn limit_threshold_bytes(&self) -> u64 {
        self.room
            .map_or(u64::MAX, |room| self.pacer.limit_threshold_bytes(room))
    }

    fn urgency(&self) -> Level {
        self.fullness.max(Level::Moderate)
    }

    /// The end of the pause after the last cycle.
    ///
    /// At critical it is as long as that cycle, however short it was: a program may
    /// allocate more than its whole limit in [`MIN_PAUSE`].
    fn due(&self) -> Duration {
        let Some((ended, took)) = self.last else {
            return Duration::ZERO;
        };
        let pause = if self.fullness == Level::Critical {
            took
        } else {
            MIN_PAUSE.max(took.saturating_mul(PAUSE_LENGTHS))
        };
        ended.saturating_add(pause)
    }

    /// What was asked for, what leads back to calm or to the baseline, and at
    /// least what would not be called ineffective.
    fn target_bytes(&self, trigger: Trigger) -> u64 {
        let asked_bytes = self.asked_bytes.unwrap_or(0).min(self.live_bytes);
        if trigger == Trigger::Asked && asked_bytes > 0 {
            return asked_bytes;
        }
        let goal_bytes = match self.room {
            Some(room) if self.fullness > Level::Calm => room.clear_bytes(Level::Moderate),
            _ => self.pacer.baseline_bytes(),
        };
        let over_bytes = self.live_bytes.saturating_sub(goal_bytes);
        let least_bytes = percent(self.live_bytes, INEFFECTIVE_PERCENT);
        over_bytes.max(least_bytes).max(asked_bytes)
    }

    fn begin_settling(&mut self, number: u64, claims: Vec<Claim>) {
        if let Phase::Running(cycle) = self.phase
            && cycle.number == number
        {
            let settling = Settling::begin(self.now, self.live_bytes);
            self.phase = Phase::Settling(cycle, settling, claims);
        }
    }

    /// Takes a sample; tells whether live bytes have just settled.
    fn settle(&mut self) -> bool {
        let Phase::Settling(cycle, settling, claims) = &mut self.phase else {
            return false;
        };
        let lowest_bytes = settling.lowest_bytes().min(self.live_bytes);
        let effect = Effect::of(cycle.before_bytes, lowest_bytes);
        // Under a program that allocates as fast as is freed, the claims say that there is nothing to wait for.
        let claimed_bytes = claims
            .iter()
            .fold(0u64, |sum, claim| sum.saturating_add(claim.claimed_bytes));
        let claims_enough = claimed_bytes >= percent(cycle.before_bytes, INEFFECTIVE_PERCENT);
        let freed_enough =
            effect != Effect::Ineffective || claims_enough || cycle.before_bytes == 0;
        let Some(settle) = settling.sample(self.now, self.live_bytes, freed_enough) else {
            return false;
        };
        let (cycle, claims) = (*cycle, std::mem::take(claims));
        self.learn(&cycle, effect);
        self.phase = Phase::Purging(CycleRecord {
            number: cycle.number,
            trigger: cycle.trigger,
            level: cycle.level,
            started: cycle.started,
            took: Duration::ZERO,
            target_bytes: cycle.target_bytes,
            before_bytes: cycle.before_bytes,
            after_bytes: self.live_bytes,
            freed_bytes: cycle.before_bytes.saturating_sub(lowest_bytes),
            claims,
            settle_ms: u64::try_from(settle.as_millis()).unwrap_or(u64::MAX),
            drift_bytes: None,
        });
        true
    }

    fn learn(&mut self, cycle: &Cycle, effect: Effect) {
        self.pacer.settle_at(self.live_bytes);
        // Who asks has reasons of its own: that little came free says nothing about pacing.
        if cycle.trigger != Trigger::Asked && cycle.before_bytes > 0 {
            self.pacer.learn(effect);
            self.learn_about_rises(cycle, effect);
        }
        if self.pacer.is_fruitless() {
            self.say(Note::Ineffective);
        }
        if self.room.is_some_and(|room| self.live_bytes > room.bytes) {
            self.say(Note::BaselineAboveLimit);
        }
    }

    /// The budget of a level is one rise: live bytes that swing around a mark may
    /// pass it any number of times without growing.
    fn learn_about_rises(&mut self, cycle: &Cycle, effect: Effect) {
        if effect != Effect::Ineffective {
            self.rises_to_skip = [0; 4];
        } else if cycle.trigger.is_limit() {
            self.rises_to_skip[cycle.level as usize] = self.pacer.budgets() - 1;
        }
    }

    fn finish(&mut self, number: u64, resident_bytes: Option<u64>) -> Option<CycleRecord> {
        if !matches!(&self.phase, Phase::Purging(record) if record.number == number) {
            return None;
        }
        let Phase::Purging(mut record) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return None;
        };
        record.took = self.now.saturating_sub(record.started);
        self.last = Some((self.now, record.took));
        if let Some(resident_bytes) = resident_bytes {
            let resident_bytes = resident_bytes.min(NOT_ARMED);
            record.drift_bytes = Some(resident_bytes as i64 - self.live_bytes as i64);
            let larger_bytes = resident_bytes.max(self.live_bytes);
            let usual_bytes = DRIFT_BYTES.max(percent(larger_bytes, DRIFT_PERCENT));
            if resident_bytes.abs_diff(self.live_bytes) > usual_bytes {
                self.say(Note::Drift);
            }
        }
        Some(record)
    }

    fn say(&mut self, note: Note) {
        self.said = self.said.with(note);
    }

    // ---- what goes out ----

    /// Settles what to publish; gives the level before if it was another.
    fn publish(&mut self) -> Option<Level> {
        let in_cycle = match &self.phase {
            Phase::Idle => Level::Calm,
            Phase::Running(cycle) | Phase::Settling(cycle, ..) => cycle.level,
            Phase::Purging(record) => record.level,
        };
        let reported = if self.is_psi_held() {
            Level::Moderate
        } else {
            Level::Calm
        };
        let level = self.fullness.max(in_cycle).max(reported);
        let before = std::mem::replace(&mut self.published, level);
        (before != level).then_some(before)
    }

    fn is_psi_held(&self) -> bool {
        self.now < self.psi.held_until
    }

    /// The next place where something changes. During a cycle there is none, and
    /// a pending wish, whose place is passed already, does not count.
    fn armed_bytes(&self) -> u64 {
        if !matches!(self.phase, Phase::Idle) {
            return NOT_ARMED;
        }
        let growth_bytes = self.pacer.threshold_bytes(self.room);
        let mark_bytes = self
            .room
            .and_then(|room| room.next_mark_bytes(self.live_bytes, self.fullness));
        let places = [growth_bytes, self.limit_threshold_bytes()];
        let places = places.into_iter().chain(mark_bytes);
        let above = places.filter(|bytes| *bytes > self.live_bytes);
        above.min().unwrap_or(NOT_ARMED).min(NOT_ARMED)
    }

    fn look_at(&self) -> Option<Duration> {
        if matches!(self.phase, Phase::Settling(..)) {
            return Some(self.now.saturating_add(SAMPLE_EVERY));
        }
        let is_idle = matches!(self.phase, Phase::Idle);
        let needs_looks = self.has_group || self.fullness > Level::Calm;
        let times = [
            (is_idle && self.wanted().is_some()).then(|| self.due()),
            self.is_psi_held().then_some(self.psi.held_until),
            needs_looks.then(|| self.now.saturating_add(LOOK_EVERY)),
        ];
        times.into_iter().flatten().min()
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "policy_limit_tests.rs"]
mod limit_tests;
