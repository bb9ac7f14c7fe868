//! The core under the thread sanitizer: programs of `tests/programs/` built together
//! with it, hooks and all, run where the sanitizer sees every access to the books.
//!
//! Every program is either run here or in a list at the end of this file, which says why
//! not; a test holds both to the directory. What the sanitizer by its own design would not
//! run, or not look at, and how it is run all the same (functions are of its runtime's
//! `tsan_rtl.cpp`, `tsan_rtl_thread.cpp`, `tsan_platform_linux.cpp` and
//! `tsan_interceptors_posix.cpp`, in gcc 12 and LLVM 14 alike):
//!
//! - **Children that a process with several threads forks.** `ForkChildAfter` switches
//!   all looking off there, and `ThreadStart` for threads that begin there, since other
//!   threads may have held the runtime's own locks. So `races_core.c` forks by a clone
//!   that the runtime does not notice, at a moment when no other thread is inside the
//!   runtime, and the child is looked at as any process is; tests say for how many
//!   generations. Where the program's threads are at rest by themselves ([`children`]),
//!   that moment is there; where they churn ([`brought_to_rest`]), a signal makes it, which
//!   the runtime delivers (`ProcessPendingSignals`) before any atomic operation of the core:
//!   each thread rests wherever in a hook it has come to, except where the core blocks
//!   signals, which is while it begins a ledger.
//! - **vfork.** The interceptor of `vfork` calls fork, since a wrapper of it cannot
//!   return twice. `races_core.c` has one that the runtime does not see; the child then
//!   goes on on its thread's state, as it does on the core's. What its end would do to its
//!   parent's runtime (`OnExit`) is left out. `posix_spawn`'s child runs nothing of the core.
//! - **Destructors that re-arm themselves to the last** would run after the runtime's own
//!   (`thread_finalize`) has taken the thread's state down, in the same last round. A
//!   program's keys are `races_core.c`'s, which runs their destructors in as many rounds
//!   before that.
//! - **Memory that is passed on past the hooks** is `races_core.c`'s allocator's, as
//!   `__libc_malloc` is glibc's below the real ones.
//! - **Single steps** (`strip_interrupted.c`): the runtime hands a SIGTRAP on at once
//!   (`rtl_generic_sighandler`), but would be stepped through as well, with its locks taken;
//!   and one thread runs at a time there. Told `often`, several threads are interrupted at
//!   once, at the atomic operations of the same hooks.
//! - **Room that the kernel tells** (`limit_asking.c`, built plain): one thread alone is in the
//!   core there, the other one takes its room by mmap, and the runtime itself asks for
//!   `prctl`, by which programs are known that are to be told by trial. It is run as the
//!   other program that it is with `-DCAGED`, where both threads allocate.
//! - **Threads that it did not see begin.** `pthread_join` of the main thread fails one of
//!   its checks (`ThreadConsumeTid`), so `races_core.c` asks libc. Threads by a raw
//!   clone have no state of the runtime's, so no program begins any.
//! - **The last thread.** The runtime has a thread of its own, so ours is never the last
//!   but one.
#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use common::{Output, is_root, library, program, run, run_within, sources, workspace};

/// The sanitizer slows programs down tenfold, and processors are shared.
const PATIENCE: Duration = Duration::from_secs(300);

const COUNT: &str = "count";
/// A sample every few hundred bytes: what only happens now and then happens all the time.
const SAMPLE: &str = "sample";
const FULL: &str = "full";

const FLAGS: [&str; 7] = [
    "-fsanitize=thread",
    "-O2",
    "-g",
    "-fno-omit-frame-pointer",
    "-fno-builtin",
    "-pthread",
    "-D_GNU_SOURCE",
];

/// How a program is started so that the sanitizer finds its addresses free; `None`: it is not there.
///
/// The runtime of gcc 12 ends a program whose addresses the kernel has spread too far.
fn prefix() -> Option<&'static [&'static str]> {
    static PREFIX: OnceLock<Option<&'static [&'static str]>> = OnceLock::new();
    *PREFIX.get_or_init(|| {
        let directory = workspace("races_sanitizer");
        let source = directory.join("empty.c");
        fs::write(&source, "int main(void) { return 0; }\n").expect("the workspace is writable");
        let empty = directory.join("empty");
        let built = run(Command::new(compiler())
            .args(["-fsanitize=thread", "-o"])
            .args([&empty, &source]));
        if built.code() != 0 {
            return None;
        }
        let prefixes: [&[&str]; 2] = [&["setarch", "-R"], &[]];
        prefixes.into_iter().find(|prefix| {
            let mut command = started_by(prefix, &empty);
            let is_there = prefix.first().is_none_or(|tool| common::has_tool(tool));
            is_there && run(&mut command).code() == 0
        })
    })
}

