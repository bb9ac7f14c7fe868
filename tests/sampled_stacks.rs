//! `heapledger run --mode sample`: stacks by name, figures held to the exact books.
//!
//! With a sample in every byte nothing is left to chance: each block is one, and
//! stands for itself.
#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    feature = "cli",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use heapledger::Side;
use heapledger::recording::Recording;
use heapledger::recording::model::{Mode, Process, Stack};
use serde_json::Value;

use common::report::{Report, rows, sum};
use common::{Case, Output, heapledger, preload_library, program, run, sources, workspace};

const EVERY: &[&str] = &["--mode", "sample", "--sample-bytes", "1"];
const COUNT: &[&str] = &["--mode", "count"];

fn recorded(recording: &Path, options: &[&str], program: &Path, words: &[&str]) -> Output {
    run(heapledger()
        .env("HEAPLEDGER_SAMPLE_SEED", "1")
        .args(["run", "-q", "-o"])
        .arg(recording)
        .args(options)
        .arg("--")
        .arg(program)
        .args(words))
}

/// Records a program that ends well.
fn record(directory: &Path, options: &[&str], program: &Path, words: &[&str]) -> PathBuf {
    let recording = directory.join(format!("{}{}.hlr", options.concat(), words.concat()));
    let output = recorded(&recording, options, program, words);
    assert_eq!(
        (output.code(), output.error.as_str()),
        (0, ""),
        "{output:?}"
    );
    recording
}

fn call_chain(directory: &Path) -> PathBuf {
    program("call_chain.c")
        .flags(["-O2", "-fomit-frame-pointer"])
        .build(directory)
}

/// Gives the functions of a stack as the JSON has them, the innermost first.
fn functions(stack: &Value) -> Vec<&str> {
    let frames = rows(&stack["frames"]).into_iter();
    frames
        .map(|frame| frame["symbol"].as_str().unwrap_or("-"))
        .collect()
}

/// Gives (live blocks, live bytes, allocated blocks, allocated bytes) of the stacks that begin so.
fn held(process: &Value, innermost: &[&str]) -> [i64; 4] {
    let stacks: Vec<&Value> = rows(&process["stacks"])
        .into_iter()
        .filter(|stack| functions(stack).starts_with(innermost))
        .collect();
    assert!(!stacks.is_empty(), "no stack {innermost:?} in {process:#}");
    [
        "live_blocks",
        "live_bytes",
        "allocated_blocks",
        "allocated_bytes",
    ]
    .map(|key| sum(&stacks, key))
}

/// By place, whether it is Rust, and scope: live bytes and blocks, allocated bytes and blocks.
type Books = BTreeMap<(u32, bool, Option<u32>), (i64, i64, u64, u64)>;

fn books_of_owners(process: &Process) -> Books {
    let mut books = Books::new();
    for owner in &process.owners {
        let counts = &owner.counts;
        let row = books
            .entry((owner.site, owner.side == Side::Rust, owner.scope))
            .or_default();
        row.0 += counts.live_bytes;
        row.1 += counts.live_blocks;
        row.2 += counts.allocated_bytes;
        row.3 += counts.allocated_blocks;
    }
    books
}

fn books_of_stacks(process: &Process) -> Books {
    let mut books = Books::new();
    for Stack {
        frames,
        side,
        scope,
        figures,
        ..
    } in &process.stacks
    {
        let row = books
            .entry((frames[0], *side == Side::Rust, *scope))
            .or_default();
        row.0 += figures.live_bytes;
        row.1 += figures.live_blocks;
        row.2 += figures.allocated_bytes;
        row.3 += figures.allocated_blocks;
        assert_eq!(figures.errors, Default::default(), "nothing is estimated");
    }
    books
}

/// Holds the stacks of a recording of every byte to its own books, place by place.
fn assert_stacks_are_the_books(recording: &Path) {
    let recording = Recording::open(recording).unwrap();
    for process in &recording.processes {
        assert_eq!(process.mode, Mode::Sample { sample_bytes: 1 });
        assert_eq!(books_of_stacks(process), books_of_owners(process));
    }
}

/// What must not depend on the mode, as text.
fn exact_books(recording: &Path) -> Vec<String> {
    let report = Report::read(recording).unwrap();
    let exact = |process: &&Value| {
        let mut totals = process["totals"].clone();
        for side in ["c", "rust", "all"] {
            // Read from outside, from time to time.
            totals[side]["peak_live_bytes"].take();
        }
        let sites = rows(&process["sites"]).into_iter().map(|site| {
            let mut site = site.clone();
            site["at_peak_bytes"].take();
            site["at_peak_blocks"].take();
            for name in ["symbol", "file", "line"] {
                // Where stacks are, more is asked of debug files.
                site[name].take();
            }
            site.to_string()
        });
        let mut sites: Vec<String> = sites.collect();
        sites.sort();
        format!("{totals} {sites:#?}")
    };
    report.processes().iter().map(exact).collect()
}

