//! One process's figures.

use std::collections::{BTreeMap, HashSet};

use super::books::{Books, Collector, SiteRow, ThreadRow, size_order};
use super::catalog::Catalog;
use super::invariants::{self, Violations};
use super::misuse::is_real;
use super::sizes::SizeSummary;
use super::timeline::seconds;
use crate::counts::{Counts, Side};
use crate::recording::model::{Misuse, Mode, OwnerEntry, Process};

/// One process, analysed.
#[derive(Debug)]
pub struct ProcessReport<'a> {
    /// As it was recorded.
    pub process: &'a Process,
    /// Who holds what; `None` when it was not tracked.
    pub books: Option<Books<'a>>,
    /// The highest live bytes and who held them.
    pub peak: PeakReport,
    /// Where the books do not add up.
    pub violations: Violations,
    /// Its misuse of the allocator, in the order in which it began; frees of what nobody
    /// saw allocated come last.
    pub misuses: Vec<&'a Misuse>,
    /// What a reader has to know to read the figures rightly.
    pub notes: Vec<String>,
    /// What its stacks are: its mode's, but [`Mode::Count`] where a recording's programs
    /// allocated too little for a single sample. Then call sites stand for stacks, and
    /// are exact.
    pub stacks: Mode,
}

/// The highest live bytes of a process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeakReport {
    /// Both sides together.
    pub live_bytes: i64,
    /// Seconds from the start of the process.
    pub at_s: f64,
    /// Live bytes when the sites' shares were captured; 0 = never.
    pub captured_live_bytes: i64,
    /// Rows of [`Books::sites`] that held something then, the largest first.
    pub sites: Vec<u32>,
}

impl<'a> ProcessReport<'a> {
    pub(crate) fn new(catalog: &Catalog, process: &'a Process) -> ProcessReport<'a> {
        if process.untracked_reason.is_some() {
            return ProcessReport {
                process,
                books: None,
                peak: PeakReport::default(),
                violations: Violations::default(),
                misuses: Vec::new(),
                notes: Vec::new(),
                stacks: process.mode,
            };
        }
        let (mut books, moved) = collect(catalog, process);
        set_sides(&mut books, process, &moved);
        books.threads = threads(process);
        let captured_live_bytes = choose_shares(process, &mut books);
        ProcessReport {
            process,
            peak: peak(process, &books.sites, captured_live_bytes),
            violations: invariants::check(catalog, process, &books),
            misuses: misuses(catalog, process),
            notes: notes(catalog, process, &moved),
            books: Some(books),
            stacks: process.mode,
        }
    }

    /// Gives the rows that made up the peak, the largest first.
    pub fn peak_rows(&self) -> impl ExactSizeIterator<Item = &SiteRow> {
        let sites = self.books.as_ref().map_or(&[][..], |books| &books.sites);
        self.peak.sites.iter().map(|&index| &sites[index as usize])
    }

    /// Gives the reason why there are no books.
    pub fn untracked_reason(&self) -> Option<&'a str> {
        self.process.untracked_reason.as_deref()
    }
}

/// What side `c` booked at Rust's shims, and so for Rust.
#[derive(Default)]
struct Moved {
    owners: usize,
    counts: Counts,
}

fn collect<'a>(catalog: &Catalog, process: &Process) -> (Books<'a>, Moved) {
    let mut collector = Collector::with_capacity(process.owners.len());
    let mut moved = Moved::default();
    for owner in &process.owners {
        let site = catalog
            .site_at(owner.site)
            .unwrap_or(catalog.missing_site());
        let mut side = owner.side;
        if side == Side::C && catalog.place(site).rust_shim {
            side = Side::Rust;
            moved.owners += 1;
            moved.counts += owner.counts;
        }
        let scope = scope_name(process, owner).and_then(|name| catalog.scope_named(name));
        collector.add(SiteRow {
            site,
            side,
            scope,
            counts: owner.counts,
            at_peak: owner.at_peak,
        });
    }
    (collector.finish(catalog), moved)
}

