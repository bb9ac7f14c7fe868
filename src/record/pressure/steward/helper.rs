//! What a steward asks of the helper's thread in the target.

use std::time::{Duration, Instant};

use super::{DEADLINE, Worker};
use crate::ledger::layout;
use crate::ledger::pressure_words::Part;
use crate::pressure::{Claim, Level};
use crate::record::pressure::Action;
use crate::recording::model::CallEnding;

/// A wake-up that came between a look and its wait costs this much, while the helper works.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The helper's thread starts with the program, and may be a little later than its first bytes.
const HELPER_STARTS: Duration = Duration::from_millis(50);
/// What a helper without anything else to do is there for.
const DESCRIPTOR: &str = "pressure_fd";

impl Worker {
    /// Asks the helper; gives the number of the request when it is there and has answered the last one.
    pub(super) fn request(&mut self, part: Part, level: Level, target_bytes: u64) -> Option<u32> {
        let words = self.await_helper()?;
        if let Some(number) = self.unanswered {
            if (words.done.wrapping_sub(number) as i32) < 0 {
                return None;
            }
            self.unanswered = None;
        }
        let target_bytes = i64::try_from(target_bytes).unwrap_or(i64::MAX);
        let number = self.shared.words.request(part, level as u32, target_bytes);
        self.expect(number)
    }

    /// Gives the words once a helper is there; `None` without one.
    fn await_helper(&mut self) -> Option<layout::Pressure> {
        let until = Instant::now() + HELPER_STARTS;
        loop {
            let read = self.shared.words.read();
            let words = self.expect(read)?;
            let is_expected =
                words.reclaimers > 0 || self.plan.actions.iter().any(Action::is_inside);
            if words.helper != 0 || !is_expected || self.missed == Some(words.reclaimers) {
                return (words.helper != 0).then_some(words);
            }
            if Instant::now() >= until {
                self.missed = Some(words.reclaimers);
            }
            // It wakes nobody when it begins, and begins once in a process's life.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for the helper's answer, not without end, and enters what it did.
    pub(super) fn hear_helper(&mut self, number: u32, began: Instant) -> Vec<Claim> {
        let words = loop {
            let left = DEADLINE.saturating_sub(began.elapsed());
            let done = self.shared.words.wait_done(number, left.min(LOOK_AGAIN));
            match self.expect(done) {
                None => return Vec::new(),
                Some(Some(words)) => break Some(words),
                Some(None) if self.is_dismissed() => break None,
                Some(None) if left.is_zero() => {
                    self.unanswered = Some(number);
                    self.note("helper", "slow");
                    break None;
                }
                Some(None) => {}
            }
        };
        let claims = self.enter_answers(number, began);
        if let Some(words) = &words {
            self.note_idle(words);
        }
        // Without anything else to do it is there for the eventfds of hl_pressure_fd.
        if words.is_some_and(|words| words.reclaimers == 0 && words.actions == 0) {
            let name = DESCRIPTOR.to_owned();
            self.called(name, None, began.elapsed(), CallEnding::Returned);
        }
        claims
    }

    /// Says what the operator asked for and this process has nothing for.
    fn note_idle(&self, words: &layout::Pressure) {
        let is_purge = words.request_level & layout::REQUEST_PURGE != 0;
        let actions: &[(Action, u32)] = match is_purge {
            true => &[(Action::Trim, layout::ACTION_TRIM)],
            false => &[
                (Action::Python, layout::ACTION_PYTHON),
                (Action::Jvm, layout::ACTION_JVM),
            ],
        };
        for (action, bit) in actions {
            if words.actions & bit != 0 && words.acted & bit == 0 {
                self.note(&action.name(), "found nothing to do it with");
            }
        }
    }

    /// Tells whether the helper may have something to do once live bytes have settled.
    pub(super) fn may_purge(&mut self) -> bool {
        let read = self.shared.words.read();
        self.expect(read)
            .is_some_and(|words| words.reclaimers > 0 || words.actions & layout::ACTION_TRIM != 0)
    }

    fn enter_answers(&mut self, number: u32, began: Instant) -> Vec<Claim> {
        let mut claims = Vec::new();
        for answer in self.shared.words.answers(number) {
            let (ending, took) = match answer.ending {
                layout::ENDING_NONE => (CallEnding::Late, began.elapsed()),
                _ => (
                    CallEnding::Returned,
                    Duration::from_micros(answer.took_us.into()),
                ),
            };
            let says = answer
                .claimed_bytes
                .filter(|_| ending == CallEnding::Returned);
            claims.extend(says.map(|claimed_bytes| Claim {
                reclaimer: claims.len() as u32,
                claimed_bytes,
                took,
            }));
            self.called(answer.name, says, took, ending);
        }
        claims
    }
}
