//! Clean-ups that a Rust program drives by itself: triggers, reclaimers that
//! misbehave, reservations, forks.
//!
//! What must hold of clean-ups, and which tests prove it. *Policy* is
//! `src/pressure/policy_tests.rs`, in simulated time; *C* is `tests/pressure.rs`;
//! the others are here.
//!
//! | case | result | proved by |
//! | --- | --- | --- |
//! | a reclaimer frees nothing | at most one cycle in 10 budgets; "ineffective" said once | policy: `useless_reclaimers_are_called_once_in_ten_budgets_and_that_is_said_once`, `useless_reclaimers_thin_out_where_live_bytes_swing_around_a_mark` |
//! | a reclaimer allocates | booked, never triggers again | policy: `what_reclaimers_allocate_never_starts_the_next_cycle`; `what_a_reclaimer_allocates_is_booked_and_starts_nothing`; C: `reclaimers_come_and_go_while_they_run` |
//! | 1,000 threads cross at once | one cycle | policy: `a_thousand_crossings_are_one_cycle`; `a_thousand_threads_that_cross_at_once_are_one_clean_up`; C: `a_thousand_threads_cross_once` |
//! | a slow reclaimer | left alone at its deadline, marked, others run, no overlap | policy: `a_slow_round_delays_and_never_overlaps`; `a_slow_reclaimer_is_left_alone_and_never_called_twice_at_a_time` |
//! | a reclaimer panics | caught; after three times disabled and said | `a_reclaimer_that_panics_three_times_is_disabled_and_others_go_on` |
//! | fork while a cycle runs | the child's state is reset, no inherited lock, its thread starts lazily | `a_child_forked_during_a_clean_up_drives_its_own`, `a_forked_child_goes_on_with_its_first_call_and_so_does_its_own_child`, `children_forked_at_any_moment_of_clean_ups_do_not_hang`; C: `reclaimers_come_and_go_while_they_run`, `the_helper_serves_forked_children_and_is_not_waited_for` |
//! | the floor is above the limit | threshold: floor and 64 MiB times the budgets; `baseline_above_limit` said | policy: `above_the_limit_the_least_budget_counts_and_the_baseline_is_said` |
//! | unregister inside its own callback | no deadlock | `a_reclaimer_may_unregister_itself`; C: `reclaimers_come_and_go_while_they_run` |
//! | the driver is ended during a cycle | no deadlock, and another may start | `a_driver_may_be_ended_during_a_clean_up`, `a_reclaimer_may_end_the_driver_that_called_it` |
//! | exit during a cycle | no deadlock | `a_program_may_exit_during_a_clean_up`; C: `reclaimers_come_and_go_while_they_run` |
//! | unload during a cycle | dlclose waits for the call, nothing is called afterwards | C: `a_library_is_unloaded_while_its_reclaimer_runs` |
//! | limit lowered at run time | counts at once | policy: `a_limit_lowered_at_run_time_counts_at_the_next_look`; `a_limit_lowered_at_run_time_counts_at_once` |
//! | watch set to /dev/null | off | `src/pressure/readings.rs`: `the_null_device_means_off` |
//! | counters against RSS | drift is said, and nothing loops on it | policy: `drift_is_reported_and_starts_nothing`; `a_resident_set_far_above_live_bytes_is_said_and_starts_nothing` |
//! | data races | none | `tests/races.rs`, under the thread sanitizer |
#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

use std::process::Command;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heapledger::pressure::{
    CallEnding, Level, Pressure, Priority, Reclaim, ReclaimRequest, Reclaimed, Registration,
    Settings, Trigger,
};
use heapledger::{Error, ledger};

#[global_allocator]
static ALLOC: heapledger::Alloc = heapledger::Alloc::system();

const MIB: usize = 1 << 20;
/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// One driver a process: tests take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Control groups and stalls of this machine are nobody's business here.
fn settings() -> Settings {
    ledger().pressure().follow_group(false)
}

fn live_bytes() -> u64 {
    let live = ledger().live();
    u64::try_from(live.c_live_bytes + live.rust_live_bytes).unwrap()
}

/// Blocks that can be evicted, and what was asked.
#[derive(Default)]
struct Cache {
    blocks: Mutex<Vec<Vec<u8>>>,
    calls: AtomicU32,
    target_bytes: AtomicU64,
    level: Mutex<Option<Level>>,
}

