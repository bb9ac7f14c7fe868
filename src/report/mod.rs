//! What people and programs read: each format in a file of its own.
//!
//! Formats share how a size, a picture and a table look, and know nothing of
//! each other.

pub(crate) mod chart;
pub mod diff;
pub mod flamegraph;
pub mod folded;
pub mod html;
pub mod json;
#[cfg_attr(
    not(heapledger_core),
    allow(dead_code, reason = "the summary of a run uses more")
)]
pub(crate) mod phrases;
pub mod pprof;
pub mod style;
pub(crate) mod summary;
pub(crate) mod table;
#[cfg(test)]
mod tests;
pub mod text;
pub(crate) mod units;

pub use style::Style;
