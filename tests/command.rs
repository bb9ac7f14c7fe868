//! Bad input to the command: one clear line, the right exit code, the program
//! still runs where it can, and nothing recorded before is lost.
#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod common;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::report::Report;
use common::{Output, has_tool, heapledger, is_root, program, run, workspace};

/// Runs `heapledger run -q -o REC -- ...`.
fn record(recording: &Path, command: &[&str]) -> Output {
    run(heapledger()
        .args(["run", "-q", "-o"])
        .arg(recording)
        .arg("--")
        .args(command))
}

fn report(recording: &Path) -> Output {
    run(heapledger()
        .arg("report")
        .arg(recording)
        .args(["--format", "json"]))
}

/// One line on standard error, from us, that holds these words.
fn assert_one_line(output: &Output, words: &[&str]) {
    assert_eq!(output.error.lines().count(), 1, "{output:?}");
    assert!(output.error.starts_with("heapledger: "), "{output:?}");
    for word in words {
        assert!(output.error.contains(word), "`{word}` is not in {output:?}");
    }
}

/// A refusal: nothing on standard output, one line on standard error, this code.
fn assert_refused(output: &Output, code: i32, words: &[&str]) {
    assert_eq!(
        (output.code(), output.text.as_str()),
        (code, ""),
        "{output:?}"
    );
    assert_one_line(output, words);
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the target directory is UTF-8")
}

/// Builds a small program to meddle with.
fn small_program(directory: &Path) -> PathBuf {
    program("small_child.c").called("small").build(directory)
}

