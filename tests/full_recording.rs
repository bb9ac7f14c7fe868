//! `heapledger run --mode full`: every stack by name and line, and figures that are exact
//! to the byte: leaks, the peak, and what is freed at once.
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

use heapledger::Side;
use heapledger::recording::Recording;
use heapledger::recording::model::{Mode, Process, Stack};
use serde_json::Value;

use common::report::{Report, rows, sum};
use common::{
    Case, Output, assert_same, has_tool, heapledger, preload_library, program, run, skip, sources,
    workspace,
};

const FULL: &[&str] = &["--mode", "full"];
const COUNT: &[&str] = &["--mode", "count"];

fn recorded(recording: &Path, options: &[&str], program: &Path, words: &[&str]) -> Output {
    run(heapledger()
        .args(["run", "-q", "-o"])
        .arg(recording)
        .args(options)
        .arg("--")
        .arg(program)
        .args(words))
}

/// Records a program that ends well.
fn record(directory: &Path, options: &[&str], program: &Path, words: &[&str]) -> PathBuf {
    let name = program.file_name().unwrap().to_str().unwrap();
    let parent = program
        .parent()
        .unwrap()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap();
    let name = [parent, name, &options.concat(), &words.concat()].concat();
    let recording = directory.join(format!("{name}.hlr"));
    let output = recorded(&recording, options, program, words);
    assert_eq!(
        (output.code(), output.error.as_str()),
        (0, ""),
        "{output:?}"
    );
    recording
}

fn exact_figures(directory: &Path) -> PathBuf {
    program("exact_figures.c")
        .flags(["-O2", "-fomit-frame-pointer"])
        .build(directory)
}

fn show(recording: &Path, options: &[&str]) -> Output {
    run(heapledger().arg("report").arg(recording).args(options))
}

/// What glibc's malloc gives to a request.
fn usable(bytes: i64) -> i64 {
    (bytes + 8 + 15) / 16 * 16 - 8
}

fn functions(stack: &Value) -> Vec<&str> {
    let frames = rows(&stack["frames"]).into_iter();
    frames
        .map(|frame| frame["symbol"].as_str().unwrap_or("-"))
        .collect()
}

/// Gives the sums of the stacks that begin so: allocated, live, at the peak, temporary; each
/// as blocks and bytes.
fn figures(process: &Value, innermost: &[&str]) -> [(i64, i64); 4] {
    let stacks: Vec<&Value> = rows(&process["stacks"])
        .into_iter()
        .filter(|stack| functions(stack).starts_with(innermost))
        .collect();
    assert!(!stacks.is_empty(), "no stack {innermost:?} in {process:#}");
    ["allocated", "live", "peak", "temporary"].map(|name| {
        let of = |what: &str| sum(&stacks, &format!("{name}_{what}"));
        (of("blocks"), of("bytes"))
    })
}

/// By place, whether it is Rust, and scope: live bytes and blocks, allocated bytes and blocks.
type Books = BTreeMap<(u32, bool, Option<u32>), (i64, i64, u64, u64)>;

fn books_of_owners(process: &Process) -> Books {
    let mut books = Books::new();
    for owner in &process.owners {
        let key = (owner.site, owner.side == Side::Rust, owner.scope);
        let (row, counts) = (books.entry(key).or_default(), &owner.counts);
        row.0 += counts.live_bytes;
        row.1 += counts.live_blocks;
        row.2 += counts.allocated_bytes;
        row.3 += counts.allocated_blocks;
    }
    books
}

fn books_of_stacks(process: &Process) -> Books {
    let mut books = Books::new();
    for stack in &process.stacks {
        let Stack { side, scope, .. } = *stack;
        let key = (stack.frames[0], side == Side::Rust, scope);
        let (row, figures) = (books.entry(key).or_default(), &stack.figures);
        row.0 += figures.live_bytes;
        row.1 += figures.live_blocks;
        row.2 += figures.allocated_bytes;
        row.3 += figures.allocated_blocks;
    }
    books
}

