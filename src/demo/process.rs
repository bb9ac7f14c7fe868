//! A run's process, as the demo sees it: started, given turns, listened to.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};

use super::figures::{Line, Run};
use super::{RunName, Task, WORKER};
use crate::analysis::signal_name;
use crate::counts::Side;
use crate::embedded::PRELOAD;
use crate::snapshot::ledger;

/// A run, from before its process is started until what it measured is known.
pub(super) struct Process {
    task: Task,
    container: Arc<File>,
    worker: Option<Worker>,
    run: Option<Run>,
}

struct Worker {
    child: Child,
    /// Its standard output; what is written here, it reads there.
    stream: BufReader<UnixStream>,
}

impl Process {
    pub fn new(task: Task, container: &Arc<File>) -> Process {
        Process {
            task,
            container: Arc::clone(container),
            worker: None,
            run: None,
        }
    }

    pub fn name(&self) -> RunName {
        self.task.name
    }

    pub fn is_done(&self) -> bool {
        self.run.is_some()
    }

    /// Gives what it measured; `None` before its last turn.
    pub fn run(self) -> Option<Run> {
        self.run
    }

    /// Gives it a turn; it is started for the first one, and ends with the last.
    ///
    /// # Errors
    /// When it cannot be started, or fails.
    pub fn turn(&mut self, mut on_frames: impl FnMut(u64)) -> Result<()> {
        let mut worker = match self.worker.take() {
            Some(mut worker) => {
                // Where it is gone already, its end tells why.
                let _ = worker.stream.get_mut().write_all(b"\n");
                worker
            }
            None => Worker::start(&self.task, &self.container)?,
        };
        let mut text = String::new();
        // A line without an end is the last word of one that was killed.
        while worker.stream.read_line(&mut text).is_ok() && text.ends_with('\n') {
            match serde_json::from_str(&text).context("a worker said what is not known")? {
                Line::Progress(frames) => on_frames(frames),
                Line::Rests => {
                    self.worker = Some(worker);
                    return Ok(());
                }
                Line::Done(run) => self.run = Some(*run),
            }
            text.clear();
        }
        worker.end()?;
        self.run.as_ref().map(|_| ()).context("it measured nothing")
    }
}

impl Worker {
    fn start(task: &Task, container: &File) -> Result<Worker> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let (ours, its) = UnixStream::pair().context("cannot make a pair of sockets")?;
        let mut command = Command::new(program);
        command
            .arg("demo")
            .env(WORKER, task.to_string())
            .stdin(Stdio::from(container.try_clone()?))
            .stdout(Stdio::from(OwnedFd::from(its)));
        // Under a recorder the library is there, and has its own directory of ledgers.
        if !ledger().snapshot().sees(Side::C) {
            command.env("LD_PRELOAD", PRELOAD.extract()?);
            command.env_remove("HEAPLEDGER_DIR");
            // Nobody will read its stacks.
            command.env_remove("HEAPLEDGER_MODE");
        }
        Ok(Worker {
            child: command.spawn()?,
            stream: BufReader::new(ours),
        })
    }

    fn end(mut self) -> Result<()> {
        let status = self.child.wait()?;
        match status.signal() {
            None if status.success() => Ok(()),
            Some(libc::SIGKILL) => Err(anyhow!(
                "killed by SIGKILL: perhaps by the kernel for want of memory; try fewer --frames"
            )),
            Some(signal) => Err(anyhow!("killed by {}", signal_name(signal))),
            // What went wrong, it has said on standard error.
            None => Err(anyhow!("it ended with {}", status.code().unwrap_or(-1))),
        }
    }
}