impl Cache {
    fn fill(&self, mib: usize) {
        for _ in 0..mib {
            let block = std::hint::black_box(vec![1u8; MIB]);
            self.blocks.lock().unwrap().push(block);
        }
    }

    fn calls(&self) -> u32 {
        self.calls.load(SeqCst)
    }
}

impl Reclaim for Cache {
    fn reclaimable(&self) -> Option<usize> {
        Some(self.blocks.lock().unwrap().len() * MIB)
    }

    fn reclaim(&self, request: &ReclaimRequest) -> Reclaimed {
        self.calls.fetch_add(1, SeqCst);
        self.target_bytes.store(request.target_bytes, SeqCst);
        *self.level.lock().unwrap() = Some(request.level);
        let blocks = std::mem::take(&mut *self.blocks.lock().unwrap());
        Reclaimed::bytes((blocks.len() * MIB) as u64)
    }
}

fn cache() -> (Arc<Cache>, Registration) {
    let cache = Arc::new(Cache::default());
    let registration = ledger().register("cache", Priority::Cache, cache.clone());
    assert!(registration.is_active());
    (cache, registration)
}

/// Calls a function.
struct Act<F>(F);

impl<F: Fn(&ReclaimRequest) -> Reclaimed + Send + Sync> Reclaim for Act<F> {
    fn reclaim(&self, request: &ReclaimRequest) -> Reclaimed {
        (self.0)(request)
    }
}

fn act(
    name: &str,
    priority: Priority,
    act: impl Fn(&ReclaimRequest) -> Reclaimed + Send + Sync + 'static,
) -> Registration {
    ledger().register(name, priority, Arc::new(Act(act)))
}

/// Asks for a clean-up and waits until it is over.
fn clean_up(pressure: &Pressure) {
    let cycles = pressure.cycles();
    assert!(ledger().request_cleanup(0));
    assert!(
        pressure.wait_for_cycles(cycles + 1, PATIENCE),
        "no clean-up"
    );
}

#[test]
fn growth_past_the_budget_evicts_a_cache() {
    let _turn = turn();
    let pressure = settings().growth(1.0).start().unwrap();
    let (cache, _registration) = cache();
    cache.fill(80);
    assert!(pressure.wait_for_cycles(1, PATIENCE));
    let cleanups = pressure.cleanups();
    let cleanup = &cleanups[0];
    assert_eq!(cleanup.record.trigger, Trigger::Growth);
    assert_eq!(cleanup.reclaimers.len(), 1);
    assert_eq!(cleanup.reclaimers[0].name, "cache");
    assert_eq!(cleanup.reclaimers[0].ending, CallEnding::Returned);
    assert!(cleanup.record.claimed_bytes() >= 60 * MIB as u64);
    assert!(cache.calls() >= 1);
}

#[test]
fn a_soft_limit_raises_the_level_and_tells_subscribers() {
    let _turn = turn();
    let limit = live_bytes() + 100 * MIB as u64;
    let mut told = ledger().subscribe().unwrap();
    let pressure = settings()
        .growth(f64::INFINITY)
        .soft_limit(limit)
        .start()
        .unwrap();
    let (cache, _registration) = cache();
    cache.fill(99);
    assert!(told.wait(PATIENCE).unwrap().is_some(), "nobody was told");
    assert!(pressure.wait_for_cycles(1, PATIENCE));
    let first = &pressure.cleanups()[0];
    assert_eq!(first.record.trigger, Trigger::SoftLimit);
    assert!(first.record.level >= Level::Moderate);
    assert!(first.record.before_bytes > limit * 8 / 10);
    assert!(cache.target_bytes.load(SeqCst) > 0);
    assert!(
        cache
            .level
            .lock()
            .unwrap()
            .is_some_and(|level| level >= Level::Moderate)
    );
}

#[test]
fn a_limit_lowered_at_run_time_counts_at_once() {
    let _turn = turn();
    let (cache, _registration) = cache();
    cache.fill(50);
    let pressure = settings().growth(f64::INFINITY).start().unwrap();
    // The driver has read its limits, and has no reason to look again within its longest wait.
    clean_up(&pressure);
    cache.fill(50);
    pressure.set_limits(Some(live_bytes() / 2), None);
    assert!(pressure.wait_for_cycles(2, PATIENCE));
    assert_eq!(
        pressure.cleanups()[1].record.trigger,
        Trigger::SoftLimit,
        "by the limit alone"
    );
    assert_eq!(cache.calls(), 2);
}

