//! Memory that malloc never sees, asked for before it is taken.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
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
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Reservations that had to wait, and for how long in all.
static WAITS: AtomicU64 = AtomicU64::new(0);
static WAITED_NS: AtomicU64 = AtomicU64::new(0);

/// One reservation waits; counted when this is dropped, also where the wait is given up.
pub(super) struct Wait(Instant);

impl Wait {
    pub(super) fn begin() -> Wait {
        WAITS.fetch_add(1, Relaxed);
        Wait(Instant::now())
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        WAITED_NS.fetch_add(self.0.elapsed().as_nanos() as u64, Relaxed);
    }
}

/// Whose turn it is to look for room and take it: a process, 0 for nobody's. No [`std::sync::Mutex`],
/// which a child forked in the middle would find locked for good.
static TURN: AtomicU32 = AtomicU32::new(0);

struct Turn;

impl Turn {
    fn take() -> Turn {
        let pid = std::process::id();
        loop {
            let whose = TURN.load(Relaxed);
            // A few hundred nanoseconds at a time; a parent's turn is not ours to wait for.
            if whose == pid || TURN.compare_exchange(whose, pid, Acquire, Relaxed).is_err() {
                std::thread::yield_now();
            } else {
                return Turn; // Acquire pairs with the release below: its bytes are booked
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TURN.store(0, Release);
    }
}

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
        let Some(limit_bytes) = handle::hard_limit_bytes() else {
            core::charge(CHARGED, bytes, false);
            return Ok(Reservation { bytes });
        };
        let turn = Turn::take();
        let live_bytes = live_bytes();
        if live_bytes.saturating_add(bytes as u64) <= limit_bytes {
            core::charge(CHARGED, bytes, false);
            return Ok(Reservation { bytes });
        }
        drop(turn);
        pressure::ask(bytes as u64);
        Err(Error::NoRoom {
            asked_bytes: bytes as u64,
            live_bytes,
            limit_bytes,
        })
    }

    /// The same, waiting for clean-ups to make room, at most so long.
    pub(crate) fn new_within(bytes: usize, at_most: Duration) -> Result<Reservation> {
        let start = Instant::now();
        let mut result = Reservation::try_new(bytes);
        if !matches!(result, Err(Error::NoRoom { .. })) || at_most.is_zero() {
            return result;
        }
        let _counted = Wait::begin();
        // Without a descriptor of its own it looks from time to time.
        let mut told = Subscription::new().ok();
        while matches!(result, Err(Error::NoRoom { .. })) && start.elapsed() < at_most {
            let nap = at_most.saturating_sub(start.elapsed()).min(LOOK_EVERY);
            match &mut told {
                // What goes wrong with the wait shortens it, no more.
                Some(told) => drop(told.wait(nap)),
                None => std::thread::sleep(nap),
            }
            result = Reservation::try_new(bytes);
        }
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
