//! Turns ended processes into frames, on a thread of its own, so that a process
//! with large books does not hold up the watching of the others.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::thin::thin;
use crate::analysis::tally::Tally;
use crate::counts::{Counts, Side};
use crate::ledger::books::Books;
use crate::ledger::pages::FilePages;
use crate::recording::file::Writer;
use crate::recording::model::{Mode, Process, Start, TimelinePoint};
use crate::recording::resolve::{Seen, Tables};

/// Ended processes that wait; each holds a descriptor.
const QUEUE: usize = 64;

/// Room for the entry of the program itself, its call sites, and the end.
const RESERVE_BYTES: u64 = 1 << 20;

/// Work for the clerk.
pub(super) enum Job {
    /// What the start frame could not know.
    Start(Start),
    /// The ledger of a process that writes no more. The file is removed.
    Ledger {
        file: File,
        path: PathBuf,
        seen: Seen,
    },
    /// A process without a ledger.
    Untracked(Box<Process>),
}

/// The clerk's thread.
pub(super) struct Clerk {
    jobs: Sender<Job>,
    thread: JoinHandle<Desk>,
}

/// What the clerk works with, and leaves behind.
pub(super) struct Desk {
    pub writer: Writer,
    pub tables: Tables,
    pub tally: Tally,
    /// The first failure to write. After it nothing but the program itself and
    /// the end are written, in the room that was set aside for them.
    pub failure: Option<io::Error>,
    /// Processes that found no room.
    pub left_out: u64,
    /// Some process came with every stack.
    pub has_every_stack: bool,
    start: Start,
}

impl Clerk {
    pub(super) fn employ(writer: Writer, start: Start) -> io::Result<Clerk> {
        let (jobs, inbox) = bounded(QUEUE);
        writer.reserve(RESERVE_BYTES);
        let desk = Desk {
            writer,
            tables: Tables::default(),
            tally: Tally::default(),
            failure: None,
            left_out: 0,
            has_every_stack: false,
            start,
        };
        let thread = std::thread::Builder::new()
            .name("clerk".into())
            .spawn(move || desk.work(&inbox))?;
        Ok(Clerk { jobs, thread })
    }

    /// Hands work over; waits while the clerk is far behind.
    pub(super) fn give(&self, job: Job) {
        // The clerk only leaves when this sender is gone.
        let _ = self.jobs.send(job);
    }

    /// Waits until all work is done.
    pub(super) fn dismiss(self) -> io::Result<Desk> {
        drop(self.jobs);
        self.thread
            .join()
            .map_err(|_| io::Error::other("the writer of the recording failed"))
    }
}

impl Desk {
    fn work(mut self, inbox: &Receiver<Job>) -> Desk {
        for job in inbox {
            match job {
                Job::Start(start) => {
                    let result = self.writer.start(&start);
                    self.start = start;
                    self.note(result);
                }
                Job::Untracked(process) => self.enter(*process),
                Job::Ledger { file, path, seen } => {
                    // What cannot be read is no ledger; nothing is lost with it.
                    if let Ok(books) = Books::read(&FilePages(&file)) {
                        let process = self.process(&books, seen);
                        self.enter(process);
                    }
                    let _ = std::fs::remove_file(path);
                }
            }
        }
        self
    }

    fn process(&mut self, books: &Books, mut seen: Seen) -> Process {
        let [c, rust] = Side::ALL
            .map(|side| books.side(side))
            .map(|counts: Counts| counts.live_bytes);
        let rss_bytes = 0;
        seen.timeline.push(TimelinePoint {
            t_s: seen.duration_s,
            c_live_bytes: c,
            rust_live_bytes: rust,
            rss_bytes,
        });
        self.tables.process(books, seen, self.start.unix_ns)
    }

    fn enter(&mut self, mut process: Process) {
        self.tally.add(&mut process, self.start.root_pid);
        self.has_every_stack |= process.mode == Mode::Full;
        let is_root = process.pid == self.start.root_pid;
        if self.failure.is_some() && !is_root {
            self.left_out += 1;
            return;
        }
        let process = thin(process, self.writer.bytes_written(), &mut self.tables);
        let again = is_root.then(|| process.clone());
        let mut result = self.write(process);
        if let (Err(_), Some(process)) = (&result, again) {
            self.note(result);
            self.writer.release();
            result = self.write(process);
        }
        self.left_out += u64::from(result.is_err());
        self.note(result);
    }

    fn write(&mut self, process: Process) -> io::Result<()> {
        self.writer
            .process(process, &self.tables.modules, &self.tables.sites)
    }

    /// Ends the recording, with the sites as they are now.
    pub(super) fn end(&mut self) {
        let mut result = self.writer.end(&self.tables.sites);
        if result.is_err() {
            self.note(result);
            // Without the names that were found since.
            result = self.writer.end(&[]);
        }
        self.note(result);
    }

    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.failure.get_or_insert(error);
        }
    }
}
