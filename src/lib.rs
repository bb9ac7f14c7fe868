//! heapledger.
#[cfg(feature = "cli")]
pub mod analysis;
#[cfg(feature = "cli")]
pub mod cli;
mod counts;
mod error;
mod ledger;
#[cfg(all(feature = "cli", heapledger_core))]
mod record;
#[cfg(feature = "cli")]
pub mod recording;
#[cfg(feature = "cli")]
pub mod report;

pub use counts::{Counts, Side};
pub use error::{Error, Result};
