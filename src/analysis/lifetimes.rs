//! How long blocks lived, through hdrhistogram.

use std::collections::BTreeMap;

use super::sizes::{add_buckets, quantiles};
use crate::counts::Side;
use crate::recording::model::{Lifetimes, Lives};

/// How long one side's blocks lived: estimates from samples, times in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LifetimeSummary {
    /// Sampled blocks that were freed; exact.
    pub samples: u64,
    /// Blocks that were freed.
    pub count: u64,
    /// Half of these lived at most so long.
    pub p50_s: f64,
    /// Nine of ten lived at most so long.
    pub p90_s: f64,
    /// All but one of a hundred lived at most so long.
    pub p99_s: f64,
    /// The longest of the samples, within a step of the clock.
    pub max_s: f64,
    /// Blocks that were freed within a millisecond; `None` where the clock steps by more.
    pub under_1ms: Option<u64>,
    /// Blocks that were never freed, or not yet.
    pub never_freed: u64,
}

impl LifetimeSummary {
    /// Sums up one side; `None` where no block of it was sampled.
    pub fn new(lifetimes: &Lifetimes, side: Side) -> Option<LifetimeSummary> {
        let lives = &lifetimes.sides[side.index()];
        if lives.samples == 0 && lives.live_blocks == 0 {
            return None;
        }
        let found = quantiles(&lives.buckets, lives.longest_ns).unwrap_or_default();
        let seconds = |ns: u64| ns as f64 / 1e9;
        Some(LifetimeSummary {
            samples: lives.samples,
            count: found.count,
            p50_s: seconds(found.p50),
            p90_s: seconds(found.p90),
            p99_s: seconds(found.p99),
            max_s: seconds(lives.longest_ns),
            under_1ms: lifetimes.tells_short().then_some(lives.short_blocks),
            never_freed: lives.live_blocks,
        })
    }
}

/// Adds several processes' lifetimes up; `None` where none has any.
pub fn merge<'a>(all: impl Iterator<Item = &'a Lifetimes>) -> Option<Lifetimes> {
    all.fold(None, |sum: Option<Lifetimes>, next| {
        let mut sum = sum.unwrap_or_default();
        sum.step_ns = sum.step_ns.max(next.step_ns);
        for (sum, next) in sum.sides.iter_mut().zip(&next.sides) {
            add(sum, next);
        }
        Some(sum)
    })
}

fn add(sum: &mut Lives, next: &Lives) {
    let mut buckets = BTreeMap::new();
    add_buckets(&mut buckets, &sum.buckets);
    add_buckets(&mut buckets, &next.buckets);
    *sum = Lives {
        buckets: buckets.into_iter().collect(),
        samples: sum.samples.saturating_add(next.samples),
        longest_ns: sum.longest_ns.max(next.longest_ns),
        short_blocks: sum.short_blocks.saturating_add(next.short_blocks),
        live_blocks: sum.live_blocks.saturating_add(next.live_blocks),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifetimes() -> Lifetimes {
        let c = Lives {
            buckets: vec![(500, 90), (2_031_615, 9), (8_589_934_591, 1)],
            samples: 40,
            longest_ns: 8_000_000_000,
            short_blocks: 90,
            live_blocks: 7,
        };
        Lifetimes {
            step_ns: 1,
            sides: [c, Lives::default()],
        }
    }

    #[test]
    fn percentiles_are_the_ends_of_buckets_and_the_longest_is_exact() {
        let c = LifetimeSummary::new(&lifetimes(), Side::C).unwrap();
        let expected = LifetimeSummary {
            samples: 40,
            count: 100,
            p50_s: 500e-9,
            p90_s: 500e-9,
            p99_s: 0.002031615,
            max_s: 8.0,
            under_1ms: Some(90),
            never_freed: 7,
        };
        assert_eq!(c, expected);
        assert_eq!(LifetimeSummary::new(&lifetimes(), Side::Rust), None);
    }

    #[test]
    fn a_coarse_clock_does_not_tell_what_was_short() {
        let coarse = Lifetimes {
            step_ns: 4_000_000,
            ..lifetimes()
        };
        let c = LifetimeSummary::new(&coarse, Side::C).unwrap();
        assert_eq!((c.under_1ms, c.never_freed), (None, 7));
    }

    #[test]
    fn several_processes_add_up() {
        let sum = merge([&lifetimes(), &lifetimes()].into_iter()).unwrap();
        let c = LifetimeSummary::new(&sum, Side::C).unwrap();
        assert_eq!((c.samples, c.count, c.under_1ms), (80, 200, Some(180)));
        assert_eq!(c.never_freed, 14);
        assert_eq!(merge(std::iter::empty()), None);
    }

    #[test]
    fn absurd_figures_do_not_panic() {
        let absurd = Lives {
            buckets: vec![(u64::MAX, u64::MAX), (0, u64::MAX)],
            samples: u64::MAX,
            longest_ns: u64::MAX,
            short_blocks: u64::MAX,
            live_blocks: u64::MAX,
        };
        let one = Lifetimes {
            step_ns: 0,
            sides: [absurd.clone(), absurd],
        };
        let sum = merge([&one, &one].into_iter()).unwrap();
        assert!(LifetimeSummary::new(&sum, Side::Rust).is_some());
    }
}
