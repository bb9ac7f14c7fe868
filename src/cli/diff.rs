//! `heapledger diff`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, ValueEnum};

use super::filter::FilterArguments;
use super::output::Output;
use super::size::Size;
use crate::analysis::stacks::Stacks;
use crate::analysis::{By, Difference, Filter, Report};
use crate::recording::Recording;
use crate::report::{diff, flamegraph};

const EXAMPLES: &str = "\
Examples:
  heapledger diff old.hlr new.hlr                            what has grown
  heapledger diff old.hlr new.hlr --fail-on-growth 1MiB      for CI
  heapledger diff old.hlr new.hlr --format flamegraph -o diff.svg
";

const EXIT_CODES: &str = "\
Call sites and stacks are matched by the names of functions and libraries, so that
two builds of a program can be compared.

Exit code: 0; 1 when --fail-on-growth was exceeded; 2 when something could not be
read, compared or written.
";

/// Compare two recordings.
#[derive(Args)]
#[command(before_help = EXAMPLES, after_help = EXIT_CODES)]
pub(super) struct Arguments {
    /// Recording to compare with
    old: PathBuf,
    /// Recording that is compared
    new: PathBuf,
    /// How to write it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Write to OUT instead of standard output
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// End with 1 when the measure has grown by more than SIZE in all
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    fail_on_growth: Option<Size>,
    #[command(flatten)]
    filter: FilterArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables, for people
    Text,
    /// heapledger.diff/1, for programs
    Json,
    /// One picture: red has grown, blue has shrunk (SVG)
    Flamegraph,
}

/// Exit code where there is too much growth.
const GROWN: u8 = 1;
/// Exit code where there is no answer, as `diff` and `cmp` have it.
pub(super) const TROUBLE: u8 = 2;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut filter = arguments.filter.filter()?;
    let recordings = [
        Recording::open_any(&arguments.old)?,
        Recording::open_any(&arguments.new)?,
    ];
    let mut reports = [Report::new(&recordings[0]), Report::new(&recordings[1])];
    narrow(&mut reports, &mut filter)?;
    let [old, new] = &reports;
    let stacks = [stacks(old, &filter)?, stacks(new, &filter)?];
    let [old_stacks, new_stacks] = &stacks;
    let difference = Difference::new(old_stacks, new_stacks, filter.measure);
    if arguments.format == Format::Flamegraph && difference.stacks.is_none() {
        bail!("the recordings are of different modes: their stacks cannot be compared");
    }
    let output = Output::open(
        arguments.output.as_deref(),
        &[&arguments.old, &arguments.new],
    )?;
    output.write(|out, style| match arguments.format {
        Format::Text => diff::text::write(&difference, [old, new], style, out),
        Format::Json => diff::json::write(&difference, [old, new], out),
        Format::Flamegraph => {
            flamegraph::write_difference(old_stacks, new_stacks, filter.measure, out)
        }
    })?;
    let growth = difference.total.growth(filter.measure);
    let is_too_much = arguments
        .fail_on_growth
        .is_some_and(|limit| u64::try_from(growth).is_ok_and(|growth| growth > limit.bytes));
    Ok(match is_too_much {
        true => ExitCode::from(GROWN),
        false => ExitCode::SUCCESS,
    })
}

/// Narrows both. A library or scope may be new, or gone: one of them has to know it.
fn narrow(reports: &mut [Report; 2], filter: &mut Filter) -> anyhow::Result<()> {
    let [old, new] = reports;
    if let (Err(error), Err(_)) = (old.narrow(filter), new.narrow(filter)) {
        bail!("{error}, and in the other neither");
    }
    filter.may_be_absent = true;
    old.narrow(filter)?;
    Ok(new.narrow(filter)?)
}

fn stacks<'a>(report: &'a Report<'a>, filter: &'a Filter) -> anyhow::Result<Stacks<'a>> {
    Ok(Stacks::new(report, filter, By::Site)?)
}