fn compiler() -> std::ffi::OsString {
    std::env::var_os("CC").unwrap_or_else(|| "cc".into())
}

fn started_by(prefix: &[&str], program: &Path) -> Command {
    match prefix {
        [tool, rest @ ..] => {
            let mut command = Command::new(tool);
            command.args(rest).arg(program);
            command
        }
        [] => Command::new(program),
    }
}

/// The header that comes before all that is the program's, or the core's.
fn prelude() -> [PathBuf; 2] {
    ["-include".into(), sources().join("races.h")]
}

fn headers() -> [String; 2] {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    ["include", "interpose"].map(|folder| format!("-I{}", package.join(folder).display()))
}

fn compile<F: AsRef<OsStr>>(source: &Path, flags: &[F], directory: &Path) -> PathBuf {
    let stem = source.file_stem().expect("a source has a name");
    let object = directory.join(stem).with_extension("o");
    let output = run_within(
        PATIENCE,
        Command::new(compiler())
            .args(FLAGS)
            .args(["-Wall", "-Wextra"])
            .args(headers())
            .args(flags)
            .arg("-c")
            .arg(source)
            .arg("-o")
            .arg(&object),
    );
    assert_eq!((output.code(), output.error.as_str()), (0, ""));
    object
}

fn units() -> Vec<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = fs::read_dir(package.join("interpose")).expect("the core's sources");
    all.map(|entry| entry.expect("a readable entry").path())
        .filter(|path| {
            path.extension() == Some(OsStr::new("c")) && !path.ends_with("layout_probe.c")
        })
        .collect()
}

/// The preload's core with its hooks, and what stands below it, compiled once.
fn core() -> &'static [PathBuf] {
    static OBJECTS: OnceLock<Vec<PathBuf>> = OnceLock::new();
    OBJECTS.get_or_init(|| {
        let directory = workspace("races_core");
        let core = units();
        let preload = [
            "-std=c11",
            "-DHL_INTERPOSE",
            "-DHL_PRELOAD",
            "-fvisibility=hidden",
            "-ftls-model=initial-exec",
        ];
        let flags = [preload.map(PathBuf::from).as_slice(), &prelude()].concat();
        let mut objects = thread::scope(|scope| {
            let halves: Vec<_> = core
                .chunks(core.len().div_ceil(2))
                .map(|half| {
                    let (directory, flags) = (&directory, &flags);
                    scope.spawn(move || -> Vec<PathBuf> {
                        half.iter()
                            .map(|source| compile(source, flags, directory))
                            .collect()
                    })
                })
                .collect();
            halves
                .into_iter()
                .flat_map(|half| half.join().expect("the core compiles"))
                .collect::<Vec<PathBuf>>()
        });
        objects.push(compile::<&str>(
            &sources().join("races_core.c"),
            &[],
            &directory,
        ));
        objects
    })
}

