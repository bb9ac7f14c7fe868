//! Memory that malloc never sees, asked for before it is taken.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::handle;
use super::subscribe::Subscription;
use crate::core;
use crate::core::pressure;
use crate::snapshot::ledger;
use crate::{Error, Result};

/// The name that reservations are charged under.
const CHARGED: &std::ffi::CStr = c"reserved";
/// Other frees than clean-ups' tell nobody: looks while a reservation waits are no further apart.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Reservations that had to wait, and for how long in all.
static WAITS: AtomicU64 = AtomicU64::new(0);
static WAITED_NS: AtomicU64 = AtomicU64::new(0);

/// So many bytes are booked until this is dropped: mmap, GPU, another process.
#[must_use = "the bytes are booked until this is dropped"]
#[derive(Debug)]
pub struct Reservation {
    bytes: usize,
}

impl Reservation {
    /// Books so many bytes if the hard limit has room for them.
    pub(crate) fn try_new(bytes: usize) -> Result<Reservation> {
        handle::revive();
        if let Some(limit_bytes) = handle::hard_limit_bytes() {
            let live_bytes = live_bytes();
            if live_bytes.saturating_add(bytes as u64) > limit_bytes {
                pressure::ask(bytes as u64);
                return Err(Error::NoRoom {
                    asked_bytes: bytes as u64,
                    live_bytes,
                    limit_bytes,
                });
            }
        }
        core::charge(CHARGED, bytes, false);
        Ok(Reservation { bytes })
    }

    /// The same, waiting for clean-ups to make room, at most so long.
    pub(crate) fn new_within(bytes: usize, at_most: Duration) -> Result<Reservation> {
        let start = Instant::now();
        let refused = match Reservation::try_new(bytes) {
            Err(error @ Error::NoRoom { .. }) if !at_most.is_zero() => error,
            result => return result,
        };
        let Ok(mut told) = Subscription::new() else {
            return Err(refused);
        };
        WAITS.fetch_add(1, Relaxed);
        let result = loop {
            let left = at_most.saturating_sub(start.elapsed());
            // What goes wrong with the wait shortens it, no more.
            let _ = told.wait(left.min(LOOK_EVERY));
            match Reservation::try_new(bytes) {
                Err(Error::NoRoom { .. }) if start.elapsed() < at_most => {}
                result => break result,
            }
        };
        WAITED_NS.fetch_add(start.elapsed().as_nanos() as u64, Relaxed);
        result
    }

    /// Gives the bytes that are booked.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        core::charge(CHARGED, self.bytes, true);
    }
}

/// How often reservations had to wait in this process, and how long in all.
pub(crate) fn waits() -> (u64, Duration) {
    let waited = Duration::from_nanos(WAITED_NS.load(Relaxed));
    (WAITS.load(Relaxed), waited)
}

fn live_bytes() -> u64 {
    let live = ledger().live();
    u64::try_from(live.c_live_bytes + live.rust_live_bytes).unwrap_or(0)
}
