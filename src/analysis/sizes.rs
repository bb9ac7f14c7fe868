//! Percentiles of requested sizes.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::counts::Counts;
use crate::recording::model::Sizes;

/// How requests of one side spread over sizes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SizeSummary {
    /// Requests.
    pub count: u64,
    /// Exact mean.
    pub mean: f64,
    /// Half of the requests are at most this.
    pub p50: u64,
    /// Nine of ten are at most this.
    pub p90: u64,
    /// All but one of a hundred are at most this.
    pub p99: u64,
    /// The largest, exact.
    pub max: u64,
}

impl SizeSummary {
    /// Sums up one side's requests; `booked` is what that side booked.
    pub fn new(sizes: &Sizes, booked: Counts) -> SizeSummary {
        let quantiles = quantiles(&sizes.buckets, sizes.max).unwrap_or_default();
        let mean = match booked.allocated_blocks {
            0 => 0.0,
            blocks => booked.requested_bytes as f64 / blocks as f64,
        };
        SizeSummary {
            mean,
            max: sizes.max,
            ..quantiles
        }
    }
}

/// Adds several processes' requests up.
pub fn merge<'a>(all: impl Iterator<Item = &'a Sizes>) -> Sizes {
    let mut buckets = BTreeMap::<u64, u64>::new();
    let mut max = 0;
    for sizes in all {
        add_buckets(&mut buckets, &sizes.buckets);
        max = max.max(sizes.max);
    }
    Sizes {
        buckets: buckets.into_iter().collect(),
        max,
    }
}

pub(super) fn add_buckets(sum: &mut BTreeMap<u64, u64>, buckets: &[(u64, u64)]) {
    for &(end, count) in buckets {
        let sum = sum.entry(end).or_default();
        *sum = sum.saturating_add(count);
    }
}

/// Three digits keep every bucket of the ledger apart.
const SIGNIFICANT_DIGITS: u8 = 3;
/// The histogram rounds a bucket's end up, which has to stay a u64.
const LARGEST_SIZE: u64 = u64::MAX >> 1;

/// Gives what a histogram of buckets says of values: sizes, or times.
pub(super) fn quantiles(buckets: &[(u64, u64)], max: u64) -> Option<SizeSummary> {
    let largest = buckets
        .iter()
        .map(|bucket| bucket.0)
        .max()?
        .clamp(2, LARGEST_SIZE);
    let mut histogram = Histogram::<u64>::new_with_max(largest, SIGNIFICANT_DIGITS).ok()?;
    // The histogram adds up without looking: what no program counts is halved until it fits.
    let all: u128 = buckets.iter().map(|bucket| u128::from(bucket.1)).sum();
    let halvings = (u128::BITS - all.leading_zeros()).saturating_sub(u64::BITS - 1);
    for &(size, count) in buckets {
        histogram.saturating_record_n(size.min(largest), count.checked_shr(halvings).unwrap_or(0));
    }
    let at = |quantile: f64| histogram.value_at_quantile(quantile).min(max);
    let count = buckets
        .iter()
        .fold(0u64, |sum, bucket| sum.saturating_add(bucket.1));
    Some(SizeSummary {
        count,
        mean: 0.0,
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        max,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn booked(blocks: u64, requested_bytes: u64) -> Counts {
        Counts::new((requested_bytes, blocks), (0, 0), requested_bytes, 0)
    }

    #[test]
    fn percentiles_are_the_ends_of_buckets_and_the_mean_is_exact() {
        let sizes = Sizes {
            buckets: vec![(64, 50), (1023, 40), (65_535, 9), (1_048_575, 1)],
            max: 1_000_000,
        };
        let summary = SizeSummary::new(&sizes, booked(100, 1_234_567));
        let expected = SizeSummary {
            count: 100,
            mean: 12_345.67,
            p50: 64,
            p90: 1023,
            p99: 65_535,
            max: 1_000_000,
        };
        assert_eq!(summary, expected);
    }

    #[test]
    fn no_percentile_exceeds_the_largest_request() {
        let sizes = Sizes {
            buckets: vec![(1_048_575, 3)],
            max: 1_000_001,
        };
        let summary = SizeSummary::new(&sizes, booked(3, 3_000_003));
        assert_eq!(
            (summary.p50, summary.p99, summary.max),
            (1_000_001, 1_000_001, 1_000_001)
        );
    }

    #[test]
    fn nothing_requested_is_all_zero() {
        assert_eq!(
            SizeSummary::new(&Sizes::default(), Counts::default()),
            SizeSummary::default()
        );
    }

    #[test]
    fn absurd_buckets_do_not_panic() {
        let sizes = Sizes {
            buckets: vec![(u64::MAX, u64::MAX), (0, u64::MAX), (1, 0)],
            max: u64::MAX,
        };
        let summary = SizeSummary::new(&sizes, booked(1, u64::MAX));
        assert_eq!((summary.count, summary.max), (u64::MAX, u64::MAX));
    }

    #[test]
    fn several_processes_add_up() {
        let one = Sizes {
            buckets: vec![(8, 1), (64, 2)],
            max: 60,
        };
        let two = Sizes {
            buckets: vec![(64, 3)],
            max: 62,
        };
        let sum = merge([&one, &two].into_iter());
        assert_eq!((sum.buckets, sum.max), (vec![(8, 1), (64, 5)], 62));
    }
}
