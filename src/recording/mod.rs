//! The recording: what `heapledger run` writes and everything else reads.

pub mod model;

pub use model::Recording;
