//! Reads how long a ledger's sampled blocks lived.

use super::layout::{self, Header, Lifetimes, Lives};
use super::pages::{Pages, page_reference, read};

/// All that a ledger tells of lives that have ended.
#[derive(Clone, Debug)]
pub(crate) struct EndedLives {
    /// Step of the clock that they were timed by.
    pub step_ns: u64,
    /// By side.
    pub sides: [EndedSide; 2],
}

/// Those of one side.
#[derive(Clone, Debug, Default)]
pub(crate) struct EndedSide {
    pub samples: u64,
    pub longest_ns: u64,
    /// (the longest life that falls into a bucket, how many blocks), the empty ones left out.
    pub buckets: Vec<(u64, f64)>,
}

/// `None` where the ledger keeps none.
pub(crate) fn read_lifetimes(pages: &dyn Pages, header: &Header) -> Option<EndedLives> {
    if header.lifetimes == 0 {
        return None;
    }
    let lifetimes: Lifetimes = read(pages, page_reference(header.lifetimes))?;
    Some(EndedLives {
        step_ns: lifetimes.step_ns,
        sides: lifetimes.sides.map(|side| EndedSide::of(&side)),
    })
}

impl EndedSide {
    fn of(lives: &Lives) -> EndedSide {
        let blocks = |count: u64| count as f64 / layout::WEIGHT_BLOCK as f64;
        let counts = lives.buckets.iter().enumerate();
        let used = counts.filter(|&(_, &count)| count > 0);
        EndedSide {
            samples: lives.samples,
            longest_ns: lives.longest_ns,
            buckets: used
                .map(|(index, &count)| (bucket_end(index), blocks(count)))
                .collect(),
        }
    }
}

/// Gives the longest life that falls into a bucket, as hdrhistogram would round it up.
fn bucket_end(index: usize) -> u64 {
    let half = 1usize << (layout::LIFETIME_BITS - 1);
    if index < 2 * half {
        return index as u64;
    }
    let shift = index / half - 1;
    let low = ((index - shift * half) as u64) << shift;
    low + (1u64 << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_end_where_the_next_begins_and_are_those_of_hdrhistogram() {
        let histogram = hdrhistogram::Histogram::<u64>::new_with_max(u64::MAX >> 1, 1);
        let histogram = histogram.expect("bounds that it takes");
        assert_eq!(bucket_end(31), 31);
        assert_eq!(bucket_end(32), 33);
        assert_eq!(bucket_end(layout::LIFETIME_BUCKETS - 1), (1 << 48) - 1);
        for index in 1..layout::LIFETIME_BUCKETS {
            let end = bucket_end(index);
            assert!(end > bucket_end(index - 1));
            assert_eq!(histogram.highest_equivalent(end), end);
            assert_eq!(
                histogram.lowest_equivalent(end),
                bucket_end(index - 1) + 1,
                "bucket {index}"
            );
        }
    }
}
