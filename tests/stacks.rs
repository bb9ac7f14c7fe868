//! Stacks in every format: the names that they have, with debug information and
//! without, sums that agree to the byte, and what two recordings differ in.
#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use common::report::{Report, rows};
use common::{
    Case, Output, has_tool, heapledger, library, program, run, run_within, sources, workspace,
};

/// Go builds its pprof on first use.
const GO_PATIENCE: Duration = Duration::from_secs(600);

fn record(directory: &Path, name: &str, program: &Path) -> PathBuf {
    let recording = directory.join(format!("{name}.hlr"));
    let output = run(heapledger()
        .args(["run", "-q", "--mode", "count", "-o"])
        .arg(&recording)
        .arg("--")
        .arg(program));
    assert_eq!(
        (output.code(), output.error.as_str()),
        (0, ""),
        "{output:?}"
    );
    recording
}

fn report(recording: &Path, options: &[&str]) -> Output {
    run(heapledger().arg("report").arg(recording).args(options))
}

fn good(output: Output) -> String {
    assert_eq!(
        (output.code(), output.error.as_str()),
        (0, ""),
        "{output:?}"
    );
    output.text
}

fn refused(output: &Output, code: i32, words: &str) {
    assert_eq!(
        (output.code(), output.text.as_str()),
        (code, ""),
        "{output:?}"
    );
    assert_eq!(output.error.lines().count(), 1, "{output:?}");
    assert!(output.error.starts_with("heapledger: "), "{output:?}");
    assert!(
        output.error.contains(words),
        "`{words}` is not in {output:?}"
    );
}

/// Gives the line of a source that says `here: MARK`.
fn line_of(source: &str, mark: &str) -> u64 {
    let text = fs::read_to_string(sources().join(source)).unwrap();
    let mark = format!("here: {mark}");
    let is_it = |line: &str| line.split(" */").next().unwrap().ends_with(&mark);
    let at = text.lines().position(is_it);
    at.unwrap_or_else(|| panic!("{source} has no line with {mark}")) as u64 + 1
}

/// Gives a frame as `symbol@file:line`, with `inlined ` in front where it is.
fn shown(frame: &Value) -> String {
    let inlined = if frame["inlined"] == true {
        "inlined "
    } else {
        ""
    };
    let file = frame["file"].as_str().unwrap_or("");
    let file = file.rsplit('/').next().unwrap();
    let symbol = frame["symbol"].as_str().unwrap_or("-");
    format!("{inlined}{symbol}@{file}:{}", frame["line"])
}

/// Gives the frames, innermost first, of the stacks that hold so many blocks.
fn frames_of(recording: &Path, blocks: u64) -> Vec<String> {
    let report = Report::read(recording).unwrap();
    let stacks = rows(&report.root()["stacks"]);
    let stack = stacks
        .iter()
        .find(|stack| stack["live_blocks"] == blocks)
        .unwrap_or_else(|| panic!("no stack holds {blocks} blocks\n{report}"));
    rows(&stack["frames"]).into_iter().map(shown).collect()
}

fn tool(name: &str, args: &[&str], files: &[&Path]) {
    let output = run(Command::new(name).args(args).args(files));
    assert_eq!(output.code(), 0, "{name}: {output:?}");
}

/// Builds inlined.cpp as its name says, and records it.
fn cpp_variant(directory: &Path, name: &str, change: impl FnOnce(&Path)) -> PathBuf {
    let program = program("inlined.cpp").called(name).build(directory);
    change(&program);
    record(directory, name, &program)
}

fn names_and_lines() -> (Vec<String>, Vec<String>) {
    let line = |mark| line_of("inlined.cpp", mark);
    let decode = vec![
        format!(
            "inlined codec::Buffer::grow(unsigned long)@inlined.cpp:{}",
            line("Buffer::grow")
        ),
        format!(
            "inlined codec::Buffer codec::filled<codec::Buffer>(unsigned long)@inlined.cpp:{}",
            line("filled")
        ),
        format!(
            "codec::decode(unsigned long)@inlined.cpp:{}",
            line("decode")
        ),
    ];
    let copy = vec![format!(
        "codec::Packet::copy(unsigned long)@inlined.cpp:{}",
        line("Packet::copy")
    )];
    (decode, copy)
}

