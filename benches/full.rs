//! What mode full costs beside `heaptrack --raw`, which keeps every stack as well:
//! the time that each adds to malloc and free, and the bytes that each leaves of
//! ten million allocations.
//!
//! Bare, mode full and heaptrack take turns, a process each, round by round; a
//! program times slices and gives the shortest. Shown is the median of the rounds'
//! added times, and of their ratios. `--library FILE` measures another build.

mod common;

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use common::{
    Ledgers, Variant, build, median, numbers, option, preload_library, rounds, verdict, workshop,
};

const ROUNDS: usize = 11;
const MILLISECONDS: &str = "120";
/// Of heaptrack's.
const MOST_TIME: f64 = 0.5;
const MOST_DATA: f64 = 0.1;

struct Workload {
    name: &'static str,
    /// What the program does, with how many threads, below how many more calls.
    words: [&'static str; 3],
}

const WORKLOADS: [Workload; 7] = [
    Workload {
        name: "64 B pair, depth 3",
        words: ["pair", "1", "0"],
    },
    Workload {
        name: "64 B pair, depth 20",
        words: ["pair", "1", "15"],
    },
    Workload {
        name: "10,000-block window",
        words: ["window", "1", "0"],
    },
    Workload {
        name: "window, depth 20",
        words: ["window", "1", "15"],
    },
    Workload {
        name: "pair, 2 threads",
        words: ["pair", "2", "0"],
    },
    Workload {
        name: "pair, 2 threads, depth 20",
        words: ["pair", "2", "15"],
    },
    Workload {
        name: "freed by the other thread",
        words: ["cross", "2", "0"],
    },
];

/// `heaptrack --raw PROGRAM`, which says more than the program on standard output.
fn heaptrack(program: &Path, words: &[&str], output: &Path) -> Vec<f64> {
    let done = Command::new("heaptrack")
        .args(["--raw", "-o"])
        .arg(output)
        .arg(program)
        .args(words)
        .output()
        .expect("heaptrack starts");
    assert!(done.status.success(), "heaptrack: {done:?}");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    text.lines()
        .find_map(|line| {
            let words = line.split_whitespace().map(str::parse::<f64>);
            words
                .collect::<Result<Vec<f64>, _>>()
                .ok()
                .filter(|all| !all.is_empty())
        })
        .unwrap_or_else(|| panic!("the program printed no numbers: {text}"))
}

/// Of all files whose names begin so, in kibibytes that they occupy.
fn occupied_kib(directory: &Path, prefix: &str) -> f64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(directory).expect("it is there").flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    ours.map(|entry| entry.metadata().expect("its size").blocks() as f64 / 2.0)
        .sum()
}

fn remove(directory: &Path, prefix: &str) {
    for entry in fs::read_dir(directory).expect("it is there").flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn compare_times(program: &Path, full: &Variant, ledgers: &Ledgers, output: &Path) {
    let scratch = output.parent().expect("a directory");
    println!(
        "{:28}{:>9}{:>12}{:>12}{:>8}{:>9}  met",
        "", "bare ns", "full +ns", "heaptrack", "ratio", "target"
    );
    for workload in &WORKLOADS {
        let [what, threads, calls] = workload.words;
        let words = [what, threads, MILLISECONDS, calls];
        let (mut bare, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds(ROUNDS) {
            let nothing = numbers(Variant::bare().command(program).args(words))[0];
            ours.push(numbers(full.command(program).args(words))[0] - nothing);
            theirs.push(heaptrack(program, &words, output)[0] - nothing);
            bare.push(nothing);
            ledgers.clear();
            remove(scratch, "raw-of-heaptrack");
        }
        let ratio = median(ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs));
        println!(
            "{:28}{:>9.1}{:>12.1}{:>12.1}{ratio:>8.2}{MOST_TIME:>9.2}  {}",
            workload.name,
            median(bare),
            median(ours),
            median(theirs),
            verdict(ratio, MOST_TIME)
        );
    }
}

/// The window's sizes and addresses are random, as a program's are.
fn compare_data(program: &Path, full: &Variant, ledgers: &Ledgers, output: &Path) {
    let scratch = output.parent().expect("a directory");
    let allocations = "10000000";
    let words = ["window", "1", allocations, "15", "operations"];
    numbers(full.command(program).args(words));
    let ours = occupied_kib(ledgers.path(), "");
    heaptrack(program, &words, output);
    let theirs = occupied_kib(scratch, "raw-of-heaptrack");
    println!(
        "\ndata of {allocations} allocations: ledger {ours:.0} KiB, heaptrack {theirs:.0} KiB, \
         ratio {:.3}, target {MOST_DATA}  {}",
        ours / theirs,
        verdict(ours / theirs, MOST_DATA)
    );
    remove(scratch, "raw-of-heaptrack");
}

fn main() {
    let has_heaptrack = env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .any(|directory| directory.join("heaptrack").is_file());
    if !has_heaptrack {
        println!("SKIPPED full: heaptrack is missing");
        return;
    }
    let ledgers = Ledgers::new();
    let program = build("workload", "workload");
    let library = option("--library").unwrap_or_else(preload_library);
    let full = Variant::full("full", library, &ledgers);
    let output = workshop().join("raw-of-heaptrack");
    println!(
        "what mode full and heaptrack --raw add to malloc + free, median of {} interleaved rounds\n",
        rounds(ROUNDS)
    );
    compare_times(&program, &full, &ledgers, &output);
    ledgers.clear();
    compare_data(&program, &full, &ledgers, &output);
}
