//! What the page is about, as its scripts read it.

use serde::Serialize;

use super::facts::{
    self, LifetimesData, PressureData, SizesData, ThreadData, TimelineData, TotalsData,
};
use super::misuse::{MisuseData, misuses};
use super::names::{Frames, Functions, Nodes, Paths, Texts};
use super::pack::Table;
use super::rows::{self, SiteRows, StackRows};
use crate::analysis::stacks::Stacks;
use crate::analysis::{By, Measure, ProcessReport, Report, Span, Tree, lives, requests, seconds};
use crate::counts::Side;
use crate::recording::model::{Mode, Process};
use crate::report::phrases;
use crate::report::units::printable;

/// Points of all timelines together, beyond which each is drawn with fewer.
const MOST_POINTS: usize = 40_000;
/// Points of the timeline of several processes together.
const POINTS_OF_ALL: usize = 1_000;
const FEWEST_POINTS: usize = 40;

/// What the page shows first, down to the flame graph, and all its names.
#[derive(Serialize)]
pub(super) struct PageData<'a> {
    heapledger: String,
    command: String,
    outcome: Option<String>,
    is_failure: bool,
    duration_s: f64,
    /// Milliseconds since the epoch; 0 where nobody said.
    recorded_unix_ms: u64,
    warnings: Vec<String>,
    /// What part of the recording rows show, where it is not all.
    narrowing: Option<String>,
    estimates: Option<String>,
    /// Why call sites stand for stacks, though stacks were asked for.
    unsampled: Option<String>,
    suppressed: Suppressed,
    /// How stacks are first put together; null leaves it to the page.
    by: Option<&'static str>,
    measure: &'static str,
    /// All tracked processes together.
    tree: Option<TreeData>,
    processes: Vec<ProcessData>,
    libraries: Vec<LibraryData>,
    scopes: Vec<String>,
    functions: Functions,
    frames: Frames,
    nodes: Nodes,
    places: Table,
    sites: SiteRows,
    stacks: StackRows,
    misuse: Vec<MisuseData>,
    /// Last, because the others fill it.
    texts: Texts<'a>,
    #[serde(skip)]
    pub(super) rest: Rest,
}

/// Columns that nothing is drawn of before the flame graph. They stand at the end of
/// the page, so that a browser need not read them before it shows something.
#[derive(Serialize)]
pub(super) struct Rest {
    places: Table,
    sites: Table,
    stacks: Table,
}

impl Rest {
    /// Takes them out of all columns.
    fn of(
        stacks: &Stacks,
        by: Option<By>,
        places: &mut Table,
        sites: &mut SiteRows,
        stack_rows: &mut StackRows,
    ) -> Rest {
        // Call sites stand for the stacks of who has none.
        let sites_are_first = stacks
            .report
            .tracked()
            .any(|report| report.stacks == Mode::Count);
        let measure = column_of(stacks.filter().measure);
        let is_first = |name: &str| match name {
            "node" | "process" | "side" | "samples" | "live_bytes" => true,
            "scope" => by == Some(By::Scope),
            "thread" => by == Some(By::Thread),
            name => name == measure,
        };
        Rest {
            places: places.put_off(|_| sites_are_first),
            sites: sites.table.put_off(|_| sites_are_first),
            stacks: stack_rows.table.put_off(|name| is_first(name)),
        }
    }
}

/// Gives the column of stacks that a measure sums up.
fn column_of(measure: Measure) -> &'static str {
    match measure {
        Measure::Live => "live_bytes",
        Measure::Allocated => "allocated_bytes",
        Measure::Peak => "peak_bytes",
        Measure::Blocks => "live_blocks",
        Measure::Temporary => "temporary_bytes",
    }
}

impl<'a> PageData<'a> {
    /// Collects it.
    pub(super) fn new(stacks: &'a Stacks<'a>, by: Option<By>) -> PageData<'a> {
        let report = stacks.report;
        let mut texts = Texts::default();
        let mut paths = Paths::new(stacks);
        let (mut sites, mut places) = rows::sites(stacks, &mut texts, &mut paths);
        let misuse = misuses(stacks, &mut texts, &mut paths);
        let mut stack_rows = rows::stacks(stacks, &mut texts, &mut paths);
        let rest = Rest::of(stacks, by, &mut places, &mut sites, &mut stack_rows);
        let outcome = report.outcome();
        let recording = report.recording;
        let scopes = report.catalog.scopes().iter();
        let note = phrases::estimates(report);
        let has_estimates = report
            .tracked()
            .any(|process| !process.stacks.has_exact_stacks());
        PageData {
            heapledger: printable(&recording.start.heapledger),
            command: phrases::command(report.command()),
            outcome: outcome.map(phrases::outcome),
            is_failure: outcome.is_some_and(phrases::is_failure),
            duration_s: Span::of(recording.processes.iter()).duration_s,
            recorded_unix_ms: recording.start.unix_ns / 1_000_000,
            warnings: recording
                .warnings
                .iter()
                .map(|text| printable(text))
                .collect(),
            narrowing: phrases::narrowing(stacks.filter()).map(|text| printable(&text)),
            estimates: note.clone().filter(|_| has_estimates),
            unsampled: note.filter(|_| !has_estimates),
            suppressed: Suppressed::new(report),
            by: by.map(name_of),
            measure: measure_name(stacks.filter().measure),
            tree: TreeData::new(report),
            processes: processes(report, stacks.filter().side),
            libraries: libraries(report),
            scopes: scopes.map(|name| printable(name)).collect(),
            functions: paths.functions,
            frames: paths.frames,
            nodes: paths.nodes,
            places,
            sites,
            stacks: stack_rows,
            misuse,
            texts,
            rest,
        }
    }
}

