//! Spots new ledgers the moment they appear, on a thread that does nothing else.
//!
//! A child may live for a millisecond. How it ended can be asked of a descriptor
//! that was opened before its parent has waited for it, so that descriptor is
//! opened here, at first sight of the ledger's name, whatever the watch is doing.
//!
//! The kernel tells of new files by dnotify. inotify would tell their names as
//! well, but closing an inotify descriptor makes a process end some 15 ms later.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::event::{EventfdFlags, eventfd};

use super::arrivals::{Arrival, pid_of};
use super::{ending, signals};

/// The signal that dnotify sends. It must be blocked in every thread.
pub(super) const NOTICE: i32 = libc::SIGIO;

/// From linux/fcntl.h: tell of files that are created, and go on telling.
const DN_CREATE: libc::c_uint = 0x4;
const DN_MULTISHOT: libc::c_uint = 0x8000_0000;

/// The least turn that the scheduler grants: who asks for short ones gets them soon.
const TURN_NS: u64 = 100_000;

/// Finds ledgers and hands them out.
pub(super) struct Spotter {
    found: Receiver<Arrival>,
    shared: Arc<Shared>,
    /// The directory; the kernel tells of new files in it as long as it is open.
    told: Option<OwnedFd>,
}

struct Shared {
    directory: PathBuf,
    /// Names that are in the directory and were handed out.
    known: Mutex<HashSet<String>>,
    finds: Sender<Arrival>,
    /// Readable when something was found.
    wake: OwnedFd,
}

impl Spotter {
    /// Begins to look; before the program starts, so that nothing is missed.
    pub(super) fn begin(directory: &Path) -> io::Result<Spotter> {
        let mut spotter = Spotter::new(directory)?;
        if let Ok(told) = ask_to_be_told(directory) {
            let notices = signals::descriptor(&signals::set(&[NOTICE]), 0)?;
            let shared = Arc::clone(&spotter.shared);
            let thread = std::thread::Builder::new().name("spotter".into());
            thread.spawn(move || shared.spot(notices))?;
            spotter.told = Some(told);
        }
        Ok(spotter)
    }

    fn new(directory: &Path) -> io::Result<Spotter> {
        let (finds, found) = unbounded();
        let shared = Shared {
            directory: directory.to_owned(),
            known: Mutex::default(),
            finds,
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        };
        Ok(Spotter {
            found,
            shared: Arc::new(shared),
            told: None,
        })
    }

    /// Tells whether the kernel tells of new ledgers; else [`Spotter::look`] finds them.
    pub(super) fn is_told(&self) -> bool {
        self.told.is_some()
    }

    /// Gives what becomes readable when there is something to take.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }

    /// Looks at once.
    pub(super) fn look(&self) {
        self.shared.look();
    }

    /// Takes what was found, of whole looks: what a process became never comes before
    /// what it was.
    pub(super) fn take(&self) -> Vec<Arrival> {
        let known = &self.shared.known;
        let _whole = known.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = rustix::io::read(&self.shared.wake, &mut [0u8; 8]);
        self.found.try_iter().collect()
    }
}

impl Shared {
    fn spot(&self, mut notices: File) {
        ask_for_short_turns();
        let mut notice = [0u8; size_of::<libc::signalfd_siginfo>()];
        while notices.read_exact(&mut notice).is_ok() {
            self.look();
        }
    }

    fn look(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut present = HashSet::with_capacity(known.len() + 1);
        let mut is_new = false;
        // Without a descriptor to look with, all that was known stays known.
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
        for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
            if let Some(pid) = pid_of(&name).filter(|_| !known.contains(&name)) {
                let pidfd = ending::open(pid);
                let path = self.directory.join(&name);
                let _ = self.finds.send(Arrival { path, pid, pidfd });
                is_new = true;
            }
            present.insert(name);
        }
        *known = present;
        if is_new {
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }
}

fn ask_to_be_told(directory: &Path) -> io::Result<OwnedFd> {
    let directory = File::open(directory)?;
    // SAFETY: asks for a signal, which is blocked, whenever a file appears.
    let result = unsafe {
        libc::fcntl(
            directory.as_raw_fd(),
            libc::F_NOTIFY,
            DN_CREATE | DN_MULTISHOT,
        )
    };
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(directory.into()),
    }
}

/// The kernel's `struct sched_attr`, first version.
#[repr(C)]
#[derive(Default)]
struct SchedulerAttributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

/// Makes this thread run soon after it is woken, also on a busy machine (Linux
/// 6.12 and later; before, the request changes nothing).
pub(super) fn ask_for_short_turns() {
    // SAFETY: asks for this thread's niceness, to leave it as it is.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let attributes = SchedulerAttributes {
        size: size_of::<SchedulerAttributes>() as u32,
        nice,
        runtime_ns: TURN_NS,
        ..SchedulerAttributes::default()
    };
    // SAFETY: the attributes are valid, and the kernel is told their size.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_is_found_once_with_its_process() {
        let directory = tempfile::tempdir().unwrap();
        let spotter = Spotter::new(directory.path()).unwrap();
        let pid = std::process::id();
        fs::write(directory.path().join(format!("{pid}-0.ledger")), "").unwrap();
        fs::write(directory.path().join("other"), "").unwrap();
        spotter.look();
        spotter.look();
        let found = spotter.take();
        assert_eq!(found.len(), 1);
        assert!(found[0].pid == pid && found[0].pidfd.is_some());
    }
}
