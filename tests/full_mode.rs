//! Mode full's core in the programs that prove the C side: they behave as bare, the
//! owners' books are those of mode count, and the stacks' figures are these books
//! by another key, to the byte, whatever threads, signals and forks come between.
#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    feature = "cli",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use heapledger::Side;
use heapledger::recording::Recording;
use heapledger::recording::model::{Mode, Process, StackFigures};

use common::report::{rows, sum};
use common::{
    Case, NO_FILTER, assert_same, can_be_strict, each_shape_of_stack, find_library, has_tool,
    heapledger, library, program, run_within, skip, workspace,
};

const PATIENCE: Duration = Duration::from_secs(120);
const FULL: &[&str] = &["--mode", "full"];

/// Live bytes and blocks, allocated bytes and blocks.
type Sums = [i64; 4];

fn by_stacks(process: &Process, side: Side) -> Sums {
    let mut sums = Sums::default();
    for stack in process.stacks.iter().filter(|stack| stack.side == side) {
        let StackFigures {
            live_bytes,
            live_blocks,
            allocated_bytes,
            allocated_blocks,
            ..
        } = stack.figures;
        let figures = [
            live_bytes,
            live_blocks,
            allocated_bytes as i64,
            allocated_blocks as i64,
        ];
        sums.iter_mut()
            .zip(figures)
            .for_each(|(sum, more)| *sum += more);
    }
    sums
}

/// Charges have no stacks.
fn by_owners(recording: &Recording, process: &Process, side: Side) -> Sums {
    let mut sums = Sums::default();
    for owner in process.owners.iter().filter(|owner| owner.side == side) {
        if recording.sites[owner.site as usize].charged.is_some() {
            continue;
        }
        let counts = &owner.counts;
        let figures = [
            counts.live_bytes,
            counts.live_blocks,
            counts.allocated_bytes as i64,
            counts.allocated_blocks as i64,
        ];
        sums.iter_mut()
            .zip(figures)
            .for_each(|(sum, more)| *sum += more);
    }
    sums
}

/// Holds all stacks of a recording to the exact books, and gives it.
fn assert_stacks_add_up(recording: &Path) -> Recording {
    let found = Recording::open(recording).expect("a recording");
    for process in &found.processes {
        assert_eq!(process.mode, Mode::Full);
        for side in [Side::C, Side::Rust] {
            let (stacks, owners) = (by_stacks(process, side), by_owners(&found, process, side));
            assert_eq!(stacks, owners, "{side:?} of {recording:?}");
        }
    }
    found
}

/// The program of that name runs as bare, has the ledger that it states, its stacks add up, and it misuses nothing.
fn check(source: &str, case: Case) {
    check_all_but_misuse(source, case)
        .processes
        .iter()
        .for_each(|process| assert_eq!(process.misuses, []));
}

fn check_all_but_misuse(source: &str, case: Case) -> Recording {
    case.check_with(FULL);
    assert_stacks_add_up(&recording_of(source))
}

/// Where `Case` leaves it.
fn recording_of(source: &str) -> PathBuf {
    let stem = Path::new(source).file_stem().expect("a name");
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(stem)
        .join("recording.hlr")
}

#[test]
fn every_entry_point_is_booked_exactly() {
    check("entry_points.c", Case::of("entry_points.c"));
}

#[test]
fn random_calls_give_the_same_digest() {
    check("differential_fuzz.c", Case::of("differential_fuzz.c"));
}

#[test]
fn eight_threads_churning_realloc_lose_nothing() {
    check("realloc_churn.c", Case::of("realloc_churn.c"));
}

#[test]
fn short_threads_reuse_a_few_slots() {
    check("short_threads.c", Case::of("short_threads.c"));
}

#[test]
fn threads_without_a_slot_are_booked() {
    let case = Case::of("more_threads_than_slots.c").env("HEAPLEDGER_MAX_SLOTS", "8");
    check("more_threads_than_slots.c", case);
}

#[test]
fn threads_with_the_least_stack_allocate() {
    check("minimum_stack.c", Case::of("minimum_stack.c"));
}

#[test]
fn forked_children_keep_exact_ledgers() {
    let case = Case::over_signal_safe_allocator("fork_kinds.c");
    check("fork_kinds.c", case);
}

