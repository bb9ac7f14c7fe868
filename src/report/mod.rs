//! What people and programs read: each format in a file of its own.
//!
//! Formats share how a size, a picture and a table look, and know nothing of
//! each other.

#![cfg_attr(
    not(feature = "cli"),
    allow(dead_code, reason = "the command has more formats")
)]

#[cfg(feature = "cli")]
pub(crate) mod chart;
#[cfg(feature = "cli")]
pub mod diff;
pub mod flamegraph;
pub mod folded;
#[cfg(feature = "cli")]
pub mod html;
#[cfg(feature = "cli")]
pub mod json;
#[cfg_attr(
    not(heapledger_core),
    allow(dead_code, reason = "the summary of a run uses more")
)]
pub(crate) mod phrases;
pub mod pprof;
#[cfg(feature = "cli")]
pub mod style;
#[cfg(feature = "cli")]
pub(crate) mod summary;
#[cfg(feature = "cli")]
pub(crate) mod table;
#[cfg(all(test, feature = "cli"))]
mod tests;
#[cfg(feature = "cli")]
pub mod text;
pub(crate) mod units;

#[cfg(feature = "cli")]
pub use style::Style;
