//! `heapledger run`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::size::Size;
use crate::analysis::tally::RunFigures;
use crate::record::pressure::{ActionList, Plan, merge};
use crate::record::{RunOptions, run as record};
use crate::recording::model::Mode as Recorded;
use crate::report::{Style, summary};

const EXAMPLES: &str = "\
Examples:
  heapledger run -- ./server --port 8080
  heapledger run -o new.hlr -- make -j2
  heapledger run --quiet --no-children -- python3 script.py
  heapledger run --sample-bytes 16KiB -- ./tool       more stacks, for a program that allocates little
  heapledger run --mode full -- ./test-suite          every stack: leaks, temporaries, double frees
  heapledger run --on-pressure python -- python3 script.py          collect when C has grown
  heapledger run --soft-limit 2G --on-pressure jvm,trim -- java -jar app.jar
  heapledger run --soft-limit 2G --on-pressure signal:USR1 -- ./server
  heapledger run --growth 0.5 --on-pressure 'exec:redis-cli memory purge' -- redis-server
";

const PRESSURE: &str = "\
Cleanup pressure: C's live bytes make a program clean up. At 80, 90 and 95 % of a
limit, or when live bytes have grown by RATIO since the last clean-up, and by
64 MiB at least, each ACTION is taken, at most a sixth of the time (half of it
past 95 %, where a fast program would be over its limit meanwhile). Control
groups' limits and the kernel's reports of stalls (PSI) count besides. Every
process of the tree is driven for itself, by its own live bytes.
  trim         glibc gives back what is free
  python       Python collects cycles
  jvm          the JVM collects
  signal:NAME  the process is sent a signal, if it has a handler for it
  exec:CMD     sh -c CMD outside the process, with HEAPLEDGER_PID, _PRESSURE_LEVEL,
               _LIVE_BYTES and _TARGET_BYTES in its environment; takes the rest of the
               list; ends with the process, by SIGTERM
  systemd      what systemd tells services under memory pressure, for programs that
               heed MEMORY_PRESSURE_WATCH
Without an ACTION, what the program itself registers is asked (heapledger.h).
";

const EXIT_CODES: &str = "\
Exit code: the program's own; 128+N when signal N ended it; 125 when heapledger
failed before the program started, 126 when it cannot be executed, 127 when it
was not found.
";

/// Record a program and its children.
#[derive(Args)]
#[command(before_help = EXAMPLES, after_help = format!("{PRESSURE}\n{EXIT_CODES}"))]
#[command(override_usage = "heapledger run [OPTIONS] -- CMD [ARGS]...")]
#[command(subcommand_value_name = "CMD", disable_help_subcommand = true)]
pub(super) struct Arguments {
    /// Recording to write; an earlier one is kept as FILE.old [default: heapledger.NAME.PID.hlr]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What to keep besides exact books [default: sample]
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Mean bytes between two samples, 1 to 64MiB [default: 512KiB]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    sample_bytes: Option<Size>,
    /// End the program by SIGABRT at the first misuse of its allocator (with --mode full)
    #[arg(long)]
    abort_on_misuse: bool,
    /// Leave children alone
    #[arg(long)]
    no_children: bool,
    /// No summary at the end
    #[arg(short, long)]
    quiet: bool,
    /// Clean up at 80, 90 and 95 % of so many live bytes, as in 512MiB
    #[arg(long, value_name = "SIZE", help_heading = PRESSURE_HEADING, allow_hyphen_values = true)]
    soft_limit: Option<Size>,
    /// The same; besides, a program that asks for memory through heapledger is refused past it
    #[arg(long, value_name = "SIZE", help_heading = PRESSURE_HEADING, allow_hyphen_values = true)]
    hard_limit: Option<Size>,
    /// C's requests of 64 KiB and more fail (ENOMEM) past the hard limit; each is counted
    #[arg(long, help_heading = PRESSURE_HEADING)]
    refuse_past_hard_limit: bool,
    /// Clean up when live bytes have grown by this part; 1 unless there is a limit
    #[arg(long, value_name = "RATIO", value_parser = ratio, allow_hyphen_values = true, help_heading = PRESSURE_HEADING)]
    growth: Option<f64>,
    /// What to do then: trim, signal:NAME, exec:CMD, python, jvm, systemd
    #[arg(long, value_name = "ACTION,...", help_heading = PRESSURE_HEADING)]
    on_pressure: Vec<ActionList>,
    #[command(subcommand)]
    program: Option<Program>,
}