#[test]
fn a_cpp_program_has_the_ledger_that_it_states() {
    Case::of("inlined.cpp").check();
}

#[test]
fn cpp_frames_have_names_and_lines_with_debug_information() {
    let directory = workspace("cpp_debug");
    let (decode, copy) = names_and_lines();
    let recording = cpp_variant(&directory, "whole", |_| {});
    assert_eq!(frames_of(&recording, 10), decode);
    assert_eq!(frames_of(&recording, 5), copy);
}

#[test]
fn cpp_frames_have_names_and_lines_from_a_debug_file_apart() {
    let test = "cpp_frames_have_names_and_lines_from_a_debug_file_apart";
    needs!(test, has_tool("objcopy") && has_tool("strip"), "binutils");
    let directory = workspace("cpp_apart");
    let (decode, copy) = names_and_lines();
    let recording = cpp_variant(&directory, "apart", |program| {
        let debug = directory.join("apart.debug");
        tool("objcopy", &["--only-keep-debug"], &[program, &debug]);
        tool("strip", &["--strip-all"], &[program]);
        let link = format!("--add-gnu-debuglink={}", debug.display());
        tool("objcopy", &[&link], &[program]);
    });
    assert_eq!(frames_of(&recording, 10), decode);
    assert_eq!(frames_of(&recording, 5), copy);
}

/// Where debuggers look as well, and some builds put them.
#[test]
fn cpp_frames_have_names_and_lines_from_the_directory_of_debug_files_beside_the_program() {
    let test =
        "cpp_frames_have_names_and_lines_from_the_directory_of_debug_files_beside_the_program";
    needs!(test, has_tool("objcopy") && has_tool("strip"), "binutils");
    let directory = workspace("cpp_beside");
    let beside = directory.join(".debug");
    fs::create_dir_all(&beside).unwrap();
    let debug = beside.join("beside.debug");
    let (decode, copy) = names_and_lines();
    let variant = |program: &Path| {
        tool("objcopy", &["--only-keep-debug"], &[program, &debug]);
        tool("strip", &["--strip-all"], &[program]);
        let link = format!("--add-gnu-debuglink={}", debug.display());
        tool("objcopy", &[&link], &[program]);
    };
    let recording = cpp_variant(&directory, "beside", variant);
    let json = Report::read(&recording).unwrap().json;
    let libraries = rows(&json["processes"][0]["libraries"]);
    let has_id = libraries[0]["build_id"].is_string();
    needs!(test, has_id, "a linker that writes build-ids");
    assert_eq!(frames_of(&recording, 10), decode);
    assert_eq!(frames_of(&recording, 5), copy);

    // Another build's file of that name lends nothing.
    let other = program("inlined.cpp")
        .called("other")
        .flags(["-O0"])
        .build(&directory);
    let recording = cpp_variant(&directory, "beside", |program| {
        variant(program);
        tool("objcopy", &["--only-keep-debug"], &[&other, &debug]);
    });
    assert_eq!(frames_of(&recording, 10), ["-@:null"]);
}

#[test]
fn cpp_frames_have_names_and_lines_from_a_debug_file_by_build_id() {
    let test = "cpp_frames_have_names_and_lines_from_a_debug_file_by_build_id";
    needs!(test, has_tool("objcopy") && has_tool("strip"), "binutils");
    let directory = workspace("cpp_build_id");
    let program = program("inlined.cpp").called("by_id").build(&directory);
    let plain = record(&directory, "plain", &program);
    let json = Report::read(&plain).unwrap().json;
    let libraries = rows(&json["processes"][0]["libraries"]);
    let build_id = libraries[0]["build_id"].as_str();
    needs!(test, build_id.is_some(), "a linker that writes build-ids");
    // Where debuginfod's clients leave what they have fetched.
    let cache = directory.join("cache");
    let place = cache.join(build_id.unwrap());
    fs::create_dir_all(&place).unwrap();
    tool(
        "objcopy",
        &["--only-keep-debug"],
        &[&program, &place.join("debuginfo")],
    );
    tool("strip", &["--strip-all"], &[&program]);
    let recording = directory.join("by_id.hlr");
    let output = run(heapledger()
        .env("DEBUGINFOD_CACHE_PATH", &cache)
        .args(["run", "-q", "--mode", "count", "-o"])
        .arg(&recording)
        .arg("--")
        .arg(&program));
    assert_eq!(output.code(), 0, "{output:?}");
    let (decode, copy) = names_and_lines();
    assert_eq!(frames_of(&recording, 10), decode);
    assert_eq!(frames_of(&recording, 5), copy);
}

