//! `heapledger report`.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use crate::analysis::Report;
use crate::recording::Recording;
use crate::report::text::By;
use crate::report::{Style, json, text};

const EXAMPLES: &str = "\
Examples:
  heapledger report new.hlr                              who holds what
  heapledger report new.hlr --by site                    every call site
  heapledger report new.hlr --format json -o new.json    the same for programs
";

/// Show who held how much memory.
#[derive(Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Recording, directory of ledgers, or ledger
    file: PathBuf,
    /// How to write it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Write to OUT instead of standard output
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Show one table alone and in full (text)
    #[arg(long, value_enum)]
    by: Option<ByArgument>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables and a picture, for people
    Text,
    /// heapledger.report/1, for programs
    Json,
    #[value(hide = true)]
    Html,
    #[value(hide = true)]
    Flamegraph,
    #[value(hide = true)]
    Folded,
    #[value(hide = true)]
    Pprof,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ByArgument {
    Site,
    Library,
    Scope,
    Thread,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let format = arguments.format;
    if !matches!(format, Format::Text | Format::Json) {
        let name = format
            .to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned());
        bail!("format {name} is not built yet: this version writes text and json");
    }
    if format == Format::Json && arguments.by.is_some() {
        bail!("--by chooses a table of the text report: json holds all of them");
    }
    let recording = Recording::open_any(&arguments.file)?;
    let (mut out, style) = open_output(arguments)?;
    let report = Report::new(&recording);
    let written = match format {
        Format::Json => json::write(&report, &mut out),
        _ => text::write(&report, arguments.by.map(By::from), style, &mut out),
    };
    let name = arguments
        .output
        .as_deref()
        .unwrap_or(Path::new("standard output"));
    written.with_context(|| format!("cannot write {}", name.display()))
}

/// Opens what is written to before the work starts, and after it is known that
/// there is something to write: a mistyped recording costs no older report.
fn open_output(arguments: &Arguments) -> anyhow::Result<(Box<dyn Write>, Style)> {
    let Some(path) = &arguments.output else {
        let stdout = io::stdout();
        let style = Style::of(&stdout);
        return Ok((Box::new(stdout.lock()), style));
    };
    if is_same_file(path, &arguments.file) {
        bail!(
            "{} is the recording itself: choose another file to write to",
            path.display()
        );
    }
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let style = Style::of(&file);
    Ok((Box::new(file), style))
}

fn is_same_file(left: &Path, right: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (left.metadata(), right.metadata()) {
        (Ok(left), Ok(right)) => (left.dev(), left.ino()) == (right.dev(), right.ino()),
        _ => false,
    }
}

impl From<ByArgument> for By {
    fn from(by: ByArgument) -> By {
        match by {
            ByArgument::Site => By::Site,
            ByArgument::Library => By::Library,
            ByArgument::Scope => By::Scope,
            ByArgument::Thread => By::Thread,
        }
    }
}
