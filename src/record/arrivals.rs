//! New ledgers: which process each belongs to, and when it is complete.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::{ending, proc};
use crate::ledger::books::read_header;
use crate::ledger::layout::Header;
use crate::ledger::pages::FilePages;
use crate::recording::open_ledger;

/// A ledger file that is not complete yet.
pub(super) struct Arrival {
    pub path: PathBuf,
    pub pid: u32,
    pub pidfd: Option<OwnedFd>,
}

impl Arrival {
    /// Tells whether its writer may still complete it.
    pub(super) fn is_alive(&self) -> bool {
        match &self.pidfd {
            Some(pidfd) => !ending::has_ended(pidfd),
            None => proc::stat(self.pid).is_some(),
        }
    }
}

/// Gives the pid that a ledger's name begins with.
pub(super) fn pid_of(name: &str) -> Option<u32> {
    let (pid, rest) = name.split_once('-')?;
    rest.strip_suffix(".ledger")?;
    pid.parse().ok().filter(|&pid| pid > 0)
}

/// Opens a ledger once it is complete. `Ok(None)`: not yet.
pub(super) fn open_complete(arrival: &Arrival) -> io::Result<Option<(File, Header)>> {
    let file = open_ledger(&arrival.path)?;
    let user = rustix::process::geteuid();
    let owner = std::os::unix::fs::MetadataExt::uid(&file.metadata()?);
    if !user.is_root() && owner != user.as_raw() {
        return Err(io::Error::other("somebody else's file"));
    }
    match read_header(&FilePages(&file)) {
        Ok(header) if header.pid == arrival.pid => Ok(Some((file, header))),
        Ok(_) | Err(crate::Error::Layout { .. }) => Err(io::Error::other("not what its name says")),
        Err(_) => Ok(None),
    }
}
