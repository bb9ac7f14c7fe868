//! The four ways in which crate, feature `interpose` and preload library meet:
//! each books every block exactly once, on the right side.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use common::{example, heapledger, preload_library, run, workspace};

const RUST: &str = "rust seen=true blocks=102 bytes=105000 live_blocks=61 live_bytes=63000 reallocs=1 requested=105000\n";
const C: &str = "c seen=true blocks=50 bytes=25200 live_blocks=30 live_bytes=15120 reallocs=0 requested=25000\n";
const C_UNSEEN: &str =
    "c seen=false blocks=0 bytes=0 live_blocks=0 live_bytes=0 reallocs=0 requested=0\n";

/// The two builds of tests/programs/combinations.rs: plain, and with feature `interpose`.
fn builds() -> &'static [PathBuf; 2] {
    static BUILDS: OnceLock<[PathBuf; 2]> = OnceLock::new();
    BUILDS.get_or_init(|| {
        [
            example("combinations", "plain", &[]),
            example("combinations", "interpose", &["--features", "interpose"]),
        ]
    })
}

fn library(test: &str) -> PathBuf {
    common::library("combinations_library.c").build(&workspace(test))
}

/// Runs a build, with the preload library or without; gives what it printed.
fn output_of(test: &str, program: &Path, preload: bool) -> String {
    let mut command = Command::new(program);
    command
        .env("LIBRARY", library(test))
        .env_remove("HEAPLEDGER_DIR");
    if preload {
        command.env("LD_PRELOAD", preload_library());
    }
    let output = run(&mut command);
    assert!(output.status.success(), "{}", output.error);
    output.text
}

#[test]
fn a_plain_crate_books_rust_and_says_that_it_does_not_see_c() {
    let text = output_of("combination_plain", &builds()[0], false);
    assert_eq!(text, format!("{C_UNSEEN}{RUST}foreign 0\n"));
}

#[test]
fn a_crate_with_interpose_books_both_sides_without_a_preload() {
    let text = output_of("combination_interpose", &builds()[1], false);
    assert_eq!(text, format!("{C}{RUST}foreign 0\n"));
}

#[test]
fn a_plain_crate_under_the_preload_books_both_sides_once() {
    let text = output_of("combination_preload", &builds()[0], true);
    assert_eq!(text, format!("{C}{RUST}foreign 0\n"));
}

#[test]
fn a_crate_with_interpose_under_the_preload_books_both_sides_once() {
    let text = output_of("combination_both", &builds()[1], true);
    assert_eq!(text, format!("{C}{RUST}foreign 0\n"));
}

const FORKED: &str = "\
child kept blocks=100 bytes=100000 live_blocks=60 live_bytes=60000
child elsewhere blocks=1 bytes=777 live_blocks=1 live_bytes=777
child child blocks=12 bytes=1204 live_blocks=12 live_bytes=1204
parent kept blocks=100 bytes=100000 live_blocks=100 live_bytes=100000
parent elsewhere blocks=1 bytes=777 live_blocks=1 live_bytes=777
parent child blocks=0 bytes=0 live_blocks=0 live_bytes=0
";

#[test]
fn a_forked_child_begins_with_the_layout_sizes_that_it_inherited() {
    let program = example("forking", "forking", &[]);
    assert_eq!(output_of("forking", &program, false), FORKED);
}

#[test]
fn a_forked_child_under_the_preload_begins_with_the_same() {
    let program = example("forking", "forking_preload", &[]);
    assert_eq!(output_of("forking_preload", &program, true), FORKED);
}

/// What a recorder outside sees is what the program sees of itself.
fn recorded(test: &str, program: &Path) {
    let directory = workspace(test);
    let recording = directory.join("recording.hlr");
    let output = run(heapledger()
        .args(["run", "-q", "-o"])
        .arg(&recording)
        .arg("--")
        .arg(program)
        .env(
            "LIBRARY",
            common::library("combinations_library.c").build(&directory),
        ));
    assert!(output.status.success(), "{}", output.error);
    assert_eq!(output.error, "", "nothing speaks against recording it");
    assert_eq!(output.text, format!("{C}{RUST}foreign 0\n"));
    let report = run(heapledger()
        .arg("report")
        .arg(&recording)
        .args(["--format", "json"]));
    let report: serde_json::Value = serde_json::from_str(&report.text).expect("JSON");
    let process = &report["processes"][0];
    assert_eq!(process["tracked"], true);
    assert_eq!(process["losses"]["invariant_violations"], 0);
    let sum = |side: &str, key: &str| -> i64 {
        let sites = process["sites"].as_array().expect("sites");
        let exact = sites
            .iter()
            .filter(|site| site["scope"] == "exact" && site["side"] == side);
        exact
            .map(|site| site[key].as_i64().expect("a number"))
            .sum()
    };
    assert_eq!(
        (sum("rust", "allocated_blocks"), sum("rust", "live_bytes")),
        (102, 63_000)
    );
    assert_eq!(
        (sum("c", "allocated_blocks"), sum("c", "live_bytes")),
        (50, 15_120)
    );
}

#[test]
fn a_recording_of_a_plain_crate_holds_the_same_books() {
    recorded("combination_recorded_plain", &builds()[0]);
}

#[test]
fn a_recording_of_a_crate_with_interpose_holds_the_same_books() {
    recorded("combination_recorded_interpose", &builds()[1]);
}
