//! Misuse of the allocator in `run --mode full`: each kind with both its ends by name and
//! line, nothing where there is none, and programs that end as they do without us.
#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    feature = "cli",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod common;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use heapledger::recording::Recording;
use heapledger::report::json;
use serde_json::Value;

use common::report::{Report, rows};
use common::{
    Case, Output, assert_same, example, find_library, heapledger, preload_library, program, run,
    skip, sources, workspace,
};

/// Over glibc's plain lists, which do not see every block that is freed twice.
const UNSEEING: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");

fn misuse_program(directory: &Path) -> PathBuf {
    program("misuse.c").flags(["-O2"]).build(directory)
}

/// The Rust program, plain and with feature `interpose`.
fn crossing_programs() -> &'static [PathBuf; 2] {
    static BUILDS: OnceLock<[PathBuf; 2]> = OnceLock::new();
    BUILDS.get_or_init(|| {
        [
            example("misuse_crossed", "misuse_crossed", &[]),
            example(
                "misuse_crossed",
                "misuse_crossed_interpose",
                &["--features", "interpose"],
            ),
        ]
    })
}

fn recorded(recording: &Path, options: &[&str], program: &Path, word: &str) -> Output {
    run(heapledger()
        .env(UNSEEING.0, UNSEEING.1)
        .args(["run", "-q", "--mode", "full", "-o"])
        .arg(recording)
        .args(options)
        .arg("--")
        .arg(program)
        .arg(word))
}

fn bare(program: &Path, word: &str) -> Output {
    run(Command::new(program).arg(word).env(UNSEEING.0, UNSEEING.1))
}

/// Records the program bare and in mode full, holds the one to the other, and gives the report.
fn report_of(directory: &Path, program: &Path, word: &str) -> Report {
    let recording = directory.join(format!("{word}.hlr"));
    let output = recorded(&recording, &[], program, word);
    assert_same(&bare(program, word), &output);
    Report::read(&recording).unwrap()
}

/// Gives the misuse of the root process.
fn misuses(report: &Report) -> Vec<&Value> {
    rows(&report.root()["misuse"])
}

/// Gives the one misuse that there is.
fn the_misuse(report: &Report) -> &Value {
    let misuses = misuses(report);
    assert_eq!(misuses.len(), 1, "{report}");
    misuses[0]
}

/// Gives the functions of an end with their lines, the innermost first, of a program's own file.
fn end<'a>(misuse: &'a Value, name: &str, file: &str) -> Vec<(&'a str, u64)> {
    let frames = &misuse["stacks"][name];
    assert!(frames.is_array(), "no end {name} in {misuse:#}");
    let is_own = |frame: &&Value| {
        frame["file"]
            .as_str()
            .is_some_and(|path| path.ends_with(file))
    };
    let of = |frame: &'a Value| {
        let line = frame["line"].as_u64().unwrap_or(0);
        (frame["symbol"].as_str().unwrap_or("-"), line)
    };
    rows(frames).into_iter().filter(is_own).map(of).collect()
}

/// Gives the line of a source that ends in a comment `here: MARK`.
fn line_of(source: &str, mark: &str) -> u64 {
    let text = fs::read_to_string(sources().join(source)).unwrap();
    let ends = [format!("/* here: {mark} */"), format!("// here: {mark}")];
    let is_it = |line: &str| ends.iter().any(|end| line.ends_with(end));
    let line = text.lines().position(is_it);
    line.unwrap_or_else(|| panic!("no line of {source} is marked {mark}")) as u64 + 1
}

/// Holds an end to the function that begins it, on the line that is marked so, and to main.
fn assert_end(misuse: &Value, name: &str, function: &str) {
    let calls = end(misuse, name, "misuse.c");
    let innermost = (function, line_of("misuse.c", function));
    assert_eq!(calls.first(), Some(&innermost), "{name} of {misuse:#}");
}

#[test]
fn a_program_without_mistakes_has_the_ledger_that_it_states_and_no_misuse() {
    let report = Case::of("misuse.c").check_with(&["--mode", "full"]);
    assert_eq!(misuses(&report), [] as [&Value; 0], "{report}");
}

