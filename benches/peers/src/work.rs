//! The workloads: those of `benches/programs/workload.c`, through the program's
//! global allocator, and the IOContext run.

use std::alloc::{Layout, alloc, dealloc};
use std::hint::black_box;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::course::{Course, Slice, undisturbed};
use crate::iocontext::Decoding;

const PAIRS: usize = 40_000;
const WINDOW: usize = 10_000;
const REPLACEMENTS: usize = 8_000;
const BATCH: usize = 1_000;
const EXCHANGES: usize = 1;

const BLOCK: Layout = Layout::new::<[u64; 8]>();

#[derive(Clone, Copy)]
pub enum Workload {
    /// 64 bytes allocated and freed.
    Pair,
    /// Random replacement among 10,000 blocks of 16 to 1,016 bytes.
    Window,
    /// Blocks of 64 bytes, each freed by the other of two threads.
    Cross,
    /// Frames decoded by a C library.
    IoContext,
}

impl Workload {
    pub fn named(name: &str) -> Option<Workload> {
        match name {
            "pair" => Some(Workload::Pair),
            "window" => Some(Workload::Window),
            "cross" => Some(Workload::Cross),
            "iocontext" => Some(Workload::IoContext),
            _ => None,
        }
    }

    /// Gives each thread's slices, in nanoseconds an operation. One thread means
    /// the main thread: glibc has no locks to take there.
    pub fn run(self, threads: usize, time: Duration) -> Vec<Vec<f64>> {
        let course = Course::new(threads.max(self.least_threads()), time);
        let slices: Vec<Vec<Slice>> = thread::scope(|scope| {
            let course = &course;
            let others: Vec<_> = (1..course.threads)
                .map(|number| scope.spawn(move || self.work(number, course)))
                .collect();
            let mut all = vec![self.work(0, course)];
            all.extend(
                others
                    .into_iter()
                    .map(|other| other.join().expect("a worker ends")),
            );
            all
        });
        undisturbed(&slices)
    }

    fn least_threads(self) -> usize {
        match self {
            Workload::Cross => 2,
            _ => 1,
        }
    }

    fn work(self, number: usize, course: &Course) -> Vec<Slice> {
        match self {
            Workload::Pair => course.run(number, || pairs(course)),
            Workload::Window => {
                let mut window = Window::new(number);
                course.run(number, || window.replace(course))
            }
            Workload::Cross => course.run(number, || exchanges(number, course)),
            Workload::IoContext => {
                let decoding = Decoding::new();
                course.run(number, || decoding.slice())
            }
        }
    }
}

// ---- the workloads: each gives the nanoseconds of an operation in one slice ----

fn nanoseconds(begin: Instant) -> f64 {
    begin.elapsed().as_nanos() as f64
}

fn pairs(course: &Course) -> f64 {
    let pairs = course.operations(PAIRS);
    let begin = Instant::now();
    for _ in 0..pairs {
        // SAFETY: the layout is not empty, and the block is freed with it.
        unsafe { dealloc(black_box(alloc(black_box(BLOCK))), black_box(BLOCK)) };
    }
    nanoseconds(begin) / pairs as f64
}

struct Window {
    random: u64,
    blocks: Vec<(*mut u8, Layout)>,
}

impl Window {
    fn new(number: usize) -> Window {
        let mut window = Window {
            random: 88_172_645_463_325_252 + number as u64,
            blocks: Vec::with_capacity(WINDOW),
        };
        for _ in 0..WINDOW {
            let random = window.next();
            window.blocks.push(block(random));
        }
        window
    }

    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn replace(&mut self, course: &Course) -> f64 {
        let replacements = course.operations(REPLACEMENTS);
        let begin = Instant::now();
        for _ in 0..replacements {
            let random = self.next();
            let place = &mut self.blocks[(random >> 32) as usize % WINDOW];
            // SAFETY: every block of the window came from `block` with its layout, and is replaced at once.
            unsafe { dealloc(place.0, place.1) };
            *place = block(random & 1023);
        }
        nanoseconds(begin) / replacements as f64
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        for &(block, layout) in &self.blocks {
            // SAFETY: as in `replace`; the window is gone after this.
            unsafe { dealloc(block, layout) };
        }
    }
}

fn block(random: u64) -> (*mut u8, Layout) {
    let layout =
        Layout::from_size_align(16 + (random % 1_001) as usize, 8).expect("a small layout");
    // SAFETY: the layout is not empty; the block has room for the byte.
    unsafe {
        let block = alloc(layout);
        block.write(1);
        (block, layout)
    }
}

// ---- two threads that free each other's blocks ----

static BATCHES: [[AtomicPtr<u8>; BATCH]; 2] =
    [const { [const { AtomicPtr::new(ptr::null_mut()) }; BATCH] }; 2];
fn exchanges(number: usize, course: &Course) -> f64 {
    let mut spent = 0.0;
    for _ in 0..EXCHANGES {
        let begin = Instant::now();
        for place in &BATCHES[number] {
            // SAFETY: the layout is not empty.
            place.store(unsafe { alloc(BLOCK) }, Relaxed);
        }
        spent += nanoseconds(begin);
        course.meet();
        let begin = Instant::now();
        for place in &BATCHES[1 - number] {
            // SAFETY: the other thread allocated it with this layout before they met, and nobody else frees it.
            unsafe { dealloc(place.load(Relaxed), BLOCK) };
        }
        spent += nanoseconds(begin);
        course.meet();
    }
    spent / (EXCHANGES * BATCH) as f64
}