fn make_executable(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Writes a copy of a program with some bytes changed.
fn patched(program: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = fs::read(program).unwrap();
    change(&mut bytes);
    let path = program.with_file_name(name);
    fs::write(&path, bytes).unwrap();
    make_executable(&path, 0o755);
    path
}

// Programs

#[test]
fn a_program_that_is_not_found_ends_with_127() {
    let directory = workspace("not_found");
    let recording = directory.join("r.hlr");
    assert_refused(
        &record(&recording, &["no-such-program-anywhere"]),
        127,
        &["no-such-program-anywhere"],
    );
    assert_refused(
        &record(&recording, &["./no/such/program"]),
        127,
        &["./no/such/program"],
    );
    assert_refused(&record(&recording, &[""]), 127, &["``: no such file"]);
    assert!(!recording.exists());
}

#[test]
fn a_program_that_cannot_be_executed_ends_with_126() {
    let directory = workspace("not_executable");
    let recording = directory.join("r.hlr");
    let file = directory.join("data");
    fs::write(&file, "just text\n").unwrap();
    make_executable(&file, 0o644);
    assert_refused(&record(&recording, &[text(&file)]), 126, &[text(&file)]);
    assert_refused(
        &record(&recording, &[text(&directory)]),
        126,
        &[text(&directory)],
    );
    assert!(!recording.exists());
}

#[test]
fn a_program_of_another_word_size_ends_with_126() {
    let directory = workspace("word_size");
    let small = small_program(&directory);
    let recording = directory.join("r.hlr");
    // An ELF file of 32 bits for ARM; x86 kernels run what only the class byte is wrong in.
    let narrow = patched(&small, "narrow", |bytes| {
        bytes[4] = 1;
        bytes[18..20].copy_from_slice(&[40, 0]);
    });
    let output = record(&recording, &[text(&narrow)]);
    assert_eq!(output.code(), 126, "{output:?}");
    assert!(
        output.error.contains("narrow") && output.error.contains("word size"),
        "{output:?}"
    );
    assert!(
        output
            .error
            .lines()
            .all(|line| line.starts_with("heapledger: ")),
        "{output:?}"
    );
}

#[test]
fn a_program_for_musl_is_named_as_such() {
    let directory = workspace("musl");
    let small = small_program(&directory);
    let interpreter = b"/lib/ld-musl-none.so.1\0";
    let musl = patched(&small, "musl", |bytes| {
        let known: &[u8] = if cfg!(target_arch = "x86_64") {
            b"/lib64/ld-linux-x86-64.so.2"
        } else {
            b"/lib/ld-linux-aarch64.so.1"
        };
        let at = bytes
            .windows(known.len())
            .position(|window| window == known)
            .expect("the program has an interpreter");
        bytes[at..at + interpreter.len()].copy_from_slice(interpreter);
    });
    // Its loader is not there either, so it cannot start; bare it is not found.
    let output = record(&directory.join("r.hlr"), &[text(&musl)]);
    assert_eq!(output.code(), 127, "{output:?}");
    assert!(output.error.contains("musl"), "{output:?}");
    assert!(
        output
            .error
            .lines()
            .all(|line| line.starts_with("heapledger: ")),
        "{output:?}"
    );
}

/// The program runs as it would bare; that it has no books is said before and in the report.
fn assert_runs_untracked(recording: &Path, program: &Path, reason: &str) {
    let bare = run(&mut Command::new(program));
    let output = record(recording, &[text(program)]);
    assert_eq!(
        (output.code(), &output.text),
        (bare.code(), &bare.text),
        "{output:?}"
    );
    assert_one_line(&output, &[text(program), reason]);
    let report = Report::read(recording).unwrap();
    assert_eq!(report.processes().len(), 1, "{report}");
    assert_eq!(report.root()["tracked"], false, "{report}");
    assert!(
        report.root()["untracked_reason"]
            .as_str()
            .is_some_and(|said| said.contains(reason)),
        "{report}"
    );
    assert_eq!(
        report.root()["outcome"]["exit_code"],
        bare.code(),
        "{report}"
    );
}

#[test]
fn a_static_program_runs_untracked_and_is_said_to() {
    let directory = workspace("static");
    let program = program("small_child.c")
        .called("fixed")
        .flags(["-static"])
        .build(&directory);
    assert_runs_untracked(&directory.join("r.hlr"), &program, "static");
}

#[test]
fn a_set_user_id_program_runs_untracked_and_is_said_to() {
    needs!("set_user_id", is_root(), "root");
    let directory = workspace("set_user_id");
    let small = small_program(&directory);
    chown(&small, Some(65534), Some(65534)).unwrap();
    make_executable(&small, 0o4755);
    assert_runs_untracked(&directory.join("r.hlr"), &small, "set-user-ID");
}

#[test]
fn a_set_group_id_program_runs_untracked_and_is_said_to() {
    needs!("set_group_id", is_root(), "root");
    let directory = workspace("set_group_id");
    let small = small_program(&directory);
    chown(&small, Some(0), Some(65534)).unwrap();
    make_executable(&small, 0o2755);
    assert_runs_untracked(&directory.join("r.hlr"), &small, "set-group-ID");
}

#[test]
fn a_set_user_id_bit_of_ones_own_is_no_hindrance() {
    let directory = workspace("own_set_user_id");
    let small = small_program(&directory);
    make_executable(&small, 0o4755);
    let recording = directory.join("r.hlr");
    let output = record(&recording, &[text(&small)]);
    assert!(output.code() == 0 && output.error.is_empty(), "{output:?}");
    let report = Report::read(&recording).unwrap();
    assert_eq!(report.root()["tracked"], true, "{report}");
}

#[test]
fn a_script_is_tracked_through_its_interpreter() {
    let directory = workspace("script");
    let script = directory.join("script");
    fs::write(&script, "#!/bin/sh\nexit 5\n").unwrap();
    make_executable(&script, 0o755);
    let recording = directory.join("r.hlr");
    let output = record(&recording, &[text(&script)]);
    assert!(output.code() == 5 && output.error.is_empty(), "{output:?}");
    assert_eq!(Report::read(&recording).unwrap().root()["tracked"], true);
}

#[test]
fn a_command_is_asked_for() {
    let output = run(heapledger().arg("run"));
    assert_eq!(output.code(), 125, "{output:?}");
    assert!(
        !output.error.is_empty() && output.text.is_empty(),
        "{output:?}"
    );
}

// Options

#[test]
fn a_negative_size_is_said_to_be_one() {
    for arguments in [
        ["run", "--soft-limit", "-1", "--", "true"],
        ["run", "--hard-limit", "-1", "--", "true"],
        ["run", "--hard-limit", "-1MiB", "--", "true"],
        ["run", "--sample-bytes", "-1", "--", "true"],
        ["run", "--sample-bytes", "-.5K", "--", "true"],
        ["demo", "--soft-limit", "-1", "--threads", "1"],
        ["demo", "--soft-limit", "-1GiB", "--threads", "1"],
    ] {
        let output = run(heapledger().args(arguments));
        let code = if arguments[0] == "run" { 125 } else { 2 };
        assert_refused(&output, code, &["a size cannot be negative"]);
    }
}

#[test]
fn what_is_no_size_is_said_in_one_line() {
    for (size, words) in [
        ("abc", "a size begins with a number"),
        ("", "a size begins with a number"),
        ("12XB", "unknown unit `XB`"),
        ("1..5G", "a size begins with a number"),
        ("99999999999999999999", "does not fit"),
    ] {
        for option in ["--soft-limit", "--hard-limit", "--sample-bytes"] {
            let output = run(heapledger().args(["run", option, size, "--", "true"]));
            assert_refused(&output, 125, &[option, words]);
        }
        let output = run(heapledger().args(["report", "--min", size, "x.hlr"]));
        assert_refused(&output, 2, &["--min", words]);
        let output = run(heapledger().args(["diff", "--fail-on-growth", size, "x", "y"]));
        assert_refused(&output, 2, &["--fail-on-growth", words]);
    }
}

#[test]
fn what_goes_with_no_such_mode_is_refused_in_one_line() {
    let directory = workspace("modes");
    let recording = directory.join("r.hlr");
    for (options, words) in [
        (&["--abort-on-misuse"][..], "--mode full"),
        (&["--mode", "count", "--abort-on-misuse"], "--mode full"),
        (
            &["--sample-bytes", "1K", "--abort-on-misuse"],
            "--mode full",
        ),
        (&["--mode", "full", "--sample-bytes", "1K"], "--mode sample"),
    ] {
        let output = run(heapledger()
            .arg("run")
            .args(options)
            .arg("-o")
            .arg(&recording)
            .args(["--", "true"]));
        assert_refused(&output, 125, &["heapledger: --", words]);
        assert!(!recording.exists());
    }
    let output = run(heapledger()
        .args(["run", "--mode", "count", "-q", "-o"])
        .arg(&recording)
        .args(["--", "true"]));
    assert_eq!(output.code(), 0, "{output:?}");
    assert!(recording.exists());
}

#[test]
fn unknown_options_end_run_with_125_and_report_with_2() {
    let refused = |arguments: &[&str], code: i32, words: &[&str]| {
        assert_refused(&run(heapledger().args(arguments)), code, words);
    };
    refused(
        &["run", "--no-such-option", "--", "true"],
        125,
        &["--no-such-option", "see --help"],
    );
    refused(
        &["run", "--mode", "everything", "--", "true"],
        125,
        &["everything", "count, sample, full"],
    );
    refused(
        &["report", "--format", "papyrus", "x"],
        2,
        &["papyrus", "json"],
    );
    refused(&["no-such-command"], 2, &["no-such-command", "see --help"]);
    refused(&["report"], 2, &["<FILE>", "see --help"]);
}

#[test]
fn help_is_output_and_shows_examples_first() {
    for arguments in [&["--help"][..], &["run", "--help"], &["report", "--help"]] {
        let output = run(heapledger().args(arguments));
        assert!(output.code() == 0 && output.error.is_empty(), "{output:?}");
        let examples = output.text.find("heapledger r").unwrap_or(usize::MAX);
        let usage = output.text.find("Usage").unwrap_or(0);
        assert!(examples < usage, "{arguments:?}: {}", output.text);
    }
}

#[test]
fn the_programs_own_options_are_its_own() {
    let directory = workspace("own_options");
    let output = record(
        &directory.join("r.hlr"),
        &["echo", "-o", "--quiet", "--", "--help"],
    );
    assert_eq!(
        (output.code(), output.text.as_str()),
        (0, "-o --quiet -- --help\n"),
        "{output:?}"
    );
}

// Outputs

#[test]
fn an_output_that_cannot_be_written_is_found_before_the_program_starts() {
    let directory = workspace("output");
    let started = directory.join("started");
    let touch = ["touch", text(&started)];
    for output_file in [
        directory.join("no/such/directory/r.hlr"),
        directory.clone(),
        started.join("below-a-file"),
    ] {
        assert_refused(&record(&output_file, &touch), 125, &[text(&output_file)]);
        assert!(
            !started.exists(),
            "started in spite of {}",
            output_file.display()
        );
    }
}

#[test]
fn a_full_file_system_is_found_before_the_program_starts() {
    let test = "output_full";
    needs!(test, is_root() && has_tool("mount"), "the right to mount");
    let directory = workspace(test);
    let place = directory.join("place");
    fs::create_dir(&place).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "none"])
        .arg(&place)
        .stderr(Stdio::null())
        .status();
    needs!(
        test,
        mounted.is_ok_and(|status| status.success()),
        "the right to mount"
    );
    let _ = fs::write(place.join("filler"), vec![0u8; 65536]);
    let started = directory.join("started");
    let output = record(&place.join("r.hlr"), &["touch", text(&started)]);
    let left = place.join("r.hlr").exists();
    let _ = Command::new("umount").arg("--lazy").arg(&place).status();
    assert_refused(&output, 125, &["r.hlr"]);
    assert!(!started.exists() && !left);
}