#[test]
fn a_debug_file_of_another_build_costs_lines_and_no_names() {
    let test = "a_debug_file_of_another_build_costs_lines_and_no_names";
    needs!(test, has_tool("objcopy") && has_tool("strip"), "binutils");
    let directory = workspace("cpp_other");
    let recording = cpp_variant(&directory, "other", |program| {
        let debug = directory.join("other.debug");
        tool("objcopy", &["--only-keep-debug"], &[program, &debug]);
        tool("strip", &["--strip-debug"], &[program]);
        let link = format!("--add-gnu-debuglink={}", debug.display());
        tool("objcopy", &[&link], &[program]);
        // The link's checksum no longer holds.
        let mut bytes = fs::read(&debug).unwrap();
        bytes.push(0);
        fs::write(&debug, bytes).unwrap();
    });
    assert_eq!(
        frames_of(&recording, 10),
        ["codec::decode(unsigned long)@:null"]
    );
}

#[test]
fn stripped_frames_have_the_names_that_are_left() {
    let test = "stripped_frames_have_the_names_that_are_left";
    needs!(test, has_tool("strip"), "binutils");
    let directory = workspace("cpp_stripped");
    let recording = cpp_variant(&directory, "lines", |program| {
        tool("strip", &["--strip-debug"], &[program]);
    });
    assert_eq!(
        frames_of(&recording, 10),
        ["codec::decode(unsigned long)@:null"]
    );
    let recording = cpp_variant(&directory, "all", |program| {
        tool("strip", &["--strip-all"], &[program]);
    });
    assert_eq!(frames_of(&recording, 10), ["-@:null"]);
    let json = Report::read(&recording).unwrap().json;
    let stacks = rows(&json["processes"][0]["stacks"]);
    let nameless = stacks.iter().flat_map(|stack| rows(&stack["frames"]));
    let nameless: Vec<_> = nameless.filter(|frame| frame["symbol"].is_null()).collect();
    assert!(nameless.iter().all(|frame| frame["offset"].is_u64()));
    let folded = good(report(
        &recording,
        &["--format", "folded", "--measure", "blocks"],
    ));
    let line = folded.lines().find(|line| line.ends_with(" 10")).unwrap();
    assert!(
        line.starts_with("all+0x"),
        "an address stands in for a name: {line}"
    );
}

/// What a library's file became before names were read.
const FATES: [(&str, &str); 6] = [
    ("gone", "rm $2"),
    ("a pipe", "rm $2; mkfifo $2"),
    ("a directory", "rm $2; mkdir $2"),
    (
        "another file",
        "echo nothing of the kind > $2.new; mv $2.new $2",
    ),
    ("half of itself", "head -c 5000 $2 > $2.new; mv $2.new $2"),
    (
        "itself with other bytes",
        "{ head -c 4096 $2; head -c 200000 /dev/zero | tr '\\0' '\\377'; } > $2.new; mv $2.new $2",
    ),
];

/// The recorder, which reads names while a program runs, goes on at the end alone.
const STOPS_RECORDER: &str = "trap 'kill -CONT $PPID' EXIT; kill -STOP $PPID; \
     while cat /proc/$PPID/task/*/status | grep ^State: | grep -qv stopped; do :; done";

