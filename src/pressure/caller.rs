//! Threads that call reclaimers, so that the driver need not wait for a slow one.

use std::cell::Cell;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use super::reclaim::PANICKED;
use super::reclaimers::RECLAIM_DEADLINE;
use crate::core::pressure as core;

thread_local! {
    /// On a thread that calls reclaimers.
    pub(super) static IN_CALL: Cell<bool> = const { Cell::new(false) };
}

/// What came of a call, and whether it panicked; `None`: there was no call.
pub(super) type Answer = Option<(core::Claim, bool)>;

/// A thread that calls reclaimers, one after another.
pub(super) struct Caller {
    jobs: mpsc::Sender<(u64, core::Request)>,
    answers: mpsc::Receiver<Answer>,
}

/// The deadline passed.
pub(super) struct Late;

impl Caller {
    pub(super) fn start() -> Option<Caller> {
        let (jobs, todo) = mpsc::channel::<(u64, core::Request)>();
        let (done, answers) = mpsc::channel();
        let work = move || {
            IN_CALL.set(true);
            // Ends when nobody waits any more: the driver is gone, or has left this thread behind.
            while let Ok((handle, request)) = todo.recv() {
                PANICKED.set(false);
                let claim = core::call(handle, &request);
                if done
                    .send(claim.map(|claim| (claim, PANICKED.get())))
                    .is_err()
                {
                    return;
                }
            }
        };
        let builder = thread::Builder::new().name("heapledger".into());
        builder.spawn(work).ok()?;
        Some(Caller { jobs, answers })
    }

    pub(super) fn call(
        &self,
        handle: u64,
        request: core::Request,
    ) -> std::result::Result<Answer, Late> {
        if self.jobs.send((handle, request)).is_err() {
            return Ok(None);
        }
        match self.answers.recv_timeout(RECLAIM_DEADLINE) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => Err(Late),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
        }
    }
}
