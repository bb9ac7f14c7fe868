//! The IOContext workload: a C media library that reads through callbacks into Rust.
//!
//! Most C media libraries take user-defined I/O: a struct of `opaque`, `read`,
//! `seek` and `size`, called back while the library allocates buffers of its
//! own. It is where managed programs get hurt: pointers into memory that moved
//! or is gone, panics across the boundary, error paths that free in the wrong
//! order, and megabytes that the managed side cannot see. `heapledger demo`,
//! the example `iocontext`, the tests and the benches all run on this module.
//!
//! | | |
//! | --- | --- |
//! | `library.h`, `library.c`, `codec.c`, `generator.c` | the C library, a shared object of its own |
//! | [`ffi`] | the same in Rust's types |
//! | [`Source`], [`Io`] | readers in Rust, behind keys |
//! | [`Demuxer`], [`Packet`], [`Decoder`], [`Frame`] | C's objects as values that free themselves |
//! | [`Stream`], [`decode_all`] | clean-up in the right order |
//! | [`FrameCache`], [`Scene`] | the trap |
//! | [`Workload`] | all of it, on several threads |
//! | [`faults`] | each step made to fail in turn |
//!
//! ```
//! use heapledger::iocontext::{Io, Workload, decode_all, generate};
//!
//! let workload = Workload { frames: 2, threads: 1, seed: 1 };
//! let mut container = Vec::new();
//! generate(&workload.recipe(), &mut container)?;
//!
//! let io = Io::new(std::io::Cursor::new(container))?;
//! let mut numbers = Vec::new();
//! decode_all(&io, |frame| {
//!     numbers.push(frame.number());
//!     Ok(())
//! })?;
//! assert_eq!(numbers, [0, 1]);
//! # Ok::<(), heapledger::Error>(())
//! ```

mod cache;
mod decode;
mod error;
pub mod faults;
pub mod ffi;
mod handles;
mod objects;
mod source;
mod workload;

pub use cache::{CachedFrame, FrameCache, Scene, SceneFrame};
pub use decode::{Stream, decode_all};
pub use error::Code;
pub use ffi::{Info, Recipe};
pub use objects::{Decoder, Demuxer, Frame, Io, Packet};
pub use source::{FileSource, Source};
pub use workload::{Decoded, Workload, generate};
