//! One exact allocation ledger for programs that mix Rust with C.
//!
//! A counting global allocator books Rust; malloc hooks book C. Both write one
//! ledger, which says who holds how much, to the byte: by side, call site,
//! library, scope and thread. It lies in shared memory, so that a recorder
//! (`heapledger run`) can read it even after a SIGKILL.
//!
//! ```
//! #[global_allocator]
//! static ALLOC: heapledger::Alloc = heapledger::Alloc::system();
//!
//! let before = heapledger::ledger().snapshot();
//! let kept = {
//!     let _decode = heapledger::scope!("decode");
//!     vec![0u8; 10_000]
//! };
//! let after = heapledger::ledger().snapshot();
//!
//! # if heapledger::ledger().is_active() {
//! assert_eq!(after.rust().live_bytes - before.rust().live_bytes, 10_000);
//! let decode = after.owners().find(|owner| owner.scope() == Some("decode")).unwrap();
//! assert_eq!(decode.counts().live_bytes, 10_000);
//! # }
//! # drop(kept);
//! ```
//!
//! Who books what:
//!
//! | build | run plainly | under `heapledger run` |
//! | --- | --- | --- |
//! | with the crate | Rust | Rust and C |
//! | with the crate and feature `interpose` | Rust and C | Rust and C |
//! | any other program | | C, and Rust where symbols tell |
//!
//! Each block is booked once. Where two cores meet in a process, the preload
//! library's keeps the books and the crate's stands down.
//!
//! With feature `profile`, `profile()` tells a program by stack what it holds, and
//! writes it for pprof: see the module of that name.
//!
//! A dependency that nobody names is not linked: a program that wants only
//! `interpose`, without naming an [`Alloc`], writes `use heapledger as _;`.

#![warn(missing_docs)]

mod alloc;
#[cfg(feature = "profile")]
pub mod analysis;
#[cfg(feature = "cli")]
pub mod cli;
mod core;
mod counts;
#[cfg(feature = "criterion")]
pub mod criterion;
#[cfg(all(feature = "cli", heapledger_core))]
mod demo;
#[cfg(all(feature = "cli", heapledger_core))]
mod embedded;
mod error;
#[cfg(all(feature = "cli", heapledger_core))]
pub mod iocontext;
mod ledger;
mod measure;
pub mod pressure;
#[cfg(feature = "profile")]
pub mod profile;
#[cfg(all(feature = "cli", heapledger_core))]
mod record;
#[cfg(feature = "profile")]
pub mod recording;
#[cfg(feature = "profile")]
pub mod report;
mod scope;
mod snapshot;

pub use alloc::{Alloc, System};
pub use counts::{Counts, Side};
pub use error::{Error, Result};
pub use measure::{Measured, measure};
#[cfg(feature = "profile")]
pub use profile::{Profile, profile};
pub use scope::{Scope, ScopeName};
pub use snapshot::{Ledger, LiveBytes, Owner, Peaks, Snapshot, ledger};
