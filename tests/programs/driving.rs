// Drives its own clean-ups: as many as the first argument says, each of a cache of Rust's bytes, and
// says what each of them came to. The second argument says how they come about, "asked" or
// "limited" (by whoever started it), the third how it ends, "exit" or "kill".

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heapledger::ledger;
use heapledger::pressure::{Pressure, Priority, Reclaim, ReclaimRequest, Reclaimed};

#[global_allocator]
static ALLOC: heapledger::Alloc = heapledger::Alloc::system();

const MIB: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Cache(Mutex<Vec<Vec<u8>>>);

impl Cache {
    fn fill(&self, mib: usize) {
        let mut blocks = self.0.lock().unwrap(); // so that a clean-up for this block finds it
        let block = std::hint::black_box(vec![0u8; mib * MIB]);
        blocks.push(block);
    }
}

impl Reclaim for Cache {
    fn reclaim(&self, _: &ReclaimRequest) -> Reclaimed {
        let blocks = std::mem::take(&mut *self.0.lock().unwrap());
        Reclaimed::bytes(blocks.iter().map(|block| block.len() as u64).sum())
    }
}

struct Boaster;

impl Reclaim for Boaster {
    fn reclaim(&self, _: &ReclaimRequest) -> Reclaimed {
        Reclaimed::bytes(7)
    }
}

/// Cannot tell what it frees.
struct Collector;

impl Reclaim for Collector {
    fn reclaim(&self, _: &ReclaimRequest) -> Reclaimed {
        Reclaimed::UNKNOWN
    }
}

fn say(pressure: &Pressure) {
    let mut out = std::io::stdout().lock();
    for cleanup in pressure.cleanups() {
        let record = &cleanup.record;
        let claims: Vec<String> = cleanup
            .reclaimers
            .iter()
            .map(|call| match call.claimed_bytes {
                Some(bytes) => format!("{}={bytes}", call.name),
                None => format!("{}=null", call.name),
            })
            .collect();
        writeln!(
            out,
            "{} {} {} {} {}",
            record.trigger.name(),
            record.level.name(),
            record.before_bytes,
            record.freed_bytes,
            claims.join(",")
        )
        .unwrap();
    }
    out.flush().unwrap();
}

/// Tells whether C is given so many bytes.
fn c_is_given(bytes: usize) -> bool {
    // SAFETY: the block is freed at once, and nothing looks into it.
    unsafe {
        let block = std::hint::black_box(libc::malloc(bytes));
        libc::free(block);
        !block.is_null()
    }
}

/// "refused" in place of a number: what goes past a hard limit fails in C, and only there, in
/// this process and in its children, for as long as it is driven.
fn refuse() {
    let live = ledger().live();
    let limit = (live.c_live_bytes + live.rust_live_bytes) as u64 + 10 * MIB as u64;
    let settings = ledger().pressure().follow_group(false).hard_limit(limit);
    let pressure = settings.refuse_past_hard_limit(true).start().unwrap();
    assert!(c_is_given(5 * MIB) && !c_is_given(20 * MIB));
    let error = std::io::Error::last_os_error();
    assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
    assert_eq!(pressure.refused(), (1, 20 * MIB as u64));
    drop(std::hint::black_box(vec![1u8; 20 * MIB]));
    pressure.set_limits(None, Some(limit + 100 * MIB as u64));
    assert!(c_is_given(20 * MIB) && !c_is_given(200 * MIB));
    // SAFETY: the child looks and ends by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let inherits = c_is_given(20 * MIB) && !c_is_given(200 * MIB);
        let counts = pressure.refused() == (1, 200 * MIB as u64);
        drop(pressure);
        // SAFETY: ends the child at once.
        unsafe {
            libc::_exit(if inherits && counts && c_is_given(200 * MIB) {
                0
            } else {
                1
            })
        };
    }
    let mut status = 1;
    // SAFETY: our child, and room for its status.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "the child");
    drop(pressure);
    assert!(c_is_given(200 * MIB));
    println!("refused");
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let how_many = arguments.next().expect("how many");
    if how_many == "refused" {
        return refuse();
    }
    let cycles: u64 = how_many.parse().unwrap();
    let is_asked = arguments.next().expect("how they come about") == "asked";
    let settings = ledger().pressure().follow_group(false).trim(false);
    let pressure = settings.growth(f64::INFINITY).start().expect("a ledger");
    let cache = Arc::new(Cache::default());
    let _cache = ledger().register("a cache of large blocks", Priority::Cache, cache.clone());
    let _boaster = ledger().register("boaster", Priority::Host, Arc::new(Boaster));
    let _collector = ledger().register("collector", Priority::Host, Arc::new(Collector));
    for cycle in 1..=cycles {
        cache.fill(if is_asked { cycle as usize } else { 60 });
        if is_asked {
            assert!(ledger().request_cleanup(0));
        }
        assert!(pressure.wait_for_cycles(cycle, PATIENCE));
    }
    say(&pressure);
    if arguments.next().as_deref() == Some("kill") {
        // SAFETY: ends this process; nothing is to be cleaned up.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
    assert_eq!(pressure.cycles(), cycles);
}
