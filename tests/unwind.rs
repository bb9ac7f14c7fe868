//! The core's unwinder against libgcc's: the same frames, in the programs that
//! prove it and in real ones. `tests/programs/unwind_checker_library.c` walks
//! with both inside the program and counts how they compare.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{find_library, has_tool, library, program, run_within, workspace};

const PATIENCE: Duration = Duration::from_secs(120);

/// What the checker counted in all processes of a run.
#[derive(Debug, Default, PartialEq)]
struct Found {
    walks: u64,
    whole: u64,
    deep: u64,
    lost: u64,
    guessed: u64,
    torn: u64,
    /// Walks that were known again by the words on the stack.
    remembered: u64,
    different: u64,
}

impl Found {
    /// Adds up the checker's lines; fails with what it says of stacks that differ.
    fn read(file: &Path) -> Found {
        let text = fs::read_to_string(file).expect("the checker wrote what it found");
        let mut found = Found::default();
        for line in text.lines().filter(|line| line.starts_with("walks ")) {
            let words: Vec<&str> = line.split(' ').collect();
            for pair in words.chunks(2) {
                let count: u64 = pair[1].parse().expect("a number");
                *match pair[0] {
                    "walks" => &mut found.walks,
                    "whole" => &mut found.whole,
                    "deep" => &mut found.deep,
                    "lost" => &mut found.lost,
                    "guessed" => &mut found.guessed,
                    "torn" => &mut found.torn,
                    "remembered" => &mut found.remembered,
                    "different" => &mut found.different,
                    other => panic!("{other}: not a word of the checker's"),
                } += count;
            }
        }
        assert_eq!(found.different, 0, "{text}");
        found
    }

    /// All stacks were walked to their ends, without guessing.
    fn assert_all_whole(&self) {
        assert!(self.walks > 0, "no walk");
        assert_eq!(
            (self.whole, self.guessed),
            (self.walks, 0),
            "whole: {self:?}"
        );
    }
}

fn interpose() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interpose")
}

/// What builds the unwinder's own sources beside the checker.
fn core_flags() -> Vec<String> {
    let interpose = interpose();
    let mut flags: Vec<String> = [
        "-std=gnu11",
        "-O2",
        "-D_GNU_SOURCE",
        "-fvisibility=hidden",
        "-fomit-frame-pointer",
        // What the program begins with stays: the checker is preloaded as well.
        "-DHL_PRELOAD",
    ]
    .map(str::to_owned)
    .into();
    flags.push(format!("-I{}", interpose.display()));
    for part in [
        "unwind",
        "unwind_cfi",
        "unwind_full",
        "unwind_memo",
        "unwind_modules",
        "unwind_stack",
        "unwind_tables",
    ] {
        flags.push(format!("{}", interpose.join(format!("{part}.c")).display()));
    }
    flags
}

fn checker(directory: &Path) -> PathBuf {
    library("unwind_checker_library.c")
        .flags(core_flags())
        .build(directory)
}

/// Runs a command under the checker, which looks at every `every`-th allocation.
fn check(directory: &Path, every: u32, command: &mut Command) -> Found {
    let file = directory.join("found");
    let _ = fs::remove_file(&file);
    command
        .env("LD_PRELOAD", checker(directory))
        .env("UNWIND_CHECK_FILE", &file)
        .env("UNWIND_CHECK_EVERY", every.to_string());
    let output = run_within(PATIENCE, command);
    assert!(output.status.success(), "{command:?}: {output:?}");
    Found::read(&file)
}

fn shapes(directory: &Path) -> PathBuf {
    program("unwind_shapes.c")
        .flags(["-O2", "-fomit-frame-pointer", "-Wl,-z,lazy"])
        .build(directory)
}

fn check_shapes(test: &str, words: &[&str]) -> Found {
    let directory = workspace(test);
    check(&directory, 1, Command::new(shapes(&directory)).args(words))
}

#[test]
fn frames_of_every_kind_are_those_of_libgcc() {
    let found = check_shapes("unwind_frames", &["frames"]);
    found.assert_all_whole();
    assert!(found.remembered > found.walks / 2, "{found:?}");
}

#[test]
fn signal_handlers_and_what_they_interrupted_are_seen() {
    check_shapes("unwind_raised", &["raised"]).assert_all_whole();
}

#[test]
fn a_signal_may_come_at_any_instruction() {
    let found = check_shapes("unwind_interrupted", &["interrupted"]);
    found.assert_all_whole();
    assert!(found.walks >= 3000, "{found:?}");
}

#[test]
fn coroutines_end_where_they_began() {
    check_shapes("unwind_coroutines", &["coroutines"]).assert_all_whole();
}

#[test]
fn threads_have_stacks_of_their_own() {
    check_shapes("unwind_threads", &["threads"]).assert_all_whole();
}

#[test]
fn a_signal_stack_may_be_small() {
    let directory = workspace("unwind_small");
    let mut command = Command::new(shapes(&directory));
    command
        .args(["raised", "2048"])
        .env("UNWIND_CHECK_ALONE", "1");
    check(&directory, 1, &mut command).assert_all_whole();
}

#[test]
fn a_library_in_anothers_place_has_steps_of_its_own() {
    let directory = workspace("unwind_replaced");
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
    let mut command = Command::new(shapes(&directory));
    command.arg("replaced").args(plugins);
    check(&directory, 1, &mut command).assert_all_whole();
}

#[test]
fn a_thread_allocates_while_the_loader_is_locked() {
    let directory = workspace("unwind_loaded");
    let plugin = library("unwind_joining_plugin.c").build(&directory);
    let mut command = Command::new(shapes(&directory));
    command.arg("loaded").arg(plugin);
    let found = check(&directory, 1, &mut command);
    found.assert_all_whole();
    assert!(found.walks >= 1000, "{found:?}");
}