#[test]
fn a_file_system_that_fills_during_the_run_keeps_the_program_itself() {
    let test = "output_fills";
    needs!(test, is_root() && has_tool("mount"), "the right to mount");
    let directory = workspace(test);
    let place = directory.join("place");
    fs::create_dir(&place).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=3m", "none"])
        .arg(&place)
        .stderr(Stdio::null())
        .status();
    needs!(
        test,
        mounted.is_ok_and(|status| status.success()),
        "the right to mount"
    );
    let recording = place.join("r.hlr");
    let script = format!(
        "cat /dev/zero > {}/filler 2>/dev/null; n=0; while [ $n -lt 40 ]; do ls / > /dev/null; n=$((n + 1)); done; exit 3",
        place.display()
    );
    let output = record(&recording, &["sh", "-c", &script]);
    let report = Report::read(&recording);
    let _ = Command::new("umount").arg("--lazy").arg(&place).status();
    assert_eq!(output.code(), 3, "{output:?}");
    assert_one_line(&output, &["r.hlr", "No space left", "left out"]);
    let report = report.unwrap();
    assert_eq!(report.root()["outcome"]["exit_code"], 3, "{report}");
    assert_eq!(report.root()["tracked"], true, "{report}");
    assert_eq!(report.violations(), Vec::<String>::new());
}

