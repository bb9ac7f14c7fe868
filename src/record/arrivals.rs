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

/// Opens a ledger once it is complete. `Ok(None)`: not yet; an error: it never will be.
pub(super) fn open_complete(arrival: &Arrival) -> io::Result<Option<(File, Header)>> {
    open_unless_never(arrival, || arrival.is_alive())
}

fn open_unless_never(
    arrival: &Arrival,
    is_alive: impl FnOnce() -> bool,
) -> io::Result<Option<(File, Header)>> {
    // Asked before the look: a writer that completes its ledger and ends in
    // between has it complete at the look. The other way round it would count
    // as one that died half-way, and its process would be lost.
    let may_go_on = is_alive();
    match open(arrival) {
        // A dead writer's ledger is as good later.
        Err(error) if is_passing(&error) => Ok(None),
        Ok(None) if !may_go_on => Err(io::Error::other("its writer died before it was complete")),
        found => found,
    }
}

/// Tells whether the same call may succeed later: descriptors or memory are used up for now.
fn is_passing(error: &io::Error) -> bool {
    let passing = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EINTR];
    error
        .raw_os_error()
        .is_some_and(|code| passing.contains(&code))
}

fn open(arrival: &Arrival) -> io::Result<Option<(File, Header)>> {
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

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::ledger::layout;

    /// The ledger of a process, as far as its name.
    fn arrival() -> (tempfile::NamedTempFile, Arrival) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size_of::<Header>() as u64).unwrap();
        let arrival = Arrival {
            path: file.path().to_owned(),
            pid: 4711,
            pidfd: None,
        };
        (file, arrival)
    }

    fn write(file: &File, at: usize, bytes: &[u8]) {
        file.write_all_at(bytes, at as u64).unwrap();
    }

    /// Writes in the core's order, up to the layout's number.
    fn begin(file: &File) {
        write(file, 0, &layout::MAGIC.to_ne_bytes());
    }

    fn complete(file: &File) {
        let of_page = (layout::PAGE_BYTES as u64) << 32;
        let layout = of_page | u64::from(layout::LAYOUT);
        write(file, 8, &layout.to_ne_bytes());
        write(file, offset_of!(Header, pid), &4711u32.to_ne_bytes());
        write(file, 16, &layout::STATE_READY.to_ne_bytes());
    }

    #[test]
    fn who_completes_its_ledger_and_ends_while_we_look_is_not_lost() {
        let (file, arrival) = arrival();
        begin(file.as_file());
        let completes_and_ends = || {
            complete(file.as_file());
            false
        };
        let found = open_unless_never(&arrival, completes_and_ends);
        assert_eq!(found.unwrap().expect("a ledger").1.pid, 4711);
    }

    #[test]
    fn who_has_only_begun_is_waited_for_as_long_as_it_lives() {
        let (file, arrival) = arrival();
        assert!(open_unless_never(&arrival, || true).unwrap().is_none());
        begin(file.as_file());
        assert!(open_unless_never(&arrival, || true).unwrap().is_none());
        assert!(open_unless_never(&arrival, || false).is_err());
    }

    #[test]
    fn what_passes_is_waited_for_and_what_stays_is_not() {
        let error = io::Error::from_raw_os_error;
        assert!(is_passing(&error(libc::EMFILE)) && is_passing(&error(libc::ENOMEM)));
        assert!(!is_passing(&error(libc::ENOENT)) && !is_passing(&error(libc::EACCES)));
        assert!(!is_passing(&io::Error::other("not a regular file")));
    }

    #[test]
    fn a_ledger_of_another_layout_is_not_waited_for() {
        let (file, arrival) = arrival();
        begin(file.as_file());
        write(file.as_file(), 8, &(layout::LAYOUT + 1).to_ne_bytes());
        assert!(open_unless_never(&arrival, || true).is_err());
    }
}