fn scope_name<'a>(process: &'a Process, owner: &OwnerEntry) -> Option<&'a str> {
    process
        .scopes
        .get(owner.scope? as usize)
        .map(String::as_str)
}

/// Gives what each side booked, before Rust's shims change sides.
pub(crate) fn booked(process: &Process) -> [Counts; 2] {
    process
        .owners
        .iter()
        .fold(Default::default(), |mut sums: [Counts; 2], owner| {
            sums[owner.side.index()] += owner.counts;
            sums
        })
}

/// Tells whether a side was watched; recordings that do not say watched both.
pub(crate) fn is_watched(process: &Process, side: Side) -> bool {
    process.hooks == 0 || process.hooks & (1 << side.index()) != 0
}

/// A C program has no Rust side to miss, so Rust's counts as seen wherever C's is.
fn is_seen(process: &Process, side: Side, shown: Counts) -> bool {
    is_watched(process, side)
        || (side == Side::Rust && is_watched(process, Side::C))
        || !shown.is_untouched()
}

fn set_sides(books: &mut Books, process: &Process, moved: &Moved) {
    let peak = process.peak.live_bytes;
    let booked = booked(process);
    books.totals.all.peak_live_bytes = Some(peak[2]);
    for side in Side::ALL {
        let totals = if side == Side::C {
            &mut books.totals.c
        } else {
            &mut books.totals.rust
        };
        let seen = is_seen(process, side, totals.counts.unwrap_or_default());
        totals.counts = totals.counts.filter(|_| seen);
        totals.peak_live_bytes = Some(peak[side.index()]).filter(|_| seen && moved.owners == 0);
        let sizes = &process.sizes[side.index()];
        books.sizes[side.index()] = seen.then(|| SizeSummary::new(sizes, booked[side.index()]));
    }
}

fn threads(process: &Process) -> Vec<ThreadRow<'_>> {
    let mut rows: Vec<_> = process
        .threads
        .iter()
        .map(|thread| ThreadRow {
            pid: process.pid,
            tid: thread.tid,
            name: &thread.name,
            counts: thread.counts.into_iter().sum(),
            sides: thread.counts,
        })
        .collect();
    rows.sort_by_key(|row| size_order(&row.counts));
    rows
}

/// Takes who held what at the end for the shares of the peak, where that is
/// nearer to the peak than what was captured. Gives the sum of the shares.
fn choose_shares(process: &Process, books: &mut Books) -> i64 {
    let captured = process.peak.captured_live_bytes;
    let live = books.sites.iter().map(|row| row.counts.live_bytes);
    let at_end = live.fold(0i64, i64::saturating_add);
    if at_end <= captured {
        return captured;
    }
    for row in &mut books.sites {
        row.at_peak = (row.counts.live_bytes, row.counts.live_blocks);
    }
    at_end
}

fn peak(process: &Process, sites: &[SiteRow], captured_live_bytes: i64) -> PeakReport {
    PeakReport {
        live_bytes: process.peak.live_bytes[2],
        at_s: seconds(process.peak.at_s),
        captured_live_bytes,
        sites: held_at_peak(sites),
    }
}

/// Gives the rows that held something at the peak, the largest first.
pub(crate) fn held_at_peak(sites: &[SiteRow]) -> Vec<u32> {
    let mut held: Vec<u32> = (0..sites.len() as u32)
        .filter(|&index| sites[index as usize].at_peak != (0, 0))
        .collect();
    held.sort_by_key(|&index| std::cmp::Reverse(sites[index as usize].at_peak));
    held
}

fn misuses<'a>(catalog: &Catalog, process: &'a Process) -> Vec<&'a Misuse> {
    let is_shim = |site| {
        let site = catalog.site_at(site);
        site.is_some_and(|site| catalog.place(site).rust_shim)
    };
    let misuses = process.misuses.iter();
    let mut real: Vec<_> = misuses.filter(|misuse| is_real(misuse, is_shim)).collect();
    real.sort_by_key(|misuse| !misuse.kind.is_certain());
    real
}