#[test]
fn a_library_that_cannot_be_read_costs_its_own_names_alone() {
    let directory = workspace("unreadable");
    let program = program("unwind_shapes.c")
        .called("shapes")
        .flags(["-O2", "-fomit-frame-pointer"])
        .build(&directory);
    for (fate, script) in FATES {
        let library = library("unwind_joining_plugin.c").build(&directory);
        let recording = directory.join("unreadable.hlr");
        let script = format!("{STOPS_RECORDER}; $1 loaded $2; {script}");
        let output = run(heapledger()
            .args(["run", "-q", "--mode", "full", "-o"])
            .arg(&recording)
            .args(["--", "sh", "-ec", &script, "sh"])
            .args([&program, &library]));
        assert_eq!(
            (output.code(), output.error.as_str()),
            (0, ""),
            "{fate}: {output:?}"
        );
        let json = Report::read(&recording).unwrap().json;
        let process = rows(&json["processes"]).into_iter().find(|process| {
            let exe = process["exe"].as_str().unwrap();
            exe.ends_with("/shapes")
        });
        let process = process.unwrap_or_else(|| panic!("{fate}: {json:#}"));
        let stacks = rows(&process["stacks"]);
        let frames: Vec<_> = stacks
            .iter()
            .flat_map(|stack| rows(&stack["frames"]))
            .collect();
        let of = |name: &str| -> Vec<&Value> {
            let frames = frames.iter().copied();
            frames.filter(|frame| frame["library"] == name).collect()
        };
        let name = library.file_name().unwrap().to_str().unwrap();
        let (lost, named) = (of(name), of("shapes"));
        assert!(!lost.is_empty(), "{fate}: {process:#}");
        assert!(
            lost.iter()
                .all(|frame| frame["symbol"].is_null() && frame["offset"].is_u64()),
            "{fate}: {lost:?}"
        );
        assert!(
            named.iter().any(|frame| frame["symbol"] == "call_in"),
            "{fate}: {named:?}"
        );
        let notes = rows(&process["notes"]);
        let said = format!("no name is known in {name}:");
        assert!(
            notes
                .iter()
                .any(|note| note.as_str().unwrap().starts_with(&said)),
            "{fate}: {notes:?}"
        );
        let _ = fs::remove_file(&library).or_else(|_| fs::remove_dir(&library));
    }
}

#[test]
fn a_rust_program_with_c_in_it_has_frames_of_both() {
    let directory = workspace("mixed_stacks");
    let object = directory.join("mixed_stacks.o");
    let cc = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let output = run(Command::new(cc)
        .args(["-O2", "-g", "-c", "-fno-builtin", "-o"])
        .arg(&object)
        .arg(sources().join("mixed_stacks.c")));
    assert_eq!(output.code(), 0, "{output:?}");
    let built = directory.join("mixed_stacks");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = run(Command::new(rustc)
        .args(["--edition", "2024", "-O", "-g", "-o"])
        .arg(&built)
        .arg(format!("-Clink-arg={}", object.display()))
        .arg(sources().join("mixed_stacks.rs")));
    assert_eq!(output.code(), 0, "{output:?}");
    let recording = record(&directory, "mixed", &built);

    let rust = frames_of(&recording, 20);
    let line = |mark| line_of("mixed_stacks.rs", mark);
    let grow = format!(
        "inlined mixed_stacks::grow@mixed_stacks.rs:{}",
        line("grow")
    );
    let decode = format!("mixed_stacks::decode@mixed_stacks.rs:{}", line("decode"));
    assert!(rust.ends_with(&[grow, decode]), "{rust:#?}");
    assert!(rust[0].starts_with("inlined alloc::"), "{rust:#?}");
    let line = |mark| line_of("mixed_stacks.c", mark);
    assert_eq!(
        frames_of(&recording, 30),
        [
            format!("inlined take_one@mixed_stacks.c:{}", line("take_one")),
            format!("take@mixed_stacks.c:{}", line("take")),
        ]
    );
    let blocks = |side: &str| {
        let options = ["--format", "folded", "--measure", "blocks", "--side", side];
        good(report(&recording, &options))
    };
    assert!(blocks("c").contains("take;take_one 30\n"));
    assert!(!blocks("c").contains("decode"));
    assert!(blocks("rust").contains("mixed_stacks::decode;mixed_stacks::grow;alloc::"));
}

/// Gives the sum of a key over all stacks of all processes.
fn sum_of(json: &Value, key: &str) -> i64 {
    let processes = rows(&json["processes"]);
    let stacks = processes
        .into_iter()
        .flat_map(|process| rows(&process["stacks"]));
    stacks.map(|stack| stack[key].as_i64().unwrap()).sum()
}

