//! heapledger, valgrind's dhat and heaptrack on one program: call by call they
//! count the same, but for the differences that stand here, with their reasons.
#![cfg(all(
    feature = "cli",
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use common::report::{Report, rows};
use common::{Case, has_tool, heapledger, program, run, run_within, workspace};

/// valgrind takes its time.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is known of a function's blocks; bytes as they were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Figures {
    blocks: u64,
    bytes: u64,
    left_blocks: u64,
    left_bytes: u64,
    /// When most bytes were live.
    peak_bytes: u64,
}

/// By stack, from `main` on: `main;some;by_malloc`.
type Table = BTreeMap<String, Figures>;

/// One function of `agreement.c`: its callers, how many bytes it asks for, how
/// often, and how many of the blocks are left at the end.
type Calls = (&'static str, u64, u64, u64);

const PROGRAM: &[Calls] = &[
    ("main;some;by_malloc", 1000, 100, 40),
    ("main;some;by_calloc", 300, 50, 50),
    ("main;to_be_moved", 64, 20, 0),
    ("main;by_realloc", 640, 20, 20),
    ("main;some;by_realloc_of_null", 200, 10, 10),
    ("main;to_become_nothing", 700, 10, 0),
    ("main;to_stay", 90, 3, 3),
    ("main;some;by_posix_memalign", 400, 12, 6),
    ("main;some;by_aligned_alloc", 512, 11, 11),
    ("main;some;by_valloc", 100, 2, 2),
    ("main;some;by_memalign", 500, 15, 5),
    ("main;some;by_pvalloc", 100, 3, 3),
    ("main;some;of_longer_life", 56, 7, 0),
    ("main;of_short_life", 48, 30, 0),
    ("main;at_the_peak", 100_000, 1, 0),
];

/// Of these, freed by the next call of the family: all of `of_short_life`, and the largest.
const TEMPORARY: u64 = 31;

/// valgrind 3.19 ends a program that calls pvalloc.
const WITHOUT_PVALLOC: &[&str] = &["pvalloc-not"];

/// What the program does, as nobody could deny it.
fn truth(words: &[&str]) -> Table {
    let is_called = |calls: &&Calls| words.is_empty() || !calls.0.ends_with("by_pvalloc");
    let figures = |&(stack, size, blocks, left_blocks): &Calls| {
        let left_bytes = left_blocks * size;
        // What is left is there at the peak, and one block more.
        let is_highest = stack.ends_with("at_the_peak");
        let peak_bytes = if is_highest { size } else { left_bytes };
        let bytes = blocks * size;
        let figures = Figures {
            blocks,
            bytes,
            left_blocks,
            left_bytes,
            peak_bytes,
        };
        (stack.to_owned(), figures)
    };
    PROGRAM.iter().filter(is_called).map(figures).collect()
}

fn built(directory: &Path) -> PathBuf {
    program("agreement.c").build(directory)
}

/// A stack from `main` on, of frames from the innermost out.
fn path<'a>(innermost_first: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut names: Vec<&str> = innermost_first.collect();
    let main = names.iter().position(|name| *name == "main")?;
    names.truncate(main + 1);
    names.reverse();
    Some(names.join(";"))
}

/// Gives what heapledger says of the function at the end of a stack.
fn size_of(stack: &str) -> u64 {
    let calls = PROGRAM.iter().find(|calls| calls.0 == stack);
    calls
        .unwrap_or_else(|| panic!("no {stack} in the program"))
        .1
}

/// Books by stack where the mode has them, else by call site, which is told its callers
/// here. Live bytes are the allocator's own there, so bytes are blocks by their one size.
fn of_heapledger(report: &Report, has_stacks: bool, peak: &str) -> Table {
    let root = report.root();
    let mut table = Table::new();
    let count = |row: &Value, key: &str| {
        let count = row[key].as_u64();
        count.unwrap_or_else(|| panic!("no {key} in {row}"))
    };
    for row in rows(&root[if has_stacks { "stacks" } else { "sites" }]) {
        let stack = match has_stacks {
            true => path(
                rows(&row["frames"])
                    .into_iter()
                    .filter_map(|frame| frame["symbol"].as_str()),
            ),
            false => {
                let symbol = row["symbol"].as_str().unwrap_or_default();
                let calls = PROGRAM
                    .iter()
                    .find(|calls| calls.0.rsplit(';').next() == Some(symbol));
                calls.map(|calls| calls.0.to_owned())
            }
        };
        let stack = stack.unwrap_or_else(|| panic!("a stack of nobody's: {row:#}"));
        let size = size_of(&stack);
        let [blocks, left_blocks] = ["allocated_blocks", "live_blocks"].map(|key| count(row, key));
        let added = table.entry(stack).or_default();
        added.blocks += blocks;
        added.bytes += blocks * size;
        added.left_blocks += left_blocks;
        added.left_bytes += left_blocks * size;
        if has_stacks && !row[peak].is_null() {
            added.peak_bytes += count(row, peak) * size;
        }
    }
    for row in rows(&root["peak"]["sites"])
        .into_iter()
        .filter(|_| !has_stacks)
    {
        let symbol = row["symbol"].as_str().unwrap_or_default();
        let named = |(stack, _): &(&String, &mut Figures)| stack.rsplit(';').next() == Some(symbol);
        if let Some((stack, figures)) = table.iter_mut().find(named) {
            figures.peak_bytes += count(row, "live_blocks") * size_of(stack);
        }
    }
    table
}

