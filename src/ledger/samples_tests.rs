//! Estimates against the exact books of the same run, over a hundred seeds.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::ledger::books::Books;
use crate::ledger::pages::FilePages;
use crate::recording::resolve::{Seen, Tables};

const SEEDS: u32 = 100;
const MEAN_BYTES: &str = "4096";

struct Program {
    directory: tempfile::TempDir,
    path: PathBuf,
}

impl Program {
    fn build() -> Program {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sampled");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/sampled.c");
        let status = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
            .args([
                "-O2",
                "-pthread",
                "-fno-builtin",
                "-fomit-frame-pointer",
                "-o",
            ])
            .args([&path, &source])
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
        Program { directory, path }
    }

    /// Runs it sampled, and gives its ledgers in order of their making.
    fn run(&self, words: &[&str], seed: u32) -> Vec<PathBuf> {
        let ledgers = self.directory.path().join(format!("{seed}"));
        fs::create_dir(&ledgers).unwrap();
        let status = Command::new(&self.path)
            .args(words)
            .env("LD_PRELOAD", env!("HEAPLEDGER_PRELOAD"))
            .env("HEAPLEDGER_DIR", &ledgers)
            .env("HEAPLEDGER_MODE", "sample")
            .env("HEAPLEDGER_SAMPLE_BYTES", MEAN_BYTES)
            .env("HEAPLEDGER_SAMPLE_SEED", seed.to_string())
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
        let mut found: Vec<PathBuf> = fs::read_dir(&ledgers)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        found.sort_by_key(|path| header_of(path).created_mono_ns);
        found
    }
}

fn header_of(path: &Path) -> Header {
    Books::read_owners(&FilePages(&File::open(path).unwrap()))
        .unwrap()
        .header
}

fn read_both(path: &Path) -> (Books, Samples) {
    let file = File::open(path).unwrap();
    let books = Books::read(&FilePages(&file)).unwrap();
    let samples = Samples::read(&FilePages(&file), &books.header, books.modules.len()).unwrap();
    assert_eq!(
        (books.header.samples_dropped, books.header.stacks_overflowed),
        (0, 0)
    );
    (books, samples)
}

/// What one estimate was over all seeds.
#[derive(Default)]
struct Course {
    exact: f64,
    sum: f64,
    covered: u32,
}

impl Course {
    fn add(&mut self, exact: u64, estimate: f64, error: f64) {
        self.exact = exact as f64;
        self.sum += estimate;
        self.covered += u32::from((estimate - exact as f64).abs() <= error);
    }
}

/// Estimates by call site and of all, as (name, exact, estimate, error).
fn compare(books: &Books, samples: &Samples) -> Vec<(String, u64, f64, f64)> {
    let mut found = Vec::new();
    let mut figures = |name: &str, live: Estimate, allocated: Estimate, exact: [u64; 4]| {
        let [live_bytes, live_blocks, allocated_bytes, allocated_blocks] = exact;
        let rows = [
            ("live bytes", live_bytes, live.bytes, live.bytes_error()),
            ("live blocks", live_blocks, live.blocks, live.blocks_error()),
            (
                "allocated bytes",
                allocated_bytes,
                allocated.bytes,
                allocated.bytes_error(),
            ),
            (
                "allocated blocks",
                allocated_blocks,
                allocated.blocks,
                allocated.blocks_error(),
            ),
        ];
        for (what, exact, estimate, error) in rows {
            found.push((format!("{name} {what}"), exact, estimate, error));
        }
    };
    let exact_of = |counts: crate::counts::Counts| {
        [
            counts.live_bytes as u64,
            counts.live_blocks as u64,
            counts.allocated_bytes,
            counts.allocated_blocks,
        ]
    };
    // Sites in order of the code, which is that of the source.
    let mut sites = BTreeMap::new();
    for owner in books.owners.iter().flatten() {
        if owner.counts.allocated_bytes > 1_000_000 {
            sites.insert(owner.call_site, owner.counts);
        }
    }
    assert_eq!(sites.len(), 5, "call sites of sampled.c");
    for (number, (site, counts)) in sites.into_iter().enumerate() {
        let of_site = || {
            samples
                .stacks
                .iter()
                .filter(move |stack| stack.frames.first().is_some_and(|f| f.address == site))
        };
        let live = of_site().map(|stack| stack.live).sum();
        let allocated = of_site().map(|stack| stack.allocated).sum();
        figures(&format!("site {number}"), live, allocated, exact_of(counts));
    }
    let live = samples.stacks.iter().map(|stack| stack.live).sum();
    let allocated = samples.stacks.iter().map(|stack| stack.allocated).sum();
    figures("all", live, allocated, exact_of(books.side(Side::C)));
    found
}

