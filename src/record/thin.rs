//! Keeps recordings of very many processes small: the sums stay exact, the
//! small holders of later processes are put together.

use std::collections::HashMap;

use crate::counts::Side;
use crate::recording::model::{OwnerEntry, Process};
use crate::recording::resolve::Tables;

/// From this size of the recording on, a process keeps its larger owners only.
const CAREFUL_BYTES: u64 = 32 << 20;
/// From this size on, it keeps hardly any.
const FRUGAL_BYTES: u64 = 64 << 20;

/// Leaves out of a process what a recording of this size has no room for.
pub(super) fn thin(process: Process, recording_bytes: u64, tables: &mut Tables) -> Process {
    let (owners, points, events) = match recording_bytes {
        0..CAREFUL_BYTES => return process,
        CAREFUL_BYTES..FRUGAL_BYTES => (48, 50, 16),
        _ => (6, 2, 1),
    };
    let mut process = process;
    fold_owners(&mut process, owners, tables.overflow_site());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::Counts;

    #[test]
    fn sums_stay_exact() {
        let owner = |index: u64| OwnerEntry {
            site: index as u32,
            side: Side::from_index(index as usize),
            scope: None,
            counts: Counts::new((index * 100, index), (index * 50, index / 2), index * 90, 0),
            at_peak: (1, 1),
        };
        let process = Process {
            owners: (0..500).map(owner).collect(),
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
        assert_eq!(
            thinned
                .owners
                .iter()
                .map(|owner| owner.at_peak.0)
                .sum::<i64>(),
            500
        );
    }
}
