//! What looking costs: snapshots of a ledger with many owners and threads, and
//! a measured piece of work. What they take from the heap is booked nowhere.

#[path = "common/both_sides.rs"]
mod both_sides;
mod common;

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group};
use heapledger::criterion::{BenchBooks, Books};
use heapledger::{Alloc, Scope, ledger, measure};

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

fn owners(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("snapshot");
    group.bench_books("owners of the bench", || ledger().snapshot());
    for wanted in [1_000, 10_000] {
        let mut name = 0;
        while ledger().snapshot().owners().count() < wanted {
            for _ in 0..100 {
                let _scope = Scope::enter(&format!("{wanted} owners, {name}"));
                book_from_two_call_sites();
                name += 1;
            }
        }
        group.bench_books(format!("{wanted} owners"), || ledger().snapshot());
    }
    with_threads(&mut group);
    group.finish();
}

/// One block from each, so that each is an owner in this scope.
fn book_from_two_call_sites() {
    let layout = Layout::from_size_align(64, 8).expect("a layout");
    // SAFETY: the layout is not empty, and each block is freed with it, once.
    unsafe {
        ALLOC.dealloc(black_box(ALLOC.alloc(layout)), layout);
        libc::free(black_box(libc::malloc(64)));
    }
}

/// On top of the owners that there are by now.
fn with_threads(group: &mut BenchmarkGroup<WallTime>) {
    const THREADS: usize = 100;
    let (ready, done) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                drop(black_box(vec![0u8; 64]));
                ready.wait();
                done.wait();
            });
        }
        ready.wait();
        group.bench_books("and 100 threads", || ledger().snapshot());
        done.wait();
    });
}

fn work(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("measured work");
    group.bench_books("measure", || measure(|| ()));
    group.bench_books("Books::of", || Books::of(|| ()));
    group.finish();
}

criterion_group! {
    name = benches;
    config = both_sides::criterion();
    targets = work, owners
}

fn main() {
    both_sides::see_both_sides();
    benches();
    Criterion::default().configure_from_args().final_summary();
}