/// Above, the spread of estimates would not fit the ledger's counters.
const SAMPLE_BYTES: RangeInclusive<u64> = 1..=64 << 20;
const DEFAULT_SAMPLE_BYTES: u64 = 512 << 10;

const PRESSURE_HEADING: &str = "Cleanup pressure";

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.trim().parse::<f64>().ok();
    ratio
        .filter(|ratio| ratio.is_finite() && *ratio >= 0.0)
        .ok_or_else(|| "a ratio is a number from 0 on, as in 0.5 or 2".to_owned())
}

impl Arguments {
    /// Gives the mode that was asked for.
    fn recorded(&self) -> Result<Recorded, String> {
        let sample_bytes = self.sample_bytes.map(|size| size.bytes);
        if let Some(bytes) = sample_bytes
            && !SAMPLE_BYTES.contains(&bytes)
        {
            return Err(
                "--sample-bytes is from 1 B to 64 MiB, on average, between two samples".to_owned(),
            );
        }
        match self.mode {
            Some(Mode::Full) if sample_bytes.is_some() => Err(
                "--sample-bytes goes with --mode sample; mode `full` leaves no allocation out"
                    .to_owned(),
            ),
            Some(Mode::Full) => Ok(Recorded::Full),
            _ if self.abort_on_misuse => Err(
                "--abort-on-misuse needs --mode full: the other modes do not see every misuse"
                    .to_owned(),
            ),
            Some(Mode::Count) if sample_bytes.is_some() => Err(
                "--sample-bytes goes with --mode sample; mode `count` takes no samples".to_owned(),
            ),
            Some(Mode::Count) => Ok(Recorded::Count),
            None | Some(Mode::Sample) => Ok(Recorded::Sample {
                sample_bytes: sample_bytes.unwrap_or(DEFAULT_SAMPLE_BYTES),
            }),
        }
    }

    /// Gives what was asked for, if anything of it was.
    fn plan(&mut self) -> Result<Option<Plan>, String> {
        let bytes = |size: Option<Size>| size.map(|size| size.bytes);
        let (soft_bytes, hard_bytes) = (bytes(self.soft_limit), bytes(self.hard_limit));
        for (option, limit) in [("--soft-limit", soft_bytes), ("--hard-limit", hard_bytes)] {
            if limit == Some(0) {
                return Err(format!("{option} 0 leaves no room for any program"));
            }
        }
        if let (Some(soft), Some(hard)) = (soft_bytes, hard_bytes)
            && soft > hard
        {
            return Err("--soft-limit is above --hard-limit; the soft one comes first".to_owned());
        }
        if self.refuse_past_hard_limit && hard_bytes.is_none() {
            return Err("--refuse-past-hard-limit needs a --hard-limit".to_owned());
        }
        let lists = std::mem::take(&mut self.on_pressure);
        let is_asked = soft_bytes.is_some()
            || hard_bytes.is_some()
            || self.growth.is_some()
            || !lists.is_empty();
        let actions = merge(lists).map_err(|error| format!("--on-pressure: {error}"))?;
        Ok(is_asked.then_some(Plan {
            soft_bytes,
            hard_bytes,
            refuses: self.refuse_past_hard_limit,
            growth: self.growth,
            actions,
        }))
    }
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
    /// Exact books by owner, no stacks
    Count,
    /// The same books, and the stacks of a sample of the allocations
    Sample,
    /// The same books, the stack of every allocation, and misuse of the allocator
    Full,
}

/// Says why nothing was run. Standard error may be closed.
fn refuse(why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "heapledger: {why}");
    ExitCode::from(125)
}

pub(super) fn run(mut arguments: Arguments) -> ExitCode {
    let mode = match arguments.recorded() {
        Ok(mode) => mode,
        Err(why) => return refuse(&why),
    };
    let pressure = match arguments.plan() {
        Ok(plan) => plan,
        Err(why) => return refuse(&why),
    };
    let Some(Program::Command(command)) = arguments.program else {
        return refuse("no program is named; as in: heapledger run -- ls -l");
    };
    let options = RunOptions {
        output: arguments.output,
        mode,
        aborts_on_misuse: arguments.abort_on_misuse,
        children: !arguments.no_children,
        pressure,
        summary: (!arguments.quiet).then_some(print_summary),
        command,
    };
    ExitCode::from(record(&options))
}
/// Standard error may be closed; the program's exit code matters more.
fn print_summary(run: &RunFigures<'_>) {
    let mut text = Vec::new();
    let _ = summary::print(run, &mut text, Style::of(&io::stderr()));
    let _ = io::stderr().write_all(&text);
}