#[test]
fn a_claim_that_the_ledger_contradicts_is_shown_as_such() {
    let _turn = turn();
    let pressure = settings().start().unwrap();
    let _boaster = act("boaster", Priority::Cache, |_| Reclaimed::bytes(1 << 40));
    clean_up(&pressure);
    let cleanup = &pressure.cleanups()[0];
    assert_eq!(cleanup.reclaimers[0].claimed_bytes, Some(1 << 40));
    assert_eq!(cleanup.record.claimed_bytes(), 1 << 40);
    assert!(cleanup.record.freed_bytes < MIB as u64, "{cleanup:?}");
}

#[test]
fn who_cannot_tell_or_panics_claims_nothing() {
    let _turn = turn();
    let pressure = settings().start().unwrap();
    let _collector = act("collector", Priority::Cache, |_| Reclaimed::UNKNOWN);
    let _clumsy = act("clumsy", Priority::Host, |_| {
        std::panic::resume_unwind(Box::new("once"))
    });
    clean_up(&pressure);
    let cleanup = &pressure.cleanups()[0];
    let claims: Vec<_> = cleanup
        .reclaimers
        .iter()
        .map(|call| call.claimed_bytes)
        .collect();
    assert_eq!(claims, [None, None]);
    assert!(cleanup.record.claims.is_empty(), "{cleanup:?}");
}

#[test]
fn a_reclaimer_that_panics_three_times_is_disabled_and_others_go_on() {
    let _turn = turn();
    let pressure = settings().start().unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let _clumsy = act("clumsy", Priority::Cache, move |_| {
        counted.fetch_add(1, SeqCst);
        std::panic::resume_unwind(Box::new("again"))
    });
    let (cache, _registration) = cache();
    for _ in 0..5 {
        clean_up(&pressure);
    }
    assert_eq!((calls.load(SeqCst), cache.calls()), (3, 5));
    assert_eq!(
        pressure.cleanups()[0].reclaimers[0].ending,
        CallEnding::Panicked
    );
    let notes = pressure.notes();
    let disabled: Vec<_> = notes
        .iter()
        .filter(|note| note.contains("clumsy"))
        .collect();
    assert_eq!(disabled, ["clumsy: disabled after three panics"]);
}

#[test]
fn a_slow_reclaimer_is_left_alone_and_never_called_twice_at_a_time() {
    let _turn = turn();
    let pressure = settings().start().unwrap();
    let (release, released): (Sender<()>, Receiver<()>) = mpsc::channel();
    let released = Mutex::new(released);
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let slow = act("slow", Priority::Cache, move |_| {
        counted.fetch_add(1, SeqCst);
        let _ = released.lock().unwrap().recv();
        Reclaimed::NOTHING
    });
    let release = release; // given up before the registration, also by a test that fails
    let (cache, _registration) = cache();
    clean_up(&pressure);
    clean_up(&pressure);
    assert_eq!(
        (calls.load(SeqCst), cache.calls()),
        (1, 2),
        "others go on, and it is not called again"
    );
    assert_eq!(
        pressure.cleanups()[0].reclaimers[0].ending,
        CallEnding::Late
    );
    assert_eq!(
        pressure
            .notes()
            .iter()
            .filter(|note| *note == "slow: slow")
            .count(),
        1
    );
    drop(release);
    drop(slow); // waits for the call in flight
    clean_up(&pressure);
    assert_eq!((calls.load(SeqCst), cache.calls()), (1, 3));
}

#[test]
fn a_reclaimer_may_unregister_itself() {
    let _turn = turn();
    let pressure = settings().start().unwrap();
    let own: Arc<Mutex<Option<Registration>>> = Arc::default();
    let inside = Arc::clone(&own);
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let registration = act("once", Priority::Host, move |_| {
        counted.fetch_add(1, SeqCst);
        drop(inside.lock().unwrap().take());
        Reclaimed::NOTHING
    });
    *own.lock().unwrap() = Some(registration);
    clean_up(&pressure);
    let ending = pressure.cleanups()[0].reclaimers[0].ending;
    assert_eq!(ending, CallEnding::Returned, "it waits for itself");
    clean_up(&pressure);
    assert_eq!(calls.load(SeqCst), 1);
}

