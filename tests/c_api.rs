//! `include/heapledger.h` from C: the example with exact numbers, the edges of
//! each function, and a header that compilers accept.
#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::expectations::Expectation;
use common::report::Report;
use common::{Case, has_tool, heapledger, preload_library, program, run, workspace};

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn include() -> String {
    format!("-I{}", package().join("include").display())
}

/// Builds an example as its first comment says. Nothing is inlined, so that
/// every function has its call site.
fn example(directory: &Path, name: &str) -> PathBuf {
    let source = package().join(format!("examples/c/{name}.c"));
    program(source.to_str().expect("the package's path is text"))
        .called(name)
        .flags([include(), "-std=c11".into(), "-O0".into()])
        .build(directory)
}

/// What the example allocates, whoever keeps the books. glibc's sizes.
const LEDGER: &[&str] = &[
    "outcome=exit:0 processes=1 losses.foreign_frees=0",
    "scope=decode allocated_blocks=100 requested_bytes=100*4000 allocated_bytes=100*u(4000) freed_blocks=25 \
     freed_bytes=25*u(4000) live_blocks=75 live_bytes=75*u(4000)",
    "scope=index allocated_blocks=10 requested_bytes=10*500 live_blocks=10 live_bytes=10*u(500)",
    "site=decode rows=1 allocated_blocks=100 live_blocks=75",
    "site=index_frames rows=1 allocated_blocks=10 freed_blocks=0",
    "site=take_notes rows=1 allocated_blocks=3 requested_bytes=768 live_bytes=3*u(256)",
    "library=(charged) rows=1 allocated_blocks=2 allocated_bytes=2*8388608 freed_blocks=1 freed_bytes=8388608 \
     live_blocks=1 live_bytes=8388608",
    "site=textures rows=1 side=c allocated_blocks=2 live_blocks=1 live_bytes=8388608",
];

fn check(report: &Report, expectations: &[&str]) {
    let mut wrong = report.violations();
    for line in expectations {
        wrong.extend(Expectation::parse(line).check(report));
    }
    assert!(wrong.is_empty(), "{}\n{report}", wrong.join("\n"));
}

/// `live before` counts what the example itself holds then: 75 frames, 10 entries, 1 texture.
const SAID: &str = "interface 1, c is booked\n\
    take_notes: 3 blocks, 768 bytes asked for, 792 bytes live\n\
    live before: 86 blocks, 8694248 bytes\n";

#[test]
fn the_example_runs_without_a_ledger() {
    let scopes = example(&workspace("c_api_bare"), "scopes");
    let output = run(&mut Command::new(scopes));
    assert_eq!(
        (output.code(), output.text.as_str(), output.error.as_str()),
        (0, "no ledger is kept here\n", "")
    );
}

#[test]
fn the_example_is_booked_exactly_under_run() {
    let directory = workspace("c_api_run");
    let scopes = example(&directory, "scopes");
    let recording = directory.join("recording.hlr");
    let output = run(heapledger()
        .args(["run", "-q", "-o"])
        .arg(&recording)
        .arg("--")
        .arg(scopes));
    assert_eq!(
        (output.code(), output.text.as_str(), output.error.as_str()),
        (0, SAID, "")
    );
    check(&Report::read(&recording).expect("a report"), LEDGER);
}

#[test]
fn the_example_is_booked_exactly_with_a_plain_preload() {
    let directory = workspace("c_api_preload");
    let scopes = example(&directory, "scopes");
    let books = directory.join("books");
    std::fs::create_dir(&books).expect("the workspace is writable");
    let output = run(Command::new(scopes)
        .env("LD_PRELOAD", preload_library())
        .env("HEAPLEDGER_DIR", &books));
    assert_eq!((output.code(), output.text.as_str()), (0, SAID));
    let report = Report::read(&books).expect("a report");
    // Nobody was there to see how it ended.
    check(&report, &["processes=1"]);
    check(&report, &LEDGER[1..]);
}

#[test]
fn a_snapshot_needs_no_directory() {
    let directory = workspace("c_api_anonymous");
    let scopes = example(&directory, "scopes");
    let output = run(Command::new(scopes).env("LD_PRELOAD", preload_library()));
    assert_eq!((output.code(), output.text.as_str()), (0, SAID));
}