/// Holds the stacks of a recording to its own books, place by place.
fn assert_stacks_are_the_books(recording: &Path) {
    let found = Recording::open(recording).unwrap();
    for process in &found.processes {
        assert_eq!(process.mode, Mode::Full);
        assert_eq!(books_of_stacks(process), books_of_owners(process));
        assert_eq!(process.misuses, []);
    }
    let report = Report::read(recording).unwrap();
    report.assert_books_hold();
}

/// What must not depend on the mode, as text.
fn exact_books(recording: &Path) -> Vec<String> {
    let report = Report::read(recording).unwrap();
    let exact = |process: &&Value| {
        let mut totals = process["totals"].clone();
        for side in ["c", "rust", "all"] {
            totals[side]["peak_live_bytes"].take();
        }
        let sites = rows(&process["sites"]).into_iter().map(|site| {
            let mut site = site.clone();
            for name in ["at_peak_bytes", "at_peak_blocks", "symbol", "file", "line"] {
                site[name].take();
            }
            site.to_string()
        });
        let mut sites: Vec<String> = sites.collect();
        sites.sort();
        format!("{totals} {sites:#?}")
    };
    report.processes().iter().map(exact).collect()
}

#[test]
fn a_program_has_the_ledger_that_it_states() {
    Case::of("exact_figures.c").check_with(FULL);
    Case::of("call_chain.c").check_with(FULL);
}