const CHAIN: [&str; 8] = [
    "innermost",
    "fifth",
    "fourth",
    "third",
    "second",
    "first",
    "work",
    "main",
];

#[test]
fn a_chain_without_frame_pointers_is_shown_whole_and_counted_exactly() {
    let directory = workspace("sampled_chain");
    let program = call_chain(&directory);
    let recording = record(&directory, EVERY, &program, &[]);
    assert_stacks_are_the_books(&recording);
    let report = Report::read(&recording).unwrap();
    let root = report.root();
    assert_eq!(
        (&root["mode"], &root["sample_bytes"]),
        (&"sample".into(), &1.into())
    );
    assert_eq!(root["losses"]["samples_dropped"], 0);
    assert_eq!(root["losses"]["stacks_overflowed"], 0);
    let usable = |bytes: i64| (bytes + 8 + 15) / 16 * 16 - 8;
    // The moved block has left the place where it was allocated.
    assert_eq!(
        held(root, &CHAIN),
        [39, 39 * usable(1000), 40, 40 * usable(1000)]
    );
    assert_eq!(
        held(
            root,
            &["innermost", "fifth", "fourth", "third", "work", "main"]
        )[..3],
        [0, 0, 40]
    );
    assert_eq!(held(root, &["moved", "work", "main"])[0], 1);
    let stacks = rows(&root["stacks"]);
    let whole = stacks
        .iter()
        .find(|stack| functions(stack).starts_with(&CHAIN));
    assert_eq!(functions(whole.unwrap()).last(), Some(&"_start"));
    let counted = record(&directory, COUNT, &program, &[]);
    assert_eq!(exact_books(&recording), exact_books(&counted));
}

#[test]
fn stacks_found_by_frame_pointers_alone_say_so() {
    let directory = workspace("sampled_guessed");
    let program = program("call_chain.c")
        .flags([
            "-O2",
            "-fno-omit-frame-pointer",
            "-fno-asynchronous-unwind-tables",
            "-fno-unwind-tables",
        ])
        .build(&directory);
    let recording = record(&directory, EVERY, &program, &[]);
    let report = Report::read(&recording).unwrap();
    let stacks = rows(&report.root()["stacks"]);
    let chain = stacks
        .iter()
        .find(|stack| functions(stack).starts_with(&CHAIN));
    assert_eq!(chain.expect("the chain is there")["guessed"], true);
    let notes = report.root()["notes"].to_string();
    assert!(notes.contains("without unwinding data"), "{notes}");

    let program = call_chain(&directory);
    let recording = record(&directory, EVERY, &program, &[]);
    let report = Report::read(&recording).unwrap();
    for stack in rows(&report.root()["stacks"]) {
        assert_eq!(stack["guessed"], Value::Null, "{stack}");
    }
}

#[test]
fn a_sampled_program_has_the_ledger_that_it_states() {
    Case::of("call_chain.c").check_with(EVERY);
}

#[test]
fn the_books_do_not_depend_on_the_mode() {
    let directory = workspace("sampled_totals");
    let program = call_chain(&directory);
    for word in ["", "threads", "fork"] {
        let counted = exact_books(&record(&directory, COUNT, &program, &[word]));
        for options in [
            &["--mode", "sample"][..],
            &["--sample-bytes", "512KiB"],
            EVERY,
        ] {
            let sampled = record(&directory, options, &program, &[word]);
            assert_eq!(exact_books(&sampled), counted, "{options:?} {word}");
        }
    }
}

#[test]
fn a_killed_program_keeps_its_stacks() {
    let directory = workspace("sampled_kill");
    let program = call_chain(&directory);
    let recording = directory.join("killed.hlr");
    let output = recorded(&recording, EVERY, &program, &["kill"]);
    assert_eq!(output.code(), 137, "{output:?}");
    assert_stacks_are_the_books(&recording);
    let report = Report::read(&recording).unwrap();
    assert_eq!(held(report.root(), &CHAIN)[0], 39);
    assert_eq!(report.root()["outcome"]["signal"], "SIGKILL");
}

