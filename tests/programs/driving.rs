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
        let block = std::hint::black_box(vec![0u8; mib * MIB]);
        self.0.lock().unwrap().push(block);
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

fn say(pressure: &Pressure) {
    let mut out = std::io::stdout().lock();
    for cleanup in pressure.cleanups() {
        let record = &cleanup.record;
        let claims: Vec<String> = cleanup
            .reclaimers
            .iter()
            .map(|call| format!("{}={}", call.name, call.claimed_bytes))
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

fn main() {
    let mut arguments = std::env::args().skip(1);
    let cycles: u64 = arguments.next().expect("how many").parse().unwrap();
    let is_asked = arguments.next().expect("how they come about") == "asked";
    let settings = ledger().pressure().follow_group(false).trim(false);
    let pressure = settings.growth(f64::INFINITY).start().expect("a ledger");
    let cache = Arc::new(Cache::default());
    let _cache = ledger().register("a cache of large blocks", Priority::Cache, cache.clone());
    let _boaster = ledger().register("boaster", Priority::Host, Arc::new(Boaster));
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
