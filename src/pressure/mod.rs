//! Cleanup pressure: when memory should be cleaned up, how hard, and what came of it.
//!
//! A runtime that calls C sees handles, not the buffers behind them, so its
//! collector has no reason to run. The ledger knows both. Here its figures
//! become clean-ups: **cycles**, in which reclaimers are asked to free memory.
//!
//! # When
//!
//! *Growth.* After each cycle the policy remembers what is still live, the
//! baseline. The next one is due when live bytes have grown past the baseline by
//! a budget: as much as the baseline itself, at least 64 MiB.
//!
//! *Limits.* The lowest of the user's limits and the control groups' says how
//! much room there is. At 80, 90 and 95 % of it the [`Level`] rises to moderate,
//! high and critical, and each rise asks for a cycle. A level is left only well
//! below where it was reached, so that it does not flap.
//!
//! *The kernel.* When it reports that tasks wait for memory (PSI), the level
//! rises to moderate for 15 s.
//!
//! *The program* may simply ask.
//!
//! # How often
//!
//! One cycle at a time. The next starts no sooner than five times the last one's
//! length later, and 100 ms at least, so at most a sixth of the time goes into
//! them; at critical one length later, so at most half does. A cycle that frees
//! less than 5 % doubles the budget, up to ten; one that frees more than 20 %
//! halves it. A reclaimer that frees nothing is therefore hardly called any more,
//! and that is said once.
//!
//! # What came of it
//!
//! What a reclaimer returns is a claim. Finalizers often run after the
//! collector's call has returned, so live bytes are sampled until they have
//! settled, and the ledger's difference is the truth. [`CycleRecord`] has both.
//!
//! # The parts
//!
//! [`policy`] decides and does nothing: readings and events come in, decisions
//! go out. [`readings`] asks the kernel. A driver, of which there is one in the
//! program and one in the recorder, waits, reads, asks the policy, and calls the
//! reclaimers in the order that [`reclaimers`] gives.

#[cfg(target_os = "linux")]
mod caller;
mod cycle;
pub(crate) mod drive;
#[cfg(target_os = "linux")]
mod driver;
#[cfg(target_os = "linux")]
mod entry;
mod exchange;
#[cfg(target_os = "linux")]
mod handle;
#[cfg(target_os = "linux")]
mod journal;
#[cfg(all(target_os = "linux", feature = "tokio"))]
mod levels;
mod limits;
#[cfg(target_os = "linux")]
mod operator;
mod pacer;
pub mod policy;
#[cfg(target_os = "linux")]
pub mod readings;
#[cfg(target_os = "linux")]
mod reclaim;
pub mod reclaimers;
#[cfg(target_os = "linux")]
mod reserve;
mod settings;
mod settle;
#[cfg(test)]
mod simulation;
#[cfg(target_os = "linux")]
pub(crate) mod stalls;
#[cfg(target_os = "linux")]
mod subscribe;

pub use cycle::{Claim, Cycle, CycleRecord, Trigger};
pub use exchange::{Decision, Event, NOT_ARMED, Note, Notes, Order, Readings};
#[cfg(target_os = "linux")]
pub use handle::{CallEnding, Cleanup, Pressure, ReclaimerCall};
#[cfg(all(target_os = "linux", feature = "tokio"))]
pub use levels::Levels;
pub use limits::{GroupMemory, Level, Limits};
pub use policy::Policy;
#[cfg(target_os = "linux")]
pub use reclaim::{Reclaim, ReclaimRequest, Reclaimed, Registration};
pub use reclaimers::Priority;
#[cfg(target_os = "linux")]
pub use reserve::Reservation;
pub use settings::Settings;
#[cfg(target_os = "linux")]
pub use subscribe::Subscription;

/// Environment variable by which a recorder says what the target's helper thread is to do.
pub(crate) const ACTIONS: &str = "HEAPLEDGER_PRESSURE";
