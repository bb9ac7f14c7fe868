//! The programs that prove the C side, by the items of the design's list. Each
//! runs bare and recorded: same output, same exit code, exact sums.
#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

use common::expectations::Expectation;
use common::report::Report;
use common::{
    Case, EVERY_MODE, NO_FILTER, assert_same, can_be_strict, find_library, has_tool, heapledger,
    is_root, library, preload_library, program, run, workspace,
};

// 1 to 10: start-up and linking

#[test]
fn allocations_of_an_ifunc_resolver_and_a_library_constructor_are_counted() {
    let directory = workspace("startup_ifunc");
    let dependency = library("startup_ifunc_library.c").build(&directory);
    let program = program("startup_ifunc.c")
        .linked_with(&dependency)
        .build(&directory);
    Case::new(&directory, "startup_ifunc.c", program).check();
}

#[test]
fn a_second_preload_of_the_users_changes_nothing() {
    let directory = workspace("second_preload");
    let dependency = library("startup_ifunc_library.c").build(&directory);
    let second = library("second_preload.c").build(&directory);
    let program = program("startup_ifunc.c")
        .linked_with(&dependency)
        .build(&directory);
    // The user's preload comes after ours, so that the calls reach us first.
    Case::new(&directory, "startup_ifunc.c", program)
        .env("LD_PRELOAD", second)
        .check();
}

#[test]
fn a_resolver_may_allocate_before_the_preload_itself_is_relocated() {
    let directory = workspace("startup_ifunc_self");
    let dependency = library("startup_ifunc_library.c")
        .flags(["-DSELF_REFERENCE", "-Wl,-z,now"])
        .build(&directory);
    let program = program("startup_ifunc.c")
        .linked_with(&dependency)
        .build(&directory);
    let case = Case::new(&directory, "startup_ifunc.c", program);
    let bare = case.run_bare();
    let (recorded, report) = case.run_recorded(&[]);
    assert_same(&bare, &recorded);
    assert_eq!(report.violations(), Vec::<String>::new(), "{report}");
    // Two resolvers ran, the first one before there was anybody to forward to.
    for line in [
        "site=ifunc_resolver allocated_blocks=60 freed_blocks=40 live_blocks=20",
        "site=resolver_realloc allocated_blocks=20 freed_blocks=0 live_blocks=20",
        "site=library_constructor allocated_blocks=200 freed_blocks=100 live_blocks=100",
        "site=main_alloc allocated_blocks=10 live_blocks=10 losses.foreign_frees=0",
    ] {
        let wrong = Expectation::parse(line).check(&report);
        assert_eq!(wrong, Vec::<String>::new(), "{report}");
    }
}

#[test]
fn an_initfirst_library_is_counted() {
    let directory = workspace("initfirst");
    let dependency = library("initfirst_library.c")
        .flags(["-Wl,-z,initfirst"])
        .build(&directory);
    let program = program("initfirst.c")
        .linked_with(&dependency)
        .build(&directory);
    Case::new(&directory, "initfirst.c", program).check();
}

const JEMALLOC: &[&str] = &["libjemalloc.so.2"];
const TCMALLOC: &[&str] = &["libtcmalloc.so.4", "libtcmalloc_minimal.so.4"];
const MIMALLOC: &[&str] = &[
    "libmimalloc.so.2",
    "libmimalloc.so.2.0",
    "libmimalloc.so.3",
    "libmimalloc.so.1",
];

fn counts_are_exact_over_a_linked(test: &str, names: &[&str]) {
    let Some(allocator) = find_library(names) else {
        return common::skip(test, names[0]);
    };
    let directory = workspace(test);
    let program = program("next_allocators.c")
        .linked_with(&allocator)
        .build(&directory);
    Case::new(&directory, "next_allocators.c", program).check();
}

fn counts_are_exact_over_a_preloaded(test: &str, names: &[&str]) {
    let Some(allocator) = find_library(names) else {
        return common::skip(test, names[0]);
    };
    let directory = workspace(test);
    let program = program("next_allocators.c").build(&directory);
    Case::new(&directory, "next_allocators.c", program)
        .env("LD_PRELOAD", allocator)
        .check();
}

/// An allocator in front of us takes every call before we see one: the report
/// has to say so, and may not show a program that allocates nothing.
fn an_allocator_in_front_is_said(test: &str, names: &[&str]) {
    let Some(allocator) = find_library(names) else {
        return common::skip(test, names[0]);
    };
    let directory = workspace(test);
    let program = program("next_allocators.c").build(&directory);
    let recording = directory.join("recording.hlr");
    let output = run(heapledger()
        .args(["run", "-q", "-o"])
        .arg(&recording)
        .args(["--", "sh", "-c"])
        .arg(format!(
            "LD_PRELOAD={}:$LD_PRELOAD exec {}",
            allocator.display(),
            program.display()
        )));
    assert_eq!(
        (output.code(), output.text.as_str()),
        (0, "30000 blocks\n"),
        "{}",
        output.error
    );
    let report = Report::read(&recording).unwrap();
    let process = report.processes().into_iter().find(|process| {
        // One that could not have a ledger and ended at once may have left no path.
        process["exe"].as_str() == program.to_str()
            || (process["tracked"] == false && process["outcome"]["exit_code"] == 0)
    });
    let process = process.unwrap_or_else(|| panic!("the program is missing\n{report}"));
    assert_eq!(process["tracked"], false, "{report}");
    let reason = process["untracked_reason"].as_str().unwrap_or_default();
    assert!(reason.contains("bypass"), "{report}");
}

