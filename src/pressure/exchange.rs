//! What the driver and the policy tell each other.

use std::time::Duration;

use super::cycle::{Claim, Cycle, CycleRecord};
use super::limits::{Level, Limits};

/// The word is not armed: nothing reaches it.
pub const NOT_ARMED: u64 = i64::MAX as u64;

/// What the driver knows at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// A clock that never goes back, from any start.
    pub now: Duration,
    /// Live bytes of both sides.
    pub live_bytes: u64,
    /// The limits as they are now.
    pub limits: Limits,
    /// The resident set, where it can be read. Reported, never acted on.
    pub resident_bytes: Option<u64>,
}

/// Why the driver calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The time to look again has come, or the readings have changed.
    Look,
    /// An allocating thread has passed the armed threshold.
    Crossed,
    /// The kernel reports that tasks wait for memory.
    Psi,
    /// The program asks for a clean-up.
    Asked {
        /// What should come free; 0 leaves it to the policy.
        target_bytes: u64,
    },
    /// The round of reclaimers of this cycle is over.
    Finished {
        /// The cycle's number. An answer to another one is ignored.
        number: u64,
        /// What each of them says.
        claims: Vec<Claim>,
    },
    /// The allocator of this cycle has given back what it could.
    Purged {
        /// The cycle's number. An answer to another one is ignored.
        number: u64,
    },
}

/// What the driver is to do now, besides waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Call caches, then host collectors, then answer [`Event::Finished`].
    Reclaim(Cycle),
    /// Let the allocator give memory back, then answer [`Event::Purged`].
    Purge {
        /// The cycle's number.
        number: u64,
    },
}

/// What is to be said to people, each once in a policy's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Note {
    /// Clean-ups free next to nothing again and again.
    Ineffective = 1,
    /// What remains after a clean-up is more than the limits leave room for.
    BaselineAboveLimit = 2,
    /// Live bytes and the resident set lie far apart.
    Drift = 4,
}

impl Note {
    /// The note's name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Note::Ineffective => "ineffective",
            Note::BaselineAboveLimit => "baseline_above_limit",
            Note::Drift => "drift",
        }
    }
}

/// A set of notes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes(u8);

impl Notes {
    pub(super) fn with(self, note: Note) -> Notes {
        Notes(self.0 | note as u8)
    }

    pub(super) fn without(self, others: Notes) -> Notes {
        Notes(self.0 & !others.0)
    }

    /// Tells whether the note is in the set.
    pub fn contains(self, note: Note) -> bool {
        self.0 & note as u8 != 0
    }

    /// The notes in the set.
    pub fn iter(self) -> impl Iterator<Item = Note> {
        let all = [Note::Ineffective, Note::BaselineAboveLimit, Note::Drift];
        all.into_iter().filter(move |note| self.contains(*note))
    }
}

/// What follows from a step.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    /// The live bytes past which an allocating thread is to wake the driver:
    /// more than are live now, or [`NOT_ARMED`].
    pub armed_bytes: u64,
    /// When to call again if nothing happens; `None` for no need to.
    pub look_at: Option<Duration>,
    /// The level to publish.
    pub level: Level,
    /// The level published so far, where it differs.
    pub level_before: Option<Level>,
    /// What to do now.
    pub order: Option<Order>,
    /// The cycle that this step ended.
    pub finished: Option<CycleRecord>,
    /// What is to be said now, for the first time.
    pub notes: Notes,
}
