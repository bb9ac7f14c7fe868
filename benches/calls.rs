//! What each call costs, and what it books: malloc, calloc, realloc and free
//! from glibc itself, with their books kept, and through Rust's allocators.
//!
//! All in one process under the preload library, which keeps the books, so the
//! crate's `Alloc` goes through it. For ratios that hold against a noisy
//! machine see `hooks` and `alloc`, which compare in turns.

#[path = "common/both_sides.rs"]
mod both_sides;
mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use criterion::{BenchmarkId, Criterion, criterion_group};
use heapledger::criterion::BenchBooks;

#[global_allocator]
static ALLOC: heapledger::Alloc = heapledger::Alloc::system();

/// Blocks in the window of random replacement.
const WINDOW: usize = 10_000;
/// Blocks that one thread frees for another at a time.
const BATCH: usize = 100;

/// Blocks of 16-byte alignment from somewhere.
trait Heap {
    const NAME: &'static str;
    fn take(bytes: usize) -> *mut u8;
    fn take_zeroed(bytes: usize) -> *mut u8;
    /// # Safety
    /// The block is this heap's, with `old` bytes.
    unsafe fn resize(block: *mut u8, old: usize, bytes: usize) -> *mut u8;
    /// # Safety
    /// The block is this heap's, with `bytes` bytes, and not used again.
    unsafe fn give(block: *mut u8, bytes: usize);
}

unsafe extern "C" {
    fn __libc_malloc(bytes: usize) -> *mut u8;
    fn __libc_calloc(count: usize, bytes: usize) -> *mut u8;
    fn __libc_realloc(block: *mut u8, bytes: usize) -> *mut u8;
    fn __libc_free(block: *mut u8);
}

/// Glibc's functions by the names that nobody hooks.
struct Bare;

impl Heap for Bare {
    const NAME: &'static str = "unbooked";
    fn take(bytes: usize) -> *mut u8 {
        // SAFETY: any size may be asked for.
        unsafe { __libc_malloc(bytes) }
    }
    fn take_zeroed(bytes: usize) -> *mut u8 {
        // SAFETY: any size may be asked for.
        unsafe { __libc_calloc(1, bytes) }
    }
    unsafe fn resize(block: *mut u8, _: usize, bytes: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { __libc_realloc(block, bytes) }
    }
    unsafe fn give(block: *mut u8, _: usize) {
        // SAFETY: the caller's promise.
        unsafe { __libc_free(block) }
    }
}

/// The program's malloc.
struct Malloc;

impl Heap for Malloc {
    const NAME: &'static str = "malloc";
    fn take(bytes: usize) -> *mut u8 {
        // SAFETY: any size may be asked for.
        unsafe { libc::malloc(bytes).cast() }
    }
    fn take_zeroed(bytes: usize) -> *mut u8 {
        // SAFETY: any size may be asked for.
        unsafe { libc::calloc(1, bytes).cast() }
    }
    unsafe fn resize(block: *mut u8, _: usize, bytes: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { libc::realloc(block.cast(), bytes).cast() }
    }
    unsafe fn give(block: *mut u8, _: usize) {
        // SAFETY: the caller's promise.
        unsafe { libc::free(block.cast()) }
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 16).expect("a layout")
}

/// Rust's allocators, by the type that a static has.
macro_rules! rust_heap {
    ($heap:ident, $name:literal, $allocator:expr) => {
        struct $heap;

        impl Heap for $heap {
            const NAME: &'static str = $name;
            fn take(bytes: usize) -> *mut u8 {
                // SAFETY: no bench asks for nothing.
                unsafe { $allocator.alloc(layout(bytes)) }
            }
            fn take_zeroed(bytes: usize) -> *mut u8 {
                // SAFETY: no bench asks for nothing.
                unsafe { $allocator.alloc_zeroed(layout(bytes)) }
            }
            unsafe fn resize(block: *mut u8, old: usize, bytes: usize) -> *mut u8 {
                // SAFETY: the caller's promise, and the layout it was taken with.
                unsafe { $allocator.realloc(block, layout(old), bytes) }
            }
            unsafe fn give(block: *mut u8, bytes: usize) {
                // SAFETY: the caller's promise, and the layout it was taken with.
                unsafe { $allocator.dealloc(block, layout(bytes)) }
            }
        }
    };
}

rust_heap!(RustSystem, "System", System);
rust_heap!(RustAlloc, "Alloc+preload", ALLOC);

