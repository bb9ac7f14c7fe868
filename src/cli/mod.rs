//! The command line: one file a subcommand.

mod allocator;
#[cfg(heapledger_core)]
mod demo;
mod diff;
mod filter;
mod output;
#[cfg(heapledger_core)]
mod preload;
mod report;
#[cfg(heapledger_core)]
mod run;
pub(crate) mod size;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

pub use allocator::Allocator;

const EXAMPLES: &str = "\
Examples:
  heapledger demo                               what C holds and Rust cannot see
  heapledger run -- ./server --port 8080        record a program and its children
  heapledger run -o new.hlr -- make -j2         into a file of your choice
  heapledger report new.hlr                     who holds what
  heapledger report new.hlr --format json       the same for programs
  heapledger report new.hlr --format flamegraph -o new.svg
  heapledger diff old.hlr new.hlr               what has grown
  LD_PRELOAD=$(heapledger preload) ./server     keep a ledger without a recorder
";

/// Counts every allocation of C and Rust in one ledger: who holds what, even after a SIGKILL.
#[derive(Parser)]
#[command(name = "heapledger", version, before_help = EXAMPLES)]
#[command(
    arg_required_else_help = true,
    subcommand_required = true,
    infer_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[cfg(heapledger_core)]
    Run(run::Arguments),
    Report(report::Arguments),
    Diff(diff::Arguments),
    #[cfg(heapledger_core)]
    Preload(preload::Arguments),
    #[cfg(heapledger_core)]
    Demo(demo::Arguments),
}

extern "C" fn look_away(_signal: libc::c_int) {}

/// Has a write past RLIMIT_FSIZE fail, and be said, in place of ending the command. A handler
/// does not outlive exec, as ignoring would: the program that `run` starts finds what was there.
fn survive_file_size_limit() {
    // SAFETY: zeros are an action with an empty mask; both calls are given valid addresses, and
    // the handler does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let is_asked = libc::sigaction(libc::SIGXFSZ, std::ptr::null(), &mut action) == 0;
        if is_asked && action.sa_sigaction == libc::SIG_DFL {
            action.sa_sigaction = look_away as *const () as libc::sighandler_t;
            libc::sigaction(libc::SIGXFSZ, &action, std::ptr::null_mut());
        }
    }
}

/// Runs the command and gives its exit code.
pub fn main() -> ExitCode {
    survive_file_size_limit();
    #[cfg(heapledger_core)]
    if let Some(worked) = crate::demo::work_if_worker() {
        return finish(worked);
    }
    let command = match Arguments::try_parse() {
        Ok(arguments) => arguments.command,
        Err(error) => return usage(&error),
    };
    match command {
        #[cfg(heapledger_core)]
        Command::Run(arguments) => run::run(arguments),
        Command::Report(arguments) => finish(report::run(&arguments)),
        Command::Diff(arguments) => {
            diff::run(&arguments).unwrap_or_else(|error| failed(error, diff::TROUBLE))
        }
        #[cfg(heapledger_core)]
        Command::Preload(arguments) => finish(preload::run(&arguments)),
        #[cfg(heapledger_core)]
        Command::Demo(arguments) => finish(demo::run(&arguments)),
    }
}

/// Help is output and ends with 0. Mistakes end as env's do where `run` was
/// asked for, so that they cannot be taken for the program's own code.
fn usage(error: &clap::Error) -> ExitCode {
    let _ = match error.kind() {
        _ if !error.use_stderr() => error.print(),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.print(),
        _ => writeln!(io::stderr(), "heapledger: {}", one_line(error)),
    };
    let is_run = std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == "run");
    match error.use_stderr() {
        false => ExitCode::SUCCESS,
        true if is_run => ExitCode::from(125),
        true => ExitCode::from(2),
    }
}

/// Gives what clap says of a mistake in paragraphs as one line: the mistake, what may have
/// been meant, and where to read on where that does not say what to write.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let words = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let said: Vec<String> = text
        .split("\n\n")
        .map(words)
        .filter(|said| !said.is_empty())
        .filter(|said| !said.starts_with("Usage: ") && !said.starts_with("For more information"))
        .collect();
    match error.kind() {
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => said.join("; "),
        _ => format!("{}; see --help", said.join("; ")),
    }
}

/// Turns a result into an exit code.
fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(error, 1),
    }
}

/// Says what failed. A reader that went away is no failure.
fn failed(error: anyhow::Error, code: u8) -> ExitCode {
    if is_closed_pipe(&error) {
        return ExitCode::SUCCESS;
    }
    let _ = writeln!(io::stderr(), "heapledger: {error:#}");
    ExitCode::from(code)
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io_error = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    error.chain().any(io_error)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
