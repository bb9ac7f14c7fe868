//! Host languages whose collectors do not see what C holds for them: the Go
//! package, and the examples in Go, Python and Java under clean-ups.
#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod common;
#[path = "../benches/common/hosts.rs"]
mod hosts;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Output, preload_library, run_within, skip, workspace};
use hosts::{Figures, GO, Host, Way, go, go_hosts, java_host, python_host};

/// A first build of Go's own library is among what is waited for.
const PATIENCE: Duration = Duration::from_secs(600);

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bindings/go/heapledger")
}

fn assert_good(what: &str, output: &Output) {
    assert_eq!(output.code(), 0, "{what}: {}{}", output.text, output.error);
}

fn go_does(command: &mut Command) -> String {
    let output = run_within(PATIENCE, command);
    assert_good(&format!("{command:?}"), &output);
    output.text + &output.error
}

#[test]
fn the_go_package_has_todays_header() {
    let copy = fs::read_to_string(package().join("heapledger.h")).expect("the copy is there");
    assert_eq!(
        copy,
        include_str!("../include/heapledger.h"),
        "copy include/heapledger.h to bindings/go/heapledger/"
    );
}

#[test]
fn the_go_package_passes_its_own_tests() {
    let test = "the_go_package_passes_its_own_tests";
    let Some(mut tests) = go(&package()) else {
        return skip(test, GO);
    };
    go_does(tests.args(["test", "./..."]));
    for example in ["bindings/go/heapledger", "examples/go-finalizer"] {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(example);
        let go = || go(&directory).expect("go was found");
        go_does(go().args(["vet", "./..."]));
        let root = go_does(go().args(["env", "GOROOT"]));
        let formatter = Path::new(root.trim_end()).join("bin/gofmt");
        let output = run_within(PATIENCE, Command::new(formatter).arg("-l").arg(&directory));
        assert_good("gofmt", &output);
        assert_eq!(output.text, "", "not as gofmt has it");
    }
    // Without cgo there is nothing to find the ledger with, and it says so.
    go_does(
        go(&package())
            .expect("go was found")
            .env("CGO_ENABLED", "0")
            .args(["test", "."]),
    );
}

/// Builds the package's tests, linked in one of the ways in which a weak reference could get lost.
fn go_tests(directory: &Path, flags: &[&str]) -> Option<PathBuf> {
    let program = directory.join(
        flags[0]
            .trim_start_matches('-')
            .replace(['=', ' ', ','], "-"),
    );
    let mut build = go(&package())?;
    go_does(
        build
            .args(["test", "-c"])
            .args(flags)
            .arg("-o")
            .arg(&program)
            .arg("."),
    );
    Some(program)
}

#[test]
fn the_go_package_finds_the_ledger_however_it_is_linked() {
    let test = "the_go_package_finds_the_ledger_however_it_is_linked";
    let directory = workspace("go_package");
    for flags in [["-buildmode=exe"], ["-buildmode=pie"]] {
        let Some(program) = go_tests(&directory, &flags) else {
            return skip(test, GO);
        };
        let mut command = Command::new(program);
        command
            .arg("-test.v")
            .env("LD_PRELOAD", preload_library())
            .env("HEAPLEDGER_GO_TEST_LEDGER", "yes");
        let said = go_does(&mut command);
        assert!(said.contains("--- PASS: TestARealLedgerIsFound"), "{said}");
    }
    let flags = ["-ldflags=-extldflags=-static"];
    let program = go_tests(&directory, &flags).expect("go was found");
    let said = go_does(
        Command::new(program)
            .arg("-test.v")
            .env("LD_PRELOAD", preload_library()),
    );
    assert!(
        said.contains("--- PASS: TestAllOfItSaysThatNoLedgerIsKept"),
        "{said}"
    );
}

/// What the largest of the programs takes alone, and as much for the rest of the machine.
const ROOM_KIB: u64 = 4 << 20;

fn has_room() -> bool {
    let told = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = told.lines().find_map(|line| {
        let words = line.strip_prefix("MemAvailable:")?;
        words.split_whitespace().next()?.parse::<u64>().ok()
    });
    available.is_none_or(|kibibytes| kibibytes >= ROOM_KIB)
}

/// Gives what is to be run, or says why it is not.
fn found<H>(test: &str, host: Result<H, &'static str>) -> Option<H> {
    let host = host.and_then(|host| has_room().then_some(host).ok_or("4 GiB of memory"));
    host.map_err(|missing| skip(test, missing)).ok()
}

/// Runs a program alone and with clean-ups, and holds its peaks against each other.
fn clean_ups_help(host: &Host) -> (Figures, Figures) {
    let alone = host.run(Way::Alone);
    let cleaned = host.run(Way::CleanedUp);
    assert_eq!(cleaned.text, alone.text, "{}", host.name);
    let ratio = cleaned.peak_rss_bytes as f64 / alone.peak_rss_bytes as f64;
    let books = cleaned.books.as_ref().expect("a ledger was kept");
    let said = format!(
        "{}: {} MiB alone, {} MiB after {} clean-ups, of which C had {} MiB",
        host.name,
        alone.peak_rss_bytes >> 20,
        cleaned.peak_rss_bytes >> 20,
        books.cleanups,
        books.c_peak_bytes >> 20,
    );
    println!("{said}");
    assert!(ratio <= 1.0 / host.at_most_one_in, "{said}");
    assert!(books.cleanups > 0 && books.freed_bytes > 0, "{said}");
    assert!(books.c_peak_bytes <= cleaned.peak_rss_bytes, "{said}");
    (alone, cleaned)
}

fn go_is_helped(test: &str, variant: usize) {
    let Some(hosts) = found(test, go_hosts()) else {
        return;
    };
    let host = &hosts[variant];
    let (alone, cleaned) = clean_ups_help(host);
    let books = cleaned.books.expect("a ledger was kept");
    assert_eq!(books.reclaimers, ["go", "trim"]);
    let limited = host.run(Way::NoHelp);
    assert_eq!(limited.text, alone.text);
    let ratio = limited.peak_rss_bytes as f64 / alone.peak_rss_bytes as f64;
    assert!(ratio >= 0.9, "GOMEMLIMIT helps: {ratio}");
}

#[test]
fn finalizers_of_go_free_in_time() {
    go_is_helped("finalizers_of_go_free_in_time", 0);
}

#[test]
fn cleanups_of_go_free_in_time() {
    go_is_helped("cleanups_of_go_free_in_time", 1);
}

#[test]
fn cycles_of_python_are_freed_in_time() {
    if let Some(host) = found("cycles_of_python_are_freed_in_time", python_host()) {
        let (_, cleaned) = clean_ups_help(&host);
        assert_eq!(
            cleaned.books.expect("a ledger was kept").reclaimers,
            ["python"]
        );
    }
}

#[test]
fn buffers_of_java_are_freed_in_time() {
    if let Some(host) = found("buffers_of_java_are_freed_in_time", java_host()) {
        let (_, cleaned) = clean_ups_help(&host);
        assert_eq!(
            cleaned.books.expect("a ledger was kept").reclaimers,
            ["jvm"]
        );
    }
}
