//! Who holds what: one process's owners, or many processes' together.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::catalog::{Catalog, LibraryId, ScopeId, SiteId};
use super::sizes::SizeSummary;
use crate::counts::{Counts, Side};

/// Figures by owner and by what owners have in common, each list the largest first.
#[derive(Clone, Debug, Default)]
pub struct Books<'a> {
    /// By side and together.
    pub totals: Totals,
    /// By library.
    pub libraries: Vec<LibraryRow>,
    /// By call site, side and scope.
    pub sites: Vec<SiteRow>,
    /// By scope; what was booked outside every scope is in none of them.
    pub scopes: Vec<ScopeRow>,
    /// By thread.
    pub threads: Vec<ThreadRow<'a>>,
    /// Requests by size (index 0 = c, 1 = rust), by the side that booked them;
    /// `None` where that side was not watched.
    pub sizes: [Option<SizeSummary>; 2],
}

/// Sums over all owners.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Side c.
    pub c: SideTotals,
    /// Side rust.
    pub rust: SideTotals,
    /// Both together.
    pub all: SideTotals,
}

/// One side's sums.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SideTotals {
    /// Its counters; `None` where the side was not watched.
    pub counts: Option<Counts>,
    /// Highest live bytes, where known.
    pub peak_live_bytes: Option<i64>,
}

impl Totals {
    /// Names the sums, in the order in which reports show them.
    pub fn named(&self) -> [(&'static str, SideTotals); 3] {
        [("c", self.c), ("rust", self.rust), ("all", self.all)]
    }
}

/// What one library's call sites hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LibraryRow {
    /// The library.
    pub library: LibraryId,
    /// Both sides together.
    pub counts: Counts,
    /// By side (index 0 = c, 1 = rust).
    pub sides: [Counts; 2],
}

/// What one owner holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteRow {
    /// Its call site.
    pub site: SiteId,
    /// The side it belongs to, which for Rust's shims is not the one that booked it.
    pub side: Side,
    /// Its scope.
    pub scope: Option<ScopeId>,
    /// Its counters.
    pub counts: Counts,
    /// Live bytes and blocks when the peak was captured.
    pub at_peak: (i64, i64),
}

/// What was booked within one scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScopeRow {
    /// The scope.
    pub scope: ScopeId,
    /// Both sides together.
    pub counts: Counts,
}

/// What one thread booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadRow<'a> {
    /// Its process.
    pub pid: u32,
    /// Thread id; 0 for a row that stands for several.
    pub tid: u32,
    /// Its name.
    pub name: &'a str,
    /// Both sides together.
    pub counts: Counts,
    /// By side (index 0 = c, 1 = rust), as the side that booked it.
    pub sides: [Counts; 2],
}

/// Collects owners; equal (call site, side, scope) become one row.
pub(crate) struct Collector {
    rows: Vec<SiteRow>,
    index: HashMap<u64, u32, BuildHasherDefault<KeyHasher>>,
}

impl Collector {
    pub(crate) fn with_capacity(owners: usize) -> Collector {
        Collector {
            rows: Vec::with_capacity(owners),
            index: HashMap::with_capacity_and_hasher(owners, BuildHasherDefault::default()),
        }
    }

    pub(crate) fn add(&mut self, row: SiteRow) {
        let scope = row.scope.map_or(0, |scope| u64::from(scope.0) + 1);
        let key = u64::from(row.site.0) << 32 | scope << 1 | row.side.index() as u64;
        let next = self.rows.len() as u32;
        let at = *self.index.entry(key).or_insert(next);
        if at == next {
            return self.rows.push(row);
        }
        let same = &mut self.rows[at as usize];
        same.counts += row.counts;
        same.at_peak.0 = same.at_peak.0.wrapping_add(row.at_peak.0);
        same.at_peak.1 = same.at_peak.1.wrapping_add(row.at_peak.1);
    }