#[test]
fn the_ledger_of_a_killed_program_has_its_stacks_without_a_recorder() {
    let directory = workspace("sampled_ledgers");
    let program = call_chain(&directory);
    let ledgers = directory.join("ledgers");
    fs::create_dir(&ledgers).unwrap();
    let output = run(Command::new(&program)
        .arg("kill")
        .env("LD_PRELOAD", preload_library())
        .env("HEAPLEDGER_DIR", &ledgers)
        .env("HEAPLEDGER_MODE", "sample")
        .env("HEAPLEDGER_SAMPLE_BYTES", "1"));
    assert_eq!(output.code(), 137, "{output:?}");
    let report = Report::read(&ledgers).unwrap();
    assert_eq!(held(report.root(), &CHAIN)[0], 39);
}

#[test]
fn a_forked_child_has_stacks_of_its_own() {
    let directory = workspace("sampled_fork");
    let program = call_chain(&directory);
    let recording = record(&directory, EVERY, &program, &["fork"]);
    let report = Report::read(&recording).unwrap();
    let [parent, child] = report.processes()[..] else {
        panic!("{report}");
    };
    assert_eq!(held(parent, &CHAIN)[0], 39);
    assert_eq!(
        held(child, &CHAIN)[0],
        29,
        "ten that it inherited are freed"
    );
    let own = ["innermost", "fifth", "fourth", "in_the_child", "main"];
    assert_eq!(held(child, &own)[0], 7);
    let stacks = rows(&parent["stacks"]);
    assert!(
        !stacks
            .iter()
            .any(|stack| functions(stack).contains(&"in_the_child"))
    );
}

#[test]
fn each_thread_has_its_stacks() {
    let directory = workspace("sampled_threads");
    let program = call_chain(&directory);
    let recording = record(&directory, EVERY, &program, &["threads"]);
    assert_stacks_are_the_books(&recording);
    let report = Report::read(&recording).unwrap();
    let root = report.root();
    let of_chain = rows(&root["stacks"])
        .into_iter()
        .filter(|stack| functions(stack).starts_with(&CHAIN[..7]));
    let mut tids = Vec::new();
    for stack in of_chain {
        assert_eq!(stack["live_blocks"], 39);
        tids.push(&stack["tid"]);
        let is_main = stack["tid"] == root["pid"];
        let outermost = functions(stack)[7..].contains(&"main");
        assert_eq!(is_main, outermost, "{stack:#}");
    }
    assert_eq!(tids.len(), 2);
    assert_ne!(tids[0], tids[1]);
}

#[test]
fn a_cpp_program_has_its_stacks_with_what_was_inlined() {
    let directory = workspace("sampled_cpp");
    let program = program("inlined.cpp")
        .flags(["-O2", "-fomit-frame-pointer"])
        .build(&directory);
    let recording = record(&directory, EVERY, &program, &[]);
    assert_stacks_are_the_books(&recording);
    let report = Report::read(&recording).unwrap();
    let decode = [
        "codec::Buffer::grow(unsigned long)",
        "codec::Buffer codec::filled<codec::Buffer>(unsigned long)",
        "codec::decode(unsigned long)",
        "main",
    ];
    assert_eq!(held(report.root(), &decode)[0], 10);
    let copy = ["codec::Packet::copy(unsigned long)", "main"];
    assert_eq!(held(report.root(), &copy)[0], 5);
}

#[test]
fn a_rust_program_with_c_in_it_has_stacks_through_both() {
    let directory = workspace("sampled_mixed");
    let object = directory.join("mixed_stacks.o");
    let cc = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let output = run(Command::new(cc)
        .args([
            "-O2",
            "-g",
            "-c",
            "-fno-builtin",
            "-fomit-frame-pointer",
            "-o",
        ])
        .arg(&object)
        .arg(sources().join("mixed_stacks.c")));
    assert_eq!(output.code(), 0, "{output:?}");
    let built = directory.join("mixed_stacks");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = run(Command::new(rustc)
        .args(["--edition", "2024", "-O", "-g", "-o"])
        .arg(&built)
        .arg(format!("-Clink-arg={}", object.display()))
        .arg(sources().join("mixed_stacks.rs")));
    assert_eq!(output.code(), 0, "{output:?}");
    let recording = record(&directory, EVERY, &built, &[]);
    assert_stacks_are_the_books(&recording);
    let report = Report::read(&recording).unwrap();
    // The compiler may have unrolled main's loops: a stack for each call that is left.
    let through = |name: &str, side: &str, expected: &[&str]| {
        let mut live_blocks = 0;
        for stack in rows(&report.root()["stacks"]) {
            let functions = functions(stack);
            if !functions.contains(&name) {
                continue;
            }
            let is_own =
                |name: &&str| name.starts_with("mixed_stacks::") || name.starts_with("take");
            let own: Vec<&str> = functions.iter().copied().filter(is_own).collect();
            assert_eq!((&own[..], stack["side"].as_str()), (expected, Some(side)));
            assert_eq!(functions.last(), Some(&"_start"));
            live_blocks += stack["live_blocks"].as_i64().unwrap();
        }
        live_blocks
    };
    let decode = [
        "mixed_stacks::grow",
        "mixed_stacks::decode",
        "mixed_stacks::main",
    ];
    assert_eq!(through("mixed_stacks::decode", "rust", &decode), 20);
    let take = ["take_one", "take", "mixed_stacks::main"];
    assert_eq!(through("take", "c", &take), 30);
    let counted = record(&directory, COUNT, &built, &[]);
    assert_eq!(exact_books(&recording), exact_books(&counted));
}

