//! The recording: what `heapledger run` writes and everything else reads.

mod bypass;
mod check;
mod cleanups;
mod exact;
pub(crate) mod file;
mod frame;
mod load;
mod misuse;
pub mod model;
mod paths;
pub(crate) mod resolve;
mod sampled;
mod shims;
pub(crate) mod symbols;

pub use file::{OpenError, OpenFailure};
#[cfg(heapledger_core)]
pub(crate) use load::open_ledger;
pub use model::Recording;
