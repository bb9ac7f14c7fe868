//! `heapledger.report/1`: the report for programs.

mod facts;
mod misuse;
mod object;
mod pressure;
mod rows;
mod sites;
mod stacks;
#[cfg(test)]
mod tests;

use std::io::{self, BufWriter, Write};
use std::sync::Mutex;

use serde::Serialize;

use self::facts::{FilterJson, LifetimesJson, LossesJson, OutcomeJson, PointJson, SizesJson};
use self::misuse::MisuseJson;
use self::object::{Object, append};
use self::pressure::PressureJson;
use self::rows::{LibraryJson, ScopeJson, ThreadJson, TotalsJson};
use self::sites::Names;
use self::stacks::StackNames;
use crate::analysis::stacks::Stacks;
use crate::analysis::{
    Books, By, Catalog, Filter, ProcessReport, Report, for_each_in_order, seconds,
};
use crate::recording::model::Mode;

/// Name and version of the format.
pub const SCHEMA: &str = "heapledger.report/1";

/// Writes a report, with its stacks as they were recorded.
///
/// # Errors
/// Those of `out`.
pub fn write(report: &Report, out: impl Write) -> io::Result<()> {
    let filter = Filter::default();
    let stacks = Stacks::new(report, &filter, By::Site).map_err(io::Error::other)?;
    write_with(&stacks, out)
}

/// Writes a report and stacks of it, several processes rendered at a time.
///
/// # Errors
/// Those of `out`.
pub fn write_with(stacks: &Stacks, out: impl Write) -> io::Result<()> {
    let report = stacks.report;
    let mut out = BufWriter::with_capacity(1 << 16, out);
    let mut head = Vec::new();
    append(&mut head, &Head::new(report));
    head.pop();
    out.write_all(&head)?;
    out.write_all(b",\"processes\":[")?;
    let names = (Names::new(&report.catalog), StackNames::new(stacks));
    // Fresh memory for every process would cost as much as filling it.
    let used = Mutex::new(Vec::new());
    let take = || {
        used.lock()
            .ok()
            .and_then(|mut used| used.pop())
            .unwrap_or_default()
    };
    let mut separator: &[u8] = b"\n";
    let indices: Vec<usize> = (0..report.processes.len()).collect();
    for_each_in_order(
        &indices,
        |&process| rendered(stacks, &names, process, take()),
        |text| {
            out.write_all(separator)?;
            separator = b",\n";
            out.write_all(&text)?;
            used.lock()
                .map(|mut used| used.push(text))
                .unwrap_or_default();
            Ok::<(), io::Error>(())
        },
    )?;
    out.write_all(b"\n]}\n")?;
    out.flush()
}

fn rendered(
    stacks: &Stacks,
    (names, stack_names): &(Names, StackNames),
    process: usize,
    buffer: Vec<u8>,
) -> Vec<u8> {
    let (catalog, report) = (&stacks.report.catalog, &stacks.report.processes[process]);
    let rows = stacks.of(process);
    let books = report.books.as_ref();
    let sites = books.map_or(&[][..], |books| &books.sites);
    let peak = books.map(|_| &report.peak);
    let mut object = Object::new(buffer);
    object.fields(&ProcessHead::new(catalog, report));
    object.rows("sites", sites.iter(), |out, row| names.site(out, row));
    object.fields(&ProcessMiddle::new(catalog, books));
    object.open("peak");
    object.fields(&PeakHead {
        live_bytes: peak.map(|peak| peak.live_bytes),
        at_s: peak.map(|peak| peak.at_s),
    });
    object.rows("sites", report.peak_rows(), |out, row| {
        names.site_at_peak(out, row)
    });
    object.fields(&PeakTail {
        captured_live_bytes: peak.map(|peak| peak.captured_live_bytes),
    });
    object.close();
    object.fields(&ProcessTimeline::new(report));
    object.rows("stacks", rows.rows.iter(), |out, row| {
        stack_names.stack(out, report.process, &rows, row)
    });
    object.fields(&ProcessTail::new(catalog, report));
    object.end()
}

#[derive(Serialize)]
struct Head<'a> {
    schema: &'static str,
    heapledger: &'a str,
    command: &'a [String],
    warnings: &'a [String],
    filter: Option<FilterJson<'a>>,
}

