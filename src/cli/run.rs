//! `heapledger run`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use crate::record::{RunOptions, run as record};

const EXAMPLES: &str = "\
Examples:
  heapledger run -- ./server --port 8080
  heapledger run -o new.hlr -- make -j2
  heapledger run --quiet --no-children -- python3 script.py
";

const EXIT_CODES: &str = "\
Exit code: the program's own; 128+N when signal N ended it; 125 when heapledger
failed before the program started, 126 when it cannot be executed, 127 when it
was not found.
";

/// Record a program and its children.
#[derive(Args)]
#[command(before_help = EXAMPLES, after_help = EXIT_CODES)]
#[command(override_usage = "heapledger run [OPTIONS] -- CMD [ARGS]...")]
#[command(subcommand_value_name = "CMD", disable_help_subcommand = true)]
pub(super) struct Arguments {
    /// Recording to write; an earlier one is kept as FILE.old [default: heapledger.NAME.PID.hlr]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What to keep of each allocation; this version records mode count
    #[arg(long, value_enum, default_value_t = Mode::Count)]
    mode: Mode,
    /// Leave children alone
    #[arg(long)]
    no_children: bool,
    /// No summary at the end
    #[arg(short, long)]
    quiet: bool,
    #[command(subcommand)]
    program: Option<Program>,
}

/// The program is parsed as clap parses subcommands it does not know: what comes
/// before it are our options, what comes after it its own, dashes or not.
#[derive(Subcommand)]
enum Program {
    #[command(external_subcommand)]
    Command(Vec<OsString>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Exact counts by owner
    Count,
    /// Counts, and the stacks of a sample of the allocations
    Sample,
    /// Counts, and the stack of every allocation
    Full,
}

/// Says why nothing was run. Standard error may be closed.
fn refuse(why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "heapledger: {why}");
    ExitCode::from(125)
}

pub(super) fn run(arguments: Arguments) -> ExitCode {
    if arguments.mode != Mode::Count {
        let mode = if arguments.mode == Mode::Sample {
            "sample"
        } else {
            "full"
        };
        return refuse(&format!(
            "mode `{mode}` records stacks, which this version cannot; use --mode count"
        ));
    }
    let Some(Program::Command(command)) = arguments.program else {
        return refuse("no program is named; as in: heapledger run -- ls -l");
    };
    let options = RunOptions {
        output: arguments.output,
        children: !arguments.no_children,
        quiet: arguments.quiet,
        command,
    };
    ExitCode::from(record(&options))
}