#[test]
fn counts_are_exact_over_a_linked_jemalloc() {
    counts_are_exact_over_a_linked("linked_jemalloc", JEMALLOC);
}

#[test]
fn counts_are_exact_over_a_linked_tcmalloc() {
    counts_are_exact_over_a_linked("linked_tcmalloc", TCMALLOC);
}

#[test]
fn counts_are_exact_over_a_linked_mimalloc() {
    counts_are_exact_over_a_linked("linked_mimalloc", MIMALLOC);
}

#[test]
fn counts_are_exact_over_a_preloaded_jemalloc() {
    counts_are_exact_over_a_preloaded("preloaded_jemalloc", JEMALLOC);
}

#[test]
fn counts_are_exact_over_a_preloaded_tcmalloc() {
    counts_are_exact_over_a_preloaded("preloaded_tcmalloc", TCMALLOC);
}

#[test]
fn counts_are_exact_over_a_preloaded_mimalloc() {
    counts_are_exact_over_a_preloaded("preloaded_mimalloc", MIMALLOC);
}

#[test]
fn a_jemalloc_in_front_of_us_is_said() {
    an_allocator_in_front_is_said("jemalloc_in_front", JEMALLOC);
}

#[test]
fn a_tcmalloc_in_front_of_us_is_said() {
    an_allocator_in_front_is_said("tcmalloc_in_front", TCMALLOC);
}

#[test]
fn a_mimalloc_in_front_of_us_is_said() {
    an_allocator_in_front_is_said("mimalloc_in_front", MIMALLOC);
}

#[test]
fn counts_are_exact_over_glibc() {
    Case::of("next_allocators.c").check();
}

/// Gives what a tool prints about the preload library, or skips.
fn inspect(test: &str, tool: &str, args: &[&str]) -> Option<String> {
    if !has_tool(tool) {
        common::skip(test, tool);
        return None;
    }
    let output = run(Command::new(tool)
        .args(args)
        .arg(preload_library())
        .env("LC_ALL", "C"));
    assert!(output.status.success(), "{tool}: {}", output.error);
    Some(output.text)
}

#[test]
fn the_preload_exports_the_malloc_family_and_nothing_else() {
    let Some(text) = inspect("exports", "nm", &["-D", "--defined-only"]) else {
        return;
    };
    let mut names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .filter(|name| !name.starts_with("hl_"))
        .collect();
    names.sort_unstable();
    let mut family = [
        "malloc",
        "calloc",
        "realloc",
        "free",
        "posix_memalign",
        "aligned_alloc",
        "memalign",
        "valloc",
        "pvalloc",
        "cfree",
        "malloc_usable_size",
        "free_sized",
        "free_aligned_sized",
    ];
    family.sort_unstable();
    // A version behind an `@` would switch interposition off for versioned programs.
    assert_eq!(names, family);
}

#[test]
fn the_preload_imports_only_symbol_versions_that_old_systems_have() {
    let Some(text) = inspect("imports", "nm", &["-D", "--undefined-only"]) else {
        return;
    };
    let newer = common::imports_newer_than_2_17(&text);
    assert_eq!(newer, Vec::<&str>::new(), "{text}");
}

#[test]
fn the_preload_binds_now_and_has_no_path_of_its_own() {
    let Some(text) = inspect("dynamic_section", "readelf", &["-d"]) else {
        return;
    };
    assert!(text.contains("BIND_NOW") || text.contains("NOW"), "{text}");
    assert!(text.contains("NODELETE"), "{text}");
    assert!(
        !text.contains("RUNPATH") && !text.contains("RPATH") && !text.contains("TEXTREL"),
        "{text}"
    );
    for line in text.lines().filter(|line| line.contains("(NEEDED)")) {
        let known = ["libc.so.6", "libdl.so.2", "ld-linux", "libpthread.so.0"];
        assert!(known.iter().any(|name| line.contains(name)), "needs {line}");
    }
}

#[test]
fn the_stack_of_the_preload_is_not_executable() {
    let Some(text) = inspect("segments", "readelf", &["-lW"]) else {
        return;
    };
    let stack = text
        .lines()
        .find(|line| line.contains("GNU_STACK"))
        .unwrap_or_else(|| panic!("{text}"));
    assert!(stack.contains("RW ") && !stack.contains("RWE"), "{stack}");
}

