//! What a process has one of: outcome, sizes, timeline, losses.

use serde::Serialize;

use crate::analysis::{Books, LifetimeSummary, Report, SizeSummary, seconds, signal_name};
use crate::counts::Side;
use crate::recording::model::{Lifetimes, Losses, Outcome, TimelinePoint};

/// What part of the recording the rows are; totals are those of all of it.
#[derive(Serialize)]
pub(super) struct FilterJson<'a> {
    side: Option<&'static str>,
    scope: Option<&'a str>,
    library: Option<&'a str>,
    min_bytes: u64,
    measure: &'static str,
    suppressions: Vec<&'a str>,
    suppressed: SuppressedJson,
}

#[derive(Serialize)]
struct SuppressedJson {
    owners: u64,
    live_bytes: i64,
    live_blocks: i64,
}

impl<'a> FilterJson<'a> {
    /// `None` where rows are all that there are.
    pub(super) fn new(report: &'a Report<'a>) -> Option<FilterJson<'a>> {
        let filter = &report.filter;
        let suppressed = report.suppressed;
        filter.is_narrow().then(|| FilterJson {
            side: filter.side.map(Side::name),
            scope: filter.scope.as_deref(),
            library: filter.library.as_deref(),
            min_bytes: filter.min_bytes,
            measure: filter.measure.title(),
            suppressions: filter.suppressions.patterns().collect(),
            suppressed: SuppressedJson {
                owners: suppressed.owners,
                live_bytes: suppressed.live_bytes,
                live_blocks: suppressed.live_blocks,
            },
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OutcomeJson {
    ExitCode(i32),
    Signal(String),
    Exec(bool),
    Running(bool),
    Unknown(bool),
}

impl OutcomeJson {
    pub(super) fn new(outcome: &Outcome) -> OutcomeJson {
        match outcome {
            Outcome::ExitCode(code) => OutcomeJson::ExitCode(*code),
            Outcome::Signal(number) => OutcomeJson::Signal(signal_name(*number)),
            Outcome::Exec => OutcomeJson::Exec(true),
            Outcome::Running => OutcomeJson::Running(true),
            Outcome::Unknown => OutcomeJson::Unknown(true),
        }
    }
}

#[derive(Serialize)]
pub(super) struct SizesJson {
    c: SizeJson,
    rust: SizeJson,
}

impl SizesJson {
    pub(super) fn new(books: Option<&Books>) -> SizesJson {
        let of = |side: Side| SizeJson::new(books.and_then(|books| books.sizes[side.index()]));
        SizesJson {
            c: of(Side::C),
            rust: of(Side::Rust),
        }
    }
}

#[derive(Serialize)]
struct SizeJson {
    count: Option<u64>,
    mean: Option<f64>,
    p50: Option<u64>,
    p90: Option<u64>,
    p99: Option<u64>,
    max: Option<u64>,
}

impl SizeJson {
    pub(super) fn new(sizes: Option<SizeSummary>) -> SizeJson {
        SizeJson {
            count: sizes.map(|sizes| sizes.count),
            mean: sizes.map(|sizes| sizes.mean),
            p50: sizes.map(|sizes| sizes.p50),
            p90: sizes.map(|sizes| sizes.p90),
            p99: sizes.map(|sizes| sizes.p99),
            max: sizes.map(|sizes| sizes.max),
        }
    }
}

#[derive(Serialize)]
pub(super) struct LifetimesJson {
    /// The clock's; what is shorter is not told apart.
    step_s: f64,
    c: Option<LifetimeJson>,
    rust: Option<LifetimeJson>,
}

impl LifetimesJson {
    pub(super) fn new(lifetimes: &Lifetimes) -> LifetimesJson {
        let of = |side: Side| LifetimeSummary::new(lifetimes, side).map(LifetimeJson::new);
        LifetimesJson {
            step_s: lifetimes.step_ns as f64 / 1e9,
            c: of(Side::C),
            rust: of(Side::Rust),
        }
    }
}

#[derive(Serialize)]
struct LifetimeJson {
    samples: u64,
    count: u64,
    p50_s: f64,
    p90_s: f64,
    p99_s: f64,
    max_s: f64,
    under_1ms: Option<u64>,
    never_freed: u64,
}

impl LifetimeJson {
    fn new(summary: LifetimeSummary) -> LifetimeJson {
        LifetimeJson {
            samples: summary.samples,
            count: summary.count,
            p50_s: summary.p50_s,
            p90_s: summary.p90_s,
            p99_s: summary.p99_s,
            max_s: summary.max_s,
            under_1ms: summary.under_1ms,
            never_freed: summary.never_freed,
        }
    }
}

#[derive(Serialize)]
pub(super) struct PointJson {
    t_s: f64,
    c_live_bytes: i64,
    rust_live_bytes: i64,
    rss_bytes: u64,
}

impl PointJson {
    pub(super) fn new(point: &TimelinePoint) -> PointJson {
        PointJson {
            t_s: seconds(point.t_s),
            c_live_bytes: point.c_live_bytes,
            rust_live_bytes: point.rust_live_bytes,
            rss_bytes: point.rss_bytes,
        }
    }
}

#[derive(Serialize)]
pub(super) struct LossesJson {
    foreign_frees: u64,
    samples_dropped: u64,
    owners_overflowed: u64,
    slots_overflowed: u64,
    invariant_violations: u64,
    crossed_frees: u64,
    scopes_overflowed: u64,
    pages_refused: u64,
    children_untracked: u64,
    stacks_overflowed: u64,
    misuses_left_out: u64,
    blocks_unbooked: u64,
}

impl LossesJson {
    pub(super) fn new(losses: &Losses, invariant_violations: u64) -> LossesJson {
        LossesJson {
            foreign_frees: losses.foreign_frees,
            samples_dropped: losses.samples_dropped,
            owners_overflowed: losses.owners_overflowed,
            slots_overflowed: losses.slots_overflowed,
            invariant_violations,
            crossed_frees: losses.crossed_frees,
            scopes_overflowed: losses.scopes_overflowed,
            pages_refused: losses.pages_refused,
            children_untracked: losses.children_untracked,
            stacks_overflowed: losses.stacks_overflowed,
            misuses_left_out: losses.misuses_left_out,
            blocks_unbooked: losses.blocks_unbooked,
        }
    }
}