#[test]
fn a_driver_may_be_ended_during_a_clean_up() {
    let _turn = turn();
    let pressure = settings().start().unwrap();
    let (entered, enters) = mpsc::channel();
    let (release, released): (Sender<()>, Receiver<()>) = mpsc::channel();
    let released = Mutex::new(released);
    let registration = act("waits", Priority::Cache, move |_| {
        let _ = entered.send(());
        let _ = released.lock().unwrap().recv();
        Reclaimed::NOTHING
    });
    let release = release; // given up before the registration, also by a test that fails
    assert!(ledger().request_cleanup(0));
    enters.recv_timeout(PATIENCE).unwrap();
    let (ended, ends) = mpsc::channel();
    let ender = std::thread::spawn(move || {
        drop(pressure);
        ended.send(()).unwrap();
    });
    // The call outlasts its deadline, and is not waited for.
    ends.recv_timeout(PATIENCE)
        .expect("the driver waits for ever");
    ender.join().unwrap();
    let again = settings().start().unwrap();
    let (cache, _registration) = cache();
    clean_up(&again);
    assert_eq!(cache.calls(), 1, "the next driver goes round the call");
    drop(release);
    drop(registration);
}

#[test]
fn a_reclaimer_may_end_the_driver_that_called_it() {
    let _turn = turn();
    let own: Arc<Mutex<Option<Pressure>>> = Arc::default();
    let inside = Arc::clone(&own);
    let (ended, ends) = mpsc::channel();
    let registration = act("ends", Priority::Cache, move |_| {
        drop(inside.lock().unwrap().take());
        let _ = ended.send(());
        Reclaimed::NOTHING
    });
    *own.lock().unwrap() = Some(settings().start().unwrap());
    assert!(ledger().request_cleanup(0));
    ends.recv_timeout(PATIENCE)
        .expect("the driver and its reclaimer wait for each other");
    drop(registration);
    // The thread goes by itself soon after.
    let until = std::time::Instant::now() + PATIENCE;
    let again = loop {
        match settings().start() {
            Ok(pressure) => break pressure,
            Err(error) => assert!(std::time::Instant::now() < until, "{error}"),
        }
        std::thread::yield_now();
    };
    clean_up(&again);
}

#[test]
fn what_a_reclaimer_allocates_is_booked_and_starts_nothing() {
    let _turn = turn();
    let pressure = settings().growth(1.0).start().unwrap();
    let kept: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let inside = Arc::clone(&kept);
    let _greedy = act("greedy", Priority::Cache, move |_| {
        // What other threads have freed may be published meanwhile, a quantum each.
        inside.lock().unwrap().push(vec![1u8; 301 * MIB]);
        Reclaimed::NOTHING
    });
    let before = live_bytes();
    clean_up(&pressure);
    assert!(live_bytes() - before >= 300 * MIB as u64);
    let cleanup = &pressure.cleanups()[0];
    assert_eq!(cleanup.record.freed_bytes, 0);
    // Its own growth is the new baseline: a second clean-up is only the one that is asked for.
    clean_up(&pressure);
    assert_eq!(pressure.cycles(), 2);
    assert_eq!(pressure.cleanups()[1].record.trigger, Trigger::Asked);
}

#[test]
fn reclaimers_are_called_by_priority() {
    let _turn = turn();
    let pressure = settings().start().unwrap();
    let order: Arc<Mutex<Vec<&str>>> = Arc::default();
    let noted = |name| {
        let order = Arc::clone(&order);
        move |_: &ReclaimRequest| {
            order.lock().unwrap().push(name);
            Reclaimed::NOTHING
        }
    };
    let _allocator = act("purge", Priority::Allocator, noted("purge"));
    let _host = act("collector", Priority::Host, noted("collector"));
    let _cache = act("cache", Priority::Cache, noted("cache"));
    clean_up(&pressure);
    assert_eq!(*order.lock().unwrap(), ["cache", "collector", "purge"]);
}

#[test]
fn one_process_has_one_driver_at_a_time() {
    let _turn = turn();
    let first = settings().start().unwrap();
    assert!(matches!(settings().start(), Err(Error::PressureRunning)));
    drop(first);
    let again = settings().start().unwrap();
    clean_up(&again);
}