#[test]
fn every_format_has_the_sums_of_the_estimates() {
    let directory = workspace("sampled_formats");
    let program = call_chain(&directory);
    let recording = record(&directory, &["--sample-bytes", "2K"], &program, &[]);
    let report = Report::read(&recording).unwrap();
    let stacks = rows(&report.root()["stacks"]);
    let show = |options: &[&str]| run(heapledger().arg("report").arg(&recording).args(options));
    let folded = show(&["--format", "folded", "--measure", "allocated"]).text;
    let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<i64>().unwrap();
    assert_eq!(
        folded.lines().map(value).sum::<i64>(),
        sum(&stacks, "allocated_bytes")
    );
    let samples = sum(&stacks, "samples");
    let text = show(&[]).text;
    let line = format!("stacks are estimated from {samples} samples, one in 2.0 KiB on average");
    assert!(text.contains(&line), "{line}: {text}");
    assert!(
        stacks
            .iter()
            .any(|stack| stack["allocated_bytes_error"].as_u64() > Some(0))
    );
    assert!(
        stacks
            .iter()
            .all(|stack| stack.get("at_peak_bytes").is_none())
    );
    let peak = show(&["--format", "folded", "--measure", "peak"]);
    assert_eq!(peak.error.lines().count(), 1, "{peak:?}");
    assert!(peak.error.contains("not known from samples"), "{peak:?}");
    for format in ["html", "pprof", "flamegraph"] {
        let out = directory.join(format);
        let output = show(&["--format", format, "-o", out.to_str().unwrap()]);
        assert_eq!(output.code(), 0, "{output:?}");
        let name = if format == "pprof" {
            &[0x1f, 0x8b][..]
        } else {
            b"<"
        };
        assert!(fs::read(&out).unwrap().starts_with(name), "{format}");
    }
}

#[test]
fn the_option_decides_and_not_the_surroundings() {
    let directory = workspace("sampled_surroundings");
    let recording = directory.join("r.hlr");
    let mode = |options: &[&str]| {
        let output = run(heapledger()
            .env("HEAPLEDGER_MODE", "sample")
            .env("HEAPLEDGER_SAMPLE_BYTES", "7")
            .args(["run", "-q", "-o"])
            .arg(&recording)
            .args(options)
            .args(["--", "true"]));
        assert_eq!(output.code(), 0, "{output:?}");
        Recording::open(&recording).unwrap().processes[0].mode
    };
    assert_eq!(mode(COUNT), Mode::Count);
    let sample_bytes = 512 << 10;
    assert_eq!(mode(&[]), Mode::Sample { sample_bytes });
    assert_eq!(mode(&["--mode", "sample"]), Mode::Sample { sample_bytes });
    let sample_bytes = 64 << 20;
    assert_eq!(
        mode(&["--sample-bytes", "64MiB"]),
        Mode::Sample { sample_bytes }
    );
}

#[test]
fn samples_that_cannot_be_are_refused_in_one_line() {
    for (options, words) in [
        (&["--sample-bytes", "0"][..], "from 1 B to 64 MiB"),
        (&["--sample-bytes", "67108865"], "from 1 B to 64 MiB"),
        (
            &["--mode", "sample", "--sample-bytes", "1G"],
            "from 1 B to 64 MiB",
        ),
        (
            &["--mode", "count", "--sample-bytes", "1K"],
            "--mode sample",
        ),
        (&["--mode", "full", "--sample-bytes", "1K"], "--mode sample"),
    ] {
        let output = run(heapledger().arg("run").args(options).args(["--", "true"]));
        assert_eq!(
            (output.code(), output.text.as_str()),
            (125, ""),
            "{output:?}"
        );
        assert_eq!(output.error.lines().count(), 1, "{output:?}");
        assert!(output.error.contains(words), "{output:?}");
    }
    let output = run(heapledger().args(["run", "--sample-bytes", "x", "--", "true"]));
    assert!(
        output.code() == 125 && output.error.contains("a size begins with a number"),
        "{output:?}"
    );
}
