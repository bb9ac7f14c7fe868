//! What the page's figures are put together from: rows of call sites, and of stacks.
//!
//! A page has room for so many rows. Of a recording with more, the smallest become
//! one row a side and process, so that sums stay exact.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use super::names::{Paths, Texts};
use super::pack::{Column, Table};
use crate::analysis::stacks::{LocationId, ProcessStacks, Stacks};
use crate::analysis::{Place, SiteRow, Tree};
use crate::counts::Side;
use crate::recording::model::{Mode, StackFigures};

/// Rows that a page has room for, of call sites and of stacks each.
const MOST_ROWS: usize = 150_000;
/// Frames of all stacks together that it has room for.
const MOST_NODES: u32 = 600_000;

/// Call sites by place.
#[derive(Default)]
struct Places {
    /// Text of the function's name, from 1.
    symbol: Column,
    library: Column,
    offset: Column,
    has_address: Column,
    /// Text of the source file, from 1.
    file: Column,
    line: Column,
    /// The node that stands for the call site where no stacks are known.
    node: Column,
}

impl Places {
    fn into_table(self) -> Table {
        Table::of([
            ("symbol", self.symbol),
            ("library", self.library),
            ("offset", self.offset),
            ("has_address", self.has_address),
            ("file", self.file),
            ("line", self.line),
            ("node", self.node),
        ])
    }
}

/// Columns that both kinds of rows have.
#[derive(Default)]
struct Columns {
    /// Place in the list of processes.
    process: Column,
    /// 0 = c, 1 = rust.
    side: Column,
    /// Place in the list of scopes, from 1.
    scope: Column,
    live_bytes: Column,
    live_blocks: Column,
    allocated_bytes: Column,
    allocated_blocks: Column,
    peak_bytes: Column,
}

impl Columns {
    fn push(&mut self, process: u32, side: Side, scope: u32, figures: &StackFigures) {
        self.process.push(process);
        self.side.push(side.index() as u32);
        self.scope.push(scope);
        self.live_bytes.push(figures.live_bytes);
        self.live_blocks.push(figures.live_blocks);
        self.allocated_bytes.push(figures.allocated_bytes);
        self.allocated_blocks.push(figures.allocated_blocks);
        self.peak_bytes.push(figures.at_peak.0);
    }

    /// Names them, after some that only one kind of rows has.
    fn into_table(self, own: impl IntoIterator<Item = (&'static str, Column)>) -> Table {
        let shared = [
            ("process", self.process),
            ("side", self.side),
            ("scope", self.scope),
            ("live_bytes", self.live_bytes),
            ("live_blocks", self.live_blocks),
            ("allocated_bytes", self.allocated_bytes),
            ("allocated_blocks", self.allocated_blocks),
            ("peak_bytes", self.peak_bytes),
        ];
        Table::of(own.into_iter().chain(shared))
    }
}

/// Rows of call sites.
#[derive(Serialize, Default)]
pub(super) struct SiteRows {
    /// `place`, and what all rows have.
    #[serde(flatten)]
    pub(super) table: Table,
    /// Rows that became one, for want of room.
    folded: u64,
    /// Figures are sums over all processes, for want of room.
    is_merged: bool,
}

/// Rows of stacks.
#[derive(Serialize)]
pub(super) struct StackRows {
    /// `node`, `thread`, `temporary_bytes`, `samples`, and what all rows have.
    #[serde(flatten)]
    pub(super) table: Table,
    /// Rows that became one, for want of room.
    folded: u64,
    /// Rows that suppressions left out.
    suppressed: u64,
}

/// Columns of stacks under construction.
#[derive(Default)]
struct StackColumns {
    /// As steps: rows that begin alike follow each other.
    node: Column,
    /// Place in the process's list of threads, from 1.
    thread: Column,
    temporary_bytes: Column,
    /// Empty where figures are no estimates.
    samples: Column,
    columns: Columns,
    last_node: u32,
    has_estimates: bool,
}

/// Gives the rows of call sites, and the places that they name.
pub(super) fn sites<'a>(
    stacks: &'a Stacks<'a>,
    texts: &mut Texts<'a>,
    paths: &mut Paths<'a>,
) -> (SiteRows, Table) {
    let report = stacks.report;
    let every = || {
        let processes = (0u32..).zip(&report.processes);
        processes.flat_map(|(index, process)| {
            let sites = process.books.iter().flat_map(|books| &books.sites);
            sites.map(move |row| (index, *row))
        })
    };
    let mut rows = SiteRows::default();
    let mut list: Vec<(u32, SiteRow)> = if every().count() <= MOST_ROWS {
        every().collect()
    } else {
        rows.is_merged = true;
        let merged = Tree::new(report).map(|tree| tree.books.sites);
        merged.into_iter().flatten().map(|row| (0, row)).collect()
    };
    let folded = fold_sites(&mut list);
    let mut columns = Columns::default();
    let mut place_of = Column::default();
    let mut places = PlaceTable::new(stacks);
    for (process, row) in &list {
        let place = places.of(row, texts, paths);
        place_of.push(place);
        let scope = row.scope.map_or(0, |scope| scope.index() as u32 + 1);
        let figures = figures_of(row);
        columns.push(*process, row.side, scope, &figures);
    }
    for ((process, side), (count, figures)) in folded {
        rows.folded += count;
        place_of.push(places.smaller(texts, paths));
        let side = Side::ALL[side];
        columns.push(process, side, 0, &figures);
    }
    rows.table = columns.into_table([("place", place_of)]);
    (rows, places.columns.into_table())
}