#[test]
fn the_right_calls_are_no_misuse() {
    let directory = workspace("misuse_right");
    let program = misuse_program(&directory);
    let report = report_of(&directory, &program, "right");
    assert_eq!(misuses(&report), [] as [&Value; 0], "{report}");
    let text = run(heapledger().arg("report").arg(directory.join("right.hlr"))).text;
    assert!(!text.contains("Misuse"), "{text}");
}

#[test]
fn a_double_free_that_nobody_notices_is_shown_with_all_three_stacks() {
    let directory = workspace("misuse_cycle");
    let program = misuse_program(&directory);
    let report = report_of(&directory, &program, "cycle");
    let misuse = the_misuse(&report);
    assert_eq!(
        (&misuse["kind"], &misuse["call"], &misuse["count"]),
        (&"double_free".into(), &"free".into(), &1.into())
    );
    assert_eq!(misuse["bytes"], 104);
    assert_eq!(misuse["tid"], report.root()["pid"]);
    assert_end(misuse, "allocated", "make_block");
    assert_end(misuse, "first_freed", "free_first");
    assert_end(misuse, "freed", "free_again");
    for name in ["allocated", "first_freed", "freed"] {
        let calls = end(misuse, name, "misuse.c");
        assert_eq!(calls.last().unwrap().0, "main", "{misuse:#}");
    }
    let losses = &report.root()["losses"];
    assert_eq!(losses["invariant_violations"], 0);
    assert_eq!(losses["foreign_frees"], 0, "the block was seen allocated");
}

#[test]
fn a_double_free_that_glibc_ends_the_program_for_is_in_the_recording() {
    let directory = workspace("misuse_double");
    let program = misuse_program(&directory);
    let report = report_of(&directory, &program, "double");
    assert_eq!(report.root()["outcome"]["signal"], "SIGABRT");
    let misuse = the_misuse(&report);
    assert_eq!(misuse["kind"], "double_free");
    assert_end(misuse, "first_freed", "free_first");
    assert_end(misuse, "freed", "free_again");
}

#[test]
fn a_realloc_of_what_was_freed_is_a_double_free() {
    let directory = workspace("misuse_resized");
    let program = misuse_program(&directory);
    let report = report_of(&directory, &program, "resized");
    let misuse = misuses(&report)[0];
    assert_eq!(
        (&misuse["kind"], &misuse["call"]),
        (&"double_free".into(), &"realloc".into())
    );
    assert_end(misuse, "allocated", "make_block");
    assert_end(misuse, "first_freed", "free_first");
    assert_end(misuse, "freed", "grow_block");
}

#[test]
fn a_free_inside_a_block_names_the_block() {
    let directory = workspace("misuse_inside");
    let program = misuse_program(&directory);
    let report = report_of(&directory, &program, "inside");
    let misuse = the_misuse(&report);
    assert_eq!(
        (&misuse["kind"], &misuse["inside_bytes"], &misuse["bytes"]),
        (&"free_of_unknown".into(), &16.into(), &104.into())
    );
    assert_end(misuse, "allocated", "make_block");
    assert_end(misuse, "freed", "free_again");
    assert_eq!(misuse["stacks"].get("first_freed"), None);
}

#[test]
fn a_free_of_what_no_allocator_gave_out_is_shown_with_its_stack() {
    let directory = workspace("misuse_static");
    let program = misuse_program(&directory);
    let report = report_of(&directory, &program, "static");
    let misuse = the_misuse(&report);
    assert_eq!(
        (&misuse["inside_bytes"], &misuse["bytes"]),
        (&Value::Null, &Value::Null)
    );
    let kind = misuse["kind"].as_str().unwrap();
    assert!(
        ["free_of_unknown", "free_of_unseen"].contains(&kind),
        "{kind}"
    );
    assert_end(misuse, "freed", "free_again");
    assert_eq!(misuse["stacks"].get("allocated"), None);
}

