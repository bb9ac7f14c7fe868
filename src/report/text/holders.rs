//! Who holds what: libraries, call sites, scopes, threads.

use super::{By, Page};
use crate::analysis::{LibraryRow, Place, SiteRow, ThreadRow};
use crate::counts::Counts;
use crate::report::chart;
use crate::report::phrases;
use crate::report::table::{Column, Table};
use crate::report::units::{count, signed_count, size, unsigned_size};

const BAR_COLUMNS: usize = 8;
/// Lines narrower than this have no room for bars beside names.
const COLUMNS_FOR_BARS: usize = 100;
/// Lines narrower than this say either the address of a call or its source line.
const COLUMNS_FOR_ALL: usize = 130;

/// The columns that say whose a row is, and their cells, row by row.
type Names = (Vec<Column>, Vec<Vec<String>>);

impl Page<'_> {
    /// Gives one table in full.
    pub(super) fn holders(&self, by: By) -> String {
        let (table, what) = match by {
            By::Site => (self.sites(usize::MAX), "call site"),
            By::Library => (self.libraries(usize::MAX), "library"),
            By::Scope => (self.scopes(usize::MAX), "scope"),
            By::Thread => (self.threads(usize::MAX), "thread"),
        };
        match table.is_empty() && self.tree.is_some() {
            true => self.faint(&format!("nothing was booked to any {what}")),
            false => table,
        }
    }

    pub(super) fn libraries(&self, most: usize) -> String {
        let rows = self
            .tree
            .as_ref()
            .map_or(&[][..], |tree| &tree.books.libraries);
        self.section(
            "Libraries",
            most,
            rows,
            |row| row.counts,
            |rows| {
                let cells = |row: &LibraryRow| vec![sides(row).to_owned(), self.library(row)];
                (
                    vec![Column::Word("side"), Column::Name("library")],
                    rows.iter().map(cells).collect(),
                )
            },
        )
    }

    pub(super) fn sites(&self, most: usize) -> String {
        let rows = self.tree.as_ref().map_or(&[][..], |tree| &tree.books.sites);
        self.section(
            "Call sites",
            most,
            rows,
            |row| row.counts,
            |rows| self.site_names(rows),
        )
    }

    pub(super) fn scopes(&self, most: usize) -> String {
        let rows = self
            .tree
            .as_ref()
            .map_or(&[][..], |tree| &tree.books.scopes);
        self.section(
            "Scopes",
            most,
            rows,
            |row| row.counts,
            |rows| {
                let name = |scope| self.report.catalog.scope(scope).to_owned();
                (
                    vec![Column::Name("scope")],
                    rows.iter().map(|row| vec![name(row.scope)]).collect(),
                )
            },
        )
    }

    pub(super) fn threads(&self, most: usize) -> String {
        let rows = self
            .tree
            .as_ref()
            .map_or(&[][..], |tree| &tree.books.threads);
        self.section(
            "Threads",
            most,
            rows,
            |row| row.counts,
            |rows| {
                let tid = |tid| {
                    if tid == 0 {
                        String::new()
                    } else {
                        format!("{tid}")
                    }
                };
                let cells =
                    |row: &ThreadRow| vec![row.pid.to_string(), tid(row.tid), row.name.to_owned()];
                let columns = vec![
                    Column::Figure("pid"),
                    Column::Figure("tid"),
                    Column::Name("thread"),
                ];
                (columns, rows.iter().map(cells).collect())
            },
        )
    }

    /// Names owners: side, function, place in file and source, and scope where any has one.
    pub(super) fn site_names(&self, rows: &[SiteRow]) -> Names {
        let catalog = &self.report.catalog;
        let has_source = self.is_wide()
            && rows
                .iter()
                .any(|row| catalog.place(row.site).file.is_some());
        let has_scope = rows.iter().any(|row| row.scope.is_some());
        let mut columns = vec![
            Column::Word("side"),
            Column::Name("call site"),
            Column::Name("at"),
        ];
        columns.extend(has_source.then_some(Column::Name("source")));
        columns.extend(has_scope.then_some(Column::Name("scope")));
        let cells = |row: &SiteRow| {
            let place = catalog.place(row.site);
            let mut cells = vec![
                row.side.name().to_owned(),
                phrases::place_name(place),
                self.at(place),
            ];
            cells.extend(has_source.then(|| phrases::place_source(place)));
            cells.extend(has_scope.then(|| {
                row.scope
                    .map_or("", |scope| catalog.scope(scope))
                    .to_owned()
            }));
            cells
        };
        (columns, rows.iter().map(cells).collect())
    }

    /// Gives the address; on a narrow line the source says more in less.
    fn at(&self, place: &Place) -> String {
        match self.is_wide() || place.file.is_none() {
            true => phrases::place_address(place),
            false => phrases::place_source(place),
        }
    }

    fn is_wide(&self) -> bool {
        self.style.columns >= COLUMNS_FOR_ALL
    }

    /// Draws a share, where the line has room for it.
    pub(super) fn bar(&self, share: i64, of: i64) -> Option<String> {
        let has_room = self.style.columns >= COLUMNS_FOR_BARS;
        has_room.then(|| chart::bar(share.max(0) as u64, of.max(0) as u64, BAR_COLUMNS))
    }

    /// Makes a table of rows that all have counters: the figures first, then the names.
    fn section<T>(
        &self,
        title: &str,
        most: usize,
        rows: &[T],
        counts: impl Fn(&T) -> Counts,
        names: impl FnOnce(&[T]) -> Names,
    ) -> String {
        let shown = &rows[..rows.len().min(most)];
        if shown.is_empty() {
            return String::new();
        }
        let all = self
            .tree
            .as_ref()
            .and_then(|tree| tree.books.totals.all.counts)
            .unwrap_or_default();
        let (name_columns, cells) = names(shown);
        let mut columns = vec![Column::Figure("live")];
        columns.extend(self.bar(0, 0).map(|_| Column::Word("share")));
        columns.extend(["in blocks", "allocated", "in blocks"].map(Column::Figure));
        columns.extend(name_columns);
        let mut table = Table::new(columns);
        for (row, names) in shown.iter().zip(cells) {
            table.add(
                self.figures(counts(row), all.live_bytes)
                    .into_iter()
                    .chain(names)
                    .collect(),
            );
        }
        self.title_of(title, shown.len(), rows.len()) + &table.render(self.style)
    }

    fn figures(&self, counts: Counts, of: i64) -> Vec<String> {
        let mut cells = vec![size(counts.live_bytes)];
        cells.extend(self.bar(counts.live_bytes, of));
        cells.push(signed_count(counts.live_blocks));
        cells.push(unsigned_size(counts.allocated_bytes));
        cells.push(count(counts.allocated_blocks));
        cells
    }

    fn library(&self, row: &LibraryRow) -> String {
        let library = self.report.catalog.library(row.library);
        library
            .path
            .filter(|path| !path.is_empty())
            .unwrap_or(library.name)
            .to_owned()
    }
}

fn sides(row: &LibraryRow) -> &'static str {
    match row.sides.map(|counts| counts.is_untouched()) {
        [false, false] => "c + rust",
        [true, false] => "rust",
        _ => "c",
    }
}
