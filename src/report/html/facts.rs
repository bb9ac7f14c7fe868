//! What a process, or all of them, has one of: totals, sizes, timeline, clean-ups.

use std::collections::BTreeMap;

use serde::Serialize;

use super::pack::Column;
use crate::analysis::{
    Books, LifetimeSummary, ProcessReport, SideTotals, SizeSummary, Span, is_contradicted, moments,
    seconds,
};
use crate::counts::{Counts, Side};
use crate::recording::model::{
    Lifetimes, Lives, Pressure, PressureEvent, Process, ReclaimerCall, Sizes,
};
use crate::report::phrases;
use crate::report::units::printable;

/// Sums by side; what was not seen is null, never 0.
#[derive(Serialize)]
pub(super) struct TotalsData {
    c: SideData,
    rust: SideData,
    all: SideData,
}

impl TotalsData {
    pub(super) fn new(books: &Books) -> TotalsData {
        TotalsData {
            c: SideData::new(books.totals.c),
            rust: SideData::new(books.totals.rust),
            all: SideData::new(books.totals.all),
        }
    }
}

/// Digits, because a script's numbers are exact to 53 bits only.
#[derive(Serialize)]
struct SideData {
    live_bytes: Option<String>,
    live_blocks: Option<String>,
    allocated_bytes: Option<String>,
    allocated_blocks: Option<String>,
    freed_bytes: Option<String>,
    freed_blocks: Option<String>,
    reallocs: Option<String>,
    peak_live_bytes: Option<String>,
}

impl SideData {
    fn new(side: SideTotals) -> SideData {
        let counts = side.counts;
        let signed = |get: fn(&Counts) -> i64| counts.map(|counts| get(&counts).to_string());
        let figure = |get: fn(&Counts) -> u64| counts.map(|counts| get(&counts).to_string());
        SideData {
            live_bytes: signed(|counts| counts.live_bytes),
            live_blocks: signed(|counts| counts.live_blocks),
            allocated_bytes: figure(|counts| counts.allocated_bytes),
            allocated_blocks: figure(|counts| counts.allocated_blocks),
            freed_bytes: figure(|counts| counts.freed_bytes),
            freed_blocks: figure(|counts| counts.freed_blocks),
            reallocs: figure(|counts| counts.reallocs),
            peak_live_bytes: side.peak_live_bytes.map(|bytes| bytes.to_string()),
        }
    }
}

/// Requests of one side by size.
#[derive(Serialize)]
pub(super) struct SizesData {
    count: u64,
    mean: f64,
    p50: u64,
    p90: u64,
    p99: u64,
    max: u64,
    /// Powers of two: requests below 2^n and not below 2^(n-1), as (n, count).
    bars: Vec<(u32, u64)>,
}

impl SizesData {
    /// Gives both sides' requests; null for a side that was not seen.
    pub(super) fn both(books: &Books, of_side: impl Fn(Side) -> Sizes) -> [Option<SizesData>; 2] {
        Side::ALL.map(|side| {
            let summary = books.sizes[side.index()]?;
            Some(SizesData::new(summary, &of_side(side)))
        })
    }

    fn new(summary: SizeSummary, sizes: &Sizes) -> SizesData {
        let mut bars = BTreeMap::<u32, u64>::new();
        for &(largest, count) in &sizes.buckets {
            let bar = bars.entry(u64::BITS - largest.leading_zeros()).or_default();
            *bar = bar.saturating_add(count);
        }
        SizesData {
            count: summary.count,
            mean: summary.mean,
            p50: summary.p50,
            p90: summary.p90,
            p99: summary.p99,
            max: summary.max,
            bars: bars.into_iter().collect(),
        }
    }
}

/// How long blocks lived, by side.
#[derive(Serialize)]
pub(super) struct LifetimesData {
    step_s: f64,
    /// Null for a side of which nothing was sampled.
    sides: [Option<SideLives>; 2],
}

#[derive(Serialize)]
struct SideLives {
    samples: u64,
    count: u64,
    p50_s: f64,
    p90_s: f64,
    p99_s: f64,
    max_s: f64,
    under_1ms: Option<u64>,
    never_freed: u64,
    /// Powers of ten: lives below 10^n nanoseconds and not below a tenth, as (n, blocks);
    /// off by a sixteenth, as the ledger's buckets are.
    bars: Vec<(u32, u64)>,
}

impl LifetimesData {
    pub(super) fn new(lifetimes: &Lifetimes) -> LifetimesData {
        LifetimesData {
            step_s: lifetimes.step_ns as f64 / 1e9,
            sides: Side::ALL.map(|side| {
                let summary = LifetimeSummary::new(lifetimes, side)?;
                Some(SideLives::new(summary, &lifetimes.sides[side.index()]))
            }),
        }
    }
}

impl SideLives {
    fn new(summary: LifetimeSummary, lives: &Lives) -> SideLives {
        let mut bars = BTreeMap::<u32, u64>::new();
        for &(longest_ns, blocks) in &lives.buckets {
            let digits = longest_ns.checked_ilog10().map_or(0, |power| power + 1);
            let bar = bars.entry(digits).or_default();
            *bar = bar.saturating_add(blocks);
        }
        SideLives {
            samples: summary.samples,
            count: summary.count,
            p50_s: summary.p50_s,
            p90_s: summary.p90_s,
            p99_s: summary.p99_s,
            max_s: summary.max_s,
            under_1ms: summary.under_1ms,
            never_freed: summary.never_freed,
            bars: bars.into_iter().collect(),
        }
    }
}

/// Live bytes over time: each value holds until the next.
#[derive(Serialize)]
pub(super) struct TimelineData {
    from_s: f64,
    duration_s: f64,
    /// Microseconds from `from_s`.
    at_us: Column,
    c: Column,
    rust: Column,
    rss: Column,
}

