//! The operator's command, run by the shell outside the target: never two at
//! once for one process, and none that is waited for without end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};

use super::super::ending;
use crate::pressure::Cycle;

/// The present run of the command, if there is one.
#[derive(Default)]
pub(super) struct Errand(Mutex<Option<Child>>);

/// How far a command has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Ended(ExitStatus),
    /// Its deadline has passed, or its process has ended.
    Running,
}

impl Errand {
    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the command; false while the last one has not ended.
    pub(super) fn start(&self, command: &str, pid: u32, cycle: &Cycle) -> io::Result<bool> {
        let mut child = self.child();
        if let Some(last) = &mut *child
            && last.try_wait()?.is_none()
        {
            return Ok(false);
        }
        *child = None;
        let started = Command::new("/bin/sh")
            .args(["-c", command])
            .env("HEAPLEDGER_PRESSURE_LEVEL", cycle.level.name())
            .env("HEAPLEDGER_LIVE_BYTES", cycle.before_bytes.to_string())
            .env("HEAPLEDGER_TARGET_BYTES", cycle.target_bytes.to_string())
            .env("HEAPLEDGER_PID", pid.to_string())
            .stdin(Stdio::null())
            // The program's standard output is not for others to write to.
            .stdout(error_stream())
            .process_group(0)
            .spawn()?;
        *child = Some(started);
        Ok(true)
    }

    /// Waits for the command until its deadline, or until the target has ended.
    pub(super) fn wait(&self, target: Option<&OwnedFd>, until: Instant) -> io::Result<Progress> {
        let Some(pid) = self.child().as_ref().map(Child::id) else {
            return Ok(Progress::Running);
        };
        let pidfd = ending::open(pid).ok_or_else(io::Error::last_os_error)?;
        let waited = [Some(&pidfd), target];
        loop {
            if let Some(status) = self.status()? {
                return Ok(Progress::Ended(status));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || target.is_some_and(ending::has_ended) {
                return Ok(Progress::Running);
            }
            wait_for_any(waited.into_iter().flatten(), left)?;
        }
    }

    fn status(&self) -> io::Result<Option<ExitStatus>> {
        let mut child = self.child();
        let Some(running) = &mut *child else {
            return Ok(None);
        };
        let status = running.try_wait()?;
        if status.is_some() {
            *child = None;
        }
        Ok(status)
    }

    /// Asks the command, and all that it has started, to end: its target is gone.
    pub(super) fn call_off(&self) {
        if let Some(running) = &mut *self.child()
            && let Ok(None) = running.try_wait()
            && let Some(group) = Pid::from_raw(running.id() as i32)
        {
            // Not waited for yet, so the number is still its own.
            let _ = kill_process_group(group, Signal::TERM);
        }
    }

    /// Waits for the command that was called off, on a thread that nobody waits for.
    pub(super) fn see_off(&self) {
        self.call_off();
        let running = self.child().take();
        if let Some(mut running) = running {
            let _ = running.wait();
        }
    }
}

/// Says how a command failed; `None` when it did not.
pub(super) fn failure(status: ExitStatus) -> Option<String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        // As shells say it, which have said the rest on standard error.
        (Some(127), _) => Some("exit code 127: the shell found no such command".to_owned()),
        (Some(126), _) => Some("exit code 126: the shell could not run it".to_owned()),
        (Some(code), _) => Some(format!("exit code {code}")),
        (None, Some(signal)) => Some(format!(
            "killed by {}",
            crate::analysis::signal_name(signal)
        )),
        (None, None) => Some("ended somehow".to_owned()),
    }
}

fn error_stream() -> Stdio {
    let stream = io::stderr().as_fd().try_clone_to_owned();
    stream.map_or_else(|_| Stdio::null(), Stdio::from)
}

fn wait_for_any<'a>(
    descriptors: impl Iterator<Item = &'a OwnedFd>,
    at_most: Duration,
) -> io::Result<()> {
    let mut waits: Vec<PollFd<'_>> = descriptors
        .map(|descriptor| PollFd::new(descriptor, PollFlags::IN))
        .collect();
    let time = Timespec {
        tv_sec: at_most.as_secs() as i64,
        tv_nsec: i64::from(at_most.subsec_nanos()),
    };
    match poll(&mut waits, Some(&time)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
