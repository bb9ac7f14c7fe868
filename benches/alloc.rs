//! What `heapledger::Alloc` costs over `System`, both called directly, slice
//! by slice in turn within one process; shortest slices are compared.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::thread;
use std::time::Instant;

use common::{Rounds, rounds, verdict};
use heapledger::Alloc;

const ROUNDS: usize = 15;
const SLICES: usize = 40;
const PAIRS: u32 = 40_000;
const WINDOW: usize = 10_000;
const REPLACEMENTS: u32 = 8_000;

static BOOKED: Alloc = Alloc::system();

fn main() {
    println!(
        "heapledger::Alloc over System, ratio of ns, median of {} rounds\n",
        rounds(ROUNDS)
    );
    println!(
        "{:28}{:>10}{:>12}{:>9}  met",
        "", "System ns", "heapledger", "target"
    );
    row("64 B pair", 1.4, 1, pairs);
    row("64 B pair, 2 threads", 1.4, 2, pairs);
    row("10,000-block window", 1.1, 1, window);
    row("window, 2 threads", 1.1, 2, window);
}

/// Nanoseconds an operation with either allocator, least of the slices.
type Work = fn() -> [f64; 2];

fn row(name: &str, target: f64, threads: usize, work: Work) {
    let mut values = vec![Vec::new(), Vec::new()];
    for _ in 0..rounds(ROUNDS) {
        let threads: Vec<_> = (0..threads).map(|_| thread::spawn(work)).collect();
        let least: Vec<[f64; 2]> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        for (which, values) in values.iter_mut().enumerate() {
            values.push(least.iter().map(|least| least[which]).sum::<f64>() / least.len() as f64);
        }
    }
    let measured = Rounds::from(values);
    let ratio = measured.ratio(1);
    println!(
        "{name:28}{:>10.1}{ratio:>12.2}{target:>9.2}  {}",
        measured.median(0),
        verdict(ratio, target)
    );
}

fn least_of_slices(
    mut system: impl FnMut(),
    mut booked: impl FnMut(),
    operations: u32,
) -> [f64; 2] {
    let mut least = [f64::INFINITY; 2];
    for _ in 0..SLICES {
        let works: [&mut dyn FnMut(); 2] = [&mut system, &mut booked];
        for (work, least) in works.into_iter().zip(&mut least) {
            let start = Instant::now();
            work();
            *least = least.min(start.elapsed().as_nanos() as f64 / f64::from(operations));
        }
    }
    least
}

fn pairs() -> [f64; 2] {
    fn slice(allocator: &impl GlobalAlloc) {
        let layout = Layout::from_size_align(64, 8).unwrap();
        for _ in 0..PAIRS {
            // SAFETY: the layout is not empty, and the block is freed with it.
            unsafe {
                let block = black_box(allocator.alloc(black_box(layout)));
                allocator.dealloc(block, black_box(layout));
            }
        }
    }
    least_of_slices(|| slice(&System), || slice(&BOOKED), PAIRS)
}

fn window() -> [f64; 2] {
    let (mut system, mut booked) = (Window::new(&System), Window::new(&BOOKED));
    least_of_slices(|| system.slice(), || booked.slice(), REPLACEMENTS)
}

struct Window<'a, A: GlobalAlloc> {
    allocator: &'a A,
    random: u64,
    blocks: Vec<(*mut u8, Layout)>,
}

impl<'a, A: GlobalAlloc> Window<'a, A> {
    fn new(allocator: &'a A) -> Self {
        let mut window = Window {
            allocator,
            random: 88_172_645_463_325_252,
            blocks: Vec::with_capacity(WINDOW),
        };
        for _ in 0..WINDOW {
            let block = window.block();
            window.blocks.push(block);
        }
        window
    }

    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn block(&mut self) -> (*mut u8, Layout) {
        let layout = Layout::from_size_align(16 + (self.next() % 1_001) as usize, 8).unwrap();
        // SAFETY: the layout is not empty; the block has room for the byte.
        unsafe {
            let block = self.allocator.alloc(layout);
            block.write(1);
            (block, layout)
        }
    }

    fn slice(&mut self) {
        for _ in 0..REPLACEMENTS {
            let place = (self.next() >> 32) as usize % WINDOW;
            let (block, layout) = self.blocks[place];
            // SAFETY: it came from this allocator with this layout.
            unsafe { self.allocator.dealloc(block, layout) };
            self.blocks[place] = self.block();
        }
    }
}

impl<A: GlobalAlloc> Drop for Window<'_, A> {
    fn drop(&mut self) {
        for &(block, layout) in &self.blocks {
            // SAFETY: it came from this allocator with this layout.
            unsafe { self.allocator.dealloc(block, layout) };
        }
    }
}