#[test]
fn a_reservation_past_the_hard_limit_waits_for_a_clean_up() {
    let _turn = turn();
    let (cache, _registration) = cache();
    cache.fill(60);
    assert!(ledger().try_reserve(1 << 40).is_ok(), "nobody set a limit");
    let before = live_bytes();
    // Far enough away that nothing but the reservation asks for a clean-up.
    let limit = before + before / 2;
    let _pressure = settings()
        .growth(f64::INFINITY)
        .hard_limit(limit)
        .start()
        .unwrap();
    let held = ledger().reserve_within(before as usize, PATIENCE).unwrap();
    assert_eq!(held.bytes() as u64, before);
    assert!(cache.calls() >= 1, "room was made");
    assert!(live_bytes() <= limit);
    match ledger().try_reserve(limit as usize) {
        Err(Error::NoRoom { limit_bytes, .. }) => assert_eq!(limit_bytes, limit),
        other => panic!("{other:?}"),
    }
    assert!(
        ledger()
            .reserve_within(limit as usize, Duration::from_millis(1))
            .is_err()
    );
    let (waits, waited) = ledger().throttled();
    assert!(waits >= 2 && waited > Duration::ZERO);
}

#[test]
fn rusts_own_requests_are_never_refused() {
    let _turn = turn();
    let limit = live_bytes() + 10 * MIB as u64;
    let settings = settings().growth(f64::INFINITY).hard_limit(limit);
    let pressure = settings.refuse_past_hard_limit(true).start().unwrap();
    let block = std::hint::black_box(vec![1u8; 20 * MIB]);
    assert_eq!(pressure.refused(), (0, 0));
    drop(block);
}

#[test]
fn of_reservations_that_race_no_more_are_granted_than_there_is_room_for() {
    let _turn = turn();
    let limit = live_bytes() + 105 * MIB as u64;
    let _pressure = settings()
        .growth(f64::INFINITY)
        .hard_limit(limit)
        .start()
        .unwrap();
    let barrier = std::sync::Barrier::new(40);
    let granted = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                barrier.wait();
                if let Ok(held) = ledger().try_reserve(10 * MIB) {
                    granted.lock().unwrap().push(held);
                }
            });
        }
    });
    assert_eq!(granted.into_inner().unwrap().len(), 10);
}

#[test]
fn a_child_forked_during_a_clean_up_drives_its_own() {
    let _turn = turn();
    let pressure = settings().start().unwrap();
    let (entered, enters) = mpsc::channel();
    let (release, released): (Sender<()>, Receiver<()>) = mpsc::channel();
    let released = Mutex::new(released);
    let parent = std::process::id();
    let registration = act("waits", Priority::Cache, move |_| {
        if std::process::id() == parent {
            let _ = entered.send(());
            let _ = released.lock().unwrap().recv_timeout(PATIENCE);
        }
        Reclaimed::NOTHING
    });
    assert!(ledger().request_cleanup(0));
    enters.recv_timeout(PATIENCE).unwrap();
    // SAFETY: the child goes on with what is safe there (no lock that another thread may hold), and ends by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop(pressure);
        let own = settings().start().unwrap();
        let (cache, _registration) = cache();
        cache.fill(3);
        clean_up(&own);
        let ok = cache.calls() == 1 && own.cleanups()[0].record.claimed_bytes() >= 3 * MIB as u64;
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(if ok { 7 } else { 8 }) };
    }
    let mut status = 0;
    // SAFETY: our child, and room for its status.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(libc::WIFEXITED(status), "{status:#x}");
    assert_eq!(libc::WEXITSTATUS(status), 7);
    drop(release);
    assert!(
        pressure.wait_for_cycles(1, PATIENCE),
        "the parent's goes on"
    );
    drop(registration);
}

/// Forks, and holds that the child's checks hold and that it ends.
fn in_child(what: &str, checks: impl FnOnce() -> bool) {
    // SAFETY: the child goes on with what is safe there (no lock that another thread may hold), and ends by _exit.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{what}: no fork");
    if child == 0 {
        // SAFETY: sets a timer; a child that hangs ends by its signal.
        unsafe { libc::alarm(2 * PATIENCE.as_secs() as u32) };
        let holds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(checks));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(if holds.unwrap_or(false) { 7 } else { 8 }) };
    }
    let mut status = 0;
    // SAFETY: our child, and room for its status.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(libc::WIFEXITED(status), "{what}: {status:#x}");
    assert_eq!(libc::WEXITSTATUS(status), 7, "{what}");
}

