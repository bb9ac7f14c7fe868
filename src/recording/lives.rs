//! What a recording holds of how long blocks lived.

use super::model::StackFigures;

/// How long blocks lived, estimated without bias from samples.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct Lifetimes {
    /// Step of the clock, in nanoseconds: what is shorter reads as 0 or as one step.
    pub step_ns: u64,
    /// By the side that booked them (index 0 = c, 1 = rust).
    pub sides: [Lives; 2],
}

/// A block that is freed within this time is short-lived.
const SHORT_NS: u64 = 1_000_000;

impl Lifetimes {
    /// Tells whether the clock is fine enough to say what lived less than a millisecond.
    pub fn tells_short(&self) -> bool {
        self.step_ns <= SHORT_NS
    }
}

/// Lifetimes of one side's blocks, from the allocation to the free; a realloc ends one
/// life and begins another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct Lives {
    /// (longest lifetime of the bucket in nanoseconds, blocks), the empty buckets left out.
    pub buckets: Vec<(u64, u64)>,
    /// Sampled blocks that were freed; exact.
    pub samples: u64,
    /// The longest lifetime of these, in nanoseconds.
    pub longest_ns: u64,
    /// Blocks that were freed within a millisecond.
    pub short_blocks: u64,
    /// Blocks that were never freed, or not yet.
    pub live_blocks: u64,
}

impl StackFigures {
    /// Gives how many blocks were freed.
    pub fn freed_blocks(&self) -> u64 {
        let live = u64::try_from(self.live_blocks).unwrap_or(0);
        self.allocated_blocks.saturating_sub(live)
    }

    /// Gives how long a block lived on average, in seconds; `None` where none was freed.
    pub fn mean_lifetime_s(&self) -> Option<f64> {
        let freed = self.freed_blocks();
        (freed > 0).then(|| self.lived_ns as f64 / freed as f64 / 1e9)
    }
}