#[test]
fn generations_of_forks_inherit_over_glibc() {
    check("fork_glibc.c", Case::of("fork_glibc.c"));
}

#[test]
fn a_signal_handler_that_allocates_loses_no_count() {
    let case = Case::over_signal_safe_allocator("signal_allocations.c");
    check("signal_allocations.c", case);
}

/// A jump may leave an operation booked to its owner and not to its stack: no more than that, and goes on.
#[test]
fn jumps_out_of_malloc_leave_the_books_open() {
    let case = Case::over_signal_safe_allocator("siglongjmp.c");
    let bare = case.run_bare();
    let (recorded, report) = case.run_recorded(FULL);
    assert_same(&bare, &recorded);
    for expectation in case.expectations("recorded") {
        let wrong = expectation.check(&report);
        assert!(
            wrong.iter().all(|line| line.contains("invariant")),
            "{wrong:?}"
        );
    }
}

#[test]
fn threads_signals_and_forks_at_once_keep_all_sums_exact() {
    let case = Case::over_signal_safe_allocator("everything.c");
    check("everything.c", case);
}

#[test]
fn strict_seccomp_kills_nobody_on_our_account() {
    needs!("seccomp_strict", can_be_strict(), NO_FILTER);
    Case::of("seccomp_strict.c").check_with(FULL);
}

#[test]
fn a_tight_address_space_limit_takes_nothing_from_the_program() {
    Case::of("limit_address_space.c").check_with(FULL);
}

#[test]
fn asking_how_much_is_left_takes_nothing_from_the_program() {
    let directory = workspace("limit_asking");
    for (name, flags) in [("plain", &[][..]), ("caged", &["-DCAGED"][..])] {
        let path = directory.join(name);
        fs::create_dir_all(&path).expect("a directory");
        let program = program("limit_asking.c").flags(flags).build(&path);
        Case::new(&path, "limit_asking.c", program).check_with(FULL);
    }
}

#[test]
fn stacks_that_find_no_room_under_a_limit_are_counted() {
    let directory = workspace("limit_stacks");
    let program = program("limit_address_space.c").build(&directory);
    for mebibytes in ["12", "20", "24"] {
        let case = Case::new(&directory, "limit_address_space.c", program.clone()).arg(mebibytes);
        let (output, _) = case.run_recorded(FULL);
        assert_eq!(output.code(), 0, "{output:?}");
        let found = Recording::open(&directory.join("recording.hlr")).expect("a recording");
        let process = &found.processes[0];
        let stacks = by_stacks(process, Side::C);
        let owners = by_owners(&found, process, Side::C);
        let unbooked = process.losses.blocks_unbooked as i64;
        assert!(
            owners[3] + unbooked >= 1_401,
            "what was allocated is booked or counted: {owners:?}"
        );
        let without = process.losses.samples_dropped as i64;
        assert_eq!(stacks[3] + without, owners[3], "with {mebibytes} MiB");
        // With less, where the heap grows over a border of the owner map.
        assert!(unbooked == 0 || mebibytes == "12", "with {mebibytes} MiB");
        assert_eq!(process.losses.foreign_frees, 0);
    }
}

#[test]
fn stacks_find_room_again_once_a_limit_is_raised() {
    let report = Case::of("limit_raised.c").check_with(FULL);
    let blocks_of = |site: &str| -> i64 {
        let stacks = rows(&report.root()["stacks"]).into_iter();
        let own = stacks.filter(|stack| stack["frames"][0]["symbol"] == site);
        sum(&own.collect::<Vec<_>>(), "allocated_blocks")
    };
    assert!(
        blocks_of("tight_alloc") < 10_500,
        "there was room: {report}"
    );
    assert_eq!(blocks_of("kept_alloc"), 20_000, "{report}");
}

