//! What a process has many of: libraries, call sites, scopes, threads; and their counters.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::analysis::{Books, Catalog, LibraryRow, ProcessReport, ScopeRow, SideTotals, SiteRow, ThreadRow};
use crate::counts::Counts;

#[derive(Serialize)]
pub(super) struct TotalsJson {
    c: SideJson,
    rust: SideJson,
    all: SideJson,
}

impl TotalsJson {
    pub(super) fn new(books: Option<&Books>) -> TotalsJson {
        let totals = books.map_or_else(Default::default, |books| books.totals);
        TotalsJson { c: SideJson(totals.c), rust: SideJson(totals.rust), all: SideJson(totals.all) }
    }
}

/// What was not seen is null, never 0.
struct SideJson(SideTotals);

impl Serialize for SideJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.0.counts {
            Some(counts) => counts_into(&mut map, counts)?,
            None => COUNTS_KEYS.iter().try_for_each(|key| map.serialize_entry(key, &()))?,
        }
        map.serialize_entry("peak_live_bytes", &self.0.peak_live_bytes)?;
        map.end()
    }
}

const COUNTS_KEYS: [&str; 8] = [
    "live_bytes", "live_blocks", "allocated_bytes", "allocated_blocks", "freed_bytes", "freed_blocks", "reallocs",
    "requested_bytes",
];

fn counts_into<M: SerializeMap>(map: &mut M, counts: &Counts) -> Result<(), M::Error> {
    let [live_bytes, live_blocks, allocated_bytes, allocated_blocks, freed_bytes, freed_blocks, reallocs, requested] =
        COUNTS_KEYS;
    map.serialize_entry(live_bytes, &counts.live_bytes)?;
    map.serialize_entry(live_blocks, &counts.live_blocks)?;
    map.serialize_entry(allocated_bytes, &counts.allocated_bytes)?;
    map.serialize_entry(allocated_blocks, &counts.allocated_blocks)?;
    map.serialize_entry(freed_bytes, &counts.freed_bytes)?;
    map.serialize_entry(freed_blocks, &counts.freed_blocks)?;
    map.serialize_entry(reallocs, &counts.reallocs)?;
    map.serialize_entry(requested, &counts.requested_bytes)
}

#[derive(Serialize)]
struct CountsJson {
    live_bytes: i64,
    live_blocks: i64,
    allocated_bytes: u64,
    allocated_blocks: u64,
    freed_bytes: u64,
    freed_blocks: u64,
    reallocs: u64,
    requested_bytes: u64,
}

impl From<Counts> for CountsJson {
    fn from(counts: Counts) -> CountsJson {
        CountsJson {
            live_bytes: counts.live_bytes,
            live_blocks: counts.live_blocks,
            allocated_bytes: counts.allocated_bytes,
            allocated_blocks: counts.allocated_blocks,
            freed_bytes: counts.freed_bytes,
            freed_blocks: counts.freed_blocks,
            reallocs: counts.reallocs,
            requested_bytes: counts.requested_bytes,
        }
    }
}

#[derive(Serialize)]
pub(super) struct LibraryJson<'a> {
    name: &'a str,
    path: Option<&'a str>,
    build_id: Option<&'a str>,
    #[serde(flatten)]
    counts: CountsJson,
}

impl<'a> LibraryJson<'a> {
    pub(super) fn new(catalog: &'a Catalog<'a>, row: &LibraryRow) -> LibraryJson<'a> {
        let library = catalog.library(row.library);
        LibraryJson {
            name: library.name,
            path: library.path,
            build_id: library.build_id.as_deref(),
            counts: row.counts.into(),
        }
    }
}

/// A list that is rendered row by row: there may be a million.
pub(super) struct Rows<'a, T> {
    pub catalog: &'a Catalog<'a>,
    pub rows: &'a [T],
}

impl Serialize for Rows<'_, SiteRow> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.rows.iter().map(|row| SiteJson { catalog: self.catalog, row }))
    }
}

struct SiteJson<'a> {
    catalog: &'a Catalog<'a>,
    row: &'a SiteRow,
}

impl SiteJson<'_> {
    fn names_into<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let place = self.catalog.place(self.row.site);
        map.serialize_entry("library", place.library_name)?;
        map.serialize_entry("symbol", &place.symbol)?;
        map.serialize_entry("offset", &place.offset)?;
        map.serialize_entry("file", &place.file)?;
        map.serialize_entry("line", &place.line)?;
        map.serialize_entry("side", self.row.side.name())?;
        map.serialize_entry("scope", &self.row.scope.map(|scope| self.catalog.scope(scope)))
    }
}

impl Serialize for SiteJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.names_into(&mut map)?;
        counts_into(&mut map, &self.row.counts)?;
        map.end()
    }
}

#[derive(Serialize)]
pub(super) struct ScopeJson<'a> {
    name: &'a str,
    #[serde(flatten)]
    counts: CountsJson,
}

impl<'a> ScopeJson<'a> {
    pub(super) fn new(catalog: &'a Catalog<'a>, row: &ScopeRow) -> ScopeJson<'a> {
        ScopeJson { name: catalog.scope(row.scope), counts: row.counts.into() }
    }
}

#[derive(Serialize)]
pub(super) struct ThreadJson<'a> {
    tid: u32,
    name: &'a str,
    #[serde(flatten)]
    counts: CountsJson,
}

impl<'a> ThreadJson<'a> {
    pub(super) fn new(row: &'a ThreadRow<'a>) -> ThreadJson<'a> {
        ThreadJson { tid: row.tid, name: row.name, counts: row.counts.into() }
    }
}

pub(super) struct PeakJson<'a> {
    pub catalog: &'a Catalog<'a>,
    pub report: &'a ProcessReport<'a>,
}

impl Serialize for PeakJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let peak = Some(&self.report.peak).filter(|_| self.report.books.is_some());
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("live_bytes", &peak.map(|peak| peak.live_bytes))?;
        map.serialize_entry("at_s", &peak.map(|peak| peak.at_s))?;
        map.serialize_entry("sites", &PeakSites(self))?;
        map.serialize_entry("captured_live_bytes", &peak.map(|peak| peak.captured_live_bytes))?;
        map.end()
    }
}

struct PeakSites<'a>(&'a PeakJson<'a>);

impl Serialize for PeakSites<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let PeakJson { catalog, report } = self.0;
        serializer.collect_seq(report.peak_rows().map(|row| PeakSiteJson(SiteJson { catalog, row })))
    }
}

struct PeakSiteJson<'a>(SiteJson<'a>);

impl Serialize for PeakSiteJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.0.names_into(&mut map)?;
        map.serialize_entry("live_bytes", &self.0.row.at_peak.0)?;
        map.serialize_entry("live_blocks", &self.0.row.at_peak.1)?;
        map.end()
    }
}

