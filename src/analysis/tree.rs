//! All tracked processes together.

use super::books::{Books, Collector, SideTotals, SiteRow, size_order};
use super::process::booked;
use super::sizes::{SizeSummary, merge};
use super::{Report, Totals};
use crate::counts::{Counts, Side};
use crate::recording::model::{Losses, Process};
use crate::recording::resolve::INHERITED;

/// The sum over all tracked processes.
#[derive(Debug)]
pub struct Tree<'a> {
    /// Who holds what. The peaks of several processes come at different times
    /// and have no sum, so they are known for a single process only.
    pub books: Books<'a>,
    /// What could not be booked in full.
    pub losses: Losses,
    /// Places where the books do not add up.
    pub violation_count: u64,
}

impl<'a> Tree<'a> {
    /// Sums the tracked processes up; `None` when there is none.
    pub fn new(report: &Report<'a>) -> Option<Tree<'a>> {
        report.tracked().next()?;
        let rows = report
            .tracked()
            .filter_map(|process| process.books.as_ref())
            .flat_map(|books| &books.sites);
        let mut collector = Collector::with_capacity(report.recording.sites.len());
        for row in rows {
            collector.add(SiteRow {
                at_peak: (0, 0),
                ..*row
            });
        }
        let mut books = collector.finish(&report.catalog);
        books.totals = totals(report);
        books.threads = report
            .tracked()
            .filter_map(|process| process.books.as_ref())
            .flat_map(|books| books.threads.clone())
            .collect();
        books.threads.sort_by_key(|row| size_order(&row.counts));
        books.sizes = Side::ALL.map(|side| sizes(report, side));
        Some(Tree {
            books,
            losses: losses(report),
            violation_count: report
                .tracked()
                .map(|process| process.violations.count)
                .sum(),
        })
    }
}

/// Sums the totals of the tracked processes up.
pub(crate) fn totals(report: &Report) -> Totals {
    let all: Vec<Totals> = report
        .tracked()
        .filter_map(|process| process.books.as_ref())
        .map(|books| books.totals)
        .collect();
    match all[..] {
        [only] => only,
        _ => {
            let mut totals = Totals {
                c: sum(all.iter().map(|totals| totals.c)),
                rust: sum(all.iter().map(|totals| totals.rust)),
                all: sum(all.iter().map(|totals| totals.all)),
            };
            let inherited = report
                .tracked()
                .map(|process| inherited(process.process))
                .sum();
            take_inherited_off(inherited, &mut totals.c.counts, &mut totals.rust.counts);
            take_inherited_off(inherited, &mut totals.all.counts, &mut None);
            totals
        }
    }
}

/// Gives what a process began with as a fork, and did not allocate itself.
pub(crate) fn inherited(process: &Process) -> Counts {
    let rows = process
        .threads
        .iter()
        .filter(|thread| thread.name == INHERITED);
    rows.flat_map(|thread| thread.counts).sum()
}

/// Takes what was inherited off what processes allocated, or it would be counted
/// once for the parent and once for every child. What they held at their ends
/// each of them did hold. Rust's share is known by call site only, so that what
/// side c cannot account for is Rust's.
pub(crate) fn take_inherited_off(
    inherited: Counts,
    c: &mut Option<Counts>,
    rust: &mut Option<Counts>,
) {
    let mut left = inherited;
    for counts in [c, rust].into_iter().flatten() {
        for (value, left) in [
            (&mut counts.allocated_bytes, &mut left.allocated_bytes),
            (&mut counts.allocated_blocks, &mut left.allocated_blocks),
            (&mut counts.requested_bytes, &mut left.requested_bytes),
        ] {
            let taken = (*value).min(*left);
            *value -= taken;
            *left -= taken;
        }
    }
}

fn sum(sides: impl Iterator<Item = SideTotals>) -> SideTotals {
    let counts = sides
        .filter_map(|side| side.counts)
        .reduce(|mut sum: Counts, next| {
            sum += next;
            sum
        });
    SideTotals {
        counts,
        peak_live_bytes: None,
    }
}

fn sizes(report: &Report, side: Side) -> Option<SizeSummary> {
    let seen = || {
        let tracked = report
            .tracked()
            .filter_map(|process| Some((process, process.books.as_ref()?)));
        tracked
            .filter(|(_, books)| books.sizes[side.index()].is_some())
            .map(|(process, _)| process.process)
    };
    seen().next()?;
    let booked = seen().map(|process| booked(process)[side.index()]).sum();
    Some(SizeSummary::new(
        &merge(seen().map(|process| &process.sizes[side.index()])),
        booked,
    ))
}

/// Sums the tracked processes' losses up.
pub(crate) fn losses(report: &Report) -> Losses {
    let mut sum = Losses::default();
    let tracked = report.tracked();
    tracked.for_each(|process| sum += process.process.losses);
    sum
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, counts};
    use super::*;

    #[test]
    fn two_equal_processes_hold_twice_as_much_at_the_same_sites() {
        let mut recording = fixture::recording();
        recording.processes.push(recording.processes[0].clone());
        let report = Report::new(&recording);
        let tree = Tree::new(&report).unwrap();
        assert_eq!(
            tree.books.totals.all.counts,
            Some(counts((10_600_000, 10_260), (2_200_000, 220)))
        );
        assert_eq!(tree.books.totals.all.peak_live_bytes, None);
        assert_eq!(tree.books.sites.len(), 3);
        assert_eq!(tree.books.threads.len(), 4);
        assert_eq!(tree.books.sizes[0].unwrap().count, 10_200);
    }

    #[test]
    fn what_a_fork_inherited_is_allocated_once() {
        let mut recording = fixture::recording();
        let mut child = recording.processes[0].clone();
        let inherited = counts((1_000_000, 100), (0, 0));
        child.threads[0].name = INHERITED.to_owned();
        child.threads[0].counts = [inherited, Counts::default()];
        recording.processes.push(child);
        let totals = totals(&Report::new(&recording)).all.counts.unwrap();
        assert_eq!(
            (totals.allocated_bytes, totals.allocated_blocks),
            (9_600_000, 10_160)
        );
        assert_eq!(totals.live_bytes, 8_400_000);
    }

    #[test]
    fn without_a_tracked_process_there_is_no_sum() {
        let mut recording = fixture::recording();
        recording.processes[0].untracked_reason = Some("static".into());
        assert!(Tree::new(&Report::new(&recording)).is_none());
    }
}
