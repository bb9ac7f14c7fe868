//! Sends a signal to a process that is ready for it.
//!
//! Most signals end a process that has no handler. Every process of a tree is
//! driven, and a shell that only waits for the server must not die of the
//! server's signal, so the kernel is asked first who would handle it.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Why a signal was not sent.
#[derive(Debug)]
pub(super) enum NotSent {
    /// Nobody there handles or waits for it; most signals would end the process.
    NoHandler,
    /// The kernel refused.
    Refused(io::Error),
}

/// Sends a signal to the process behind `pidfd`, which is `pid`.
pub(super) fn send(pid: u32, pidfd: &OwnedFd, signal: i32) -> Result<(), NotSent> {
    if !is_awaited(pid, signal) {
        return Err(NotSent::NoHandler);
    }
    // SAFETY: a descriptor that is open, a number, and no further information.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(NotSent::Refused(io::Error::last_os_error())),
    }
}

/// Tells whether the process has a handler, or blocks the signal in every thread, as
/// those do that read it from a descriptor.
fn is_awaited(pid: u32, signal: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    has(&status, "SigCgt:", signal) || is_blocked(pid, signal)
}

fn is_blocked(pid: u32, signal: i32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    let mut tasks = tasks.flatten().peekable();
    // Our own thread in the target blocks nearly everything, so it changes nothing.
    tasks.peek().is_some()
        && tasks.all(|task| {
            fs::read_to_string(task.path().join("status"))
                .is_ok_and(|status| has(&status, "SigBlk:", signal))
        })
}

/// Tells whether a line of /proc/PID/status names the signal.
fn has(status: &str, field: &str, signal: i32) -> bool {
    let mut lines = status.lines();
    let set = lines.find_map(|line| u64::from_str_radix(line.strip_prefix(field)?.trim(), 16).ok());
    set.is_some_and(|set| set >> (signal - 1) & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_signals_are_read() {
        let status = "Name:\tx\nSigBlk:\t0000000000000800\nSigCgt:\t8000000000000200\n";
        assert!(has(status, "SigCgt:", libc::SIGUSR1));
        assert!(has(status, "SigCgt:", 64));
        assert!(!has(status, "SigCgt:", libc::SIGUSR2));
        assert!(has(status, "SigBlk:", libc::SIGUSR2));
        assert!(!has("", "SigCgt:", 1));
    }

    #[test]
    fn who_has_no_handler_is_left_alone() {
        use std::process::Command;
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let pidfd = super::super::super::ending::open(child.id()).unwrap();
        let sent = send(child.id(), &pidfd, libc::SIGUSR1);
        assert!(matches!(sent, Err(NotSent::NoHandler)), "{sent:?}");
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
