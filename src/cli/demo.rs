//! `heapledger demo`.

use std::io::{self, Write};

use clap::{Args, ValueEnum};

use super::size::Size;
use crate::demo::{Options, RunName, run as run_demo, screen};
use crate::report::Style;

const EXAMPLES: &str = "\
Examples:
  heapledger demo                          the story on one screen, in seconds
  heapledger demo --frames 100 --threads 1
  heapledger demo --variant cycle          the same with a reference cycle in place of a cache
  heapledger demo --json                   the figures for programs
";

/// Show what C holds and Rust cannot see: a C media library, driven from Rust.
#[derive(Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Frames to decode, 3.8 MiB each on average [default: 400, fewer where memory is short]
    ///
    /// The blind run keeps them all. The runs that are compared decode them twice, where the limit
    /// is low enough to hold them down.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    frames: Option<u32>,
    /// Threads that decode at once
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
    /// What the container is made from: the same seed, the same bytes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What keeps the frames in the blind run
    #[arg(long, value_enum, default_value_t = Variant::Cache)]
    variant: Variant,
    /// Live bytes that the run `pressure` is held below
    #[arg(
        long,
        default_value = "512MiB",
        value_name = "SIZE",
        allow_hyphen_values = true
    )]
    soft_limit: Size,
    /// Write heapledger.demo/1
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Variant {
    /// A cache that evicts by the bytes that Rust sees
    Cache,
    /// Frames that hold each other, and so themselves
    Cycle,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let blind = match arguments.variant {
        Variant::Cache => RunName::Blind,
        Variant::Cycle => RunName::Cycle,
    };
    let options = Options {
        frames: arguments.frames,
        threads: arguments.threads,
        seed: arguments.seed,
        soft_limit_bytes: arguments.soft_limit.bytes,
        runs: vec![blind, RunName::Pressure, RunName::Manual],
    };
    let demo = run_demo(&options)?;
    let stdout = io::stdout();
    let style = Style::of(&stdout);
    let mut out = stdout.lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &demo).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        out.write_all(screen::draw(&demo, style).as_bytes())?;
    }
    Ok(out.flush()?)
}
