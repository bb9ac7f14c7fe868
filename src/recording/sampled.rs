//! Turns the sampled stacks of a ledger into stacks of the recording.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::model::{Lifetimes, Lives, Mode, Stack, StackErrors, StackFigures};
use super::resolve::{Tables, scope_of};
use crate::counts::Side;
use crate::ledger::books::{Books, ThreadBooks, ThreadKind};
use crate::ledger::lifetimes::EndedLives;
use crate::ledger::samples::{Estimate, Extent, Frame, Lived, SampledStack, Samples};

/// More addresses than the stacks of any program have; a ledger may be an enemy's.
const MOST_CALLS: usize = 1 << 20;

/// Says what a ledger knows of each allocation.
pub(super) fn mode(books: &Books) -> Mode {
    let sampled = |samples: &Samples| Mode::Sample {
        sample_bytes: samples.mean_bytes,
    };
    books.samples.as_ref().map_or(Mode::Count, sampled)
}

/// What tells stacks of a recording apart.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    frames: Vec<u32>,
    is_truncated: bool,
    side: Side,
    scope: Option<u32>,
    thread: Option<u32>,
}

/// Gives the stacks of a ledger. Threads that it no longer tells apart have theirs put together.
pub(super) fn stacks(tables: &mut Tables, books: &Books) -> Vec<Stack> {
    let Some(samples) = &books.samples else {
        return Vec::new();
    };
    let threads = Threads::new(books);
    let mut calls = Calls::default();
    let mut order: HashMap<Key, usize> = HashMap::new();
    let mut sums: Vec<(Estimate, Estimate, Lived)> = Vec::new();
    for stack in &samples.stacks {
        let key = Key {
            frames: calls.path(tables, books, stack),
            is_truncated: stack.extent != Extent::Whole,
            side: stack.side,
            scope: scope_of(books, stack.scope),
            thread: threads.index(stack.thread),
        };
        let added = (stack.live, stack.allocated, stack.lived);
        match order.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(sums.len());
                sums.push(added);
            }
            Entry::Occupied(entry) => {
                let sum = &mut sums[*entry.get()];
                sum.0 += added.0;
                sum.1 += added.1;
                sum.2 += added.2;
            }
        }
    }
    let mut keys: Vec<(Key, usize)> = order.into_iter().collect();
    keys.sort_unstable_by_key(|(_, place)| *place);
    keys.into_iter()
        .map(|(key, place)| stack(key, sums[place]))
        .collect()
}

fn stack(key: Key, (live, allocated, lived): (Estimate, Estimate, Lived)) -> Stack {
    Stack {
        frames: key.frames,
        is_truncated: key.is_truncated,
        side: key.side,
        scope: key.scope,
        thread: key.thread,
        figures: StackFigures {
            live_bytes: live.bytes.round() as i64,
            live_blocks: live.blocks.round() as i64,
            allocated_bytes: allocated.bytes.round() as u64,
            allocated_blocks: allocated.blocks.round() as u64,
            samples: allocated.samples,
            short_blocks: lived.short_blocks.round() as u64,
            lived_ns: lived.ns.round() as u128,
            errors: StackErrors {
                live_bytes: live.bytes_error().round() as u64,
                live_blocks: live.blocks_error().round() as u64,
                allocated_bytes: allocated.bytes_error().round() as u64,
                allocated_blocks: allocated.blocks_error().round() as u64,
            },
            ..StackFigures::default()
        },
    }
}

/// Gives how long blocks lived, by the side that booked them.
pub(super) fn lifetimes(books: &Books) -> Option<Lifetimes> {
    let ended: &EndedLives = books.lifetimes.as_ref()?;
    let stacks = &books.samples.as_ref()?.stacks;
    let sides = Side::ALL.map(|side| {
        let ended = &ended.sides[side.index()];
        let of_side = || stacks.iter().filter(|stack| stack.side == side);
        let short_blocks: f64 = of_side().map(|stack| stack.lived.short_blocks).sum();
        let live: Estimate = of_side().map(|stack| stack.live).sum();
        let buckets = ended.buckets.iter();
        Lives {
            buckets: buckets
                .map(|&(longest_ns, blocks)| (longest_ns, blocks.round() as u64))
                .collect(),
            samples: ended.samples,
            longest_ns: ended.longest_ns,
            short_blocks: short_blocks.round() as u64,
            live_blocks: live.blocks.round() as u64,
        }
    });
    Some(Lifetimes {
        step_ns: ended.step_ns,
        sides,
    })
}

/// The calls that were seen, each of which is looked up once.
#[derive(Default)]
struct Calls {
    sites: HashMap<(u64, Option<usize>), u32>,
}

impl Calls {
    /// A stack always has a frame: what has none is of the row for want of room.
    fn path(&mut self, tables: &mut Tables, books: &Books, stack: &SampledStack) -> Vec<u32> {
        if stack.extent == Extent::Overflow || stack.frames.is_empty() {
            return vec![tables.overflow_site()];
        }
        let frames = stack.frames.iter();
        frames
            .map(|frame| self.site(tables, books, frame))
            .collect()
    }

    fn site(&mut self, tables: &mut Tables, books: &Books, frame: &Frame) -> u32 {
        let is_full = self.sites.len() >= MOST_CALLS;
        match self.sites.entry((frame.address, frame.module)) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(_) if is_full => tables.overflow_site(),
            Entry::Vacant(entry) => *entry.insert(tables.call(books, frame.address, frame.module)),
        }
    }
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
