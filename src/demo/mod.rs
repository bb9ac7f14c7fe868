//! The demo: the IOContext workload, told as a story.
//!
//! The container is made once; each run decodes it in a process of its own, so
//! that peaks are its own, under the preload library, so that both sides are
//! seen. Under `heapledger run` the library is there already, and the recorder
//! sees the runs as well.

pub(crate) mod figures;
mod room;
pub(crate) mod screen;
mod worker;

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::analysis::signal_name;
use crate::counts::Side;
use crate::embedded::PRELOAD;
use crate::iocontext::Workload;
use crate::report::units::unsigned_size;
use crate::snapshot::ledger;
use figures::{Demo, Line, Run, SCHEMA};

/// Frames of the runs unless somebody asks for others: 1.5 GiB of C's.
const USUAL_FRAMES: u32 = 400;
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
    let progress = Progress::new(&workload, options.runs.len());
    progress.say("making the container");
    let container = workload
        .container()
        .context("cannot make the demo's container")?;
    let mut runs = Vec::new();
    for &name in &options.runs {
        progress.begin(name);
        let task = Task {
            name,
            workload,
            soft_limit_bytes: options.soft_limit_bytes,
        };
        let run = run_worker(&task, &container, &progress)
            .with_context(|| format!("the demo's run `{name}` failed"))?;
        runs.push(run);
    }
    progress.end();
    Ok(Demo {
        schema: SCHEMA,
        frames: workload.frames,
        threads: workload.threads,
        seed: workload.seed,
        runs,
    })
}

/// What a worker is told, in its environment: its memory is measured from its
/// first allocation on, and reading a command line takes more than the workload.
#[derive(Clone, Copy, Debug)]
struct Task {
    name: RunName,
    workload: Workload,
    soft_limit_bytes: u64,
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
        let limit = self.soft_limit_bytes;
        write!(formatter, "{} {frames} {threads} {seed} {limit}", self.name)
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
        })
    }
}

/// Works as a worker, where this process is one.
pub(crate) fn work_if_worker() -> Option<Result<()>> {
    let text = std::env::var(WORKER).ok()?;
    let task = Task::parse(&text).with_context(|| format!("{WORKER} is for the demo alone"));
    Some(task.and_then(|task| worker::work(&task)))
}

/// Decides on the number of frames, before anything takes memory.
fn frames_that_fit(options: &Options, free_bytes: Option<u64>) -> Result<u32> {
    let beside = PROCESS_BYTES + u64::from(options.threads) * DECODER_BYTES;
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

fn run_worker(task: &Task, container: &Arc<File>, progress: &Progress) -> Result<Run> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(program);
    command
        .arg("demo")
        .env(WORKER, task.to_string())
        .stdin(Stdio::from(container.try_clone()?))
        .stdout(Stdio::piped());
    // Under a recorder the library is there, and has its own directory of ledgers.
    if !ledger().snapshot().sees(Side::C) {
        command.env("LD_PRELOAD", PRELOAD.extract()?);
        command.env_remove("HEAPLEDGER_DIR");
        // Nobody will read its stacks.
        command.env_remove("HEAPLEDGER_MODE");
    }
    let mut worker = command.spawn()?;
    let out = worker.stdout.take().context("a worker has an output")?;
    let mut run = None;
    for line in BufReader::new(out).lines() {
        match serde_json::from_str(&line?).context("a worker said what is not known")? {
            Line::Progress(frames) => progress.set(frames),
            Line::Done(done) => run = Some(*done),
        }
    }
    let status = worker.wait()?;
    match (status.signal(), run) {
        (None, Some(run)) if status.success() => Ok(run),
        (Some(libc::SIGKILL), _) => Err(anyhow!(
            "killed by SIGKILL: perhaps by the kernel for want of memory; try fewer --frames"
        )),
        (Some(signal), _) => Err(anyhow!("killed by {}", signal_name(signal))),
        // What went wrong, it has said on standard error.
        (None, _) => Err(anyhow!("it ended with {}", status.code().unwrap_or(-1))),
    }
}

/// What is under way, on a terminal.
struct Progress {
    bar: ProgressBar,
    runs: usize,
    frames: u64,
}

impl Progress {
    fn new(workload: &Workload, runs: usize) -> Progress {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let frames = u64::from(workload.frames);
        let bar = ProgressBar::with_draw_target(Some(frames * runs as u64), target);
        if let Ok(style) = ProgressStyle::with_template("  {msg:<24} {wide_bar} {percent:>3} %") {
            bar.set_style(style);
        }
        Progress { bar, runs, frames }
    }

    fn say(&self, what: &'static str) {
        self.bar.set_message(what);
        self.bar.tick();
    }

    fn begin(&self, name: RunName) {
        let done = self.bar.position().div_ceil(self.frames) * self.frames;
        self.bar
            .set_position(done.min(self.frames * self.runs as u64));
        self.bar.set_message(format!("decoding: {name}"));
    }

    fn set(&self, frames: u64) {
        let before = self.bar.position() / self.frames * self.frames;
        self.bar
            .set_position(before + frames.min(self.frames.saturating_sub(1)));
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
            };
            let text = task.to_string();
            assert_eq!(Task::parse(&text).unwrap().to_string(), text);
        }
        assert!(Task::parse("blind 7").is_none());
        assert!(Task::parse("other 7 3 1 9").is_none());
    }

    #[test]
    fn the_usual_run_fits_in_two_gibibytes() {
        assert_eq!(
            frames_that_fit(&options(None), Some(2 << 30)).unwrap(),
            USUAL_FRAMES
        );
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