    /// Sorts the rows and sums them up; threads, sizes and peaks are left to the caller.
    pub(crate) fn finish<'a>(self, catalog: &Catalog) -> Books<'a> {
        let sites = largest_first(self.rows);
        let mut sides = [Counts::default(); 2];
        let mut libraries = vec![None; catalog.library_count()];
        let mut scopes = vec![None; catalog.scopes().len()];
        for row in &sites {
            sides[row.side.index()] += row.counts;
            let library = catalog.place(row.site).library;
            let by_library = libraries[library.0 as usize].get_or_insert(LibraryRow {
                library,
                counts: Counts::default(),
                sides: [Counts::default(); 2],
            });
            by_library.counts += row.counts;
            by_library.sides[row.side.index()] += row.counts;
            if let Some(scope) = row.scope {
                let empty = ScopeRow {
                    scope,
                    counts: Counts::default(),
                };
                scopes[scope.0 as usize].get_or_insert(empty).counts += row.counts;
            }
        }
        let mut books = Books {
            sites,
            ..Books::default()
        };
        books.totals.c.counts = Some(sides[0]);
        books.totals.rust.counts = Some(sides[1]);
        books.totals.all.counts = Some(sides.into_iter().sum());
        books.libraries = libraries.into_iter().flatten().collect();
        books.libraries.sort_by_key(|row| size_order(&row.counts));
        books.scopes = scopes.into_iter().flatten().collect();
        books.scopes.sort_by_key(|row| size_order(&row.counts));
        books
    }
}

/// Orders by live bytes, then by allocated bytes, the largest first.
pub(crate) fn size_order(counts: &Counts) -> Reverse<(i64, u64)> {
    Reverse((counts.live_bytes, counts.allocated_bytes))
}

/// Sorts keys instead of the rows, which are four times as long.
fn largest_first(rows: Vec<SiteRow>) -> Vec<SiteRow> {
    let mut order: Vec<_> = rows
        .iter()
        .enumerate()
        .map(|(index, row)| (size_order(&row.counts), index as u32))
        .collect();
    order.sort_unstable();
    order
        .into_iter()
        .map(|(_, index)| rows[index as usize])
        .collect()
}

/// Keys are small dense numbers: one multiplication spreads them well, and a
/// tree of processes looks up a million of them.
#[derive(Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, key: u64) {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let product = (self.0 ^ key).wrapping_mul(ODD);
        self.0 = product ^ (product >> 29);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::Recording;
    use crate::recording::model::{Module, Site};

    fn counts(allocated: u64, freed: u64) -> Counts {
        Counts::new(
            (allocated, allocated / 10),
            (freed, freed / 10),
            allocated,
            0,
        )
    }

    #[test]
    fn equal_owners_merge_and_every_view_has_the_same_sum() {
        let module = |path: &str| Module {
            path: path.into(),
            build_id: vec![],
        };
        let site = |module, offset| Site {
            module: Some(module),
            offset,
            ..Site::default()
        };
        let recording = Recording {
            modules: vec![module("a"), module("b")],
            sites: vec![site(0, 1), site(0, 2), site(1, 1)],
            ..Recording::default()
        };
        let catalog = Catalog::new(&recording);
        let mut collector = Collector::with_capacity(4);
        let owners = [
            (0, Side::C, 100, 40),
            (1, Side::C, 500, 0),
            (0, Side::C, 30, 0),
            (2, Side::Rust, 900, 890),
        ];
        for (site, side, allocated, freed) in owners {
            let counts = counts(allocated, freed);
            collector.add(SiteRow {
                site: SiteId(site),
                side,
                scope: None,
                counts,
                at_peak: (7, 1),
            });
        }
        let books = collector.finish(&catalog);
        let live: Vec<_> = books
            .sites
            .iter()
            .map(|row| (row.site.0, row.counts.live_bytes, row.at_peak))
            .collect();
        assert_eq!(live, [(1, 500, (7, 1)), (0, 90, (14, 2)), (2, 10, (7, 1))]);
        let libraries: Vec<_> = books
            .libraries
            .iter()
            .map(|row| row.counts.live_bytes)
            .collect();
        assert_eq!(libraries, [590, 10]);
        assert_eq!(
            books.libraries[1].sides.map(|counts| counts.live_bytes),
            [0, 10]
        );
        assert_eq!(books.totals.all.counts, Some(counts(1530, 930)));
    }
}
