//! The thread that drives the clean-ups of one process from outside, through
//! the words in its ledger.

mod helper;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::{Duration, Instant};

use super::chronicle::Chronicle;
use super::command::{self, Errand, Progress};
use super::group::Group;
use super::listeners::Listeners;
use super::signal::{self, NotSent};
use super::{Action, OWN_DRIVER, Plan};
use crate::ledger::layout;
use crate::ledger::pressure_words::{Part, PressureWords};
use crate::pressure::drive::{Driver, drive};
use crate::pressure::readings::resident_bytes;
use crate::pressure::{Cycle, Decision, Event, Level, Limits, NOT_ARMED, Note, Policy, Readings};
use crate::record::spotter::ask_for_short_turns;
use crate::record::{ending, mono_ns};
use crate::recording::model::{CallEnding, ReclaimerCall};

/// Who takes longer to answer is slow. The helper may call several reclaimers and a collector.
const DEADLINE: Duration = Duration::from_secs(5);
/// As long with nothing to do costs nothing, and is what a lost wake-up costs at other times.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Where nothing has happened a reading of the control group this old is good enough.
const GROUP_AGE: Duration = Duration::from_millis(500);
/// While a level stands the process hears so often that we are there; its helper gives up after
/// twenty seconds.
const BEAT_EVERY: Duration = Duration::from_secs(5);
const STACK_BYTES: usize = 256 << 10;

/// Nobody was there to free anything.
const NOBODY: &str = "nobody_to_ask";

/// The process that is driven.
pub(super) struct Target {
    pub pid: u32,
    /// `None` where it cannot be seen from here.
    pub pidfd: Option<OwnedFd>,
    pub created_mono_ns: u64,
    /// What it began with.
    pub baseline_bytes: u64,
}

/// What the steward's thread and the watch share.
pub(super) struct Shared {
    words: PressureWords,
    stop: AtomicBool,
    stalled: AtomicBool,
    at_work: AtomicBool,
    /// The ledger cannot be used any more.
    is_gone: AtomicBool,
    errand: Errand,
    chronicle: Arc<Chronicle>,
}

impl Shared {
    /// Tasks of the process's group wait for memory.
    pub(super) fn note_stall(&self) {
        self.stalled.store(true, Release); // pairs with the swap in `wait`
        let _ = self.words.poke();
    }
}

/// A steward, as the watch sees it.
pub(super) struct Steward(Arc<Shared>);

impl Steward {
    /// Puts a thread in charge of a process.
    ///
    /// # Errors
    /// When its ledger cannot be written, or no thread is to be had.
    pub(super) fn appoint(
        ledger: &File,
        target: Target,
        (plan, listeners): (&Arc<Plan>, Option<Arc<Listeners>>),
        (group, chronicle): (Arc<Group>, Arc<Chronicle>),
    ) -> io::Result<Steward> {
        let shared = Arc::new(Shared {
            words: PressureWords::open(ledger)?,
            stop: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            at_work: AtomicBool::new(true),
            is_gone: AtomicBool::new(false),
            errand: Errand::default(),
            chronicle,
        });
        group.enter(&shared);
        let worker = Worker {
            shared: Arc::clone(&shared),
            plan: Arc::clone(plan),
            listeners,
            group,
            target,
            unanswered: None,
            missed: None,
            is_anybody_asked: false,
            seen_level: 0,
            last_beat: None,
        };
        std::thread::Builder::new()
            .name("steward".into())
            .stack_size(STACK_BYTES)
            .spawn(move || worker.run())?;
        Ok(Steward(shared))
    }

    /// Tells whether its thread is there.
    pub(super) fn is_at_work(&self) -> bool {
        self.0.at_work.load(Acquire) // pairs with the store at the thread's end
    }

    /// Tells whether it went because the ledger cannot be used; another one would go, too.
    pub(super) fn has_given_up(&self) -> bool {
        self.0.is_gone.load(Relaxed)
    }

    /// Sends it away without waiting for it, and gives the live bytes then.
    pub(super) fn dismiss(self, is_alive: bool) -> u64 {
        let shared = self.0;
        shared.stop.store(true, Release); // pairs with the load in `is_dismissed`
        shared.errand.call_off();
        let _ = shared.words.poke();
        if is_alive && shared.at_work.load(Acquire) {
            // The process goes on and nobody drives it.
            let _ = shared.words.arm(i64::MAX);
            let _ = shared.words.set_level(0);
        }
        shared.words.live_bytes().unwrap_or(0).max(0) as u64
    }
}

struct Worker {
    shared: Arc<Shared>,
    plan: Arc<Plan>,
    listeners: Option<Arc<Listeners>>,
    group: Arc<Group>,
    target: Target,
    /// A request that the helper has not answered in time.
    unanswered: Option<u32>,
    /// No helper came to a process that had registered so many reclaimers.
    missed: Option<u32>,
    /// In the present cycle, or the last one.
    is_anybody_asked: bool,
    /// The level that stands in the ledger, as last read.
    seen_level: u32,
    last_beat: Option<Instant>,
}

