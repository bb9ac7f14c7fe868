//! The core under an older glibc than this machine's, unpacked beside the system: it
//! loads, its books and stacks are exact, and what misuses the allocator is told as here.
//! Programs are linked with that glibc and started by its loader; the command stays this
//! machine's.
#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    feature = "cli",
    target_arch = "x86_64"
))]

mod common;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::Value;

use common::report::rows;
use common::{Case, EVERY_MODE, program, skip, workspace};

/// Gives the directory of the older glibc's libraries: where `.ci/run` has unpacked it, or
/// where `OLDER_GLIBC` says.
fn older_glibc() -> Option<PathBuf> {
    let here = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/older-glibc");
    let root = std::env::var_os("OLDER_GLIBC").map_or_else(here, PathBuf::from);
    let libraries = root.join("lib/x86_64-linux-gnu");
    libraries.join("libc.so.6").is_file().then_some(libraries)
}

/// What the linker is told for a program that is to run over these libraries.
fn linked_with(libraries: &Path) -> Vec<OsString> {
    let there = |option: &str, file: &str| {
        let mut flag = OsString::from(option);
        flag.push(libraries.join(file));
        flag
    };
    vec![
        "-nodefaultlibs".into(),
        "-Wl,--disable-new-dtags".into(),
        there("-Wl,--dynamic-linker=", "ld-linux-x86-64.so.2"),
        there("-Wl,-rpath=", ""),
        there("", "libc.so.6"),
        there("", "libpthread.so.0"),
        there("", "libdl.so.2"),
        "-lgcc".into(),
    ]
}

fn behaves(test: &str, source: &str) {
    let Some(libraries) = older_glibc() else {
        return skip(test, "an older glibc");
    };
    let directory = workspace(test);
    let built = program(source)
        .flags(linked_with(&libraries))
        .build(&directory);
    Case::new(&directory, source, built).check_in(EVERY_MODE);
}

#[test]
fn every_entry_point_is_booked() {
    behaves("older_entry_points", "entry_points.c");
}

#[test]
fn threads_that_come_and_go_are_booked() {
    behaves("older_short_threads", "short_threads.c");
}

#[test]
fn forked_children_have_books_of_their_own() {
    behaves("older_fork", "fork_glibc.c");
}

#[test]
fn blocks_that_move_are_booked() {
    behaves("older_realloc_churn", "realloc_churn.c");
}

#[test]
fn memory_handed_out_past_the_hooks_is_freed_twice_by_nobody() {
    behaves("older_misuse_past", "misuse_past.c");
}

/// Gives what is told of each misuse: its kind, how sure that is, how often, and the
/// innermost function of each of its ends.
fn findings(case: &Case) -> (i32, Vec<String>) {
    let (output, report) = case.run_recorded(&["--mode", "full"]);
    let told = |misuse: &Value| {
        let end = |name| &misuse["stacks"][name][0]["symbol"];
        format!(
            "{} certain: {}, {} times: {} {} {}",
            misuse["kind"],
            misuse["certain"],
            misuse["count"],
            end("allocated"),
            end("first_freed"),
            end("freed")
        )
    };
    let misuses = rows(&report.root()["misuse"]);
    (output.code(), misuses.into_iter().map(told).collect())
}

/// The key by which glibc knows a block that a thread caches is that thread's cache here,
/// and a random number from 2.34 on.
#[test]
fn misuse_is_told_as_over_this_machine_s_glibc() {
    const TEST: &str = "older_misuse";
    let Some(libraries) = older_glibc() else {
        return skip(TEST, "an older glibc");
    };
    let directory = workspace(TEST);
    let older = program("misuse.c")
        .called("misuse_older")
        .flags(linked_with(&libraries))
        .build(&directory);
    let newer = program("misuse.c").build(&directory);
    for word in [
        "right", "double", "cycle", "resized", "inside", "static", "many",
    ] {
        let of =
            |built: &Path| findings(&Case::new(&directory, "misuse.c", built.to_owned()).arg(word));
        let told = of(&older);
        assert_eq!(told, of(&newer), "{word}");
        assert_eq!(told.1.is_empty(), word == "right", "{word}: {told:?}");
    }
}
