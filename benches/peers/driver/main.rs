//! heapledger beside what else counts or serves allocations, in one run.
//!
//!     cargo bench --manifest-path benches/peers/Cargo.toml --bench peers
//!
//! Every peer does the same work, a process each, in turn and round by round,
//! so that whatever the machine does meanwhile meets all alike. Shown are
//! ratios to the bare allocator of the same round. What is not installed is
//! skipped by name; with CI=true that is a failure.

#[path = "../../common/mod.rs"]
mod common;
mod machine;
mod measure;
mod peer;
mod peers;
mod tables;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use common::{Ledgers, workshop};
use machine::{Machine, Others};
use measure::Pace;
use peers::LineUp;
use tables::Findings;

/// Compare heapledger with its peers: ratios to the bare allocator.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench peers --")]
struct Arguments {
    /// Few and short rounds: whether everything works, not what it costs
    #[arg(long)]
    quick: bool,
    /// Rounds of all peers and workloads [default: 11]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Where the tables go as Markdown [default: target/tmp/benches/peers.md]
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Where the figures go as JSON, schema heapledger.peers/1 [default: beside the tables]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Put the tables into benches/README.md too, in place of the last ones
    #[arg(long, conflicts_with = "quick")]
    quote: bool,
    /// What `cargo bench` says to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let pace = Pace::of(arguments.quick, arguments.rounds);
    let mut markdown = Output::open(arguments.markdown.as_deref(), "peers.md")?;
    let mut json = Output::open(arguments.json.as_deref(), "peers.json")?;

    let scratch = Ledgers::new();
    let line_up = LineUp::find(&scratch)?;
    for skipped in &line_up.skipped {
        eprintln!("SKIPPED {}: {}", skipped.name, skipped.reason);
    }
    let others = Others::watch();
    let figures = measure::rounds(&line_up, pace, &scratch)?;
    let findings = Findings {
        machine: Machine::look(),
        others: others.share(),
        pace,
        line_up: &line_up,
        figures: &figures,
    };
    println!("{}", findings.terminal());
    markdown.write(&findings.markdown())?;
    json.write(&format!("{:#}\n", findings.json()))?;
    if arguments.quote {
        quote(&findings.markdown())?;
    }
    println!("{}\n{}", markdown.path.display(), json.path.display());

    let is_incomplete =
        env::var_os("CI").is_some_and(|value| value == "true") && !line_up.skipped.is_empty();
    Ok(ExitCode::from(u8::from(is_incomplete)))
}

/// A file that is opened before the work begins, so that none is done in vain.
struct Output {
    path: PathBuf,
    file: File,
}

impl Output {
    fn open(told: Option<&Path>, usual: &str) -> Result<Output> {
        let path = told.map_or_else(|| workshop().join(usual), from_where_we_were_called);
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| path.display().to_string())?;
        Ok(Output { path, file })
    }

    fn write(&mut self, text: &str) -> Result<()> {
        let written = self
            .file
            .set_len(0)
            .and_then(|()| self.file.write_all(text.as_bytes()));
        written.with_context(|| self.path.display().to_string())
    }
}

/// `cargo bench` goes to the package's directory; the shell's PWD stays.
fn from_where_we_were_called(path: &Path) -> PathBuf {
    let called_from = env::var_os("PWD").map(PathBuf::from);
    match called_from.filter(|directory| directory.is_dir()) {
        Some(directory) => directory.join(path),
        None => path.to_owned(),
    }
}

const BEGIN: &str = "<!-- peers: begin -->\n";
const END: &str = "<!-- peers: end -->\n";

fn quote(tables: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let marks = text.find(BEGIN).zip(text.find(END));
    ensure!(
        marks.is_some_and(|(begin, end)| begin < end),
        "benches/README.md lacks its marks {BEGIN}and {END}"
    );
    let (begin, end) = marks.unwrap_or_default();
    let quoted = format!("{}{tables}{}", &text[..begin + BEGIN.len()], &text[end..]);
    fs::write(&path, quoted).with_context(|| path.display().to_string())
}