fn figures_of(row: &SiteRow) -> StackFigures {
    StackFigures {
        live_bytes: row.counts.live_bytes,
        live_blocks: row.counts.live_blocks,
        allocated_bytes: row.counts.allocated_bytes,
        allocated_blocks: row.counts.allocated_blocks,
        at_peak: row.at_peak,
        ..StackFigures::default()
    }
}

/// By process and side: how many rows, and their figures.
type Folded = BTreeMap<(u32, usize), (u64, StackFigures)>;

fn fold(folded: &mut Folded, process: u32, side: Side, figures: StackFigures) {
    let sum = folded.entry((process, side.index())).or_default();
    sum.0 += 1;
    sum.1 += figures;
}

fn fold_sites(rows: &mut Vec<(u32, SiteRow)>) -> Folded {
    let mut folded = Folded::new();
    if rows.len() > MOST_ROWS {
        rows.sort_by_key(|(_, row)| Reverse(weight(&figures_of(row))));
        for (process, row) in rows.drain(MOST_ROWS..) {
            fold(&mut folded, process, row.side, figures_of(&row));
        }
    }
    folded
}

/// What a row is worth: what it held, or else what went through it.
fn weight(figures: &StackFigures) -> (i64, u64) {
    let held = figures.live_bytes.max(figures.at_peak.0);
    (held, figures.allocated_bytes)
}

/// The places that rows name, each added when the first row does.
struct PlaceTable<'a> {
    stacks: &'a Stacks<'a>,
    columns: Places,
    count: u32,
    /// By place in the catalog; 0 until a row names it.
    from_1: Vec<u32>,
    smaller: Option<u32>,
    /// By place in the catalog.
    locations: Vec<Option<LocationId>>,
}

impl<'a> PlaceTable<'a> {
    fn new(stacks: &'a Stacks<'a>) -> PlaceTable<'a> {
        let places = stacks.report.catalog.places().len();
        let mut locations = vec![None; places];
        for (id, location) in (0..).zip(&stacks.locations) {
            if let Some(site) = location.site {
                locations[site.index()] = Some(id);
            }
        }
        PlaceTable {
            stacks,
            columns: Places::default(),
            count: 0,
            from_1: vec![0; places],
            smaller: None,
            locations,
        }
    }

    fn of(&mut self, row: &SiteRow, texts: &mut Texts<'a>, paths: &mut Paths<'a>) -> u32 {
        let known = self.from_1[row.site.index()];
        if known > 0 {
            return known - 1;
        }
        let stacks = self.stacks;
        let place = stacks.report.catalog.place(row.site);
        let location = self.locations[row.site.index()];
        let node = location.map_or(0, |location| paths.node(texts, &[location]));
        self.from_1[row.site.index()] = self.count + 1;
        self.add(place, node, texts)
    }

    fn add(&mut self, place: &Place<'a>, node: u32, texts: &mut Texts<'a>) -> u32 {
        let columns = &mut self.columns;
        columns.symbol.push(texts.place_from_1(place.symbol));
        columns.library.push(place.library.index() as u32);
        columns.offset.push(place.offset);
        columns.has_address.push(u32::from(place.has_address));
        columns.file.push(texts.place_from_1(place.file));
        columns.line.push(place.line.unwrap_or(0));
        columns.node.push(node);
        self.count += 1;
        self.count - 1
    }

    /// Gives the place that stands for the smallest call sites.
    fn smaller(&mut self, texts: &mut Texts<'a>, paths: &mut Paths<'a>) -> u32 {
        const NAME: &str = "(smaller call sites)";
        if let Some(place) = self.smaller {
            return place;
        }
        let node = paths.plain(texts, NAME);
        let missing = self.stacks.report.catalog.places().last();
        let place = Place {
            symbol: Some(NAME),
            ..missing
                .expect("a catalog has a place for the missing")
                .clone()
        };
        let place = self.add(&place, node, texts);
        self.smaller = Some(place);
        place
    }
}