#[test]
fn a_forked_child_goes_on_with_its_first_call_and_so_does_its_own_child() {
    let _turn = turn();
    let pressure = settings().start().unwrap();
    let (cache, _registration) = cache();
    cache.fill(3);
    clean_up(&pressure);
    cache.fill(3);
    let asks = || {
        // By itself, without the handle; what the parent registered is called.
        assert!(ledger().request_cleanup(0));
        assert!(pressure.wait_for_cycles(1, PATIENCE));
        assert_eq!((pressure.cycles(), cache.calls()), (1, 2));
        let first = &pressure.cleanups()[0];
        first.record.number == 1 && first.record.claimed_bytes() == 3 * MIB as u64
    };
    in_child("asks", asks);
    in_child("looks", || {
        let calm = pressure.level() == Level::Calm && pressure.cycles() == 0;
        clean_up(&pressure);
        calm && cache.calls() == 2
    });
    in_child("forks again without a call", || {
        in_child("grandchild", asks);
        cache.calls() == 1
    });
    in_child("forks again with a driver of its own", || {
        clean_up(&pressure);
        in_child("grandchild", || {
            clean_up(&pressure);
            pressure.cycles() == 1 && cache.calls() == 3
        });
        true
    });
    assert_eq!(
        (pressure.cycles(), cache.calls()),
        (1, 1),
        "the parent's own"
    );
    clean_up(&pressure);
}

#[test]
fn a_forked_child_that_drops_its_parents_driver_has_none_and_may_start_one() {
    let _turn = turn();
    let pressure = settings().growth(f64::INFINITY).start().unwrap();
    let (cache, _registration) = cache();
    in_child("drops", || {
        drop(pressure);
        assert!(ledger().request_cleanup(0));
        assert!(ledger().try_reserve(1 << 40).is_ok());
        let own = settings().start().unwrap();
        // What was asked for before is done by the one that came.
        own.wait_for_cycles(1, PATIENCE) && cache.calls() == 1
    });
    assert!(settings().start().is_ok());
}

#[test]
fn a_forked_child_ends_the_driver_that_it_began() {
    let _turn = turn();
    let pressure = settings().start().unwrap();
    let (cache, _registration) = cache();
    in_child("ends", || {
        clean_up(&pressure);
        assert!(matches!(settings().start(), Err(Error::PressureRunning)));
        drop(pressure);
        let own = settings().start().unwrap();
        clean_up(&own);
        own.cycles() == 1 && cache.calls() == 2
    });
}

#[test]
fn children_forked_at_any_moment_of_clean_ups_do_not_hang() {
    let _turn = turn();
    let pressure = settings().start().unwrap();
    let (cache, _registration) = cache();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                ledger().request_cleanup(0);
                pressure.cleanups();
                std::thread::yield_now();
            }
        });
        // The table's lock is taken most of the time.
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    drop(act("comes and goes", Priority::Host, |_| {
                        Reclaimed::NOTHING
                    }));
                }
            });
        }
        for _ in 0..40 {
            in_child("any moment", || {
                // The cache's own lock may have been inherited in the middle: nothing of it is looked at.
                let own = act("own", Priority::Host, |_| Reclaimed::NOTHING);
                let waits = ledger().request_cleanup(0) && pressure.wait_for_cycles(1, PATIENCE);
                ledger().subscribe().is_ok() && waits && own.is_active()
            });
        }
        stop.store(true, SeqCst);
    });
    assert!(cache.calls() > 0);
}

#[test]
fn a_thousand_threads_that_cross_at_once_are_one_clean_up() {
    let _turn = turn();
    const THREADS: usize = 1000;
    let (cache, _registration) = cache();
    let ready = Arc::new(std::sync::Barrier::new(THREADS + 1));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (cache, ready) = (Arc::clone(&cache), Arc::clone(&ready));
            let body = move || {
                ready.wait();
                ready.wait();
                let block = std::hint::black_box(vec![1u8; 96 << 10]);
                cache.blocks.lock().unwrap().push(block);
                ready.wait();
            };
            let builder = std::thread::Builder::new().stack_size(64 << 10);
            builder.spawn(body).unwrap()
        })
        .collect();
    ready.wait();
    // 94 MiB come: past the first 64 MiB, and not past another 64 wherever the first cycle settles.
    let pressure = settings().growth(1.0).start().unwrap();
    ready.wait();
    ready.wait();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    assert!(pressure.wait_for_cycles(1, PATIENCE));
    clean_up(&pressure);
    let cleanups = pressure.cleanups();
    let triggers: Vec<_> = cleanups
        .iter()
        .map(|cleanup| cleanup.record.trigger)
        .collect();
    assert_eq!(triggers, [Trigger::Growth, Trigger::Asked]);
}

