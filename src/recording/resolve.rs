//! Turns the books of one process into an entry of the recording.
//!
//! Addresses end here: what leaves is a module and an offset in the module's
//! own terms, the same in every process that maps it.

use std::collections::HashMap;
use std::path::PathBuf;

#[cfg(feature = "cli")]
use super::bypass;
use super::model::{
    Losses, Mode, Module, Outcome, OwnerEntry, Peak, Pressure, Process, Site, Sizes, Thread,
    TimelinePoint,
};
use super::{cleanups, exact, paths, sampled};
use crate::counts::{Counts, Side};
use crate::ledger::books::{Books, ModuleInfo, OwnerBooks, SizeCounts, ThreadBooks, ThreadKind};
use crate::ledger::cleanups::NotedCleanup;
use crate::ledger::layout;

/// Name of the row that holds what a forked parent had live.
pub(crate) const INHERITED: &str = "(inherited)";

/// What the recorder saw of a process from outside.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Seconds from the start of the process to its end, or to the last look.
    pub duration_s: f64,
    pub outcome: Outcome,
    pub timeline: Vec<TimelinePoint>,
    pub thread_names: HashMap<u32, String>,
    /// Files that were mapped, where it matters: see [`bypass`].
    pub mapped: Vec<PathBuf>,
    /// Clean-ups that were driven from outside.
    pub pressure: Pressure,
    /// Clean-ups that the process drove by itself, as far as they were seen in time.
    pub noted: Vec<NotedCleanup>,
}

/// The tables that all processes of a recording share.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub modules: Vec<Module>,
    pub sites: Vec<Site>,
    module_index: HashMap<Module, u32>,
    site_index: HashMap<Key, u32>,
}

/// What tells call sites apart before they have symbols.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Code(Option<u32>, u64),
    Charged(String),
    Overflow,
}

impl Tables {
    /// Goes on with the tables of a recording.
    pub(crate) fn with(modules: Vec<Module>, sites: Vec<Site>) -> Tables {
        let module_index = (0u32..)
            .zip(&modules)
            .map(|(index, module)| (module.clone(), index))
            .collect();
        let site_index = (0u32..)
            .zip(&sites)
            .map(|(index, site)| (Key::of(site), index))
            .collect();
        Tables {
            modules,
            sites,
            module_index,
            site_index,
        }
    }

    /// Makes the entry of one process; `start_unix_ns` is when the recording began.
    #[cfg(feature = "cli")]
    pub(crate) fn process(&mut self, books: &Books, seen: Seen, start_unix_ns: u64) -> Process {
        match bypass::reason(books, &seen.mapped) {
            Some(reason) => Process {
                untracked_reason: Some(reason),
                ..known(books, &seen, start_unix_ns)
            },
            None => self.tracked(books, seen, start_unix_ns),
        }
    }

    /// Makes the entry of a process whose books are its own.
    pub(crate) fn tracked(&mut self, books: &Books, seen: Seen, start_unix_ns: u64) -> Process {
        let header = &books.header;
        let owners = books.owners.iter().flatten();
        let owners: Vec<OwnerEntry> = owners
            .filter_map(|owner| self.owner(books, owner))
            .collect();
        let mut process = Process {
            forked: header.flags & layout::FLAG_FORKED != 0,
            hooks: header.hooks,
            owners,
            mode: mode(books),
            lifetimes: sampled::lifetimes(books),
            scopes: books.scopes.clone(),
            threads: books
                .threads
                .iter()
                .map(|row| thread(books, row, &seen.thread_names))
                .collect(),
            sizes: [sizes(&books.sizes[0]), sizes(&books.sizes[1])],
            peak: peak(books, &seen.timeline),
            losses: losses(books),
            ..known(books, &seen, start_unix_ns)
        };
        if let Some(samples) = &books.samples {
            process.stacks = sampled::stacks(self, books, samples);
        }
        if let Some(exact) = &books.exact {
            exact::add(self, books, exact, &mut process);
        }
        process.timeline = seen.timeline;
        process.pressure = cleanups::join(books, seen.pressure, seen.noted);
        process
    }

    /// Takes the call sites of a ledger into the tables, those of its stacks too,
    /// without its figures.
    pub(crate) fn note_sites(&mut self, books: &Books) {
        for owner in books.owners.iter().flatten() {
            self.site(books, owner);
        }
        paths::note_calls(self, books);
    }