fn sum_of_folded(text: &str) -> i64 {
    let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<i64>().unwrap();
    text.lines().map(value).sum()
}

/// Gives what the title of the widest box says: all.
fn sum_of_svg(text: &str) -> i64 {
    let title = text.split_once("<title>all\n").unwrap().1;
    let figure = title.split(' ').next().unwrap();
    figure.replace(',', "").parse().unwrap()
}

#[test]
fn every_format_has_the_same_sums_to_the_byte() {
    let directory = workspace("same_sums");
    let shell = directory.join("shell.hlr");
    let output = run(heapledger()
        .args(["run", "-q", "--mode", "count", "-o"])
        .arg(&shell)
        .args(["--", "sh", "-c", "ls / | sort | cat >/dev/null"]));
    assert_eq!(output.code(), 0, "{output:?}");
    let inlined = cpp_variant(&directory, "inlined", |_| {});
    for (recording, library) in [(&shell, "libc"), (&inlined, "inlined")] {
        let filters: [&[&str]; 6] = [
            &[],
            &["--side", "c"],
            &["--library", library],
            &["--min", "1K"],
            &["--by", "library"],
            &["--by", "scope"],
        ];
        for filter in filters {
            let with = |options: &[&str]| good(report(recording, &[options, filter].concat()));
            for (measure, key) in [
                ("live", "live_bytes"),
                ("allocated", "allocated_bytes"),
                ("peak", "at_peak_bytes"),
                ("blocks", "live_blocks"),
            ] {
                let options = |format| ["--format", format, "--measure", measure];
                let json: Value = serde_json::from_str(&with(&options("json"))).unwrap();
                let sum = sum_of(&json, key);
                let of = format!("{measure} {filter:?} {}", recording.display());
                assert_eq!(sum_of_folded(&with(&options("folded"))), sum, "{of}");
                assert_eq!(sum_of_svg(&with(&options("flamegraph"))), sum, "{of}");
                if filter.is_empty() && measure != "peak" {
                    let totals = rows(&json["processes"]);
                    let totals = totals.iter().map(|process| &process["totals"]["all"][key]);
                    let total: i64 = totals.map(|total| total.as_i64().unwrap()).sum();
                    assert_eq!(sum, total, "{of}");
                }
            }
        }
    }
}

fn go() -> Command {
    let mut go = Command::new("go");
    go.env("GOTOOLCHAIN", "local")
        .env("GOPROXY", "off")
        .env("GOFLAGS", "");
    go
}

fn pprof(profile: &Path, options: &[&str]) -> String {
    let mut command = go();
    command.args(["tool", "pprof"]).args(options).arg(profile);
    let output = run_within(GO_PATIENCE, &mut command);
    assert_eq!(output.code(), 0, "{output:?}");
    output.text
}