/// Runs an ignored test of this file in a process of its own.
fn itself(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--ignored"])
        .stdout(std::process::Stdio::null());
    command
}

#[test]
#[ignore = "the_operators_limits_count_where_they_are_lower runs it, in the operator's environment"]
fn heeds_the_operator() {
    let _turn = turn();
    let pressure = settings().soft_limit(1 << 50).growth(1e9).start().unwrap();
    let (cache, _registration) = cache();
    let expected = ["HEAPLEDGER_GROWTH: `often` is no ratio, ignored"];
    assert_eq!(pressure.notes(), expected);
    cache.fill(99);
    assert!(pressure.wait_for_cycles(1, PATIENCE));
    assert_eq!(pressure.cleanups()[0].record.trigger, Trigger::SoftLimit);
    pressure.set_limits(None, Some(50 * MIB as u64));
    cache.fill(49);
    assert!(pressure.wait_for_cycles(2, PATIENCE));
    assert_eq!(pressure.cleanups()[1].record.trigger, Trigger::HardLimit);
    pressure.set_limits(None, None);
    // The operator's hard limit is there for reservations too.
    match ledger().try_reserve(200 * MIB) {
        Err(Error::NoRoom { limit_bytes, .. }) => assert_eq!(limit_bytes, 150 * MIB as u64),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_operators_limits_count_where_they_are_lower() {
    let status = itself("heeds_the_operator")
        .env("HEAPLEDGER_SOFT_LIMIT", (100 * MIB).to_string())
        .env("HEAPLEDGER_HARD_LIMIT", (150 * MIB).to_string())
        .env("HEAPLEDGER_GROWTH", "often")
        .status();
    assert_eq!(status.unwrap().code(), Some(0));
}

#[test]
#[ignore = "a_resident_set_far_above_live_bytes_is_said_and_starts_nothing runs it, in a process whose resident set is its own"]
fn drifts() {
    let _turn = turn();
    let bytes = 600 * MIB;
    // SAFETY: new anonymous memory, touched within its bounds: malloc and the ledger never see it.
    unsafe {
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        let unseen = libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0);
        assert_ne!(unseen, libc::MAP_FAILED);
        unseen.cast::<u8>().write_bytes(1, bytes);
    }
    // All that is live is far below; the resident set is far above.
    let pressure = settings().soft_limit(100 * MIB as u64).start().unwrap();
    let (cache, _registration) = cache();
    for _ in 0..2 {
        clean_up(&pressure);
    }
    assert_eq!(pressure.notes(), ["drift"]);
    assert!(
        !pressure.wait_for_cycles(3, Duration::from_secs(3)),
        "it loops"
    );
    assert_eq!((pressure.level(), cache.calls()), (Level::Calm, 2));
    let drift = pressure.cleanups()[1].record.drift_bytes.unwrap();
    assert!(drift >= bytes as i64, "{drift}");
}

#[test]
fn a_resident_set_far_above_live_bytes_is_said_and_starts_nothing() {
    assert_eq!(itself("drifts").status().unwrap().code(), Some(0));
}

#[test]
#[ignore = "a_program_may_exit_during_a_clean_up runs it, in a process of its own that it ends"]
fn exits_during_a_clean_up() {
    let _turn = turn();
    let pressure = settings().start().unwrap();
    let (entered, enters) = mpsc::channel();
    let _hangs = act("hangs", Priority::Cache, move |_| {
        let _ = entered.send(());
        loop {
            std::thread::park();
        }
    });
    assert!(ledger().request_cleanup(0));
    enters.recv_timeout(PATIENCE).unwrap();
    let _ = &pressure;
    std::process::exit(9);
}

#[test]
fn a_program_may_exit_during_a_clean_up() {
    let status = itself("exits_during_a_clean_up").status().unwrap();
    assert_eq!(status.code(), Some(9));
}
