//! What part of a recording is looked at, the same for every format.

use std::fmt;

use super::books::{Collector, SiteRow};
use super::catalog::{Catalog, Place, ScopeId, SiteId};
use super::suppressions::Suppressions;
use super::{ProcessReport, Report};
use crate::counts::Side;
use crate::recording::model::StackFigures;

/// What figures are put together by: a table of its own in the text report, and
/// in stacks what their frames are or begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// Call sites; stacks as they were.
    #[default]
    Site,
    /// Libraries; stacks of libraries.
    Library,
    /// Scopes; stacks below their scope.
    Scope,
    /// Threads; stacks below their thread.
    Thread,
}

/// The figure that a picture shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Measure {
    /// Bytes held at the end.
    #[default]
    Live,
    /// Bytes ever allocated.
    Allocated,
    /// Bytes held when the peak was captured.
    Peak,
    /// Blocks held at the end.
    Blocks,
    /// Bytes that the same thread's next operation freed.
    Temporary,
}

impl Measure {
    /// Gives the figure of a stack.
    pub fn of(self, figures: &StackFigures) -> i64 {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        match self {
            Measure::Live => figures.live_bytes,
            Measure::Allocated => signed(figures.allocated_bytes),
            Measure::Peak => figures.at_peak.0,
            Measure::Blocks => figures.live_blocks,
            Measure::Temporary => signed(figures.temporary.0),
        }
    }

    /// Gives the bytes of a stack that a smallest size is compared with.
    fn bytes_of(self, figures: &StackFigures) -> i64 {
        match self {
            Measure::Blocks => figures.live_bytes,
            _ => self.of(figures),
        }
    }

    /// Says what is measured: `live bytes`.
    pub fn title(self) -> &'static str {
        match self {
            Measure::Live => "live bytes",
            Measure::Allocated => "allocated bytes",
            Measure::Peak => "bytes at the peak",
            Measure::Blocks => "live blocks",
            Measure::Temporary => "temporary bytes",
        }
    }

    /// Tells whether bytes are measured, and not blocks.
    pub fn is_bytes(self) -> bool {
        self != Measure::Blocks
    }
}

/// What part of a recording is looked at, and by which figure. The default is all of it.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// One side alone.
    pub side: Option<Side>,
    /// What was booked within a scope of this name.
    pub scope: Option<String>,
    /// What was asked for through a library of this name or path: a call site in it,
    /// a stack with a frame in it.
    pub library: Option<String>,
    /// What has at least so many bytes of the measure.
    pub min_bytes: u64,
    /// The figure that counts.
    pub measure: Measure,
    /// What is left out.
    pub suppressions: Suppressions,
    /// A name that the recording does not hold selects nothing, and is no mistake:
    /// of two recordings that are compared, one may not know it.
    pub may_be_absent: bool,
}

/// A name that a recording does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchName {
    what: &'static str,
    name: String,
    known: Vec<String>,
}

impl fmt::Display for NoSuchName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        let NoSuchName { what, name, known } = self;
        write!(formatter, "no {what} `{name}` in this recording")?;
        if known.is_empty() {
            return write!(formatter, ", which has none");
        }
        let shown = &known[..known.len().min(SHOWN)];
        write!(formatter, "; there is {}", shown.join(", "))?;
        match known.len() - shown.len() {
            0 => Ok(()),
            more => write!(formatter, " and {more} more"),
        }
    }
}

impl std::error::Error for NoSuchName {}

impl Filter {
    /// Tells whether rows are left out, so that they may not add up to the totals.
    pub fn is_narrow(&self) -> bool {
        let Filter {
            side,
            scope,
            library,
            min_bytes,
            suppressions,
            ..
        } = self;
        let is_named = side.is_some() || scope.is_some() || library.is_some();
        is_named || *min_bytes > 0 || !suppressions.is_empty()
    }

    /// Finds the names of the filter in a recording.
    ///
    /// # Errors
    /// When the recording holds no such scope or library.
    pub(crate) fn select(&self, catalog: &Catalog) -> Result<Selection<'_>, NoSuchName> {
        Ok(Selection {
            filter: self,
            scope: self.scope_in(catalog)?,
            libraries: self.libraries_in(catalog)?,
            suppressed: self.suppressed_in(catalog),
        })
    }

    fn scope_in(&self, catalog: &Catalog) -> Result<Option<ScopeId>, NoSuchName> {
        let Some(name) = &self.scope else {
            return Ok(None);
        };
        let known = || catalog.scopes().iter().map(|&scope| scope.to_owned());
        match catalog.scope_named(name) {
            Some(scope) => Ok(Some(scope)),
            None if self.may_be_absent => Ok(Some(ScopeId::NONE)),
            None => Err(no_such("scope", name, known().collect())),
        }
    }

    fn libraries_in(&self, catalog: &Catalog) -> Result<Option<Vec<bool>>, NoSuchName> {
        let Some(wanted) = &self.library else {
            return Ok(None);
        };
        let libraries = || catalog.library_ids();
        let is_wanted = |id| {
            let library = catalog.library(id);
            let stem = library.name.split(".so").next();
            library.name == wanted
                || library.path == Some(wanted)
                || (library.path.is_some() && stem == Some(wanted))
        };
        let wanted_ones: Vec<bool> = libraries().map(is_wanted).collect();
        if self.may_be_absent || wanted_ones.contains(&true) {
            return Ok(Some(wanted_ones));
        }
        let mut known: Vec<String> = libraries()
            .map(|id| catalog.library(id))
            .filter(|library| library.path.is_some())
            .map(|library| library.name.to_owned())
            .collect();
        known.dedup();
        Err(no_such("library", wanted, known))
    }

    /// Gives by call site which suppression names it.
    fn suppressed_in(&self, catalog: &Catalog) -> Vec<Option<u32>> {
        if self.suppressions.is_empty() {
            return Vec::new();
        }
        let pattern = |place: &Place| {
            let path = catalog.library(place.library).path;
            let inlined = place.inlined.iter();
            let names = [place.symbol, place.file, path]
                .into_iter()
                .flatten()
                .chain(inlined.flat_map(|inlined| {
                    [Some(inlined.symbol.as_str()), inlined.file.as_deref()]
                        .into_iter()
                        .flatten()
                }));
            self.suppressions.find(names).map(|index| index as u32)
        };
        catalog.places().iter().map(pattern).collect()
    }
}

