//! Turns what mode full keeps in a ledger into stacks and misuse of the recording.

use std::collections::HashMap;

use super::model::{
    Misuse, MisuseKind, MisuseStack, OwnerEntry, Peak, Process, Stack, StackFigures,
};
use super::paths::{Key, Paths, Row, put_together};
use super::resolve::{Tables, seconds_between};
use crate::counts::Side;
use crate::ledger::books::Books;
use crate::ledger::exact::{self, Amount, Exact, ExactStack, MisusedCall};
use crate::ledger::stacks::Extent;

/// Adds stacks, misuse and the exact peak to what is known of a process.
pub(super) fn add(tables: &mut Tables, books: &Books, exact: &Exact, process: &mut Process) {
    let mut paths = Paths::new(books);
    process.stacks = stacks(tables, &mut paths, exact);
    let misuses = exact.misuses.iter();
    process.misuses = misuses
        .map(|record| misuse(tables, &mut paths, (books, exact), record))
        .collect();
    process.losses.misuses_left_out = exact.misuses_left_out;
    // Where there was no room for a stack the process has counted it itself.
    let under_way = process.under_way();
    let dropped = &mut process.losses.samples_dropped;
    let missing = without_stack(tables, &process.owners, &process.stacks).saturating_sub(*dropped);
    if missing > under_way {
        *dropped = dropped.saturating_add(missing);
    }
    process.losses.foreign_frees = still_foreign(process);
    let has_charges = books
        .owners
        .iter()
        .flatten()
        .any(|owner| owner.charged.is_some());
    if !has_charges && share_peak(&process.stacks, &mut process.owners) {
        set_peak(&mut process.peak, &process.stacks, exact);
    }
}

/// Gives how many frees are of blocks that were never seen: a block that was freed twice
/// was seen, and what is no block could not be.
fn still_foreign(process: &Process) -> u64 {
    let explained = process
        .misuses
        .iter()
        .filter(|misuse| {
            matches!(
                misuse.kind,
                MisuseKind::DoubleFree | MisuseKind::FreeOfUnknown
            )
        })
        .fold(0, |sum: u64, misuse| sum.saturating_add(misuse.count));
    process.losses.foreign_frees.saturating_sub(explained)
}

/// Counts the blocks that owners have and no stack has: a handler jumped out of their
/// allocation before the second of its two entries was made, and did not come back.
fn without_stack(tables: &Tables, owners: &[OwnerEntry], stacks: &[Stack]) -> u64 {
    let missing = Side::ALL.map(|side| {
        let is_real = |owner: &&OwnerEntry| {
            let site = tables.sites.get(owner.site as usize);
            owner.side == side && site.is_none_or(|site| site.charged.is_none())
        };
        let owners = owners.iter().filter(is_real);
        let owned = owners.map(|owner| owner.counts.allocated_blocks);
        let stacks = stacks.iter().filter(|stack| stack.side == side);
        let known = stacks.map(|stack| stack.figures.allocated_blocks);
        let known = known.fold(0, u64::saturating_add);
        owned.fold(0, u64::saturating_add).saturating_sub(known)
    });
    missing.into_iter().fold(0, u64::saturating_add)
}

/// Gives the stacks of a ledger. Threads that it no longer tells apart have theirs put together.
fn stacks(tables: &mut Tables, paths: &mut Paths, exact: &Exact) -> Vec<Stack> {
    let allocating = exact
        .stacks
        .iter()
        .filter(|stack| stack.allocated.blocks > 0);
    let rows = allocating.map(|stack| (paths.key(tables, &row(stack)), figures(stack)));
    put_together(rows)
        .into_iter()
        .map(|(key, figures)| {
            let Key {
                frames,
                is_truncated,
                is_guessed,
                side,
                scope,
                thread,
            } = key;
            Stack {
                frames,
                is_truncated,
                is_guessed,
                side,
                scope,
                thread,
                figures,
            }
        })
        .collect()
}

fn row(stack: &ExactStack) -> Row<'_> {
    Row {
        side: stack.side,
        scope: stack.scope,
        thread: stack.thread,
        extent: stack.extent,
        guessed: stack.guessed,
        frames: &stack.frames,
    }
}

fn figures(stack: &ExactStack) -> StackFigures {
    let live = signed(stack.live());
    StackFigures {
        live_bytes: live.0,
        live_blocks: live.1,
        allocated_bytes: stack.allocated.bytes,
        allocated_blocks: stack.allocated.blocks,
        at_peak: signed(stack.at_peak),
        temporary: (stack.temporary.bytes, stack.temporary.blocks),
        samples: stack.allocated.blocks,
        ..StackFigures::default()
    }
}

