//! What the summary at the end of a run needs, kept while processes end, so
//! that memory does not grow with their number.

use std::collections::HashMap;
use std::path::Path;

use super::{Cleanups, inherited, take_inherited_off};
use crate::counts::{Counts, Side};
use crate::recording::model::{Lifetimes, Losses, Mode, Module, Outcome, Process, Site};

/// Untracked processes that are named one by one.
const NAMED: usize = 5;

/// Everything the summary of a run speaks of.
pub(crate) struct RunFigures<'a> {
    pub tally: &'a Tally,
    pub modules: &'a [Module],
    pub sites: &'a [Site],
    /// Highest sum over all processes, as read.
    pub tree_peak: [i64; 3],
    pub outcome: &'a Outcome,
    /// What was asked for.
    pub mode: Mode,
    pub duration_s: f64,
    pub file: &'a Path,
    pub file_bytes: u64,
}

/// Sums over all processes, and the two that the summary shows.
#[derive(Default)]
pub(crate) struct Tally {
    pub processes: u64,
    pub untracked: u64,
    /// The first untracked ones.
    pub named: Vec<Process>,
    /// The program itself, as its last image.
    pub root: Option<Process>,
    /// The one with the highest peak.
    pub largest: Option<Process>,
    pub losses: Losses,
    pub cleanups: Cleanups,
    /// The first processes that misused the allocator, and how.
    pub misused: Vec<Process>,
    /// Such processes besides.
    pub more_misused: u64,
    pub recorded: Recorded,
    pub lived: Lived,
    /// Tracked processes whose ledgers have no stacks, whatever was asked for.
    pub without_stacks: u64,
    by_site: HashMap<u32, [Counts; 2]>,
    /// What forked processes began with, and did not allocate themselves.
    inherited: Counts,
}

/// What is known of single allocations, over all processes.
#[derive(Default)]
pub(crate) struct Recorded {
    /// Allocations whose stacks are known: a sample, or all.
    pub allocations: u64,
    pub stacks: u64,
}

/// How long blocks lived, by estimate from samples, over all processes and both sides.
#[derive(Default)]
pub(crate) struct Lived {
    pub freed_blocks: u64,
    /// Of these, within a millisecond.
    pub short_blocks: u64,
    pub live_blocks: u64,
    /// Some process's clock steps by too much to tell short lives.
    pub is_coarse: bool,
}

impl Lived {
    fn add(&mut self, lifetimes: &Lifetimes) {
        self.is_coarse |= !lifetimes.tells_short();
        for lives in &lifetimes.sides {
            let freed = lives.buckets.iter().map(|&(_, blocks)| blocks);
            for (sum, blocks) in [
                (&mut self.freed_blocks, freed.fold(0, u64::saturating_add)),
                (&mut self.short_blocks, lives.short_blocks),
                (&mut self.live_blocks, lives.live_blocks),
            ] {
                *sum = sum.saturating_add(blocks);
            }
        }
    }
}

impl Recorded {
    fn add(&mut self, process: &Process) {
        self.stacks += process.stacks.len() as u64;
        let known = process.stacks.iter().map(|stack| stack.figures.samples);
        let known = known.fold(0, u64::saturating_add);
        let inherited = match process.mode {
            Mode::Full => inherited(process).allocated_blocks,
            _ => 0,
        };
        let own = known.saturating_sub(inherited);
        self.allocations = self.allocations.saturating_add(own);
    }
}

impl Tally {
    pub(crate) fn add(&mut self, process: &mut Process, root_pid: u32) {
        self.recorded.add(process);
        // There may be hundreds of thousands, of which the summary shows none.
        let stacks = std::mem::take(&mut process.stacks);
        self.add_sums(process, root_pid);
        process.stacks = stacks;
    }

    fn add_sums(&mut self, process: &Process, root_pid: u32) {
        self.processes += 1;
        if process.untracked_reason.is_some() {
            self.untracked += 1;
            if self.named.len() < NAMED {
                self.named.push(process.clone());
            }
        }
        if process.untracked_reason.is_none() && process.mode == Mode::Count {
            self.without_stacks += 1;
        }
        self.inherited += inherited(process);
        process
            .lifetimes
            .iter()
            .for_each(|lives| self.lived.add(lives));
        for owner in &process.owners {
            self.by_site.entry(owner.site).or_default()[owner.side.index()] += owner.counts;
        }
        self.losses += process.losses;
        self.cleanups.add(&process.pressure);
        match process.misuses.is_empty() {
            true => {}
            false if self.misused.len() < NAMED => self.misused.push(Process {
                pid: process.pid,
                exe: process.exe.clone(),
                args: process.args.clone(),
                misuses: process.misuses.clone(),
                ..Process::default()
            }),
            false => self.more_misused += 1,
        }
        let peak = |process: &Process| process.peak.live_bytes[2];
        if self
            .largest
            .as_ref()
            .is_none_or(|largest| peak(process) > peak(largest))
        {
            self.largest = Some(process.clone());
        }
        if process.pid == root_pid && (self.root.is_none() || process.outcome != Outcome::Exec) {
            self.root = Some(process.clone());
        }
    }

    /// Gives what all processes allocated, by side.
    pub(crate) fn allocated(&self, sites: &[Site]) -> [Counts; 2] {
        let all = self
            .by_site
            .iter()
            .flat_map(|(&site, counts)| Side::ALL.map(|side| (site, side, counts[side.index()])));
        let [mut c, mut rust] = by_side(all, sites).map(Some);
        take_inherited_off(self.inherited, &mut c, &mut rust);
        [c, rust].map(Option::unwrap_or_default)
    }
}

/// Gives the sums of one process by side.
pub(crate) fn totals(process: &Process, sites: &[Site]) -> [Counts; 2] {
    by_side(
        process
            .owners
            .iter()
            .map(|owner| (owner.site, owner.side, owner.counts)),
        sites,
    )
}

/// What the malloc family books for Rust's own allocator is Rust's.
fn by_side(entries: impl Iterator<Item = (u32, Side, Counts)>, sites: &[Site]) -> [Counts; 2] {
    let mut sums = [Counts::default(); 2];
    for (site, side, counts) in entries {
        let is_shim = sites.get(site as usize).is_some_and(|site| site.rust_shim);
        sums[if is_shim { Side::Rust } else { side }.index()] += counts;
    }
    sums
}
