//! One clean-up: why it starts, and what is known when it is over.

use std::time::Duration;

use super::limits::Level;

/// Why a clean-up was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub enum Trigger {
    /// Live bytes have grown by the budget since the last clean-up.
    Growth,
    /// Of all limits the user's soft one leaves least, and a level was reached.
    SoftLimit,
    /// Of all limits the user's hard one leaves least, and a level was reached.
    HardLimit,
    /// Of all limits a control group's leaves least, and a level was reached.
    Cgroup,
    /// The kernel reported that tasks wait for memory.
    Psi,
    /// The program asked.
    Asked,
}

impl Trigger {
    /// The trigger's name in reports and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Trigger::Growth => "growth",
            Trigger::SoftLimit => "soft_limit",
            Trigger::HardLimit => "hard_limit",
            Trigger::Cgroup => "cgroup",
            Trigger::Psi => "psi",
            Trigger::Asked => "asked",
        }
    }

    /// Tells whether it was a limit.
    pub fn is_limit(self) -> bool {
        matches!(
            self,
            Trigger::SoftLimit | Trigger::HardLimit | Trigger::Cgroup
        )
    }
}

/// A clean-up that is to run now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// Counts from 1.
    pub number: u64,
    /// Why.
    pub trigger: Trigger,
    /// How hard: never calm.
    pub level: Level,
    /// What should come free, at least. A wish, not a bound.
    pub target_bytes: u64,
    /// Live bytes when it started.
    pub before_bytes: u64,
    /// When it started.
    pub started: Duration,
}

/// What one reclaimer says that it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which one, by the driver's own number.
    pub reclaimer: u32,
    /// What it says that it freed.
    pub claimed_bytes: u64,
    /// How long its call took.
    pub took: Duration,
}

/// A clean-up that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CycleRecord {
    /// Counts from 1.
    pub number: u64,
    /// Why it was started.
    pub trigger: Trigger,
    /// How hard it was asked for.
    pub level: Level,
    /// When it started, on the driver's clock.
    pub started: Duration,
    /// From its start until the allocator has given memory back.
    pub took: Duration,
    /// What should have come free.
    pub target_bytes: u64,
    /// Live bytes when it started.
    pub before_bytes: u64,
    /// Live bytes when they had settled. More than before if the program, or a
    /// reclaimer, allocated more meanwhile than came free.
    pub after_bytes: u64,
    /// What came free by the ledger: the truth. From before down to the fewest live
    /// bytes seen until they had settled, so that what the program allocates
    /// meanwhile is not taken off.
    pub freed_bytes: u64,
    /// What each reclaimer says that can tell.
    pub claims: Vec<Claim>,
    /// How long live bytes took to settle after the last reclaimer had returned.
    pub settle_ms: u64,
    /// Resident set less live bytes at the end; `None` where it cannot be read.
    pub drift_bytes: Option<i64>,
}

impl CycleRecord {
    /// The sum of what the reclaimers say.
    pub fn claimed_bytes(&self) -> u64 {
        self.claims
            .iter()
            .fold(0, |sum, claim| sum.saturating_add(claim.claimed_bytes))
    }
}
