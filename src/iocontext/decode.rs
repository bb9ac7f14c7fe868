//! From a source to frames: what C writes with goto, in guards.

use super::ffi::Info;
use super::objects::{Decoder, Demuxer, Frame, Io};
use crate::{Result, scope};

/// A container that is being decoded. What it allocates, Rust's and C's, is
/// booked to the scopes `probe`, `read` and `decode`.
pub struct Stream<'io> {
    // Dropped in this order, the reverse of acquisition.
    decoder: Decoder,
    demuxer: Demuxer<'io>,
}

impl<'io> Stream<'io> {
    /// Probes the source, reads its index and makes a decoder.
    ///
    /// # Errors
    /// The library's code, or the source's own error.
    pub fn open(io: &'io Io) -> Result<Stream<'io>> {
        let _probe = scope!("probe");
        let info = io.probe()?;
        let demuxer = Demuxer::open(io)?;
        let decoder = Decoder::open(&info)?;
        Ok(Stream { decoder, demuxer })
    }

    /// Gives what the header says.
    pub fn info(&self) -> &Info {
        self.demuxer.info()
    }

    /// Goes to the last key frame at or before a number; gives its number.
    ///
    /// # Errors
    /// [`Code::SEEK`](super::Code::SEEK) when there is no such frame.
    pub fn seek(&mut self, number: u32) -> Result<u32> {
        self.demuxer.seek(number)
    }

    /// Reads and decodes the next frame; `None` after the last.
    ///
    /// # Errors
    /// The library's code, or the source's own error.
    pub fn next_frame(&mut self) -> Result<Option<Frame>> {
        let packet = {
            let _read = scope!("read");
            self.demuxer.read()?
        };
        let Some(packet) = packet else {
            return Ok(None);
        };
        let _decode = scope!("decode");
        self.decoder.decode(&packet).map(Some)
    }
}

/// Decodes a whole container; `on_frame` may stop it.
///
/// The same work as `ic_decode_all` of `library.c`. There each label frees one
/// thing more, and each failure jumps to the right one; here each value frees
/// itself when its scope is left: at the end, by `?`, or by a panic.
///
/// ```text
///     C                                             Rust
///     code = ic_probe(io, &info);
///     if (code < 0)                                 let info = io.probe()?;
///         goto out;
///     code = ic_demuxer_open(&demuxer, io);
///     if (code < 0)                                 let demuxer = Demuxer::open(io)?;
///         goto out;
///     code = ic_decoder_open(&decoder, &info);
///     if (code < 0)                                 let decoder = Decoder::open(&info)?;
///         goto close_demuxer;
///     ...
///     close_decoder:
///         ic_decoder_close(&decoder);               // decoder, then demuxer: dropped
///     close_demuxer:
///         ic_demuxer_close(&demuxer);
///     out:
///         return code;                              Ok(())
/// ```
///
/// # Errors
/// The library's code, the source's own error, or that of `on_frame`.
pub fn decode_all(io: &Io, mut on_frame: impl FnMut(Frame) -> Result<()>) -> Result<()> {
    let mut stream = Stream::open(io)?;
    while let Some(frame) = stream.next_frame()? {
        on_frame(frame)?;
    }
    Ok(())
}