#[test]
fn calloc_is_not_compiled_into_a_call_of_itself() {
    let Some(text) = inspect("calloc", "objdump", &["-d", "--no-show-raw-insn"]) else {
        return;
    };
    let mut function = "";
    let mut seen = false;
    for line in text.lines() {
        if let Some(name) = line
            .strip_suffix(">:")
            .and_then(|line| line.split_once('<'))
        {
            function = name.1;
            seen |= function == "calloc";
            continue;
        }
        let target = line.split_once('<').map_or("", |(_, target)| target);
        let calls = line.contains("call") || line.contains("jmp") || line.contains("\tb");
        assert!(
            function != "calloc"
                || !calls
                || !(target.starts_with("calloc>") || target.starts_with("calloc@")),
            "{line}"
        );
        assert!(!target.starts_with("calloc@plt"), "{function}: {line}");
    }
    assert!(seen, "no calloc in the disassembly");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_preload_is_marked_for_control_flow_enforcement() {
    let Some(text) = inspect("properties", "readelf", &["-nW"]) else {
        return;
    };
    assert!(text.contains("IBT") && text.contains("SHSTK"), "{text}");
}

#[test]
fn thread_local_data_of_the_preload_is_initial_exec_and_64_bytes_at_most() {
    let Some(text) = inspect("thread_locals", "readelf", &["-lW"]) else {
        return;
    };
    let tls = text
        .lines()
        .find(|line| line.trim_start().starts_with("TLS "))
        .unwrap_or_else(|| panic!("{text}"));
    let size = tls
        .split_whitespace()
        .nth(5)
        .and_then(|size| u64::from_str_radix(size.trim_start_matches("0x"), 16).ok());
    assert!(size.is_some_and(|size| size <= 64), "{tls}");
    let Some(relocations) = inspect("thread_locals", "readelf", &["-rW"]) else {
        return;
    };
    assert!(
        !relocations.contains("DTPMOD") && !relocations.contains("TLSDESC"),
        "{relocations}"
    );
}

#[test]
fn threads_with_the_least_stack_allocate() {
    Case::of("minimum_stack.c").check();
}

const FIXED_ADDRESSES: &str = "personality(ADDR_NO_RANDOMIZE)";

/// For this thread and the programs that it starts.
fn fix_addresses() -> bool {
    // SAFETY: takes no pointer, and of this process changes where the thread's later maps lie.
    unsafe { libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong) != -1 }
}

/// Containers may refuse it.
fn can_fix_addresses() -> bool {
    thread::spawn(fix_addresses)
        .join()
        .expect("it cannot panic")
}

#[test]
fn a_heap_next_to_address_zero_leaves_null_nobody_s() {
    needs!("low_heap", can_fix_addresses(), FIXED_ADDRESSES);
    let directory = workspace("low_heap");
    let program = program("low_heap.c")
        .flags(["-no-pie", "-fno-pic", "-Wl,-Ttext-segment=0x10000"])
        .build(&directory);
    Case::new(&directory, "low_heap.c", program).check();
}

