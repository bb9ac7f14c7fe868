//! A cache of C's frames that evicts when C has grown too much.
//!
//!     cargo run --release --example frame_cache --features interpose
//!
//! An LRU cache counts entries, or the bytes of what it was given: here handles of a few
//! bytes, behind each of which a C library holds megabytes. Decoding 120 frames into it
//! takes half a gigabyte. With one `impl Reclaim` and one line in `main` the same cache
//! stays below the limit, since it is asked to evict by what both sides really hold.

use std::sync::{Arc, Mutex};

use heapledger::iocontext::{Frame, Workload};
use heapledger::pressure::{Priority, Reclaim, ReclaimRequest, Reclaimed};
use heapledger::{Result, Side, ledger, scope};
use lru::LruCache;

#[global_allocator]
static ALLOC: heapledger::Alloc = heapledger::Alloc::system();

const MIB: u64 = 1 << 20;
const LIMIT_BYTES: u64 = 160 * MIB;
const WORKLOAD: Workload = Workload {
    frames: 120,
    threads: 2,
    seed: 7,
};

/// Frames by number, the one used longest ago first to go.
struct FrameCache(Mutex<LruCache<u32, Arc<Frame>>>);

impl FrameCache {
    fn new() -> FrameCache {
        FrameCache(Mutex::new(LruCache::unbounded()))
    }

    fn insert(&self, frame: Frame) {
        let _cache = scope!("cache");
        let frame = Arc::new(frame);
        self.0.lock().unwrap().put(frame.number(), frame);
    }

    fn get(&self, number: u32) -> Option<Arc<Frame>> {
        self.0.lock().unwrap().get(&number).cloned()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Takes one out; it is freed by the caller, after the lock.
    fn evict(&self) -> Option<Arc<Frame>> {
        let (_, frame) = self.0.lock().unwrap().pop_lru()?;
        Some(frame)
    }
}

/// All that a cache has to do for it.
impl Reclaim for FrameCache {
    fn reclaim(&self, request: &ReclaimRequest) -> Reclaimed {
        let mut freed_bytes = 0;
        // A target of 0 means all that there is.
        while request.target_bytes == 0 || freed_bytes < request.target_bytes {
            let Some(frame) = self.evict() else { break };
            // A frame that somebody still holds comes free later: no claim for it.
            if let Some(frame) = Arc::into_inner(frame) {
                freed_bytes += frame.bytes() as u64;
            }
        }
        Reclaimed::bytes(freed_bytes)
    }
}

/// Decodes everything into a cache, and tells what both sides held at most and hold in the end.
fn decode_into(cache: &FrameCache) -> Result<()> {
    let before = ledger().live();
    let most = Mutex::new([0i64; 2]);
    WORKLOAD.run(&WORKLOAD.container()?, |frame| {
        let number = frame.number();
        cache.insert(frame);
        cache.get(number.saturating_sub(5)); // a picture that is looked at again
        let live = ledger().live();
        let mut most = most.lock().unwrap();
        most[0] = most[0].max(live.rust_live_bytes - before.rust_live_bytes);
        most[1] = most[1].max(live.c_live_bytes - before.c_live_bytes);
    })?;
    let live = ledger().live();
    let now = [
        live.rust_live_bytes - before.rust_live_bytes,
        live.c_live_bytes - before.c_live_bytes,
    ];
    println!("  {:>3} frames in the cache", cache.len());
    for (side, index) in [(Side::Rust, 0), (Side::C, 1)] {
        let (now, most) = (now[index] >> 10, most.lock().unwrap()[index] >> 10);
        println!("  {:<5}{now:>8} KiB, at most {most:>8} KiB", side.name());
    }
    Ok(())
}

fn main() -> Result<()> {
    if !ledger().snapshot().sees(Side::C) {
        eprintln!("C is not seen here: build with --features interpose, or run it as");
        eprintln!("    heapledger run -- target/release/examples/frame_cache");
        return Ok(());
    }
    println!("a cache that nobody asks");
    decode_into(&FrameCache::new())?;

    println!("the same, asked to stay below {} MiB", LIMIT_BYTES / MIB);
    let pressure = ledger().pressure().soft_limit(LIMIT_BYTES).start()?;
    let cache = Arc::new(FrameCache::new());
    let _registration = ledger().register("frames", Priority::Cache, cache.clone());
    decode_into(&cache)?;

    for cleanup in pressure.cleanups() {
        let record = &cleanup.record;
        println!(
            "  {:<10} {:<8} at {:>3} MiB: freed {:>3} of {:>3} MiB claimed",
            record.trigger.name(),
            record.level.name(),
            record.before_bytes / MIB,
            record.freed_bytes / MIB,
            record.claimed_bytes() / MIB
        );
    }
    Ok(())
}
