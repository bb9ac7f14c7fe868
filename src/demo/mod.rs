//! The demo: the IOContext workload, told as a story.
//!
//! The container is made once; each run decodes it in a process of its own, so
//! that peaks are its own, under the preload library, so that both sides are
//! seen. Under `heapledger run` the library is there already, and the recorder
//! sees the runs as well.
//!
//! The blind run decodes it once, since it keeps every frame. The others, which are
//! compared by their speed, decode it several times over and take turns: so what a run
//! does once in its life weighs little, and what else the machine does meets both.

pub(crate) mod figures;
mod process;
mod room;
pub(crate) mod screen;
mod turns;
mod worker;

use std::fmt;
use std::io::IsTerminal;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::iocontext::Workload;
use crate::report::units::unsigned_size;
use figures::{Demo, SCHEMA};
use process::Process;

/// Frames of the runs unless somebody asks for others: 1.5 GiB of C's.
const USUAL_FRAMES: u32 = 400;
/// How often the runs that are compared decode the container.
const PASSES: u32 = 2;
/// What a frame takes, on average (the generator's sizes take turns).
const FRAME_BYTES: u64 = 4_040_000;
/// What a thread's decoder holds at most: references, spares, and the frame in work.
const DECODER_BYTES: u64 = 8 * (8 << 20);
/// Everything else.
const PROCESS_BYTES: u64 = 64 << 20;
/// Below this a picture shows nothing.
const LEAST_FRAMES: u32 = 24;

/// A run, by what happens to decoded frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunName {
    /// A cache keeps them, and evicts by the bytes that Rust sees.
    Blind,
    /// They refer to each other.
    Cycle,
    /// Each is freed at once.
    Manual,
    /// The same cache as in the blind run, and it evicts when C's bytes are too many.
    Pressure,
}

impl RunName {
    /// Tells whether its speed is compared with others'.
    fn is_compared(self) -> bool {
        matches!(self, RunName::Manual | RunName::Pressure)
    }

    const ALL: [RunName; 4] = [
        RunName::Blind,
        RunName::Cycle,
        RunName::Manual,
        RunName::Pressure,
    ];

    fn name(self) -> &'static str {
        match self {
            RunName::Blind => "blind",
            RunName::Cycle => "cycle",
            RunName::Manual => "manual",
            RunName::Pressure => "pressure",
        }
    }
}

impl fmt::Display for RunName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What the demo runs.
pub(crate) struct Options {
    /// `None`: as many as there is room for, up to the usual number.
    pub frames: Option<u32>,
    pub threads: u32,
    pub seed: u64,
    /// Of the run `pressure`.
    pub soft_limit_bytes: u64,
    pub runs: Vec<RunName>,
}

/// Runs the demo.
///
/// # Errors
/// When there is no room, or a run fails.
pub(crate) fn run(options: &Options) -> Result<Demo> {
    // Of address space a demand is taken on trust: it fails without harm to anybody else.
    let addresses = match options.frames {
        None => room::address_space_bytes(),
        Some(_) => None,
    };
    let free_bytes = room::free_bytes().into_iter().chain(addresses).min();
    let workload = Workload {
        frames: frames_that_fit(options, free_bytes)?,
        threads: options.threads,
        seed: options.seed,
    };
    let passes = match is_held_down(options, workload.frames) {
        true => PASSES,
        // Every run keeps all frames then, or nearly so: there is nothing to compare.
        false => 1,
    };
    let task = |name: RunName| Task {
        name,
        workload,
        soft_limit_bytes: options.soft_limit_bytes,
        passes: if name.is_compared() { passes } else { 1 },
    };
    let tasks: Vec<Task> = options.runs.iter().copied().map(task).collect();
    let mut progress = Progress::new(&tasks);
    progress.say("making the container");
    let container = workload
        .container()
        .context("cannot make the demo's container")?;
    let mut processes: Vec<Process> = tasks
        .into_iter()
        .map(|task| Process::new(task, &container))
        .collect();
    while processes.iter().any(|process| !process.is_done()) {
        for (index, process) in processes.iter_mut().enumerate() {
            if process.is_done() {
                continue;
            }
            progress.begin(index, process.name());
            process
                .turn(|frames| progress.set(index, frames))
                .with_context(|| format!("the demo's run `{}` failed", process.name()))?;
        }
    }
    progress.end();
    Ok(Demo {
        schema: SCHEMA,
        frames: workload.frames,
        threads: workload.threads,
        seed: workload.seed,
        runs: processes.into_iter().filter_map(Process::run).collect(),
    })
}

/// What a worker is told, in its environment: its memory is measured from its
/// first allocation on, and reading a command line takes more than the workload.
#[derive(Clone, Copy, Debug)]
struct Task {
    name: RunName,
    workload: Workload,
    soft_limit_bytes: u64,
    /// How often it decodes the container.
    passes: u32,
}

const WORKER: &str = "HEAPLEDGER_DEMO_WORKER";
/// As the allocator needs it, which looks before there is any memory.
pub(crate) const WORKER_C: &std::ffi::CStr = c"HEAPLEDGER_DEMO_WORKER";

impl fmt::Display for Task {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Workload {
            frames,
            threads,
            seed,
        } = self.workload;
        let (limit, passes) = (self.soft_limit_bytes, self.passes);
        let name = self.name;
        write!(
            formatter,
            "{name} {frames} {threads} {seed} {limit} {passes}"
        )
    }
}

