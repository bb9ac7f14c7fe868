//! Cleanup pressure from C: the programs that prove the words, the reclaimers
//! and the helper's thread. Drivers outside are tested in `src/ledger`.
#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod common;

use std::path::Path;

use common::report::Report;
use common::{Case, has_tool, heapledger, library, program, run, workspace};

fn headers() -> [String; 2] {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    ["include", "interpose"].map(|folder| format!("-I{}", package.join(folder).display()))
}

fn case(source: &str) -> Case {
    let build = program(source).flags(headers());
    let directory = workspace(source.trim_end_matches(".c"));
    let program = build.build(&directory);
    Case::new(&directory, source, program)
}

#[test]
fn a_thousand_threads_cross_once() {
    case("pressure_crossing.c").check();
}

#[test]
fn reclaimers_come_and_go_while_they_run() {
    case("pressure_reclaimers.c").check();
}

#[test]
fn the_helper_serves_forked_children_and_is_not_waited_for() {
    case("pressure_helper.c")
        .env("HEAPLEDGER_PRESSURE", "python,trim,jvm")
        .check();
}

#[test]
fn a_main_thread_may_leave_a_child_that_keeps_no_ledger() {
    let directory = workspace("pressure_helper_alone");
    let program = program("pressure_helper.c")
        .flags(headers())
        .build(&directory);
    let output = run(heapledger()
        .args([
            "run",
            "-q",
            "--no-children",
            "--on-pressure",
            "python,trim,jvm",
        ])
        .arg("-o")
        .arg(directory.join("recording.hlr"))
        .arg("--")
        .arg(program)
        .arg("leave"));
    assert_eq!(
        (output.code(), output.text.as_str()),
        (0, "left\n"),
        "{}",
        output.error
    );
}

#[test]
fn a_library_is_unloaded_while_its_reclaimer_runs() {
    let directory = workspace("pressure_unload");
    let plugin = library("pressure_unload_library.c")
        .flags(headers())
        .build(&directory);
    let program = program("pressure_unload.c")
        .flags(headers())
        .build(&directory);
    Case::new(&directory, "pressure_unload.c", program)
        .arg(plugin)
        .check();
}

#[test]
fn what_goes_past_a_hard_limit_is_refused_and_counted() {
    let limit = (32 << 20).to_string();
    case("pressure_refusals.c")
        .env("HEAPLEDGER_REFUSE_PAST", &limit)
        .check();
    // A sampled block that could not grow stays a sample.
    case("pressure_refusals.c")
        .env("HEAPLEDGER_REFUSE_PAST", &limit)
        .check_with(&["--sample-bytes", "1"]);
    // The same in a report: nine of the parent's, one of its child's.
    let directory = workspace("pressure_refusals_told");
    let program = program("pressure_refusals.c")
        .flags(headers())
        .build(&directory);
    let recording = directory.join("recording.hlr");
    let output = run(heapledger()
        .args(["run", "--refuse-past-hard-limit", "--hard-limit", &limit])
        .arg("-o")
        .arg(&recording)
        .arg("--")
        .arg(program));
    assert_eq!((output.code(), output.text.as_str()), (0, "refused\n"));
    let report = Report::read(&recording).expect("a report");
    let mut told: Vec<_> = report
        .processes()
        .iter()
        .map(|process| &process["pressure"])
        .map(|pressure| {
            (
                pressure["refused"].as_u64(),
                pressure["refused_bytes"].as_u64(),
            )
        })
        .collect();
    told.sort();
    let large = 1 << 20;
    // The block of 100 bytes, 104 with what glibc adds, was to grow.
    let parents = 9 * large - 104;
    assert_eq!(told, [(Some(1), Some(large)), (Some(9), Some(parents))]);
    let line = "10 requests for 10 MiB refused past the hard limit";
    assert!(output.error.contains(line), "{}", output.error);
}

#[test]
fn new_fails_past_a_hard_limit_as_cpp_knows_it() {
    needs!(
        "new_fails_past_a_hard_limit_as_cpp_knows_it",
        has_tool("c++"),
        "c++"
    );
    let directory = workspace("pressure_refusals_cpp");
    let program = program("pressure_refusals_cpp.cpp").build(&directory);
    Case::new(&directory, "pressure_refusals_cpp.cpp", program.clone()).check();
    let recording = directory.join("recording.hlr");
    let output = run(heapledger()
        .args(["run", "--refuse-past-hard-limit", "--hard-limit=32MiB"])
        .arg("-o")
        .arg(&recording)
        .arg("--")
        .arg(&program)
        .arg("limited"));
    assert_eq!(
        (output.code(), output.text.as_str()),
        (0, "refused\n"),
        "{}",
        output.error
    );
    let report = Report::read(&recording).expect("a report");
    assert_eq!(report.root()["pressure"]["refused"], 8);
    assert_eq!(report.root()["losses"]["foreign_frees"], 0);
}
