//! Totals, and rows of libraries, scopes and threads.

use serde::Serialize;

use crate::analysis::{Books, Catalog, LibraryRow, ScopeRow, SideTotals, ThreadRow};
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
        TotalsJson {
            c: SideJson::new(totals.c),
            rust: SideJson::new(totals.rust),
            all: SideJson::new(totals.all),
        }
    }
}

/// What was not seen is null, never 0.
#[derive(Serialize)]
struct SideJson {
    live_bytes: Option<i64>,
    live_blocks: Option<i64>,
    allocated_bytes: Option<u64>,
    allocated_blocks: Option<u64>,
    freed_bytes: Option<u64>,
    freed_blocks: Option<u64>,
    reallocs: Option<u64>,
    requested_bytes: Option<u64>,
    peak_live_bytes: Option<i64>,
}

impl SideJson {
    fn new(side: SideTotals) -> SideJson {
        SideJson {
            live_bytes: side.counts.map(|counts| counts.live_bytes),
            live_blocks: side.counts.map(|counts| counts.live_blocks),
            allocated_bytes: side.counts.map(|counts| counts.allocated_bytes),
            allocated_blocks: side.counts.map(|counts| counts.allocated_blocks),
            freed_bytes: side.counts.map(|counts| counts.freed_bytes),
            freed_blocks: side.counts.map(|counts| counts.freed_blocks),
            reallocs: side.counts.map(|counts| counts.reallocs),
            requested_bytes: side.counts.map(|counts| counts.requested_bytes),
            peak_live_bytes: side.peak_live_bytes,
        }
    }
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

#[derive(Serialize)]
pub(super) struct ScopeJson<'a> {
    name: &'a str,
    #[serde(flatten)]
    counts: CountsJson,
}

impl<'a> ScopeJson<'a> {
    pub(super) fn new(catalog: &'a Catalog<'a>, row: &ScopeRow) -> ScopeJson<'a> {
        ScopeJson {
            name: catalog.scope(row.scope),
            counts: row.counts.into(),
        }
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
        ThreadJson {
            tid: row.tid,
            name: row.name,
            counts: row.counts.into(),
        }
    }
}
