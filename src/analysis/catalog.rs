//! The names behind a recording's indices, equal ones made one.

use std::collections::HashMap;
use std::fmt;

use crate::recording::Recording;
use crate::recording::model::{Inlined, Module, Site};

/// Names a call site in a [`Catalog`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId(pub(crate) u32);

impl SiteId {
    /// Gives the place in [`Catalog::places`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Names a library in a [`Catalog`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LibraryId(pub(crate) u32);

impl LibraryId {
    /// Gives the place in [`Catalog::library_ids`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Names a scope in a [`Catalog`], over all processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopeId(pub(crate) u32);

impl ScopeId {
    /// No scope of any catalog.
    pub(crate) const NONE: ScopeId = ScopeId(u32::MAX);

    /// Gives the place in [`Catalog::scopes`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A library, or what stands in for one where memory was taken outside any file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library<'a> {
    /// File name, or a group in parentheses.
    pub name: &'a str,
    /// Path in the recorded process; `None` for the groups.
    pub path: Option<&'a str>,
    /// Build-id in hex, where the object has one.
    pub build_id: Option<String>,
}

/// A call site with its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The library that it lies in.
    pub library: LibraryId,
    /// Name of that library.
    pub library_name: &'a str,
    /// Function that the call stands in, or the name that memory was charged to.
    pub symbol: Option<&'a str>,
    /// Address in the library's own terms.
    pub offset: u64,
    /// Source file.
    pub file: Option<&'a str>,
    /// Source line.
    pub line: Option<u32>,
    /// Functions that were inlined there, the outermost first.
    pub inlined: &'a [Inlined],
    /// What side `c` booked here is Rust's.
    pub rust_shim: bool,
    /// It has an address; charges and the overflow owner have none.
    pub has_address: bool,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.symbol, self.has_address) {
            (Some(symbol), true) => write!(
                formatter,
                "{symbol} ({}+{:#x})",
                self.library_name, self.offset
            ),
            (None, true) => write!(formatter, "{}+{:#x}", self.library_name, self.offset),
            (Some(symbol), false) => write!(formatter, "{symbol} {}", self.library_name),
            (None, false) => formatter.write_str(self.library_name),
        }
    }
}

const OUTSIDE: LibraryId = LibraryId(0);
const CHARGED: LibraryId = LibraryId(1);
const OVERFLOW: LibraryId = LibraryId(2);
const MISSING: LibraryId = LibraryId(3);
const GROUPS: [&str; 4] = [
    "(outside any file)",
    "(charged)",
    "(no room in the ledger)",
    "(not in the recording)",
];

/// Every call site, library and scope of a recording, each once.
#[derive(Debug)]
pub struct Catalog<'a> {
    places: Vec<Place<'a>>,
    libraries: Vec<Library<'a>>,
    /// From index in the recording to identifier.
    site_ids: Vec<SiteId>,
    scopes: Vec<&'a str>,
    scope_ids: HashMap<&'a str, ScopeId>,
}

impl<'a> Catalog<'a> {
    /// Collects the names of a recording.
    pub fn new(recording: &'a Recording) -> Catalog<'a> {
        let mut libraries: Vec<Library<'a>> = GROUPS
            .iter()
            .map(|name| Library {
                name,
                path: None,
                build_id: None,
            })
            .collect();
        let library_ids = collect_libraries(&recording.modules, &mut libraries);
        let mut catalog = Catalog {
            places: Vec::with_capacity(recording.sites.len() + 1),
            libraries,
            site_ids: Vec::with_capacity(recording.sites.len()),
            scopes: Vec::new(),
            scope_ids: HashMap::new(),
        };
        catalog.collect_sites(&recording.sites, &library_ids);
        for name in recording
            .processes
            .iter()
            .flat_map(|process| &process.scopes)
        {
            catalog.add_scope(name);
        }
        catalog
    }

    /// Gives all call sites, by [`SiteId::index`].
    pub fn places(&self) -> &[Place<'a>] {
        &self.places
    }

    /// Gives all scopes' names, by [`ScopeId::index`].
    pub fn scopes(&self) -> &[&'a str] {
        &self.scopes
    }

    /// Gives a call site's names.
    pub fn place(&self, site: SiteId) -> &Place<'a> {
        &self.places[site.0 as usize]
    }

