//! Being told when the level changes or a clean-up begins.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use super::limits::Level;
use crate::core::pressure as core;
use crate::{Error, Result};

/// Becomes readable when the level changes or a clean-up begins; each has an eventfd of its own.
///
/// ```no_run
/// let mut told = heapledger::ledger().subscribe()?;
/// while let Some(level) = told.wait(std::time::Duration::from_secs(60))? {
///     println!("{}", level.name());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Subscription {
    file: std::fs::File,
}

impl Subscription {
    pub(crate) fn new() -> Result<Subscription> {
        let file = core::open_fd().ok_or(Error::NoLedger)?;
        Ok(Subscription { file: file.into() })
    }

    /// Gives the level as it is now.
    pub fn level(&self) -> Level {
        level_now()
    }

    #[cfg(feature = "tokio")]
    pub(super) fn into_file(self) -> std::fs::File {
        self.file
    }

    /// Waits until there is something to tell, at most so long; gives the level, or `None` when the time is over.
    ///
    /// # Errors
    /// Those of `poll`.
    pub fn wait(&mut self, at_most: Duration) -> io::Result<Option<Level>> {
        let mut wait = libc::pollfd {
            fd: self.file.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let at_most_ms = i32::try_from(at_most.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one pollfd, as is said.
        match unsafe { libc::poll(&mut wait, 1, at_most_ms) } {
            0 => Ok(None),
            1.. => {
                self.acknowledge();
                Ok(Some(self.level()))
            }
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Makes the descriptor unreadable until there is something new: for those who poll it themselves.
    pub fn acknowledge(&mut self) {
        // It does not block; empty already is as good.
        let _ = (&self.file).read(&mut [0; 8]);
    }
}

/// The level that the ledger says.
pub(super) fn level_now() -> Level {
    Level::from_number(core::read().map_or(0, |words| words.level))
}

impl AsFd for Subscription {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for Subscription {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl From<Subscription> for OwnedFd {
    fn from(subscription: Subscription) -> OwnedFd {
        subscription.file.into()
    }
}
