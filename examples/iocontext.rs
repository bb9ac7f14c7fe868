//! Finds out what a C library holds, from inside the program: no LD_PRELOAD.
//!
//!     cargo run --release --example iocontext --features interpose
//!
//! A C media library decodes frames that it reads through Rust callbacks. A
//! cache keeps them and evicts by the bytes that Rust can see. The ledger shows
//! what that misses, and a second cache, which asks the ledger, misses nothing.
//!
//! The library and its Rust side are `heapledger::iocontext`, in `src/iocontext/`.

use std::collections::VecDeque;
use std::io::Cursor;
use std::sync::Arc;

use heapledger::iocontext::{Frame, Io, Workload, decode_all, generate};
use heapledger::{Counts, Result, Side, ledger, scope};

/// Two lines make a program count itself: this one, and `features = ["interpose"]`.
#[global_allocator]
static ALLOC: heapledger::Alloc = heapledger::Alloc::system();

const MIB: i64 = 1 << 20;

/// What a frame weighs, in a cache's eyes.
type Weigh = fn(&VecDeque<Arc<Frame>>) -> i64;

struct Cache {
    frames: VecDeque<Arc<Frame>>,
    budget_bytes: i64,
    weigh: Weigh,
}

impl Cache {
    fn insert(&mut self, frame: Frame) {
        let _cache = scope!("cache");
        self.frames.push_back(Arc::new(frame));
        while (self.weigh)(&self.frames) > self.budget_bytes {
            if self.frames.pop_front().is_none() {
                break; // others hold the rest
            }
        }
    }
}

/// What Rust sees: handles.
fn visible_bytes(frames: &VecDeque<Arc<Frame>>) -> i64 {
    (frames.len() * size_of::<Frame>()) as i64
}

/// What is really there: C's live bytes, one look at the ledger.
fn live_bytes(_: &VecDeque<Arc<Frame>>) -> i64 {
    ledger().live().c_live_bytes
}

/// Decodes a container into a cache and tells what both sides hold then.
fn decode_into(name: &str, container: &'static [u8], weigh: Weigh) -> Result<()> {
    let before = ledger().snapshot();
    let mut cache = Cache {
        frames: VecDeque::new(),
        budget_bytes: 64 * MIB,
        weigh,
    };
    {
        let io = Io::new(Cursor::new(container))?;
        decode_all(&io, |frame| {
            cache.insert(frame);
            Ok(())
        })?;
    }
    let after = ledger().snapshot();
    println!("\n{name}: {} frames in the cache", cache.frames.len());
    for side in [Side::Rust, Side::C] {
        let live = after.side(side).live_bytes - before.side(side).live_bytes;
        println!("  {:<5}{:>12} bytes", side.name(), live);
    }
    for scope in ["probe", "read", "decode", "cache"] {
        let held: Counts = after
            .owners()
            .filter(|owner| owner.scope() == Some(scope))
            .map(|owner| owner.counts())
            .sum();
        println!(
            "  scope {scope:<8}{:>12} bytes live of {} allocated, {} blocks",
            held.live_bytes, held.allocated_bytes, held.allocated_blocks
        );
    }
    if let Some(largest) = after.owners().max_by_key(|owner| owner.counts().live_bytes) {
        println!(
            "  largest: {} in {}",
            largest.symbol().unwrap_or_else(|| "?".into()),
            largest.library().unwrap_or("?")
        );
    }
    Ok(())
}

fn main() -> Result<()> {
    if !ledger().snapshot().sees(Side::C) {
        eprintln!("C is not seen here: build with --features interpose, or run it as");
        eprintln!("    heapledger run -- target/release/examples/iocontext");
        return Ok(());
    }
    let workload = Workload {
        frames: 60,
        threads: 1,
        seed: 1,
    };
    let mut container = Vec::new();
    generate(&workload.recipe(), &mut container)?;
    let container: &'static [u8] = container.leak();

    decode_into("by the bytes that Rust sees", container, visible_bytes)?;
    decode_into("by the ledger", container, live_bytes)
}
