//! The way from the stacks of a ledger to those of a recording, whatever they count.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::ops::AddAssign;

use super::resolve::{Tables, scope_of};
use crate::counts::Side;
use crate::ledger::books::{Books, ThreadBooks, ThreadKind};
use crate::ledger::stacks::{Extent, Frame};

/// More addresses than the stacks of any program have; a ledger may be an enemy's.
const MOST_CALLS: usize = 1 << 20;

/// What tells stacks of a recording apart.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub frames: Vec<u32>,
    pub is_truncated: bool,
    pub is_guessed: bool,
    pub side: Side,
    pub scope: Option<u32>,
    pub thread: Option<u32>,
}

/// A stack as a ledger has it.
pub(super) struct Row<'a> {
    pub side: Side,
    pub scope: u32,
    pub thread: u32,
    pub extent: Extent,
    pub guessed: bool,
    pub frames: &'a [Frame],
}

/// The stacks of one ledger, as they become those of a recording.
pub(super) struct Paths<'a> {
    books: &'a Books,
    threads: Threads,
    /// The calls that were seen, each of which is looked up once.
    sites: HashMap<(u64, Option<usize>), u32>,
}

impl<'a> Paths<'a> {
    pub(super) fn new(books: &'a Books) -> Paths<'a> {
        Paths {
            books,
            threads: Threads::new(books),
            sites: HashMap::new(),
        }
    }

    pub(super) fn key(&mut self, tables: &mut Tables, row: &Row) -> Key {
        Key {
            frames: self.path(tables, row.extent, row.frames),
            is_truncated: row.extent != Extent::Whole,
            is_guessed: row.guessed,
            side: row.side,
            scope: scope_of(self.books, row.scope),
            thread: self.threads.index(row.thread),
        }
    }

    /// A stack always has a frame: what has none is of the row for want of room.
    pub(super) fn path(
        &mut self,
        tables: &mut Tables,
        extent: Extent,
        frames: &[Frame],
    ) -> Vec<u32> {
        if extent == Extent::Overflow || frames.is_empty() {
            return vec![tables.overflow_site()];
        }
        frames
            .iter()
            .map(|frame| self.site(tables, frame))
            .collect()
    }

    fn site(&mut self, tables: &mut Tables, frame: &Frame) -> u32 {
        let is_full = self.sites.len() >= MOST_CALLS;
        match self.sites.entry((frame.address, frame.module)) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(_) if is_full => tables.overflow_site(),
            Entry::Vacant(entry) => {
                *entry.insert(tables.call(self.books, frame.address, frame.module))
            }
        }
    }
}

/// Takes the calls of a ledger's stacks into the tables.
pub(super) fn note_calls(tables: &mut Tables, books: &Books) {
    let mut paths = Paths::new(books);
    for stack in books.samples.iter().flat_map(|samples| &samples.stacks) {
        paths.path(tables, stack.extent, &stack.frames);
    }
    for stack in books.exact.iter().flat_map(|exact| &exact.stacks) {
        paths.path(tables, stack.extent, &stack.frames);
    }
}

/// Puts stacks together that a recording does not tell apart, as those of threads whose
/// slots others took over. They keep the order in which they came.
pub(super) fn put_together<T: AddAssign>(stacks: impl Iterator<Item = (Key, T)>) -> Vec<(Key, T)> {
    let mut order: HashMap<Key, usize> = HashMap::new();
    let mut sums: Vec<T> = Vec::new();
    for (key, figures) in stacks {
        match order.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(sums.len());
                sums.push(figures);
            }
            Entry::Occupied(entry) => sums[*entry.get()] += figures,
        }
    }
    let mut keys: Vec<(Key, usize)> = order.into_iter().collect();
    keys.sort_unstable_by_key(|(_, place)| *place);
    keys.into_iter().map(|(key, _)| key).zip(sums).collect()
}

/// Rows of threads by the kernel's identifier.
struct Threads {
    by_tid: HashMap<u32, u32>,
    /// The only row that stands for threads without one.
    rest: Option<u32>,
}

impl Threads {
    fn new(books: &Books) -> Threads {
        let rows = || (0u32..).zip(&books.threads);
        let is_thread = |row: &ThreadBooks| row.kind == ThreadKind::Thread;
        let by_tid = rows().filter(|(_, row)| is_thread(row));
        let mut rests =
            rows().filter(|(_, row)| matches!(row.kind, ThreadKind::Ended | ThreadKind::Inherited));
        let rest = rests.next().map(|(index, _)| index);
        Threads {
            by_tid: by_tid.map(|(index, row)| (row.tid, index)).collect(),
            rest: rest.filter(|_| rests.next().is_none()),
        }
    }

    fn index(&self, tid: u32) -> Option<u32> {
        self.by_tid.get(&tid).copied().or(self.rest)
    }
}
