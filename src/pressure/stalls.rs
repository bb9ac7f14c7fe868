//! Waiting for the kernel to report that tasks wait for memory.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::thread::{self, JoinHandle};

use super::readings::{ControlGroup, watch_stalls};

/// A thread that waits for the kernel to report stalls.
pub(crate) struct StallWatch {
    stop: File,
    thread: Option<JoinHandle<()>>,
}

impl StallWatch {
    /// Calls `report` at each of the kernel's reports until it is dropped; `None` where there are none.
    pub(crate) fn start(
        group: Option<&ControlGroup>,
        report: impl Fn() + Send + 'static,
    ) -> Option<StallWatch> {
        let watch = std::env::var_os("MEMORY_PRESSURE_WATCH");
        let reports = watch_stalls(group, watch.as_deref()).ok()??;
        let (stop, stopped) = event_fd().ok()?;
        let work = move || {
            while wait_for_report(&reports, &stopped) {
                report();
            }
        };
        let builder = thread::Builder::new().name("heapledger".into());
        let thread = builder.spawn(work).ok();
        Some(StallWatch { stop, thread })
    }
}

impl Drop for StallWatch {
    fn drop(&mut self) {
        let _ = io::Write::write_all(&mut self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One end to write to, one to wait for.
fn event_fd() -> io::Result<(File, File)> {
    // SAFETY: no pointers.
    let number = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else has.
    let file: File = unsafe { std::os::fd::FromRawFd::from_raw_fd(number) };
    Ok((file.try_clone()?, file))
}

/// Tells whether there is a report; false when asked to stop, or when the reports have ended.
fn wait_for_report(reports: &File, stopped: &File) -> bool {
    let mut waits = [
        libc::pollfd {
            fd: reports.as_raw_fd(),
            events: libc::POLLPRI,
            revents: 0,
        },
        libc::pollfd {
            fd: stopped.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        },
    ];
    loop {
        // SAFETY: two pollfd, as is said.
        let ready = unsafe { libc::poll(waits.as_mut_ptr(), 2, -1) };
        if ready < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
            continue;
        }
        let is_over = ready < 0 || waits[1].revents != 0;
        let is_gone = waits[0].revents & (libc::POLLERR | libc::POLLNVAL) != 0;
        return !is_over && !is_gone && waits[0].revents & libc::POLLPRI != 0;
    }
}
