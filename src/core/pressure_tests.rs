use std::ffi::c_void;
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::ledger::layout;
use std::time::Duration;

/// Adds the target to the counter that the context is.
unsafe extern "C" fn count(context: *mut c_void, request: *const Request) -> i64 {
    // SAFETY: the test gives its counter, which outlives the registration, and the core a live request.
    let (counter, request) = unsafe { (&*context.cast::<AtomicI64>(), &*request) };
    counter.fetch_add(request.target_bytes, Ordering::Relaxed);
    request.target_bytes
}

fn drive(preloaded: bool) {
    assert_eq!(arm(i64::MAX), Some(false));
    assert_eq!(arm(-1), Some(true), "live bytes are past it");
    arm(i64::MAX);
    poke();
    assert!(ask(5));
    assert_eq!(
        take() & !layout::CROSSED_ARMED,
        layout::CROSSED_POKED | layout::CROSSED_ASKED
    );
    assert_eq!(take(), 0);
    let words = read().expect("a ledger");
    assert_eq!((words.asked, words.asked_bytes), (1, 5));
    assert_eq!(words.armed_bytes, i64::MAX);
    if preloaded {
        // Started before `main`, and there when it says so.
        while read().expect("a ledger").helper == 0 {
            std::thread::yield_now();
        }
    } else {
        assert_eq!(words.helper, 0, "no thread before it is needed");
    }

    let counter = AtomicI64::new(0);
    let context = (&raw const counter).cast_mut().cast();
    // SAFETY: the counter outlives the registration, and `count` does not unwind.
    let handle = unsafe { register(c"counter", 1, count, context, false) };
    assert_ne!(handle, 0);
    assert_eq!((list(0), list(1)), (vec![], vec![handle]));
    let claim = call(handle, &Request::new(1, 2, 40, 0)).expect("registered");
    assert_eq!(
        (claim.handle, claim.claimed_bytes, claim.priority),
        (handle, 40, 1)
    );
    assert_eq!(claim.name(), "counter");

    // The same one through the core's own thread, which this starts.
    // SAFETY: as above.
    let helped = unsafe { register(c"helped", 0, count, context, true) };
    let before = read().expect("a ledger").done;
    request_helper(3, 100);
    while read().expect("a ledger").done == before {
        assert!(wait(Word::Done, before, Duration::from_secs(60)));
    }
    assert_eq!(counter.load(Ordering::Relaxed), 240);
    let words = read().expect("a ledger");
    assert_eq!((words.claimed_bytes, words.reclaimers), (200, 2));

    let file = open_fd().expect("an eventfd");
    signal();
    let mut value = [0u8; 8];
    // SAFETY: room for the eight bytes of an eventfd's counter.
    let bytes = unsafe {
        libc::read(
            std::os::fd::AsRawFd::as_raw_fd(&file),
            value.as_mut_ptr().cast(),
            8,
        )
    };
    assert_eq!((bytes, u64::from_ne_bytes(value)), (8, 1));
    set_level(2);
    assert_eq!(read().expect("a ledger").level, 2);

    unregister(handle);
    unregister(helped);
    assert!(call(handle, &Request::new(2, 2, 1, 0)).is_none());
    assert!(list(1).is_empty());
}

/// In a process of its own, since there is one set of words in each: alone, where this crate's
/// core keeps the books, and under the preload, whose core does.
#[test]
fn a_driver_inside() {
    const INSIDE: &str = "HEAPLEDGER_TEST_DRIVER_INSIDE";
    if let Some(inside) = std::env::var_os(INSIDE) {
        return drive(inside == "preloaded");
    }
    // The preload library is built with the command alone.
    let preload = option_env!("HEAPLEDGER_PRELOAD").map(|library| ("preloaded", library));
    for (inside, preload) in [("alone", "")].into_iter().chain(preload) {
        let output = Command::new(std::env::current_exe().expect("a test has a path"))
            .args(["--exact", "core::pressure::tests::a_driver_inside"])
            .env(INSIDE, inside)
            .env("LD_PRELOAD", preload)
            .envs((inside == "preloaded").then_some(("HEAPLEDGER_PRESSURE", "trim")))
            .output()
            .expect("the test starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{inside}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