#[test]
fn a_double_free_by_two_threads_names_both() {
    let directory = workspace("misuse_threads");
    let program = misuse_program(&directory);
    let report = report_of(&directory, &program, "threads");
    let misuse = the_misuse(&report);
    assert_eq!(misuse["tid"], report.root()["pid"]);
    let first = end(misuse, "first_freed", "misuse.c");
    assert_eq!(first[1].0, "free_in_thread", "{misuse:#}");
    let again = end(misuse, "freed", "misuse.c");
    assert_eq!(again.last().unwrap().0, "main", "{misuse:#}");
}

/// Over an allocator that is preloaded behind us, which is asked nothing of its blocks.
fn mistakes_are_told_over(test: &str, library: &str) {
    let directory = workspace(test);
    let Some(allocator) = find_library(&[library]) else {
        return skip(test, library);
    };
    let program = misuse_program(&directory);
    let recording = directory.join("recording.hlr");
    let expected = [
        ("right", None),
        ("double", Some("double_free")),
        ("cycle", Some("double_free")),
        ("resized", Some("double_free")),
        ("threads", Some("double_free")),
        ("inside", Some("free_of_unknown")),
    ];
    for (word, kind) in expected {
        let output = run(heapledger()
            .env("LD_PRELOAD", &allocator)
            .args(["run", "-q", "--mode", "full", "--abort-on-misuse", "-o"])
            .arg(&recording)
            .arg("--")
            .args([program.as_os_str(), word.as_ref()]));
        assert_eq!(output.code(), 0, "{word}: {output:?}");
        let report = Report::read(&recording).unwrap();
        let kinds: Vec<_> = misuses(&report)
            .iter()
            .map(|it| it["kind"].clone())
            .collect();
        let expected: Vec<_> = kind.into_iter().map(Value::from).collect();
        assert_eq!(kinds, expected, "{word}: {report}");
        // An interface beside malloc's may have handed the block out again.
        let certain = misuses(&report).iter().any(|it| it["certain"] == true);
        assert!(!certain, "{word}: {report}");
    }
}

#[test]
fn mistakes_over_jemalloc_are_told() {
    mistakes_are_told_over("misuse_jemalloc", "libjemalloc.so.2");
}

#[test]
fn mistakes_over_mimalloc_are_told() {
    mistakes_are_told_over("misuse_mimalloc", "libmimalloc.so.2");
}

#[test]
fn the_same_mistake_again_and_again_is_one_record() {
    let directory = workspace("misuse_many");
    let program = misuse_program(&directory);
    let report = report_of(&directory, &program, "many");
    let misuse = the_misuse(&report);
    assert_eq!(
        (&misuse["kind"], &misuse["count"]),
        (&"double_free".into(), &6.into())
    );
    assert_eq!(misuse["bytes"], 24, "of the first of them: {misuse:#}");
}

#[test]
fn abort_on_misuse_ends_the_program_there_with_the_record_kept() {
    let directory = workspace("misuse_abort");
    let program = misuse_program(&directory);
    let recording = directory.join("abort.hlr");
    let aborting = |word: &str| {
        run(heapledger()
            .args(["run", "-q", "--mode", "full", "--abort-on-misuse", "-o"])
            .arg(&recording)
            .arg("--")
            .args([program.as_os_str(), word.as_ref()]))
    };
    let bare = run(Command::new(&program).arg("resized"));
    assert_eq!(bare.code(), 0, "glibc does not see it: {bare:?}");
    let output = aborting("resized");
    assert_eq!(
        (output.code(), output.text.as_str()),
        (134, ""),
        "{output:?}"
    );
    let report = Report::read(&recording).unwrap();
    assert_eq!(report.root()["outcome"]["signal"], "SIGABRT");
    assert_end(the_misuse(&report), "freed", "grow_block");
    assert_same(
        &run(Command::new(&program).arg("right")),
        &aborting("right"),
    );
}