/// Runs dhat, and puts its functions of malloc's own aside.
fn of_dhat(directory: &Path, built: &Path, words: &[&str]) -> Table {
    let out = directory.join("dhat.out");
    let output = run_within(
        PATIENCE,
        Command::new("valgrind")
            .args(["-q", "--tool=dhat"])
            .arg(format!("--dhat-out-file={}", out.display()))
            .arg(built)
            .args(words),
    );
    assert_eq!(output.code(), 0, "{output:?}");
    let text = fs::read_to_string(&out).expect("dhat wrote its file");
    let json: Value = serde_json::from_str(&text).expect("dhat writes JSON");
    let frames = rows(&json["ftbl"]);
    let name = |index: &Value| {
        // 0x109201: by_malloc (agreement.c:45)
        let text = frames[index.as_u64().expect("an index") as usize]
            .as_str()
            .unwrap_or_default();
        let name = text.split_once(": ").map_or(text, |(_, name)| name);
        name.split(" (").next().unwrap_or_default()
    };
    let own = [
        "malloc",
        "calloc",
        "realloc",
        "memalign",
        "posix_memalign",
        "aligned_alloc",
        "valloc",
    ];
    let mut table = Table::new();
    for point in rows(&json["pps"]) {
        let names = rows(&point["fs"]).into_iter().map(name);
        let Some(stack) = path(names.filter(|name| !own.contains(name))) else {
            panic!("dhat saw what is not of main: {point}");
        };
        let count = |key: &str| {
            point[key]
                .as_u64()
                .unwrap_or_else(|| panic!("no {key}: {point}"))
        };
        let added = table.entry(stack).or_default();
        added.blocks += count("tbk");
        added.bytes += count("tb");
        added.left_blocks += count("ebk");
        added.left_bytes += count("eb");
        added.peak_bytes += count("gb");
    }
    table
}

/// Runs heaptrack. Gives what it says by stack, and its own sum of temporary blocks.
fn of_heaptrack(directory: &Path, built: &Path, words: &[&str]) -> (Table, u64) {
    let output = run_within(
        PATIENCE,
        Command::new("heaptrack")
            .arg("-o")
            .arg(directory.join("track"))
            .arg(built)
            .args(words),
    );
    assert_eq!(output.code(), 0, "{output:?}");
    // The interpreter, beside the program, counts by block.
    let text = output.text + &output.error;
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("temporary allocations:"));
    let temporary = line.and_then(|count| count.trim().parse().ok());
    let temporary = temporary.unwrap_or_else(|| panic!("no temporary allocations in {text}"));
    // Compressed by what it found installed.
    let entries = fs::read_dir(directory).expect("the workspace").flatten();
    let data = entries.map(|entry| entry.path()).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("track.")
    });
    let data = data.unwrap_or_else(|| panic!("heaptrack wrote nothing: {text}"));
    let mut table = Table::new();
    for (cost, to) in [
        (
            "allocations",
            (|figures, count| figures.blocks += count) as fn(&mut Figures, u64),
        ),
        ("leaked", |figures, count| figures.left_bytes += count),
        ("peak", |figures, count| figures.peak_bytes += count),
    ] {
        let folded = directory.join(cost);
        let output = run_within(
            PATIENCE,
            Command::new("heaptrack_print")
                .arg("-f")
                .arg(&data)
                .args(["--flamegraph-cost-type", cost, "-F"])
                .arg(&folded),
        );
        assert_eq!(output.code(), 0, "{output:?}");
        for line in fs::read_to_string(&folded)
            .expect("it wrote its stacks")
            .lines()
        {
            // main (agreement.c);some (agreement.c);by_malloc (agreement.c); 100
            let (stack, count) = line.rsplit_once(' ').expect("a line ends in a number");
            let names = stack.trim_end_matches(';').rsplit(';');
            let names = names.map(|frame| frame.split(" (").next().unwrap_or_default());
            // Its own library brings C++'s, which allocates when it is loaded.
            if let Some(stack) = path(names) {
                let figures = table.entry(stack).or_default();
                to(figures, count.parse().expect("a number"));
            }
        }
    }
    for (stack, figures) in &mut table {
        let size = size_of(stack);
        figures.bytes = figures.blocks * size;
        figures.left_blocks = figures.left_bytes / size;
    }
    (table, temporary)
}