#[test]
fn the_owner_map_finds_room_again_once_a_limit_is_raised() {
    let directory = workspace("limit_raised_at_a_border");
    let program = program("limit_raised.c").build(&directory);
    let case = Case::new(&directory, "limit_raised.c", program).arg("border");
    let (output, report) = case.run_recorded(FULL);
    assert_eq!(output.code(), 0, "{output:?}");
    let sites = rows(&report.root()["sites"]);
    let blocks_of = |symbol: &str| -> i64 {
        let own = sites.iter().filter(|site| site["symbol"] == symbol);
        sum(&own.copied().collect::<Vec<_>>(), "allocated_blocks")
    };
    let [tight, raised] = ["tight_alloc", "raised_alloc"].map(blocks_of);
    assert!(tight < 10_500, "no table was refused: {report}");
    // Which is asked for again, though not at once.
    assert!(raised > 19_900, "it was not asked for again: {report}");
    let losses = &report.root()["losses"];
    let unbooked = sum(&[losses], "blocks_unbooked");
    assert_eq!(tight + raised + unbooked, 30_500, "{report}");
    assert_eq!(blocks_of("kept_alloc"), 20_000, "{report}");
    assert_eq!(losses["foreign_frees"], 0, "{report}");
    assert_eq!(report.violations(), Vec::<String>::new());
}

#[test]
fn five_thousand_sites_are_told_apart() {
    check("many_sites.c", Case::of("many_sites.c"));
}

#[test]
fn blocks_of_two_long_heaps_have_their_stacks() {
    check("strips.c", Case::of("strips.c"));
}

#[test]
fn blocks_far_apart_have_their_stacks() {
    check("far_blocks.c", Case::of("far_blocks.c"));
}

#[test]
fn what_each_stack_held_at_the_peak_is_exact() {
    let directory = workspace("full_model");
    let built = program("full_model.c").build(&directory);
    for seed in 1..=10 {
        let recording = directory.join(format!("{seed}.hlr"));
        let output = run_within(
            PATIENCE,
            heapledger()
                .args(["run", "-q", "--mode", "full", "-o"])
                .arg(&recording)
                .arg("--")
                .arg(&built)
                .args([&seed.to_string(), "20000"]),
        );
        assert_eq!(output.code(), 0, "{output:?}");
        let found = assert_stacks_add_up(&recording);
        let process = &found.processes[0];
        let mut figures: BTreeMap<&str, [i64; 8]> = BTreeMap::new();
        let mut most = 0;
        for stack in &process.stacks {
            let name = found.sites[stack.frames[0] as usize].symbol.as_deref();
            let row = figures.entry(name.expect("a symbol")).or_default();
            let of = &stack.figures;
            let more = [
                of.allocated_blocks as i64,
                of.allocated_bytes as i64,
                of.live_blocks,
                of.live_bytes,
                of.at_peak.1,
                of.at_peak.0,
                of.temporary.1 as i64,
                of.temporary.0 as i64,
            ];
            row.iter_mut()
                .zip(more)
                .for_each(|(sum, more)| *sum += more);
            most += of.at_peak.0;
        }
        let mut told: Vec<String> = figures
            .iter()
            .map(|(name, row)| format!("{name} {}", row.map(|figure| figure.to_string()).join(" ")))
            .collect();
        told.push(format!("most {most}"));
        let mut stated: Vec<&str> = output.text.lines().collect();
        stated.sort_unstable();
        told.sort_unstable();
        assert_eq!(told, stated, "seed {seed}");
    }
}

#[test]
fn blocks_that_other_threads_free_are_booked_to_their_own_stacks() {
    let found = check_all_but_misuse("full_exchange.c", Case::of("full_exchange.c"));
    let process = &found.processes[0];
    let of_threads = process
        .stacks
        .iter()
        .filter(|stack| stack.figures.allocated_blocks == 10_000);
    let mut threads: Vec<_> = of_threads.map(|stack| stack.thread).collect();
    threads.sort_unstable();
    threads.dedup();
    assert_eq!(threads.len(), 8, "each thread has rows of its own");
    // Seven of eight threads have a credit that the others cannot see while they work.
    let at_peak: i64 = process
        .stacks
        .iter()
        .map(|stack| stack.figures.at_peak.0)
        .sum();
    assert!(at_peak > 0 && process.misuses.is_empty(), "{at_peak}");
}

#[test]
fn a_realloc_that_fails_keeps_the_block() {
    check("full_refused.c", Case::of("full_refused.c"));
}

