//! Stacks as every format shows them.
//!
//! A recording says for each stack which addresses it went through. [`Stacks`]
//! gives the addresses their names, once: an address is a [`Location`], which has
//! one [`Frame`] for the function that the compiler emitted and one for each that
//! it inlined there; frames name a [`Function`]. What was booked is in rows, a list
//! a process ([`ProcessStacks`]), whose paths are locations. So a format that wants
//! addresses (pprof), or names (flame graphs), finds either, and the tables are as
//! compact as a file can have them.
//!
//! Where a process has no stacks, each of its owners is a stack of one frame, with
//! exact figures.

mod names;
#[cfg(test)]
mod tests;
mod top;
mod tree;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

pub use self::names::{Frame, Function, Location, LocationId};
use self::names::{Names, Roots};
pub use self::top::TopStack;
pub use self::tree::{CallTree, Label, Node, NodeId};
use super::catalog::{Catalog, ScopeId, SiteId};
use super::filter::{By, Filter, Measure, NoSuchName, Selection};
use super::{ProcessReport, Report};
use crate::counts::{Counts, Side};
use crate::recording::model::{MisuseStack, Mode, Process, Stack, StackFigures};

/// The names of all stacks, and the way to each process's rows.
#[derive(Debug)]
pub struct Stacks<'a> {
    /// What is looked at.
    pub report: &'a Report<'a>,
    /// Each function once.
    pub functions: Vec<Function<'a>>,
    /// What locations are made of.
    pub frames: Vec<Frame<'a>>,
    /// What paths are made of.
    pub locations: Vec<Location>,
    by: By,
    selection: Selection<'a>,
    /// By [`SiteId::index`].
    of_sites: Vec<LocationId>,
    truncated: LocationId,
    /// Where stacks begin: by scope or thread, if so wanted.
    roots: Roots,
}

/// What one process booked, by stack.
#[derive(Debug, Default)]
pub struct ProcessStacks {
    /// A row a stack, side, scope and thread; in the recording's order.
    pub rows: Vec<StackRow>,
    /// Figures are exact, and no estimates from samples.
    pub is_exact: bool,
    /// What suppressions left out: stacks, and their live bytes.
    pub suppressed: (u64, i64),
    paths: Vec<LocationId>,
}

/// One stack and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackRow {
    /// The side that it belongs to, which for Rust's shims is not the one that booked it.
    pub side: Side,
    /// Its scope.
    pub scope: Option<ScopeId>,
    /// Place in [`Process::threads`], where known.
    pub thread: Option<u32>,
    /// Some callers were found by frame pointers alone.
    pub is_guessed: bool,
    /// What it holds.
    pub figures: StackFigures,
    path: Range<u32>,
}

impl ProcessStacks {
    /// Gives the locations of a row, innermost first.
    pub fn path(&self, row: &StackRow) -> &[LocationId] {
        &self.paths[row.path.start as usize..row.path.end as usize]
    }

    /// Adds the rows' figures up.
    pub fn total(&self) -> StackFigures {
        let mut sum = StackFigures::default();
        self.rows.iter().for_each(|row| sum += row.figures);
        sum
    }
}

/// Why stacks cannot be shown as was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Impossible {
    /// A name is not in the recording.
    NoSuchName(NoSuchName),
    /// Threads are only known by side.
    ThreadsHaveNoSites,
    /// Who held the peak is not known by thread.
    ThreadsHaveNoPeak,
    /// Samples do not tell who held the peak.
    SamplesHaveNoPeak,
    /// Only mode full knows temporary blocks.
    NoTemporaries,
}

impl fmt::Display for Impossible {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Impossible::NoSuchName(name) => return name.fmt(formatter),
            Impossible::ThreadsHaveNoSites => {
                "threads cannot be narrowed to a scope, a library or by suppressions: \
                 without stacks the recording knows them by side alone"
            }
            Impossible::ThreadsHaveNoPeak => {
                "without stacks it is not known which thread held the peak: \
                 choose another measure, or another --by"
            }
            Impossible::SamplesHaveNoPeak => {
                "which stacks held the peak is not known from samples: \
                 choose another measure, or record with --mode count, which knows call sites"
            }
            Impossible::NoTemporaries => {
                "temporary blocks are not in this recording: record with --mode full"
            }
        })
    }
}

impl std::error::Error for Impossible {}

impl From<NoSuchName> for Impossible {
    fn from(name: NoSuchName) -> Impossible {
        Impossible::NoSuchName(name)
    }
}

