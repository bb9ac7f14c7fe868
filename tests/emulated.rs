//! The core on aarch64, cross-compiled and run under an emulator: the books of
//! the same programs are the same. The command itself stays this machine's.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::report::{Report, rows, sum};
use common::{has_tool, heapledger, run, run_within, sources, workspace};

const COMPILER: &str = "aarch64-linux-gnu-gcc";
const SYMBOLS: &str = "aarch64-linux-gnu-nm";
const EMULATOR: &str = "qemu-aarch64";
/// Emulated programs are tens of times slower.
const PATIENCE: Duration = Duration::from_secs(180);

/// Builds the preload library from the same sources as build.rs does.
fn core(directory: &Path) -> PathBuf {
    let library = directory.join("libheapledger.so");
    let preload = [
        "-DHL_PRELOAD",
        "-DHL_INTERPOSE",
        "-Wl,--version-script=interpose/exports.map",
    ];
    build_core(&library, &preload, |_| true);
    library
}

/// Builds a library that has the core as a crate's has it, without the hooks.
fn library_with_core(directory: &Path) -> PathBuf {
    let library = directory.join("liblate.so");
    let source = sources().join("late_library.c");
    let source = source.to_str().expect("a plain path");
    build_core(&library, &["-DHL_CRATE", source], |unit| {
        !unit.ends_with("hooks.c")
    });
    library
}

