//! Keeps recordings of very many processes small: the sums stay exact, the
//! small holders of later processes are put together.

use std::collections::HashMap;

use crate::counts::Side;
use crate::recording::model::{OwnerEntry, Process, Stack, StackFigures};
use crate::recording::resolve::Tables;

/// From this size of the recording on, a process keeps its larger owners only.
const CAREFUL_BYTES: u64 = 32 << 20;
/// From this size on, it keeps hardly any.
const FRUGAL_BYTES: u64 = 64 << 20;

/// Leaves out of a process what a recording of this size has no room for.
pub(super) fn thin(process: Process, recording_bytes: u64, tables: &mut Tables) -> Process {
    let (owners, stacks, points, events, misuses) = match recording_bytes {
        0..CAREFUL_BYTES => return process,
        CAREFUL_BYTES..FRUGAL_BYTES => (48, 500, 50, 16, 64),
        _ => (6, 6, 2, 1, 2),
    };
    let mut process = process;
    fold_owners(&mut process, owners, tables.overflow_site());
    fold_stacks(&mut process, stacks, tables.overflow_site());
    drop_misuses(&mut process, misuses);
    let surplus = process.pressure.events.len().saturating_sub(events);
    process.pressure.events.drain(..surplus);
    let stride = process.timeline.len().div_ceil(points).max(1);
    let last = process.timeline.len().saturating_sub(1);
    let mut index = 0;
    process.timeline.retain(|_| {
        let keep = index % stride == 0 || index == last;
        index += 1;
        keep
    });
    process
}

/// Keeps the owners that hold or held most and folds the others, by side.
fn fold_owners(process: &mut Process, keep: usize, overflow: u32) {
    if process.owners.len() <= keep {
        return;
    }
    let weight = |owner: &OwnerEntry| {
        (
            owner.counts.live_bytes.max(owner.at_peak.0),
            owner.counts.allocated_bytes,
        )
    };
    process
        .owners
        .sort_by_key(|owner| std::cmp::Reverse(weight(owner)));
    let mut folded: HashMap<(Side, Option<u32>), OwnerEntry> = HashMap::new();
    for owner in process.owners.drain(keep..) {
        let Some(sum) = folded.get_mut(&(owner.side, owner.scope)) else {
            folded.insert(
                (owner.side, owner.scope),
                OwnerEntry {
                    site: overflow,
                    ..owner
                },
            );
            continue;
        };
        sum.counts += owner.counts;
        sum.at_peak.0 = sum.at_peak.0.saturating_add(owner.at_peak.0);
        sum.at_peak.1 = sum.at_peak.1.saturating_add(owner.at_peak.1);
    }
    process.owners.extend(folded.into_values());
}

/// Keeps the misuse that began first: what comes later is often its consequence.
fn drop_misuses(process: &mut Process, keep: usize) {
    let dropped = process.misuses.drain(keep.min(process.misuses.len())..);
    let calls = dropped.fold(0, |sum: u64, misuse| sum.saturating_add(misuse.count));
    let left_out = &mut process.losses.misuses_left_out;
    *left_out = left_out.saturating_add(calls);
}

/// Keeps the stacks that hold or held most and folds the others, by side and scope.
fn fold_stacks(process: &mut Process, keep: usize, overflow: u32) {
    if process.stacks.len() <= keep {
        return;
    }
    let weight = |stack: &Stack| {
        let figures = &stack.figures;
        (
            figures.live_bytes.max(figures.at_peak.0),
            figures.allocated_bytes,
        )
    };
    process
        .stacks
        .sort_by_key(|stack| std::cmp::Reverse(weight(stack)));
    let mut folded: HashMap<(Side, Option<u32>), StackFigures> = HashMap::new();
    for stack in process.stacks.drain(keep..) {
        *folded.entry((stack.side, stack.scope)).or_default() += stack.figures;
    }
    let rest = folded.into_iter().map(|((side, scope), figures)| Stack {
        frames: vec![overflow],
        is_truncated: true,
        is_guessed: false,
        side,
        scope,
        thread: None,
        figures,
    });
    process.stacks.extend(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::Counts;
    use crate::recording::model::{Misuse, MisuseKind};

    #[test]
    fn sums_stay_exact() {
        let owner = |index: u64| OwnerEntry {
            site: index as u32,
            side: Side::from_index(index as usize),
            scope: None,
            counts: Counts::new((index * 100, index), (index * 50, index / 2), index * 90, 0),
            at_peak: (1, 1),
        };
        let stack = |index: u64| Stack {
            frames: vec![index as u32, 0],
            is_truncated: false,
            is_guessed: false,
            side: Side::from_index(index as usize),
            scope: None,
            thread: Some(3),
            figures: StackFigures {
                live_bytes: index as i64,
                samples: 1,
                ..StackFigures::default()
            },
        };
        let process = Process {
            owners: (0..500).map(owner).collect(),
            stacks: (0..500).map(stack).collect(),
            ..Process::default()
        };
        let sum = |process: &Process| {
            process
                .owners
                .iter()
                .map(|owner| owner.counts)
                .sum::<Counts>()
        };
        let before = sum(&process);
        let thinned = thin(process, FRUGAL_BYTES, &mut Tables::default());
        assert_eq!(sum(&thinned), before);
        assert_eq!(thinned.owners.len(), 8);
        let mut stacks = StackFigures::default();
        for stack in &thinned.stacks {
            stacks += stack.figures;
        }
        assert_eq!((stacks.live_bytes, stacks.samples), (499 * 250, 500));
        assert_eq!(thinned.stacks.len(), 8);
        assert_eq!(
            thinned
                .owners
                .iter()
                .map(|owner| owner.at_peak.0)
                .sum::<i64>(),
            500
        );
    }

    #[test]
    fn misuse_that_is_left_out_is_counted() {
        let misuse = |tid| Misuse {
            may_be_right: false,
            kind: MisuseKind::DoubleFree,
            address: 16,
            is_realloc: false,
            bytes: 8,
            inside_bytes: None,
            said_bytes: None,
            tid,
            t_s: 0.0,
            count: 3,
            allocated: None,
            first_freed: None,
            freed: None,
        };
        let process = Process {
            misuses: (0..5).map(misuse).collect(),
            ..Process::default()
        };
        let thinned = thin(process, FRUGAL_BYTES, &mut Tables::default());
        assert_eq!(thinned.misuses, [misuse(0), misuse(1)]);
        assert_eq!(thinned.losses.misuses_left_out, 9);
    }
}