impl<'a> Stacks<'a> {
    /// Names the stacks of a report, put together by `by`.
    ///
    /// # Errors
    /// When the filter or the measure ask for what the recording does not hold.
    pub fn new(report: &'a Report<'a>, filter: &'a Filter, by: By) -> Result<Self, Impossible> {
        let stacks = Stacks::named(report, filter, by)?;
        check(report, filter, by)?;
        Ok(stacks)
    }

    /// Names the stacks of a report, whether every process knows the measure or not.
    ///
    /// # Errors
    /// When the filter names what the recording does not hold.
    pub(crate) fn named(
        report: &'a Report<'a>,
        filter: &'a Filter,
        by: By,
    ) -> Result<Self, NoSuchName> {
        let selection = filter.select(&report.catalog)?;
        let mut names = Names::default();
        let catalog = &report.catalog;
        let of_sites = match by {
            By::Library => names.libraries(catalog),
            _ => names.sites(catalog),
        };
        let truncated = names.plain(Cow::Borrowed("(truncated)"));
        let roots = match by {
            By::Scope => names.scopes(catalog),
            By::Thread => names.threads(report),
            By::Site | By::Library => Roots::None,
        };
        Ok(Stacks {
            report,
            functions: names.functions,
            frames: names.frames,
            locations: names.locations,
            by,
            selection,
            of_sites,
            truncated,
            roots,
        })
    }

    /// Gives what part of the report is looked at.
    pub fn filter(&self) -> &'a Filter {
        self.selection.filter()
    }

    /// Gives the rows of the process at an index of [`Report::processes`].
    pub fn of(&self, process: usize) -> ProcessStacks {
        let report = &self.report.processes[process];
        let mut stacks = ProcessStacks {
            is_exact: report.stacks.has_exact_stacks(),
            ..ProcessStacks::default()
        };
        let Some(books) = &report.books else {
            return stacks;
        };
        match report.stacks {
            Mode::Count if self.by == By::Thread => self.add_threads(process, &mut stacks),
            Mode::Count => {
                for row in &books.sites {
                    let of = (row.side, row.scope, None);
                    let figures = StackFigures::of(&row.counts, row.at_peak);
                    self.add(
                        process,
                        &mut stacks,
                        of,
                        &[row.site],
                        Marks::default(),
                        figures,
                    );
                }
            }
            Mode::Sample { .. } | Mode::Full => {
                self.add_recorded(process, &mut stacks);
                self.add_charged(process, &mut stacks);
            }
        }
        stacks
    }

    /// Gives the locations of one end of a misuse, innermost first.
    pub fn path_of(&self, stack: &MisuseStack) -> Vec<LocationId> {
        let catalog = &self.report.catalog;
        let site = |&frame: &u32| catalog.site_at(frame).unwrap_or(catalog.missing_site());
        let location = |site: SiteId| self.of_sites[site.index()];
        let path = stack.frames.iter().map(site).map(location);
        path.chain(stack.is_truncated.then_some(self.truncated))
            .collect()
    }

    /// Hands over every process that has rows, with its rows, in the report's order.
    ///
    /// # Errors
    /// The first of `visit` ends it.
    pub fn for_each<E>(
        &self,
        mut visit: impl FnMut(&ProcessReport<'a>, &ProcessStacks) -> Result<(), E>,
    ) -> Result<(), E> {
        for (index, process) in self.report.processes.iter().enumerate() {
            let stacks = self.of(index);
            if !stacks.rows.is_empty() {
                visit(process, &stacks)?;
            }
        }
        Ok(())
    }

    /// Gives a location's frames, the outermost first.
    pub fn frames_of(&self, location: LocationId) -> &[Frame<'a>] {
        let range = &self.locations[location as usize].frames;
        &self.frames[range.start as usize..range.end as usize]
    }

    /// Gives a frame's function.
    pub fn function_of(&self, frame: &Frame) -> &Function<'a> {
        &self.functions[frame.function as usize]
    }

    fn add_recorded(&self, process: usize, stacks: &mut ProcessStacks) {
        let recorded = self.report.processes[process].process;
        let catalog = &self.report.catalog;
        let mut sites = Vec::new();
        for stack in &recorded.stacks {
            let site = |&frame| catalog.site_at(frame).unwrap_or(catalog.missing_site());
            sites.clear();
            sites.extend(stack.frames.iter().map(site));
            let side = side_of(catalog, stack.side, sites.first());
            let scope = scope_name(recorded, stack).and_then(|name| catalog.scope_named(name));
            let of = (side, scope, stack.thread);
            self.add(
                process,
                stacks,
                of,
                &sites,
                Marks {
                    is_truncated: stack.is_truncated,
                    is_guessed: stack.is_guessed,
                },
                stack.figures,
            );
        }
    }

    /// What was charged by name comes from no call that could be walked from, and is
    /// exact in the books, but for its share of the peak.
    fn add_charged(&self, process: usize, stacks: &mut ProcessStacks) {
        let books = self.report.processes[process].books.iter();
        for row in books.flat_map(|books| &books.sites) {
            if self.report.catalog.is_charged(row.site) {
                let figures = StackFigures {
                    samples: 0,
                    ..StackFigures::of(&row.counts, (0, 0))
                };
                let of = (row.side, row.scope, None);
                self.add(process, stacks, of, &[row.site], Marks::default(), figures);
            }
        }
    }

    /// Without stacks, a thread is known by side alone.
    fn add_threads(&self, process: usize, stacks: &mut ProcessStacks) {
        let threads = &self.report.processes[process].process.threads;
        for (index, thread) in (0u32..).zip(threads) {
            for side in Side::ALL {
                let counts: &Counts = &thread.counts[side.index()];
                if !counts.is_untouched() {
                    let of = (side, None, Some(index));
                    self.add(
                        process,
                        stacks,
                        of,
                        &[],
                        Marks::default(),
                        StackFigures::of(counts, (0, 0)),
                    );
                }
            }
        }
    }

    fn add(
        &self,
        process: usize,
        stacks: &mut ProcessStacks,
        (side, scope, thread): (Side, Option<ScopeId>, Option<u32>),
        sites: &[SiteId],
        marks: Marks,
        figures: StackFigures,
    ) {
        let catalog = &self.report.catalog;
        if !self
            .selection
            .takes(catalog, (side, scope), sites, &figures)
        {
            if self.selection.suppresses(sites) {
                stacks.suppressed.0 += 1;
                stacks.suppressed.1 = stacks.suppressed.1.saturating_add(figures.live_bytes);
            }
            return;
        }
        let start = stacks.paths.len();
        for site in sites {
            let location = self.of_sites[site.index()];
            // A library that calls itself is one step.
            let is_same = stacks.paths.len() > start && stacks.paths.last() == Some(&location);
            if self.by != By::Library || !is_same {
                stacks.paths.push(location);
            }
        }
        stacks
            .paths
            .extend(marks.is_truncated.then_some(self.truncated));
        stacks.paths.extend(self.roots.of(process, scope, thread));
        stacks.rows.push(StackRow {
            side,
            scope,
            thread,
            is_guessed: marks.is_guessed,
            figures,
            path: start as u32..stacks.paths.len() as u32,
        });
    }
}

