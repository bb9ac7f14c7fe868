//! What a program asks of its ledger about clean-ups.

use std::sync::Arc;
use std::time::Duration;

use super::handle;
use super::reclaim::{Reclaim, Registration};
use super::reclaimers::Priority;
use super::reserve::{self, Reservation};
use super::settings::Settings;
use super::subscribe::Subscription;
use crate::Result;
use crate::core::pressure as core;
use crate::snapshot::Ledger;

impl Ledger {
    /// Sets when clean-ups are driven in this process; [`Settings::start`] begins.
    pub fn pressure(self) -> Settings {
        Settings::default()
    }

    /// Registers a reclaimer for whoever drives clean-ups in this process, or from outside.
    ///
    /// Names are cut to 47 bytes. Of more than 64 reclaimers the last are not
    /// called: [`Registration::is_active`] tells.
    pub fn register(
        self,
        name: &str,
        priority: Priority,
        reclaim: Arc<dyn Reclaim>,
    ) -> Registration {
        handle::revive();
        Registration::new(name, priority, reclaim)
    }

    /// Wishes for a clean-up of so many bytes, 0 for as much as there is; false without a ledger.
    pub fn request_cleanup(self, target_bytes: u64) -> bool {
        handle::revive();
        core::ask(target_bytes)
    }

    /// Books memory that malloc never sees, if the hard limit has room for it.
    ///
    /// # Errors
    /// [`Error::NoRoom`](crate::Error::NoRoom); a clean-up was then asked for.
    pub fn try_reserve(self, bytes: usize) -> Result<Reservation> {
        Reservation::try_new(bytes)
    }

    /// As [`Ledger::try_reserve`], waiting for clean-ups to make room, at most so long.
    ///
    /// # Errors
    /// [`Error::NoRoom`](crate::Error::NoRoom) when the time is over.
    pub fn reserve_within(self, bytes: usize, at_most: Duration) -> Result<Reservation> {
        Reservation::new_within(bytes, at_most)
    }

    /// Tells how often [`Ledger::reserve_within`] had to wait in this process, and how long in all.
    pub fn throttled(self) -> (u64, Duration) {
        reserve::waits()
    }

    /// Opens a descriptor that tells when the level changes or a clean-up begins.
    ///
    /// # Errors
    /// [`Error::NoLedger`](crate::Error::NoLedger), also when no descriptor is to be had.
    pub fn subscribe(self) -> Result<Subscription> {
        handle::revive();
        Subscription::new()
    }
}