fn build(source: &str, flags: &[&'static str], directory: &Path) -> PathBuf {
    program(source)
        .flags(FLAGS)
        .flags(flags.iter().copied())
        .flags(prelude())
        .flags(headers())
        .flags(core())
        .flags(["-rdynamic", "-ldl"])
        .build(directory)
}

/// How a program is built and run.
#[derive(Default)]
struct Way {
    flags: Vec<&'static str>,
    arguments: Vec<PathBuf>,
    envs: Vec<(&'static str, &'static str)>,
}

/// An argument of the program's.
fn with(argument: impl Into<PathBuf>) -> Way {
    Way {
        arguments: vec![argument.into()],
        ..Way::default()
    }
}

const LOOK_AT_CHILDREN: &str = "RACES_LOOK_AT_CHILDREN";

/// All threads but the one that forks are at rest, for so many generations.
fn children(generations: &'static str) -> Way {
    Way {
        envs: vec![(LOOK_AT_CHILDREN, generations)],
        ..Way::default()
    }
}

/// Threads are at work when a child is forked, in so many generations: they are brought to rest
/// for the fork, wherever in the core they are.
fn brought_to_rest(generations: &'static str) -> Way {
    children(generations).env("RACES_BRING_TO_REST", "1")
}

/// Built in another way.
fn built(flag: &'static str) -> Way {
    Way {
        flags: vec![flag],
        ..Way::default()
    }
}

impl Way {
    fn with(mut self, argument: impl Into<PathBuf>) -> Way {
        self.arguments.push(argument.into());
        self
    }

    fn built(mut self, flag: &'static str) -> Way {
        self.flags.push(flag);
        self
    }

    fn env(mut self, name: &'static str, value: &'static str) -> Way {
        self.envs.push((name, value));
        self
    }
}

/// What the sanitizer calls a race is the end of the program, with its own exit code.
fn run_in(mode: &str, directory: &Path, program: &Path, way: &Way) -> Output {
    let ledgers = directory.join(format!("ledgers_{mode}"));
    fs::create_dir_all(&ledgers).expect("the workspace is writable");
    let mut command = started_by(prefix().expect("it was asked for"), program);
    command
        .args(&way.arguments)
        .envs(way.envs.iter().copied())
        .env("HEAPLEDGER_DIR", ledgers)
        .env("HEAPLEDGER_MODE", mode)
        .env("HEAPLEDGER_SAMPLE_BYTES", "300")
        // Room for fewer threads than there are: the others share a slot.
        .env("HEAPLEDGER_MAX_SLOTS", "6")
        // The allocator of these programs' signal handlers is the sanitizer's, which is not made for them.
        .env(
            "TSAN_OPTIONS",
            "halt_on_error=1 exitcode=66 history_size=7 report_signal_unsafe=0 \
             die_after_fork=0 report_thread_leaks=0",
        );
    run_within(PATIENCE, &mut command)
}

fn assert_no_race(test: &str, source: &str, modes: &[&str], way: &Way) {
    let directory = workspace(&format!("races_{test}"));
    let program = build(source, &way.flags, &directory);
    for mode in modes {
        let output = run_in(mode, &directory, &program, way);
        assert_eq!(
            (output.code(), output.error.as_str()),
            (0, ""),
            "{source} in mode {mode}: {}",
            output.text
        );
        let ledgers = fs::read_dir(directory.join(format!("ledgers_{mode}")));
        let kept = ledgers.expect("the directory of ledgers").count();
        assert!(kept > 0, "{source} in mode {mode} kept no books");
    }
}

/// A test for each program: its name, its source, the modes that it runs in, and how.
macro_rules! clean {
    ($($test:ident, $source:literal, [$($mode:ident),+] $(, $way:expr)?;)+) => {
        $(
            #[test]
            fn $test() {
                needs!(stringify!($test), prefix().is_some(), "thread sanitizer");
                #[allow(unused_mut, unused_assignments)]
                let mut way = Way::default();
                $(way = $way;)?
                assert_no_race(stringify!($test), $source, &[$($mode),+], &way);
            }
        )+
    };
}

clean! {
    everything_at_once_makes_no_race, "races.c", [COUNT, SAMPLE, FULL];
    everything_at_once_in_a_forked_child_makes_no_race, "races.c", [COUNT, SAMPLE, FULL], children("1").with("forked");
    short_threads_handlers_and_a_fork_make_no_race, "everything.c", [COUNT, FULL], brought_to_rest("1");
    ten_thousand_short_threads_make_no_race, "short_threads.c", [COUNT];
    threads_with_the_least_stack_make_no_race, "minimum_stack.c", [COUNT, FULL];
    handlers_that_jump_out_of_malloc_make_no_race, "siglongjmp.c", [COUNT];
    reallocs_by_several_threads_make_no_race, "realloc_churn.c", [COUNT];
    blocks_freed_by_other_threads_make_no_race, "full_exchange.c", [SAMPLE, FULL];
    a_slot_of_several_threads_makes_no_race, "more_threads_than_slots.c", [COUNT, FULL];
    any_function_of_the_family_makes_no_race, "next_allocators.c", [COUNT, FULL];
    charges_and_forks_of_several_threads_make_no_race, "fork_charges.c", [COUNT, FULL], brought_to_rest("2");
    children_of_all_kinds_while_threads_churn_make_no_race, "fork_kinds.c", [COUNT, FULL], brought_to_rest("1");
    forks_of_forks_make_no_race, "fork_glibc.c", [COUNT, SAMPLE, FULL], brought_to_rest("5");
    a_child_whose_own_thread_comes_first_makes_no_race, "fork_thread_first.c", [COUNT, SAMPLE, FULL], children("2");
    a_child_that_forks_while_its_ledger_begins_makes_no_race, "fork_while_begun.c", [COUNT, SAMPLE, FULL], brought_to_rest("2").built("-DFEW");
    a_program_that_closes_everything_makes_no_race, "close_everything.c", [COUNT], children("1");
    a_program_whose_files_may_not_grow_makes_no_race, "limit_file_size.c", [COUNT, FULL], children("1");
    a_program_short_of_addresses_makes_no_race, "limit_address_space.c", [COUNT, FULL];
    a_program_that_locks_its_memory_makes_no_race, "locked_memory.c", [COUNT, FULL];
    samples_make_no_race, "sampled.c", [SAMPLE], children("1");
    ends_of_lives_make_no_race, "lifetimes.c", [SAMPLE], children("1");
    stacks_past_the_end_of_the_table_make_no_race, "full_overflow.c", [SAMPLE, FULL];
    exact_stacks_make_no_race, "exact_figures.c", [FULL], children("1");
    known_chains_of_calls_make_no_race, "call_chain.c", [SAMPLE, FULL], children("1");
    long_heaps_of_two_threads_make_no_race, "strips.c", [COUNT, FULL], children("1");
    misuse_by_two_threads_makes_no_race, "misuse.c", [FULL];
    blocks_passed_on_past_the_hooks_make_no_race, "misuse_threads.c", [COUNT, SAMPLE, FULL];
    vfork_children_that_allocate_first_make_no_race, "vfork_first.c", [COUNT, SAMPLE, FULL];
    destructors_that_re_arm_themselves_make_no_race, "rearming_destructor.c", [COUNT, SAMPLE, FULL];
    room_that_is_tried_makes_no_race, "limit_asking.c", [FULL], built("-DCAGED");
    stacks_of_all_shapes_make_no_race, "unwind_shapes.c", [SAMPLE, FULL], with("threads");
    walks_while_the_loader_is_held_make_no_race, "unwind_strays.c", [SAMPLE, FULL], with("iterated");
    a_thousand_threads_that_cross_make_no_race, "pressure_crossing.c", [COUNT, FULL];
    drivers_and_reclaimers_make_no_race, "pressure_threads.c", [COUNT, FULL];
    reclaimers_that_unregister_each_other_make_no_race, "pressure_reclaimers.c", [COUNT], children("1");
    a_helper_and_those_of_its_children_make_no_race, "pressure_helper.c", [COUNT, FULL],
        children("3").env("HEAPLEDGER_PRESSURE", "python,trim,jvm");
}

#[cfg(target_arch = "x86_64")]
clean! {
    handlers_that_take_a_strip_make_no_race, "strip_interrupted.c", [COUNT, FULL], with("often");
}

#[test]
fn programs_that_give_root_up_make_no_race() {
    let test = "programs_that_give_root_up_make_no_race";
    needs!(test, prefix().is_some(), "thread sanitizer");
    needs!(test, is_root(), "root");
    let way = children("1");
    assert_no_race("dropped", "drop_privileges.c", &[COUNT, FULL], &way);
    let cage = workspace("races_cage");
    assert_no_race(
        "caged",
        "chroot_fork.c",
        &[COUNT, FULL],
        &children("1").with(cage),
    );
}

/// A library that is loaded while the sanitizer looks.
fn plugin(source: &str, directory: &Path) -> PathBuf {
    library(source)
        .flags(FLAGS)
        .flags(prelude())
        .flags(headers())
        .build(directory)
}

#[test]
fn a_library_unloaded_during_a_clean_up_makes_no_race() {
    let test = "a_library_unloaded_during_a_clean_up_makes_no_race";
    needs!(test, prefix().is_some(), "thread sanitizer");
    let directory = workspace("races_plugin");
    let way = with(plugin("pressure_unload_library.c", &directory));
    assert_no_race("pressure_unload", "pressure_unload.c", &[COUNT], &way);
}

#[test]
fn a_constructor_that_waits_for_a_thread_makes_no_race() {
    let test = "a_constructor_that_waits_for_a_thread_makes_no_race";
    needs!(test, prefix().is_some(), "thread sanitizer");
    let directory = workspace("races_joining");
    let way = with("loaded").with(plugin("unwind_joining_plugin.c", &directory));
    assert_no_race("loaded", "unwind_shapes.c", &[SAMPLE, FULL], &way);
}

#[test]
fn a_core_that_is_opened_late_makes_no_race() {
    let test = "a_core_that_is_opened_late_makes_no_race";
    needs!(test, prefix().is_some(), "thread sanitizer");
    let directory = workspace("races_late");
    let crates = units()
        .into_iter()
        .filter(|unit| !unit.ends_with("hooks.c"));
    let late = library("late_library.c")
        .flags(FLAGS)
        .flags(headers())
        .flags([
            "-DHL_CRATE",
            "-fvisibility=hidden",
            "-ftls-model=initial-exec",
        ])
        .flags(crates)
        .build(&directory);
    let program = program("late.c")
        .flags(FLAGS)
        .flags(headers())
        .flags(["-ldl"])
        .build(&directory);
    for mode in [COUNT, SAMPLE, FULL] {
        let output = run_in(mode, &directory, &program, &with(&late));
        assert_eq!(
            (output.code(), output.error.as_str(), output.text.as_str()),
            (
                0,
                "",
                "c is unknown, rust holds 3000 bytes in 3 blocks of 6\n"
            ),
            "mode {mode}"
        );
    }
}

#[test]
fn a_race_is_seen_in_the_core_itself() {
    needs!(
        "a_race_is_seen_in_the_core_itself",
        prefix().is_some(),
        "thread sanitizer"
    );
    let directory = workspace("races_caught");
    let program = build("races_caught.c", &[], &directory);
    let ways = [
        Way::default(),
        children("1").with("forked"),
        children("1").with("cloned"),
        brought_to_rest("1").with("busy"),
    ];
    for (way, mode) in ways
        .iter()
        .flat_map(|way| [COUNT, SAMPLE, FULL].map(|mode| (way, mode)))
    {
        let output = run_in(mode, &directory, &program, way);
        assert_eq!(
            (output.code(), output.text.as_str()),
            (66, ""),
            "{:?}: {}",
            way.arguments,
            output.error
        );
        assert!(output.error.contains("data race"), "{}", output.error);
        assert!(output.error.contains("interpose/"), "{}", output.error);
    }
}

// ---- what is not run ----

/// They start no thread, and nor does the core for them, so there is nobody to race with:
/// programs of one thread, and libraries of such.
const START_NO_THREAD: &[&str] = &[
    "agreement.c",
    "bounded.c",
    "c_api.c",
    "clock_replaced.c",
    "combinations_library.c",
    "cpp_operators.cpp",
    "deepbind.c",
    "deepbind_plugin.c",
    "differential_fuzz.c",
    "entry_points.c",
    "exec_chain.c",
    "far_blocks.c",
    "foreign_frees.c",
    "fork_in_handler.c",
    "full_model.c",
    "full_refused.c",
    "given_up.c",
    "initfirst.c",
    "initfirst_library.c",
    "inlined.cpp",
    "iocontext_damage.c",
    "kill_child.c",
    "kill_group.c",
    "killed.c",
    "killed_library.c",
    "libc_functions.c",
    "limit_data.c",
    "limit_raised.c",
    "low_heap.c",
    "many_sites.c",
    "misuse_chunks.c",
    "misuse_past.c",
    "mixed_stacks.c",
    "no_allocation.c",
    "origin_plugin.c",
    "origin_plugin_library.c",
    "pressure_refusals.c",
    "pressure_refusals_cpp.cpp",
    "seccomp_strict.c",
    "second_preload.c",
    "signal_allocations.c",
    "signal_safe_allocator.c",
    "sized_frees.c",
    "slow_loading_library.c",
    "small_child.c",
    "startup_ifunc.c",
    "startup_ifunc_library.c",
    "steered.c",
    "untracked_children.c",
    "unwind_checker_library.c",
    "unwind_exceptions.cpp",
    "unwind_plugin.c",
    "waiting.c",
];

/// No released compiler of Rust has the sanitizer, which would see none of their accesses, nor
/// the order that their standard library makes. `races.c` does to the core what they do.
const IN_RUST: &[&str] = &[
    "combinations.rs",
    "driving.rs",
    "forking.rs",
    "misuse_crossed.rs",
    "mixed_stacks.rs",
    "profiling.rs",
];

#[test]
fn every_program_is_run_or_said_not_to_be() {
    let own = include_str!("races.rs");
    let (run, _) = own
        .split_once("\n// ---- what is not run")
        .expect("the lists come last");
    let mut names = Vec::new();
    for entry in fs::read_dir(sources()).expect("the programs' sources") {
        let name = entry.expect("a readable entry").file_name();
        let name = name.into_string().expect("a plain name");
        if name.ends_with(".h") {
            continue;
        }
        let places = [
            run.contains(&format!("\"{name}\"")),
            START_NO_THREAD.contains(&name.as_str()),
            IN_RUST.contains(&name.as_str()),
        ];
        assert_eq!(
            places.iter().filter(|&&is_there| is_there).count(),
            1,
            "{name} is to be run here, or to be in one list of those that are not, with the reason"
        );
        names.push(name);
    }
    for listed in START_NO_THREAD.iter().chain(IN_RUST) {
        assert!(names.iter().any(|name| name == listed), "{listed} is gone");
    }
    for name in START_NO_THREAD {
        let text = fs::read_to_string(sources().join(name)).expect("a readable source");
        for start in [
            "start_thread",
            "pthread_create",
            "thrd_create",
            "std::thread",
        ] {
            assert!(!text.contains(start), "{name} has several threads");
        }
    }
}
