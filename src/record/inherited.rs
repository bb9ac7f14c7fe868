//! What this process was started with, so that the program starts with the same.
//!
//! Rust's runtime ignores SIGPIPE and fills closed standard streams before
//! `main`, so this looks earlier.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Bits 0 to 2: this standard stream was closed. Bit 3: SIGPIPE was ignored.
static AT_START: AtomicU32 = AtomicU32::new(0);
const PIPE_IGNORED: u32 = 1 << 3;

#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    let mut seen = 0;
    for stream in 0..3 {
        // SAFETY: asks for the flags of a descriptor, which need not exist.
        if unsafe { libc::fcntl(stream, libc::F_GETFD) } == -1 {
            seen |= 1 << stream;
        }
    }
    if is_ignored(libc::SIGPIPE) {
        seen |= PIPE_IGNORED;
    }
    AT_START.store(seen, Relaxed);
}

fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: only asks; the action is read only where the call filled it in.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// What has to be put back between fork and exec.
#[derive(Clone, Copy)]
pub(super) struct Inherited {
    mask: libc::sigset_t,
    at_start: u32,
    children_ignored: bool,
}

impl Inherited {
    /// Looks at the signals and blocks those given, from now on read by descriptor.
    pub(super) fn take(blocked: &libc::sigset_t) -> Inherited {
        let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: both sets are valid; the old mask is filled in by the call, which
        // cannot fail with SIG_BLOCK.
        let mask = unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, blocked, mask.as_mut_ptr());
            mask.assume_init()
        };
        let children_ignored = is_ignored(libc::SIGCHLD);
        if children_ignored {
            // Otherwise nobody could wait for the program.
            // SAFETY: installs no handler.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        }
        Inherited {
            mask,
            at_start: AT_START.load(Relaxed),
            children_ignored,
        }
    }

    /// Makes the command start as if this process had executed it.
    pub(super) fn give(self, command: &mut Command) {
        // SAFETY: `restore` only makes async-signal-safe calls.
        unsafe { command.pre_exec(move || self.restore()) };
    }

    fn restore(&self) -> io::Result<()> {
        // SAFETY: each is async-signal-safe, is given valid arguments, and changes
        // this child only.
        unsafe {
            for stream in (0..3).filter(|stream| self.at_start & (1 << stream) != 0) {
                libc::close(stream);
            }
            if self.at_start & PIPE_IGNORED != 0 {
                libc::signal(libc::SIGPIPE, libc::SIG_IGN);
            }
            if self.children_ignored {
                libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &self.mask, null_mut());
        }
        Ok(())
    }
}
