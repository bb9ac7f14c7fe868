//! What every allocator of the comparison is timed with. Each program below
//! `src/bin` names one global allocator and calls [`main`].
//!
//!     with_NAME pair|window|cross|iocontext THREADS MILLISECONDS
//!
//! Work is done in slices, each timed by itself. Two threads have a processor
//! each and begin each slice together, and only slices in which both ran from
//! beginning to end count: otherwise what threads cost each other would depend
//! on what else the machine does. Printed are the shortest and the median slice,
//! in nanoseconds an operation. `benches/programs/workload.c` does the same for
//! malloc.

mod course;
mod iocontext;
mod work;

use std::process::ExitCode;
use std::time::Duration;
use std::{env, hint};

use work::Workload;

/// Whether the peer that can be on or off is to be on.
pub fn is_on() -> bool {
    env::var_os("PEER").is_some_and(|word| word == "on")
}

/// Runs the workload that the command line names, and prints its figures.
pub fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let Some((workload, threads, time)) = parse(&words) else {
        eprintln!(
            "usage: {} pair|window|cross|iocontext THREADS MILLISECONDS",
            env!("CARGO_PKG_NAME")
        );
        return ExitCode::from(2);
    };
    let mut threads = hint::black_box(workload.run(threads, time));
    for slices in &mut threads {
        slices.sort_by(f64::total_cmp);
    }
    let least = threads.iter().map(|slices| slices[0]).sum::<f64>() / threads.len() as f64;
    let mut all = threads.concat();
    all.sort_by(f64::total_cmp);
    println!("{least:.3} {:.3}", all[all.len() / 2]);
    ExitCode::SUCCESS
}

fn parse(words: &[String]) -> Option<(Workload, usize, Duration)> {
    let [workload, threads, milliseconds] = words else {
        return None;
    };
    let workload = Workload::named(workload)?;
    let threads = threads
        .parse()
        .ok()
        .filter(|threads| (1..=2).contains(threads))?;
    let milliseconds = milliseconds.parse().ok()?;
    Some((workload, threads, Duration::from_millis(milliseconds)))
}
