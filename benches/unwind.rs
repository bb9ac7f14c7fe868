//! What the core's unwinder costs a frame, through code without frame pointers
//! and warm, beside libgcc's `_Unwind_Backtrace` and libunwind's
//! `unw_backtrace`; and what it costs where an earlier walk is known again.
//!
//! One program has all three; they take turns, a process each, round by round.
//! Shown are medians of each round's shortest slice, and of the rounds' ratios
//! to the core's.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Rounds, numbers, rounds, verdict, workshop};

const ROUNDS: usize = 15;
const MILLISECONDS: &str = "60";
/// A frame at depth 20.
const TARGET_NS: f64 = 15.0;
const UNWINDERS: [&str; 4] = ["heapledger", "remembered", "libgcc", "libunwind"];

struct Workload {
    name: &'static str,
    words: [&'static str; 2],
    target: Option<f64>,
}

const WORKLOADS: [Workload; 4] = [
    Workload {
        name: "depth 20",
        words: ["one", "15"],
        target: Some(TARGET_NS),
    },
    Workload {
        name: "depth 20, two libraries",
        words: ["several", "10"],
        target: Some(TARGET_NS),
    },
    Workload {
        name: "depth 3",
        words: ["one", "0"],
        target: None,
    },
    Workload {
        name: "depth 100",
        words: ["one", "95"],
        target: None,
    },
];

/// Builds the program with the core's own sources, as build.rs compiles them.
fn build() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = workshop().join("unwind");
    let status = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
        .args([
            "-std=gnu11",
            "-O2",
            "-fomit-frame-pointer",
            "-fno-builtin",
            "-fno-lto",
        ])
        .args(["-Wall", "-Wextra", "-D_GNU_SOURCE", "-DHL_PRELOAD"])
        .args(["-Iinterpose", "-o"])
        .arg(&output)
        .arg("benches/programs/unwind.c")
        .args(
            [
                "", "_cfi", "_full", "_memo", "_modules", "_stack", "_tables",
            ]
            .map(|part| format!("interpose/unwind{part}.c")),
        )
        .arg("-ldl")
        .current_dir(package)
        .status()
        .expect("the C compiler starts");
    assert!(status.success(), "cannot build unwind.c: {status}");
    output
}

fn main() {
    let program = build();
    let there = |unwinder: &&&str| {
        let done = Command::new(&program)
            .args([unwinder, "one", "0", "1"])
            .output()
            .expect("the program starts");
        done.status.code() != Some(3)
    };
    let unwinders: Vec<&str> = UNWINDERS.iter().filter(there).copied().collect();
    for missing in UNWINDERS.iter().filter(|name| !unwinders.contains(name)) {
        println!("SKIPPED {missing}: its library is missing");
    }
    println!(
        "ns a frame, warm, median of {} interleaved rounds; in brackets the ratio to heapledger's\n",
        rounds(ROUNDS)
    );
    print!("{:28}{:>8}", "", "frames");
    for unwinder in &unwinders {
        print!("{unwinder:>18}");
    }
    println!("{:>9}  met", "target");
    for workload in &WORKLOADS {
        let mut frames = 0.0;
        let measured = Rounds::run(rounds(ROUNDS), unwinders.len(), |unwinder| {
            let mut command = Command::new(&program);
            command.arg(unwinders[unwinder]).args(workload.words);
            let found = numbers(command.arg(MILLISECONDS));
            if unwinder == 0 {
                frames = found[2];
            }
            found[0]
        });
        print!(
            "{:28}{frames:>8}{:>18.1}",
            workload.name,
            measured.median(0)
        );
        for unwinder in 1..unwinders.len() {
            let shown = format!(
                "{:.1} ({:.2})",
                measured.median(unwinder),
                measured.ratio(unwinder)
            );
            print!("{shown:>18}");
        }
        match workload.target {
            Some(target) => println!("{target:>9.0}  {}", verdict(measured.median(0), target)),
            None => println!(),
        }
    }
}