fn build_core(library: &Path, with: &[&str], belongs: impl Fn(&Path) -> bool) {
    let interpose = Path::new(env!("CARGO_MANIFEST_DIR")).join("interpose");
    let units = fs::read_dir(&interpose)
        .expect("the core's sources")
        .map(|entry| entry.expect("an entry").path());
    let units = units.filter(|path| {
        path.extension().is_some_and(|extension| extension == "c")
            && !path.ends_with("layout_probe.c")
            && belongs(path)
    });
    let output = run(Command::new(COMPILER)
        .args([
            "-std=c11",
            "-O2",
            "-fPIC",
            "-shared",
            "-fvisibility=hidden",
            "-ftls-model=initial-exec",
        ])
        .args([
            "-fno-builtin",
            "-fno-lto",
            "-mbranch-protection=standard",
            "-Wall",
            "-Wextra",
            "-Werror",
        ])
        .args(["-D_GNU_SOURCE", "-Iinterpose", "-Iinclude"])
        .args(with)
        .args(["-Wl,-z,now", "-Wl,-Bsymbolic-functions", "-o"])
        .arg(library)
        .args(units)
        // As build.rs links it: before glibc 2.34 dlsym lived in libdl.
        .args([
            "-Wl,--push-state,--no-as-needed",
            "-l:libdl.so.2",
            "-Wl,--pop-state",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR")));
    assert!(output.status.success(), "{}", output.error);
}

fn emulated(program: &Path) -> Command {
    let mut command = Command::new(EMULATOR);
    command.args(["-L", "/usr/aarch64-linux-gnu"]).arg(program);
    command
}

/// Runs a program bare and booked; both print the same. Gives the report.
fn books_of(test: &str, source: &str) -> Option<Report> {
    if !has_tool(COMPILER) || !has_tool(EMULATOR) {
        common::skip(test, "an aarch64 compiler or emulator");
        return None;
    }
    let directory = workspace(test);
    let library = core(&directory);
    let program = directory.join("program");
    let output = run(Command::new(COMPILER)
        .args(["-O1", "-g", "-pthread", "-fno-builtin", "-o"])
        .arg(&program)
        .arg(sources().join(source)));
    assert!(output.status.success(), "{}", output.error);
    let bare = run_within(PATIENCE, &mut emulated(&program));
    let books = directory.join("books");
    fs::create_dir(&books).expect("the workspace is writable");
    let mut booked = Command::new(EMULATOR);
    booked
        .args(["-L", "/usr/aarch64-linux-gnu", "-E"])
        .arg(format!("LD_PRELOAD={}", library.display()))
        .arg("-E")
        .arg(format!("HEAPLEDGER_DIR={}", books.display()))
        .arg(&program);
    let booked = run_within(PATIENCE, &mut booked);
    common::assert_same(&bare, &booked);
    let report = run(heapledger()
        .arg("report")
        .arg(&books)
        .args(["--format", "json"]));
    let report = Report::parse(&report.text).expect("a report");
    assert_eq!(report.violations(), Vec::<String>::new());
    Some(report)
}

/// Gives (allocated, live) blocks of a function, over all processes.
fn blocks_of(report: &Report, symbol: &str) -> (i64, i64) {
    let sites: Vec<_> = report
        .processes()
        .into_iter()
        .flat_map(|process| rows(&process["sites"]))
        .collect();
    let own: Vec<_> = sites
        .into_iter()
        .filter(|site| site["symbol"] == symbol)
        .collect();
    (sum(&own, "allocated_blocks"), sum(&own, "live_blocks"))
}

#[test]
fn the_core_imports_only_symbol_versions_that_old_systems_have_on_aarch64() {
    if !has_tool(COMPILER) || !has_tool(SYMBOLS) {
        common::skip("aarch64_imports", "an aarch64 compiler or nm");
        return;
    }
    let library = core(&workspace("aarch64_imports"));
    let output = run(Command::new(SYMBOLS)
        .args(["-D", "--undefined-only"])
        .arg(library));
    assert!(output.status.success(), "{}", output.error);
    let newer = common::imports_newer_than_2_17(&output.text);
    assert_eq!(newer, Vec::<&str>::new(), "{}", output.text);
}

#[test]
fn every_entry_point_is_booked_on_aarch64() {
    let Some(report) = books_of("aarch64_entry_points", "entry_points.c") else {
        return;
    };
    assert_eq!(blocks_of(&report, "call_malloc").0, 100);
    assert_eq!(blocks_of(&report, "call_calloc").0, 50);
    assert_eq!(blocks_of(&report, "call_aligned_alloc").0, 30);
}

#[test]
fn churning_threads_are_booked_on_aarch64() {
    let Some(report) = books_of("aarch64_realloc_churn", "realloc_churn.c") else {
        return;
    };
    assert_eq!(blocks_of(&report, "churn_realloc").0, 160_000);
}

#[test]
fn short_threads_are_booked_on_aarch64() {
    let Some(report) = books_of("aarch64_short_threads", "short_threads.c") else {
        return;
    };
    assert_eq!(blocks_of(&report, "short_alloc"), (50_000, 10_000));
}

#[test]
fn forked_children_have_ledgers_of_their_own_on_aarch64() {
    let Some(report) = books_of("aarch64_fork", "fork_glibc.c") else {
        return;
    };
    assert!(report.processes().len() > 1, "one ledger only");
}

/// Its thread-local storage is of the static kind, which a library that is opened late
/// finds room for among what the loader keeps free.
#[test]
fn a_library_with_a_core_of_its_own_can_be_opened_late_on_aarch64() {
    let test = "aarch64_late";
    if !has_tool(COMPILER) || !has_tool(EMULATOR) {
        common::skip(test, "an aarch64 compiler or emulator");
        return;
    }
    let directory = workspace(test);
    let library = library_with_core(&directory);
    let program = directory.join("late");
    let output = run(Command::new(COMPILER)
        .args(["-O1", "-g", "-pthread", "-fno-builtin", "-Iinclude", "-o"])
        .arg(&program)
        .arg(sources().join("late.c"))
        .current_dir(env!("CARGO_MANIFEST_DIR")));
    assert!(output.status.success(), "{}", output.error);
    for mode in ["count", "full"] {
        let books = directory.join(mode);
        fs::create_dir(&books).expect("the workspace is writable");
        let mut command = Command::new(EMULATOR);
        command
            .args(["-L", "/usr/aarch64-linux-gnu", "-E"])
            .arg(format!("HEAPLEDGER_DIR={}", books.display()))
            .args(["-E", &format!("HEAPLEDGER_MODE={mode}")])
            .args([&program, &library]);
        let output = run_within(PATIENCE, &mut command);
        let told = "c is unknown, rust holds 3000 bytes in 3 blocks of 6\n";
        assert_eq!(
            (output.code(), output.text.as_str(), output.error.as_str()),
            (0, told, ""),
            "{mode}"
        );
        let report = run(heapledger()
            .arg("report")
            .arg(&books)
            .args(["--format", "json"]));
        let report = Report::parse(&report.text).expect("a report");
        assert_eq!(report.root()["losses"]["invariant_violations"], 0);
        assert_eq!(blocks_of(&report, "late_alloc"), (6, 3), "{mode}: {report}");
        let stacks = rows(&report.root()["stacks"]);
        let through = |function: &str| {
            let calls = |stack: &&&serde_json::Value| {
                rows(&stack["frames"])
                    .iter()
                    .any(|frame| frame["symbol"] == function)
            };
            stacks.iter().filter(calls).count() > 0
        };
        for function in ["allocate_there", "early_thread", "late_thread", "main"] {
            assert_eq!(
                through(function),
                mode == "full",
                "{mode} {function}: {report}"
            );
        }
    }
}

/// The unwinder by itself, held to libgcc's.
#[test]
fn stacks_are_those_of_libgcc_on_aarch64() {
    let test = "stacks_are_those_of_libgcc_on_aarch64";
    if !has_tool(COMPILER) || !has_tool(EMULATOR) {
        common::skip(test, "an aarch64 compiler or emulator");
        return;
    }
    let directory = workspace(test);
    let checker = directory.join("libchecker.so");
    let interpose = Path::new(env!("CARGO_MANIFEST_DIR")).join("interpose");
    let output = run(Command::new(COMPILER)
        .args(["-std=gnu11", "-O2", "-fPIC", "-shared", "-D_GNU_SOURCE"])
        .args(["-fvisibility=hidden", "-fno-builtin", "-Iinterpose", "-o"])
        .arg(&checker)
        .arg(sources().join("unwind_checker_library.c"))
        .args(
            [
                "", "_cfi", "_full", "_memo", "_modules", "_stack", "_tables",
            ]
            .map(|part| interpose.join(format!("unwind{part}.c"))),
        )
        .arg("-ldl")
        .current_dir(env!("CARGO_MANIFEST_DIR")));
    assert!(output.status.success(), "{}", output.error);
    let program = directory.join("shapes");
    let output = run(Command::new(COMPILER)
        .args([
            "-O2",
            "-pthread",
            "-fomit-frame-pointer",
            "-fno-builtin",
            "-o",
        ])
        .arg(&program)
        .arg(sources().join("unwind_shapes.c")));
    assert!(output.status.success(), "{}", output.error);
    for shape in ["frames", "raised", "coroutines", "threads"] {
        let found = directory.join(shape);
        let output = run_within(
            PATIENCE,
            Command::new(EMULATOR)
                .args(["-L", "/usr/aarch64-linux-gnu", "-E"])
                .arg(format!("LD_PRELOAD={}", checker.display()))
                .arg("-E")
                .arg(format!("UNWIND_CHECK_FILE={}", found.display()))
                .arg(&program)
                .arg(shape),
        );
        assert!(output.status.success(), "{shape}: {output:?}");
        let said = fs::read_to_string(&found).expect("the checker wrote what it found");
        let words: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(words[..2], ["walks", words[3]], "{shape}: {said}");
        assert_eq!(words[2], "whole", "{shape}: {said}");
        assert_eq!(words[12], "remembered", "{shape}: {said}");
        assert_eq!(words[14..], ["different", "0"], "{shape}: {said}");
    }
}