#[test]
fn a_file_size_limit_is_said_and_is_the_programs_own() {
    let directory = workspace("file_size_limit");
    let recording = directory.join("r.hlr");
    let started = directory.join("started");
    let us = heapledger();
    let limited = |script: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh"]).arg(us.get_program());
        run(shell.arg(&recording).arg(&started))
    };
    let output = limited("ulimit -f 0; exec \"$1\" run -o \"$2\" -- touch \"$3\"");
    assert_refused(&output, 125, &[text(&recording), "File too large"]);
    assert!(!recording.exists() && !started.exists());
    // The signal does to the program what it would have done.
    let output = limited(
        "exec \"$1\" run -q -o \"$2\" -- sh -c 'ulimit -f 0; exec dd if=/dev/zero of=\"$0\" count=1' \"$3\"",
    );
    assert_eq!(output.code(), 128 + 25, "{output:?}");
    let report = Report::read(&recording).unwrap();
    let processes = report.processes();
    let died = |process: &serde_json::Value| process["outcome"]["signal"] == "SIGXFSZ";
    assert!(processes.into_iter().any(died), "{report}");
    let page = directory.join("page.html");
    let output = run(Command::new("sh")
        .args(["-c", "ulimit -f 0; exec \"$@\"", "sh"])
        .arg(us.get_program())
        .arg("report")
        .arg(&recording)
        .args(["--format", "html", "-o"])
        .arg(&page));
    assert_refused(&output, 1, &[text(&page), "File too large"]);
}

