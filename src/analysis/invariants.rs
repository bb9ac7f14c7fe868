//! Whether a process's books add up.

use super::books::Books;
use super::catalog::Catalog;
use super::process::booked;
use crate::counts::{Counts, Side};
use crate::recording::model::Process;

/// Violations described; more than this tell a reader nothing new.
const MAX_DESCRIBED: usize = 20;

/// Where books do not add up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations {
    /// How many there are.
    pub count: u64,
    /// The first of them, described.
    pub described: Vec<String>,
}

impl Violations {
    fn add(&mut self, describe: impl FnOnce() -> String) {
        self.count += 1;
        if self.described.len() < MAX_DESCRIBED {
            self.described.push(describe());
        }
    }
}

/// Checks what the contract promises of every set of books.
pub(crate) fn check(catalog: &Catalog, process: &Process, books: &Books) -> Violations {
    let mut violations = Violations::default();
    check_owners(catalog, process, &mut violations);
    check_threads(process, &mut violations);
    let all = books.totals.all.counts.unwrap_or_default();
    let sides: Counts = [books.totals.c, books.totals.rust]
        .iter()
        .filter_map(|side| side.counts)
        .sum();
    if sides != all || booked(process).into_iter().sum::<Counts>() != all {
        violations.add(|| difference("c + rust", sides, "all owners", all));
    }
    violations
}

fn check_owners(catalog: &Catalog, process: &Process, violations: &mut Violations) {
    for owner in &process.owners {
        let site = catalog.site_at(owner.site);
        let name = || {
            catalog
                .place(site.unwrap_or(catalog.missing_site()))
                .to_string()
        };
        if !owner.counts.adds_up() {
            violations.add(|| {
                not_live(
                    &format!("owner {} on side {}", name(), owner.side.name()),
                    owner.counts,
                )
            });
        }
        if site.is_none() {
            violations.add(|| {
                format!(
                    "an owner names call site {}, which the recording does not have",
                    owner.site
                )
            });
        }
        if let Some(scope) = owner
            .scope
            .filter(|&scope| scope as usize >= process.scopes.len())
        {
            violations.add(|| {
                format!(
                    "owner {} names scope {scope}, which the recording does not have",
                    name()
                )
            });
        }
    }
}

fn check_threads(process: &Process, violations: &mut Violations) {
    let owners = booked(process);
    for side in Side::ALL {
        let threads: Counts = process
            .threads
            .iter()
            .map(|thread| thread.counts[side.index()])
            .sum();
        if threads != owners[side.index()] {
            let name = format!("the threads' sum of side {}", side.name());
            violations.add(|| difference(&name, threads, "the owners'", owners[side.index()]));
        }
        for thread in &process.threads {
            let counts = thread.counts[side.index()];
            if !counts.adds_up() {
                let name = format!(
                    "thread {} ({}) on side {}",
                    thread.tid,
                    thread.name,
                    side.name()
                );
                violations.add(|| not_live(&name, counts));
            }
        }
    }
}

fn not_live(name: &str, counts: Counts) -> String {
    format!(
        "{name}: {} - {} bytes in {} - {} blocks, but {} bytes in {} blocks live",
        counts.allocated_bytes,
        counts.freed_bytes,
        counts.allocated_blocks,
        counts.freed_blocks,
        counts.live_bytes,
        counts.live_blocks,
    )
}

/// Describes the first figure in which two sums differ.
fn difference(left_name: &str, left: Counts, right_name: &str, right: Counts) -> String {
    let figures = |counts: Counts| {
        [
            (counts.allocated_bytes, "bytes allocated"),
            (counts.allocated_blocks, "blocks allocated"),
            (counts.freed_bytes, "bytes freed"),
            (counts.freed_blocks, "blocks freed"),
            (counts.requested_bytes, "bytes requested"),
            (counts.reallocs, "reallocs"),
        ]
    };
    let pairs = figures(left).into_iter().zip(figures(right));
    let (left, right, what) = pairs
        .map(|(left, right)| (left.0, right.0, left.1))
        .find(|(left, right, _)| left != right)
        .unwrap_or_default();
    format!("{left_name} is {left} {what}, {right_name} {right}")
}

#[cfg(test)]
mod tests {
    use super::super::Report;
    use super::super::fixture;
    use super::Violations;
    use crate::recording::Recording;

    fn violations(change: impl FnOnce(&mut Recording)) -> Violations {
        let mut recording = fixture::recording();
        change(&mut recording);
        Report::new(&recording).processes.remove(0).violations
    }

    #[test]
    fn sound_books_have_none() {
        assert_eq!(violations(|_| ()), Violations::default());
    }

    #[test]
    fn an_owner_whose_live_is_not_the_difference_is_described() {
        let found = violations(|recording| recording.processes[0].owners[0].counts.live_bytes += 1);
        assert_eq!(found.count, 1);
        assert_eq!(
            found.described,
            [
                "owner decode_frame (libcodec.so.1+0x1234) on side c: 4000000 - 0 bytes in 5000 - 0 blocks, \
              but 4000001 bytes in 5000 blocks live"
            ]
        );
    }

    #[test]
    fn threads_that_do_not_add_up_to_the_side_are_described() {
        let found = violations(|recording| {
            let counts = &mut recording.processes[0].threads[0].counts[0];
            counts.freed_blocks -= 1;
            counts.live_blocks += 1;
        });
        assert_eq!(
            found.described,
            ["the threads' sum of side c is 99 blocks freed, the owners' 100"]
        );
    }

    #[test]
    fn names_that_lead_nowhere_are_violations() {
        let found = violations(|recording| {
            recording.processes[0].owners[0].site = 99;
            recording.processes[0].owners[1].scope = Some(7);
        });
        assert_eq!(found.count, 2);
        assert!(found.described[0].contains("call site 99"), "{found:?}");
        assert!(found.described[1].contains("scope 7"), "{found:?}");
    }

    #[test]
    fn all_are_counted_and_the_first_are_described() {
        let found = violations(|recording| {
            let process = &mut recording.processes[0];
            let owner = process.owners[0].clone();
            process.owners.extend(std::iter::repeat_n(owner, 50));
            process
                .owners
                .iter_mut()
                .for_each(|owner| owner.counts.live_blocks = i64::MIN);
        });
        // 54 owners, and the threads' sum of side c, which has no such blocks.
        assert_eq!((found.count, found.described.len()), (55, 20));
    }
}