fn name_of(by: By) -> &'static str {
    match by {
        By::Site => "stack",
        By::Library => "library",
        By::Scope => "scope",
        By::Thread => "thread",
    }
}

fn measure_name(measure: Measure) -> &'static str {
    match measure {
        Measure::Live => "live",
        Measure::Allocated => "allocated",
        Measure::Peak => "peak",
        Measure::Blocks => "blocks",
        Measure::Temporary => "temporary",
    }
}

/// What suppressions left out of the call sites.
#[derive(Serialize)]
struct Suppressed {
    owners: u64,
    live_bytes: i64,
    live_blocks: i64,
}

impl Suppressed {
    fn new(report: &Report) -> Suppressed {
        let suppressed = report.suppressed;
        Suppressed {
            owners: suppressed.owners,
            live_bytes: suppressed.live_bytes,
            live_blocks: suppressed.live_blocks,
        }
    }
}

/// The sum over all tracked processes.
#[derive(Serialize)]
struct TreeData {
    totals: TotalsData,
    sizes: [Option<SizesData>; 2],
    /// Null where nothing was sampled.
    lifetimes: Option<LifetimesData>,
    /// Null where one process alone was tracked, whose own it would repeat.
    timeline: Option<TimelineData>,
    losses: Vec<String>,
    crossed: Option<String>,
    violation_count: u64,
}

impl TreeData {
    fn new(report: &Report) -> Option<TreeData> {
        let tree = Tree::new(report)?;
        let tracked: Vec<&Process> = report.tracked().map(|process| process.process).collect();
        let sizes = SizesData::both(&tree.books, |side| {
            requests(tracked.iter().map(|process| &process.sizes[side.index()]))
        });
        Some(TreeData {
            totals: TotalsData::new(&tree.books),
            sizes,
            lifetimes: lives(
                tracked
                    .iter()
                    .filter_map(|process| process.lifetimes.as_ref()),
            )
            .map(|lifetimes| LifetimesData::new(&lifetimes)),
            timeline: (tracked.len() > 1)
                .then(|| TimelineData::of_moments(&tracked, POINTS_OF_ALL)),
            losses: phrases::losses(&tree.losses),
            crossed: phrases::crossed(&tree.losses),
            violation_count: tree.violation_count,
        })
    }
}

/// One process.
#[derive(Serialize)]
struct ProcessData {
    pid: u32,
    program: String,
    command: String,
    mode: &'static str,
    /// The mode that its stacks are as if from.
    stacks: &'static str,
    outcome: String,
    is_failure: bool,
    started_s: f64,
    duration_s: f64,
    untracked_reason: Option<String>,
    totals: Option<TotalsData>,
    sizes: [Option<SizesData>; 2],
    lifetimes: Option<LifetimesData>,
    /// Seconds from the start of the process.
    peak_at_s: f64,
    /// What the shares of the peak add up to: within an eighth of it.
    captured_live_bytes: i64,
    timeline: TimelineData,
    pressure: Option<PressureData>,
    threads: Vec<ThreadData>,
    losses: Vec<String>,
    notes: Vec<String>,
}

fn processes(report: &Report, side: Option<Side>) -> Vec<ProcessData> {
    let points: usize = report
        .tracked()
        .map(|process| process.process.timeline.len())
        .sum();
    let columns = match points > MOST_POINTS {
        true => Some((MOST_POINTS / report.tracked().count()).max(FEWEST_POINTS)),
        false => None,
    };
    let processes = report.processes.iter();
    processes
        .map(|process| ProcessData::new(process, side, columns))
        .collect()
}

impl ProcessData {
    /// With `side`, threads have that one alone; with `columns`, the timeline has at
    /// most so many points.
    fn new(report: &ProcessReport, side: Option<Side>, columns: Option<usize>) -> ProcessData {
        let process = report.process;
        let books = report.books.as_ref();
        let threads = match books {
            Some(books) if !books.threads.is_empty() => ThreadData::all(process, side),
            _ => Vec::new(),
        };
        let sizes = books.map_or([None, None], |books| {
            SizesData::both(books, |side| process.sizes[side.index()].clone())
        });
        ProcessData {
            pid: process.pid,
            program: printable(phrases::program(process)),
            command: phrases::program_and_args(process),
            mode: process.mode.name(),
            stacks: report.stacks.name(),
            outcome: phrases::outcome(&process.outcome),
            is_failure: phrases::is_failure(&process.outcome),
            started_s: seconds(process.started_s),
            duration_s: seconds(process.duration_s),
            untracked_reason: report.untracked_reason().map(printable),
            totals: books.map(TotalsData::new),
            sizes,
            lifetimes: process.lifetimes.as_ref().map(LifetimesData::new),
            peak_at_s: report.peak.at_s,
            captured_live_bytes: report.peak.captured_live_bytes,
            timeline: match columns {
                Some(columns) if process.timeline.len() > columns => {
                    TimelineData::of_moments(&[process], columns)
                }
                _ => TimelineData::of_readings(process),
            },
            pressure: PressureData::new(process),
            threads,
            losses: facts::losses(report),
            notes: report.notes.iter().map(|note| printable(note)).collect(),
        }
    }
}

#[derive(Serialize)]
struct LibraryData {
    name: String,
    path: Option<String>,
    build_id: Option<String>,
}

fn libraries(report: &Report) -> Vec<LibraryData> {
    let catalog = &report.catalog;
    let libraries = catalog.library_ids().map(|id| catalog.library(id));
    libraries
        .map(|library| LibraryData {
            name: printable(library.name),
            path: library.path.map(printable),
            build_id: library.build_id.clone(),
        })
        .collect()
}