fn sums(table: &Table) -> Figures {
    let mut sums = Figures::default();
    for figures in table.values() {
        sums.blocks += figures.blocks;
        sums.bytes += figures.bytes;
        sums.left_blocks += figures.left_blocks;
        sums.left_bytes += figures.left_bytes;
        sums.peak_bytes += figures.peak_bytes;
    }
    sums
}

#[test]
fn the_program_has_the_ledger_that_it_states_in_every_mode() {
    let directory = workspace("agreement_stated");
    let built = built(&directory);
    Case::new(&directory, "agreement.c", built).check();
}

#[test]
fn heapledger_counts_what_the_program_does() {
    let directory = workspace("agreement_heapledger");
    let built = built(&directory);
    let record = |options: &[&str]| {
        let recording = directory.join("recording.hlr");
        let output = run(heapledger()
            .args(["run", "-q"])
            .args(options)
            .arg("-o")
            .arg(&recording)
            .arg("--")
            .arg(&built));
        assert_eq!(output.code(), 0, "{output:?}");
        Report::read(&recording).unwrap()
    };
    let truth = truth(&[]);
    let counted = record(&["--mode", "count"]);
    assert_eq!(of_heapledger(&counted, false, ""), truth, "{counted}");
    let every_byte = record(&["--mode", "sample", "--sample-bytes", "1"]);
    let full = record(&["--mode", "full"]);
    assert_eq!(
        of_heapledger(&full, true, "at_peak_blocks"),
        truth,
        "{full}"
    );
    let temporary: Vec<(String, u64)> = rows(&full.root()["stacks"])
        .into_iter()
        .filter(|stack| stack["temporary_blocks"] != 0)
        .map(|stack| {
            let blocks = stack["temporary_blocks"].as_u64();
            let innermost = stack["frames"][0]["symbol"].as_str();
            (
                innermost.unwrap_or_default().to_owned(),
                blocks.unwrap_or(0),
            )
        })
        .collect();
    let expected = [
        ("of_short_life".to_owned(), 30),
        ("at_the_peak".to_owned(), 1),
    ];
    assert!(
        expected.iter().all(|of| temporary.contains(of)),
        "{temporary:?}"
    );
    assert_eq!(temporary.iter().map(|of| of.1).sum::<u64>(), TEMPORARY);
    let mut without_peak = truth;
    for figures in without_peak.values_mut() {
        figures.peak_bytes = 0;
    }
    let stacks = of_heapledger(&every_byte, true, "");
    assert_eq!(stacks, without_peak, "{every_byte}");
}

#[test]
fn dhat_counts_the_same_but_books_a_moved_block_where_it_began() {
    let test = "dhat_counts_the_same_but_books_a_moved_block_where_it_began";
    needs!(test, has_tool("valgrind"), "valgrind");
    let directory = workspace("agreement_dhat");
    let dhat = of_dhat(&directory, &built(&directory), WITHOUT_PVALLOC);
    let truth = truth(WITHOUT_PVALLOC);
    // All in all there is no difference.
    assert_eq!(sums(&dhat), sums(&truth), "{dhat:#?}");
    let mut expected = truth;
    // realloc gives a new block there as well, at the stack of the one before.
    let moved = expected
        .remove("main;by_realloc")
        .expect("it is in the table");
    let began = expected
        .get_mut("main;to_be_moved")
        .expect("it is in the table");
    *began = Figures {
        blocks: began.blocks + moved.blocks,
        bytes: began.bytes + moved.bytes,
        ..moved
    };
    assert_eq!(dhat, expected);
}

#[test]
fn heaptrack_counts_the_same_but_for_memalign_and_what_realloc_frees() {
    let test = "heaptrack_counts_the_same_but_for_memalign_and_what_realloc_frees";
    needs!(test, has_tool("heaptrack"), "heaptrack");
    needs!(test, has_tool("heaptrack_print"), "heaptrack_print");
    let directory = workspace("agreement_heaptrack");
    let (heaptrack, temporary) = of_heaptrack(&directory, &built(&directory), &[]);
    let mut expected = truth(&[]);
    // It hooks neither.
    expected
        .remove("main;some;by_memalign")
        .expect("it is in the table");
    expected
        .remove("main;some;by_pvalloc")
        .expect("it is in the table");
    // realloc(block, 0) freed these and gave NULL, which it takes for a failure.
    let nothing = expected
        .get_mut("main;to_become_nothing")
        .expect("it is in the table");
    nothing.left_blocks = nothing.blocks;
    nothing.left_bytes = nothing.bytes;
    nothing.peak_bytes = nothing.bytes;
    assert_eq!(heaptrack, expected);
    assert_eq!(temporary, TEMPORARY);
}
