//! What has changed from one recording to another.

pub mod json;
pub mod text;
