//! The names that stacks are made of, each once.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use crate::analysis::Report;
use crate::analysis::catalog::{Catalog, LibraryId, Place, ScopeId, SiteId};

/// Names a location: its place in [`Stacks::locations`](super::Stacks::locations).
pub type LocationId = u32;

/// A function, or what stands in for one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Function<'a> {
    /// Its name, or its address as `libcodec.so.1+0x1234`.
    pub name: Cow<'a, str>,
    /// The library that it lies in; `None` for scopes and threads.
    pub library: Option<LibraryId>,
}

/// A function at one place within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Place in [`Stacks::functions`](super::Stacks::functions).
    pub function: u32,
    /// Source file.
    pub file: Option<&'a str>,
    /// Source line.
    pub line: Option<u32>,
    /// The compiler put it into the frame before it.
    pub is_inlined: bool,
}

/// An address, a library, a scope or a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The call site; `None` where stacks are put together by library, and for roots.
    pub site: Option<SiteId>,
    /// Its frames in [`Stacks::frames`](super::Stacks::frames), the outermost first.
    pub frames: Range<u32>,
}

/// Where stacks begin, if not with their outermost function.
#[derive(Debug)]
pub(super) enum Roots {
    None,
    /// By [`ScopeId::index`], and what lies outside every scope.
    Scopes(Vec<LocationId>, LocationId),
    /// By process and thread, and where no thread is known.
    Threads(Vec<Vec<LocationId>>, LocationId),
}

impl Roots {
    /// Gives the root of a row.
    pub(super) fn of(
        &self,
        process: usize,
        scope: Option<ScopeId>,
        thread: Option<u32>,
    ) -> Option<LocationId> {
        match self {
            Roots::None => None,
            Roots::Scopes(by_scope, outside) => {
                Some(scope.map_or(*outside, |scope| by_scope[scope.index()]))
            }
            Roots::Threads(by_process, unknown) => {
                let row = thread.and_then(|thread| by_process[process].get(thread as usize));
                Some(row.copied().unwrap_or(*unknown))
            }
        }
    }
}

/// Names under construction.
#[derive(Default)]
pub(super) struct Names<'a> {
    pub(super) functions: Vec<Function<'a>>,
    index: HashMap<Function<'a>, u32>,
    pub(super) frames: Vec<Frame<'a>>,
    pub(super) locations: Vec<Location>,
}

impl<'a> Names<'a> {
    pub(super) fn sites(&mut self, catalog: &'a Catalog<'a>) -> Vec<LocationId> {
        let places = catalog.places().iter().enumerate();
        places
            .map(|(index, place)| self.site(SiteId(index as u32), place))
            .collect()
    }

    fn site(&mut self, site: SiteId, place: &'a Place<'a>) -> LocationId {
        let library = Some(place.library);
        let name = match (place.symbol, place.has_address) {
            (Some(symbol), true) => Cow::Borrowed(symbol),
            _ => Cow::Owned(place.to_string()),
        };
        let start = self.frames.len() as u32;
        self.frame(Function { name, library }, (place.file, place.line), false);
        for inlined in place.inlined {
            let name = Cow::Borrowed(inlined.symbol.as_str());
            let source = (inlined.file.as_deref(), inlined.line);
            self.frame(Function { name, library }, source, true);
        }
        self.location(Some(site), start)
    }

    pub(super) fn libraries(&mut self, catalog: &'a Catalog<'a>) -> Vec<LocationId> {
        let libraries: Vec<LocationId> = catalog
            .library_ids()
            .map(|id| {
                let start = self.frames.len() as u32;
                let function = Function {
                    name: Cow::Borrowed(catalog.library(id).name),
                    library: Some(id),
                };
                self.frame(function, (None, None), false);
                self.location(None, start)
            })
            .collect();
        let places = catalog.places().iter();
        places
            .map(|place| libraries[place.library.index()])
            .collect()
    }

    pub(super) fn scopes(&mut self, catalog: &'a Catalog<'a>) -> Roots {
        let scopes = catalog.scopes().iter();
        let by_scope = scopes.map(|name| self.plain(Cow::Borrowed(name))).collect();
        Roots::Scopes(by_scope, self.plain(Cow::Borrowed("(no scope)")))
    }

    /// Threads of one name are one root: a pool of workers is one thing.
    pub(super) fn threads(&mut self, report: &'a Report<'a>) -> Roots {
        let mut known: HashMap<Cow<'a, str>, LocationId> = HashMap::new();
        let mut by_process = Vec::with_capacity(report.processes.len());
        for process in &report.processes {
            let threads = process.process.threads.iter().map(|thread| {
                let name = match thread.name.as_str() {
                    "" => Cow::Owned(format!("thread {}", thread.tid)),
                    name => Cow::Borrowed(name),
                };
                match known.get(&name) {
                    Some(&location) => location,
                    None => {
                        let location = self.plain(name.clone());
                        known.insert(name, location);
                        location
                    }
                }
            });
            by_process.push(threads.collect());
        }
        Roots::Threads(by_process, self.plain(Cow::Borrowed("(thread not known)")))
    }

    /// Adds a location that is no place in any library.
    pub(super) fn plain(&mut self, name: Cow<'a, str>) -> LocationId {
        let start = self.frames.len() as u32;
        let library = None;
        self.frame(Function { name, library }, (None, None), false);
        self.location(None, start)
    }

    fn frame(
        &mut self,
        function: Function<'a>,
        (file, line): (Option<&'a str>, Option<u32>),
        is_inlined: bool,
    ) {
        let next = self.functions.len() as u32;
        let function = *self.index.entry(function).or_insert_with_key(|function| {
            self.functions.push(function.clone());
            next
        });
        self.frames.push(Frame {
            function,
            file,
            line,
            is_inlined,
        });
    }

    fn location(&mut self, site: Option<SiteId>, start: u32) -> LocationId {
        self.locations.push(Location {
            site,
            frames: start..self.frames.len() as u32,
        });
        self.locations.len() as u32 - 1
    }
}