#[test]
fn what_stands_in_our_way_is_not_said_of_the_program() {
    let directory = workspace("descriptor_limit");
    let recording = directory.join("r.hlr");
    let script = "ulimit -n 8; exec \"$1\" run -q -o \"$2\" -- true";
    let us = heapledger();
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(us.get_program());
    let output = run(shell.arg(&recording));
    assert_refused(&output, 125, &["Too many open files"]);
    assert!(!recording.exists());
}

#[test]
fn a_script_without_an_interpreter_line_is_the_shells() {
    let directory = workspace("bare_script");
    let script = directory.join("script");
    fs::write(&script, "echo \"$1\"; exit 5\n").unwrap();
    make_executable(&script, 0o755);
    let output = record(&directory.join("r.hlr"), &[text(&script), "an argument"]);
    assert_eq!(
        (output.code(), output.text.as_str(), output.error.as_str()),
        (5, "an argument\n", "")
    );
    let output = run(heapledger()
        .args(["run", "-q", "-o"])
        .arg(directory.join("r.hlr"))
        .args(["echo", "-n", "--help"]));
    assert_eq!((output.code(), output.text.as_str()), (0, "--help"));
}

#[test]
fn nothing_recorded_before_is_lost() {
    let directory = workspace("earlier");
    let recording = directory.join("r.hlr");
    assert_eq!(record(&recording, &["sh", "-c", "exit 3"]).code(), 3);
    let first = fs::read(&recording).unwrap();
    // What cannot be started takes nothing away.
    assert_eq!(
        record(&recording, &["no-such-program-anywhere"]).code(),
        127
    );
    assert!(fs::read(&recording).unwrap() == first);
    // What can, sets the earlier recording aside.
    assert_eq!(record(&recording, &["sh", "-c", "exit 4"]).code(), 4);
    let old = directory.join("r.hlr.old");
    assert!(fs::read(&old).unwrap() == first);
    // What turns out at the last moment not to run takes neither away.
    let second = fs::read(&recording).unwrap();
    let no_program = directory.join("no-program");
    fs::write(&no_program, b"\x7fELF\x02\x01\x01\0and no more\0").unwrap();
    make_executable(&no_program, 0o755);
    assert_eq!(record(&recording, &[text(&no_program)]).code(), 126);
    assert!(fs::read(&recording).unwrap() == second && fs::read(&old).unwrap() == first);
    assert_eq!(record(&recording, &["sh", "-c", "exit 5"]).code(), 5);
    assert!(fs::read(&old).unwrap() == second);
    let mut names: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["no-program", "r.hlr", "r.hlr.old"]);
}

#[test]
fn a_recording_may_go_to_dev_null() {
    let output = record(Path::new("/dev/null"), &["sh", "-c", "exit 6"]);
    assert!(output.code() == 6 && output.error.is_empty(), "{output:?}");
}

