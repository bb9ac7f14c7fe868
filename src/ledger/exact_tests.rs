//! Sums that must hold whatever happens to the program: when its stacks find no
//! room, and when it is killed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::*;
use crate::ledger::books::Books;
use crate::ledger::pages::FilePages;

/// A program of `tests/programs` in mode full, and where its ledger goes.
struct Program {
    directory: tempfile::TempDir,
    path: PathBuf,
}

impl Program {
    fn build(source: &str) -> Program {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/programs")
            .join(source);
        let status = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
            .args(["-O2", "-pthread", "-fno-builtin", "-o"])
            .args([&path, &source])
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
        fs::create_dir(directory.path().join("ledgers")).unwrap();
        Program { directory, path }
    }

    fn start(&self, words: &[&str]) -> Child {
        Command::new(&self.path)
            .args(words)
            .env("LD_PRELOAD", env!("HEAPLEDGER_PRELOAD"))
            .env("HEAPLEDGER_DIR", self.directory.path().join("ledgers"))
            .env("HEAPLEDGER_MODE", "full")
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    }

    /// `None` until its ledger is complete.
    fn read(&self) -> Option<(Books, Exact)> {
        let mut found = fs::read_dir(self.directory.path().join("ledgers")).unwrap();
        let file = File::open(found.next()?.unwrap().path()).unwrap();
        let mut books = Books::read(&FilePages(&file)).ok()?;
        let exact = books.exact.take()?;
        Some((books, exact))
    }
}

#[test]
fn stacks_that_find_no_room_are_booked_together() {
    let program = Program::build("full_overflow.c");
    assert!(program.start(&[]).wait().unwrap().success());
    let (books, exact) = program.read().unwrap();
    assert!(books.header.stacks_overflowed > 0);
    let counts = books.side(Side::C);
    let (allocated, live): (Vec<_>, Vec<_>) = exact
        .stacks
        .iter()
        .map(|stack| (stack.allocated, stack.live()))
        .unzip();
    let all: Amount = allocated.into_iter().sum();
    assert_eq!(
        (all.blocks, all.bytes),
        (counts.allocated_blocks, counts.allocated_bytes)
    );
    let left: Amount = live.into_iter().sum();
    assert_eq!(
        (left.blocks as i64, left.bytes as i64),
        (counts.live_blocks, counts.live_bytes)
    );
    let of_several = exact
        .stacks
        .iter()
        .filter(|stack| stack.thread == 0 && stack.extent == Extent::Whole);
    assert!(
        of_several.count() > 1000,
        "threads share rows before any overflows"
    );
    assert!(
        exact
            .stacks
            .iter()
            .any(|stack| stack.extent == Extent::Overflow && stack.allocated.blocks > 0)
    );
    let at_peak: Amount = exact.stacks.iter().map(|stack| stack.at_peak).sum();
    assert!(at_peak.bytes <= all.bytes && exact.most_bytes >= left.bytes);
}

#[test]
fn a_killed_program_s_books_add_up_but_for_the_operation_in_flight() {
    const LARGEST: i64 = 300_016;
    let program = Program::build("full_model.c");
    let mut child = program.start(&["5", "1000000000"]);
    let busy = |(_, exact): &(Books, Exact)| {
        exact
            .stacks
            .iter()
            .map(|stack| stack.allocated.blocks)
            .sum::<u64>()
            > 200_000
    };
    while !program.read().as_ref().is_some_and(busy) {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let (books, exact) = program.read().unwrap();
    let counts = books.side(Side::C);
    let all: Amount = exact.stacks.iter().map(|stack| stack.allocated).sum();
    let left: Amount = exact.stacks.iter().map(ExactStack::live).sum();
    let at_peak: Amount = exact.stacks.iter().map(|stack| stack.at_peak).sum();
    assert!(all.blocks.abs_diff(counts.allocated_blocks) <= 1);
    assert!((left.blocks as i64 - counts.live_blocks).abs() <= 1);
    assert!((left.bytes as i64 - counts.live_bytes).abs() <= LARGEST);
    assert!((at_peak.bytes as i64 - exact.most_bytes as i64).abs() <= LARGEST);
    assert_eq!(exact.misuses, []);
}
