//! A Rust program that drives its own clean-ups, under `heapledger run`: the
//! recorder tells of each of them, and leaves it alone.
#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod common;

use std::path::PathBuf;
use std::sync::OnceLock;

use common::report::{Report, rows};
use common::{example, heapledger, run, workspace};
use serde_json::Value;

const MIB: u64 = 1 << 20;

fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| example("driving", "driving", &[]))
}

/// Runs it under `run`, with options; gives what it said, line by line, and its report's root.
fn record(test: &str, options: &[&str], arguments: [&str; 3], code: i32) -> (Vec<String>, Value) {
    let recording = workspace(test).join("recording.hlr");
    let output = run(heapledger()
        .arg("run")
        .args(options)
        .args(["-q", "-o"])
        .arg(&recording)
        .arg("--")
        .arg(program())
        .args(arguments));
    assert_eq!(output.code(), code, "{}", output.error);
    let lines = output.text.lines().map(str::to_owned).collect();
    let report = Report::read(&recording).expect("a report");
    (lines, report.root().clone())
}

/// An event of the report in the words of the program's own lines.
fn line(event: &Value) -> String {
    let claims: Vec<String> = rows(&event["reclaimers"])
        .iter()
        .map(|call| {
            format!(
                "{}={}",
                call["name"].as_str().unwrap(),
                call["claimed_bytes"]
            )
        })
        .collect();
    format!(
        "{} {} {} {} {}",
        event["trigger"].as_str().unwrap(),
        event["level"].as_str().unwrap(),
        event["before_bytes"],
        event["freed_bytes"],
        claims.join(",")
    )
}

fn events(root: &Value) -> Vec<String> {
    let events = rows(&root["pressure"]["events"]);
    events.into_iter().map(line).collect()
}

/// More clean-ups than the ledger keeps; the end is a SIGKILL right after the last.
fn each_is_told(test: &str, ending: &str, code: i32) {
    const CYCLES: u64 = 18;
    let (said, root) = record(test, &[], ["18", "asked", ending], code);
    assert_eq!(said.len() as u64, CYCLES);
    assert_eq!(events(&root), said);
    let pressure = &root["pressure"];
    assert_eq!(pressure["cycles"], CYCLES);
    assert_eq!(pressure["events_left_out"], 0);
    let all = rows(&pressure["events"]);
    let freed = |event: &&Value| event["freed_bytes"].as_u64().unwrap();
    let freed_bytes: u64 = all.iter().map(freed).sum();
    assert_eq!(pressure["freed_bytes"], freed_bytes);
    for (event, number) in all.iter().zip(1u64..) {
        // The cache's blocks, and what else came free or was taken meanwhile.
        assert!(freed(event).abs_diff(number * MIB) < 64 << 10, "{event}");
        assert_eq!(event["claimed_bytes"], number * MIB + 7);
        assert_eq!(event["complete"], true);
        // Names are cut.
        let names: Vec<_> = rows(&event["reclaimers"])
            .iter()
            .map(|call| call["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["a cache of large blocks", "boaster", "collector"]);
    }
    let t_s = |event: &&Value| event["t_s"].as_f64().unwrap();
    assert!(all.is_sorted_by(|a, b| t_s(a) < t_s(b)));
    assert!(t_s(all.last().unwrap()) <= root["duration_s"].as_f64().unwrap());
}

#[test]
fn each_clean_up_of_a_program_that_drives_its_own_is_in_the_recording() {
    each_is_told("driving_exit", "exit", 0);
}

#[test]
fn each_clean_up_is_in_the_recording_after_a_sigkill() {
    each_is_told("driving_kill", "kill", 128 + libc::SIGKILL);
}

#[test]
fn the_operators_limit_is_heeded_by_the_programs_own_driver_and_nobody_else_drives() {
    let options = ["--soft-limit", "64MiB"];
    let (said, root) = record("driving_limited", &options, ["2", "limited", "kill"], 137);
    assert_eq!(said.len(), 2);
    assert_eq!(events(&root), said, "{root}");
    let line = format!(
        "a cache of large blocks={},boaster=7,collector=null",
        60 * MIB
    );
    assert!(
        said.iter()
            .all(|said| said.starts_with("soft_limit") && said.ends_with(&line)),
        "{said:?}"
    );
    assert_eq!(root["pressure"]["cycles"], 2);
}

#[test]
fn what_goes_past_a_programs_hard_limit_fails_in_c_and_only_there() {
    let (said, root) = record("driving_refused", &[], ["refused", "", ""], 0);
    assert_eq!(said, ["refused"]);
    assert_eq!(root["pressure"]["refused"], 2);
    assert_eq!(root["pressure"]["refused_bytes"], 220 * MIB);
}

#[test]
fn a_directory_of_ledgers_tells_of_the_last_clean_ups_too() {
    let books = workspace("driving_preload");
    let output = run(std::process::Command::new(program())
        .args(["17", "asked", "kill"])
        .env("LD_PRELOAD", common::preload_library())
        .env("HEAPLEDGER_DIR", &books));
    let said: Vec<&str> = output.text.lines().collect();
    let report = Report::read(&books).expect("a report");
    let pressure = &report.root()["pressure"];
    assert_eq!(events(report.root()), said[1..]);
    assert_eq!(
        (&pressure["cycles"], &pressure["events_left_out"]),
        (&17.into(), &1.into())
    );
}