    /// Takes over what is known of a module's call sites, and gives which of them
    /// stand in the tables.
    pub(crate) fn adopt_names(&mut self, module: &Module, named: Vec<Site>) -> Vec<u32> {
        let Some(&module) = self.module_index.get(module) else {
            return Vec::new();
        };
        let mut adopted = Vec::with_capacity(named.len());
        for site in named {
            let key = Key::Code(Some(module), site.offset);
            if let Some(&index) = self.site_index.get(&key) {
                let module = Some(module);
                self.sites[index as usize] = Site { module, ..site };
                adopted.push(index);
            }
        }
        adopted
    }

    /// Gives the site that stands for owners which have no row of their own.
    pub(crate) fn overflow_site(&mut self) -> u32 {
        self.intern(Key::Overflow)
    }

    fn owner(&mut self, books: &Books, owner: &OwnerBooks) -> Option<OwnerEntry> {
        let at_peak = owner.at_peak.unwrap_or_default();
        if owner.counts.is_untouched() && at_peak == (0, 0) {
            return None;
        }
        Some(OwnerEntry {
            site: self.site(books, owner),
            side: owner.side,
            scope: scope_of(books, owner.scope),
            counts: owner.counts,
            at_peak,
        })
    }

    fn site(&mut self, books: &Books, owner: &OwnerBooks) -> u32 {
        let key = if owner.kind == layout::OWNER_OVERFLOW {
            Key::Overflow
        } else if let Some(name) = &owner.charged {
            Key::Charged(name.clone())
        } else {
            return self.call(books, owner.call_site, owner.module);
        };
        self.intern(key)
    }

    /// Gives the site of a call: of the address behind it, and the module that the writer named.
    pub(super) fn call(&mut self, books: &Books, address: u64, module: Option<usize>) -> u32 {
        let key = match module_of(books, address, module) {
            Some(module) => {
                let offset = address.wrapping_sub(module.bias);
                Key::Code(Some(self.module(books, module)), offset)
            }
            None => Key::Code(None, address),
        };
        self.intern(key)
    }

    fn intern(&mut self, key: Key) -> u32 {
        let next = self.sites.len() as u32;
        *self.site_index.entry(key).or_insert_with_key(|key| {
            self.sites.push(key.site());
            next
        })
    }

    fn module(&mut self, books: &Books, module: &ModuleInfo) -> u32 {
        let module = named(books, module);
        let next = self.modules.len() as u32;
        *self
            .module_index
            .entry(module)
            .or_insert_with_key(|module| {
                self.modules.push(module.clone());
                next
            })
    }

    /// Gives the place in [`Tables::modules`] of one of a ledger's, if it has one.
    pub(crate) fn module_index(&self, books: &Books, module: &ModuleInfo) -> Option<u32> {
        self.module_index.get(&named(books, module)).copied()
    }
}

fn named(books: &Books, module: &ModuleInfo) -> Module {
    // The loader gives the program itself no name.
    let path = if module.path.is_empty() {
        &books.exe
    } else {
        &module.path
    };
    Module {
        path: path.strip_suffix(" (deleted)").unwrap_or(path).to_owned(),
        build_id: module.build_id.clone(),
    }
}

impl Key {
    fn of(site: &Site) -> Key {
        match &site.charged {
            _ if site.overflow => Key::Overflow,
            Some(name) => Key::Charged(name.clone()),
            None => Key::Code(site.module, site.offset),
        }
    }

    fn site(&self) -> Site {
        match self {
            Key::Code(module, offset) => Site {
                module: *module,
                offset: *offset,
                ..Site::default()
            },
            Key::Charged(name) => Site {
                charged: Some(name.clone()),
                ..Site::default()
            },
            Key::Overflow => Site {
                overflow: true,
                ..Site::default()
            },
        }
    }
}

/// Gives the place of a scope in the tables; a ledger counts from 1, and 0 is none.
pub(super) fn scope_of(books: &Books, scope: u32) -> Option<u32> {
    let index = scope.checked_sub(1)?;
    ((index as usize) < books.scopes.len()).then_some(index)
}

/// Says what a ledger knows of each allocation.
fn mode(books: &Books) -> Mode {
    match (&books.samples, &books.exact) {
        (_, Some(_)) => Mode::Full,
        (Some(samples), None) => Mode::Sample {
            sample_bytes: samples.mean_bytes,
        },
        (None, None) => Mode::Count,
    }
}