#[test]
fn output_to_a_closed_pipe_ends_with_0() {
    let directory = workspace("closed_pipe");
    let recording = directory.join("r.hlr");
    assert_eq!(record(&recording, &["sh", "-c", "ls / | cat"]).code(), 0);
    for format in ["text", "json", "folded", "flamegraph", "pprof"] {
        let mut child = heapledger()
            .arg("report")
            .arg(&recording)
            .args(["--format", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut error = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut error)
            .unwrap();
        assert_eq!(
            (child.wait().unwrap().code(), error.as_str()),
            (Some(0), ""),
            "{format}"
        );
    }
}

// Recordings

#[test]
fn a_recording_that_is_no_recording_is_refused() {
    let directory = workspace("no_recording");
    let missing = directory.join("missing.hlr");
    assert_refused(&report(&missing), 1, &[text(&missing)]);
    let empty = directory.join("empty.hlr");
    fs::write(&empty, "").unwrap();
    assert_refused(
        &report(&empty),
        1,
        &[text(&empty), "not a heapledger recording"],
    );
    let prose = directory.join("prose.hlr");
    fs::write(&prose, "It was a bright cold day in April.\n".repeat(100)).unwrap();
    assert_refused(
        &report(&prose),
        1,
        &[text(&prose), "not a heapledger recording"],
    );
    let mut noise = vec![0u8; 100_000];
    File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut noise)
        .unwrap();
    let random = directory.join("random.hlr");
    fs::write(&random, &noise).unwrap();
    assert_refused(
        &report(&random),
        1,
        &[text(&random), "not a heapledger recording"],
    );
    let no_ledgers = directory.join("nothing-here");
    fs::create_dir(&no_ledgers).unwrap();
    assert_refused(&report(&no_ledgers), 1, &[text(&no_ledgers)]);
    assert_refused(&report(Path::new("/dev/null")), 1, &["/dev/null"]);
    let pipe = directory.join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    assert_refused(&report(&pipe), 1, &[text(&pipe)]);
}

/// A good recording to damage.
fn good_recording(directory: &Path) -> Vec<u8> {
    let recording = directory.join("good.hlr");
    assert_eq!(
        record(&recording, &["sh", "-c", "ls / > /dev/null; exit 3"]).code(),
        3
    );
    fs::read(recording).unwrap()
}

#[test]
fn a_newer_layout_is_named() {
    let directory = workspace("newer_layout");
    let mut bytes = good_recording(&directory);
    bytes[8..12].copy_from_slice(&77u32.to_le_bytes());
    let newer = directory.join("newer.hlr");
    fs::write(&newer, bytes).unwrap();
    assert_refused(&report(&newer), 1, &[text(&newer), "layout 77"]);
}

/// Whatever is in the file, `report` ends with a report or with one line.
fn assert_survives(damaged: &Path, what: &str) -> Option<Report> {
    let output = report(damaged);
    match output.code() {
        0 => Some(Report::parse(&output.text).unwrap_or_else(|error| panic!("{what}: {error}"))),
        1 => {
            assert_one_line(&output, &[text(damaged)]);
            None
        }
        code => panic!("{what}: exit code {code}: {}", output.error),
    }
}

#[test]
fn a_recording_cut_short_gives_what_it_still_holds() {
    let directory = workspace("truncated");
    let bytes = good_recording(&directory);
    let damaged = directory.join("cut.hlr");
    let mut cuts: Vec<usize> = (1..8).map(|part| bytes.len() * part / 8).collect();
    cuts.extend([1, 7, 8, 11, 12, 13, 20, 21, 22, bytes.len() - 1]);
    for cut in cuts {
        fs::write(&damaged, &bytes[..cut]).unwrap();
        let report = assert_survives(&damaged, &format!("{cut} of {} bytes", bytes.len()));
        assert!(
            report.is_some() || cut < bytes.len() - 1,
            "one byte short loses everything"
        );
        if let Some(report) = report {
            assert_eq!(report.violations(), Vec::<String>::new(), "cut at {cut}");
        }
    }
}

#[test]
fn a_recording_with_flipped_bits_is_survived() {
    let directory = workspace("flipped");
    let bytes = good_recording(&directory);
    let damaged = directory.join("flipped.hlr");
    for step in 0..16 {
        let mut copy = bytes.clone();
        let at = bytes.len() * step / 16;
        copy[at] ^= 1 << (step % 8);
        fs::write(&damaged, copy).unwrap();
        assert_survives(&damaged, &format!("bit {} of byte {at}", step % 8));
    }
}

