//! A simulated program for tests: it allocates, and its reclaimers free a part of
//! it, late. Time is simulated too, a millisecond a turn.

use std::time::Duration;

use super::cycle::{Claim, Cycle, CycleRecord, Trigger};
use super::exchange::{Decision, Event, Note, Order, Readings};
use super::limits::{Level, Limits, percent};
use super::policy::Policy;

pub(super) const MIB: u64 = 1 << 20;

pub(super) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// What the reclaimers of a simulated program do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reclaimers {
    /// So long does their round take.
    pub round_ms: u64,
    /// This part of what is live when it ends comes free,
    pub freed_percent: u64,
    /// so much later.
    pub late_ms: u64,
    /// They keep so much for themselves, each time.
    pub allocated_bytes: u64,
}

pub(super) const USELESS: Reclaimers = Reclaimers {
    round_ms: 3,
    freed_percent: 0,
    late_ms: 0,
    allocated_bytes: 0,
};

/// A program and its driver. Holds every step to what must always hold.
pub(super) struct Simulation {
    pub readings: Readings,
    policy: Policy,
    pub decision: Decision,
    pub reclaimers: Reclaimers,
    round_ends: Option<(Duration, u64)>,
    purge: Option<u64>,
    to_free: Vec<(Duration, u64)>,
    pub started: Vec<Cycle>,
    pub records: Vec<CycleRecord>,
    pub notes: Vec<Note>,
    pub levels: Vec<Level>,
    /// The most that was ever live.
    pub peak_bytes: u64,
    crossings: u32,
}

impl Simulation {
    pub fn new(limits: Limits, reclaimers: Reclaimers, live_bytes: u64) -> Simulation {
        let readings = Readings {
            live_bytes,
            limits,
            ..Readings::default()
        };
        let mut policy = Policy::new(1.0, &readings);
        let decision = policy.step(&readings, Event::Look);
        let mut simulation = Simulation {
            readings,
            policy,
            decision: decision.clone(),
            reclaimers,
            round_ends: None,
            purge: None,
            to_free: Vec::new(),
            started: Vec::new(),
            records: Vec::new(),
            notes: Vec::new(),
            levels: Vec::new(),
            peak_bytes: live_bytes,
            crossings: 0,
        };
        simulation.follow(decision);
        simulation
    }

    pub fn step(&mut self, event: Event) {
        let decision = self.policy.step(&self.readings, event);
        self.follow(decision);
    }

    fn follow(&mut self, mut decision: Decision) {
        let readings = self.readings;
        assert!(decision.armed_bytes > readings.live_bytes, "{decision:?}");
        assert!(
            decision.look_at.is_none_or(|at| at > readings.now),
            "{decision:?}"
        );
        self.notes.extend(decision.notes.iter());
        if decision.level_before.is_some() {
            self.levels.push(decision.level);
        }
        if let Some(record) = decision.finished.take() {
            assert_eq!(record.number, self.started.last().unwrap().number);
            self.records.push(record);
        }
        match decision.order {
            Some(Order::Reclaim(cycle)) => self.start(cycle),
            Some(Order::Purge { number }) => self.purge = Some(number),
            None => {}
        }
        self.decision = decision;
    }

    fn start(&mut self, cycle: Cycle) {
        assert_eq!(self.started.len(), self.records.len(), "one at a time");
        assert_eq!(cycle.number, self.started.len() as u64 + 1);
        assert!(cycle.level > Level::Calm);
        assert!(cycle.target_bytes <= cycle.before_bytes);
        if let Some(last) = self.records.last() {
            let pause = if cycle.level == Level::Critical {
                last.took
            } else {
                ms(100).max(last.took * 5)
            };
            assert!(
                cycle.started >= last.started + last.took + pause,
                "{cycle:?} after {last:?}"
            );
        }
        self.started.push(cycle);
        self.round_ends = Some((
            self.readings.now + ms(self.reclaimers.round_ms),
            cycle.number,
        ));
    }

    /// A millisecond, in which the program allocates or frees.
    pub fn turn(&mut self, change_bytes: i64) {
        self.readings.now += ms(1);
        let now = self.readings.now;
        let mut live_bytes = self.readings.live_bytes.saturating_add_signed(change_bytes);
        self.to_free.retain(|(at, bytes)| {
            if *at <= now {
                live_bytes = live_bytes.saturating_sub(*bytes);
            }
            *at > now
        });
        self.readings.live_bytes = live_bytes;
        self.peak_bytes = self.peak_bytes.max(live_bytes);
        if let Some((_, number)) = self.round_ends.take_if(|(ends, _)| *ends <= now) {
            let freed_bytes = percent(live_bytes, self.reclaimers.freed_percent);
            self.to_free
                .push((now + ms(self.reclaimers.late_ms), freed_bytes));
            self.readings.live_bytes += self.reclaimers.allocated_bytes;
            let claims = vec![Claim {
                reclaimer: 1,
                claimed_bytes: MIB,
                took: ms(self.reclaimers.round_ms),
            }];
            self.step(Event::Finished { number, claims });
        } else if let Some(number) = self.purge.take() {
            self.step(Event::Purged { number });
        } else if live_bytes > self.decision.armed_bytes {
            self.crossings += 1;
            self.step(Event::Crossed);
        } else if self.decision.look_at.is_some_and(|at| at <= now) {
            self.step(Event::Look);
        }
    }

    pub fn turns(&mut self, count: u64, change_bytes: i64) {
        for _ in 0..count {
            self.turn(change_bytes);
        }
    }

    pub fn triggers(&self) -> Vec<(Trigger, Level)> {
        let started = self.started.iter();
        started.map(|cycle| (cycle.trigger, cycle.level)).collect()
    }
}
