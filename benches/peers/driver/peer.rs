//! How one peer is found and started, and what proves that it was at work.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fmt, fs};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::common::{Ledgers, build, library, preload_library, tool, without_settings};
use crate::machine;
use crate::measure::Workload;

/// The program in Rust over the system's allocator.
const SYSTEM: &str = env!("CARGO_BIN_EXE_with_system");

/// A peer as this comparison knows it.
pub struct Entry {
    pub name: &'static str,
    pub source: Source,
    /// Whether it counts allocations or only serves them.
    pub keeps_books: bool,
    /// What it tells about a program's allocations.
    pub sees: &'static str,
    /// A variable of its environment.
    pub setting: Option<(&'static str, &'static str)>,
    pub proof: Proof,
}

pub enum Source {
    /// The program alone.
    Bare,
    /// `benches/programs/forwarding.c`.
    Forwarding,
    /// The library that `heapledger preload` names.
    Heapledger,
    /// A library to preload, by its file.
    Library(&'static str),
    /// A program that starts another, and the words in front of that.
    Starter(&'static str, &'static [&'static str]),
    /// A crate, and the program that has it as its global allocator.
    Crate(&'static str, &'static str),
}

/// What a peer leaves behind if it was really there.
pub enum Proof {
    /// Nothing is known to look for.
    None,
    /// A file in its working directory.
    File,
    /// Words on standard error.
    Says(&'static str),
}

/// A peer that is there.
pub struct Peer {
    pub entry: &'static Entry,
    pub version: String,
    /// What stands in front of the program.
    starter: Option<PathBuf>,
    /// The program in C, for those that do not bring their own.
    program: PathBuf,
    environment: Vec<(&'static str, String)>,
}

/// What a process measured, in nanoseconds an operation.
#[derive(Clone, Copy)]
pub struct Sample {
    /// The shortest slice: what the work costs when nothing disturbs it.
    pub least: f64,
    /// The median slice.
    pub median: f64,
}

impl Peer {
    /// Looks for a peer on this machine.
    pub fn find(entry: &'static Entry, scratch: &Ledgers) -> Result<Peer> {
        let setting = entry.setting.iter();
        let mut peer = Peer {
            entry,
            version: String::new(),
            starter: None,
            program: build("workload", "workload"),
            environment: setting
                .map(|(name, value)| (*name, value.to_string()))
                .collect(),
        };
        match entry.source {
            Source::Bare => peer.version = machine::glibc(),
            Source::Forwarding => peer.preload(&build("forwarding", "forwarding.so")),
            Source::Heapledger => {
                peer.version = machine::crate_version("heapledger");
                peer.preload(&preload_library());
                let directory = scratch.path().display().to_string();
                peer.environment.push(("HEAPLEDGER_DIR", directory));
            }
            Source::Library(file) => {
                let path =
                    library(file).ok_or_else(|| lacking(format!("{file} is not installed")))?;
                peer.version = machine::package_version(&path);
                peer.preload(&path);
            }
            Source::Starter(name, _) => {
                let path = tool(name).ok_or_else(|| lacking(format!("{name} is not installed")))?;
                peer.version = machine::package_version(&path);
                peer.starter = Some(path);
            }
            Source::Crate("", program) => {
                peer.version = machine::rustc();
                peer.program = program.into();
            }
            Source::Crate(name, program) => {
                peer.version = machine::crate_version(name);
                peer.program = program.into();
            }
        }
        Ok(peer)
    }

    fn preload(&mut self, library: &Path) {
        self.environment
            .push(("LD_PRELOAD", library.display().to_string()));
    }

    fn command(&self, workload: &Workload) -> Command {
        let is_c = !matches!(self.entry.source, Source::Crate(..));
        let program = match is_c && workload.is_rust {
            true => Path::new(SYSTEM),
            false => &self.program,
        };
        let mut command = match (&self.starter, &self.entry.source) {
            (Some(starter), Source::Starter(_, words)) => {
                let mut command = Command::new(starter);
                command.args(*words).arg(program);
                command
            }
            _ => Command::new(program),
        };
        without_settings(&mut command);
        for variable in ["MALLOC_CONF", "_RJEM_MALLOC_CONF", "GLIBC_TUNABLES", "PEER"] {
            command.env_remove(variable);
        }
        let variables = self.environment.iter();
        command.envs(variables.map(|(name, value)| (name, value)));
        command.args(workload.words).stdin(Stdio::null());
        command
    }

    /// One process, in an empty working directory.
    pub fn run(&self, workload: &Workload, milliseconds: u32, scratch: &Ledgers) -> Result<Sample> {
        scratch.clear();
        let name = self.entry.name;
        let output = self
            .command(workload)
            .arg((milliseconds * workload.times_longer).to_string())
            .current_dir(scratch.path())
            .output()
            .with_context(|| name)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name}: {}: {said}", output.status);
        if said.contains("Invalid conf pair") {
            return Err(lacking("built without its profiler".to_owned()));
        }
        // The dynamic linker says so and runs the program bare.
        ensure!(!said.contains("cannot be preloaded"), "{name}: {said}");
        let is_proven = match self.entry.proof {
            Proof::None => true,
            Proof::File => fs::read_dir(scratch.path())?.next().is_some(),
            Proof::Says(words) => said.contains(words),
        };
        ensure!(is_proven, "{name} was not at work: {said}");
        sample(&String::from_utf8_lossy(&output.stdout))
            .ok_or_else(|| anyhow!("{name}: its program printed no figures"))
    }
}

/// The line of two numbers; heaptrack prints lines of its own around it.
fn sample(printed: &str) -> Option<Sample> {
    printed.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<f64>);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(least)), Some(Ok(median)), None) if least > 0.0 && median > 0.0 => {
                Some(Sample { least, median })
            }
            _ => None,
        }
    })
}

/// Why a peer is not there, or cannot do what it is asked for.
#[derive(Debug)]
struct Lacking(String);

impl Error for Lacking {}

impl fmt::Display for Lacking {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

fn lacking(reason: String) -> anyhow::Error {
    Lacking(reason).into()
}

pub fn is_lacking(error: &anyhow::Error) -> bool {
    error.is::<Lacking>()
}
