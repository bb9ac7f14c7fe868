//! What is remembered of a process's clean-ups, bounded however long it runs.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::pressure::{Cycle, CycleRecord};
use crate::recording::model::{Pressure, PressureEvent, ReclaimerCall};

/// Clean-ups that are kept with everything that is known of them, the last ones.
const MAX_EVENTS: usize = 256;
/// Notes that are kept; each is there once, and there are few kinds.
const MAX_NOTES: usize = 32;

/// The clean-ups of one image, written by its steward.
#[derive(Default)]
pub(super) struct Chronicle(Mutex<Pages>);

#[derive(Default)]
struct Pages {
    past: Pressure,
    current: Option<PressureEvent>,
    /// Of the current one: live bytes when they had settled, exact.
    after_bytes: Option<u64>,
}

impl Chronicle {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A clean-up begins. What the policy knows of live bytes is late by a quantum a
    /// thread; `exact_bytes` is not, where it is known.
    pub(super) fn begin(&self, cycle: &Cycle, exact_bytes: Option<u64>) {
        let mut pages = self.pages();
        pages.after_bytes = None;
        pages.current = Some(PressureEvent {
            t_s: cycle.started.as_secs_f64(),
            trigger: cycle.trigger,
            level: cycle.level,
            before_bytes: exact_bytes.unwrap_or(cycle.before_bytes),
            freed_bytes: 0,
            claimed_bytes: None,
            settle_s: 0.0,
            took_s: 0.0,
            is_complete: false,
            reclaimers: Vec::new(),
        });
    }

    /// Somebody was asked in it.
    pub(super) fn called(&self, call: ReclaimerCall) {
        if let Some(event) = &mut self.pages().current {
            let claims = [event.claimed_bytes, call.claimed_bytes];
            event.claimed_bytes = claims.into_iter().flatten().reduce(u64::saturating_add);
            event.reclaimers.push(call);
        }
    }

    /// Live bytes have settled.
    pub(super) fn settled(&self, exact_bytes: Option<u64>) {
        let mut pages = self.pages();
        pages.after_bytes = exact_bytes;
        if let (Some(event), Some(after)) = (&mut pages.current, exact_bytes) {
            event.freed_bytes = event.before_bytes.saturating_sub(after);
            event.is_complete = true;
        }
    }

    /// It is over. What the program allocated after live bytes had been at their fewest is
    /// known from the policy's samples alone; where there is none of it, the sums stay exact.
    pub(super) fn end(&self, record: &CycleRecord) {
        let mut pages = self.pages();
        let after_bytes = pages.after_bytes.take();
        if let Some(mut event) = pages.current.take() {
            event.freed_bytes = match after_bytes {
                Some(after_bytes) => event
                    .before_bytes
                    .saturating_add(regrown_bytes(record))
                    .saturating_sub(after_bytes),
                None => record.freed_bytes,
            };
            event.settle_s = Duration::from_millis(record.settle_ms).as_secs_f64();
            event.took_s = record.took.as_secs_f64();
            event.is_complete = true;
            pages.past.add(event);
        }
    }

    /// The process drives its own from now on, the one that is under way as well: what comes
    /// free later its own will tell.
    pub(super) fn hand_over(&self, live_bytes: u64) {
        let mut pages = self.pages();
        if let Some(mut event) = pages.current.take()
            && !event.reclaimers.is_empty()
        {
            if !event.is_complete {
                event.freed_bytes = event.before_bytes.saturating_sub(live_bytes);
            }
            event.is_complete = true;
            pages.past.add(event);
        }
    }

    /// Something is to be known, once.
    pub(super) fn note(&self, note: String) {
        let notes = &mut self.pages().past.notes;
        if notes.len() < MAX_NOTES && !notes.contains(&note) {
            notes.push(note);
        }
    }

    /// Gives everything, with the clean-up that was under way as it stands.
    pub(super) fn close(&self, live_bytes: u64, t_s: f64) -> Pressure {
        let mut pages = self.pages();
        if let Some(mut event) = pages.current.take() {
            if !event.is_complete {
                event.freed_bytes = event.before_bytes.saturating_sub(live_bytes);
            }
            event.is_complete = false;
            event.took_s = (t_s - event.t_s).max(0.0);
            pages.past.add(event);
        }
        std::mem::take(&mut pages.past)
    }
}

/// Gives what live bytes rose by between their fewest and the end of the clean-up.
fn regrown_bytes(record: &CycleRecord) -> u64 {
    match record.freed_bytes {
        0 => 0, // they never fell
        freed_bytes => record
            .after_bytes
            .saturating_add(freed_bytes)
            .saturating_sub(record.before_bytes),
    }
}