/// Blocks of another allocator may lie eight bytes apart.
#[test]
fn blocks_of_other_allocators_have_their_stacks() {
    let test = "blocks_of_other_allocators_have_their_stacks";
    let known = [
        "libjemalloc.so.2",
        "libtcmalloc_minimal.so.4",
        "libmimalloc.so.2",
    ];
    let found: Vec<PathBuf> = known
        .iter()
        .filter_map(|name| find_library(&[name]))
        .collect();
    if found.is_empty() {
        return skip(test, "libjemalloc.so.2");
    }
    for allocator in found {
        let directory = workspace("full_next_allocators");
        let built = program("next_allocators.c")
            .linked_with(&allocator)
            .build(&directory);
        Case::new(&directory, "next_allocators.c", built).check_with(FULL);
        let found = assert_stacks_add_up(&directory.join("recording.hlr"));
        assert_eq!(found.processes[0].misuses, [], "{allocator:?}");
    }
}

/// Runs a command bare and in mode full: both do the same. Gives the recording.
fn runs_as_bare(directory: &Path, command: impl Fn() -> Command) -> PathBuf {
    let bare = run_within(PATIENCE, &mut command());
    let recording = directory.join("recording.hlr");
    let mut recorded = heapledger();
    let inner = command();
    recorded
        .args(["run", "-q", "--mode", "full", "-o"])
        .arg(&recording)
        .arg("--")
        .arg(inner.get_program())
        .args(inner.get_args());
    assert_same(&bare, &run_within(PATIENCE, &mut recorded));
    recording
}

#[test]
fn stacks_of_all_shapes_are_survived() {
    let directory = workspace("full_shapes");
    each_shape_of_stack(&directory, |place, command| {
        let found = assert_stacks_add_up(&runs_as_bare(place, command));
        assert_eq!(found.processes[0].misuses, [], "{}", place.display());
    });
}

/// A library that takes another's place has stacks of its own, though its words on the stack are the same.
#[test]
fn a_library_in_anothers_place_is_not_taken_for_it() {
    let directory = workspace("full_replaced");
    let plugins = ["4000", "6000"].map(|bytes| {
        library("unwind_plugin.c")
            .called(&format!("plugin{bytes}.so"))
            .flags([
                "-O2",
                "-fomit-frame-pointer",
                &format!("-DFRAME_BYTES={bytes}"),
            ])
            .build(&directory)
    });
    let shapes = program("unwind_shapes.c")
        .flags(["-O2", "-fomit-frame-pointer"])
        .build(&directory);
    let recording = runs_as_bare(&directory, || {
        let mut command = Command::new(&shapes);
        command.arg("replaced").args(&plugins);
        command
    });
    let found = assert_stacks_add_up(&recording);
    for plugin in &plugins {
        let through = found.processes[0].stacks.iter().filter(|stack| {
            stack.frames.iter().any(|&frame| {
                found.sites[frame as usize]
                    .module
                    .is_some_and(|module| Path::new(&found.modules[module as usize].path) == plugin)
            })
        });
        assert!(through.count() > 0, "{plugin:?}");
    }
}

#[test]
fn real_programs_behave_as_bare_and_misuse_nothing() {
    let test = "real_programs_behave_as_bare_and_misuse_nothing";
    let script = "import json, re, ctypes, threading, subprocess\n\
         t = threading.Thread(target=lambda: json.dumps(list(range(99999))))\n\
         t.start(); t.join(); print(re.compile('(a|b)*c').match('ababc'))\n\
         print(subprocess.run(['sort'], input=b'b\\na\\n', capture_output=True).stdout)";
    if !has_tool("python3") {
        return skip(test, "python3");
    }
    let directory = workspace("full_real");
    let recording = runs_as_bare(&directory, || {
        let mut command = Command::new("python3");
        command.args(["-c", script]);
        command
    });
    let found = assert_stacks_add_up(&recording);
    for process in &found.processes {
        assert_eq!(process.misuses, [], "{:?}", process.exe);
    }
}

/// A block is handed out between namespaces, or comes from before us: nobody is accused of what we did not see.
#[test]
fn what_was_only_never_seen_is_said_to_be() {
    let found = check_all_but_misuse("foreign_frees.c", Case::of("foreign_frees.c"));
    let misuses = &found.processes[0].misuses;
    assert!(!misuses.is_empty());
    for misuse in misuses {
        assert_eq!(format!("{:?}", misuse.kind), "FreeOfUnseen", "{misuse:?}");
    }
}