#[test]
fn go_tool_pprof_reads_both_sides_and_the_same_sums() {
    let test = "go_tool_pprof_reads_both_sides_and_the_same_sums";
    needs!(test, has_tool("go"), "go");
    let directory = workspace("pprof");
    let recording = cpp_variant(&directory, "inlined", |_| {});
    let profile = directory.join("profile.pb.gz");
    let out = profile.to_str().unwrap();
    let silent = good(report(&recording, &["--format", "pprof", "-o", out]));
    assert_eq!(silent, "");

    let raw = pprof(&profile, &["-raw"]);
    let kinds = "alloc_objects/count alloc_space/bytes inuse_objects/count inuse_space/bytes[dflt]";
    assert!(raw.contains(kinds), "{raw}");
    let samples = raw
        .split_once(kinds)
        .unwrap()
        .1
        .split_once("Locations")
        .unwrap()
        .0;
    let mut sums = [0i64; 4];
    for line in samples.lines().filter(|line| line.contains(": ")) {
        let (values, _) = line.split_once(':').unwrap();
        let values: Vec<i64> = values
            .split_whitespace()
            .filter_map(|value| value.parse().ok())
            .collect();
        if values.len() == 4 {
            (0..4).for_each(|index| sums[index] += values[index]);
        }
    }
    let json = Report::read(&recording).unwrap().json;
    let keys = [
        "allocated_blocks",
        "allocated_bytes",
        "live_blocks",
        "live_bytes",
    ];
    assert_eq!(sums, keys.map(|key| sum_of(&json, key)), "{raw}");
    assert!(raw.contains("side:[c]"), "{raw}");
    let build_id = rows(&json["processes"][0]["libraries"])
        .into_iter()
        .find_map(|library| library["build_id"].as_str().map(str::to_owned));
    assert!(raw.contains(&build_id.unwrap()), "{raw}");

    let top = pprof(&profile, &["-top", "-nodecount=20"]);
    assert!(top.contains("Type: inuse_space"), "{top}");
    assert!(top.contains("codec::Buffer::grow (inline)"), "{top}");
    let line = line_of("inlined.cpp", "Packet::copy");
    let lines = pprof(&profile, &["-top", "-lines", "-sample_index=alloc_objects"]);
    assert!(lines.contains(&format!("inlined.cpp:{line}")), "{lines}");
    assert!(
        pprof(&profile, &["-tags"]).contains("side"),
        "labels are known"
    );
    let focused = pprof(&profile, &["-top", "-tagfocus=side=rust"]);
    assert!(!focused.contains("codec::"), "{focused}");
}

#[test]
fn a_profile_is_not_written_to_a_terminal() {
    let test = "a_profile_is_not_written_to_a_terminal";
    needs!(test, has_tool("script"), "script");
    let directory = workspace("terminal");
    let recording = cpp_variant(&directory, "inlined", |_| {});
    let command = format!(
        "'{}' report '{}' --format pprof",
        env!("CARGO_BIN_EXE_heapledger"),
        recording.display()
    );
    let output = run(Command::new("script").args(["-qec", &command, "/dev/null"]));
    assert_eq!(output.code(), 1, "{output:?}");
    let said = "heapledger: a profile for pprof is not for terminals: name a file with -o OUT";
    assert_eq!(output.text.trim_end(), said);
}