#[test]
fn what_the_first_word_of_a_block_says_is_not_certain_and_ends_no_program() {
    let directory = workspace("misuse_first_word");
    let program = misuse_program(&directory);
    let recording = directory.join("word.hlr");
    for word in ["unwritten", "cycle"] {
        let output = recorded(&recording, &["--abort-on-misuse"], &program, word);
        assert_same(&bare(&program, word), &output);
        let report = Report::read(&recording).unwrap();
        let misuse = the_misuse(&report);
        assert_eq!(
            (&misuse["kind"], &misuse["certain"]),
            (&"double_free".into(), &false.into()),
            "{word}"
        );
        let text = run(heapledger().arg("report").arg(&recording)).text;
        assert!(text.contains("\n  1 likely double free\n"), "{text}");
    }
}

/// A thread's cache goes into bins as it ends, with glibc's key in its blocks.
#[test]
fn what_an_ended_thread_cached_is_not_certain_and_ends_no_program() {
    let directory = workspace("misuse_flushed");
    let program = misuse_program(&directory);
    let recording = directory.join("flushed.hlr");
    // With one slot nothing but its loss tells of the second thread.
    let words = ["flushed", "copied", "threads"];
    for (word, slots) in words.iter().flat_map(|word| [(word, "1"), (word, "64")]) {
        let output = run(heapledger()
            .env("HEAPLEDGER_MAX_SLOTS", slots)
            .args(["run", "-q", "--mode", "full", "--abort-on-misuse", "-o"])
            .arg(&recording)
            .arg("--")
            .arg(&program)
            .arg(word));
        assert_same(&run(Command::new(&program).arg(word)), &output);
        let report = Report::read(&recording).unwrap();
        let misuse = the_misuse(&report);
        assert_eq!(misuse["certain"], false, "{word} {slots}: {misuse:#}");
    }
}

#[test]
fn one_place_has_what_is_certain_and_what_is_not_in_records_of_their_own() {
    let directory = workspace("misuse_sure");
    let program = misuse_program(&directory);
    let report = report_of(&directory, &program, "surely");
    let misuses = misuses(&report);
    let sure: Vec<_> = misuses
        .iter()
        .map(|misuse| (&misuse["kind"], &misuse["certain"], &misuse["count"]))
        .collect();
    let kind = "double_free".into();
    let (yes, no) = (true.into(), false.into());
    assert_eq!(
        sure,
        [(&kind, &no, &2.into()), (&kind, &yes, &1.into())],
        "{report}"
    );
}

#[test]
fn the_surroundings_do_not_make_a_program_abort() {
    let directory = workspace("misuse_surroundings");
    let program = misuse_program(&directory);
    let recording = directory.join("r.hlr");
    let output = run(heapledger()
        .env(UNSEEING.0, UNSEEING.1)
        .env("HEAPLEDGER_ABORT_ON_MISUSE", "1")
        .args(["run", "-q", "--mode", "full", "-o"])
        .arg(&recording)
        .arg("--")
        .arg(&program)
        .arg("cycle"));
    assert_same(&bare(&program, "cycle"), &output);
}

#[test]
fn summary_and_report_name_both_ends() {
    let directory = workspace("misuse_texts");
    let program = misuse_program(&directory);
    let recording = directory.join("cycle.hlr");
    let output = run(heapledger()
        .env(UNSEEING.0, UNSEEING.1)
        .args(["run", "--mode", "full", "-o"])
        .arg(&recording)
        .arg("--")
        .arg(&program)
        .arg("cycle"));
    let summary = &output.error;
    assert!(
        summary.contains("misuse of the allocator: 1 likely double free\n"),
        "{summary}"
    );
    let named = |text: &str, function: &str| {
        let source = format!("programs/misuse.c:{}", line_of("misuse.c", function));
        let mut lines = text.lines();
        lines.any(|line| line.contains(function) && line.ends_with(&source))
    };
    let text = run(heapledger().arg("report").arg(&recording)).text;
    for function in ["make_block", "free_first", "free_again"] {
        assert!(named(summary, function), "{function}: {summary}");
        assert!(named(&text, function), "{function}: {text}");
    }
}

