//! What a recording holds of clean-ups: plain data.

use crate::pressure::{Level, Trigger};

/// The clean-ups of one process.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct Pressure {
    /// How many there were.
    pub cycles: u64,
    /// What came free in all of them.
    pub freed_bytes: u64,
    /// Requests of C's that were refused past a hard limit, where that was asked for.
    pub refused: u64,
    /// What they asked for.
    pub refused_bytes: u64,
    /// The last ones, the oldest first.
    pub events: Vec<PressureEvent>,
    /// What is to be known about them, each once: `ineffective`, `python: slow`.
    pub notes: Vec<String>,
}

impl Pressure {
    /// Gives how many clean-ups have no event any more.
    pub fn left_out(&self) -> u64 {
        self.cycles.saturating_sub(self.events.len() as u64)
    }
}

/// One clean-up.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct PressureEvent {
    /// Seconds from the start of the process to its beginning.
    pub t_s: f64,
    /// Why it was started.
    pub trigger: Trigger,
    /// How hard it was asked for.
    pub level: Level,
    /// Live bytes when it began.
    pub before_bytes: u64,
    /// What came free by the ledger: the truth.
    pub freed_bytes: u64,
    /// What reclaimers say that they freed; `None` where none says.
    pub claimed_bytes: Option<u64>,
    /// Seconds that live bytes took to settle after the last reclaimer had returned.
    pub settle_s: f64,
    /// Seconds from its beginning to its end.
    pub took_s: f64,
    /// False for one in which the process, or the recording, ended.
    pub is_complete: bool,
    /// What was asked, in order.
    pub reclaimers: Vec<ReclaimerCall>,
}

/// What one reclaimer, or one action, did in a clean-up.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct ReclaimerCall {
    /// As registered, or the action's.
    pub name: String,
    /// What it says that it freed; `None` where it does not say.
    pub claimed_bytes: Option<u64>,
    /// Seconds that it took, or had taken when its deadline passed.
    pub took_s: f64,
    /// How it ended.
    pub ending: CallEnding,
}

/// How a reclaimer's call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub enum CallEnding {
    /// It returned.
    Returned,
    /// It panicked, which was caught.
    Panicked,
    /// Its deadline passed; it was left alone.
    Late,
    /// It could not be done, or reports a failure.
    Failed,
}

impl CallEnding {
    /// The ending's name in reports.
    pub fn name(self) -> &'static str {
        match self {
            CallEnding::Returned => "returned",
            CallEnding::Panicked => "panicked",
            CallEnding::Late => "late",
            CallEnding::Failed => "failed",
        }
    }
}
