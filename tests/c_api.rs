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

/// Builds the example as its first comment says. Nothing is inlined, so that
/// every function has its call site.
fn example(directory: &Path) -> PathBuf {
    let source = package().join("examples/c/scopes.c");
    program(source.to_str().expect("the package's path is text"))
        .called("scopes")
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
    let scopes = example(&workspace("c_api_bare"));
    let output = run(&mut Command::new(scopes));
    assert_eq!(
        (output.code(), output.text.as_str(), output.error.as_str()),
        (0, "no ledger is kept here\n", "")
    );
}

#[test]
fn the_example_is_booked_exactly_under_run() {
    let directory = workspace("c_api_run");
    let scopes = example(&directory);
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
    let scopes = example(&directory);
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
    let scopes = example(&directory);
    let output = run(Command::new(scopes).env("LD_PRELOAD", preload_library()));
    assert_eq!((output.code(), output.text.as_str()), (0, SAID));
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