impl Task {
    fn parse(text: &str) -> Option<Task> {
        let mut words = text.split(' ');
        let name = words.next()?;
        Some(Task {
            name: RunName::ALL
                .into_iter()
                .find(|known| known.name() == name)?,
            workload: Workload {
                frames: words.next()?.parse().ok()?,
                threads: words.next()?.parse().ok()?,
                seed: words.next()?.parse().ok()?,
            },
            soft_limit_bytes: words.next()?.parse().ok()?,
            passes: words.next()?.parse().ok()?,
        })
    }
}

/// Works as a worker, where this process is one.
pub(crate) fn work_if_worker() -> Option<Result<()>> {
    let text = std::env::var(WORKER).ok()?;
    let task = Task::parse(&text).with_context(|| format!("{WORKER} is for the demo alone"));
    Some(task.and_then(|task| worker::work(&task)))
}

/// What a process takes that keeps no frames.
fn beside_frames_bytes(threads: u32) -> u64 {
    PROCESS_BYTES + u64::from(threads) * DECODER_BYTES
}

/// Tells whether the limit holds C far enough below what the blind run keeps: so that more
/// passes need no more memory than that one, also with the other compared run beside it.
fn is_held_down(options: &Options, frames: u32) -> bool {
    let most_bytes = options
        .soft_limit_bytes
        .saturating_add(options.soft_limit_bytes / 4);
    let kept_bytes = u64::from(frames) * FRAME_BYTES;
    most_bytes.saturating_add(beside_frames_bytes(options.threads)) <= kept_bytes
}

/// Decides on the number of frames, before anything takes memory.
fn frames_that_fit(options: &Options, free_bytes: Option<u64>) -> Result<u32> {
    let beside = beside_frames_bytes(options.threads);
    let wanted = options.frames.unwrap_or(USUAL_FRAMES);
    let Some(free) = free_bytes else {
        return Ok(wanted);
    };
    let needed = beside + u64::from(wanted) * FRAME_BYTES;
    if needed <= free {
        return Ok(wanted);
    }
    let fitting = free.saturating_sub(beside) / FRAME_BYTES;
    let fitting = u32::try_from(fitting).unwrap_or(u32::MAX);
    if options.frames.is_some() || fitting < LEAST_FRAMES {
        bail!(
            "{wanted} frames take {}, and {} are free here; try --frames {}",
            unsigned_size(needed),
            unsigned_size(free),
            fitting.max(1)
        );
    }
    Ok(fitting)
}

/// What is under way, on a terminal.
struct Progress {
    bar: ProgressBar,
    /// Of each run.
    frames: Vec<u64>,
}

impl Progress {
    fn new(tasks: &[Task]) -> Progress {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let all = tasks
            .iter()
            .map(|task| u64::from(task.workload.frames) * u64::from(task.passes));
        let bar = ProgressBar::with_draw_target(Some(all.sum()), target);
        if let Ok(style) = ProgressStyle::with_template("  {msg:<24} {wide_bar} {percent:>3} %") {
            bar.set_style(style);
        }
        Progress {
            bar,
            frames: vec![0; tasks.len()],
        }
    }

    fn say(&self, what: &'static str) {
        self.bar.set_message(what);
        self.bar.tick();
    }

    fn begin(&mut self, run: usize, name: RunName) {
        self.set(run, self.frames[run]);
        self.bar.set_message(format!("decoding: {name}"));
    }

    fn set(&mut self, run: usize, frames: u64) {
        self.frames[run] = frames;
        self.bar.set_position(self.frames.iter().sum());
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(frames: Option<u32>) -> Options {
        Options {
            frames,
            threads: 2,
            seed: 1,
            soft_limit_bytes: 1 << 29,
            runs: vec![RunName::Blind],
        }
    }

    #[test]
    fn a_worker_reads_what_it_is_told() {
        let workload = Workload {
            frames: 7,
            threads: 3,
            seed: u64::MAX,
        };
        for name in RunName::ALL {
            let task = Task {
                name,
                workload,
                soft_limit_bytes: 1 << 29,
                passes: 3,
            };
            let text = task.to_string();
            assert_eq!(Task::parse(&text).unwrap().to_string(), text);
        }
        assert!(Task::parse("blind 7").is_none());
        assert!(Task::parse("other 7 3 1 9 1").is_none());
    }

    #[test]
    fn the_usual_run_fits_in_two_gibibytes() {
        assert_eq!(
            frames_that_fit(&options(None), Some(2 << 30)).unwrap(),
            USUAL_FRAMES
        );
    }

    #[test]
    fn several_passes_need_a_limit_that_holds_frames_down() {
        assert!(is_held_down(&options(None), USUAL_FRAMES));
        assert!(!is_held_down(&options(None), 100), "all of them fit");
        let many = Options {
            threads: 64,
            ..options(None)
        };
        assert!(!is_held_down(&many, USUAL_FRAMES), "decoders take most");
        let unlimited = Options {
            soft_limit_bytes: u64::MAX,
            ..options(None)
        };
        assert!(!is_held_down(&unlimited, u32::MAX));
    }

    #[test]
    fn with_less_room_there_are_fewer_frames_unless_somebody_asked_for_them() {
        let fewer = frames_that_fit(&options(None), Some(1 << 30)).unwrap();
        assert!((200..USUAL_FRAMES).contains(&fewer), "{fewer}");
        let refused = frames_that_fit(&options(Some(400)), Some(1 << 30)).unwrap_err();
        assert!(
            refused.to_string().contains(&format!("--frames {fewer}")),
            "{refused}"
        );
        assert!(frames_that_fit(&options(None), Some(100 << 20)).is_err());
        assert_eq!(
            frames_that_fit(&options(Some(5000)), None).unwrap(),
            5000,
            "nobody knows better"
        );
    }
}
