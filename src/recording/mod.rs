//! The recording: what `heapledger run` writes and everything else reads, and
//! what [`profile`](crate::profile()) makes of this process.

#![cfg_attr(
    not(feature = "cli"),
    allow(
        dead_code,
        reason = "the command reads and writes more of recordings than a process has of itself"
    )
)]

#[cfg(feature = "cli")]
mod bypass;
#[cfg(feature = "cli")]
mod check;
mod cleanups;
pub(crate) mod demangle;
mod exact;
#[cfg(feature = "cli")]
pub(crate) mod file;
#[cfg(feature = "cli")]
mod frame;
mod lives;
#[cfg(feature = "cli")]
mod load;
mod misuse;
pub mod model;
#[cfg(feature = "cli")]
pub(crate) mod module_names;
mod paths;
mod pressure;
pub(crate) mod resolve;
mod sampled;
#[cfg(feature = "cli")]
mod shims;
#[cfg(feature = "cli")]
pub(crate) mod symbols;

#[cfg(feature = "cli")]
pub use file::{OpenError, OpenFailure};
#[cfg(all(feature = "cli", heapledger_core))]
pub(crate) use load::open_ledger;
pub use model::Recording;