#[test]
fn estimates_are_unbiased_and_their_errors_are_what_they_say() {
    let program = Program::build();
    let mut courses: BTreeMap<String, Course> = BTreeMap::new();
    for seed in 1..=SEEDS {
        let ledgers = program.run(&[], seed);
        let (books, samples) = read_both(&ledgers[0]);
        for (name, exact, estimate, error) in compare(&books, &samples) {
            courses.entry(name).or_default().add(exact, estimate, error);
        }
    }
    let mut wrong = Vec::new();
    for (name, course) in &courses {
        let ratio = course.sum / f64::from(SEEDS) / course.exact;
        println!(
            "{name}: mean / exact {ratio:.4}, covered {}",
            course.covered
        );
        if (ratio - 1.0).abs() > 0.02 || course.covered < 90 {
            wrong.push(name);
        }
    }
    assert!(courses.len() == 24 && wrong.is_empty(), "{wrong:?}");
}

#[test]
fn stacks_are_whole_and_of_their_threads() {
    let program = Program::build();
    let (books, samples) = read_both(&program.run(&[], 7)[0]);
    for stack in &samples.stacks {
        assert_eq!(
            (stack.extent, stack.guessed),
            (Extent::Whole, false),
            "{stack:?}"
        );
        assert!(stack.frames.len() >= 3, "{stack:?}");
        assert!(
            stack
                .frames
                .iter()
                .all(
                    |frame| frame.module.is_some_and(|module| books.modules[module]
                        .as_ref()
                        .is_some_and(
                            |module| module.start <= frame.address && frame.address <= module.end
                        ))
                ),
            "{stack:?}"
        );
        assert!(
            books
                .threads
                .iter()
                .any(|thread| thread.tid == stack.thread),
            "{stack:?}"
        );
    }
}

#[test]
fn a_forked_child_goes_on_with_what_it_inherited() {
    let program = Program::build();
    let ledgers = program.run(&["fork"], 3);
    let [parent, child] = ledgers.as_slice() else {
        panic!("{ledgers:?}");
    };
    let (_, parent) = read_both(parent);
    let (child_books, child) = read_both(child);
    let by_frames = |samples: &Samples, live: bool| -> BTreeMap<Vec<u64>, u64> {
        let mut rows = BTreeMap::new();
        for stack in &samples.stacks {
            let key = stack.frames.iter().map(|frame| frame.address).collect();
            let estimate = if live { stack.live } else { stack.allocated };
            if estimate.samples > 0 {
                *rows.entry(key).or_insert(0) += estimate.samples;
            }
        }
        rows
    };
    let inherited = by_frames(&parent, true);
    assert!(inherited.len() >= 5, "{inherited:?}");
    assert_eq!(by_frames(&child, false), inherited);
    let left = by_frames(&child, true);
    assert_eq!(left.len(), inherited.len() - 1, "one site was freed");
    let exact = child_books.side(Side::C);
    let live: Estimate = child.stacks.iter().map(|stack| stack.live).sum();
    assert!((live.bytes - exact.live_bytes as f64).abs() < 2.0 * live.bytes_error());
}

/// A ledger in memory, which can be damaged.
struct Damaged(Vec<u64>);

impl Pages for Damaged {
    fn copy(&self, reference: u64, out: &mut [u64]) -> Option<()> {
        let first = usize::try_from(reference / 8).ok()?;
        out.copy_from_slice(self.0.get(first..first.checked_add(out.len())?)?);
        Some(())
    }
}

#[test]
fn damage_is_never_a_panic() {
    let program = Program::build();
    let bytes = fs::read(&program.run(&[], 5)[0]).unwrap();
    let (words, _) = bytes.as_chunks::<8>();
    let used = words.iter().rposition(|word| *word != [0; 8]).unwrap() + 1;
    let whole: Vec<u64> = words[..used]
        .iter()
        .map(|word| u64::from_ne_bytes(*word))
        .collect();
    let header = Books::read_owners(&Damaged(whole.clone())).unwrap().header;
    let first = header.samples as usize * layout::PAGE_BYTES / 8;
    let mut random = 88_172_645_463_325_252u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut told = 0;
    for _ in 0..300 {
        let mut damaged = Damaged(whole.clone());
        for _ in 0..40 {
            // Half of it where the samples' own pages lie.
            let at = match next() % 2 {
                0 => first + (next() % 4096) as usize,
                _ => (next() as usize) % used,
            };
            if let Some(word) = damaged.0.get_mut(at) {
                *word = if next() % 2 == 0 {
                    next()
                } else {
                    *word ^ (1 << (next() % 64))
                };
            }
        }
        if let Ok(header) = crate::ledger::books::read_header(&damaged) {
            told += Samples::read(&damaged, &header, 3).map_or(0, |samples| samples.stacks.len());
        }
        if let Ok(books) = Books::read(&damaged) {
            let mut tables = Tables::default();
            let process = tables.process(&books, Seen::default(), 0);
            for stack in &process.stacks {
                let is_known = |&frame: &u32| (frame as usize) < tables.sites.len();
                assert!(!stack.frames.is_empty() && stack.frames.iter().all(is_known));
            }
        }
    }
    assert!(told > 0, "nothing was read at all");
}
