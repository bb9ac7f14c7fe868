//! Reads the sampled stacks of a ledger: who allocated, by the whole path.
//!
//! What a sample stands for was summed by whoever took it (`hl_weights` of
//! `interpose/ledger.h`); here sums become estimates with a known error. As in
//! `books.rs`, nothing that is read is believed.

use std::iter::Sum;
use std::ops::{Add, AddAssign};

use super::layout::{self, Header, Sampled, Text, Weights};
use super::pages::{Pages, page_reference, read, read_array};
use crate::counts::Side;

/// More frames than any writer keeps of one stack.
const MOST_FRAMES: usize = layout::PAGE_BYTES / size_of::<u64>();
/// All frames that a ledger has room for; texts of an enemy's may overlap.
const MOST_FRAMES_OF_ALL: usize = layout::MAX_PAGES as usize * MOST_FRAMES;
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
    #[cfg_attr(not(test), expect(dead_code, reason = "recordings do not say so yet"))]
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

/// How far a stack goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// To where the thread began.
    Whole,
    /// The innermost calls of more than are kept.
    Deep,
    /// To code that nothing is known of.
    Lost,
    /// No further than the call itself.
    Call,
    /// No stack: the row of all that found no room.
    Overflow,
}

/// A call, as the address behind it; what a signal interrupted, as the address and one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub address: u64,
    /// Index into `Books::modules`.
    pub module: Option<usize>,
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
        if header.samples == 0 {
            return None;
        }
        let head: layout::Samples = read(pages, page_reference(header.samples))?;
        let mut samples = Samples {
            mean_bytes: head.mean_bytes,
            stacks: Vec::new(),
        };
        let most = layout::SAMPLED_PAGES * layout::SAMPLED_PER_PAGE;
        let mut frames_left = MOST_FRAMES_OF_ALL;
        let mut left = (head.row_count as usize).min(most);
        for page in head.row_pages {
            let rows = left.min(layout::SAMPLED_PER_PAGE);
            left -= rows;
            if rows == 0 {
                break;
            }
            if page == 0 {
                continue;
            }
            let found = read_array::<Sampled>(pages, page_reference(page), rows);
            let stacks = found
                .into_iter()
                .flatten()
                .filter_map(|row| SampledStack::of(pages, &row, head.mean_bytes as f64, modules))
                .filter_map(|stack| {
                    frames_left = frames_left.checked_sub(stack.frames.len())?;
                    Some(stack)
                });
            samples.stacks.extend(stacks);
        }
        Some(samples)
    }
}

impl SampledStack {
    /// `None` for a row that is not complete, or that nothing was ever booked to.
    fn of(
        pages: &dyn Pages,
        row: &Sampled,
        mean_bytes: f64,
        modules: usize,
    ) -> Option<SampledStack> {
        if row.ready == 0 || row.allocated.samples == 0 {
            return None;
        }
        let extent = match row.how & !layout::STACK_GUESSED {
            layout::STACK_WHOLE => Extent::Whole,
            layout::STACK_DEEP => Extent::Deep,
            layout::STACK_LOST => Extent::Lost,
            layout::STACK_TORN => Extent::Call,
            _ => Extent::Overflow,
        };
        Some(SampledStack {
            side: Side::from_index((row.tag >> 31) as usize),
            scope: row.tag & 0x7fff_ffff,
            thread: row.thread,
            extent,
            guessed: row.how & layout::STACK_GUESSED != 0,
            frames: read_frames(pages, row.frames, modules).unwrap_or_default(),
            allocated: Estimate::of(row.allocated, mean_bytes),
            live: Estimate::of(difference(row.allocated, row.freed), mean_bytes),
            lived: Lived::of(row.short_blocks, row.lived_ns),
        })
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

/// Frames lie at any byte, so whole words around them are copied.
fn read_frames(pages: &dyn Pages, text: Text, modules: usize) -> Option<Vec<Frame>> {
    let count = text.bytes as usize / size_of::<u64>();
    if text.reference == 0 || count > MOST_FRAMES {
        return None;
    }
    let start = u64::from(text.reference) & !7;
    let skip = (u64::from(text.reference) - start) as usize;
    let mut words = vec![0u64; (skip + count * size_of::<u64>()).div_ceil(size_of::<u64>())];
    pages.copy(start, &mut words)?;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let (frames, _) = bytes[skip..].as_chunks::<8>();
    Some(
        frames[..count]
            .iter()
            .map(|frame| {
                let word = u64::from_ne_bytes(*frame);
                Frame {
                    address: word & ((1 << 48) - 1),
                    module: ((word >> 48) as usize)
                        .checked_sub(1)
                        .filter(|&module| module < modules),
                }
            })
            .collect(),
    )
}

#[cfg(all(test, feature = "cli", heapledger_core))]
#[path = "samples_tests.rs"]
mod tests;
