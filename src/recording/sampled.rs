//! Turns the sampled stacks of a ledger into stacks of the recording.

use std::ops::AddAssign;

use super::model::{Stack, StackErrors, StackFigures};
use super::paths::{Key, Paths, Row, put_together};
use super::resolve::Tables;
use crate::ledger::books::Books;
use crate::ledger::samples::{Estimate, SampledStack, Samples};

/// What a stack holds, and what it ever allocated.
#[derive(Clone, Copy)]
struct Estimates {
    live: Estimate,
    allocated: Estimate,
}

impl AddAssign for Estimates {
    fn add_assign(&mut self, other: Estimates) {
        self.live += other.live;
        self.allocated += other.allocated;
    }
}

/// Gives the stacks of a ledger. Threads that it no longer tells apart have theirs put together.
pub(super) fn stacks(tables: &mut Tables, books: &Books, samples: &Samples) -> Vec<Stack> {
    let mut paths = Paths::new(books);
    let rows = samples.stacks.iter().map(|stack| {
        let estimates = Estimates {
            live: stack.live,
            allocated: stack.allocated,
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
        frames: &stack.frames,
    }
}

fn stack(key: Key, Estimates { live, allocated }: Estimates) -> Stack {
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
