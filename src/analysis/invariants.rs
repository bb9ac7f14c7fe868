//! Whether a process's books add up.

use super::books::Books;
use super::catalog::Catalog;
use super::process::booked;
use crate::counts::{Counts, Side};
use crate::recording::model::{Mode, Outcome, Process, StackFigures};

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
    check_stacks(catalog, process, &mut violations);
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

/// In mode full each block is booked twice, to its owner and to its stack, so both have
/// one sum. A thread that was between the two when the process ended may miss one block.
fn check_stacks(catalog: &Catalog, process: &Process, violations: &mut Violations) {
    let is_moving = process.outcome == Outcome::Running;
    if process.mode != Mode::Full || is_moving || process.losses.samples_dropped > 0 {
        return;
    }
    let under_way = process.under_way();
    for side in Side::ALL {
        let (stacks, owners) = (by_stack(process, side), by_owner(catalog, process, side));
        for (what, (stacks, owners)) in ["allocated", "freed"]
            .into_iter()
            .zip(stacks.into_iter().zip(owners))
        {
            let missing = stacks.0.abs_diff(owners.0);
            if stacks != owners && (missing == 0 || missing > under_way) {
                let side = side.name();
                let ((blocks, bytes), owners) = (stacks, owners);
                violations.add(|| {
                    format!(
                        "the stacks of side {side} {what} {bytes} bytes in {blocks} blocks, \
                         the owners {} in {}",
                        owners.1, owners.0
                    )
                });
            }
        }
    }
}

/// Blocks and bytes: allocated, freed.
type Flow = [(u64, u64); 2];

fn by_stack(process: &Process, side: Side) -> Flow {
    let mut sum = StackFigures::default();
    let stacks = process.stacks.iter().filter(|stack| stack.side == side);
    stacks.for_each(|stack| sum += stack.figures);
    let freed = |allocated: u64, live: i64| allocated.wrapping_sub(live as u64);
    [
        (sum.allocated_blocks, sum.allocated_bytes),
        (
            freed(sum.allocated_blocks, sum.live_blocks),
            freed(sum.allocated_bytes, sum.live_bytes),
        ),
    ]
}

/// What was charged by name was never allocated, and has no stack.
fn by_owner(catalog: &Catalog, process: &Process, side: Side) -> Flow {
    let is_charged = |site| {
        catalog
            .site_at(site)
            .is_some_and(|site| catalog.is_charged(site))
    };
    let owners = process.owners.iter();
    let owners = owners.filter(|owner| owner.side == side && !is_charged(owner.site));
    let sum: Counts = owners.map(|owner| owner.counts).sum();
    [
        (sum.allocated_blocks, sum.allocated_bytes),
        (sum.freed_blocks, sum.freed_bytes),
    ]
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

    fn of_stacks(change: impl FnOnce(&mut Recording)) -> Violations {
        let mut recording = fixture::with_stacks();
        change(&mut recording);
        Report::new(&recording).processes.remove(0).violations
    }

    #[test]
    fn the_stacks_of_mode_full_are_held_to_the_books() {
        assert_eq!(of_stacks(|_| ()), Violations::default());
        let found = of_stacks(|recording| {
            let figures = &mut recording.processes[0].stacks[0].figures;
            (figures.allocated_bytes, figures.live_bytes) = (3_999_999, 3_999_999);
        });
        assert_eq!(
            found.described,
            [
                "the stacks of side c allocated 3999999 bytes in 5000 blocks, the owners 4000000 in 5000"
            ]
        );
        let found = of_stacks(|recording| drop(recording.processes[0].stacks.pop()));
        assert_eq!(found.count, 1);
    }

    #[test]
    fn a_thread_that_was_stopped_within_an_allocation_hurts_nothing() {
        let one_less = |recording: &mut Recording| {
            let figures = &mut recording.processes[0].stacks[0].figures;
            (figures.allocated_bytes, figures.allocated_blocks) = (3_999_000, 4_999);
            (figures.live_bytes, figures.live_blocks) = (3_999_000, 4_999);
        };
        assert_eq!(of_stacks(one_less), Violations::default());
        let found = of_stacks(|recording| {
            recording.processes[0].threads.truncate(1);
            recording.processes[0].threads[0].counts[0] =
                fixture::counts((4_000_000, 5_000), (0, 0));
            one_less(recording);
        });
        assert_eq!(found.count, 1, "{found:?}");
    }
}
