//! `heapledger report`.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::filter::{ByArgument, FilterArguments};
use super::output::{Output, refuse_terminal};
use crate::analysis::stacks::Stacks;
use crate::analysis::{By, Report};
use crate::recording::Recording;
use crate::report::{flamegraph, folded, html, json, phrases, pprof, text};

const EXAMPLES: &str = "\
Examples:
  heapledger report new.hlr                                  who holds what
  heapledger report new.hlr --by site                        every call site
  heapledger report new.hlr --format json -o new.json        the same for programs
  heapledger report new.hlr --format html -o new.html        the same as a page to look around in
  heapledger report new.hlr --format flamegraph -o new.svg   the same as a picture
  heapledger report new.hlr --format pprof -o new.pb.gz      for go tool pprof
  heapledger report new.hlr --side c --library libssl --measure allocated
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
    /// Show one table alone and in full (text); put stacks together (the other formats)
    #[arg(long, value_enum)]
    by: Option<ByArgument>,
    #[command(flatten)]
    filter: FilterArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables and a picture, for people
    Text,
    /// heapledger.report/1, for programs
    Json,
    /// One page for the browser, which needs no network
    Html,
    /// One picture of all stacks (SVG)
    Flamegraph,
    /// One line a stack, for flame graph tools
    Folded,
    /// For pprof and what reads its files (gzip)
    Pprof,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let format = arguments.format;
    let output = arguments.output.as_deref();
    match format {
        Format::Html => refuse_terminal(output, "a page for the browser")?,
        Format::Pprof => refuse_terminal(output, "a profile for pprof")?,
        _ => {}
    }
    let filter = arguments.filter.filter()?;
    let measure = filter.measure;
    let recording = Recording::open_any(&arguments.file)?;
    let mut report = Report::new(&recording);
    report.narrow(&filter)?;
    let by = arguments.by.map(By::from);
    let stacks = match format {
        Format::Text => None,
        // The page puts stacks together itself.
        Format::Html => Some(Stacks::new(&report, &filter, By::Site)?),
        _ => Some(Stacks::new(&report, &filter, by.unwrap_or_default())?),
    };
    let output = Output::open(output, &[&arguments.file])?;
    output.write(|out, style| match (&stacks, format) {
        (Some(stacks), Format::Json) => json::write_with(stacks, out),
        (Some(stacks), Format::Html) => html::write(stacks, by, out),
        (Some(stacks), Format::Flamegraph) => flamegraph::write(stacks, measure, out),
        (Some(stacks), Format::Folded) => folded::write(stacks, measure, out)
            .map(|negative| note(phrases::negative_rows(negative))),
        (Some(stacks), Format::Pprof) => pprof::write(stacks, measure, out),
        _ => text::write(&report, by, style, out),
    })
}

/// Says on standard error what the format has no place for. It may be closed.
fn note(sentence: Option<String>) {
    if let Some(sentence) = sentence {
        let _ = writeln!(io::stderr(), "heapledger: {sentence}");
    }
}
