//! `heapledger::criterion` measures to the byte, on both sides, and criterion
//! can work with what it gives it, run after run.
//!
//! Each test runs itself anew, alone in a process under the preload library, so
//! that C is seen and nobody else allocates.

mod common;

use std::env;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use ::criterion::Criterion;
use common::{preload_library, run, workspace};
use heapledger::Side;
use heapledger::criterion::{BenchBooks, Books, IterBooked, Quantity, SideBooks};

#[global_allocator]
static ALLOC: heapledger::Alloc = heapledger::Alloc::system();

/// A quantum of one thread: how late peaks of several threads may be, each.
const QUANTUM: i64 = 65_536;

/// Says that a test has a process to itself.
const ALONE: &str = "CRITERION_TEST_ALONE";

/// Runs the test `name` in a process of its own where C is seen, and there `body`.
fn alone_with_c_seen(name: &str, body: impl FnOnce()) {
    if env::var_os(ALONE).is_some() {
        assert!(heapledger::ledger().snapshot().sees(Side::C));
        body();
        return;
    }
    let again = env::current_exe().expect("this test's own path");
    let output = run(Command::new(again)
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("LD_PRELOAD", preload_library())
        .env(ALONE, "1")
        .env_remove("HEAPLEDGER_DIR"));
    let passed = output.text.contains("1 passed");
    assert!(passed, "{}\n{}", output.text, output.error);
    print!("{}", output.text);
}

/// One block of C's: 504 bytes asked for are 504 usable ones over glibc.
struct CBlock(*mut libc::c_void);

impl CBlock {
    fn new() -> CBlock {
        // SAFETY: any size may be asked for.
        CBlock(black_box(unsafe { libc::malloc(504) }))
    }
}

impl Drop for CBlock {
    fn drop(&mut self) {
        // SAFETY: the block is malloc's, and freed once.
        unsafe { libc::free(self.0) }
    }
}

fn block(bytes: usize) -> Vec<u8> {
    black_box(Vec::with_capacity(bytes))
}

/// Three blocks of 1,000 bytes, two of them at a time; five of 504, all at once.
fn work() {
    let first = block(1000);
    drop(block(1000));
    drop((first, block(1000)));
    drop(black_box([(); 5].map(|()| CBlock::new())));
}

fn assert_side(side: Option<SideBooks>, blocks: u64, bytes: u64, peak: i64, left: i64) {
    let side = side.expect("it is seen");
    let counts = side.counts;
    assert_eq!(
        (
            counts.allocated_blocks,
            counts.allocated_bytes,
            side.peak_live_bytes,
            counts.live_bytes
        ),
        (blocks, bytes, peak, left)
    );
    assert!(counts.adds_up());
}

#[test]
fn one_iteration_is_booked_to_the_byte_on_both_sides() {
    alone_with_c_seen("one_iteration_is_booked_to_the_byte_on_both_sides", || {
        for _ in 0..3 {
            let ((), books) = Books::of(work);
            assert_side(books.rust, 3, 3000, 2000, 0);
            assert_side(books.c, 5, 2520, 2520, 0);
            assert_eq!((books.peak_live_bytes, books.peaks_are_exact), (2520, true));
        }
    });
}

#[test]
fn nothing_is_nothing_and_what_is_left_is_seen() {
    alone_with_c_seen("nothing_is_nothing_and_what_is_left_is_seen", || {
        let ((), books) = Books::of(|| ());
        assert_eq!(books.c, Some(SideBooks::default()));
        assert_eq!(books.rust, Some(SideBooks::default()));
        let (kept, books) = Books::of(|| (block(7), CBlock::new()));
        assert_side(books.rust, 1, 7, 7, 7);
        assert_side(books.c, 1, 504, 504, 504);
        assert_eq!(books.peak_live_bytes, 511);
        let ((), books) = Books::of(|| drop(kept));
        assert_side(books.rust, 0, 0, 0, -7);
        assert_side(books.c, 0, 0, 0, -504);
    });
}

#[test]
fn work_within_work_counts_for_both() {
    alone_with_c_seen("work_within_work_counts_for_both", || {
        let (inner, outer) = Books::of(|| {
            let kept = block(100);
            let (kept_inside, inner) = Books::of(|| {
                drop(block(5000));
                block(10)
            });
            drop(block(4000));
            drop((kept, kept_inside));
            inner
        });
        assert_side(inner.rust, 2, 5010, 5000, 10);
        assert_side(outer.rust, 4, 9110, 5100, 0);
        let unwound =
            std::panic::catch_unwind(|| Books::of(|| std::panic::resume_unwind(Box::new(1))));
        assert!(unwound.is_err());
        let ((), after) = Books::of(|| drop(block(5)));
        assert_side(after.rust, 1, 5, 5, 0);
    });
}

#[test]
fn other_threads_are_counted_and_their_peak_is_said_to_be_late() {
    alone_with_c_seen(
        "other_threads_are_counted_and_their_peak_is_said_to_be_late",
        || {
            let elsewhere = || {
                thread::spawn(|| drop((block(1 << 20), block(1 << 20))))
                    .join()
                    .expect("it returns")
            };
            let ((), alone) = Books::of(|| drop(block(1)));
            assert!(alone.peaks_are_exact);
            let ((), books) = Books::of(elsewhere);
            assert!(!books.peaks_are_exact);
            let rust = books.rust.expect("it is seen");
            assert!(rust.counts.allocated_bytes >= 2 << 20, "{rust:?}");
            // What a new thread's own structures take is far less than a quantum.
            let off = rust.peak_live_bytes - (2 << 20);
            assert!(off.abs() < 2 * QUANTUM, "{rust:?}");
            assert!(books.to_string().contains("peak~"), "{books}");
        },
    );
}