impl Worker {
    fn run(mut self) {
        ask_for_short_turns();
        let begin = Readings {
            live_bytes: self.target.baseline_bytes,
            ..Readings::default()
        };
        let mut policy = Policy::new(self.plan.growth_ratio(), &begin);
        drive(&mut self, &mut policy);
        self.shared.at_work.store(false, Release); // pairs with the load in `is_at_work`
        self.shared.errand.see_off();
    }

    /// The timeline's clock.
    fn now(&self) -> Duration {
        Duration::from_nanos(mono_ns().saturating_sub(self.target.created_mono_ns))
    }

    /// Takes what a call on the words gives; without words there is nothing left to do.
    fn expect<T>(&mut self, result: io::Result<T>) -> Option<T> {
        if result.is_err() {
            self.shared.is_gone.store(true, Relaxed);
        }
        result.ok()
    }

    /// Tells the process that whoever raised its level is there.
    fn beat(&mut self, level: Level) {
        if level > Level::Calm
            && self
                .last_beat
                .is_none_or(|last| last.elapsed() >= BEAT_EVERY)
        {
            self.last_beat = Some(Instant::now());
            let beaten = self.shared.words.beat();
            self.expect(beaten);
        }
    }

    /// Tells whether there is nobody left to drive. On a busy machine the watch may come to
    /// hear of an end later than a deadline passes here.
    fn is_dismissed(&self) -> bool {
        self.shared.stop.load(Acquire) // pairs with the store in `dismiss`
            || self.target.pidfd.as_ref().is_some_and(ending::has_ended)
    }

    fn exact_bytes(&self) -> Option<u64> {
        let live_bytes = self.shared.words.exact_live_bytes()?;
        Some(u64::try_from(live_bytes).unwrap_or(0))
    }

    fn note(&self, what: &str, note: &str) {
        self.shared.chronicle.note(format!("{what}: {note}"));
    }

    fn called(
        &mut self,
        name: String,
        claimed_bytes: Option<u64>,
        took: Duration,
        ending: CallEnding,
    ) {
        self.is_anybody_asked = true;
        self.shared.chronicle.called(ReclaimerCall {
            name,
            claimed_bytes,
            took_s: took.as_secs_f64(),
            ending,
        });
    }

    // ---- outside the target ----

    fn signal(&mut self, number: i32) {
        let name = Action::Signal(number).name();
        let Some(pidfd) = &self.target.pidfd else {
            return self.note(&name, "the process cannot be seen from here");
        };
        let began = Instant::now();
        let ending = match signal::send(self.target.pid, pidfd, number) {
            Ok(()) => CallEnding::Returned,
            Err(NotSent::NoHandler) => {
                return self.note(&name, "not sent, since the process has no handler for it");
            }
            Err(NotSent::Refused(error)) => {
                self.note(&name, &error.to_string());
                CallEnding::Failed
            }
        };
        self.called(name, None, began.elapsed(), ending);
    }

    fn tell_listeners(&mut self) {
        let began = Instant::now();
        let told = self
            .listeners
            .as_ref()
            .map_or(0, |all| all.tell(self.target.pid));
        if told > 0 {
            let name = Action::Systemd.name();
            self.called(name, None, began.elapsed(), CallEnding::Returned);
        }
    }

    /// Starts the command; true when there is one to wait for.
    fn start_errand(&mut self, command: &str, cycle: &Cycle) -> bool {
        let name = Action::Exec(String::new()).name();
        if self.target.pidfd.is_none() {
            self.note(&name, "the process cannot be seen from here");
            return false;
        }
        match self.shared.errand.start(command, self.target.pid, cycle) {
            Ok(is_started) => is_started,
            Err(error) => {
                self.note(&name, &error.to_string());
                self.called(name, None, Duration::ZERO, CallEnding::Failed);
                false
            }
        }
    }

    fn finish_errand(&mut self, began: Instant) {
        let name = Action::Exec(String::new()).name();
        let until = began + DEADLINE;
        let progress = self.shared.errand.wait(self.target.pidfd.as_ref(), until);
        let ending = match progress {
            Ok(Progress::Ended(status)) => match command::failure(status) {
                None => CallEnding::Returned,
                Some(failure) => {
                    self.note(&name, &failure);
                    CallEnding::Failed
                }
            },
            Ok(Progress::Running) => {
                if Instant::now() >= until {
                    self.note(&name, "slow");
                }
                CallEnding::Late
            }
            Err(error) => {
                self.note(&name, &error.to_string());
                CallEnding::Failed
            }
        };
        self.called(name, None, began.elapsed(), ending);
    }
}

