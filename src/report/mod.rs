//! What people and programs read: each format in a file of its own.
//!
//! Formats share how a size, a picture and a table look, and know nothing of
//! each other.

mod chart;
pub mod json;
mod phrases;
pub mod style;
pub mod summary;
mod table;
pub mod text;
mod units;

pub use style::Style;
