//! Clean-ups that a process drove by itself, brought together with those that
//! were driven from outside.

use super::model::{CallEnding, Level, Pressure, PressureEvent, ReclaimerCall, Trigger};
use crate::ledger::books::Books;
use crate::ledger::cleanups::{NotedCall, NotedCleanup};
use crate::ledger::layout;

/// Adds what was seen in time of the ledger's clean-ups, and what stands there now.
pub(super) fn join(books: &Books, outside: Pressure, seen: Vec<NotedCleanup>) -> Pressure {
    let last = seen.last().map_or(0, |cleanup| cleanup.number);
    let later = books
        .cleanups
        .iter()
        .filter(|cleanup| cleanup.number > last);
    let all: Vec<NotedCleanup> = seen.into_iter().chain(later.cloned()).collect();
    let words = &books.header.pressure;
    let mut pressure = Pressure {
        refused: words.refused,
        refused_bytes: words.refused_bytes,
        ..outside
    };
    let counted = all.last().map_or(0, |cleanup| cleanup.number);
    pressure.cycles = pressure.cycles.saturating_add(counted);
    for cleanup in &all {
        pressure.freed_bytes = pressure.freed_bytes.saturating_add(cleanup.freed_bytes);
        let since_ns = cleanup
            .started_mono_ns
            .saturating_sub(books.header.created_mono_ns);
        pressure.events.push(event(cleanup, since_ns));
    }
    pressure.events.sort_by(|a, b| a.t_s.total_cmp(&b.t_s));
    pressure
}

fn event(cleanup: &NotedCleanup, since_ns: u64) -> PressureEvent {
    let seconds = |ns: u64| ns as f64 / 1e9;
    PressureEvent {
        t_s: seconds(since_ns),
        trigger: trigger(cleanup.trigger),
        level: level(cleanup.level),
        before_bytes: cleanup.before_bytes,
        freed_bytes: cleanup.freed_bytes,
        claimed_bytes: cleanup.claimed_bytes.filter(|_| cleanup.called > 0),
        settle_s: seconds(cleanup.settle_ns),
        took_s: seconds(cleanup.took_ns),
        is_complete: true,
        reclaimers: cleanup.calls.iter().map(call).collect(),
    }
}

/// The reader of the ledger lets no other numbers through.
fn trigger(number: u32) -> Trigger {
    match number {
        layout::TRIGGER_GROWTH => Trigger::Growth,
        layout::TRIGGER_SOFT_LIMIT => Trigger::SoftLimit,
        layout::TRIGGER_HARD_LIMIT => Trigger::HardLimit,
        layout::TRIGGER_CGROUP => Trigger::Cgroup,
        layout::TRIGGER_PSI => Trigger::Psi,
        _ => Trigger::Asked,
    }
}

fn level(number: u32) -> Level {
    match number {
        0 => Level::Calm,
        1 => Level::Moderate,
        2 => Level::High,
        _ => Level::Critical,
    }
}

fn call(call: &NotedCall) -> ReclaimerCall {
    ReclaimerCall {
        name: call.name.clone(),
        claimed_bytes: call.claimed_bytes,
        took_s: f64::from(call.took_us) / 1e6,
        ending: match call.ending {
            layout::ENDING_RETURNED => CallEnding::Returned,
            layout::ENDING_PANICKED => CallEnding::Panicked,
            _ => CallEnding::Late,
        },
    }
}
