//! Cleanup pressure driven from outside: who of the recorded processes is
//! driven, by which limits, and what is done to them.
//!
//! Each process is driven for itself, by a thread of its own here, a steward,
//! once that is worth a thread. Until then the watch's readings look after it.

mod actions;
mod chronicle;
mod command;
mod group;
mod listeners;
mod signal;
mod steward;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::image::Image;
use super::proc;
use crate::ledger::books::read_inherited_bytes;
use crate::ledger::pages::FilePages;
use crate::ledger::pressure_words::peek;
use crate::pressure::ACTIONS;
use crate::recording::model;
pub(crate) use actions::{Action, ActionList, merge};
use chronicle::Chronicle;
use group::Groups;
use listeners::Listeners;
use steward::{Steward, Target};

/// Growth below this is never a reason to clean up.
const LEAST_BUDGET_BYTES: u64 = 64 << 20;
/// A process that holds this part of the lowest threshold has a thread of its own,
const WORTH_DIVISOR: u64 = 8;
/// and so has one that lives as long: readings of it become rare.
const LONG_LIVED: Duration = Duration::from_secs(2);

/// What stands in the words of pressure no version writes.
const UNUSABLE: &str = "not driven: its ledger cannot be used";
/// A program drives its own clean-ups.
const OWN_DRIVER: &str = "own_driver";

/// What the operator asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub soft_bytes: Option<u64>,
    pub hard_bytes: Option<u64>,
    /// C's large requests fail past the hard limit.
    pub refuses: bool,
    /// As it was given.
    pub growth: Option<f64>,
    pub actions: Vec<Action>,
}

impl Plan {
    /// Gives the part of the baseline that may be added: what was given, 1 where
    /// nothing else could ever trigger, else infinity.
    fn growth_ratio(&self) -> f64 {
        let has_limit = self.soft_bytes.or(self.hard_bytes).is_some();
        let unset = if has_limit { f64::INFINITY } else { 1.0 };
        self.growth.unwrap_or(unset)
    }

    /// Gives the live bytes below which nothing ever happens to a fresh process, its
    /// control group's limits aside.
    fn lowest_threshold_bytes(&self) -> u64 {
        let limits = [self.soft_bytes, self.hard_bytes].into_iter().flatten();
        let marks = limits.map(|bytes| bytes / 5 * 4);
        marks.min().unwrap_or(u64::MAX).min(LEAST_BUDGET_BYTES)
    }

    /// Gives the list for the thread in the target; empty where it only serves what the program registers.
    fn inside(&self) -> String {
        let inside = self.actions.iter().filter(|action| action.is_inside());
        let names: Vec<String> = inside.map(Action::name).collect();
        names.join(",")
    }
}

/// Looks after the processes of a run.
pub(super) struct Stewards {
    plan: Arc<Plan>,
    listeners: Option<Arc<Listeners>>,
    groups: Groups,
}

impl Stewards {
    /// Prepares what the program is to be given; `directory` is that of the ledgers.
    pub(super) fn begin(plan: &Plan, directory: &Path) -> io::Result<Stewards> {
        let listens = plan.actions.contains(&Action::Systemd) && !is_switched_off();
        let listeners = listens.then(|| Listeners::open(directory)).transpose()?;
        Ok(Stewards {
            plan: Arc::new(plan.clone()),
            listeners,
            groups: Groups::default(),
        })
    }

    /// Begins to serve the program; the signals that `run` reads by descriptor are blocked by now.
    pub(super) fn serve(&self) -> io::Result<()> {
        self.listeners.as_ref().map_or(Ok(()), |all| all.serve())
    }

