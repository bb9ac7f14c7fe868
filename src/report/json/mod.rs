//! `heapledger.report/1`: the report for programs.

mod facts;
mod rows;
#[cfg(test)]
mod tests;

use std::io::{self, BufWriter, Write};

use serde::Serialize;
use serde_json::ser::Formatter;

use self::facts::{LossesJson, OutcomeJson, PointJson, PressureJson, SizesJson};
use self::rows::{LibraryJson, PeakJson, Rows, ScopeJson, ThreadJson, TotalsJson};
use crate::analysis::{Books, Catalog, ProcessReport, Report, SiteRow, for_each_in_order, seconds};
use crate::recording::Recording;

/// Name and version of the format.
pub const SCHEMA: &str = "heapledger.report/1";

/// Writes a report, several processes rendered at a time.
///
/// # Errors
/// Those of `out`.
pub fn write(report: &Report, out: impl Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, out);
    let mut head = rendered(&Head::new(report.recording));
    head.truncate(head.len() - 1);
    out.write_all(&head)?;
    out.write_all(b",\"processes\":[")?;
    let mut separator: &[u8] = b"\n";
    for_each_in_order(
        &report.processes,
        |process| rendered(&ProcessJson::new(&report.catalog, process)),
        |text| {
            out.write_all(separator)?;
            separator = b",\n";
            out.write_all(&text)
        },
    )?;
    out.write_all(b"\n]}\n")?;
    out.flush()
}

/// Starts every element of an array on a line of its own: `diff` and `grep` see rows.
struct RowsOnLines;

impl Formatter for RowsOnLines {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"\n" } else { b",\n" })
    }
}

fn rendered(value: &impl Serialize) -> Vec<u8> {
    let mut text = Vec::with_capacity(1 << 16);
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, RowsOnLines);
    value.serialize(&mut serializer).expect("plain data and a growing buffer cannot fail");
    text
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

#[derive(Serialize)]
struct ProcessJson<'a> {
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
    sites: Rows<'a, SiteRow>,
    scopes: Vec<ScopeJson<'a>>,
    threads: Vec<ThreadJson<'a>>,
    sizes: SizesJson,
    peak: PeakJson<'a>,
    timeline: Vec<PointJson>,
    stacks: [(); 0],
    pressure: PressureJson,
    losses: LossesJson,
    violations: &'a [String],
    notes: &'a [String],
    started_s: f64,
    forked: bool,
}

impl<'a> ProcessJson<'a> {
    fn new(catalog: &'a Catalog<'a>, report: &'a ProcessReport<'a>) -> ProcessJson<'a> {
        let process = report.process;
        let books = report.books.as_ref();
        ProcessJson {
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
            libraries: rows(books, |books| &books.libraries, |row| LibraryJson::new(catalog, row)),
            sites: Rows { catalog, rows: books.map_or(&[], |books| &books.sites) },
            scopes: rows(books, |books| &books.scopes, |row| ScopeJson::new(catalog, row)),
            threads: rows(books, |books| &books.threads, ThreadJson::new),
            sizes: SizesJson::new(books),
            peak: PeakJson { catalog, report },
            timeline: process.timeline.iter().map(PointJson::new).collect(),
            stacks: [],
            pressure: PressureJson::default(),
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

