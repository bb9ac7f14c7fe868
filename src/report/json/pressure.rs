//! A process's clean-ups.

use serde::Serialize;

use crate::analysis::{is_contradicted, seconds};
use crate::recording::model::{Pressure, PressureEvent, ReclaimerCall};

#[derive(Serialize)]
pub(super) struct PressureJson<'a> {
    events: Vec<EventJson<'a>>,
    cycles: u64,
    freed_bytes: u64,
    /// Clean-ups of which no event is kept.
    events_left_out: u64,
    notes: &'a [String],
}

impl<'a> PressureJson<'a> {
    pub(super) fn new(pressure: &'a Pressure) -> PressureJson<'a> {
        PressureJson {
            events: pressure.events.iter().map(EventJson::new).collect(),
            cycles: pressure.cycles,
            freed_bytes: pressure.freed_bytes,
            events_left_out: pressure.left_out(),
            notes: &pressure.notes,
        }
    }
}

#[derive(Serialize)]
struct EventJson<'a> {
    t_s: f64,
    trigger: &'static str,
    level: &'static str,
    before_bytes: u64,
    freed_bytes: u64,
    settle_ms: f64,
    reclaimers: Vec<CallJson<'a>>,
    claimed_bytes: Option<u64>,
    took_ms: f64,
    complete: bool,
    contradicted: bool,
}

impl<'a> EventJson<'a> {
    fn new(event: &'a PressureEvent) -> EventJson<'a> {
        EventJson {
            t_s: seconds(event.t_s),
            trigger: event.trigger.name(),
            level: event.level.name(),
            before_bytes: event.before_bytes,
            freed_bytes: event.freed_bytes,
            settle_ms: milliseconds(event.settle_s),
            reclaimers: event.reclaimers.iter().map(CallJson::new).collect(),
            claimed_bytes: event.claimed_bytes,
            took_ms: milliseconds(event.took_s),
            complete: event.is_complete,
            contradicted: is_contradicted(event),
        }
    }
}

#[derive(Serialize)]
struct CallJson<'a> {
    name: &'a str,
    claimed_bytes: Option<u64>,
    took_ms: f64,
    ending: &'static str,
}

impl<'a> CallJson<'a> {
    fn new(call: &'a ReclaimerCall) -> CallJson<'a> {
        CallJson {
            name: &call.name,
            claimed_bytes: call.claimed_bytes,
            took_ms: milliseconds(call.took_s),
            ending: call.ending.name(),
        }
    }
}

/// To the microsecond: more digits say nothing.
fn milliseconds(of_seconds: f64) -> f64 {
    (seconds(of_seconds) * 1e6).round() / 1e3
}