#[test]
fn heaps_longer_than_a_strip_of_the_map_are_told_apart() {
    Case::of("strips.c").check();
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_handler_at_any_instruction_of_a_hook_loses_nothing() {
    Case::of("strip_interrupted.c").check();
}

/// There a block is less than a strip's length behind address 0.
#[test]
#[cfg(target_arch = "x86_64")]
fn nor_does_one_where_the_heap_lies_low() {
    needs!(
        "low_strip_interrupted",
        can_fix_addresses(),
        FIXED_ADDRESSES
    );
    fix_addresses();
    let directory = workspace("low_strip_interrupted");
    let program = program("strip_interrupted.c")
        // Position-independent all the same: else malloc's address would be the program's own stub.
        .flags(["-no-pie", "-fpic", "-Wl,-Ttext-segment=0x1000000"])
        .build(&directory);
    Case::new(&directory, "strip_interrupted.c", program)
        .env("GLIBC_TUNABLES", "glibc.malloc.arena_max=1") // all threads share the low heap
        .check();
}

#[test]
fn blocks_four_gibibytes_apart_are_told_apart() {
    Case::of("far_blocks.c").check();
}

#[test]
fn a_deepbind_plugin_goes_uncounted_and_unharmed() {
    let directory = workspace("deepbind");
    let plugin = program("deepbind_plugin.c")
        .called("deepbind_plugin.so")
        .flags(["-fPIC", "-shared"])
        .build(&directory);
    let program = program("deepbind.c").build(&directory);
    Case::new(&directory, "deepbind.c", program)
        .arg(plugin)
        .check();
}

#[test]
fn plugins_are_found_by_origin_and_by_the_callers_run_path() {
    let directory = workspace("origin_plugin");
    for (place, name) in [
        ("plugins", "liborigin_by_path.so"),
        ("named", "liborigin_by_name.so"),
    ] {
        fs::create_dir(directory.join(place)).unwrap();
        library("origin_plugin_library.c")
            .called(name)
            .build(&directory.join(place));
    }
    let program = program("origin_plugin.c")
        .flags(["-Wl,-rpath,$ORIGIN/named"])
        .build(&directory);
    Case::new(&directory, "origin_plugin.c", program).check();
}

#[test]
fn sized_frees_free() {
    Case::of("sized_frees.c").check();
}

// 11 to 14: the malloc contract

#[test]
fn every_entry_point_is_counted_exactly() {
    Case::of("entry_points.c").check();
}

#[test]
fn what_libc_hands_out_is_counted_as_libcs() {
    Case::of("libc_functions.c").check();
}

#[test]
fn a_cpp_program_is_counted_exactly() {
    needs!("cpp_operators", has_tool("c++"), "c++");
    Case::of("cpp_operators.cpp").check();
}

#[test]
fn random_calls_give_the_same_digest_bare_and_recorded() {
    Case::of("differential_fuzz.c").check();
}

#[test]
fn eight_threads_churning_realloc_lose_nothing() {
    Case::of("realloc_churn.c").check();
}

#[test]
#[cfg(target_arch = "x86_64")]
fn an_address_that_was_given_up_is_no_longer_the_hooks() {
    Case::of("given_up.c").check();
}

#[test]
fn frees_of_unseen_blocks_are_foreign() {
    Case::of("foreign_frees.c").check();
}

// 15 to 19: threads, fork, signals

#[test]
fn destructors_that_rearm_themselves_are_counted() {
    Case::of("rearming_destructor.c").check();
}

#[test]
fn ten_thousand_short_threads_reuse_a_few_slots() {
    Case::of("short_threads.c").check();
}

#[test]
fn fork_clone_vfork_and_spawn_under_churn_keep_every_ledger_exact() {
    Case::over_signal_safe_allocator("fork_kinds.c").check();
}

#[test]
fn five_generations_of_forks_inherit_over_glibc() {
    Case::of("fork_glibc.c").check();
}

#[test]
fn a_signal_handler_that_allocates_loses_no_count() {
    Case::over_signal_safe_allocator("signal_allocations.c").check();
}

#[test]
fn jumps_out_of_malloc_leave_the_books_open() {
    Case::over_signal_safe_allocator("siglongjmp.c").check();
}

#[test]
fn jumps_out_of_the_first_malloc_leave_the_books_open() {
    let directory = workspace("siglongjmp_cold");
    let allocator = library("signal_safe_allocator.c").build(&directory);
    let program = program("siglongjmp.c")
        .linked_with(&allocator)
        .build(&directory);
    Case::new(&directory, "siglongjmp.c", program)
        .arg("cold")
        .check();
}

#[test]
fn more_threads_than_slots_share_one_exactly() {
    Case::of("more_threads_than_slots.c")
        .env("HEAPLEDGER_MAX_SLOTS", "4")
        .check();
}

#[test]
fn a_vfork_child_that_allocates_first_takes_no_slot_for_its_parent() {
    Case::of("vfork_first.c").check();
}

// 23 to 29: ledger and environment

/// A tmpfs of its own, unmounted at the end.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: &Path, options: &str) -> Option<Tmpfs> {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(at)
            .stderr(Stdio::null())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Tmpfs(at.to_owned()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn sums_are_exact_on_a_tmpfs_of(test: &str, size: &str) {
    needs!(test, is_root() && has_tool("mount"), "the right to mount");
    let directory = workspace(test);
    let place = directory.join("ledgers");
    let Some(tmpfs) = Tmpfs::mount(&place, &format!("size={size},mode=0700")) else {
        return common::skip(test, "the right to mount");
    };
    let program = program("many_sites.c").build(&directory);
    let case = Case::new(&directory, "many_sites.c", program.clone()).arg("cramped");
    let bare = case.run_bare();
    let output = run(Command::new(&program)
        .arg("cramped")
        .env("LD_PRELOAD", preload_library())
        .env("HEAPLEDGER_DIR", &tmpfs.0));
    assert_same(&bare, &output);
    let report = Report::read(&tmpfs.0).unwrap();
    let mut wrong = report.violations();
    for expectation in case.expectations("none") {
        // Nobody saw how it ended.
        if !format!("{expectation:?}").contains("outcome") {
            wrong.extend(expectation.check(&report));
        }
    }
    assert!(wrong.is_empty(), "{}\n{report}", wrong.join("\n"));
}

#[test]
fn five_thousand_sites_are_told_apart() {
    Case::of("many_sites.c").check();
}

#[test]
fn sums_are_exact_on_a_tmpfs_of_one_mebibyte() {
    sums_are_exact_on_a_tmpfs_of("tmpfs_1m", "1m");
}

#[test]
fn sums_are_exact_on_a_tmpfs_of_64_kibibytes() {
    sums_are_exact_on_a_tmpfs_of("tmpfs_64k", "64k");
}

#[test]
fn a_program_on_a_full_tmpfs_runs_and_is_said_to_be_untracked() {
    let test = "tmpfs_full";
    needs!(test, is_root() && has_tool("mount"), "the right to mount");
    let directory = workspace(test);
    let Some(tmpfs) = Tmpfs::mount(&directory.join("ledgers"), "size=4k,mode=0700") else {
        return common::skip(test, "the right to mount");
    };
    fs::write(tmpfs.0.join("filler"), vec![0u8; 4096]).unwrap();
    let program = program("many_sites.c").build(&directory);
    let bare = run(Command::new(&program).arg("full"));
    let output = run(Command::new(&program)
        .arg("full")
        .env("LD_PRELOAD", preload_library())
        .env("HEAPLEDGER_DIR", &tmpfs.0));
    assert_same(&bare, &output);
}

#[test]
fn no_file_grows_under_a_file_size_limit() {
    Case::of("limit_file_size.c").check();
}

#[test]
fn a_tight_address_space_limit_takes_nothing_from_the_program() {
    Case::of("limit_address_space.c").check();
}

#[test]
fn a_very_tight_address_space_limit_is_the_program_s_before_it_is_ours() {
    let directory = workspace("limit_very_tight");
    let program = program("limit_address_space.c").build(&directory);
    for words in [["8", ""], ["8", "border"], ["20", "border"]] {
        let case = Case::new(&directory, "limit_address_space.c", program.clone());
        let case = case.arg(words[0]).arg(words[1]);
        let bare = case.run_bare();
        assert_eq!(bare.code(), 0, "{bare:?}");
        for mode in EVERY_MODE {
            let (recorded, report) = case.run_recorded(mode);
            assert_same(&bare, &recorded);
            let root = report.root();
            let of = |part: &str, key: &str| root[part][key].as_i64().expect("a number");
            let unbooked = of("losses", "blocks_unbooked");
            // The loader's own for threads are four at most.
            let all = root["totals"]["c"]["allocated_blocks"]
                .as_i64()
                .expect("a number")
                + unbooked;
            assert!(
                (1_401..=1_405).contains(&all),
                "{words:?} {mode:?}: {all} of {report}"
            );
            // The block of half of what is left, at least, has found no room in the books.
            assert_eq!(
                unbooked > 0,
                words[0] == "8",
                "{words:?} {mode:?}: {report}"
            );
        }
    }
}

/// Counting looks at a limit of data at start-up alone; in mode full it is the kernel that tells.
#[test]
fn what_may_be_written_under_a_data_limit_is_the_program_s_before_it_is_ours() {
    let directory = workspace("limit_data");
    let program = program("limit_data.c").build(&directory);
    let full: &[&[&str]] = &[&["--mode", "full"]];
    for (words, modes) in [
        (["3", "exec"], EVERY_MODE),
        (["3", ""], full),
        (["20", ""], full),
    ] {
        let case = Case::new(&directory, "limit_data.c", program.clone());
        let case = case.arg(words[0]).arg(words[1]);
        let bare = case.run_bare();
        assert_eq!(bare.code(), 0, "{bare:?}");
        for mode in modes {
            let (recorded, _) = case.run_recorded(mode);
            assert_same(&bare, &recorded);
        }
    }
}

#[test]
fn locked_memory_stays_small() {
    Case::of("locked_memory.c").check();
}

/// A program whose limits were set by the shell that starts it.
fn a_limit_set_before_exec_is_survived(test: &str, limit: &str) {
    let directory = workspace(test);
    let program = program("waiting.c").build(&directory);
    let recording = directory.join("recording.hlr");
    let script = format!("ulimit {limit} && exec {}", program.display());
    let output = run(heapledger()
        .args(["run", "-q", "-o"])
        .arg(&recording)
        .args(["--", "sh", "-c", &script]));
    assert_eq!(output.code(), 0, "{output:?}");
    assert!(
        output.text.ends_with("done\n") && output.error.is_empty(),
        "{output:?}"
    );
    let report = Report::read(&recording).unwrap();
    let process = report.processes().into_iter().find(|process| {
        // One that could not have a ledger and ended at once may have left no path.
        process["exe"].as_str() == program.to_str()
            || (process["tracked"] == false && process["outcome"]["exit_code"] == 0)
    });
    let process = process.unwrap_or_else(|| panic!("the program is missing\n{report}"));
    if process["tracked"] == false {
        assert!(process["untracked_reason"].is_string(), "{report}");
    } else {
        assert_eq!(process["totals"]["c"]["live_blocks"], 1000, "{report}");
    }
}

#[test]
fn an_address_space_limit_set_before_exec_is_survived() {
    a_limit_set_before_exec_is_survived("ulimit_address_space", "-v 300000");
}

#[test]
fn a_file_size_limit_set_before_exec_is_survived() {
    a_limit_set_before_exec_is_survived("ulimit_file_size", "-f 0");
}

#[test]
fn counts_are_exact_after_all_descriptors_are_closed() {
    Case::of("close_everything.c").check();
}

#[test]
fn strict_seccomp_kills_nobody_on_our_account() {
    needs!("seccomp_strict", can_be_strict(), NO_FILTER);
    Case::of("seccomp_strict.c").check();
}

#[test]
fn strict_seccomp_allows_new_call_sites() {
    needs!("seccomp_strict_new", can_be_strict(), NO_FILTER);
    let directory = workspace("seccomp_strict_new");
    let program = program("seccomp_strict.c").build(&directory);
    Case::new(&directory, "seccomp_strict.c", program)
        .arg("new")
        .check();
}

#[test]
fn a_fork_in_a_chroot_is_said_to_be_untracked() {
    needs!("chroot_fork", is_root(), "root");
    let directory = workspace("chroot_fork");
    let cage = directory.join("cage");
    fs::create_dir(&cage).unwrap();
    let program = program("chroot_fork.c").build(&directory);
    Case::new(&directory, "chroot_fork.c", program)
        .arg(cage)
        .check();
}

#[test]
fn dropping_root_drops_no_count() {
    needs!("drop_privileges", is_root(), "root");
    let directory = workspace("drop_privileges");
    // The bare program too has to be found by nobody.
    let program = program("drop_privileges.c").build(&directory);
    let report = Case::new(&directory, "drop_privileges.c", program).check();
    let child = report.processes().into_iter().find(|process| {
        common::report::rows(&process["sites"])
            .into_iter()
            .any(|site| site["symbol"] == "dropped_child_alloc")
    });
    match child {
        Some(child) => {
            let sites = common::report::rows(&child["sites"]);
            let own: Vec<_> = sites
                .into_iter()
                .filter(|site| site["symbol"] == "dropped_child_alloc")
                .collect();
            assert_eq!(common::report::sum(&own, "live_blocks"), 30, "{report}");
        }
        None => assert_eq!(report.root()["losses"]["children_untracked"], 1, "{report}"),
    }
}

/// A recorded program that waits for its standard input to end.
struct Waiting {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    pid: u32,
}

impl Waiting {
    fn start(command: &mut Command) -> Waiting {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().unwrap();
        // Apart from the child, since waiting for a child closes its input.
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let pid = line
            .trim()
            .strip_prefix("ready ")
            .and_then(|pid| pid.parse().ok());
        Waiting {
            child,
            input,
            output,
            pid: pid.unwrap_or_else(|| panic!("the program said `{line}`")),
        }
    }

    fn environment(&self, name: &str) -> Option<String> {
        let all = fs::read(format!("/proc/{}/environ", self.pid)).unwrap();
        let all = String::from_utf8_lossy(&all).into_owned();
        all.split('\0')
            .find_map(|entry| entry.strip_prefix(&format!("{name}=")).map(str::to_owned))
    }

    /// Lets the program end and gives the rest of its output.
    fn finish(mut self) -> (Option<i32>, String) {
        drop(self.input.take());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

#[test]
fn a_ledger_is_private_whatever_the_umask() {
    let directory = workspace("private_ledger");
    let program = program("waiting.c").build(&directory);
    let ledgers = directory.join("ledgers");
    fs::create_dir(&ledgers).unwrap();
    for umask in ["000", "777"] {
        let script = format!(
            "umask {umask}; LD_PRELOAD=$1 HEAPLEDGER_DIR=$2 exec {}",
            program.display()
        );
        let mut command = Command::new("sh");
        command
            .args(["-c", &script, "sh"])
            .arg(preload_library())
            .arg(&ledgers);
        let waiting = Waiting::start(&mut command);
        let files: Vec<_> = fs::read_dir(&ledgers)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(!files.is_empty(), "no ledger under umask {umask}");
        for file in &files {
            let metadata = fs::symlink_metadata(file).unwrap();
            assert_eq!(
                metadata.mode() & 0o7777,
                0o600,
                "{} under umask {umask}",
                file.display()
            );
        }
        assert_ledgers_are_not_dumped(waiting.pid, &ledgers);
        assert_eq!(waiting.finish(), (Some(0), "done\n".to_owned()));
        files.iter().for_each(|file| fs::remove_file(file).unwrap());
    }
}

/// Every mapping of a ledger carries the flag `dd`: left out of core dumps.
fn assert_ledgers_are_not_dumped(pid: u32, ledgers: &Path) {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut mapped = 0;
    let mut inside = false;
    for line in maps.lines() {
        if line
            .split_whitespace()
            .next()
            .is_some_and(|word| word.contains('-') && !word.ends_with(':'))
        {
            inside = line.contains(&*ledgers.to_string_lossy());
            mapped += usize::from(inside);
        } else if inside && line.starts_with("VmFlags:") {
            assert!(line.split_whitespace().any(|flag| flag == "dd"), "{line}");
        }
    }
    assert!(mapped > 0, "no ledger of {} is mapped", ledgers.display());
}

#[test]
fn the_descriptors_of_a_program_are_its_own() {
    let directory = workspace("descriptors");
    let program = program("waiting.c").build(&directory);
    let open_files = |command: &mut Command| {
        let waiting = Waiting::start(command);
        let mut files: Vec<String> = fs::read_dir(format!("/proc/{}/fd", waiting.pid))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        files.sort();
        waiting.finish();
        files
    };
    let bare = open_files(&mut Command::new(&program));
    let recorded = open_files(
        heapledger()
            .args(["run", "-q", "-o"])
            .arg(directory.join("r.hlr"))
            .arg("--")
            .arg(&program),
    );
    assert_eq!(recorded, bare);
}

#[test]
fn the_directory_of_ledgers_is_private_and_gone_after_the_run() {
    let directory = workspace("ledger_directory");
    let program = program("waiting.c").build(&directory);
    let recording = directory.join("recording.hlr");
    let waiting = Waiting::start(
        heapledger()
            .args(["run", "-q", "-o"])
            .arg(&recording)
            .arg("--")
            .arg(&program),
    );
    let ledgers = PathBuf::from(
        waiting
            .environment("HEAPLEDGER_DIR")
            .expect("run names the directory of ledgers"),
    );
    // Nobody else may list it. Who has dropped root may still add a ledger, and touch no other.
    let mode = fs::symlink_metadata(&ledgers).unwrap().mode();
    assert!(
        mode & 0o044 == 0 && (mode & 0o022 == 0 || mode & 0o1000 != 0),
        "{mode:o}"
    );
    assert_ledgers_are_not_dumped(waiting.pid, &ledgers);
    assert_eq!(waiting.finish(), (Some(0), "done\n".to_owned()));
    assert!(!ledgers.exists(), "{} is left behind", ledgers.display());
    let case = Case::new(&directory, "waiting.c", program);
    case.check_report(&Report::read(&recording).unwrap(), "none");
}

#[test]
fn the_path_of_the_preload_never_holds_a_space() {
    let directory = workspace("path with spaces");
    let program = program("waiting.c").build(&directory);
    let recording = directory.join("a recording.hlr");
    let everywhere = [
        "HOME",
        "TMPDIR",
        "XDG_CACHE_HOME",
        "XDG_RUNTIME_DIR",
        "XDG_DATA_HOME",
    ];
    let output = run(heapledger()
        .arg("preload")
        .envs(everywhere.map(|name| (name, &directory))));
    let path = output.text.trim_end_matches('\n');
    assert!(
        !path.contains([' ', ':', '\t', '\n']) && Path::new(path).is_file(),
        "{output:?}"
    );
    let mode = fs::metadata(Path::new(path).parent().unwrap())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o022, 0, "others may write where {path} is");
    let output = run(heapledger()
        .args(["run", "-q", "-o"])
        .arg(&recording)
        .arg("--")
        .arg(&program)
        .envs(everywhere.map(|name| (name, &directory))));
    assert!(output.code() == 0 && output.error.is_empty(), "{output:?}");
    Case::new(&directory, "waiting.c", program)
        .check_report(&Report::read(&recording).unwrap(), "none");
}

#[test]
fn a_noexec_temporary_directory_is_no_place_for_the_preload() {
    let test = "noexec";
    needs!(test, is_root() && has_tool("mount"), "the right to mount");
    let directory = workspace(test);
    let program = program("waiting.c").build(&directory);
    let Some(tmpfs) = Tmpfs::mount(&directory.join("place"), "size=8m,noexec") else {
        return common::skip(test, "the right to mount");
    };
    let recording = directory.join("recording.hlr");
    let everywhere = [
        "HOME",
        "TMPDIR",
        "XDG_CACHE_HOME",
        "XDG_RUNTIME_DIR",
        "XDG_DATA_HOME",
    ];
    let output = run(heapledger()
        .args(["run", "-q", "-o"])
        .arg(&recording)
        .arg("--")
        .arg(&program)
        .envs(everywhere.map(|name| (name, &tmpfs.0))));
    assert!(output.code() == 0 && output.error.is_empty(), "{output:?}");
    Case::new(&directory, "waiting.c", program)
        .check_report(&Report::read(&recording).unwrap(), "none");
}

#[test]
fn each_image_of_an_exec_chain_has_its_own_ledger() {
    Case::of("exec_chain.c").check();
}

#[test]
fn a_program_that_is_slow_to_load_is_one_image_with_its_ledger() {
    let directory = workspace("slow_loading");
    let auditor = library("slow_loading_library.c").build(&directory);
    let program = program("waiting.c").build(&directory);
    let recording = directory.join("recording.hlr");
    let output = run(heapledger()
        .args(["run", "-q", "-o"])
        .arg(&recording)
        .arg("--")
        .arg(&program)
        .env("LD_AUDIT", auditor));
    assert!(output.code() == 0 && output.error.is_empty(), "{output:?}");
    let report = Report::read(&recording).unwrap();
    assert_eq!(report.processes().len(), 1);
    Case::new(&directory, "waiting.c", program).check_report(&report, "slow");
}

#[test]
fn children_that_cannot_be_tracked_are_named() {
    let directory = workspace("untracked_children");
    let stripped = program("small_child.c")
        .called("stripped_child")
        .build(&directory);
    let fixed = program("small_child.c")
        .called("static_child")
        .flags(["-static"])
        .build(&directory);
    let program = program("untracked_children.c").build(&directory);
    Case::new(&directory, "untracked_children.c", program)
        .arg(stripped)
        .arg(fixed)
        .check();
}

/// Whether the kernel's process connector can be listened to: root in the first namespaces.
/// Elsewhere who ends at once is missing, as the README says.
fn is_told_of_processes() -> bool {
    let is_first = |name: &str, inode: &str| {
        fs::read_link(format!("/proc/self/ns/{name}"))
            .is_ok_and(|link| link.to_string_lossy() == format!("{name}:[{inode}]"))
    };
    is_root() && is_first("pid", "4026531836") && is_first("user", "4026531837")
}

#[test]
fn children_that_end_at_once_and_cannot_be_tracked_are_said() {
    let directory = workspace("untracked_at_once");
    let child = |name: &str| {
        program("small_child.c")
            .called(name)
            .flags(["-DAT_ONCE"])
            .build(&directory)
    };
    let stripped = child("stripped_child");
    let fixed = program("small_child.c")
        .called("static_child")
        .flags(["-DAT_ONCE", "-static"])
        .build(&directory);
    let parent = program("untracked_children.c").build(&directory);
    let recording = directory.join("recording.hlr");
    let record = |options: &[&str], command: &[&OsStr]| {
        let output = run(heapledger()
            .args(["run", "-q", "-o"])
            .arg(&recording)
            .args(options)
            .arg("--")
            .args(command));
        assert_eq!(output.code(), 0, "{output:?}");
        Report::read(&recording).unwrap()
    };
    let command = [parent.as_os_str(), stripped.as_os_str(), fixed.as_os_str()];
    let report = record(&[], &command);
    let processes = report.processes();
    if is_told_of_processes() {
        assert_eq!(processes.len(), 3, "{report}");
    }
    assert_eq!(report.root()["tracked"], true, "{report}");
    for child in &processes[1..] {
        assert_eq!(child["tracked"], false, "{report}");
        assert_eq!(child["outcome"]["exit_code"], 0, "{report}");
        assert_eq!(child["ppid"], report.root()["pid"], "{report}");
        assert!(child["untracked_reason"].is_string(), "{report}");
    }
    // Who was to be left alone is not said to be missing.
    let report = record(&["--no-children"], &command);
    assert_eq!(report.processes().len(), 1, "{report}");
    // One that is tracked is there once, whatever it was before.
    let again = child("tracked_child");
    let command = [parent.as_os_str(), again.as_os_str(), again.as_os_str()];
    let report = record(&[], &command);
    let tracked = |process: &&serde_json::Value| process["tracked"] == true;
    let processes = report.processes();
    assert_eq!(processes.len(), 3, "{report}");
    assert_eq!(processes.iter().copied().filter(tracked).count(), 2);
}

#[test]
fn a_program_started_without_our_environment_is_said() {
    let directory = workspace("env_i");
    let program = program("waiting.c").build(&directory);
    let recording = directory.join("recording.hlr");
    let output = run(heapledger()
        .args(["run", "-q", "-o"])
        .arg(&recording)
        .args(["--", "env", "-i"])
        .arg(&program));
    assert_eq!(output.code(), 0, "{output:?}");
    let report = Report::read(&recording).unwrap();
    let silent = report
        .processes()
        .iter()
        .all(|process| process["tracked"] == true);
    assert!(!silent, "{report}");
}

// The whole story, and who gets killed

#[test]
fn threads_signals_a_fork_and_an_exit_at_once_keep_all_sums_exact() {
    Case::over_signal_safe_allocator("everything.c").check();
}

#[test]
fn a_program_that_kills_itself_leaves_its_books() {
    let directory = workspace("killed");
    let dependency = library("killed_library.c").build(&directory);
    let program = program("killed.c")
        .linked_with(&dependency)
        .build(&directory);
    Case::new(&directory, "killed.c", program).check();
}

#[test]
fn a_killed_child_leaves_its_books() {
    Case::of("kill_child.c").check();
}

#[test]
fn a_killed_group_leaves_ledgers_that_report_reads() {
    let directory = workspace("kill_group");
    let program = program("kill_group.c").build(&directory);
    let recording = directory.join("recording.hlr");
    let output = run(heapledger()
        .args(["run", "-q", "-o"])
        .arg(&recording)
        .arg("--")
        .arg(&program));
    assert_eq!(output.code(), 137, "{output:?}");
    let case = Case::new(&directory, "kill_group.c", program);
    case.check_report(&Report::read(&recording).unwrap(), "none");
}

#[test]
fn a_killed_recorder_leaves_ledgers_that_report_reads() {
    let directory = workspace("kill_recorder");
    let program = program("waiting.c").build(&directory);
    let recording = directory.join("recording.hlr");
    let mut waiting = Waiting::start(
        heapledger()
            .args(["run", "-q", "-o"])
            .arg(&recording)
            .arg("--")
            .arg(&program),
    );
    waiting.child.kill().unwrap();
    waiting.child.wait().unwrap();
    let case = Case::new(&directory, "waiting.c", program);
    // While the program still runs, and after it has ended by itself.
    case.check_report(&Report::read(&recording).unwrap(), "none");
    assert_eq!(waiting.finish().1, "done\n");
    case.check_report(&Report::read(&recording).unwrap(), "none");
}

#[test]
fn a_program_that_never_allocates_has_an_empty_ledger() {
    let report = Case::of("no_allocation.c").check();
    assert_eq!(report.root()["tracked"], true, "{report}");
}

#[test]
fn a_recording_keeps_the_exit_code_of_the_program() {
    let directory = workspace("exit_code");
    let output = run(heapledger()
        .args(["run", "-q", "-o"])
        .arg(directory.join("r.hlr"))
        .args(["--", "sh", "-c", "exit 42"]));
    assert_eq!(output.code(), 42, "{output:?}");
}
