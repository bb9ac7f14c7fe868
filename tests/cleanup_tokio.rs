//! Feature `tokio`: levels as a stream, reservations that are awaited.
#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use heapledger::pressure::{Level, Priority, Reclaim, ReclaimRequest, Reclaimed, Settings};
use heapledger::{Error, ledger};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

#[global_allocator]
static ALLOC: heapledger::Alloc = heapledger::Alloc::system();

const MIB: usize = 1 << 20;
/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// One driver a process: tests take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of one thread: whatever blocked it would stop all.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Limits count, and nothing else.
fn settings() -> Settings {
    let settings = ledger().pressure().follow_group(false);
    settings.growth(f64::INFINITY)
}

fn live_bytes() -> u64 {
    let live = ledger().live();
    u64::try_from(live.c_live_bytes + live.rust_live_bytes).unwrap()
}

/// Gives up its block when it is asked.
struct Block(Mutex<Vec<u8>>);

impl Reclaim for Block {
    fn reclaim(&self, _: &ReclaimRequest) -> Reclaimed {
        let block = std::mem::take(&mut *self.0.lock().unwrap());
        Reclaimed::bytes(block.len() as u64)
    }
}

#[test]
fn levels_are_a_stream() {
    let _turn = turn();
    let limit = live_bytes() + 100 * MIB as u64;
    let _pressure = settings().soft_limit(limit).start().unwrap();
    runtime().block_on(async {
        let mut levels = ledger().subscribe().unwrap().levels().unwrap();
        // What earlier tests asked for in vain is done first; then it is quiet.
        let mut told = 0;
        while timeout(Duration::from_millis(500), levels.changed())
            .await
            .is_ok()
        {
            told += 1;
            assert!(told < 10, "nothing has happened");
        }
        assert_eq!(levels.level(), Level::Calm);
        let block = std::hint::black_box(vec![1u8; 92 * MIB]);
        let raised = async {
            loop {
                let level = levels.next().await.expect("it never ends").unwrap();
                if level == Level::High {
                    return;
                }
            }
        };
        timeout(PATIENCE, raised).await.expect("no level was told");
        drop(block);
        let calm = async { while levels.changed().await.unwrap() != Level::Calm {} };
        timeout(PATIENCE, calm).await.expect("calm was not told");
    });
}

#[test]
fn an_awaited_reservation_gets_its_room_from_a_clean_up_while_other_tasks_run() {
    let _turn = turn();
    let block: Arc<dyn Reclaim> = Arc::new(Block(Mutex::new(vec![1u8; 60 * MIB])));
    let _registration = ledger().register("block", Priority::Cache, block);
    // Calm as it is, and no room for what comes.
    let limit = live_bytes() + 20 * MIB as u64;
    let _pressure = settings().hard_limit(limit).start().unwrap();
    let turns = Arc::new(AtomicU32::new(0));
    let (waits_before, _) = ledger().throttled();
    let counted = Arc::clone(&turns);
    runtime().block_on(async move {
        let others = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, SeqCst);
                tokio::task::yield_now().await;
            }
        });
        let waiting = ledger().reserve_within_async(40 * MIB, PATIENCE);
        let held = waiting.await.expect("room was made");
        assert_eq!(held.bytes(), 40 * MIB);
        others.abort();
    });
    let (waits, waited) = ledger().throttled();
    assert_eq!(waits - waits_before, 1);
    assert!(waited > Duration::ZERO);
    assert!(turns.load(SeqCst) > 0, "the thread was blocked");
}

#[test]
fn a_reservation_that_finds_no_room_says_so_at_its_deadline_and_books_nothing() {
    let _turn = turn();
    let limit = live_bytes() + 10 * MIB as u64;
    let _pressure = settings().hard_limit(limit).start().unwrap();
    runtime().block_on(async {
        let before = live_bytes();
        let at_most = Duration::from_millis(120);
        let refused = ledger().reserve_within_async(1 << 30, at_most).await;
        assert!(matches!(refused, Err(Error::NoRoom { limit_bytes, .. }) if limit_bytes == limit));
        let given_up = ledger().reserve_within_async(1 << 30, PATIENCE);
        assert!(timeout(Duration::from_millis(60), given_up).await.is_err());
        assert!(live_bytes() < before + MIB as u64);
        // No wait, no runtime needed: there is room.
        assert!(ledger().reserve_within_async(MIB, PATIENCE).await.is_ok());
    });
}

/// More than there are descriptors to wait with.
#[test]
fn many_reservations_wait_at_once_and_none_goes_past_the_limit() {
    let _turn = turn();
    const TASKS: usize = 100;
    let limit = live_bytes() + 105 * MIB as u64;
    let _pressure = settings().hard_limit(limit).start().unwrap();
    let runtime = Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut tasks = Vec::new();
        let most = Arc::new(Mutex::new((0u32, 0u32)));
        for _ in 0..TASKS {
            let most = Arc::clone(&most);
            tasks.push(tokio::spawn(async move {
                let held = ledger().reserve_within_async(10 * MIB, PATIENCE).await;
                let held = held.expect("its turn comes");
                let count = |by: i32| {
                    let mut most = most.lock().unwrap();
                    most.0 = most.0.wrapping_add_signed(by);
                    most.1 = most.1.max(most.0);
                };
                count(1);
                tokio::task::yield_now().await;
                count(-1);
                drop(held);
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let most = *most.lock().unwrap();
        assert!(most.0 == 0 && (1..=10).contains(&most.1), "{most:?}");
    });
}
