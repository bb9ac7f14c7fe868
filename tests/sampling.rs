//! Mode sample in the programs that prove the C side: with a sample every few
//! hundred bytes they behave as bare, and the books are as exact as without.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{
    Case, assert_same, has_tool, library, preload_library, program, run_within, workspace,
};

const PATIENCE: Duration = Duration::from_secs(120);
const MEAN_BYTES: &str = "300";

fn sampled(case: Case) -> Case {
    case.env("HEAPLEDGER_MODE", "sample")
        .env("HEAPLEDGER_SAMPLE_BYTES", MEAN_BYTES)
}

/// Runs a command bare and under the preload, sampled: both do the same. Gives the ledgers' directory.
fn runs_as_bare(directory: &Path, command: impl Fn() -> Command) {
    let ledgers = directory.join("ledgers");
    fs::create_dir(&ledgers).expect("the workspace is writable");
    let bare = run_within(PATIENCE, &mut command());
    let booked = run_within(
        PATIENCE,
        command()
            .env("LD_PRELOAD", preload_library())
            .env("HEAPLEDGER_DIR", &ledgers)
            .env("HEAPLEDGER_MODE", "sample")
            .env("HEAPLEDGER_SAMPLE_BYTES", MEAN_BYTES),
    );
    assert_same(&bare, &booked);
    let found = fs::read_dir(&ledgers).expect("ledgers").count();
    assert!(found > 0, "no ledger");
}

#[test]
fn every_entry_point_is_counted_exactly() {
    sampled(Case::of("entry_points.c")).check();
}

#[test]
fn random_calls_give_the_same_digest() {
    sampled(Case::of("differential_fuzz.c")).check();
}

#[test]
fn eight_threads_churning_realloc_lose_nothing() {
    sampled(Case::of("realloc_churn.c")).check();
}

#[test]
fn short_threads_reuse_a_few_slots() {
    sampled(Case::of("short_threads.c")).check();
}

#[test]
fn threads_without_a_slot_are_booked() {
    sampled(Case::of("more_threads_than_slots.c").env("HEAPLEDGER_MAX_SLOTS", "8")).check();
}

#[test]
fn threads_with_the_least_stack_allocate() {
    sampled(Case::of("minimum_stack.c")).check();
}

#[test]
fn forked_children_keep_exact_ledgers() {
    sampled(Case::over_signal_safe_allocator("fork_kinds.c")).check();
}

#[test]
fn generations_of_forks_inherit_over_glibc() {
    sampled(Case::of("fork_glibc.c")).check();
}

#[test]
fn a_signal_handler_that_allocates_loses_no_count() {
    sampled(Case::over_signal_safe_allocator("signal_allocations.c")).check();
}

#[test]
fn jumps_out_of_malloc_leave_the_books_open() {
    sampled(Case::over_signal_safe_allocator("siglongjmp.c")).check();
}

#[test]
fn threads_signals_and_forks_at_once_keep_all_sums_exact() {
    sampled(Case::over_signal_safe_allocator("everything.c")).check();
}

#[test]
fn strict_seccomp_kills_nobody_on_our_account() {
    sampled(Case::of("seccomp_strict.c")).check();
}

#[test]
fn a_tight_address_space_limit_takes_nothing_from_the_program() {
    sampled(Case::of("limit_address_space.c")).check();
}

#[test]
fn five_thousand_sites_are_told_apart() {
    sampled(Case::of("many_sites.c")).check();
}

#[test]
fn stacks_of_all_shapes_are_survived() {
    let directory = workspace("sampling_shapes");
    let shapes = program("unwind_shapes.c")
        .flags(["-O2", "-fomit-frame-pointer"])
        .build(&directory);
    let plugin = library("unwind_joining_plugin.c").build(&directory);
    let plugin = plugin.to_str().expect("our names are text");
    let all: [&[&str]; 6] = [
        &["frames"],
        &["raised"],
        // A signal stack with 4 KiB beside the kernel's frame.
        &["raised", "4096"],
        &["coroutines"],
        &["threads"],
        // The loader's lock is held by whoever waits for the thread that allocates.
        &["loaded", plugin],
    ];
    for words in all {
        let place = directory.join(words.join("-").replace('/', "_"));
        fs::create_dir(&place).expect("the workspace is writable");
        runs_as_bare(&place, || {
            let mut command = Command::new(&shapes);
            command.args(words);
            command
        });
    }
}

const OVERFLOW: &str = "
public class Overflow {
    static int depth;
    static void down() { depth++; down(); }
    public static void main(String[] words) throws Exception {
        for (int round = 0; round < 5; round++) {
            try { down(); } catch (StackOverflowError error) { System.out.println(\"caught\"); }
        }
        Thread thread = new Thread(() -> {
            try { down(); } catch (StackOverflowError error) { System.out.println(\"caught\"); }
        });
        thread.start();
        thread.join();
        System.out.println(depth > 1000);
    }
}
";

#[test]
fn a_jvm_still_gets_its_stack_overflow_errors() {
    let test = "a_jvm_still_gets_its_stack_overflow_errors";
    needs!(test, has_tool("javac"), "javac");
    let directory = workspace(test);
    fs::write(directory.join("Overflow.java"), OVERFLOW).expect("the workspace is writable");
    let built = run_within(
        PATIENCE,
        Command::new("javac")
            .arg("Overflow.java")
            .current_dir(&directory),
    );
    assert!(built.status.success(), "{built:?}");
    runs_as_bare(&directory, || {
        let mut command = Command::new("java");
        command
            .args(["-Xmx64m", "-cp", ".", "Overflow"])
            .current_dir(&directory);
        command
    });
}