/// Runs the reclaimer's example under `run`, with options; gives what it said, and its report.
fn reclaimer_under_run(test: &str, options: &[&str]) -> (String, Report) {
    let directory = workspace(test);
    let recording = directory.join("recording.hlr");
    let output = run(heapledger()
        .arg("run")
        .args(options)
        .args(["-q", "-o"])
        .arg(&recording)
        .arg("--")
        .arg(example(&directory, "reclaimer")));
    assert_eq!((output.code(), output.error.as_str()), (0, ""));
    let report = Report::read(&recording).expect("a report");
    // 32 of 64 tiles are malloc's, 32 are mapped and charged.
    check(
        &report,
        &[
            "outcome=exit:0 processes=1 losses.foreign_frees=0",
            "site=tile_new rows=1 allocated_blocks=32 freed_blocks=32 requested_bytes=32*1048576 live_blocks=0",
            "site=tiles rows=1 side=c allocated_blocks=32 allocated_bytes=32*1048576 freed_blocks=32 live_bytes=0",
        ],
    );
    (output.text, report)
}

#[test]
fn the_reclaimer_runs_without_a_ledger() {
    let reclaimer = example(&workspace("c_api_reclaimer_bare"), "reclaimer");
    let output = run(&mut Command::new(reclaimer));
    assert_eq!(
        (output.code(), output.text.as_str(), output.error.as_str()),
        (0, "no ledger is kept here\n64 tiles are left\n", "")
    );
}

#[test]
fn the_reclaimer_is_left_alone_where_nobody_drives() {
    let (text, report) = reclaimer_under_run("c_api_reclaimer_run", &[]);
    assert_eq!(
        text,
        "c has grown by 64 MiB\nnobody drives clean-ups here\n64 tiles are left\n"
    );
    assert_eq!(report.root()["pressure"]["cycles"], 0);
}

#[test]
fn the_reclaimer_is_called_by_a_recorder_that_drives() {
    let options = ["--soft-limit", "1GiB"];
    let (text, report) = reclaimer_under_run("c_api_reclaimer_driven", &options);
    assert_eq!(
        text,
        "c has grown by 64 MiB\na clean-up came\n0 tiles are left\n"
    );
    let pressure = &report.root()["pressure"];
    assert_eq!(pressure["cycles"], 1);
    assert_eq!(pressure["events"][0]["trigger"], "asked");
}

#[test]
fn the_edges_of_every_function() {
    let directory = workspace("c_api_edges");
    let edges = program("c_api.c").flags([include()]).build(&directory);
    Case::new(&directory, "c_api.c", edges).check();
}

#[test]
fn compilers_accept_the_header_by_itself() {
    let directory = workspace("c_api_header");
    let strict = [
        "-fsyntax-only",
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Wstrict-prototypes",
        "-Werror",
    ];
    for (compiler, language, standard) in [("cc", "c", "c99"), ("c++", "c++", "c++11")] {
        if !has_tool(compiler) {
            common::skip("compilers_accept_the_header_by_itself", compiler);
            continue;
        }
        for weak in ["", "#define HEAPLEDGER_WEAK\n"] {
            let source = directory.join("header.inc");
            std::fs::write(&source, format!("{weak}#include <heapledger.h>\n"))
                .expect("the workspace is writable");
            let output = run(Command::new(compiler)
                .args(
                    strict
                        .iter()
                        .filter(|flag| language == "c" || **flag != "-Wstrict-prototypes"),
                )
                .args([
                    include(),
                    format!("-std={standard}"),
                    "-x".into(),
                    language.into(),
                ])
                .arg(&source));
            assert_eq!(
                (output.code(), output.error.as_str()),
                (0, ""),
                "{language}"
            );
        }
    }
}

#[test]
fn what_is_charged_by_name_is_inherited_by_every_fork() {
    let directory = workspace("fork_charges");
    let program = program("fork_charges.c")
        .flags([include()])
        .build(&directory);
    Case::new(&directory, "fork_charges.c", program).check();
}

#[test]
fn a_child_whose_own_thread_comes_first_goes_on_in_scopes_and_charges() {
    let directory = workspace("fork_thread_first");
    let program = program("fork_thread_first.c")
        .flags([include()])
        .build(&directory);
    Case::new(&directory, "fork_thread_first.c", program).check();
}

#[test]
fn a_child_that_forks_while_its_ledger_begins_hands_it_on() {
    let directory = workspace("fork_while_begun");
    let program = program("fork_while_begun.c")
        .flags([include()])
        .build(&directory);
    Case::new(&directory, "fork_while_begun.c", program).check();
}
