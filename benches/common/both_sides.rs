//! What the criterion benches share: both sides seen, and how long a bench takes.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use criterion::Criterion;
use heapledger::Side;

use crate::common::preload_library;

/// Says that a bench runs under the preload library already.
const PRELOADED: &str = "BENCH_PRELOADED";

/// Starts this bench anew under the preload library, unless C is seen: so that
/// a plain `cargo bench` books both sides. Call it first in `main`.
pub fn see_both_sides() {
    if heapledger::ledger().snapshot().sees(Side::C) {
        return;
    }
    assert!(
        env::var_os(PRELOADED).is_none(),
        "side c is not seen, and the preload library does not help"
    );
    let mut preload = preload_library().into_os_string();
    if let Some(others) = env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        preload.push(":");
        preload.push(others);
    }
    let itself = env::current_exe().expect("the bench's own path");
    let error = Command::new(&itself)
        .args(env::args_os().skip(1))
        .env("LD_PRELOAD", preload)
        .env(PRELOADED, "1")
        .exec();
    panic!("{} cannot start anew: {error}", itself.display());
}

/// Criterion as our benches use it: a second a bench is enough for what takes nanoseconds.
pub fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}