trait Add {
    fn add(&mut self, event: PressureEvent);
}

impl Add for Pressure {
    fn add(&mut self, event: PressureEvent) {
        self.cycles += 1;
        self.freed_bytes = self.freed_bytes.saturating_add(event.freed_bytes);
        if self.events.len() >= MAX_EVENTS {
            self.events.remove(0);
        }
        self.events.push(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pressure::{Level, Trigger};
    use crate::recording::model::CallEnding;

    fn cycle(number: u64) -> Cycle {
        Cycle {
            number,
            trigger: Trigger::Growth,
            level: Level::High,
            target_bytes: 7,
            before_bytes: 1000,
            started: Duration::from_secs(number),
        }
    }

    #[test]
    fn what_was_under_way_is_told_as_it_stands() {
        let chronicle = Chronicle::default();
        chronicle.begin(&cycle(1), None);
        for claimed_bytes in [Some(30), None, Some(40)] {
            chronicle.called(ReclaimerCall {
                name: "cache".to_owned(),
                claimed_bytes,
                took_s: 0.5,
                ending: CallEnding::Returned,
            });
        }
        let told = chronicle.close(900, 3.5);
        assert_eq!((told.cycles, told.freed_bytes), (1, 100));
        let event = &told.events[0];
        assert_eq!((event.t_s, event.took_s), (1.0, 2.5));
        assert_eq!(event.claimed_bytes, Some(70));
        assert_eq!(event.reclaimers.len(), 3);
        assert!(!event.is_complete);
        assert_eq!(chronicle.close(0, 9.0), Pressure::default());
    }

    #[test]
    fn what_was_under_way_when_the_process_took_over_ends_there() {
        let chronicle = Chronicle::default();
        chronicle.begin(&cycle(1), None);
        chronicle.hand_over(100); // nobody was asked yet
        chronicle.begin(&cycle(2), None);
        chronicle.called(ReclaimerCall {
            name: "cache".to_owned(),
            claimed_bytes: Some(30),
            took_s: 0.5,
            ending: CallEnding::Returned,
        });
        chronicle.hand_over(970);
        let told = chronicle.close(0, 9.0);
        assert_eq!((told.cycles, told.freed_bytes), (1, 30));
        assert_eq!(
            (told.events[0].t_s, told.events[0].is_complete),
            (2.0, true)
        );
    }

    #[test]
    fn what_the_program_allocates_meanwhile_is_not_taken_off() {
        let chronicle = Chronicle::default();
        let record = |after_bytes, freed_bytes| CycleRecord {
            number: 1,
            trigger: Trigger::Growth,
            level: Level::High,
            started: Duration::ZERO,
            took: Duration::ZERO,
            target_bytes: 7,
            before_bytes: 1000,
            after_bytes,
            freed_bytes,
            claims: Vec::new(),
            settle_ms: 20,
            drift_bytes: None,
        };
        // By the samples 1000, 600, 900; by the sums 1010 and 905.
        for (exact_after, record, freed_bytes) in [
            (Some(905), record(900, 400), 405),
            (None, record(900, 400), 400),
            (Some(1010), record(1000, 0), 0),
            (Some(1200), record(1190, 100), 100),
            (Some(2000), record(2000, 0), 0),
        ] {
            chronicle.begin(&cycle(1), Some(1010));
            chronicle.settled(exact_after);
            chronicle.end(&record);
            let told = chronicle.close(0, 0.0);
            assert_eq!(told.freed_bytes, freed_bytes, "{record:?}");
        }
    }

    #[test]
    fn the_last_are_kept_and_all_are_counted() {
        let chronicle = Chronicle::default();
        for number in 1..=300 {
            chronicle.begin(&cycle(number), Some(1000));
            chronicle.close_one(10);
        }
        let told = chronicle.close(0, 0.0);
        assert_eq!((told.cycles, told.freed_bytes), (300, 3000));
        assert_eq!(told.events.len(), MAX_EVENTS);
        assert_eq!(told.events[0].t_s, 45.0);
    }

    #[test]
    fn a_note_is_there_once() {
        let chronicle = Chronicle::default();
        for note in ["drift", "exec: slow", "drift"] {
            chronicle.note(note.to_owned());
        }
        (0..100).for_each(|number| chronicle.note(number.to_string()));
        let notes = chronicle.close(0, 0.0).notes;
        assert_eq!(notes[..3], ["drift", "exec: slow", "0"]);
        assert_eq!(notes.len(), MAX_NOTES);
    }

    impl Chronicle {
        fn close_one(&self, freed_bytes: u64) {
            let mut pages = self.pages();
            let mut event = pages.current.take().unwrap();
            event.freed_bytes = freed_bytes;
            pages.past.add(event);
        }
    }
}