/// What is to be said of a stack's callers.
#[derive(Clone, Copy, Default)]
struct Marks {
    is_truncated: bool,
    is_guessed: bool,
}

/// What side `c` booked at Rust's shims is Rust's.
fn side_of(catalog: &Catalog, side: Side, innermost: Option<&SiteId>) -> Side {
    match innermost {
        Some(&site) if catalog.place(site).rust_shim => Side::Rust,
        _ => side,
    }
}

fn scope_name<'a>(process: &'a Process, stack: &Stack) -> Option<&'a str> {
    let name = process.scopes.get(stack.scope? as usize)?;
    Some(name)
}

fn check(report: &Report, filter: &Filter, by: By) -> Result<(), Impossible> {
    let tracked = || report.tracked().map(|process| process.stacks);
    let lacks_stacks = tracked().any(|stacks| stacks == Mode::Count);
    let is_by_site =
        filter.scope.is_some() || filter.library.is_some() || !filter.suppressions.is_empty();
    if by == By::Thread && lacks_stacks && is_by_site {
        return Err(Impossible::ThreadsHaveNoSites);
    }
    if by == By::Thread && lacks_stacks && filter.measure == Measure::Peak {
        return Err(Impossible::ThreadsHaveNoPeak);
    }
    let is_sampled = |stacks: Mode| matches!(stacks, Mode::Sample { .. });
    if filter.measure == Measure::Peak && tracked().any(is_sampled) {
        return Err(Impossible::SamplesHaveNoPeak);
    }
    if filter.measure == Measure::Temporary && !tracked().all(|stacks| stacks == Mode::Full) {
        return Err(Impossible::NoTemporaries);
    }
    Ok(())
}