fn notes(catalog: &Catalog, process: &Process, moved: &Moved) -> Vec<String> {
    let mut notes = Vec::new();
    if moved.owners > 0 {
        notes.push(format!(
            "{} blocks that Rust's standard allocator took from malloc are shown as rust; \
             sizes, timeline and peak by side count them as c",
            moved.counts.allocated_blocks
        ));
    }
    if !is_watched(process, Side::C) {
        notes.push("side c was not watched: only Rust's global allocator is booked".to_owned());
    }
    if process.forked {
        notes.push(
            "began as a fork: what its parent had live then is booked as (inherited)".to_owned(),
        );
    }
    let guessed = process.stacks.iter().filter(|stack| stack.is_guessed);
    let (guessed, all) = (guessed.count(), process.stacks.len());
    if guessed > 0 {
        notes.push(format!(
            "{guessed} of {all} stacks lead through code without unwinding data: \
             callers there were found by frame pointers alone"
        ));
    }
    notes.extend(nameless(catalog, process));
    notes
}

/// Libraries without a name that are named themselves; the rest are counted.
const MOST_NAMELESS: usize = 3;

/// Says of which libraries no call has a name.
fn nameless(catalog: &Catalog, process: &Process) -> Option<String> {
    let owners = process.owners.iter().map(|owner| owner.site);
    let frames = process.stacks.iter().flat_map(|stack| &stack.frames);
    let mut has_name: BTreeMap<&str, bool> = BTreeMap::new();
    let mut is_known = HashSet::new();
    for site in owners.chain(frames.copied()) {
        if !is_known.insert(site) {
            continue;
        }
        let Some(place) = catalog.site_at(site).map(|site| catalog.place(site)) else {
            continue;
        };
        // What the kernel maps, and code that was made, has no file.
        let path = catalog.library(place.library).path;
        if place.has_address && path.is_some_and(|path| path.contains('/')) {
            *has_name.entry(place.library_name).or_default() |= place.symbol.is_some();
        }
    }
    let libraries = has_name.into_iter().filter(|&(_, has_name)| !has_name);
    let libraries: Vec<&str> = libraries.map(|(name, _)| name).collect();
    let (named, others) = libraries.split_at(libraries.len().min(MOST_NAMELESS));
    if named.is_empty() {
        return None;
    }
    let more = match others.len() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    let named = named.join(", ");
    Some(format!(
        "no name is known in {named}{more}: stripped, or the file was gone, was replaced or could not be read"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::Report;
    use super::super::fixture::{self, counts};
    use crate::counts::Side;

    #[test]
    fn libraries_of_which_no_name_is_known_are_said() {
        let said = |recording| {
            let report = Report::new(&recording);
            let notes = &report.processes[0].notes;
            let note = notes
                .iter()
                .find(|note| note.starts_with("no name is known"));
            note.map(|note| note.split(':').next().unwrap().to_owned())
        };
        let mut recording = fixture::with_stacks();
        assert_eq!(said(recording.clone()), None, "each library has some");
        recording.sites[0].symbol = None;
        assert_eq!(
            said(recording.clone()).as_deref(),
            Some("no name is known in libcodec.so.1")
        );
        recording.sites[1].symbol = None;
        assert_eq!(
            said(recording.clone()).as_deref(),
            Some("no name is known in libcodec.so.1"),
            "main, further up a stack, has one"
        );
        recording.sites[2].symbol = None;
        assert_eq!(
            said(recording.clone()).as_deref(),
            Some("no name is known in libcodec.so.1, player")
        );
        for module in 0..4 {
            let mut other = recording.modules[0].clone();
            other.path = format!("/lib/lib{module}.so");
            recording.modules.push(other);
            let mut site = recording.sites[0].clone();
            site.module = Some(recording.modules.len() as u32 - 1);
            recording.sites.push(site);
            let owner = crate::recording::model::OwnerEntry {
                site: recording.sites.len() as u32 - 1,
                ..recording.processes[0].owners[0].clone()
            };
            recording.processes[0].owners.push(owner);
        }
        assert_eq!(
            said(recording).as_deref(),
            Some("no name is known in lib0.so, lib1.so, lib2.so and 3 more")
        );
    }

    #[test]
    fn totals_are_sums_over_the_owners() {
        let recording = fixture::recording();
        let report = Report::new(&recording);
        let totals = report.processes[0].books.as_ref().unwrap().totals;
        assert_eq!(
            totals.c.counts,
            Some(counts((5_000_000, 5_100), (1_000_000, 100)))
        );
        assert_eq!(
            totals.rust.counts,
            Some(counts((300_000, 30), (100_000, 10)))
        );
        assert_eq!(
            totals.all.counts,
            Some(counts((5_300_000, 5_130), (1_100_000, 110)))
        );
        let peaks = totals.named().map(|(_, side)| side.peak_live_bytes);
        assert_eq!(peaks, [Some(4_500_000), Some(250_000), Some(4_700_000)]);
        assert_eq!(report.processes[0].violations.count, 0);
    }

    #[test]
    fn what_rust_took_through_malloc_is_reported_as_rust() {
        let mut recording = fixture::recording();
        recording.sites[0].rust_shim = true;
        let report = Report::new(&recording);
        let process = &report.processes[0];
        let books = process.books.as_ref().unwrap();
        assert_eq!(
            books.totals.c.counts,
            Some(counts((1_000_000, 100), (1_000_000, 100)))
        );
        assert_eq!(
            books.totals.rust.counts,
            Some(counts((4_300_000, 5_030), (100_000, 10)))
        );
        assert_eq!(
            books.totals.rust.peak_live_bytes, None,
            "the peak was taken by the side that booked"
        );
        assert_eq!(books.totals.all.peak_live_bytes, Some(4_700_000));
        assert_eq!(books.sites[0].side, Side::Rust);
        assert_eq!(process.violations.count, 0);
        assert!(
            process.notes[0].starts_with("5000 blocks"),
            "{:?}",
            process.notes
        );
    }

    #[test]
    fn the_peak_names_who_held_it() {
        let recording = fixture::recording();
        let report = Report::new(&recording);
        let held: Vec<_> = report.processes[0]
            .peak_rows()
            .map(|row| row.at_peak.0)
            .collect();
        assert_eq!(held, [3_900_000, 600_000, 200_000]);
    }

    #[test]
    fn an_end_above_the_captured_peak_says_who_held_it() {
        let mut recording = fixture::recording();
        recording.processes[0].peak.captured_live_bytes = 4_000_000;
        let report = Report::new(&recording);
        let process = &report.processes[0];
        assert_eq!(process.peak.captured_live_bytes, 4_200_000);
        let held: i64 = process.peak_rows().map(|row| row.at_peak.0).sum();
        assert_eq!(held, 4_200_000);
    }

    #[test]
    fn an_untracked_process_has_no_books() {
        let mut recording = fixture::recording();
        recording.processes[0].untracked_reason = Some("statically linked".into());
        let report = Report::new(&recording);
        assert!(report.processes[0].books.is_none());
        assert_eq!(
            report.processes[0].untracked_reason(),
            Some("statically linked")
        );
    }

    #[test]
    fn a_side_nobody_watched_has_no_figures() {
        let mut recording = fixture::recording();
        recording.processes[0]
            .owners
            .retain(|owner| owner.side == Side::Rust);
        recording.processes[0].hooks = 2;
        let report = Report::new(&recording);
        let totals = report.processes[0].books.as_ref().unwrap().totals;
        assert_eq!(totals.c.counts, None);
        assert_eq!(totals.all.counts, totals.rust.counts);
    }
}
