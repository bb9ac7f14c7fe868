//! A clean-up as it is written down in the ledger, for readers outside.

use std::time::Duration;

use super::cycle::Trigger;
use super::handle::{CallEnding, Cleanup, ReclaimerCall};
use crate::ledger::layout::{self, CLEANUP_CALLS, CLEANUP_NAME_BYTES, CleanupCall};

/// Gives the ledger's entry; `start_mono_ns` is when the record's clock began.
pub(super) fn entry(cleanup: &Cleanup, start_mono_ns: u64) -> layout::Cleanup {
    let record = &cleanup.record;
    layout::Cleanup {
        number: 0, // the ledger's own
        started_mono_ns: start_mono_ns.saturating_add(ns(record.started)),
        took_ns: ns(record.took),
        settle_ns: record.settle_ms.saturating_mul(1_000_000),
        before_bytes: record.before_bytes,
        freed_bytes: record.freed_bytes,
        claimed_bytes: match record.claims.is_empty() {
            true => layout::CLAIM_UNKNOWN,
            false => record.claimed_bytes(),
        },
        target_bytes: record.target_bytes,
        trigger: trigger(record.trigger),
        level: record.level as u32,
        called: cleanup.reclaimers.len() as u32,
        calls: calls(&cleanup.reclaimers),
        ..layout::Cleanup::default()
    }
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn trigger(trigger: Trigger) -> u32 {
    match trigger {
        Trigger::Growth => layout::TRIGGER_GROWTH,
        Trigger::SoftLimit => layout::TRIGGER_SOFT_LIMIT,
        Trigger::HardLimit => layout::TRIGGER_HARD_LIMIT,
        Trigger::Cgroup => layout::TRIGGER_CGROUP,
        Trigger::Psi => layout::TRIGGER_PSI,
        Trigger::Asked => layout::TRIGGER_ASKED,
    }
}

/// Those that claimed most, in the order of their calls.
fn calls(all: &[ReclaimerCall]) -> [CleanupCall; CLEANUP_CALLS] {
    let mut chosen: Vec<usize> = (0..all.len()).collect();
    chosen.sort_by_key(|index| (std::cmp::Reverse(all[*index].claimed_bytes), *index));
    chosen.truncate(CLEANUP_CALLS);
    chosen.sort_unstable();
    let mut calls = [CleanupCall::default(); CLEANUP_CALLS];
    for (place, index) in calls.iter_mut().zip(chosen) {
        *place = call(&all[index]);
    }
    calls
}

fn call(call: &ReclaimerCall) -> CleanupCall {
    let mut name = [0; CLEANUP_NAME_BYTES];
    // A zero is left at the end.
    let whole = |bytes: &usize| call.name.is_char_boundary(*bytes);
    let room = call.name.len().min(CLEANUP_NAME_BYTES - 1);
    let bytes = (0..=room).rev().find(whole).unwrap_or(0);
    name[..bytes].copy_from_slice(&call.name.as_bytes()[..bytes]);
    CleanupCall {
        claimed_bytes: call.claimed_bytes.unwrap_or(layout::CLAIM_UNKNOWN),
        took_us: u32::try_from(call.took.as_micros()).unwrap_or(u32::MAX),
        ending: match call.ending {
            CallEnding::Returned => layout::ENDING_RETURNED,
            CallEnding::Panicked => layout::ENDING_PANICKED,
            CallEnding::Late => layout::ENDING_LATE,
        },
        name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(name: &str, claimed_bytes: u64) -> ReclaimerCall {
        ReclaimerCall {
            name: name.into(),
            claimed_bytes: Some(claimed_bytes),
            took: Duration::from_micros(5),
            ending: CallEnding::Late,
        }
    }

    #[test]
    fn the_four_that_claimed_most_keep_their_order() {
        let all = [3, 9, 1, 9, 2, 4].map(|bytes| called("some", bytes));
        assert_eq!(calls(&all).map(|call| call.claimed_bytes), [3, 9, 9, 4]);
        let few = calls(&all[..1]);
        assert_eq!(few.map(|call| call.ending), [layout::ENDING_LATE, 0, 0, 0]);
    }

    #[test]
    fn a_long_name_is_cut_between_two_characters() {
        let name = call(&called(&"äö".repeat(10), 0)).name;
        let end = name.iter().position(|byte| *byte == 0).unwrap();
        assert_eq!(std::str::from_utf8(&name[..end]).unwrap(), "äöäöäöäöäöä");
    }
}
