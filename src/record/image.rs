//! One program image of one process, watched from outside.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::clerk::Job;
use super::pressure::Care;
use super::timeline::Timeline;
use super::{ending, mono_ns, proc};
use crate::ledger::books::read_live_bytes;
use crate::ledger::cleanups::{NotedCleanup, read_cleanups};
use crate::ledger::pages::FilePages;
use crate::ledger::pressure_words::peek;
use crate::recording::model::{Outcome, Process, TimelinePoint};
use crate::recording::resolve::{Seen, seconds_between};

/// The first look at thread names comes early, the others half as often each time.
const FIRST_NAMES: Duration = Duration::from_millis(2);
const MAX_NAMES_INTERVAL: Duration = Duration::from_secs(2);

/// Clean-ups of its own that are kept of a process, the last ones.
const MAX_NOTED: usize = 256;
/// A ledger keeps sixteen, each of which takes 40 ms and more with the pause after it.
const COLLECT_EVERY: Duration = Duration::from_millis(500);

/// A watched image.
pub(super) struct Image {
    pub pid: u32,
    pub start_ticks: u64,
    /// Tells images of one process apart.
    pub laid_out: proc::LaidOut,
    /// `None` where the process cannot be seen: another pid namespace, an old kernel.
    pub pidfd: Option<OwnedFd>,
    statm: Option<proc::Statm>,
    text_pages: u64,
    /// When it began, CLOCK_MONOTONIC.
    pub created_mono_ns: u64,
    pub books: BooksOf,
    /// Files mapped into it, looked at where another's malloc stands before ours.
    pub mapped: Vec<PathBuf>,
    /// At the last reading.
    pub live_bytes: [i64; 2],
    /// Its clean-ups, where they are driven from here.
    pub care: Care,
    noted: Vec<NotedCleanup>,
    /// Of clean-ups that are not kept any more.
    forgotten_freed_bytes: u64,
    /// When to look for more of them, once there are any.
    next_cleanups: Option<Instant>,
    timeline: Timeline,
    thread_names: HashMap<u32, String>,
    next_names: Instant,
    names_interval: Duration,
}

/// Where an image's books are.
pub(super) enum BooksOf {
    Ledger {
        file: File,
        path: PathBuf,
    },
    /// It has none, and this is all that is known.
    Nobody(Box<Process>),
}

impl Image {
    pub(super) fn new(pid: u32, created_mono_ns: u64, books: BooksOf) -> Image {
        let now = Instant::now();
        Image {
            pid,
            start_ticks: 0,
            laid_out: [0; 3],
            pidfd: None,
            statm: None,
            text_pages: 0,
            created_mono_ns,
            books,
            mapped: Vec::new(),
            live_bytes: [0; 2],
            care: Care::default(),
            noted: Vec::new(),
            forgotten_freed_bytes: 0,
            next_cleanups: None,
            timeline: Timeline::new(now),
            thread_names: HashMap::new(),
            next_names: now + FIRST_NAMES,
            names_interval: FIRST_NAMES,
        }
    }

    /// Gives the live bytes of both sides at the last reading.
    pub(super) fn all_live_bytes(&self) -> u64 {
        let [c, rust] = self.live_bytes;
        u64::try_from(c.saturating_add(rust)).unwrap_or(0)
    }

    /// Gives how long ago it began.
    pub(super) fn age(&self) -> Duration {
        Duration::from_nanos(mono_ns().saturating_sub(self.created_mono_ns))
    }

    pub(super) fn is_tracked(&self) -> bool {
        matches!(self.books, BooksOf::Ledger { .. })
    }

    /// Tells whether this is what was seen of `other` before its ledger was there: on a busy
    /// machine a program may take its time to load. Where nothing tells them apart any more, it
    /// is, if nothing spoke against a ledger.
    pub(super) fn is_early_sight_of(&self, other: &Image) -> bool {
        let BooksOf::Nobody(process) = &self.books else {
            return false;
        };
        self.start_ticks == other.start_ticks
            && match other.laid_out {
                [0, ..] => process.untracked_reason.as_deref() == Some(super::NOT_LOADED),
                laid_out => laid_out == self.laid_out,
            }
    }

    /// Gives the ledger, if it has one.
    pub(super) fn ledger(&self) -> Option<&File> {
        match &self.books {
            BooksOf::Ledger { file, .. } => Some(file),
            BooksOf::Nobody(_) => None,
        }
    }

    /// Gives the moment of the next reading, if there is to be one.
    pub(super) fn next_reading(&self) -> Option<Instant> {
        let next = self.timeline.next();
        let cleanups = self.next_cleanups.unwrap_or(next);
        self.is_tracked().then(|| next.min(cleanups))
    }

