//! heapledger.
mod counts;
mod error;
mod ledger;
#[cfg(feature = "cli")]
pub mod recording;

pub use counts::{Counts, Side};
pub use error::{Error, Result};
