//! What is recorded depends on how many owners and stacks there are, not on how
//! often they allocate; and of both there are only so many.
#![cfg(all(
    feature = "cli",
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use heapledger::recording::Recording;
use heapledger::recording::model::{Losses, Process};

use common::{heapledger, preload_library, program, run_within, workspace};

const PATIENCE: Duration = Duration::from_secs(300);

/// What the core is told in each mode; a seed, so that the same blocks are sampled each time.
const MODES: [&[(&str, &str)]; 3] = [
    &[("HEAPLEDGER_MODE", "count")],
    &[
        ("HEAPLEDGER_MODE", "sample"),
        ("HEAPLEDGER_SAMPLE_BYTES", "4096"),
        ("HEAPLEDGER_SAMPLE_SEED", "1"),
    ],
    &[("HEAPLEDGER_MODE", "full")],
];

fn built(directory: &Path) -> PathBuf {
    program("bounded.c").build(directory)
}

/// Runs the program under the preload alone. Gives its ledger, read, and the bytes that it takes.
fn ledger_of(built: &Path, words: [&str; 2], variables: &[(&str, &str)]) -> (Recording, u64) {
    // In memory a file takes what was written, at once.
    let ledgers = tempfile::tempdir_in("/dev/shm").expect("shared memory is writable");
    let output = run_within(
        PATIENCE,
        Command::new(built)
            .args(words)
            .env("LD_PRELOAD", preload_library())
            .env("HEAPLEDGER_DIR", ledgers.path())
            .envs(variables.iter().copied()),
    );
    assert_eq!(output.code(), 0, "{output:?}");
    let files = fs::read_dir(ledgers.path()).expect("ledgers").flatten();
    let bytes = files.map(|file| file.metadata().expect("it is there").blocks() * 512);
    let bytes = bytes.sum();
    let recording = Recording::open_any(ledgers.path()).expect("a ledger");
    assert_eq!(recording.processes.len(), 1);
    (recording, bytes)
}

/// Gives how long a recording of the program is, without its timeline.
fn recording_bytes(directory: &Path, built: &Path, words: [&str; 2], mode: &str) -> u64 {
    let recording = directory.join("recording.hlr");
    let output = run_within(
        PATIENCE,
        heapledger()
            .env("HEAPLEDGER_SAMPLE_SEED", "1")
            .args(["run", "-q", "--mode", mode])
            .args((mode == "sample").then_some("--sample-bytes=4096"))
            .arg("-o")
            .arg(&recording)
            .arg("--")
            .arg(built)
            .args(words),
    );
    assert_eq!(
        (output.code(), output.error.as_str()),
        (0, ""),
        "{output:?}"
    );
    fs::metadata(&recording).expect("it was written").len()
}

/// How many of each there are: owners, call sites, stacks, frames of them, threads, scopes.
fn shape(recording: &Recording) -> [usize; 6] {
    let process = &recording.processes[0];
    [
        process.owners.len(),
        recording.sites.len(),
        process.stacks.len(),
        process.stacks.iter().map(|stack| stack.frames.len()).sum(),
        process.threads.len(),
        process.scopes.len(),
    ]
}

fn allocated_blocks(process: &Process) -> u64 {
    let owners = process.owners.iter();
    owners.map(|owner| owner.counts.allocated_blocks).sum()
}

const FEW: u64 = 2_000_000;
const MANY: u64 = 20_000_000;

#[test]
fn ten_times_the_allocations_take_the_same_ledger() {
    let directory = workspace("bounded_ledger");
    let built = built(&directory);
    for variables in MODES {
        let run = |blocks: u64| {
            let (recording, bytes) = ledger_of(&built, ["churn", &blocks.to_string()], variables);
            let process = &recording.processes[0];
            assert_eq!(process.mode.name(), variables[0].1);
            assert_eq!(process.losses, Losses::default(), "{variables:?}");
            assert_eq!(allocated_blocks(process), blocks, "{variables:?}");
            (shape(&recording), bytes)
        };
        assert_eq!(run(MANY), run(FEW), "{variables:?}");
    }
}

/// A recording's counters are as long as their digits, a timeline has fewer than 1,000
/// readings, of which each takes some 20 bytes.
const MOST_MORE_BYTES: u64 = 24 << 10;

#[test]
fn ten_times_the_allocations_take_the_same_recording() {
    let directory = workspace("bounded_recording");
    let built = built(&directory);
    for mode in ["count", "sample", "full"] {
        let bytes =
            |blocks: u64| recording_bytes(&directory, &built, ["churn", &blocks.to_string()], mode);
        let (few, many) = (bytes(FEW), bytes(MANY));
        assert!(
            many < few + MOST_MORE_BYTES,
            "{mode}: {few} and {many} bytes"
        );
    }
}

/// What stacks may take of a ledger of 128 MiB, and 1 MiB for the rest of this program's.
const MOST_BYTES: u64 = (96 + 1) << 20;

/// Rows for stacks, two of which are for those that find none.
const MOST_STACKS: u64 = 262_144 - 2;

#[test]
fn more_stacks_than_there_is_room_for_share_one_and_are_counted() {
    let directory = workspace("bounded_stacks");
    let built = built(&directory);
    let blocks = 400_000;
    let every_byte: &[(&str, &str)] = &[
        ("HEAPLEDGER_MODE", "sample"),
        ("HEAPLEDGER_SAMPLE_BYTES", "1"),
    ];
    for variables in [every_byte, MODES[2]] {
        let (recording, bytes) = ledger_of(&built, ["paths", &blocks.to_string()], variables);
        let process = &recording.processes[0];
        assert_eq!(process.mode.name(), variables[0].1);
        // The books know nothing of it.
        assert_eq!(allocated_blocks(process), blocks);
        let of_stacks = process.stacks.iter();
        let of_stacks = of_stacks.map(|stack| stack.figures.allocated_blocks);
        assert_eq!(of_stacks.sum::<u64>(), blocks, "none is lost");
        // Those that found no room are one stack.
        let kept = process.stacks.len() as u64 - 1;
        assert_eq!(
            process.losses.stacks_overflowed,
            blocks - kept,
            "{variables:?}"
        );
        assert_eq!(process.losses.samples_dropped, 0);
        assert!((200_000..=MOST_STACKS).contains(&kept), "{kept} stacks");
        assert!(bytes < MOST_BYTES, "{bytes} bytes");
    }
}
