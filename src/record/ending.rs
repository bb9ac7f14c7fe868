//! How a process that is not our child ended.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::proc;
use crate::recording::model::Outcome;

/// Attempts between "a zombie" and "reaped": the moment between the two is short.
const ATTEMPTS: usize = 3;

/// Opens a descriptor that becomes readable when the process ends.
pub(super) fn open(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Tells whether the process has ended.
pub(super) fn has_ended(pidfd: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut descriptors = [PollFd::new(pidfd, PollFlags::IN)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut descriptors, Some(&at_once)).is_ok_and(|ready| ready > 0)
}

/// Gives how an ended process ended, as far as the kernel says: from the zombie
/// while it waits for its parent, from the descriptor once it was reaped.
pub(super) fn outcome(pid: u32, start_ticks: u64, pidfd: Option<&OwnedFd>) -> Outcome {
    for _ in 0..ATTEMPTS {
        if let Some(status) = pidfd.and_then(exit_info) {
            return from_status(ExitStatus::from_raw(status));
        }
        match proc::stat(pid) {
            Some(stat)
                if stat.state == b'Z' && (start_ticks == 0 || stat.start_ticks == start_ticks) =>
            {
                let may_look = stat.wait_status != 0 || is_ours(pid);
                if may_look {
                    return from_status(ExitStatus::from_raw(stat.wait_status));
                }
            }
            _ => {}
        }
    }
    Outcome::Unknown
}

/// Says of our own child how it ended.
pub(super) fn from_status(status: ExitStatus) -> Outcome {
    match (status.code(), status.signal()) {
        (Some(code), _) => Outcome::ExitCode(code),
        (None, Some(signal)) => Outcome::Signal(signal),
        (None, None) => Outcome::Unknown,
    }
}

/// The kernel shows 0 as the status of processes that we may not trace.
fn is_ours(pid: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    let user = rustix::process::geteuid();
    user.is_root()
        || std::fs::metadata(format!("/proc/{pid}")).is_ok_and(|found| found.uid() == user.as_raw())
}

/// The kernel's `struct pidfd_info`, first version.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const INFO_EXIT: u64 = 1 << 3;
/// _IOWR(0xFF, 11, struct pidfd_info)
const GET_INFO: libc::c_ulong =
    (3 << 30) | ((size_of::<PidfdInfo>() as libc::c_ulong) << 16) | (0xff << 8) | 11;

/// Asks for the wait status of a reaped process (Linux 6.15 and later).
fn exit_info(pidfd: &OwnedFd) -> Option<i32> {
    let mut info = PidfdInfo {
        mask: INFO_EXIT,
        ..PidfdInfo::default()
    };
    // SAFETY: the kernel writes at most the bytes that the request's number tells it.
    let result = unsafe { libc::ioctl(pidfd.as_fd().as_raw_fd(), GET_INFO as _, &raw mut info) };
    (result == 0 && info.mask & INFO_EXIT != 0).then_some(info.exit_code)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_zombie_and_a_reaped_process_tell_how_they_ended() {
        for (script, expected) in [
            ("exit 7", Outcome::ExitCode(7)),
            ("kill -9 $$", Outcome::Signal(9)),
        ] {
            let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
            let pidfd = open(child.id()).unwrap();
            while !has_ended(&pidfd) {
                std::thread::yield_now();
            }
            assert_eq!(outcome(child.id(), 0, Some(&pidfd)), expected);
            child.wait().unwrap();
            let reaped = outcome(child.id(), 0, Some(&pidfd));
            assert!(
                reaped == expected || reaped == Outcome::Unknown,
                "{reaped:?}"
            );
        }
    }
}