fn strays(directory: &Path) -> PathBuf {
    program("unwind_strays.c")
        .flags(["-O2", "-fomit-frame-pointer"])
        .build(directory)
}

/// No word is read that the walk does not know to be there, and none is believed that
/// does not lie up the same stack.
#[test]
fn frame_pointers_that_lead_nowhere_end_the_walk() {
    let directory = workspace("unwind_strays");
    let mut command = Command::new(strays(&directory));
    let found = check(&directory, 1, command.arg("strays"));
    assert_eq!((found.deep, found.torn), (0, 0), "{found:?}");
    // Seven frame pointers and three holes on each of three stacks; and one above the
    // main thread's, if nothing lies there. One a stack may be a frame's.
    assert!([30, 31].contains(&found.lost), "{found:?}");
    assert_eq!(found.guessed, 3, "{found:?}");
    assert_eq!(found.whole + found.lost, found.walks, "{found:?}");
}

#[test]
fn a_thread_allocates_while_the_loaders_objects_are_looked_through() {
    let directory = workspace("unwind_iterated");
    let mut command = Command::new(strays(&directory));
    let found = check(&directory, 1, command.arg("iterated"));
    found.assert_all_whole();
    assert!(found.walks >= 100, "{found:?}");
}

/// As with a glibc that has no `_dl_find_object`: what was there at the start is known.
#[test]
fn without_the_loaders_look_up_the_first_objects_are_known() {
    let directory = workspace("unwind_old_glibc");
    let program = shapes(&directory);
    let mut command = Command::new(&program);
    command.arg("frames").env("UNWIND_CHECK_OLD", "1");
    let found = check(&directory, 1, &mut command);
    found.assert_all_whole();
    let plugin = library("unwind_joining_plugin.c").build(&directory);
    let mut command = Command::new(program);
    command
        .arg("loaded")
        .arg(plugin)
        .env("UNWIND_CHECK_OLD", "1")
        .env("UNWIND_CHECK_ALONE", "1");
    let found = check(&directory, 1, &mut command);
    assert!(found.lost > 0 && found.torn == 0, "{found:?}");
}

#[test]
fn exceptions_pass_frames_that_allocate() {
    let directory = workspace("unwind_exceptions");
    let program = program("unwind_exceptions.cpp")
        .flags(["-O2", "-fomit-frame-pointer"])
        .build(&directory);
    let found = check(&directory, 1, &mut Command::new(program));
    found.assert_all_whole();
    assert!(found.walks > 1000, "{found:?}");
}

#[test]
fn frames_of_a_rust_program_are_those_of_libgcc() {
    let directory = workspace("unwind_rust");
    check(&directory, 1, common::heapledger().arg("--help")).assert_all_whole();
}

#[test]
fn frames_of_python_are_those_of_libgcc() {
    needs!(
        "frames_of_python_are_those_of_libgcc",
        has_tool("python3"),
        "python3"
    );
    let directory = workspace("unwind_python");
    let found = check(
        &directory,
        7,
        Command::new("python3").args([
            "-c",
            "import json, re, ctypes, threading\n\
             t = threading.Thread(target=lambda: json.dumps(list(range(9999))))\n\
             t.start(); t.join(); re.compile('(a|b)*c').match('ababc')",
        ]),
    );
    assert!(found.walks > 500, "{found:?}");
    assert_eq!(
        (found.whole + found.deep, found.guessed),
        (found.walks, 0),
        "{found:?}"
    );
}

#[test]
fn frames_of_ffmpeg_are_those_of_libgcc() {
    needs!(
        "frames_of_ffmpeg_are_those_of_libgcc",
        has_tool("ffmpeg"),
        "ffmpeg"
    );
    let directory = workspace("unwind_ffmpeg");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-f", "lavfi", "-i", "testsrc=duration=1"]);
    command.args(["-c:v", "mpeg4", "-f", "null", "-"]);
    check(&directory, 1, &mut command).assert_all_whole();
}

/// Code that the JVM made has no unwinding data: libgcc ends there, and so may we.
#[test]
fn frames_below_a_jvms_own_code_are_those_of_libgcc() {
    let test = "frames_below_a_jvms_own_code_are_those_of_libgcc";
    needs!(test, has_tool("java"), "java");
    let directory = workspace("unwind_java");
    let found = check(
        &directory,
        1,
        Command::new("java").args(["-Xmx64m", "-version"]),
    );
    assert!(found.walks > 1000 && found.torn == 0, "{found:?}");
}

#[test]
fn the_bench_finds_all_its_unwinders() {
    needs!(
        "the_bench_finds_all_its_unwinders",
        find_library(&["libunwind.so.8"]).is_some(),
        "libunwind.so.8"
    );
    let directory = workspace("unwind_bench");
    let bench = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/programs/unwind.c");
    let built = directory.join("unwind");
    let output = run_within(
        PATIENCE,
        Command::new("cc")
            .args(["-Wall", "-Wextra", "-fno-builtin", "-o"])
            .arg(&built)
            .arg(bench)
            .args(core_flags())
            .arg("-ldl"),
    );
    assert!(output.status.success(), "{output:?}");
    for unwinder in ["heapledger", "remembered", "libgcc", "libunwind"] {
        for objects in ["one", "several"] {
            let output = run_within(
                PATIENCE,
                Command::new(&built).args([unwinder, objects, "20", "1"]),
            );
            assert!(output.status.success(), "{unwinder}, {objects}: {output:?}");
        }
    }
}