impl<'a> Head<'a> {
    fn new(report: &'a Report<'a>) -> Head<'a> {
        let recording = report.recording;
        Head {
            schema: SCHEMA,
            heapledger: &recording.start.heapledger,
            command: &recording.start.command,
            warnings: &recording.warnings,
            filter: FilterJson::new(report),
        }
    }
}

/// The fields before the call sites.
#[derive(Serialize)]
struct ProcessHead<'a> {
    pid: u32,
    ppid: u32,
    exe: &'a str,
    args: &'a [String],
    mode: &'static str,
    duration_s: f64,
    outcome: OutcomeJson,
    tracked: bool,
    untracked_reason: Option<&'a str>,
    totals: TotalsJson,
    libraries: Vec<LibraryJson<'a>>,
}

impl<'a> ProcessHead<'a> {
    fn new(catalog: &'a Catalog<'a>, report: &'a ProcessReport<'a>) -> ProcessHead<'a> {
        let process = report.process;
        let books = report.books.as_ref();
        ProcessHead {
            pid: process.pid,
            ppid: process.parent_pid,
            exe: &process.exe,
            args: &process.args,
            mode: process.mode.name(),
            duration_s: seconds(process.duration_s),
            outcome: OutcomeJson::new(&process.outcome),
            tracked: books.is_some(),
            untracked_reason: report.untracked_reason(),
            totals: TotalsJson::new(books),
            libraries: rows(
                books,
                |books| &books.libraries,
                |row| LibraryJson::new(catalog, row),
            ),
        }
    }
}

/// The fields between the call sites and the peak.
#[derive(Serialize)]
struct ProcessMiddle<'a> {
    scopes: Vec<ScopeJson<'a>>,
    threads: Vec<ThreadJson<'a>>,
    sizes: SizesJson,
}

impl<'a> ProcessMiddle<'a> {
    fn new(catalog: &'a Catalog<'a>, books: Option<&'a Books<'a>>) -> ProcessMiddle<'a> {
        ProcessMiddle {
            scopes: rows(
                books,
                |books| &books.scopes,
                |row| ScopeJson::new(catalog, row),
            ),
            threads: rows(books, |books| &books.threads, ThreadJson::new),
            sizes: SizesJson::new(books),
        }
    }
}

#[derive(Serialize)]
struct PeakHead {
    live_bytes: Option<i64>,
    at_s: Option<f64>,
}

#[derive(Serialize)]
struct PeakTail {
    captured_live_bytes: Option<i64>,
}

/// The field between the peak and the stacks.
#[derive(Serialize)]
struct ProcessTimeline {
    timeline: Vec<PointJson>,
}

impl ProcessTimeline {
    fn new(report: &ProcessReport) -> ProcessTimeline {
        let timeline = &report.process.timeline;
        ProcessTimeline {
            timeline: timeline.iter().map(PointJson::new).collect(),
        }
    }
}

/// The fields after the stacks; those after `losses` are ours alone.
#[derive(Serialize)]
struct ProcessTail<'a> {
    pressure: PressureJson<'a>,
    losses: LossesJson,
    violations: &'a [String],
    notes: &'a [String],
    started_s: f64,
    forked: bool,
    stacks_exact: bool,
    sample_bytes: Option<u64>,
    misuse: Vec<MisuseJson<'a>>,
    lifetimes: Option<LifetimesJson>,
}

impl<'a> ProcessTail<'a> {
    fn new(catalog: &'a Catalog<'a>, report: &'a ProcessReport<'a>) -> ProcessTail<'a> {
        let process = report.process;
        ProcessTail {
            pressure: PressureJson::new(&process.pressure),
            losses: LossesJson::new(&process.losses, report.violations.count),
            violations: &report.violations.described,
            notes: &report.notes,
            started_s: seconds(process.started_s),
            forked: process.forked,
            stacks_exact: report.stacks.has_exact_stacks(),
            sample_bytes: match process.mode {
                Mode::Sample { sample_bytes } => Some(sample_bytes),
                Mode::Count | Mode::Full => None,
            },
            misuse: MisuseJson::all(catalog, report),
            lifetimes: process.lifetimes.as_ref().map(LifetimesJson::new),
        }
    }
}

fn rows<'a, T: 'a, R>(
    books: Option<&'a Books<'a>>,
    list: impl Fn(&'a Books<'a>) -> &'a Vec<T>,
    row: impl Fn(&'a T) -> R,
) -> Vec<R> {
    books.map_or_else(Vec::new, |books| list(books).iter().map(row).collect())
}
