//! `heapledger run`: starts a program, watches it from outside, and writes what
//! its ledgers hold into one recording.

mod arrivals;
mod clerk;
mod directory;
mod ending;
mod image;
mod inherited;
pub(crate) mod inspect;
mod launch;
mod lives;
mod namer;
mod output;
pub(crate) mod pressure;
mod proc;
mod signals;
mod spotter;
mod strangers;
mod thin;
mod timeline;
mod watch;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};

use crate::analysis::tally::RunFigures;
use crate::embedded::PRELOAD;
use crate::recording::file::Writer;
use crate::recording::model::{Mode, Start};
use crate::recording::symbols::Detail;
use clerk::Clerk;
use directory::LedgerDirectory;
use inherited::Inherited;
use inspect::{Program, Refusal};
use launch::{Tracking, launch};
use lives::Lives;
use output::Output;
use pressure::{Plan, Stewards};
use signals::Signals;
use spotter::Spotter;
use watch::{Run, Watch};

/// Exit codes of our own failures, as env's.
const FAILED: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Reason of a process whose image was seen without the library it should have loaded.
const NOT_LOADED: &str = "the preload library was not loaded";
/// Reason of a program of which no ledger came, and nothing more was seen.
const NO_LEDGER: &str = "no ledger came: the preload library was not loaded, or found no room";

/// What `heapledger run` was asked for.
pub(crate) struct RunOptions {
    pub output: Option<PathBuf>,
    /// What is known of each allocation.
    pub mode: Mode,
    /// Misuse of the allocator ends a program; mode full alone sees it.
    pub aborts_on_misuse: bool,
    pub children: bool,
    /// Whether clean-ups are driven, and how.
    pub pressure: Option<Plan>,
    /// Who is told the figures at the end; `None`: nobody.
    pub summary: Option<fn(&RunFigures<'_>)>,
    /// Program and arguments; never empty.
    pub command: Vec<OsString>,
}

/// Why nothing was run.
struct Failure {
    exit_code: u8,
    error: anyhow::Error,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure {
            exit_code: FAILED,
            error,
        }
    }
}

/// Runs the program and gives the exit code to end with: the program's own.
pub(crate) fn run(options: &RunOptions) -> u8 {
    match record(options) {
        Ok(status) => exit_code(status),
        Err(failure) => {
            say(&format!("{:#}", failure.error));
            failure.exit_code
        }
    }
}

fn record(options: &RunOptions) -> Result<ExitStatus, Failure> {
    let shown = options.command[0].to_string_lossy().into_owned();
    let program = inspect::inspect(&options.command[0]).map_err(refused)?;
    let path = options
        .output
        .clone()
        .unwrap_or_else(|| default_output(&shown));
    let (output, file) = Output::open(&path)?;
    let (tracking, stewards) = match prepare(options) {
        Ok((tracking, stewards)) => (Ok(tracking), stewards),
        Err(error) => {
            say(&format!(
                "cannot track {shown}: {error:#}; running it untracked"
            ));
            (Err(format!("no ledger could be set up: {error:#}")), None)
        }
    };
    let untracked = program.untracked.filter(|_| tracking.is_ok());
    let say_untracked = |is_started: bool| {
        if let Some(reason) = untracked.filter(|reason| reason.may_not_start() == is_started) {
            say(&format!(
                "cannot track {shown}: {reason}; running it untracked"
            ));
        }
    };
    say_untracked(false);
    let session = match Session::begin(options, &program, tracking, (&path, file)) {
        Ok(session) => session,
        Err(failure) => {
            output.abandon();
            return Err(failure);
        }
    };
    // Only now it is known that it runs at all.
    output.settle();
    say_untracked(true);
    let status = session.finish(options, stewards, &output)?;
    Ok(status)
}

fn refused(refusal: Refusal) -> Failure {
    let (exit_code, why) = match refusal {
        Refusal::NotFound(why) => (NOT_FOUND, why),
        Refusal::NotExecutable(why) => (NOT_EXECUTABLE, why),
    };
    Failure {
        exit_code,
        error: anyhow!("cannot run {why}"),
    }
}

fn prepare(options: &RunOptions) -> Result<(Tracking, Option<Stewards>)> {
    let library = PRELOAD.extract()?;
    let directory = LedgerDirectory::create()?;
    let begin = |plan| Stewards::begin(plan, &directory.path);
    let stewards = options.pressure.as_ref().map(begin).transpose();
    let stewards = stewards.context("cannot prepare for pressure")?;
    if let Some(objection) = options.pressure.as_ref().and_then(pressure::objection) {
        say(&objection);
    }
    let variables = stewards.as_ref().map_or_else(Vec::new, Stewards::variables);
    let tracking = Tracking {
        library,
        directory,
        mode: options.mode,
        aborts_on_misuse: options.aborts_on_misuse,
        children: options.children,
        variables,
    };
    Ok((tracking, stewards))
}

/// A program that runs, and everything that is needed to record it.
struct Session {
    began: Instant,
    start: Start,
    /// Keeps the directory of ledgers until the end.
    _tracking: Option<Tracking>,
    root_reason: Option<String>,
    child: Child,
    signals: Signals,
    spotter: Option<Spotter>,
    lives: Option<Lives>,
    clerk: Clerk,
}

