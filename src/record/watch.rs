//! Watches the program and its children from outside until the program ends.
//!
//! One loop waits for signals, for new ledgers, for processes that end, and for
//! the time of the next reading.

mod admission;
mod unseen;

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process};

use super::arrivals::Arrival;
use super::clerk::{Clerk, Job};
use super::image::{BooksOf, Image};
use super::lives::Lives;
use super::namer::Namer;
use super::pressure::Stewards;
use super::signals::Signals;
use super::spotter::Spotter;
use super::strangers::Strangers;
use super::{ending, mono_ns, unix_ns};
use crate::recording::model::{Outcome, Process};
use crate::recording::resolve::seconds_between;

const SIGNALS: u64 = 0;
const LEDGERS: u64 = 1;
const ROOT: u64 = 2;
const LIVES: u64 = 3;
const FIRST_IMAGE: u64 = 4;

/// Readings may cost this part of the time.
const COST_DIVISOR: u32 = 100;
/// A limit below this one is needed for the processes' ledgers.
const MANY_DESCRIPTORS: u64 = 1024;
/// What is due within this time is done at once: waking up costs more than a reading.
const TOGETHER: Duration = Duration::from_millis(5);
/// Children that end together with the program are waited for this long.
const GRACE: Duration = Duration::from_millis(10);
/// Where the kernel tells of nothing, we look this often.
const POLL: Duration = Duration::from_millis(10);

/// What the watch needs to know of the run.
pub(super) struct Run<'a> {
    pub children: bool,
    pub clerk: &'a Clerk,
    pub start_unix_ns: u64,
    pub command: &'a [String],
    /// Why the program itself cannot be tracked, when that is known.
    pub root_reason: Option<String>,
    /// Who drives clean-ups, where that was asked for.
    pub stewards: Option<Stewards>,
}

/// What the watch found out.
pub(super) struct Ended {
    pub status: ExitStatus,
    /// Highest sum over all processes, as read: side c, side rust, both.
    pub tree_peak: [i64; 3],
    /// The program itself never kept a ledger, though nothing spoke against it.
    pub handshake_failed: bool,
    /// Whoever has named call sites so far.
    pub namer: Namer,
}

pub(super) struct Watch<'a> {
    run: Run<'a>,
    child: Child,
    root_pid: u32,
    root_pidfd: Option<OwnedFd>,
    signals: Signals,
    epoll: OwnedFd,
    spotter: Option<Spotter>,
    lives: Option<Lives>,
    arrivals: Vec<Arrival>,
    images: HashMap<u64, Image>,
    /// The present image of each process.
    present: HashMap<u32, u64>,
    /// When each image began that is in the recording, by process.
    begun: HashMap<u32, Vec<u64>>,
    next_key: u64,
    strangers: Strangers,
    /// For so many images a descriptor more is spent.
    kept_open: usize,
    next_reading: Instant,
    namer: Namer,
    tree_peak: [i64; 3],
    root_was_seen: bool,
}