/// Holds an end to a function of the Rust program, on the line that is marked so.
fn assert_crossing(misuse: &Value, name: &str, function: &str) {
    const SOURCE: &str = "misuse_crossed.rs";
    // What stands for the allocator itself lies in the same file.
    let mut calls = end(misuse, name, SOURCE);
    calls.retain(|call| call.0.starts_with("misuse_crossed::"));
    let expected = (
        format!("misuse_crossed::{function}"),
        line_of(SOURCE, function),
    );
    let found = calls.first().map(|call| (call.0.to_owned(), call.1));
    assert_eq!(found, Some(expected), "{name} of {misuse:#}");
    assert_eq!(
        calls.last().unwrap().0,
        "misuse_crossed::main",
        "{misuse:#}"
    );
}

fn assert_crossings(test: &str, program: &Path) {
    let directory = workspace(test);
    let misuse_of = |word: &str, kind: &str| {
        let report = report_of(&directory, program, word);
        let misuse = the_misuse(&report).clone();
        assert_eq!(misuse["kind"], kind, "{misuse:#}");
        misuse
    };
    let vec = misuse_of("vec", "c_freed_by_rust");
    assert_crossing(&vec, "allocated", "taken_from_c");
    assert_crossing(&vec, "freed", "made_a_vec_of");
    let text = misuse_of("cstring", "rust_freed_by_c");
    assert_crossing(&text, "allocated", "given_to_c");
    assert_crossing(&text, "freed", "freed_by_c");
    let resized = misuse_of("realloc", "rust_freed_by_c");
    assert_eq!(resized["call"], "realloc");
    assert_crossing(&resized, "allocated", "boxed");
    assert_crossing(&resized, "freed", "resized_by_c");
    let report = report_of(&directory, program, "right");
    assert_eq!(misuses(&report), [] as [&Value; 0], "{report}");
}

#[test]
fn blocks_that_cross_are_shown_with_both_their_ends() {
    assert_crossings("misuse_crossed", &crossing_programs()[0]);
}

#[test]
fn blocks_that_cross_are_shown_with_feature_interpose_under_the_preload() {
    assert_crossings("misuse_crossed_interpose", &crossing_programs()[1]);
}

#[test]
fn blocks_that_cross_are_shown_without_a_preload() {
    let directory = workspace("misuse_crossed_alone");
    for (word, kind) in [("vec", "c_freed_by_rust"), ("cstring", "rust_freed_by_c")] {
        let ledgers = directory.join(word);
        fs::create_dir(&ledgers).unwrap();
        let output = run(Command::new(&crossing_programs()[1])
            .arg(word)
            .env_remove("LD_PRELOAD")
            .env("HEAPLEDGER_DIR", &ledgers)
            .env("HEAPLEDGER_MODE", "full"));
        assert_eq!(
            (output.code(), output.text.as_str()),
            (0, "done\n"),
            "{output:?}"
        );
        let report = Report::read(&ledgers).unwrap();
        assert_eq!(the_misuse(&report)["kind"], kind);
    }
}

#[test]
fn an_unmodified_rust_program_has_no_sides_to_cross() {
    let directory = workspace("misuse_unmodified");
    // The same mistakes, but all of Rust's allocations come through malloc.
    let source = fs::read_to_string(sources().join("misuse_crossed.rs")).unwrap();
    let source = source
        .replace(
            "#[global_allocator]\nstatic ALLOC: heapledger::Alloc = heapledger::Alloc::system();",
            C_FUNCTIONS,
        )
        .replace("libc::", "c::");
    let path = directory.join("misuse_unmodified.rs");
    fs::write(&path, source).unwrap();
    let program = directory.join("misuse_unmodified");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = run(Command::new(rustc)
        .args(["--edition", "2024", "-O", "-g", "-o"])
        .arg(&program)
        .arg(&path));
    assert_eq!(output.code(), 0, "{output:?}");
    for word in ["vec", "cstring", "realloc", "right"] {
        let report = report_of(&directory, &program, word);
        assert_eq!(misuses(&report), [] as [&Value; 0], "{word}: {report}");
    }
}