#[test]
fn suppressions_leave_out_what_they_name_everywhere() {
    let directory = workspace("suppressions");
    let recording = cpp_variant(&directory, "inlined", |_| {});
    let file = directory.join("known.supp");
    fs::write(&file, "# known\nleak:^codec::decode*\nrace:other\n").unwrap();
    let option = ["--suppressions", file.to_str().unwrap()];
    let with = |options: &[&str]| good(report(&recording, &[options, &option].concat()));
    assert!(!with(&["--format", "folded"]).contains("decode"));
    assert!(!with(&["--format", "flamegraph"]).contains("decode"));
    let json: Value = serde_json::from_str(&with(&["--format", "json"])).unwrap();
    assert_eq!(json["filter"]["suppressed"]["live_blocks"], 10);
    let names = |list: &str| json["processes"][0][list].to_string();
    assert!(!names("sites").contains("decode") && !names("stacks").contains("decode"));
    let text = with(&[]);
    assert!(text.contains("suppressed: 1 owner with"), "{text}");
    assert!(
        !text.contains("codec::decode") && text.contains("codec::Packet::copy"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_looked_at_is_refused_in_one_line() {
    let directory = workspace("filters_refused");
    let recording = cpp_variant(&directory, "inlined", |_| {});
    let refuses = |options: &[&str], words: &str| refused(&report(&recording, options), 1, words);
    refuses(
        &["--scope", "decode"],
        "no scope `decode` in this recording",
    );
    refuses(&["--library", "libnone"], "no library `libnone`");
    refuses(
        &["--format", "folded", "--measure", "temporary"],
        "--mode full",
    );
    refuses(
        &[
            "--format",
            "folded",
            "--by",
            "thread",
            "--library",
            "inlined",
        ],
        "threads cannot be narrowed",
    );
    refuses(&["--suppressions", "/no/such/file"], "/no/such/file");
    let file = directory.join("wrong.supp");
    fs::write(&file, "leak:x\nnonsense\n").unwrap();
    let wrong = ["--suppressions", file.to_str().unwrap()];
    refuses(&wrong, "line 2: `nonsense` is no suppression");
    let same = ["--format", "pprof", "-o", recording.to_str().unwrap()];
    refuses(&same, "is the recording itself");
    assert_eq!(report(&recording, &["--min", "much"]).code(), 2);
}

fn diff(old: &Path, new: &Path, options: &[&str]) -> Output {
    run(heapledger().arg("diff").args([old, new]).args(options))
}

#[test]
fn two_builds_differ_in_what_one_allocates_more() {
    let directory = workspace("two_builds");
    let build = |name: &str, flags: &[&str]| {
        let built = program("inlined.cpp").called(name).flags(flags);
        record(&directory, name, &built.build(&directory))
    };
    let old = build("player", &[]);
    let kept = directory.join("old.hlr");
    fs::rename(&old, &kept).unwrap();
    // Another build: everything lies elsewhere.
    let new = build("player", &["-DBLOCKS=30", "-O2", "-falign-functions=256"]);
    let grown = 20 * 1000;

    let json: Value =
        serde_json::from_str(&good(diff(&kept, &new, &["--format", "json"]))).unwrap();
    assert_eq!(json["schema"], "heapledger.diff/1");
    let changed = |list: &str| {
        let changed = rows(&json[list]).into_iter();
        let changed = changed.filter(|row| row["change"]["live_blocks"] != 0);
        changed.cloned().collect::<Vec<_>>()
    };
    let [site] = &changed("sites")[..] else {
        panic!("one function allocates more: {json:#}");
    };
    assert_eq!(site["symbol"], "codec::decode(unsigned long)");
    assert_eq!(site["change"]["live_blocks"], 20);
    let bytes = site["change"]["live_bytes"].as_i64().unwrap();
    assert!(bytes >= grown && json["growth"] == bytes, "{json:#}");
    assert_eq!(changed("stacks").len(), 1);

    let text = good(diff(&kept, &new, &[]));
    assert!(text.contains("Call sites (1 grown, 0 shrunk"), "{text}");
    assert!(text.contains("codec::decode(unsigned long)"), "{text}");
    let svg = good(diff(
        &kept,
        &new,
        &["--format", "flamegraph", "--measure", "blocks"],
    ));
    assert!(
        svg.contains("20 blocks more\nfrom 10 blocks to 30 blocks"),
        "{svg}"
    );

    let limit = |limit: &str| diff(&kept, &new, &["--fail-on-growth", limit]);
    assert_eq!(limit("1MiB").code(), 0);
    let exceeded = limit("1000");
    assert_eq!(
        (exceeded.code(), exceeded.text),
        (1, text),
        "it is still shown"
    );
    assert_eq!(
        limit(&bytes.to_string()).code(),
        0,
        "as much as was allowed"
    );
    assert_eq!(
        diff(&new, &kept, &["--fail-on-growth", "0"]).code(),
        0,
        "less is no growth"
    );
    let elsewhere = ["--fail-on-growth", "0", "--side", "rust"];
    assert_eq!(diff(&kept, &new, &elsewhere).code(), 0);
}

#[test]
fn what_cannot_be_compared_ends_with_2() {
    let directory = workspace("diff_refused");
    let good = cpp_variant(&directory, "inlined", |_| {});
    let missing = directory.join("missing.hlr");
    refused(&diff(&good, &missing, &[]), 2, "missing.hlr");
    refused(
        &diff(&missing, &good, &["--fail-on-growth", "0"]),
        2,
        "missing.hlr",
    );
    let noise = directory.join("noise.hlr");
    fs::write(&noise, "no recording at all").unwrap();
    refused(&diff(&noise, &good, &[]), 2, "not a heapledger recording");
    refused(
        &diff(&good, &good, &["--library", "libnone"]),
        2,
        "no library `libnone`",
    );
    let out = ["-o", good.to_str().unwrap()];
    refused(&diff(&good, &good, &out), 2, "is the recording itself");
    let output = diff(&good, &good, &["--fail-on-growth", "some"]);
    assert_eq!((output.code(), output.text.as_str()), (2, ""), "{output:?}");
    let one = run(heapledger().arg("diff").arg(&good));
    assert_eq!(one.code(), 2, "{one:?}");
}
