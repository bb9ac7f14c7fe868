//! `heapledger run`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

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
pub(super) struct Arguments {
    /// Recording to write; an earlier one is kept as FILE.old [default: heapledger.NAME.PID.hlr]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What to keep of each allocation
    #[arg(long, value_enum, default_value_t = Mode::Count)]
    mode: Mode,
    /// Leave children alone
    #[arg(long)]
    no_children: bool,
    /// No summary at the end
    #[arg(short, long)]
    quiet: bool,
    /// Program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
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

pub(super) fn run(arguments: Arguments) -> ExitCode {
    if arguments.mode != Mode::Count {
        use std::io::Write;
        let mode = if arguments.mode == Mode::Sample {
            "sample"
        } else {
            "full"
        };
        let _ = writeln!(
            std::io::stderr(),
            "heapledger: mode `{mode}` records stacks, which this version cannot; use --mode count"
        );
        return ExitCode::from(125);
    }
    let options = RunOptions {
        output: arguments.output,
        children: !arguments.no_children,
        quiet: arguments.quiet,
        command: arguments.command,
    };
    ExitCode::from(record(&options))
}