#[test]
fn leaks_peak_and_temporaries_are_exact_by_stack() {
    let directory = workspace("full_figures");
    let program = exact_figures(&directory);
    let recording = record(&directory, FULL, &program, &[]);
    assert_stacks_are_the_books(&recording);
    let report = Report::read(&recording).unwrap();
    let root = report.root();
    assert_eq!(
        (&root["mode"], &root["stacks_exact"]),
        (&"full".into(), &true.into())
    );
    let (none, bytes) = ((0, 0), |blocks: i64, size| (blocks, blocks * usable(size)));
    let kept = |blocks| bytes(blocks, 5000);
    let work = |innermost: &[&'static str]| [innermost, &["work", "main"]].concat();
    assert_eq!(
        figures(root, &work(&["keep", "before"])),
        [kept(10), kept(10), kept(10), none]
    );
    assert_eq!(
        figures(root, &work(&["keep", "after"])),
        [kept(20), kept(20), none, none]
    );
    let held = bytes(100, 100_000);
    assert_eq!(figures(root, &work(&["hold"])), [held, none, held, none]);
    let gone = bytes(1000, 200);
    assert_eq!(
        figures(root, &work(&["fleeting"])),
        [gone, none, none, gone]
    );
    let lasted = (1000, 500 * (usable(300) + usable(400)));
    assert_eq!(
        figures(root, &work(&["lasting"])),
        [lasted, none, none, none]
    );

    let stacks = rows(&root["stacks"]);
    let peak = sum(&stacks, "peak_bytes");
    assert_eq!(root["peak"]["live_bytes"], peak);
    assert_eq!(root["totals"]["all"]["peak_live_bytes"], peak);
    assert_eq!(root["peak"]["captured_live_bytes"], peak);
    assert_eq!(sum(&rows(&root["peak"]["sites"]), "live_bytes"), peak);
}

#[test]
fn the_books_do_not_depend_on_the_mode() {
    let directory = workspace("full_totals");
    let programs = [
        exact_figures(&directory),
        program("call_chain.c").build(&directory),
    ];
    for program in &programs {
        for word in ["", "threads", "fork"] {
            let counted = exact_books(&record(&directory, COUNT, program, &[word]));
            let full = exact_books(&record(&directory, FULL, program, &[word]));
            assert_eq!(full, counted, "{} {word}", program.display());
        }
    }
}

#[test]
fn each_thread_has_its_stacks() {
    let directory = workspace("full_threads");
    let program = exact_figures(&directory);
    let recording = record(&directory, FULL, &program, &["threads"]);
    assert_stacks_are_the_books(&recording);
    let report = Report::read(&recording).unwrap();
    let stacks = rows(&report.root()["stacks"]);
    let before = stacks
        .iter()
        .filter(|stack| functions(stack).starts_with(&["keep", "before", "work"]));
    let mut held: Vec<_> = before
        .map(|stack| {
            (
                stack["tid"].as_u64().unwrap(),
                stack["live_blocks"].as_i64().unwrap(),
            )
        })
        .collect();
    held.dedup_by_key(|(tid, _)| *tid);
    assert_eq!(
        held.iter().map(|(_, blocks)| *blocks).collect::<Vec<_>>(),
        [10, 10]
    );
    assert_eq!(
        figures(report.root(), &["fleeting", "work"])[3],
        (2000, 2000 * usable(200))
    );
}

#[test]
fn a_killed_program_keeps_its_stacks() {
    let directory = workspace("full_kill");
    let program = exact_figures(&directory);
    let recording = directory.join("killed.hlr");
    let output = recorded(&recording, FULL, &program, &["kill"]);
    assert_eq!(output.code(), 137, "{output:?}");
    assert_stacks_are_the_books(&recording);
    let report = Report::read(&recording).unwrap();
    assert_eq!(report.root()["outcome"]["signal"], "SIGKILL");
    assert_eq!(figures(report.root(), &["keep", "after"])[1].0, 20);
}

#[test]
fn the_ledger_of_a_killed_program_has_its_stacks_without_a_recorder() {
    let directory = workspace("full_ledgers");
    let program = exact_figures(&directory);
    let ledgers = directory.join("ledgers");
    fs::create_dir(&ledgers).unwrap();
    let output = run(Command::new(&program)
        .arg("kill")
        .env("LD_PRELOAD", preload_library())
        .env("HEAPLEDGER_DIR", &ledgers)
        .env("HEAPLEDGER_MODE", "full"));
    assert_eq!(output.code(), 137, "{output:?}");
    let report = Report::read(&ledgers).unwrap();
    assert_eq!(report.root()["mode"], "full");
    assert_eq!(figures(report.root(), &["fleeting"])[3].0, 1000);
}

#[test]
fn a_forked_child_goes_on_with_what_it_inherited() {
    let directory = workspace("full_fork");
    let program = exact_figures(&directory);
    let recording = record(&directory, FULL, &program, &["fork"]);
    let report = Report::read(&recording).unwrap();
    assert_eq!(report.violations(), Vec::<String>::new());
    let [parent, child] = report.processes()[..] else {
        panic!("{report}");
    };
    let live = |process, innermost: &[&str]| figures(process, innermost)[1].0;
    assert_eq!(live(parent, &["keep", "before", "work"]), 10);
    assert_eq!(live(parent, &["keep", "after"]), 20);
    // The child has freed the ten of `before` and five of `after`.
    assert_eq!(live(child, &["keep", "before", "work"]), 0);
    assert_eq!(live(child, &["keep", "after"]), 15);
    assert_eq!(live(child, &["keep", "before", "main"]), 10);
    assert_eq!(rows(&child["misuse"]).len(), 0);
}

#[test]
fn children_are_recorded_in_mode_full_as_well() {
    let directory = workspace("full_children");
    let program = exact_figures(&directory);
    let recording = directory.join("r.hlr");
    let output = run(heapledger()
        .args(["run", "-q", "--mode", "full", "-o"])
        .arg(&recording)
        .args(["--", "sh", "-c", "\"$0\"; true"])
        .arg(&program));
    assert_eq!(output.code(), 0, "{output:?}");
    let report = Report::read(&recording).unwrap();
    let modes: Vec<_> = report
        .processes()
        .iter()
        .map(|process| &process["mode"])
        .collect();
    assert_eq!(modes, ["full", "full"]);
    let child = report.processes_of("exact_figures")[0];
    assert_eq!(figures(child, &["keep", "before"])[1].0, 10);
}

#[test]
fn every_format_has_the_same_sums_to_the_byte() {
    let directory = workspace("full_formats");
    let program = exact_figures(&directory);
    let recording = record(&directory, FULL, &program, &["threads"]);
    let report = Report::read(&recording).unwrap();
    let root = report.root();
    let stacks = rows(&root["stacks"]);
    for (measure, key) in [
        ("live", "live_bytes"),
        ("allocated", "allocated_bytes"),
        ("peak", "peak_bytes"),
        ("temporary", "temporary_bytes"),
        ("blocks", "live_blocks"),
    ] {
        let with = |format| {
            let output = show(&recording, &["--format", format, "--measure", measure]);
            assert_eq!(
                (output.code(), output.error.as_str()),
                (0, ""),
                "{output:?}"
            );
            output.text
        };
        let all = sum(&stacks, key);
        assert!(all > 0, "{measure}");
        let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<i64>().unwrap();
        assert_eq!(
            with("folded").lines().map(value).sum::<i64>(),
            all,
            "{measure}"
        );
        let svg = with("flamegraph");
        let widest = svg.split_once("<title>all\n").unwrap().1;
        let figure = widest.split(' ').next().unwrap().replace(',', "");
        assert_eq!(figure, all.to_string(), "{measure}");
        if ["live", "allocated", "blocks"].contains(&measure) {
            assert_eq!(root["totals"]["all"][key], all, "{measure}");
        }
        let profile = directory.join(measure);
        let out = [
            "--format",
            "pprof",
            "--measure",
            measure,
            "-o",
            profile.to_str().unwrap(),
        ];
        assert_eq!(show(&recording, &out).code(), 0);
        assert!(fs::read(&profile).unwrap().starts_with(&[0x1f, 0x8b]));
    }
    let text = show(&recording, &[]).text;
    for title in [
        "At the peak, by stack",
        "Live at the end, by stack",
        "Temporary allocations, freed by the next operation",
    ] {
        assert!(text.contains(title), "{title}: {text}");
    }
    assert!(
        text.contains("2,000 blocks with 391 KiB, 100 % of what was allocated there"),
        "{text}"
    );
}

#[test]
fn two_recordings_differ_by_stack_exactly() {
    let directory = workspace("full_diff");
    let build = |name: &str, flags: &[&str]| {
        let place = directory.join(name);
        fs::create_dir(&place).unwrap();
        program("inlined.cpp")
            .called("player")
            .flags(flags)
            .build(&place)
    };
    let player = build("new", &["-O2", "-DBLOCKS=30", "-falign-functions=256"]);
    let old = record(&directory, FULL, &build("old", &["-O2"]), &[]);
    let new = record(&directory, FULL, &player, &[]);
    let output = run(heapledger().arg("diff").args([&old, &new]).args([
        "--format",
        "json",
        "--measure",
        "blocks",
    ]));
    assert_eq!(output.code(), 0, "{output:?}");
    let json: Value = serde_json::from_str(&output.text).unwrap();
    let changed: Vec<&Value> = rows(&json["stacks"])
        .into_iter()
        .filter(|row| row["change"]["live_blocks"] != 0)
        .collect();
    let [stack] = changed[..] else {
        panic!("one stack allocates more: {json:#}");
    };
    assert_eq!(
        functions(stack)[2],
        "codec::decode(unsigned long)",
        "{stack:#}"
    );
    assert_eq!(stack["change"]["live_bytes"], 20 * usable(1000));
    let sampled = record(&directory, &["--mode", "sample"], &player, &[]);
    let output = run(heapledger().arg("diff").args([&old, &sampled]));
    assert!(
        output.text.contains("stacks are not compared"),
        "{output:?}"
    );
}

#[test]
fn what_is_charged_by_name_has_no_stack_and_hurts_no_sum() {
    let directory = workspace("full_charges");
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = directory.join("scopes");
    let cc = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let output = run(Command::new(cc)
        .arg("-g")
        .arg(format!("-I{}", package.join("include").display()))
        .arg("-o")
        .args([&program, &package.join("examples/c/scopes.c")]));
    assert_eq!(output.code(), 0, "{output:?}");
    let recording = directory.join("r.hlr");
    let output = recorded(&recording, FULL, &program, &[]);
    assert_eq!(output.code(), 0, "{output:?}");
    let report = Report::read(&recording).unwrap();
    report.assert_books_hold();
    let root = report.root();
    assert_eq!(
        figures(root, &["decode", "main"])[2],
        (100, 100 * usable(4000))
    );
    let peak = rows(&root["peak"]["sites"]);
    assert!(
        peak.iter().any(|site| site["symbol"] == "textures"),
        "{report}"
    );
    let scopes: Vec<_> = rows(&root["stacks"])
        .into_iter()
        .filter(|stack| functions(stack).starts_with(&["decode", "main"]))
        .map(|stack| &stack["scope"])
        .collect();
    assert_eq!(scopes, ["decode"]);
    let text = show(&recording, &[]).text;
    assert!(
        text.contains("what was charged by name has no stack"),
        "{text}"
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

/// Gives a frame as `symbol@line`, with `inlined ` in front where it is.
fn shown(frame: &Value) -> String {
    let inlined = if frame["inlined"] == true {
        "inlined "
    } else {
        ""
    };
    let symbol = frame["symbol"].as_str().unwrap_or("-");
    match frame["line"].as_u64() {
        Some(line) => format!("{inlined}{symbol}@{line}"),
        None => format!("{inlined}{symbol}"),
    }
}

/// Gives the innermost frames of the stacks through a function, as far as `main`, with the
/// live blocks that they hold together.
fn stacks_through(recording: &Path, function: &str, outermost: &str) -> BTreeMap<Vec<String>, i64> {
    let report = Report::read(recording).unwrap();
    let mut found = BTreeMap::new();
    for stack in rows(&report.root()["stacks"]) {
        let functions = functions(stack);
        if functions.contains(&function) {
            let end = functions.iter().position(|name| *name == outermost);
            let end = end.unwrap_or_else(|| panic!("{stack:#} does not lead to {outermost}"));
            let frames = rows(&stack["frames"]);
            let path: Vec<String> = frames[..end].iter().map(|frame| shown(frame)).collect();
            *found.entry(path).or_default() += stack["live_blocks"].as_i64().unwrap();
        }
    }
    found
}

fn strip(program: &Path, option: &str) -> PathBuf {
    // A library is called as its file is.
    let directory = program.parent().unwrap().join(option);
    fs::create_dir(&directory).unwrap();
    let stripped = directory.join(program.file_name().unwrap());
    let output = run(Command::new("strip")
        .arg(option)
        .arg("-o")
        .args([&stripped, program]));
    assert_eq!(output.code(), 0, "{output:?}");
    stripped
}

#[test]
fn a_cpp_program_has_its_stacks_by_name_and_line_and_without_debug_information_by_name() {
    const TEST: &str = "full_cpp";
    if !has_tool("strip") {
        return skip(TEST, "strip");
    }
    let directory = workspace(TEST);
    let program = program("inlined.cpp")
        .flags(["-O2", "-fomit-frame-pointer"])
        .build(&directory);
    let recording = record(&directory, FULL, &program, &[]);
    assert_stacks_are_the_books(&recording);
    let books = exact_books(&recording);
    let line = |mark| line_of("inlined.cpp", mark);
    let decode = vec![
        format!(
            "inlined codec::Buffer::grow(unsigned long)@{}",
            line("Buffer::grow")
        ),
        format!(
            "inlined codec::Buffer codec::filled<codec::Buffer>(unsigned long)@{}",
            line("filled")
        ),
        format!("codec::decode(unsigned long)@{}", line("decode")),
    ];
    let through =
        |recording: &Path| stacks_through(recording, "codec::decode(unsigned long)", "main");
    assert_eq!(through(&recording), BTreeMap::from([(decode, 10)]));

    let stripped = strip(&program, "--strip-debug");
    let named = record(&directory, FULL, &stripped, &[]);
    let decode = vec!["codec::decode(unsigned long)".to_owned()];
    assert_eq!(through(&named), BTreeMap::from([(decode, 10)]));
    assert_eq!(exact_books(&named), books);

    // Without any symbol the stack is as deep, and found as well.
    let bare = record(&directory, FULL, &strip(&program, "--strip-all"), &[]);
    let depth = |recording: &Path| {
        let report = Report::read(recording).unwrap();
        let stacks = rows(&report.root()["stacks"]);
        let stack = stacks
            .iter()
            .find(|stack| stack["live_blocks"] == 10)
            .unwrap();
        let frames = rows(&stack["frames"]);
        frames
            .iter()
            .filter(|frame| frame["inlined"] == false)
            .count()
    };
    assert_eq!(depth(&bare), depth(&recording));
}

fn build_mixed(directory: &Path) -> PathBuf {
    let object = directory.join("mixed_stacks.o");
    let cc = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let output = run(Command::new(cc)
        .args([
            "-O2",
            "-g",
            "-c",
            "-fno-builtin",
            "-fomit-frame-pointer",
            "-o",
        ])
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
    built
}

#[test]
fn a_rust_program_with_c_in_it_has_its_stacks_with_debug_information_and_without() {
    const TEST: &str = "full_mixed";
    const MAIN: &str = "mixed_stacks::main";
    if !has_tool("strip") {
        return skip(TEST, "strip");
    }
    let directory = workspace(TEST);
    let program = build_mixed(&directory);
    let recording = record(&directory, FULL, &program, &[]);
    assert_stacks_are_the_books(&recording);
    let own = |recording: &Path, function: &str| -> BTreeMap<Vec<String>, i64> {
        let mut found = BTreeMap::new();
        // What the standard library inlines differs from version to version.
        for (path, blocks) in stacks_through(recording, function, MAIN) {
            let is_own = |name: &String| name.contains("mixed_stacks::") || name.contains("take");
            *found
                .entry(path.into_iter().filter(is_own).collect())
                .or_default() += blocks;
        }
        found
    };
    let rust = |mark| line_of("mixed_stacks.rs", mark);
    let decode = vec![
        format!("inlined mixed_stacks::grow@{}", rust("grow")),
        format!("mixed_stacks::decode@{}", rust("decode")),
    ];
    assert_eq!(
        own(&recording, "mixed_stacks::decode"),
        BTreeMap::from([(decode, 20)])
    );
    let c = |mark| line_of("mixed_stacks.c", mark);
    let take = vec![
        format!("inlined take_one@{}", c("take_one")),
        format!("take@{}", c("take")),
    ];
    assert_eq!(own(&recording, "take"), BTreeMap::from([(take, 30)]));

    let named = record(&directory, FULL, &strip(&program, "--strip-debug"), &[]);
    let decode = vec!["mixed_stacks::decode".to_owned()];
    assert_eq!(
        own(&named, "mixed_stacks::decode"),
        BTreeMap::from([(decode, 20)])
    );
    assert_eq!(
        own(&named, "take"),
        BTreeMap::from([(vec!["take".to_owned()], 30)])
    );
}

#[test]
fn the_summary_says_what_is_known_of_single_allocations() {
    let directory = workspace("full_summary");
    let program = exact_figures(&directory);
    let summary = |options: &[&str]| {
        let output = run(heapledger()
            .args(["run", "-o"])
            .arg(directory.join("r.hlr"))
            .args(options)
            .arg("--")
            .arg(&program));
        assert_eq!(output.code(), 0, "{output:?}");
        output.error
    };
    let full = summary(FULL);
    let report = Report::read(&directory.join("r.hlr")).unwrap();
    let allocated = report.root()["totals"]["all"]["allocated_blocks"]
        .as_u64()
        .unwrap();
    let stacks = rows(&report.root()["stacks"]).len();
    let thousands = format!("{},{:03}", allocated / 1000, allocated % 1000);
    let line = format!("{thousands} allocations with their stacks, {stacks} stacks in all");
    assert!(full.contains(&line), "{line}: {full}");
    assert!(!full.contains("misuse"), "{full}");
    let sampled = summary(&["--sample-bytes", "4K"]);
    assert!(
        sampled.contains("samples, one in 4.0 KiB on average"),
        "{sampled}"
    );
    assert!(
        summary(COUNT).contains("no stacks were kept (--mode count)"),
        "{full}"
    );
}

#[test]
fn a_program_in_mode_full_behaves_as_bare() {
    let directory = workspace("full_bare");
    let recording = directory.join("r.hlr");
    let script = "ls /usr/bin | sort | head -3; echo told >&2; exit 7";
    let bare = run(Command::new("sh").args(["-c", script]));
    let recorded = recorded(&recording, FULL, Path::new("sh"), &["-c", script]);
    assert_same(&bare, &recorded);
    let report = Report::read(&recording).unwrap();
    assert_eq!(report.violations(), Vec::<String>::new());
    for process in report.processes() {
        assert_eq!(rows(&process["misuse"]).len(), 0, "{report}");
    }
}