/// Gives what is known of a process whether or not it has books.
fn known(books: &Books, seen: &Seen, start_unix_ns: u64) -> Process {
    let header = &books.header;
    Process {
        pid: header.pid,
        parent_pid: header.parent_pid,
        exe: books.exe.clone(),
        args: books.args.clone(),
        started_s: seconds_between(start_unix_ns, header.created_unix_ns),
        duration_s: seen.duration_s,
        outcome: seen.outcome.clone(),
        ..Process::default()
    }
}

/// Finds a site's module: the one the writer named, or the one mapped there.
fn module_of(books: &Books, address: u64, named: Option<usize>) -> Option<&ModuleInfo> {
    // The call is the instruction before the return address, which may be the module's end.
    let call = address.wrapping_sub(1);
    let named = named.and_then(|index| books.modules.get(index)?.as_ref());
    named.or_else(|| {
        books
            .modules
            .iter()
            .flatten()
            .find(|module| (module.start..module.end).contains(&call))
    })
}

/// Gives the seconds from one moment of the wall clock to a later one.
pub(crate) fn seconds_between(earlier_ns: u64, later_ns: u64) -> f64 {
    later_ns.saturating_sub(earlier_ns) as f64 / 1e9
}

fn thread(books: &Books, row: &ThreadBooks, names: &HashMap<u32, String>) -> Thread {
    let name = match row.kind {
        ThreadKind::Ended => "(ended threads)".to_owned(),
        ThreadKind::Shared => "(shared slot)".to_owned(),
        ThreadKind::Inherited => INHERITED.to_owned(),
        ThreadKind::Thread => {
            names
                .get(&row.tid)
                .cloned()
                .unwrap_or_else(|| match books.header.pid {
                    pid if pid == row.tid => main_thread_name(&books.exe),
                    _ => String::new(),
                })
        }
    };
    let tid = if row.kind == ThreadKind::Thread {
        row.tid
    } else {
        0
    };
    Thread {
        tid,
        name,
        counts: row.counts,
    }
}

/// Gives the name that the kernel gives a main thread: the program's, cut to 15 bytes.
fn main_thread_name(exe: &str) -> String {
    let name = exe.rsplit('/').next().unwrap_or(exe);
    name.char_indices()
        .take_while(|(at, letter)| at + letter.len_utf8() <= 15)
        .map(|(_, letter)| letter)
        .collect()
}

fn sizes(counts: &SizeCounts) -> Sizes {
    let buckets = counts
        .buckets
        .iter()
        .enumerate()
        .filter(|&(_, &count)| count > 0);
    Sizes {
        buckets: buckets
            .map(|(index, &count)| (SizeCounts::bucket_end(index), count))
            .collect(),
        max: counts.longest,
    }
}

/// Gives the highest of what the process published and what was seen from outside:
/// the first is late by a quantum a thread, the second misses what lies between looks.
fn peak(books: &Books, timeline: &[TimelinePoint]) -> Peak {
    let header = &books.header;
    let mut live_bytes = header.peak.map(|bytes| bytes.max(0));
    let mut at_s = seconds_between(header.created_mono_ns, header.peak_mono_ns);
    for point in timeline {
        let all = point.c_live_bytes.saturating_add(point.rust_live_bytes);
        live_bytes[0] = live_bytes[0].max(point.c_live_bytes);
        live_bytes[1] = live_bytes[1].max(point.rust_live_bytes);
        if all > live_bytes[2] {
            (live_bytes[2], at_s) = (all, point.t_s);
        }
    }
    let end: [Counts; 2] = Side::ALL.map(|side| books.side(side));
    live_bytes[0] = live_bytes[0].max(end[0].live_bytes);
    live_bytes[1] = live_bytes[1].max(end[1].live_bytes);
    live_bytes[2] = live_bytes[2].max(end[0].live_bytes.saturating_add(end[1].live_bytes));
    let captured_live_bytes = match header.peak_capture {
        capture @ (1 | 2) => header.captured_live[capture as usize - 1],
        _ => 0,
    };
    Peak {
        live_bytes,
        at_s,
        captured_live_bytes,
    }
}

fn losses(books: &Books) -> Losses {
    let header = &books.header;
    Losses {
        foreign_frees: books.foreign_frees,
        crossed_frees: books.crossed_frees,
        owners_overflowed: header.owners_overflowed,
        slots_overflowed: header.slots_overflowed,
        scopes_overflowed: header.scopes_overflowed,
        pages_refused: header.pages_refused,
        children_untracked: header.children_untracked,
        samples_dropped: header.samples_dropped,
        stacks_overflowed: header.stacks_overflowed,
        blocks_unbooked: header.blocks_unbooked,
        misuses_left_out: 0,
    }
}
