//! How long sampled blocks live. Every block is a sample where counts are held to
//! what the program does; times are held to waits that cannot be shorter.
#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod common;

use std::path::{Path, PathBuf};

use serde_json::Value;

use common::report::rows;
use common::{
    Case, NO_FILTER, can_be_strict, heapledger, preload_library, program, run, workspace,
};

/// What blocks of the program wait at least, in seconds.
const WAIT_S: f64 = 0.03;

fn built(test: &str) -> (PathBuf, PathBuf) {
    let directory = workspace(test);
    let program = program("lifetimes.c").build(&directory);
    (directory, program)
}

/// Records the program with these words for `run` and for itself; gives the report in JSON and as text.
fn recorded(
    directory: &Path,
    program: &Path,
    run_words: &[&str],
    words: &[&str],
) -> (Value, String) {
    let recording = directory.join("recording.hlr");
    let mut command = heapledger();
    command
        .args(["run", "-q"])
        .args(run_words)
        .arg("-o")
        .arg(&recording);
    let output = run(command.arg("--").arg(program).args(words));
    assert_eq!(
        (output.code(), output.error.as_str()),
        (0, ""),
        "{output:?}"
    );
    let shown = |format: &[&str]| {
        let output = run(heapledger().arg("report").arg(&recording).args(format));
        assert_eq!(
            (output.code(), output.error.as_str()),
            (0, ""),
            "{output:?}"
        );
        output.text
    };
    let json = shown(&["--format", "json"]);
    (serde_json::from_str(&json).expect("JSON"), shown(&[]))
}

/// Gives a figure of the only stack with a function in it.
fn of_stack<'a>(process: &'a Value, function: &str, key: &str) -> &'a Value {
    let is_it = |stack: &&Value| {
        let frames = rows(&stack["frames"]);
        frames.iter().any(|frame| frame["symbol"] == function)
    };
    let stacks = rows(&process["stacks"]);
    let mut found = stacks.into_iter().filter(is_it);
    let stack = found
        .next()
        .unwrap_or_else(|| panic!("no stack of {function}"));
    assert!(found.next().is_none(), "two stacks of {function}");
    &stack[key]
}