/// What criterion has written of a bench: a mean, and how it has changed.
struct Written {
    directory: PathBuf,
}

impl Written {
    fn read(&self, bench: &str, file: &str) -> f64 {
        let path = self.directory.join(bench).join(file);
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        json["mean"]["point_estimate"].as_f64().expect("a number")
    }

    /// Holds a mean against what is expected, to the digit that criterion may not change.
    fn assert(&self, bench: &str, expected: f64) {
        let mean = self.read(bench, "new/estimates.json");
        let off = (mean - expected).abs();
        assert!(
            off <= 2e-6 + 2e-8 * expected.abs(),
            "{bench}: {mean}, not {expected}"
        );
    }

    fn assert_unchanged(&self, bench: &str) {
        let change = self.read(bench, "change/estimates.json");
        assert!(change.abs() < 1e-6, "{bench} changed by {change}");
    }
}

fn configured(quantity: Quantity, directory: &Path) -> Criterion<Quantity> {
    quantity
        .criterion()
        .warm_up_time(Duration::from_millis(1))
        .measurement_time(Duration::from_millis(5))
        .with_plots()
        .output_directory(directory)
}

/// Benches the same work as each quantity, once to save a baseline and once against it.
fn bench_all(directory: &Path, configure: impl Fn(Criterion<Quantity>) -> Criterion<Quantity>) {
    let quantities = [
        ("bytes_rust", Quantity::allocated_bytes().on(Side::Rust)),
        ("bytes_c", Quantity::allocated_bytes().on(Side::C)),
        ("blocks", Quantity::allocated_blocks()),
        ("peak", Quantity::peak_live_bytes()),
        ("left", Quantity::left_bytes()),
        ("bytes_in_process", Quantity::allocated_bytes().in_process()),
        ("peak_in_process", Quantity::peak_live_bytes().in_process()),
    ];
    for (name, quantity) in quantities {
        configure(configured(quantity, directory))
            .bench_function(name, |bencher| bencher.iter_booked(work));
    }
    let mut bytes = configure(configured(Quantity::allocated_bytes(), directory));
    bytes.bench_function("zero", |bencher| bencher.iter_booked(|| 1 + 1));
    bytes.bench_function("plain", |bencher| bencher.iter(work));
    bytes.bench_function("plain_zero", |bencher| bencher.iter(|| 1 + 1));
    bytes.bench_function("with_setup", |bencher| {
        bencher.iter_booked_with(|| block(9), |mut bytes| bytes.reserve_exact(100));
    });
}

#[test]
fn criterion_compares_what_never_varies_from_run_to_run() {
    let name = "criterion_compares_what_never_varies_from_run_to_run";
    let directory = workspace("criterion_runs");
    alone_with_c_seen(name, || {
        bench_all(&directory, |criterion| {
            criterion.save_baseline("first".into())
        });
        bench_all(&directory, |criterion| {
            criterion.retain_baseline("first".into(), true)
        });
        let written = Written { directory };
        written.assert("bytes_rust", 3000.0);
        written.assert("bytes_c", 2520.0);
        written.assert("blocks", 8.0);
        written.assert("peak", 2520.0);
        written.assert("left", 0.0);
        written.assert("bytes_in_process", 5520.0);
        written.assert("peak_in_process", 2520.0);
        written.assert("zero", 0.0);
        written.assert("plain", 5520.0);
        written.assert("plain_zero", 0.0);
        written.assert("with_setup", 100.0);
        for bench in [
            "bytes_rust",
            "bytes_c",
            "blocks",
            "peak",
            "left",
            "bytes_in_process",
            "zero",
            "plain",
        ] {
            written.assert_unchanged(bench);
        }
    });
}

#[test]
fn books_beside_the_time_are_those_of_one_iteration() {
    alone_with_c_seen("books_beside_the_time_are_those_of_one_iteration", || {
        let mut criterion = Criterion::default()
            .warm_up_time(Duration::from_millis(1))
            .measurement_time(Duration::from_millis(5))
            .sample_size(10)
            .without_plots()
            .with_filter("wanted")
            .output_directory(&workspace("criterion_beside"));
        let mut group = criterion.benchmark_group("group");
        let books = group.bench_books("wanted", work).expect("it has run");
        assert_side(books.rust, 3, 3000, 2000, 0);
        assert_side(books.c, 5, 2520, 2520, 0);
        let books = group
            .bench_books_with(
                "wanted with setup",
                || block(10),
                |bytes| (bytes, block(20)),
            )
            .expect("it has run");
        assert_side(books.rust, 1, 20, 20, -10);
        assert!(
            group
                .bench_books("left out", || panic!("it was to be left out"))
                .is_none()
        );
        let mut call = 0;
        let growing = group.bench_books("wanted, growing", || {
            call += 1;
            block(call)
        });
        assert_side(
            growing.expect("it has run").rust,
            1,
            call as u64,
            call as i64,
            0,
        );
    });
}