#[test]
fn a_hostile_ledger_is_survived() {
    let directory = workspace("hostile_ledger");
    let ledgers = directory.join("ledgers");
    fs::create_dir(&ledgers).unwrap();
    let output = run(Command::new("ls")
        .arg("/")
        .env("LD_PRELOAD", common::preload_library())
        .env("HEAPLEDGER_DIR", &ledgers));
    assert_eq!(output.code(), 0, "{output:?}");
    let ledger = fs::read_dir(&ledgers)
        .unwrap()
        .next()
        .expect("ls leaves a ledger")
        .unwrap()
        .path();
    let mut bytes = vec![0u8; 256 << 10];
    let read = File::open(&ledger).unwrap().read(&mut bytes).unwrap();
    bytes.truncate(read);
    for step in 0..16usize {
        let mut copy = bytes.clone();
        // Beyond the magic, the first pages: counts, references, page numbers.
        let at = 24 + step * 523 % 8000;
        copy[at..at + 4].copy_from_slice(&[
            0xff,
            0xff,
            0xff,
            if step % 2 == 0 { 0x7f } else { 0xff },
        ]);
        fs::write(&ledger, copy).unwrap();
        assert_survives(&ledgers, &format!("ledger with {at} overwritten"));
    }
    fs::write(&ledger, &bytes[..bytes.len() / 2]).unwrap();
    assert_survives(&ledgers, "ledger cut in half");
    fs::write(&ledger, &bytes[..100]).unwrap();
    assert_survives(&ledgers, "ledger of 100 bytes");
}

