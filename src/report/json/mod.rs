//! `heapledger.report/1`: the report for programs.

mod facts;
mod object;
mod pressure;
mod rows;
mod sites;
#[cfg(test)]
mod tests;

use std::io::{self, BufWriter, Write};
use std::sync::Mutex;

use serde::Serialize;

use self::facts::{LossesJson, OutcomeJson, PointJson, SizesJson};
use self::object::{Object, append};
use self::pressure::PressureJson;
use self::rows::{LibraryJson, ScopeJson, ThreadJson, TotalsJson};
use self::sites::Names;
use crate::analysis::{Books, Catalog, ProcessReport, Report, for_each_in_order, seconds};
use crate::recording::Recording;

/// Name and version of the format.
pub const SCHEMA: &str = "heapledger.report/1";

/// Writes a report, several processes rendered at a time.
///
/// # Errors
/// Those of `out`.
pub fn write(report: &Report, out: impl Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, out);
    let mut head = Vec::new();
    append(&mut head, &Head::new(report.recording));
    head.pop();
    out.write_all(&head)?;
    out.write_all(b",\"processes\":[")?;
    let names = Names::new(&report.catalog);
    // Fresh memory for every process would cost as much as filling it.
    let used = Mutex::new(Vec::new());
    let take = || {
        used.lock()
            .ok()
            .and_then(|mut used| used.pop())
            .unwrap_or_default()
    };
    let mut separator: &[u8] = b"\n";
    for_each_in_order(
        &report.processes,
        |process| rendered(&report.catalog, &names, process, take()),
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

fn rendered(catalog: &Catalog, names: &Names, report: &ProcessReport, buffer: Vec<u8>) -> Vec<u8> {
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
    object.fields(&ProcessTail::new(report));
    object.end()
}

#[derive(Serialize)]
struct Head<'a> {
    schema: &'static str,
    heapledger: &'a str,
    command: &'a [String],
    warnings: &'a [String],
}

impl<'a> Head<'a> {
    fn new(recording: &'a Recording) -> Head<'a> {
        Head {
            schema: SCHEMA,
            heapledger: &recording.start.heapledger,
            command: &recording.start.command,
            warnings: &recording.warnings,
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
            mode: "count",
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

/// The fields after the peak; those after `losses` are ours alone.
#[derive(Serialize)]
struct ProcessTail<'a> {
    timeline: Vec<PointJson>,
    stacks: [(); 0],
    pressure: PressureJson<'a>,
    losses: LossesJson,
    violations: &'a [String],
    notes: &'a [String],
    started_s: f64,
    forked: bool,
}

impl<'a> ProcessTail<'a> {
    fn new(report: &'a ProcessReport<'a>) -> ProcessTail<'a> {
        let process = report.process;
        ProcessTail {
            timeline: process.timeline.iter().map(PointJson::new).collect(),
            stacks: [],
            pressure: PressureJson::new(&process.pressure),
            losses: LossesJson::new(&process.losses, report.violations.count),
            violations: &report.violations.described,
            notes: &report.notes,
            started_s: seconds(process.started_s),
            forked: process.forked,
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