/// Runs a bench over each heap.
macro_rules! over_each_heap {
    ($group:expr, $bench:ident) => {
        $bench::<Bare>($group);
        $bench::<Malloc>($group);
        $bench::<RustSystem>($group);
        $bench::<RustAlloc>($group);
    };
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

/// Taken and given back.
fn pair<H: Heap>(group: &mut Group) {
    group.bench_books(H::NAME, || {
        let block = black_box(H::take(black_box(64)));
        // SAFETY: just taken.
        unsafe { H::give(block, 64) }
    });
}

/// Taken zeroed and given back.
fn zeroed<H: Heap>(group: &mut Group) {
    group.bench_books(H::NAME, || {
        let block = black_box(H::take_zeroed(black_box(1024)));
        // SAFETY: just taken.
        unsafe { H::give(block, 1024) }
    });
}

/// A realloc from 64 bytes in between.
fn grown<H: Heap>(group: &mut Group) {
    group.bench_books(H::NAME, || {
        let block = black_box(H::take(black_box(64)));
        // SAFETY: just taken, resized once and given back.
        unsafe { H::give(black_box(H::resize(block, 64, 256)), 256) }
    });
}

struct Window<H: Heap> {
    random: u64,
    blocks: Vec<(*mut u8, usize)>,
    heap: std::marker::PhantomData<H>,
}

impl<H: Heap> Window<H> {
    fn new() -> Self {
        let mut window = Window {
            random: 88_172_645_463_325_252,
            blocks: Vec::with_capacity(WINDOW),
            heap: std::marker::PhantomData,
        };
        for _ in 0..WINDOW {
            let bytes = window.bytes();
            window.blocks.push((H::take(bytes), bytes));
        }
        window
    }

    fn bytes(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        16 + (self.random % 1_001) as usize
    }

    fn replace_one(&mut self) {
        let bytes = self.bytes();
        let place = (self.random >> 32) as usize % WINDOW;
        let (block, before) = self.blocks[place];
        // SAFETY: taken from this heap with these bytes, and replaced below.
        unsafe { H::give(block, before) };
        self.blocks[place] = (black_box(H::take(bytes)), bytes);
    }
}

impl<H: Heap> Drop for Window<H> {
    fn drop(&mut self) {
        for &(block, bytes) in &self.blocks {
            // SAFETY: taken from this heap with these bytes, and not used again.
            unsafe { H::give(block, bytes) };
        }
    }
}

/// Random replacement in a window of blocks of 16 to 1,016 bytes.
fn replaced<H: Heap>(group: &mut Group) {
    let mut window = Window::<H>::new();
    group.bench_books(H::NAME, || window.replace_one());
}

/// Blocks on their way from the thread that took them to the one that gives them back.
struct Batch([*mut u8; BATCH]);

// SAFETY: blocks of a heap may be freed on any thread.
unsafe impl Send for Batch {}

/// Frees of what another thread has taken.
fn crossed<H: Heap>(group: &mut Group) {
    let (order, orders): (SyncSender<()>, Receiver<()>) = mpsc::sync_channel(0);
    let (deliver, delivery) = mpsc::sync_channel(0);
    let taker = thread::spawn(move || {
        while orders.recv().is_ok()
            && deliver
                .send(Batch([(); BATCH].map(|()| H::take(64))))
                .is_ok()
        {}
    });
    let setup = || {
        order.send(()).expect("the taker runs");
        delivery.recv().expect("the taker runs")
    };
    group.bench_books_with(
        BenchmarkId::new(H::NAME, format!("{BATCH} blocks")),
        setup,
        |batch| {
            for block in batch.0 {
                // SAFETY: taken from this heap by the other thread, and sent here once.
                unsafe { H::give(black_box(block), 64) };
            }
        },
    );
    drop(order);
    taker.join().expect("the taker ends");
}

fn calls(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pair 64 B");
    over_each_heap!(&mut group, pair);
    group.finish();
    let mut group = criterion.benchmark_group("zeroed 1 KiB");
    over_each_heap!(&mut group, zeroed);
    group.finish();
    let mut group = criterion.benchmark_group("grown to 256 B");
    over_each_heap!(&mut group, grown);
    group.finish();
    let mut group = criterion.benchmark_group("window 10,000");
    over_each_heap!(&mut group, replaced);
    group.finish();
    let mut group = criterion.benchmark_group("freed for a thread");
    over_each_heap!(&mut group, crossed);
    group.finish();
}

criterion_group! {
    name = benches;
    config = both_sides::criterion();
    targets = calls
}

fn main() {
    both_sides::see_both_sides();
    benches();
    Criterion::default().configure_from_args().final_summary();
}