    /// Gives a library's names.
    pub fn library(&self, library: LibraryId) -> &Library<'a> {
        &self.libraries[library.0 as usize]
    }

    /// Gives a scope's name.
    pub fn scope(&self, scope: ScopeId) -> &'a str {
        self.scopes[scope.0 as usize]
    }

    /// Gives all libraries, those that no call site lies in among them.
    pub fn library_ids(&self) -> impl ExactSizeIterator<Item = LibraryId> + use<> {
        (0..self.libraries.len() as u32).map(LibraryId)
    }

    pub(crate) fn library_count(&self) -> usize {
        self.libraries.len()
    }

    /// Gives the call site at an index of the recording, or `None` where there is none.
    pub(crate) fn site_at(&self, index: u32) -> Option<SiteId> {
        self.site_ids.get(index as usize).copied()
    }

    /// Gives the call site that stands for indices that lead nowhere.
    pub(crate) fn missing_site(&self) -> SiteId {
        SiteId(self.places.len() as u32 - 1)
    }

    /// Tells whether this is memory that was charged by name, and never allocated.
    pub(crate) fn is_charged(&self, site: SiteId) -> bool {
        self.place(site).library == CHARGED
    }

    pub(crate) fn scope_named(&self, name: &str) -> Option<ScopeId> {
        self.scope_ids.get(name).copied()
    }

    fn collect_sites(&mut self, sites: &'a [Site], library_ids: &[LibraryId]) {
        let mut known = HashMap::with_capacity(sites.len());
        for site in sites {
            let place = place_of(site, library_ids, &self.libraries);
            let name = if place.has_address {
                None
            } else {
                place.symbol
            };
            let next = SiteId(self.places.len() as u32);
            let id = *known
                .entry((place.library, place.offset, name))
                .or_insert(next);
            if id == next {
                self.places.push(place);
            }
            self.site_ids.push(id);
        }
        self.places.push(Place {
            library: MISSING,
            library_name: GROUPS[MISSING.0 as usize],
            symbol: None,
            offset: 0,
            file: None,
            line: None,
            inlined: &[],
            rust_shim: false,
            has_address: false,
        });
    }

    fn add_scope(&mut self, name: &'a str) {
        let next = ScopeId(self.scopes.len() as u32);
        if *self.scope_ids.entry(name).or_insert(next) == next {
            self.scopes.push(name);
        }
    }
}

fn collect_libraries<'a>(
    modules: &'a [Module],
    libraries: &mut Vec<Library<'a>>,
) -> Vec<LibraryId> {
    let mut known = HashMap::new();
    modules
        .iter()
        .map(|module| {
            *known.entry(module).or_insert_with(|| {
                let name = Some(module.name())
                    .filter(|name| !name.is_empty())
                    .unwrap_or("(unnamed)");
                let build_id = (!module.build_id.is_empty()).then(|| hex(&module.build_id));
                libraries.push(Library {
                    name,
                    path: Some(&module.path),
                    build_id,
                });
                LibraryId(libraries.len() as u32 - 1)
            })
        })
        .collect()
}

fn place_of<'a>(site: &'a Site, library_ids: &[LibraryId], libraries: &[Library<'a>]) -> Place<'a> {
    let library = match (&site.charged, site.overflow, site.module) {
        (Some(_), ..) => CHARGED,
        (None, true, _) => OVERFLOW,
        (None, false, None) => OUTSIDE,
        (None, false, Some(module)) => library_ids.get(module as usize).copied().unwrap_or(MISSING),
    };
    Place {
        library,
        library_name: libraries[library.0 as usize].name,
        symbol: site.charged.as_deref().or(site.symbol.as_deref()),
        offset: site.offset,
        file: site.file.as_deref(),
        line: site.line,
        inlined: &site.inlined,
        rust_shim: site.rust_shim,
        has_address: library != CHARGED && library != OVERFLOW,
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str, build_id: &[u8]) -> Module {
        Module {
            path: path.into(),
            build_id: build_id.into(),
        }
    }

    #[test]
    fn equal_sites_and_equal_modules_become_one() {
        let recording = Recording {
            modules: vec![
                module("/lib/a.so", &[0xab, 1]),
                module("/lib/a.so", &[0xab, 1]),
                module("/lib/a.so", &[2]),
            ],
            sites: vec![
                Site {
                    module: Some(0),
                    offset: 16,
                    ..Site::default()
                },
                Site {
                    module: Some(1),
                    offset: 16,
                    ..Site::default()
                },
                Site {
                    module: Some(2),
                    offset: 16,
                    ..Site::default()
                },
            ],
            ..Recording::default()
        };
        let catalog = Catalog::new(&recording);
        assert_eq!(catalog.site_at(0), catalog.site_at(1));
        assert_ne!(catalog.site_at(0), catalog.site_at(2));
        let library = catalog.library(catalog.place(catalog.site_at(0).unwrap()).library);
        assert_eq!(library.name, "a.so");
        assert_eq!(library.build_id.as_deref(), Some("ab01"));
    }

    #[test]
    fn what_lies_in_no_library_has_a_group_that_says_so() {
        let sites = vec![
            Site {
                offset: 0x7f00,
                ..Site::default()
            },
            Site {
                charged: Some("gpu".into()),
                ..Site::default()
            },
            Site {
                charged: Some("tls".into()),
                ..Site::default()
            },
            Site {
                overflow: true,
                ..Site::default()
            },
            Site {
                module: Some(9),
                offset: 1,
                ..Site::default()
            },
        ];
        let recording = Recording {
            sites,
            ..Recording::default()
        };
        let catalog = Catalog::new(&recording);
        let shown: Vec<String> = (0..5)
            .map(|index| catalog.place(catalog.site_at(index).unwrap()).to_string())
            .collect();
        assert_eq!(
            shown,
            [
                "(outside any file)+0x7f00",
                "gpu (charged)",
                "tls (charged)",
                "(no room in the ledger)",
                "(not in the recording)+0x1"
            ]
        );
        assert_eq!(catalog.site_at(5), None);
        assert_eq!(
            catalog.place(catalog.missing_site()).to_string(),
            "(not in the recording)"
        );
    }
}