/// One row of stacks, by process and place.
struct Pick {
    process: u32,
    row: u32,
}

/// Gives the rows of the processes that have stacks.
pub(super) fn stacks<'a>(
    stacks: &'a Stacks<'a>,
    texts: &mut Texts<'a>,
    paths: &mut Paths<'a>,
) -> StackRows {
    const NAME: &str = "(smaller stacks)";
    let processes = stacks.report.processes.iter().enumerate();
    let of_process = processes.map(|(index, report)| match report.stacks {
        Mode::Count => ProcessStacks::default(),
        Mode::Sample { .. } | Mode::Full => stacks.of(index),
    });
    let of_process: Vec<ProcessStacks> = of_process.collect();
    let mut rows = StackColumns {
        has_estimates: stacks
            .report
            .tracked()
            .any(|report| !report.stacks.has_exact_stacks()),
        ..StackColumns::default()
    };
    let mut folded_count = 0;
    let mut folded = Folded::new();
    for (index, pick) in largest_first(&of_process).into_iter().enumerate() {
        let list = &of_process[pick.process as usize];
        let row = &list.rows[pick.row as usize];
        if index >= MOST_ROWS || paths.nodes.count >= MOST_NODES {
            fold(&mut folded, pick.process, row.side, row.figures);
            continue;
        }
        let node = paths.node(texts, list.path(row));
        let scope = row.scope.map_or(0, |scope| scope.index() as u32 + 1);
        let thread = row.thread.map_or(0, |thread| thread + 1);
        rows.push(node, thread, &row.figures);
        let columns = &mut rows.columns;
        columns.push(pick.process, row.side, scope, &row.figures);
    }
    for ((process, side), (count, figures)) in folded {
        folded_count += count;
        let node = paths.plain(texts, NAME);
        rows.push(node, 0, &figures);
        rows.columns.push(process, Side::ALL[side], 0, &figures);
    }
    StackRows {
        table: rows.into_table(),
        folded: folded_count,
        suppressed: of_process.iter().map(|list| list.suppressed.0).sum(),
    }
}

impl StackColumns {
    fn push(&mut self, node: u32, thread: u32, figures: &StackFigures) {
        self.node.push(i64::from(node) - i64::from(self.last_node));
        self.last_node = node;
        self.thread.push(thread);
        self.temporary_bytes.push(figures.temporary.0);
        if self.has_estimates {
            self.samples.push(figures.samples);
        }
    }

    fn into_table(self) -> Table {
        self.columns.into_table([
            ("node", self.node),
            ("thread", self.thread),
            ("temporary_bytes", self.temporary_bytes),
            ("samples", self.samples),
        ])
    }
}

/// Gives all rows, those that are worth most first where not all have room.
fn largest_first(of_process: &[ProcessStacks]) -> Vec<Pick> {
    let figures = |pick: &Pick| of_process[pick.process as usize].rows[pick.row as usize].figures;
    let mut picks: Vec<Pick> = (0u32..)
        .zip(of_process)
        .flat_map(|(process, list)| {
            (0..list.rows.len() as u32).map(move |row| Pick { process, row })
        })
        .collect();
    let length = |list: &ProcessStacks| {
        list.rows
            .iter()
            .map(|row| list.path(row).len())
            .sum::<usize>()
    };
    let frames: usize = of_process.iter().map(length).sum();
    if picks.len() > MOST_ROWS || frames > MOST_NODES as usize {
        picks.sort_by_cached_key(|pick| Reverse(weight(&figures(pick))));
    }
    picks
}
