//! Signals that are sent to `run` and meant for the program.

use std::fs::File;
use std::io::{self, Read};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};

use super::spotter::NOTICE;

const FORWARDED: [i32; 7] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
];

/// The signals as they arrive. They must be blocked in every thread.
pub(super) struct Signals {
    descriptor: File,
}

/// Gives the set of signals that are passed on.
pub(super) fn forwarded() -> libc::sigset_t {
    set(&FORWARDED)
}

/// Gives the signals that are blocked, to be read by descriptor: those that are
/// passed on, and the spotter's.
pub(super) fn blocked() -> libc::sigset_t {
    let mut all = FORWARDED.to_vec();
    all.push(NOTICE);
    set(&all)
}

/// Gives a set of signals.
pub(super) fn set(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set; the numbers are signals.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for &signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}

/// Opens a descriptor to read blocked signals from.
pub(super) fn descriptor(set: &libc::sigset_t, flags: i32) -> io::Result<File> {
    // SAFETY: the set is valid, and the descriptor is new and owned here only.
    unsafe {
        match libc::signalfd(-1, set, libc::SFD_CLOEXEC | flags) {
            -1 => Err(io::Error::last_os_error()),
            descriptor => Ok(File::from_raw_fd(descriptor)),
        }
    }
}

impl Signals {
    pub(super) fn open(set: &libc::sigset_t) -> io::Result<Signals> {
        let descriptor = descriptor(set, libc::SFD_NONBLOCK)?;
        Ok(Signals { descriptor })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Gives the next signal to pass on. What the terminal sent went to the whole
    /// process group, the program included, and is left out.
    pub(super) fn next(&mut self) -> Option<i32> {
        loop {
            let mut bytes = [0u8; size_of::<libc::signalfd_siginfo>()];
            self.descriptor.read_exact(&mut bytes).ok()?;
            let word = |at: usize| {
                i32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
            };
            let signal = word(std::mem::offset_of!(libc::signalfd_siginfo, ssi_signo));
            let code = word(std::mem::offset_of!(libc::signalfd_siginfo, ssi_code));
            if code != libc::SI_KERNEL {
                return Some(signal);
            }
        }
    }
}