impl Session {
    /// Starts the program; whatever can fail has been tried by then.
    fn begin(
        options: &RunOptions,
        program: &Program,
        tracking: Result<Tracking, String>,
        (path, file): (&Path, File),
    ) -> Result<Session, Failure> {
        let (tracking, no_tracking) = match tracking {
            Ok(tracking) => (Some(tracking), None),
            Err(why) => (None, Some(why)),
        };
        let directory = tracking
            .as_ref()
            .map(|tracking| tracking.directory.path.clone());
        let mut start = Start {
            command: options
                .command
                .iter()
                .map(|part| part.to_string_lossy().into_owned())
                .collect(),
            ledger_directory: directory
                .as_ref()
                .map_or(String::new(), |path| path.display().to_string()),
            unix_ns: unix_ns(),
            root_pid: 0,
            heapledger: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let writer = Writer::new(file, &start)
            .with_context(|| format!("cannot write the recording {}", path.display()))?;
        let root_reason = no_tracking.or(program.untracked.map(|reason| reason.to_string()));
        let inherited = Inherited::take(&signals::blocked());
        let signals = Signals::open(&signals::forwarded()).context("cannot receive signals")?;
        let spotter = directory.as_deref().map(Spotter::begin).transpose();
        let spotter = spotter.context("cannot watch for ledgers")?;
        // Not everybody may; it only makes certain what is mostly known.
        let lives = directory.as_ref().and_then(|_| Lives::listen().ok());
        let clerk = Clerk::employ(writer, start.clone()).context("cannot start a thread")?;
        let child = launch(&options.command, program, tracking.as_ref(), inherited)
            .map_err(|error| not_launched(&start.command[0], program, &error))?;
        raise_descriptor_limit();
        start.root_pid = child.id();
        clerk.give(clerk::Job::Start(start.clone()));
        Ok(Session {
            began: Instant::now(),
            start,
            _tracking: tracking,
            root_reason,
            child,
            signals,
            spotter,
            lives,
            clerk,
        })
    }

    /// Watches the program until it ends, then finishes the recording.
    fn finish(
        self,
        options: &RunOptions,
        stewards: Option<Stewards>,
        output: &Output,
    ) -> Result<ExitStatus> {
        // A program that connects before waits as long.
        let served = stewards.as_ref().map(Stewards::serve).transpose();
        served.context("cannot start a thread")?;
        let run = Run {
            children: options.children,
            clerk: &self.clerk,
            start_unix_ns: self.start.unix_ns,
            command: &self.start.command,
            root_reason: self.root_reason,
            stewards,
        };
        let watch = Watch::new(run, self.child, self.signals, (self.spotter, self.lives))
            .context("cannot watch the program")?;
        let ended = watch.run().context("cannot watch the program")?;
        let duration_s = self.began.elapsed().as_secs_f64();
        let mut desk = self
            .clerk
            .dismiss()
            .context("the recording is not complete")?;
        if ended.handshake_failed {
            say(&format!(
                "{} was not tracked: {NO_LEDGER}",
                self.start.command[0]
            ));
        }
        let detail = Detail::of(desk.has_every_stack);
        ended.namer.finish(&mut desk.tables, detail);
        desk.end();
        if let Some(error) = &desk.failure {
            let left_out = match desk.left_out {
                0 => "names of call sites are missing".to_owned(),
                1 => "1 process is left out".to_owned(),
                number => format!("{number} processes are left out"),
            };
            say(&format!(
                "cannot write all of {}: {error}; {left_out}",
                output.path.display()
            ));
        }
        if let Some(summary) = options.summary {
            summary(&RunFigures {
                tally: &desk.tally,
                modules: &desk.tables.modules,
                sites: &desk.tables.sites,
                tree_peak: ended.tree_peak,
                outcome: &ending::from_status(ended.status),
                mode: options.mode,
                duration_s,
                file: &output.path,
                file_bytes: desk.writer.bytes_written(),
            });
        }
        Ok(ended.status)
    }
}

fn not_launched(shown: &str, program: &Program, error: &io::Error) -> Failure {
    let exit_code = match error.raw_os_error() {
        Some(libc::ENOENT) => NOT_FOUND,
        // It is not the program that stands in the way.
        Some(libc::EMFILE | libc::ENFILE | libc::EAGAIN | libc::ENOMEM) => FAILED,
        _ => NOT_EXECUTABLE,
    };
    // "Exec format error" says less than what was found out about the file.
    let error = match program.untracked.filter(|reason| reason.may_not_start()) {
        Some(reason) => anyhow!("cannot run {shown}: {reason} ({error})"),
        None => anyhow!("cannot run {shown}: {error}"),
    };
    Failure { exit_code, error }
}

fn default_output(program: &str) -> PathBuf {
    let name = program.rsplit('/').next().unwrap_or(program);
    PathBuf::from(format!("heapledger.{name}.{}.hlr", std::process::id()))
}

fn exit_code(status: ExitStatus) -> u8 {
    let signalled = || 128 + status.signal().unwrap_or(0);
    status.code().unwrap_or_else(signalled) as u8
}

/// Two descriptors a process and some more: allow ourselves, not the program, as many as may be.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

/// Says something on standard error, if there is one.
fn say(message: &str) {
    let _ = writeln!(io::stderr(), "heapledger: {message}");
}

/// Gives the wall clock, as ledgers keep it.
fn unix_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

/// Gives the monotonic clock, as ledgers keep it.
fn mono_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
