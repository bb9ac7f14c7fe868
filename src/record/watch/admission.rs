//! Takes new ledgers among the images that are watched, in the order in which they began.

use std::collections::HashMap;
use std::fs::{self, File};
use std::time::Instant;

use rustix::event::epoll;

use super::super::arrivals::{Arrival, open_complete};
use super::super::image::{BooksOf, Image};
use super::super::strangers;
use super::super::{mono_ns, proc};
use super::Watch;
use crate::ledger::layout::{self, Header};
use crate::recording::model::Outcome;

/// A ledger that is complete.
struct Complete {
    arrival: Arrival,
    file: File,
    header: Header,
    /// Its process had ended before the directory was looked at last.
    was_gone: bool,
}

impl Watch<'_> {
    /// Looks for ledgers that the kernel has not told of yet.
    pub(super) fn look(&self) {
        if let Some(spotter) = &self.spotter {
            spotter.look();
        }
    }

    /// Admits all ledgers that are complete.
    pub(super) fn admit_all(&mut self) {
        loop {
            let complete = self.complete_arrivals();
            if complete.is_empty() {
                return;
            }
            let mut left: HashMap<u32, usize> = HashMap::new();
            for one in &complete {
                *left.entry(one.arrival.pid).or_default() += 1;
            }
            for next in complete {
                let left = left.entry(next.arrival.pid).or_default();
                *left = left.saturating_sub(1);
                let is_followed = *left > 0;
                self.admit(next, is_followed);
            }
        }
    }

    /// Gives the ledgers that have become complete, the oldest first: what a process
    /// was comes before what it became.
    fn complete_arrivals(&mut self) -> Vec<Complete> {
        self.take_arrivals();
        let mut complete = Vec::new();
        for arrival in std::mem::take(&mut self.arrivals) {
            match open_complete(&arrival) {
                Ok(Some((file, header))) => complete.push(Complete {
                    arrival,
                    file,
                    header,
                    was_gone: false,
                }),
                Ok(None) => self.arrivals.push(arrival),
                // Its writer died before it was complete, or it is no ledger.
                Err(_) => drop(fs::remove_file(&arrival.path)),
            }
        }
        for one in &mut complete {
            one.was_gone = one.arrival.pidfd.is_none() && proc::stat(one.arrival.pid).is_none();
        }
        if complete.iter().any(|one| one.was_gone) {
            // What they became may have been put down while the directory was read. Looked at
            // once for all of them: there may be thousands.
            self.look();
            self.take_arrivals();
        }
        complete.sort_by_key(|complete| complete.header.created_mono_ns);
        complete
    }

    fn take_arrivals(&mut self) {
        if let Some(spotter) = &self.spotter {
            self.arrivals.extend(spotter.take());
        }
    }

    /// `is_followed` tells that a later image of the process is about to be admitted.
    fn admit(&mut self, complete: Complete, is_followed: bool) {
        let Arrival { path, pid, pidfd } = complete.arrival;
        let (file, header, was_gone) = (complete.file, &complete.header, complete.was_gone);
        let mut image = Image::new(pid, header.created_mono_ns, BooksOf::Ledger { file, path });
        image.start_ticks = header.start_ticks;
        let stat = proc::stat(pid);
        // A child that was forked to exec may be another program by now: then its
        // arguments are not this image's.
        if let Some(stat) = stat.filter(|_| proc::maps(pid, strangers::LIBRARY) != Some(false)) {
            image.laid_out = stat.laid_out;
        }
        if header.flags & layout::FLAG_BYPASSED != 0 {
            image.mapped = proc::mapped_files(pid);
        }
        // Another process with the number that ours has in its own pid namespace.
        let is_another =
            |stat: proc::Stat| header.start_ticks != 0 && stat.start_ticks != header.start_ticks;
        let is_invisible = stat.is_some_and(is_another);
        image.pidfd = pidfd.filter(|_| !is_invisible);
        if self.images.len() < self.kept_open {
            image.keep_open();
        }
        let present = self.take_present(pid);
        if let Some(previous) = present.filter(|previous| !previous.is_early_sight_of(&image)) {
            if previous.created_mono_ns > image.created_mono_ns {
                self.give(image, Outcome::Exec);
                return self.insert(previous);
            }
            self.give_replaced(previous, &image);
        }
        self.root_was_seen |= pid == self.root_pid;
        if pid != self.root_pid && image.pidfd.is_none() && stat.is_none() {
            return self.admit_ended(image, is_followed, was_gone);
        }
        image.read(Instant::now(), mono_ns());
        if let Some(stewards) = &mut self.run.stewards {
            stewards.consider(&mut image);
        }
        self.insert(image);
    }

    /// Hands over the image that another one takes the place of.
    fn give_replaced(&mut self, previous: Image, image: &Image) {
        let outcome = match previous.start_ticks == image.start_ticks {
            true => Outcome::Exec,
            false => self.outcome(&previous),
        };
        self.give(previous, outcome);
    }

    /// Hands over an image of a process that was gone at first sight.
    fn admit_ended(&mut self, image: Image, is_followed: bool, was_gone: bool) {
        // Else it ended since the last look.
        if !is_followed && !was_gone {
            self.look();
            self.take_arrivals();
        }
        let is_of = |arrival: &Arrival| arrival.pid == image.pid;
        if is_followed || self.arrivals.iter().any(is_of) {
            return self.give(image, Outcome::Exec);
        }
        let outcome = self.outcome(&image);
        self.give_ended(image, outcome);
    }

    pub(super) fn insert(&mut self, image: Image) {
        let key = self.next_key;
        self.next_key += 1;
        if let Some(pidfd) = image.pidfd.as_ref().filter(|_| image.pid != self.root_pid) {
            let data = epoll::EventData::new_u64(key);
            // Without it the end of the process is found at the end of the run.
            let _ = epoll::add(&self.epoll, pidfd, data, epoll::EventFlags::IN);
        }
        if let Some(next) = image.next_reading() {
            self.next_reading = self.next_reading.min(next);
        }
        self.present.insert(image.pid, key);
        self.images.insert(key, image);
    }

    pub(super) fn take_present(&mut self, pid: u32) -> Option<Image> {
        let key = self.present.remove(&pid)?;
        self.images.remove(&key)
    }
}