    /// Takes over what the process has noted of its own clean-ups, before it writes over it.
    fn note_cleanups(&mut self, now: Instant) {
        let Some(ledger) = self.ledger() else {
            return;
        };
        if peek(ledger).is_none_or(|words| words.history == 0 && words.driver == 0) {
            return;
        }
        let seen = self.noted.last().map_or(0, |cleanup| cleanup.number);
        let new = read_cleanups(&FilePages(ledger), seen);
        self.noted.extend(new);
        self.next_cleanups = Some(now + COLLECT_EVERY);
        let surplus = self.noted.len().saturating_sub(MAX_NOTED);
        for forgotten in self.noted.drain(..surplus) {
            let freed_bytes = &mut self.forgotten_freed_bytes;
            *freed_bytes = freed_bytes.saturating_add(forgotten.freed_bytes);
        }
    }

    /// Keeps a descriptor more, which makes readings cheaper.
    pub(super) fn keep_open(&mut self) {
        self.statm = proc::Statm::open(self.pid).filter(|_| self.pidfd.is_some());
    }

    /// Reads its resident set; 0 when it cannot be read.
    fn rss_bytes(&mut self) -> u64 {
        if self.pidfd.is_none() {
            return 0;
        }
        let memory = match &self.statm {
            Some(statm) => statm.read(),
            None => proc::Statm::open(self.pid).and_then(|statm| statm.read()),
        };
        memory.map_or(0, |memory| {
            self.text_pages = memory.text_pages;
            memory.rss_bytes
        })
    }

    /// Reads what the image holds now; tells whether its process seems to run another program.
    pub(super) fn read(&mut self, now: Instant, mono_ns: u64) -> bool {
        let text_pages = self.text_pages;
        self.read_books(now, mono_ns);
        text_pages != 0 && self.text_pages != text_pages
    }

    fn read_books(&mut self, now: Instant, mono_ns: u64) {
        let BooksOf::Ledger { file, .. } = &self.books else {
            return;
        };
        let Some(live) = read_live_bytes(&FilePages(file)) else {
            return;
        };
        self.live_bytes = live;
        self.note_cleanups(now);
        if now < self.timeline.next() {
            return;
        }
        let t_s = seconds_between(self.created_mono_ns, mono_ns);
        let rss_bytes = self.rss_bytes();
        let point = TimelinePoint {
            t_s,
            c_live_bytes: live[0],
            rust_live_bytes: live[1],
            rss_bytes,
        };
        self.timeline.push(now, point);
        if now >= self.next_names && self.pidfd.is_some() {
            proc::add_thread_names(self.pid, &mut self.thread_names);
            self.names_interval = (self.names_interval * 2).min(MAX_NAMES_INTERVAL);
            self.next_names = now + self.names_interval;
        }
    }

    /// Tells whether the process is gone, as far as can be seen.
    pub(super) fn has_ended(&self) -> bool {
        match &self.pidfd {
            Some(pidfd) => ending::has_ended(pidfd),
            None => match proc::stat(self.pid) {
                Some(stat) => {
                    stat.start_ticks == self.start_ticks && matches!(stat.state, b'Z' | b'X')
                }
                None => true,
            },
        }
    }

    /// Tells how the process ended.
    pub(super) fn outcome(&self) -> Outcome {
        ending::outcome(self.pid, self.start_ticks, self.pidfd.as_ref())
    }

    /// Hands over everything that is known, now that no more will be.
    pub(super) fn finish(self, outcome: Outcome, mono_ns: u64) -> Job {
        let duration_s = seconds_between(self.created_mono_ns, mono_ns);
        let mut pressure = self.care.finish(outcome == Outcome::Running, duration_s);
        pressure.freed_bytes = pressure
            .freed_bytes
            .saturating_add(self.forgotten_freed_bytes);
        match self.books {
            BooksOf::Ledger { file, path } => {
                let timeline = self.timeline.into_points();
                let mut thread_names = self.thread_names;
                if outcome == Outcome::Exec {
                    // The main thread may have been looked at under the next image's name.
                    thread_names.remove(&self.pid);
                }
                let seen = Seen {
                    duration_s,
                    outcome,
                    timeline,
                    thread_names,
                    mapped: self.mapped,
                    pressure,
                    noted: self.noted,
                };
                Job::Ledger { file, path, seen }
            }
            BooksOf::Nobody(process) => Job::Untracked(Box::new(Process {
                duration_s,
                outcome,
                ..*process
            })),
        }
    }
}
