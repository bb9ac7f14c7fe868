//! Turns the sampled stacks of a ledger into stacks of the recording.

use std::ops::AddAssign;

use super::model::{Lifetimes, Lives, Stack, StackErrors, StackFigures};
use super::paths::{Key, Paths, Row, put_together};
use super::resolve::Tables;
use crate::counts::Side;
use crate::ledger::books::Books;
use crate::ledger::lifetimes::EndedLives;
use crate::ledger::samples::{Estimate, Lived, SampledStack, Samples};

/// What a stack holds, and what it ever allocated.
#[derive(Clone, Copy)]
struct Estimates {
    live: Estimate,
    allocated: Estimate,
    lived: Lived,
}

impl AddAssign for Estimates {
    fn add_assign(&mut self, other: Estimates) {
        self.live += other.live;
        self.allocated += other.allocated;
        self.lived += other.lived;
    }
}

/// Gives the stacks of a ledger. Threads that it no longer tells apart have theirs put together.
pub(super) fn stacks(tables: &mut Tables, books: &Books, samples: &Samples) -> Vec<Stack> {
    let mut paths = Paths::new(books);
    let rows = samples.stacks.iter().map(|stack| {
        let estimates = Estimates {
            live: stack.live,
            allocated: stack.allocated,
            lived: stack.lived,
        };
        (paths.key(tables, &row(stack)), estimates)
    });
    let rows = put_together(rows);
    rows.into_iter()
        .map(|(key, estimates)| self::stack(key, estimates))
        .collect()
}

fn row(stack: &SampledStack) -> Row<'_> {
    Row {
        side: stack.side,
        scope: stack.scope,
        thread: stack.thread,
        extent: stack.extent,
        guessed: stack.guessed,
        frames: &stack.frames,
    }
}

fn stack(
    key: Key,
    Estimates {
        live,
        allocated,
        lived,
    }: Estimates,
) -> Stack {
    Stack {
        frames: key.frames,
        is_truncated: key.is_truncated,
        is_guessed: key.is_guessed,
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