#[test]
fn a_ledger_of_a_newer_layout_is_named_and_hides_no_other() {
    let directory = workspace("newer_ledger");
    let ledgers = directory.join("ledgers");
    fs::create_dir(&ledgers).unwrap();
    let preloaded = |script: &str| {
        let output = run(Command::new("sh")
            .args(["-c", script])
            .env("LD_PRELOAD", common::preload_library())
            .env("HEAPLEDGER_DIR", &ledgers));
        assert_eq!(output.code(), 0, "{output:?}");
    };
    let all = || -> Vec<PathBuf> {
        let entries = fs::read_dir(&ledgers).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    preloaded("exit 0");
    let newer = all().pop().expect("a shell leaves a ledger");
    let file = File::options().write(true).open(&newer).unwrap();
    file.write_all_at(&77u32.to_le_bytes(), 8).unwrap();
    assert_refused(&report(&newer), 1, &[text(&newer), "layout 77"]);
    assert_refused(&report(&ledgers), 1, &[text(&newer), "layout 77"]);
    preloaded("exit 0");
    assert_eq!(all().len(), 2);
    let output = run(heapledger().arg("report").arg(&ledgers));
    assert_eq!((output.code(), output.error.as_str()), (0, ""));
    let ending = output.text.split("What could not be seen").nth(1).unwrap();
    assert!(
        ending.contains("layout 77") && !ending.contains("nothing was lost"),
        "{}",
        output.text
    );
}

// Surroundings

#[test]
fn no_home_and_no_temporary_directory_are_survived() {
    let directory = workspace("homeless");
    let recording = directory.join("r.hlr");
    let names = [
        "HOME",
        "TMPDIR",
        "XDG_CACHE_HOME",
        "XDG_RUNTIME_DIR",
        "XDG_DATA_HOME",
    ];
    let settings: [Option<&str>; 4] = [None, Some(""), Some("/no/such/directory"), Some("/proc")];
    for setting in settings {
        let mut command = heapledger();
        for name in names {
            match setting {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = run(command
            .args(["run", "-q", "-o"])
            .arg(&recording)
            .args(["--", "sh", "-c", "exit 3"]));
        assert!(
            output.code() == 3 && output.error.is_empty(),
            "{setting:?}: {output:?}"
        );
        let report = Report::read(&recording).unwrap();
        assert_eq!(report.root()["tracked"], true, "{setting:?}: {report}");
    }
}

#[test]
fn an_unreadable_home_is_survived() {
    needs!(
        "unreadable_home",
        is_root() && has_tool("setpriv"),
        "root with setpriv"
    );
    let directory = workspace("unreadable_home");
    let home = directory.join("home");
    fs::create_dir(&home).unwrap();
    make_executable(&home, 0o000);
    let open = directory.join("open");
    fs::create_dir(&open).unwrap();
    make_executable(&open, 0o777);
    let recording = open.join("r.hlr");
    // Root reads everything, so that this has to be somebody else.
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(heapledger().get_program());
    command
        .args(["run", "-q", "-o"])
        .arg(&recording)
        .args(["--", "sh", "-c", "exit 3"]);
    for name in ["HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"] {
        command.env(name, &home);
    }
    let output = run(&mut command);
    make_executable(&home, 0o755);
    assert!(output.code() == 3 && output.error.is_empty(), "{output:?}");
    assert_eq!(Report::read(&recording).unwrap().root()["tracked"], true);
}

#[test]
fn a_directory_of_ledgers_that_is_not_there_leaves_the_program_untracked() {
    let directory = workspace("no_ledger_directory");
    let small = small_program(&directory);
    let output = run(Command::new(&small)
        .env("LD_PRELOAD", common::preload_library())
        .env("HEAPLEDGER_DIR", directory.join("not/there")));
    assert_eq!(
        (output.code(), output.text.as_str(), output.error.as_str()),
        (0, "child\n", "")
    );
}

#[test]
fn a_tiny_dev_shm_is_survived() {
    let test = "tiny_dev_shm";
    needs!(
        test,
        is_root() && has_tool("unshare") && has_tool("mount"),
        "the right to mount in a namespace of its own"
    );
    let directory = workspace(test);
    let recording = directory.join("r.hlr");
    for size in ["4k", "64k", "1m"] {
        let script = format!(
            "mount -t tmpfs -o size={size} none /dev/shm && exec {} run -q -o {} -- sh -c 'ls / >/dev/null; exit 3'",
            text(Path::new(heapledger().get_program())),
            text(&recording)
        );
        let output = run(Command::new("unshare").args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            &script,
        ]));
        assert_eq!(output.code(), 3, "{size}: {output:?}");
        let report = Report::read(&recording).unwrap();
        assert_eq!(report.violations(), Vec::<String>::new(), "{size}");
        if report.root()["tracked"] == false {
            assert!(
                report.root()["untracked_reason"].is_string(),
                "{size}: {report}"
            );
            assert_one_line(&output, &[]);
        }
    }
}

#[test]
fn where_no_ledger_finds_room_the_program_runs_and_the_recording_says_why() {
    let test = "no_room_for_ledgers";
    needs!(
        test,
        is_root() && has_tool("unshare") && has_tool("mount"),
        "the right to mount in a namespace of its own"
    );
    let directory = workspace(test);
    let recording = directory.join("r.hlr");
    // What is mounted once more on itself stays writable when /tmp is not any more.
    let script = format!(
        "mount -t tmpfs -o size=64k none /dev/shm && mount --bind /tmp /tmp && mount --bind {place} {place} && \
         mount -o remount,bind,ro /tmp && exec {} run -q -o {} -- sh -c 'echo ran; exit 3'",
        text(Path::new(heapledger().get_program())),
        text(&recording),
        place = text(&directory),
    );
    let output = run(Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &script])
        .env_remove("TMPDIR")
        .env_remove("XDG_RUNTIME_DIR"));
    assert_eq!(
        (output.code(), output.text.as_str()),
        (3, "ran\n"),
        "{output:?}"
    );
    let report = Report::read(&recording).unwrap();
    let reason = report.root()["untracked_reason"].as_str();
    let why = reason.and_then(|reason| reason.strip_prefix("no ledger could be set up: "));
    let why = why.unwrap_or_else(|| panic!("{report}"));
    assert!(
        why.contains("/dev/shm: No space left") && why.contains("/tmp: Read-only"),
        "{why}"
    );
    assert_one_line(&output, &[why]);
}