impl Driver for Worker {
    fn readings(&mut self, event: &Event) -> Option<Readings> {
        if self.shared.is_gone.load(Relaxed) || self.is_dismissed() {
            return None;
        }
        let read = self.shared.words.read();
        let words = self.expect(read)?;
        if words.driver != 0 && words.driver == self.target.pid {
            self.shared.chronicle.note(OWN_DRIVER.to_owned());
            self.shared
                .chronicle
                .hand_over(self.exact_bytes().unwrap_or(0));
            return None;
        }
        self.seen_level = words.level;
        let live = self.shared.words.live_bytes();
        let live_bytes = u64::try_from(self.expect(live)?).unwrap_or(0);
        let age = match event {
            Event::Look => GROUP_AGE,
            _ => Duration::ZERO,
        };
        // Only the end of a cycle compares with it.
        let is_end = matches!(event, Event::Purged { .. }) && self.target.pidfd.is_some();
        Some(Readings {
            now: self.now(),
            live_bytes,
            limits: Limits {
                soft_bytes: self.plan.soft_bytes,
                hard_bytes: self.plan.hard_bytes,
                group: self.group.read(age),
            },
            resident_bytes: is_end.then(|| resident_bytes(self.target.pid)).flatten(),
        })
    }

    fn publish(&mut self, decision: &Decision) {
        // First: who sees the level fall may end the process, and its clean-up is over.
        if let Some(record) = &decision.finished {
            self.shared.chronicle.end(record);
        }
        let level = decision.level as u32;
        // Its helper may have given us up, when we were stopped for a while.
        if decision.level_before.is_some() || self.seen_level != level {
            self.beat(decision.level); // first: a level that nobody renews stands for ever
            let set = self.shared.words.set_level(level);
            self.expect(set);
        }
        for note in decision.notes.iter() {
            let name = match note {
                Note::Ineffective if !self.is_anybody_asked => NOBODY,
                note => note.name(),
            };
            self.shared.chronicle.note(name.to_owned());
        }
    }

    fn reclaim(&mut self, cycle: &Cycle) -> Event {
        let disarmed = self.shared.words.arm(i64::MAX);
        self.expect(disarmed);
        let exact_bytes = self.exact_bytes();
        self.shared.chronicle.begin(cycle, exact_bytes);
        self.is_anybody_asked = false;
        // Whoever takes long begins at once; then all are waited for.
        let began = Instant::now();
        let request = self.request(Part::Reclaim, cycle.level, cycle.target_bytes);
        let plan = Arc::clone(&self.plan);
        let mut has_errand = false;
        for action in &plan.actions {
            match action {
                Action::Signal(number) => self.signal(*number),
                Action::Exec(command) => has_errand = self.start_errand(command, cycle),
                Action::Systemd => self.tell_listeners(),
                Action::Trim | Action::Python | Action::Jvm => {}
            }
        }
        let claims = request.map_or_else(Vec::new, |number| self.hear_helper(number, began));
        if has_errand {
            self.finish_errand(began);
        }
        Event::Finished {
            number: cycle.number,
            claims,
        }
    }

    fn purge(&mut self, number: u64, level: Level) -> Event {
        self.shared.chronicle.settled(self.exact_bytes());
        let began = Instant::now();
        if self.may_purge()
            && let Some(request) = self.request(Part::Purge, level, 0)
        {
            self.hear_helper(request, began);
        }
        Event::Purged { number }
    }

    fn wait(&mut self, decision: &Decision) -> Event {
        let shared = Arc::clone(&self.shared);
        let armed = i64::try_from(decision.armed_bytes.min(NOT_ARMED)).unwrap_or(i64::MAX);
        match self.expect(shared.words.arm(armed)) {
            Some(false) => {}
            Some(true) => return Event::Crossed,
            None => return Event::Look,
        }
        self.beat(decision.level);
        let longest = match decision.level {
            Level::Calm => LONGEST_WAIT,
            _ => BEAT_EVERY,
        };
        let at_most = decision
            .look_at
            .map_or(longest, |at| at.saturating_sub(self.now()));
        // A steward that was sent away between `readings` and here was poked, which shows in the word.
        self.expect(shared.words.wait_crossed(at_most.min(longest)));
        self.expect(shared.words.arm(i64::MAX));
        let crossed = self.expect(shared.words.take()).unwrap_or(0);
        if shared.stalled.swap(false, AcqRel) {
            Event::Psi
        } else if crossed & layout::CROSSED_ASKED != 0 {
            let words = self.expect(shared.words.read());
            let asked = words.map_or(0, |words| words.asked_bytes);
            Event::Asked {
                target_bytes: u64::try_from(asked).unwrap_or(0),
            }
        } else if crossed & layout::CROSSED_ARMED != 0 {
            Event::Crossed
        } else {
            Event::Look
        }
    }
}
