//! From a recording to figures: what each process held, by side, library, call
//! site, scope and thread, and whether its books add up.
//!
//! Everything here is a pure function of a [`Recording`]; how figures are shown
//! is the business of `report`.

mod books;
mod catalog;
mod cleanups;
mod difference;
mod fan_out;
mod filter;
mod invariants;
mod lifetimes;
mod misuse;
mod process;
mod signals;
mod sizes;
pub mod stacks;
mod suppressions;
#[cfg(feature = "cli")]
#[cfg_attr(
    not(heapledger_core),
    allow(dead_code, reason = "runs are recorded where there is a core")
)]
pub(crate) mod tally;
mod timeline;
mod tree;

#[cfg(test)]
pub(crate) mod fixture;

pub use books::{Books, LibraryRow, ScopeRow, SideTotals, SiteRow, ThreadRow, Totals};
pub use catalog::{Catalog, Library, LibraryId, Place, ScopeId, SiteId};
pub use cleanups::{Cleanups, is_contradicted};
pub use difference::{Change, Difference, SiteName, StackName};
pub use fan_out::for_each_in_order;
pub use filter::{By, Filter, Measure, NoSuchName, Suppressed};
pub use invariants::Violations;
pub use lifetimes::{LifetimeSummary, merge as lives};
pub use misuse::{Call, calls, own_calls};
#[cfg(feature = "cli")]
pub(crate) use misuse::{calls_of_site, is_plumbing, is_real};
pub use process::{PeakReport, ProcessReport};
pub use signals::{signal_name, signal_number};
pub use sizes::{SizeSummary, merge as requests};
pub use suppressions::{SuppressionError, Suppressions};
pub use timeline::{Moment, Reading, Span, moments, readings, seconds};
pub use tree::Tree;
#[cfg(all(feature = "cli", heapledger_core))]
pub(crate) use tree::{inherited, take_inherited_off};

use crate::recording::Recording;
use crate::recording::model::{Losses, Mode, Outcome, Process};

/// A recording, analysed.
#[derive(Debug)]
pub struct Report<'a> {
    /// What was analysed.
    pub recording: &'a Recording,
    /// The call sites, libraries and scopes that rows name by identifier.
    pub catalog: Catalog<'a>,
    /// In the recording's order, the root first.
    pub processes: Vec<ProcessReport<'a>>,
    /// What [`Report::narrow`] left of the rows; by default all.
    pub filter: Filter,
    /// What suppressions left out.
    pub suppressed: Suppressed,
}

impl<'a> Report<'a> {
    /// Analyses a recording, several processes at a time.
    pub fn new(recording: &'a Recording) -> Report<'a> {
        let catalog = Catalog::new(recording);
        let mut processes = Vec::with_capacity(recording.processes.len());
        for_each_in_order(
            &recording.processes,
            |process| ProcessReport::new(&catalog, process),
            |report| {
                processes.push(report);
                Ok::<(), std::convert::Infallible>(())
            },
        )
        .unwrap_or_else(|never| match never {});
        let is_sampled = |process: &Process| matches!(process.mode, Mode::Sample { .. });
        let has_samples = |process: &Process| is_sampled(process) && !process.stacks.is_empty();
        if !recording.processes.iter().any(has_samples) {
            let unsampled = processes.iter_mut();
            for report in unsampled.filter(|report| is_sampled(report.process)) {
                report.stacks = Mode::Count;
            }
        }
        Report {
            recording,
            catalog,
            processes,
            filter: Filter::default(),
            suppressed: Suppressed::default(),
        }
    }

    /// Gives the processes that have books.
    pub fn tracked(&self) -> impl Iterator<Item = &ProcessReport<'a>> {
        self.processes
            .iter()
            .filter(|process| process.books.is_some())
    }

    /// Gives the processes that have none.
    pub fn untracked(&self) -> impl Iterator<Item = &ProcessReport<'a>> {
        self.processes
            .iter()
            .filter(|process| process.books.is_none())
    }

    /// Gives the command that was run, or the first process's where the recorder did not say.
    pub fn command(&self) -> &'a [String] {
        let recording = self.recording;
        match (&recording.start.command[..], recording.processes.first()) {
            ([], Some(root)) => &root.args,
            (command, _) => command,
        }
    }

    /// Gives how the root process ended, followed through every program it became.
    pub fn outcome(&self) -> Option<&'a Outcome> {
        let root = self.recording.processes.first()?;
        let mut images = self
            .recording
            .processes
            .iter()
            .filter(|process| process.pid == root.pid);
        let last = images
            .find(|process| process.outcome != Outcome::Exec)
            .unwrap_or(root);
        Some(&last.outcome)
    }

    /// Sums the tracked processes' totals up.
    pub fn totals(&self) -> Totals {
        tree::totals(self)
    }

    /// Sums what the tracked processes could not book in full.
    pub fn losses(&self) -> Losses {
        tree::losses(self)
    }

    /// Gives the tracked process with the highest peak, the first among equals.
    pub fn heaviest(&self) -> Option<&ProcessReport<'a>> {
        self.tracked().reduce(|best, next| {
            if next.peak.live_bytes > best.peak.live_bytes {
                next
            } else {
                best
            }
        })
    }
}