impl<'a> Watch<'a> {
    /// Begins to watch. The spotter must exist before the program starts, so that
    /// no ledger is missed; without one nothing is tracked.
    pub(super) fn new(
        run: Run<'a>,
        child: Child,
        signals: Signals,
        (spotter, lives): (Option<Spotter>, Option<Lives>),
    ) -> io::Result<Watch<'a>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let root_pid = child.id();
        let mut lives = lives;
        if let Some(lives) = &mut lives {
            lives.follow(root_pid);
        }
        let root_pidfd = ending::open(root_pid);
        let add = |descriptor, key| {
            epoll::add(
                &epoll,
                descriptor,
                epoll::EventData::new_u64(key),
                epoll::EventFlags::IN,
            )
        };
        add(signals.as_fd(), SIGNALS)?;
        if let Some(spotter) = &spotter {
            add(spotter.as_fd(), LEDGERS)?;
        }
        if let Some(lives) = &lives {
            add(lives.as_fd(), LIVES)?;
        }
        if let Some(descriptor) = &root_pidfd {
            add(std::os::fd::AsFd::as_fd(descriptor), ROOT)?;
        }
        let strangers = Strangers::new(root_pid, run.children);
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Ok(Watch {
            run,
            child,
            root_pid,
            root_pidfd,
            signals,
            epoll,
            spotter,
            lives,
            arrivals: Vec::new(),
            images: HashMap::new(),
            present: HashMap::new(),
            begun: HashMap::new(),
            next_key: FIRST_IMAGE,
            strangers,
            kept_open: if descriptors >= MANY_DESCRIPTORS {
                8
            } else {
                0
            },
            next_reading: Instant::now(),
            namer: Namer::new(Instant::now()),
            tree_peak: [0; 3],
            root_was_seen: false,
        })
    }

    /// Watches until the program has ended and hands everything to the clerk.
    pub(super) fn run(mut self) -> io::Result<Ended> {
        let status = loop {
            self.wait(self.timeout())?;
            if let Some(status) = self.child.try_wait()? {
                self.namer.stop();
                break status;
            }
            let now = Instant::now();
            if now >= self.next_reading {
                self.read(now);
            }
            if self.spotter.is_some() && now + TOGETHER >= self.strangers.next() {
                self.scan();
            }
        };
        self.settle()?;
        Ok(self.finish(status))
    }

    fn timeout(&self) -> Option<Duration> {
        let Some(spotter) = &self.spotter else {
            return self.root_pidfd.is_none().then_some(POLL);
        };
        let mut next = self.strangers.next();
        if !self.images.is_empty() || !self.arrivals.is_empty() {
            // A scan that is due shortly before waits for the reading.
            next = match self.next_reading <= next + TOGETHER {
                true => self.next_reading,
                false => next,
            };
        }
        let limit = if self.root_pidfd.is_none() || !spotter.is_told() {
            POLL
        } else {
            Duration::MAX
        };
        Some(next.saturating_duration_since(Instant::now()).min(limit))
    }

    /// Waits for something to happen, and deals with it.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let mut events: Vec<epoll::Event> = Vec::with_capacity(64);
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            match event.data.u64() {
                SIGNALS => self.forward(),
                LIVES => self.hear(),
                LEDGERS | ROOT => {}
                key => self.note_end(key),
            }
        }
        if self
            .spotter
            .as_ref()
            .is_some_and(|spotter| !spotter.is_told())
        {
            self.look();
        }
        self.admit_all();
        Ok(())
    }

    fn forward(&mut self) {
        while let Some(number) = self.signals.next() {
            let target = Pid::from_raw(self.root_pid as i32);
            if let (Some(pid), Some(signal)) = (target, Signal::from_named_raw(number)) {
                // It may have ended already, or be somebody else's by now (set-user-ID).
                let _ = kill_process(pid, signal);
            }
        }
    }

    fn give(&mut self, image: Image, outcome: Outcome) {
        let began = image.created_mono_ns;
        self.begun.entry(image.pid).or_default().push(began);
        self.run.clerk.give(image.finish(outcome, mono_ns()));
    }

    fn note_end(&mut self, key: u64) {
        // A new image may have been announced and not admitted yet.
        self.look();
        self.admit_all();
        let Some(image) = self.images.remove(&key) else {
            return;
        };
        if self.present.get(&image.pid) == Some(&key) {
            self.present.remove(&image.pid);
        }
        let outcome = self.outcome(&image);
        self.give_ended(image, outcome);
    }

    fn hear(&mut self) {
        if let Some(lives) = &mut self.lives {
            lives.hear();
        }
    }

    /// Tells how an image's process ended, by whoever knows.
    fn outcome(&mut self, image: &Image) -> Outcome {
        let outcome = image.outcome();
        if outcome != Outcome::Unknown {
            return outcome;
        }
        self.hear();
        let lives = self.lives.as_ref();
        lives
            .and_then(|lives| lives.wait_status(image.pid, image.created_mono_ns))
            .map_or(Outcome::Unknown, |status| {
                ending::from_status(ExitStatus::from_raw(status))
            })
    }

    /// Hands over the last image that was seen of a process, and says so where
    /// it was not the last that there was.
    fn give_ended(&mut self, image: Image, outcome: Outcome) {
        self.hear();
        let (pid, began) = (image.pid, image.created_mono_ns);
        let lives = self.lives.as_ref().filter(|_| image.is_tracked());
        let Some(executed) = lives.and_then(|lives| lives.executed(pid, began)) else {
            return self.give(image, outcome);
        };
        self.give(image, Outcome::Exec);
        self.give_unseen(pid, executed, outcome);
    }

    /// Reads every image whose time has come.
    fn read(&mut self, now: Instant) {
        let mono_ns = mono_ns();
        let mut sum = [0i64; 2];
        let mut next = now + Duration::from_secs(1);
        let mut gone = Vec::new();
        for (&key, image) in &mut self.images {
            if image.next_reading().is_some_and(|due| due <= now) {
                if image.read(now, mono_ns) {
                    self.strangers.expect();
                }
                if let Some(stewards) = &mut self.run.stewards {
                    stewards.consider(image);
                }
                if image.pidfd.is_none() && image.pid != self.root_pid && image.has_ended() {
                    gone.push(key);
                }
            }
            sum[0] = sum[0].saturating_add(image.live_bytes[0]);
            sum[1] = sum[1].saturating_add(image.live_bytes[1]);
            next = next.min(image.next_reading().unwrap_or(next));
        }
        for (peak, now) in
            self.tree_peak
                .iter_mut()
                .zip([sum[0], sum[1], sum[0].saturating_add(sum[1])])
        {
            *peak = (*peak).max(now);
        }
        self.next_reading = next.max(Instant::now() + now.elapsed() * COST_DIVISOR);
        self.namer
            .look(now, self.images.values().filter_map(Image::ledger));
        gone.into_iter().for_each(|key| self.note_end(key));
    }

    /// Looks for descendants without a ledger.
    fn scan(&mut self) {
        if !self.images.values().all(Image::is_tracked) {
            self.strangers.expect(); // nobody reads what they run
        }
        let (images, present) = (&self.images, &self.present);
        let known = |pid| {
            let image = images.get(present.get(&pid)?)?;
            Some((image.start_ticks, image.laid_out))
        };
        let found = self.strangers.scan(known);
        let waiting: HashSet<u32> = self.arrivals.iter().map(|arrival| arrival.pid).collect();
        // Whose ledger waits to be admitted has one.
        for found in found
            .into_iter()
            .filter(|found| !waiting.contains(&found.pid))
        {
            if let Some(previous) = self.take_present(found.pid) {
                self.give(previous, Outcome::Exec);
            }
            let process = Box::new(found.process(self.run.start_unix_ns));
            let mut image = Image::new(found.pid, mono_ns(), BooksOf::Nobody(process));
            image.start_ticks = found.stat.start_ticks;
            image.laid_out = found.stat.laid_out;
            image.pidfd = ending::open(found.pid);
            self.root_was_seen |= found.pid == self.root_pid;
            self.insert(image);
        }
    }

    /// Gives children that end with the program the time to do so.
    fn settle(&mut self) -> io::Result<()> {
        let until = Instant::now() + GRACE;
        self.look();
        self.admit_all();
        loop {
            let others = self
                .images
                .values()
                .any(|image| image.pid != self.root_pid && image.pidfd.is_some());
            let left = until.saturating_duration_since(Instant::now());
            if !others || left.is_zero() {
                return Ok(());
            }
            if let Some(pidfd) = self.root_pidfd.take() {
                let _ = epoll::delete(&self.epoll, &pidfd);
            }
            self.wait(Some(left))?;
        }
    }

    fn finish(mut self, status: ExitStatus) -> Ended {
        let root_outcome = ending::from_status(status);
        self.look();
        self.admit_all();
        while !self.images.is_empty() {
            for (_, image) in std::mem::take(&mut self.images) {
                let outcome = match image.pid == self.root_pid {
                    true => root_outcome.clone(),
                    false if image.pidfd.is_none() || image.has_ended() => self.outcome(&image),
                    false => Outcome::Running,
                };
                match outcome {
                    Outcome::Running => self.give(image, outcome),
                    _ => self.give_ended(image, outcome),
                }
            }
            // Those for which there was no descriptor before.
            self.admit_all();
        }
        self.give_all_unseen();
        let handshake_failed = !self.root_was_seen && self.run.root_reason.is_none();
        if !self.root_was_seen {
            self.run
                .clerk
                .give(Job::Untracked(Box::new(self.untracked_root(root_outcome))));
        }
        Ended {
            status,
            tree_peak: self.tree_peak,
            handshake_failed,
            namer: self.namer,
        }
    }

    fn untracked_root(&self, outcome: Outcome) -> Process {
        let reason = self
            .run
            .root_reason
            .clone()
            .unwrap_or_else(|| super::NO_LEDGER.to_owned());
        Process {
            pid: self.root_pid,
            parent_pid: std::process::id(),
            exe: self.run.command[0].clone(),
            args: self.run.command.to_vec(),
            duration_s: seconds_between(self.run.start_unix_ns, unix_ns()),
            outcome,
            untracked_reason: Some(reason),
            ..Process::default()
        }
    }
}