fn seconds(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn the_program_has_the_ledger_that_it_states() {
    Case::of("lifetimes.c").check_with(&["--sample-bytes", "1"]);
}

#[test]
fn every_life_is_counted_and_no_wait_is_shortened() {
    let (directory, program) = built("lifetimes_exact");
    let (report, text) = recorded(&directory, &program, &["--sample-bytes", "1"], &[]);
    let process = &report["processes"][0];
    let c = &process["lifetimes"]["c"];
    let freed: u64 = rows(&process["stacks"])
        .iter()
        .map(|stack| stack["freed_blocks"].as_u64().expect("a number"))
        .sum();
    // brief, patient, grown, handed; what starting a thread takes besides.
    assert!(freed >= 1000 + 50 + 1 + 10, "{c}");
    assert_eq!((&c["count"], &c["samples"]), (&freed.into(), &freed.into()));
    let live = rows(&process["stacks"])
        .iter()
        .map(|stack| stack["live_blocks"].as_u64().expect("a number"))
        .sum::<u64>();
    assert!(live >= 20, "{c}");
    assert_eq!(c["never_freed"], live);
    assert_eq!(process["lifetimes"]["rust"], Value::Null);

    for (function, freed) in [
        ("brief", 1000),
        ("patient", 50),
        ("kept", 0),
        ("grown", 1),
        ("handed", 10),
    ] {
        assert_eq!(
            of_stack(process, function, "freed_blocks"),
            freed,
            "{function}"
        );
    }
    for function in ["patient", "handed"] {
        assert!(seconds(of_stack(process, function, "mean_lifetime_s")) >= WAIT_S);
        assert_eq!(of_stack(process, function, "freed_under_1ms_blocks"), 0);
    }
    assert_eq!(of_stack(process, "kept", "mean_lifetime_s"), &Value::Null);
    // A thousand blocks that nothing waits for, and fifty that wait.
    let brief = seconds(of_stack(process, "brief", "mean_lifetime_s"));
    assert!(brief < WAIT_S, "{brief}");
    assert!(
        seconds(&c["max_s"]) >= WAIT_S && seconds(&c["p50_s"]) < WAIT_S,
        "{c}"
    );
    let under = c["under_1ms"].as_u64().expect("the clock is precise");
    assert!(under <= freed - 60, "{c}");
    let line = text
        .lines()
        .skip_while(|line| !line.starts_with("How long blocks lived"))
        .nth(2);
    let words: Vec<&str> = line.expect("a row").split_whitespace().collect();
    assert_eq!(words[0], "c");
    assert_eq!(words.last(), Some(&live.to_string().as_str()));
}

#[test]
fn a_forked_child_s_blocks_keep_their_age() {
    let (directory, program) = built("lifetimes_fork");
    let (report, _) = recorded(&directory, &program, &["--sample-bytes", "1"], &["fork"]);
    let child = &report["processes"][1];
    assert_eq!(of_stack(child, "patient", "freed_blocks"), 50);
    assert!(seconds(of_stack(child, "patient", "mean_lifetime_s")) >= WAIT_S);
    assert_eq!(child["lifetimes"]["c"]["count"], 50);
    // The parent's own were not freed by its child's.
    let parent = &report["processes"][0];
    assert_eq!(of_stack(parent, "patient", "freed_blocks"), 50);
}

#[test]
fn counts_of_lives_are_those_of_the_stacks_estimates() {
    let (directory, program) = built("lifetimes_sampled");
    let (report, _) = recorded(&directory, &program, &["--sample-bytes", "500"], &[]);
    let process = &report["processes"][0];
    let c = &process["lifetimes"]["c"];
    let stacks = rows(&process["stacks"]);
    let sum = |key: &str| {
        stacks
            .iter()
            .map(|stack| stack[key].as_f64().expect("a number"))
            .sum::<f64>()
    };
    // Each stack and each bucket is rounded by itself.
    let most = stacks.len() as f64 + 720.0;
    assert!(
        (c["count"].as_f64().unwrap() - sum("freed_blocks")).abs() <= most,
        "{c}"
    );
    assert!(
        (c["under_1ms"].as_f64().unwrap() - sum("freed_under_1ms_blocks")).abs()
            <= stacks.len() as f64
    );
    assert!((c["never_freed"].as_f64().unwrap() - sum("live_blocks")).abs() <= stacks.len() as f64);
}

#[test]
fn a_program_that_replaces_the_clock_is_not_asked_for_the_time() {
    let modes: [&[&str]; 3] = [
        &["--mode", "count"],
        &["--sample-bytes", "1"],
        &["--mode", "full"],
    ];
    for mode in modes {
        Case::of("clock_replaced.c").check_with(mode);
    }
}

#[test]
fn a_coarse_clock_says_what_it_cannot_tell() {
    let (directory, program) = built("lifetimes_coarse");
    let recording = directory.join("recording.hlr");
    let output = run(heapledger()
        .args(["run", "-q", "--sample-bytes", "1", "-o"])
        .arg(&recording)
        .arg("--")
        .arg(&program)
        .env("HEAPLEDGER_CLOCK", "coarse"));
    assert_eq!(
        (output.code(), output.error.as_str()),
        (0, ""),
        "{output:?}"
    );
    let output = run(heapledger()
        .arg("report")
        .arg(&recording)
        .args(["--format", "json"]));
    let report: Value = serde_json::from_str(&output.text).expect("JSON");
    let process = &report["processes"][0];
    let step_s = seconds(&process["lifetimes"]["step_s"]);
    assert!(step_s > 1e-6, "{step_s}");
    let tells = step_s <= 1e-3;
    assert_eq!(process["lifetimes"]["c"]["under_1ms"].is_null(), !tells);
    assert!(seconds(of_stack(process, "patient", "mean_lifetime_s")) >= WAIT_S - step_s);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_program_that_may_forbid_itself_the_precise_clock_is_not_killed_for_it() {
    needs!("lifetimes_strict", can_be_strict(), NO_FILTER);
    let report = Case::of("seccomp_strict.c").check_with(&["--sample-bytes", "300"]);
    let step_s = seconds(&report.root()["lifetimes"]["step_s"]);
    assert!(
        step_s > 1e-6,
        "it asks for prctl, so its clock is the coarse one: {step_s}"
    );
}

/// GNU's linker says of an object that offers nothing as if it asked for nothing either.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_program_that_offers_no_symbol_may_forbid_itself_the_precise_clock_too() {
    needs!("lifetimes_no_pie", can_be_strict(), NO_FILTER);
    let directory = workspace("lifetimes_no_pie");
    let program = program("seccomp_strict.c")
        .flags(["-no-pie", "-Wl,--hash-style=gnu"])
        .build(&directory);
    let report =
        Case::new(&directory, "seccomp_strict.c", program).check_with(&["--sample-bytes", "300"]);
    let step_s = seconds(&report.root()["lifetimes"]["step_s"]);
    assert!(step_s > 1e-6, "its clock is the coarse one: {step_s}");
}

#[test]
fn in_mode_count_nothing_is_said_of_lifetimes() {
    let (directory, program) = built("lifetimes_count");
    let (report, text) = recorded(&directory, &program, &["--mode", "count"], &[]);
    assert_eq!(report["processes"][0]["lifetimes"], Value::Null);
    assert!(!text.contains("How long blocks lived"));
}

#[test]
fn a_program_that_is_killed_keeps_the_lives_that_had_ended() {
    let (directory, program) = built("lifetimes_killed");
    let ledgers = directory.join("ledgers");
    std::fs::create_dir(&ledgers).expect("the workspace is writable");
    let output = run(std::process::Command::new(&program)
        .arg("kill")
        .env("LD_PRELOAD", preload_library())
        .env("HEAPLEDGER_DIR", &ledgers)
        .env("HEAPLEDGER_MODE", "sample")
        .env("HEAPLEDGER_SAMPLE_BYTES", "1"));
    assert_eq!(output.code(), 128 + 9);
    let output = run(heapledger()
        .arg("report")
        .arg(&ledgers)
        .args(["--format", "json"]));
    let report: Value = serde_json::from_str(&output.text).expect("JSON");
    let process = &report["processes"][0];
    assert_eq!(of_stack(process, "brief", "freed_blocks"), 1000);
    assert_eq!(of_stack(process, "patient", "freed_blocks"), 0);
    assert_eq!(of_stack(process, "patient", "live_blocks"), 50);
}