const C_FUNCTIONS: &str = "mod c {
    use std::ffi::c_void;
    unsafe extern \"C\" {
        pub fn malloc(size: usize) -> *mut c_void;
        pub fn realloc(block: *mut c_void, size: usize) -> *mut c_void;
        pub fn free(block: *mut c_void);
    }
}";

#[test]
fn frees_of_another_allocator_s_blocks_are_told_apart_from_misuse() {
    let directory = workspace("misuse_foreign");
    let program = program("foreign_frees.c").build(&directory);
    let recording = directory.join("foreign.hlr");
    let output = run(heapledger()
        .args(["run", "--mode", "full", "--abort-on-misuse", "-o"])
        .arg(&recording)
        .arg("--")
        .arg(&program));
    assert_eq!(
        (output.code(), output.text.as_str()),
        (0, "freed\n"),
        "{output:?}"
    );
    assert!(!output.error.contains("misuse of"), "{}", output.error);
    let report = Report::read(&recording).unwrap();
    for misuse in misuses(&report) {
        assert_eq!(
            (&misuse["kind"], &misuse["certain"]),
            (&"free_of_unseen".into(), &false.into())
        );
    }
    let text = run(heapledger().arg("report").arg(&recording)).text;
    assert!(
        text.contains("\nFrees of blocks that nobody saw allocated\n"),
        "{text}"
    );
    assert!(!text.contains("Misuse of the allocator"), "{text}");
}

#[test]
fn memory_handed_out_past_the_hooks_is_freed_twice_by_nobody() {
    let directory = workspace("misuse_past");
    let program = program("misuse_past.c").build(&directory);
    let recording = directory.join("past.hlr");
    for tunables in ["", UNSEEING.1] {
        let output = run(heapledger()
            .env(UNSEEING.0, tunables)
            .args(["run", "-q", "--mode", "full", "--abort-on-misuse", "-o"])
            .arg(&recording)
            .arg("--")
            .arg(&program));
        let bare = run(Command::new(&program).env(UNSEEING.0, tunables));
        assert_eq!(bare.code(), 0, "{bare:?}");
        assert_same(&bare, &output);
        let report = Report::read(&recording).unwrap();
        let misuses = misuses(&report);
        assert!(
            misuses.iter().all(|misuse| misuse["certain"] == false),
            "{report}"
        );
        assert_eq!(report.root()["losses"]["foreign_frees"], PAST_FREES);
    }
    Case::new(&directory, "misuse_past.c", program).check();
}

#[test]
fn threads_that_pass_blocks_past_the_hooks_make_no_mistake() {
    let directory = workspace("misuse_passed");
    let program = program("misuse_threads.c").build(&directory);
    for _ in 0..5 {
        let case = Case::new(&directory, "misuse_threads.c", program.clone());
        let report = case.check_with(&["--mode", "full", "--abort-on-misuse"]);
        let misuses = misuses(&report);
        assert!(
            misuses.iter().all(|misuse| misuse["certain"] == false),
            "{report}"
        );
    }
}

/// Of `misuse_past.c`.
const PAST_FREES: u64 = 9;

#[test]
fn double_frees_of_every_kind_of_chunk_are_known() {
    let directory = workspace("misuse_chunks");
    let program = program("misuse_chunks.c").build(&directory);
    let recording = directory.join("chunks.hlr");
    let joined = ["before", "after", "both", "end"].map(|neighbours| ("2000", neighbours));
    let alone = ["24", "168", "300000"].map(|bytes| (bytes, "-"));
    for (bytes, neighbours) in joined.into_iter().chain(alone) {
        run(heapledger()
            .env(UNSEEING.0, UNSEEING.1)
            .args(["run", "-q", "--mode", "full", "-o"])
            .arg(&recording)
            .arg("--")
            .arg(&program)
            .args([bytes, neighbours]));
        let report = Report::read(&recording).unwrap();
        let misuse = the_misuse(&report);
        // A block so small is in a fast bin, and its first word alone says so.
        let certain = bytes != "24";
        assert_eq!(
            (&misuse["kind"], &misuse["certain"]),
            (&"double_free".into(), &certain.into()),
            "{bytes} {neighbours}"
        );
    }
}