impl TimelineData {
    /// Gives a process's readings as they are.
    pub(super) fn of_readings(process: &Process) -> TimelineData {
        let points = &process.timeline;
        let at_us = points.iter().map(|point| (seconds(point.t_s) * 1e6) as i64);
        let span = Span::of(std::iter::once(process));
        TimelineData {
            from_s: span.from_s,
            duration_s: span.duration_s,
            at_us: Column::of_steps(at_us),
            c: Column::of_steps(points.iter().map(|point| point.c_live_bytes.max(0))),
            rust: Column::of_steps(points.iter().map(|point| point.rust_live_bytes.max(0))),
            rss: Column::of_steps(points.iter().map(|point| point.rss_bytes)),
        }
    }

    /// Gives processes' readings together, the highest moment of each of `columns` times.
    pub(super) fn of_moments(processes: &[&Process], columns: usize) -> TimelineData {
        let span = Span::of(processes.iter().copied());
        let moments = moments(processes.iter().copied(), span, columns);
        let at_us = |index: usize| (span.duration_s * 1e6 * index as f64 / columns as f64) as i64;
        TimelineData {
            from_s: span.from_s,
            duration_s: span.duration_s,
            at_us: Column::of_steps((0..moments.len()).map(at_us)),
            c: Column::of_steps(moments.iter().map(|moment| moment.c_live_bytes)),
            rust: Column::of_steps(moments.iter().map(|moment| moment.rust_live_bytes)),
            rss: Column::of_steps(moments.iter().map(|moment| moment.rss_bytes)),
        }
    }
}

/// A process's clean-ups.
#[derive(Serialize)]
pub(super) struct PressureData {
    cycles: u64,
    freed_bytes: u64,
    left_out: u64,
    notes: Vec<String>,
    events: Vec<EventData>,
}

impl PressureData {
    /// Gives the clean-ups, or `None` where there were none.
    pub(super) fn new(process: &Process) -> Option<PressureData> {
        let pressure: &Pressure = &process.pressure;
        let notes: Vec<String> = pressure.notes.iter().map(|note| printable(note)).collect();
        let has_some = pressure.cycles > 0 || !pressure.events.is_empty() || !notes.is_empty();
        has_some.then(|| PressureData {
            cycles: pressure.cycles,
            freed_bytes: pressure.freed_bytes,
            left_out: pressure.left_out(),
            notes,
            events: pressure
                .events
                .iter()
                .map(|event| EventData::new(process, event))
                .collect(),
        })
    }
}

#[derive(Serialize)]
struct EventData {
    /// Seconds from the start of the recording.
    at_s: f64,
    trigger: &'static str,
    level: &'static str,
    before_bytes: u64,
    freed_bytes: u64,
    claimed_bytes: Option<u64>,
    /// The ledger contradicts what was claimed.
    is_contradicted: bool,
    took_s: f64,
    is_complete: bool,
    calls: Vec<CallData>,
}

impl EventData {
    fn new(process: &Process, event: &PressureEvent) -> EventData {
        EventData {
            at_s: seconds(process.started_s) + seconds(event.t_s),
            trigger: event.trigger.name(),
            level: event.level.name(),
            before_bytes: event.before_bytes,
            freed_bytes: event.freed_bytes,
            claimed_bytes: event.claimed_bytes,
            is_contradicted: is_contradicted(event),
            took_s: seconds(event.took_s),
            is_complete: event.is_complete,
            calls: event.reclaimers.iter().map(CallData::new).collect(),
        }
    }
}

#[derive(Serialize)]
struct CallData {
    name: String,
    claimed_bytes: Option<u64>,
    took_s: f64,
    ending: &'static str,
}

impl CallData {
    fn new(call: &ReclaimerCall) -> CallData {
        CallData {
            name: printable(&call.name),
            claimed_bytes: call.claimed_bytes,
            took_s: seconds(call.took_s),
            ending: call.ending.name(),
        }
    }
}

/// What one thread booked, both sides.
#[derive(Serialize)]
pub(super) struct ThreadData {
    tid: u32,
    name: String,
    /// Side c, side rust: live bytes and blocks, allocated bytes and blocks.
    sides: [(i64, i64, u64, u64); 2],
}

impl ThreadData {
    /// Gives the threads in the recording's order, with what is known of `only`, or
    /// of both sides.
    pub(super) fn all(process: &Process, only: Option<Side>) -> Vec<ThreadData> {
        let side = |counts: &[Counts; 2], side: Side| {
            let is_looked_at = only.is_none_or(|only| only == side);
            let counts = counts[side.index()];
            let counts = if is_looked_at {
                counts
            } else {
                Counts::default()
            };
            (
                counts.live_bytes,
                counts.live_blocks,
                counts.allocated_bytes,
                counts.allocated_blocks,
            )
        };
        let threads = process.threads.iter();
        threads
            .map(|thread| ThreadData {
                tid: thread.tid,
                name: printable(&thread.name),
                sides: Side::ALL.map(|of| side(&thread.counts, of)),
            })
            .collect()
    }
}

/// Says what could not be booked in full, a sentence each.
pub(super) fn losses(report: &ProcessReport) -> Vec<String> {
    let mut sentences: Vec<String> = report.violations.described.clone();
    let described = sentences.len() as u64;
    if report.violations.count > described {
        let more = report.violations.count - described;
        sentences.push(format!(
            "and {more} more places where the books do not add up"
        ));
    }
    sentences.extend(phrases::losses(&report.process.losses));
    sentences.iter().map(|text| printable(text)).collect()
}
