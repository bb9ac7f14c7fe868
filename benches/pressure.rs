//! From the moment that live bytes cross a limit to the first reclaimer's call,
//! and what an armed and quiet ledger costs a malloc and free.

mod common;

use std::hint::black_box;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::rounds;
use hdrhistogram::Histogram;
use heapledger::ledger;
use heapledger::pressure::{Priority, Reclaim, ReclaimRequest, Reclaimed, Settings};

#[global_allocator]
static ALLOC: heapledger::Alloc = heapledger::Alloc::system();

const ROUNDS: usize = 200;
const MIB: usize = 1 << 20;
const PAIRS: u32 = 2_000_000;
const PAIR_ROUNDS: usize = 15;
const PATIENCE: Duration = Duration::from_secs(10);

/// Tells when it is called.
struct Bell(Mutex<Sender<Instant>>);

impl Reclaim for Bell {
    fn reclaim(&self, _: &ReclaimRequest) -> Reclaimed {
        let now = Instant::now();
        // Whoever measured has heard enough.
        let _ = self.0.lock().expect("nobody panics here").send(now);
        Reclaimed::NOTHING
    }
}

fn settings() -> Settings {
    ledger()
        .pressure()
        .growth(f64::INFINITY)
        .follow_group(false)
        .trim(false)
}

fn live_bytes() -> u64 {
    let live = ledger().live();
    (live.c_live_bytes + live.rust_live_bytes) as u64
}

/// One crossing; a new driver each time, which knows of no pause and no fruitless call.
fn crossing_ns(calls: &mpsc::Receiver<Instant>) -> u64 {
    let limit = live_bytes() + 64 * MIB as u64;
    let _pressure = settings().soft_limit(limit).start().expect("a ledger");
    // Until the driver has looked and armed the word; longer changes nothing.
    std::thread::sleep(Duration::from_millis(20));
    // Calls that earlier crossings led to.
    while calls.try_recv().is_ok() {}
    let crossed = Instant::now();
    let block = black_box(vec![0u8; 60 * MIB]);
    let called = calls.recv_timeout(PATIENCE).expect("the crossing's call");
    drop(block);
    called.duration_since(crossed).as_nanos() as u64
}

fn latency() {
    let (sender, calls) = mpsc::channel();
    let bell: Arc<dyn Reclaim> = Arc::new(Bell(Mutex::new(sender)));
    let _bell = ledger().register("bell", Priority::Cache, bell);
    let mut histogram = Histogram::<u64>::new_with_bounds(1, PATIENCE.as_nanos() as u64, 3)
        .expect("bounds that hold");
    for _ in 0..rounds(ROUNDS) {
        histogram.saturating_record(crossing_ns(&calls));
    }
    println!(
        "from the crossing to the first reclaimer's call, {} crossings",
        histogram.len()
    );
    for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)] {
        let us = histogram.value_at_quantile(quantile) as f64 / 1000.0;
        println!("  {name:<4}{us:>10.1} µs");
    }
}

fn pairs_ns() -> f64 {
    let start = Instant::now();
    for _ in 0..PAIRS {
        black_box(Box::new(black_box([0u8; 64])));
    }
    start.elapsed().as_nanos() as f64 / f64::from(PAIRS)
}

fn quiet() {
    let mut ratios = Vec::new();
    for _ in 0..rounds(PAIR_ROUNDS) {
        let unarmed = pairs_ns();
        let pressure = settings().soft_limit(1 << 40).start().expect("a ledger");
        let armed = pairs_ns();
        drop(pressure);
        ratios.push(armed / unarmed);
    }
    println!(
        "\na 64-byte pair, armed and quiet, over unarmed: {:.3} (aim 1.02)",
        common::median(ratios)
    );
}

fn main() {
    latency();
    quiet();
}