fn no_such(what: &'static str, name: &str, known: Vec<String>) -> NoSuchName {
    NoSuchName {
        what,
        name: name.to_owned(),
        known,
    }
}

/// A filter whose names were found in a recording.
#[derive(Debug)]
pub(crate) struct Selection<'f> {
    filter: &'f Filter,
    scope: Option<ScopeId>,
    libraries: Option<Vec<bool>>,
    suppressed: Vec<Option<u32>>,
}

impl<'f> Selection<'f> {
    pub(crate) fn filter(&self) -> &'f Filter {
        self.filter
    }

    /// Tells whether what was booked at these call sites, innermost first, is looked at.
    pub(crate) fn takes(
        &self,
        catalog: &Catalog,
        (side, scope): (Side, Option<ScopeId>),
        sites: &[SiteId],
        figures: &StackFigures,
    ) -> bool {
        let filter = self.filter;
        let passes = |libraries: &Vec<bool>| {
            let library = |&site: &SiteId| catalog.place(site).library.index();
            sites.iter().map(library).any(|index| libraries[index])
        };
        let least = i64::try_from(filter.min_bytes).unwrap_or(i64::MAX);
        filter.side.is_none_or(|wanted| wanted == side)
            && self.scope.is_none_or(|wanted| Some(wanted) == scope)
            && self.libraries.as_ref().is_none_or(passes)
            && (least == 0 || filter.measure.bytes_of(figures) >= least)
            && self.suppression_of(sites).is_none()
    }

    /// Tells whether a suppression is why [`Selection::takes`] refuses them, or one of the reasons.
    pub(crate) fn suppresses(&self, sites: &[SiteId]) -> bool {
        self.suppression_of(sites).is_some()
    }

    fn suppression_of(&self, sites: &[SiteId]) -> Option<u32> {
        let mut found = sites.iter().map(|site| self.suppressed.get(site.index()));
        found.find_map(|pattern| pattern.copied().flatten())
    }
}

/// What was left out of a report by its suppressions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suppressed {
    /// Owners that a suppression named.
    pub owners: u64,
    /// Their live bytes.
    pub live_bytes: i64,
    /// Their live blocks.
    pub live_blocks: i64,
}

impl Report<'_> {
    /// Leaves out what a filter leaves out: of call sites, libraries and scopes, and
    /// of the threads' figures the other side. Totals, sizes and timeline stay those
    /// of the whole process.
    ///
    /// # Errors
    /// When the recording holds no such scope or library.
    pub fn narrow(&mut self, filter: &Filter) -> Result<(), NoSuchName> {
        self.filter = filter.clone();
        if !filter.is_narrow() {
            return Ok(());
        }
        let selection = filter.select(&self.catalog)?;
        let mut suppressed = Suppressed::default();
        for process in &mut self.processes {
            narrow(&self.catalog, process, &selection, &mut suppressed);
        }
        self.suppressed = suppressed;
        Ok(())
    }
}

fn narrow(
    catalog: &Catalog,
    report: &mut ProcessReport<'_>,
    selection: &Selection<'_>,
    suppressed: &mut Suppressed,
) {
    let Some(books) = &mut report.books else {
        return;
    };
    let mut collector = Collector::with_capacity(books.sites.len());
    for row in &books.sites {
        let figures = StackFigures::of(&row.counts, row.at_peak);
        if selection.takes(catalog, (row.side, row.scope), &[row.site], &figures) {
            collector.add(*row);
        } else if selection.suppresses(&[row.site]) {
            suppressed.owners += 1;
            suppressed.live_bytes = suppressed.live_bytes.saturating_add(figures.live_bytes);
            suppressed.live_blocks = suppressed.live_blocks.saturating_add(figures.live_blocks);
        }
    }
    // The threads' figures are those of the side that booked.
    let is_shim = |row: &SiteRow| catalog.place(row.site).rust_shim;
    let has_moved = selection.filter.side.is_some() && books.sites.iter().any(is_shim);
    let narrowed = collector.finish(catalog);
    books.sites = narrowed.sites;
    books.libraries = narrowed.libraries;
    books.scopes = narrowed.scopes;
    narrow_threads(report, selection, has_moved);
    narrow_peak(report);
}

/// Threads are known by side alone.
fn narrow_threads(report: &mut ProcessReport<'_>, selection: &Selection<'_>, has_moved: bool) {
    let filter = selection.filter;
    let Some(books) = &mut report.books else {
        return;
    };
    let is_by_site =
        filter.scope.is_some() || filter.library.is_some() || !filter.suppressions.is_empty();
    if is_by_site || has_moved {
        books.threads.clear();
    }
    if let Some(side) = filter.side {
        for row in &mut books.threads {
            row.counts = row.sides[side.index()];
        }
        books
            .threads
            .sort_by_key(|row| super::books::size_order(&row.counts));
    }
}

fn narrow_peak(report: &mut ProcessReport<'_>) {
    let sites: &[SiteRow] = report.books.as_ref().map_or(&[], |books| &books.sites);
    report.peak.sites = super::process::held_at_peak(sites);
}