#[test]
fn a_killed_program_s_ledger_has_its_misuse_without_a_recorder() {
    let directory = workspace("misuse_ledgers");
    let program = misuse_program(&directory);
    let ledgers = directory.join("ledgers");
    fs::create_dir(&ledgers).unwrap();
    let output = run(Command::new(&program)
        .arg("resized")
        .env("LD_PRELOAD", preload_library())
        .env("HEAPLEDGER_DIR", &ledgers)
        .env("HEAPLEDGER_MODE", "full")
        .env("HEAPLEDGER_ABORT_ON_MISUSE", "1"));
    assert_eq!(output.code(), 134, "{output:?}");
    let report = Report::read(&ledgers).unwrap();
    assert_end(the_misuse(&report), "freed", "grow_block");
}

#[test]
fn a_hostile_ledger_of_mode_full_is_survived() {
    const STEP: usize = 1531;
    let directory = workspace("misuse_hostile");
    let program = misuse_program(&directory);
    let ledgers = directory.join("ledgers");
    fs::create_dir(&ledgers).unwrap();
    let output = run(Command::new(&program)
        .arg("cycle")
        .env("LD_PRELOAD", preload_library())
        .env(UNSEEING.0, UNSEEING.1)
        .env("HEAPLEDGER_DIR", &ledgers)
        .env("HEAPLEDGER_MODE", "full"));
    assert_eq!(output.code(), 0, "{output:?}");
    let ledger = fs::read_dir(&ledgers).unwrap().next().unwrap().unwrap();
    let mut bytes = vec![0; 384 << 10];
    let file = fs::File::open(ledger.path()).unwrap();
    file.read_exact_at(&mut bytes, 0).unwrap();
    // libc's names are not what this is about, and take most of the time.
    let name = b"libc.so.6";
    let places = bytes.windows(name.len()).enumerate();
    let places: Vec<usize> = places
        .filter(|(_, part)| part == name)
        .map(|(at, _)| at)
        .collect();
    places.into_iter().for_each(|at| bytes[at] = b'L');
    let damaged = directory.join("damaged.ledger");
    let file = fs::File::create(&damaged).unwrap();
    file.write_all_at(&bytes, 0).unwrap();
    // An empty page has nothing to damage.
    let is_used = |at: &usize| bytes[at & !4095..][..4096].iter().any(|&byte| byte != 0);
    let mut read = 0;
    for at in (24..bytes.len() - 8).step_by(STEP).filter(is_used) {
        for value in [u64::MAX, 7] {
            file.write_all_at(&value.to_ne_bytes(), at as u64).unwrap();
            if let Ok(recording) = Recording::open_any(&damaged) {
                let report = heapledger::analysis::Report::new(&recording);
                let mut text = Vec::new();
                json::write(&report, &mut text).unwrap();
                Report::parse(&String::from_utf8(text).unwrap()).unwrap();
                read += 1;
            }
        }
        file.write_all_at(&bytes[at..at + 8], at as u64).unwrap();
    }
    assert!(read > 20, "only {read} were read at all");
}

#[test]
fn misuse_in_a_child_is_told_of_the_child() {
    let directory = workspace("misuse_child");
    let program = misuse_program(&directory);
    let recording = directory.join("child.hlr");
    let output = run(heapledger()
        .env(UNSEEING.0, UNSEEING.1)
        .args(["run", "--mode", "full", "-o"])
        .arg(&recording)
        .args(["--", "sh", "-c", "\"$0\" cycle; exit 3"])
        .arg(&program));
    assert_eq!(output.code(), 3, "{output:?}");
    assert!(output.error.contains("misuse (pid "), "{}", output.error);
    let report = Report::read(&recording).unwrap();
    let [child] = report.processes_of("misuse")[..] else {
        panic!("{report}");
    };
    assert_end(&child["misuse"][0], "freed", "free_again");
    assert_eq!(rows(&report.root()["misuse"]).len(), 0);
}
