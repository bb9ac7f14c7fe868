//! Reads the sampled stacks of a ledger: who allocated, by the whole path.
//!
//! What a sample stands for was summed by whoever took it (`hl_weights` of
//! `interpose/ledger.h`); here sums become estimates with a known error. As in
//! `books.rs`, nothing that is read is believed.

use std::iter::Sum;
use std::ops::{Add, AddAssign};

use super::layout::{self, Header, Sampled, Weights};
use super::pages::Pages;
pub(crate) use super::stacks::{Extent, Frame};
use super::stacks::{KeyReader, StackKey, read_head, read_rows};
use crate::counts::Side;

/// 95 % of a normal distribution lie within so many standard deviations.
const DEVIATIONS: f64 = 1.96;

/// All that a ledger's samples tell.
#[derive(Debug)]
pub(crate) struct Samples {
    /// Mean bytes between samples.
    pub mean_bytes: u64,
    /// One row for each stack, side, scope and thread.
    pub stacks: Vec<SampledStack>,
}

/// One stack of one thread in one scope, and what it allocated.
#[derive(Clone, Debug)]
pub(crate) struct SampledStack {
    pub side: Side,
    /// 0 = none.
    pub scope: u32,
    /// The thread's identifier as the kernel gave it.
    pub thread: u32,
    pub extent: Extent,
    /// Some frames were found by frame pointers alone.
    pub guessed: bool,
    /// Innermost first.
    pub frames: Vec<Frame>,
    pub allocated: Estimate,
    pub live: Estimate,
    pub lived: Lived,
}

/// How long blocks lived that were freed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Lived {
    /// Blocks that were freed within a millisecond.
    pub short_blocks: f64,
    /// Of all blocks, in sum.
    pub ns: f64,
}

impl Lived {
    fn of(short_blocks: u64, ns: u64) -> Lived {
        Lived {
            short_blocks: short_blocks as f64 / layout::WEIGHT_BLOCK as f64,
            // A double's bits, or anything.
            ns: Some(f64::from_bits(ns))
                .filter(|ns| ns.is_finite() && *ns >= 0.0)
                .unwrap_or(0.0),
        }
    }
}

impl AddAssign for Lived {
    fn add_assign(&mut self, other: Lived) {
        self.short_blocks += other.short_blocks;
        self.ns += other.ns;
    }
}

/// An unbiased estimate from samples, with its variance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Estimate {
    /// How many samples it is from; exact.
    pub samples: u64,
    pub bytes: f64,
    pub blocks: f64,
    /// In bytes squared.
    pub bytes_variance: f64,
    /// In blocks squared.
    pub blocks_variance: f64,
}

impl Estimate {
    fn of(weights: Weights, mean_bytes: f64) -> Estimate {
        let scale = mean_bytes * mean_bytes / layout::WEIGHT_SPREAD as f64;
        Estimate {
            samples: weights.samples,
            bytes: weights.bytes as f64,
            blocks: weights.blocks as f64 / layout::WEIGHT_BLOCK as f64,
            bytes_variance: weights.spread_bytes as f64 * scale,
            blocks_variance: weights.spread_blocks as f64,
        }
    }

    /// Gives half the width of the 95 % interval around `bytes`.
    pub(crate) fn bytes_error(&self) -> f64 {
        DEVIATIONS * self.bytes_variance.sqrt()
    }

    /// Gives half the width of the 95 % interval around `blocks`.
    pub(crate) fn blocks_error(&self) -> f64 {
        DEVIATIONS * self.blocks_variance.sqrt()
    }
}

impl Add for Estimate {
    type Output = Estimate;

    /// Samples are taken independently of each other, so variances add up as well.
    fn add(self, other: Estimate) -> Estimate {
        Estimate {
            samples: self.samples.saturating_add(other.samples),
            bytes: self.bytes + other.bytes,
            blocks: self.blocks + other.blocks,
            bytes_variance: self.bytes_variance + other.bytes_variance,
            blocks_variance: self.blocks_variance + other.blocks_variance,
        }
    }
}

impl AddAssign for Estimate {
    fn add_assign(&mut self, other: Estimate) {
        *self = *self + other;
    }
}

impl Sum for Estimate {
    fn sum<I: Iterator<Item = Estimate>>(all: I) -> Estimate {
        all.fold(Estimate::default(), Add::add)
    }
}

impl Samples {
    /// Reads the samples of a ledger with so many modules; `None` where its mode is not to sample.
    pub(crate) fn read(pages: &dyn Pages, header: &Header, modules: usize) -> Option<Samples> {
        let head = read_head(pages, header).filter(|head| head.rows == layout::ROWS_SAMPLED)?;
        let mut keys = KeyReader::new(pages, modules);
        let stacks = read_rows::<Sampled>(pages, &head)
            .iter()
            .filter(|(_, row)| row.allocated.samples != 0)
            .filter_map(|(_, row)| {
                let key = keys.read(&row.stack)?;
                Some(SampledStack::of(key, row, head.mean_bytes as f64))
            })
            .collect();
        Some(Samples {
            mean_bytes: head.mean_bytes,
            stacks,
        })
    }
}

impl SampledStack {
    fn of(key: StackKey, row: &Sampled, mean_bytes: f64) -> SampledStack {
        SampledStack {
            side: key.side,
            scope: key.scope,
            thread: key.thread,
            extent: key.extent,
            guessed: key.guessed,
            frames: key.frames,
            allocated: Estimate::of(row.allocated, mean_bytes),
            live: Estimate::of(difference(row.allocated, row.freed), mean_bytes),
            lived: Lived::of(row.short_blocks, row.lived_ns),
        }
    }
}

/// What is live. A reader may come between the two additions of a block, so nothing goes below 0.
fn difference(allocated: Weights, freed: Weights) -> Weights {
    Weights {
        samples: allocated.samples.saturating_sub(freed.samples),
        blocks: allocated.blocks.saturating_sub(freed.blocks),
        bytes: allocated.bytes.saturating_sub(freed.bytes),
        spread_blocks: allocated.spread_blocks.saturating_sub(freed.spread_blocks),
        spread_bytes: allocated.spread_bytes.saturating_sub(freed.spread_bytes),
    }
}

#[cfg(all(test, feature = "cli", heapledger_core))]
#[path = "samples_tests.rs"]
mod tests;