    /// Gives the variables of the program's environment.
    pub(super) fn variables(&self) -> Vec<(&'static str, OsString)> {
        let bytes = |bytes: u64| bytes.to_string().into();
        let plan = &self.plan;
        let limits = [
            ("HEAPLEDGER_SOFT_LIMIT", plan.soft_bytes.map(bytes)),
            ("HEAPLEDGER_HARD_LIMIT", plan.hard_bytes.map(bytes)),
            (
                "HEAPLEDGER_REFUSE_PAST",
                plan.hard_bytes.filter(|_| plan.refuses).map(bytes),
            ),
            (
                "HEAPLEDGER_GROWTH",
                plan.growth.map(|ratio| ratio.to_string().into()),
            ),
        ];
        let limits = limits.into_iter();
        let mut all: Vec<(&'static str, OsString)> = limits
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        all.push((ACTIONS, plan.inside().into()));
        all.extend(self.listeners.iter().flat_map(|all| all.variables()));
        all
    }

    /// Looks at a process that was just read, and gives it a steward when it is worth one.
    pub(super) fn consider(&mut self, image: &mut Image) {
        let Some(words) = image.ledger().and_then(peek) else {
            return;
        };
        let care = &image.care;
        if care.is_given_up || care.steward.as_ref().is_some_and(Steward::is_at_work) {
            return;
        }
        if care.steward.as_ref().is_some_and(Steward::has_given_up) {
            image.care.is_given_up = true;
            return image.care.chronicle.note(UNUSABLE.to_owned());
        }
        if words.driver != 0 && words.driver == image.pid {
            return image.care.chronicle.note(OWN_DRIVER.to_owned());
        }
        let is_worth = words.crossed != 0
            || image.all_live_bytes() >= self.plan.lowest_threshold_bytes() / WORTH_DIVISOR
            || image.age() >= LONG_LIVED;
        if is_worth && let Err(why) = self.appoint(image) {
            image.care.chronicle.note(format!("not driven: {why}"));
            image.care.is_given_up = true;
        }
    }

    fn appoint(&mut self, image: &mut Image) -> io::Result<()> {
        let Some(ledger) = image.ledger() else {
            return Ok(());
        };
        // A thread of it that crosses wakes us, by a system call.
        if image.pidfd.is_some() && proc::is_strict(image.pid) {
            return Err(io::Error::other("it runs under strict seccomp"));
        }
        let pidfd = image.pidfd.as_ref().map(|pidfd| pidfd.try_clone());
        let group = self.groups.of(image.pidfd.as_ref().map(|_| image.pid));
        let target = Target {
            pid: image.pid,
            pidfd: pidfd.transpose()?,
            created_mono_ns: image.created_mono_ns,
            baseline_bytes: read_inherited_bytes(&FilePages(ledger)),
        };
        let chronicle = Arc::clone(&image.care.chronicle);
        let steward = Steward::appoint(
            ledger,
            target,
            (&self.plan, self.listeners.clone()),
            (group, chronicle),
        )?;
        image.care.steward = Some(steward);
        Ok(())
    }
}

/// Tells whether the environment says that nobody is to be told of memory pressure.
fn is_switched_off() -> bool {
    std::env::var_os(listeners::WATCH).as_deref() == Some(OsStr::new("/dev/null"))
}

/// Says what of a plan cannot be done here, in one line.
pub(super) fn objection(plan: &Plan) -> Option<String> {
    (plan.actions.contains(&Action::Systemd) && is_switched_off()).then(|| {
        format!(
            "{}=/dev/null switches memory pressure off; --on-pressure systemd does nothing",
            listeners::WATCH
        )
    })
}

/// What one image is given and what became of it.
#[derive(Default)]
pub(super) struct Care {
    steward: Option<Steward>,
    chronicle: Arc<Chronicle>,
    is_given_up: bool,
}

impl Care {
    /// Ends it, and gives what there is to tell.
    pub(super) fn finish(self, is_alive: bool, t_s: f64) -> model::Pressure {
        let live_bytes = self.steward.map(|steward| steward.dismiss(is_alive));
        self.chronicle.close(live_bytes.unwrap_or(0), t_s)
    }
}
