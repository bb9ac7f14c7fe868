//! Rounds: every peer does every workload once a round, in turn.

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use crate::common::{Ledgers, Rounds};
use crate::peer::Sample;
use crate::peers::LineUp;

pub struct Workload {
    pub name: &'static str,
    pub title: &'static str,
    /// What its figures count.
    pub operation: &'static str,
    /// What the program is told.
    pub words: [&'static str; 2],
    /// Whether there is no program in C for it.
    pub is_rust: bool,
    pub slice: Slice,
    /// How many times longer than others it works, since its slices are longer.
    pub times_longer: u32,
}

/// Which slice of a process stands for it.
#[derive(Clone, Copy)]
pub enum Slice {
    /// What the work costs when nothing disturbs it.
    Least,
    /// On two threads the shortest slice is the one in which they met least, and
    /// what they usually cost each other would not be seen. A frame is so much
    /// work that the shortest slice is luck with pages.
    Median,
}

impl Workload {
    pub fn threads(&self) -> usize {
        self.words[1].parse().unwrap_or(1)
    }
}

pub const WORKLOADS: [Workload; 6] = [
    Workload {
        name: "pair",
        title: "64 B pair",
        operation: "64 bytes allocated and freed",
        words: ["pair", "1"],
        is_rust: false,
        slice: Slice::Least,
        times_longer: 1,
    },
    Workload {
        name: "pair_2_threads",
        title: "pair, 2 threads",
        operation: "64 bytes allocated and freed on each of two threads",
        words: ["pair", "2"],
        is_rust: false,
        slice: Slice::Median,
        times_longer: 1,
    },
    Workload {
        name: "window",
        title: "window",
        operation: "a random one of 10,000 blocks of 16 to 1,016 bytes freed, and a new one allocated in its place",
        words: ["window", "1"],
        is_rust: false,
        slice: Slice::Least,
        times_longer: 1,
    },
    Workload {
        name: "window_2_threads",
        title: "window, 2 threads",
        operation: "the same on each of two threads, each with a window of its own",
        words: ["window", "2"],
        is_rust: false,
        slice: Slice::Median,
        times_longer: 1,
    },
    Workload {
        name: "cross",
        title: "freed across",
        operation: "64 bytes allocated by one thread and freed by the other",
        words: ["cross", "2"],
        is_rust: false,
        slice: Slice::Median,
        times_longer: 1,
    },
    Workload {
        name: "iocontext",
        title: "IOContext",
        operation: "a frame of 1 to 8 MiB decoded by a C library that reads through Rust, in CPU time",
        words: ["iocontext", "1"],
        is_rust: true,
        slice: Slice::Median,
        times_longer: 2,
    },
];

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Pace {
    pub rounds: usize,
    /// How long each process works.
    pub milliseconds: u32,
    pub is_quick: bool,
}

impl Pace {
    pub fn of(is_quick: bool, rounds: Option<usize>) -> Pace {
        let (usual, milliseconds) = if is_quick { (2, 10) } else { (11, 100) };
        Pace {
            rounds: rounds.unwrap_or(usual).max(1),
            milliseconds,
            is_quick,
        }
    }
}

/// One peer's figures in one workload.
pub struct Figure {
    pub slice: Slice,
    /// Median over the rounds of the shortest slice.
    pub least_ns: f64,
    /// Median over the rounds of the median slice.
    pub median_ns: f64,
    /// Median of the rounds' ratios to the group's first peer, of the shortest slices.
    pub least_ratio: f64,
    /// The same of the median slices.
    pub median_ratio: f64,
    pub samples: Vec<Sample>,
}

impl Figure {
    pub fn ns(&self) -> f64 {
        match self.slice {
            Slice::Least => self.least_ns,
            Slice::Median => self.median_ns,
        }
    }

    pub fn ratio(&self) -> f64 {
        match self.slice {
            Slice::Least => self.least_ratio,
            Slice::Median => self.median_ratio,
        }
    }
}

/// By group, peer and workload.
pub type Figures = Vec<Vec<Vec<Figure>>>;

pub fn rounds(line_up: &LineUp, pace: Pace, scratch: &Ledgers) -> Result<Figures> {
    let order: Vec<(usize, usize)> = line_up
        .groups
        .iter()
        .enumerate()
        .flat_map(|(group, of)| (0..of.peers.len()).map(move |peer| (group, peer)))
        .collect();
    let mut samples: Vec<Vec<Vec<Vec<Sample>>>> = line_up
        .groups
        .iter()
        .map(|group| vec![vec![Vec::new(); group.peers.len()]; WORKLOADS.len()])
        .collect();
    let bar = progress(pace.rounds * WORKLOADS.len() * order.len());
    for round in 0..pace.rounds {
        for (at, workload) in WORKLOADS.iter().enumerate() {
            for turn in 0..order.len() {
                let (group, peer) = order[(round + turn) % order.len()];
                let of = &line_up.groups[group].peers[peer];
                bar.set_message(of.entry.name);
                samples[group][at][peer].push(of.run(workload, pace.milliseconds, scratch)?);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    Ok(samples
        .into_iter()
        .map(|workloads| figures(&workloads))
        .collect())
}

fn progress(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {percent}% {eta} left, {msg}")
        .expect("a template in order");
    ProgressBar::new(steps as u64).with_style(style)
}

/// One group's samples, by workload, peer and round, as figures by peer and workload.
fn figures(workloads: &[Vec<Vec<Sample>>]) -> Vec<Vec<Figure>> {
    let peers = workloads.first().map_or(0, Vec::len);
    let both: Vec<[Rounds; 2]> = workloads
        .iter()
        .map(|peers| {
            let of = |value: fn(&Sample) -> f64| {
                Rounds::from(
                    peers
                        .iter()
                        .map(|rounds| rounds.iter().map(value).collect())
                        .collect(),
                )
            };
            [of(|sample| sample.least), of(|sample| sample.median)]
        })
        .collect();
    let figure = |workload: usize, peer: usize| {
        let [least, median] = &both[workload];
        Figure {
            slice: WORKLOADS[workload].slice,
            least_ns: least.median(peer),
            median_ns: median.median(peer),
            least_ratio: least.ratio(peer),
            median_ratio: median.ratio(peer),
            samples: workloads[workload][peer].clone(),
        }
    };
    (0..peers)
        .map(|peer| {
            (0..workloads.len())
                .map(|workload| figure(workload, peer))
                .collect()
        })
        .collect()
}