/// Bytes and blocks as other figures have them: a ledger may be an enemy's.
fn signed(amount: Amount) -> (i64, i64) {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    (signed(amount.bytes), signed(amount.blocks))
}

fn misuse(
    tables: &mut Tables,
    paths: &mut Paths,
    (books, exact): (&Books, &Exact),
    record: &exact::Misuse,
) -> Misuse {
    let mut end = |index: Option<usize>| {
        let stack = exact.stacks.get(index?)?;
        Some(MisuseStack {
            frames: paths.path(tables, stack.extent, &stack.frames),
            is_truncated: stack.extent != Extent::Whole,
            tid: stack.thread,
        })
    };
    Misuse {
        kind: kind(record.kind),
        may_be_right: record.may_be_right,
        address: record.block,
        is_realloc: record.call == MisusedCall::Realloc,
        bytes: record.bytes,
        inside_bytes: record.inside,
        said_bytes: record.said_bytes,
        tid: record.thread,
        t_s: seconds_between(books.header.created_mono_ns, record.mono_ns),
        count: record.count,
        allocated: end(record.allocated),
        first_freed: end(record.freed),
        freed: end(record.called),
    }
}

fn kind(kind: exact::MisuseKind) -> MisuseKind {
    match kind {
        exact::MisuseKind::DoubleFree => MisuseKind::DoubleFree,
        exact::MisuseKind::NeverAllocated => MisuseKind::FreeOfUnknown,
        exact::MisuseKind::NeverSeen => MisuseKind::FreeOfUnseen,
        exact::MisuseKind::RustByC => MisuseKind::RustFreedByC,
        exact::MisuseKind::CByRust => MisuseKind::CFreedByRust,
        exact::MisuseKind::OtherSize => MisuseKind::OtherSize,
    }
}

/// Gives each owner its share of the peak from its stacks, which know it exactly. False,
/// and nothing is changed, where a stack's call site is no owner's.
fn share_peak(stacks: &[Stack], owners: &mut [OwnerEntry]) -> bool {
    let mut shares: HashMap<(u32, Side, Option<u32>), (i64, i64)> = HashMap::new();
    for stack in stacks {
        let share = shares
            .entry((stack.frames[0], stack.side, stack.scope))
            .or_default();
        share.0 = share.0.saturating_add(stack.figures.at_peak.0);
        share.1 = share.1.saturating_add(stack.figures.at_peak.1);
    }
    let mut of_owners: Vec<(i64, i64)> = Vec::with_capacity(owners.len());
    for owner in owners.iter() {
        let share = shares.remove(&(owner.site, owner.side, owner.scope));
        of_owners.push(share.unwrap_or_default());
    }
    if shares.values().any(|&share| share != (0, 0)) {
        return false;
    }
    for (owner, share) in owners.iter_mut().zip(of_owners) {
        owner.at_peak = share;
    }
    true
}

fn set_peak(peak: &mut Peak, stacks: &[Stack], exact: &Exact) {
    let held = stacks.iter().map(|stack| stack.figures.at_peak.0);
    peak.captured_live_bytes = held.fold(0, i64::saturating_add);
    peak.live_bytes[2] = i64::try_from(exact.most_bytes).unwrap_or(i64::MAX);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::Counts;

    fn stack(site: u32, scope: Option<u32>, at_peak: (i64, i64)) -> Stack {
        Stack {
            frames: vec![site, 9],
            is_truncated: false,
            is_guessed: false,
            side: Side::C,
            scope,
            thread: None,
            figures: StackFigures {
                at_peak,
                ..StackFigures::default()
            },
        }
    }

    fn owner(site: u32, scope: Option<u32>) -> OwnerEntry {
        OwnerEntry {
            site,
            side: Side::C,
            scope,
            counts: Counts::default(),
            at_peak: (7, 7),
        }
    }

    fn shares(owners: &[OwnerEntry]) -> Vec<(i64, i64)> {
        owners.iter().map(|owner| owner.at_peak).collect()
    }

    #[test]
    fn owners_held_at_the_peak_what_their_stacks_held() {
        let stacks = [
            stack(1, None, (100, 1)),
            stack(1, None, (50, 2)),
            stack(1, Some(0), (8, 1)),
        ];
        let mut owners = [owner(1, None), owner(1, Some(0)), owner(2, None)];
        assert!(share_peak(&stacks, &mut owners));
        assert_eq!(shares(&owners), [(150, 3), (8, 1), (0, 0)]);
    }

    #[test]
    fn a_stack_without_an_owner_leaves_what_was_captured() {
        let stacks = [stack(1, None, (100, 1)), stack(5, None, (1, 1))];
        let mut owners = [owner(1, None)];
        assert!(!share_peak(&stacks, &mut owners));
        assert_eq!(shares(&owners), [(7, 7)]);
    }
}
