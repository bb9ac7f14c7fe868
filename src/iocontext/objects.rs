//! The library's objects as Rust values: each frees itself, in the reverse
//! order of acquisition, however its scope is left.

use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use scopeguard::{ScopeGuard, guard};

use super::error::Code;
use super::ffi::{self, Info, IoContext, RawDecoder, RawDemuxer, RawFrame, RawPacket};
use super::handles::{self, Handle};
use super::source::Source;
use crate::{Error, Result};

/// Something of C's that is ours to free.
type Owned<T> = ScopeGuard<NonNull<T>, fn(NonNull<T>)>;

/// Declares how an object goes back to C: by the address of a pointer to it.
macro_rules! free_with {
    ($name:ident, $raw:ty, $function:ident) => {
        fn $name(object: NonNull<$raw>) {
            let mut object = object.as_ptr();
            // SAFETY: the library made the object, and only its one guard calls this, once.
            unsafe { (ffi::loaded().$function)(&mut object) }
        }
    };
}

free_with!(free_io, IoContext, ic_io_free);
free_with!(close_demuxer, RawDemuxer, ic_demuxer_close);
free_with!(close_decoder, RawDecoder, ic_decoder_close);
free_with!(free_packet, RawPacket, ic_packet_free);
free_with!(free_frame, RawFrame, ic_frame_free);

/// Takes over what a function of the library has stored.
fn own<T>(object: *mut T, free: fn(NonNull<T>)) -> Result<Owned<T>> {
    let object = NonNull::new(object).ok_or(Error::IoContext(Code::MEMORY))?;
    Ok(guard(object, free))
}

/// An `IOContext` and the source behind it.
pub struct Io {
    // Fields are dropped in this order: C's struct first, then what its key stands for.
    context: Owned<IoContext>,
    handle: Handle,
}

impl Io {
    /// Makes the library read from a source.
    ///
    /// # Errors
    /// [`Error::NoIoContext`], or [`Code::MEMORY`].
    pub fn new(source: impl Source + 'static) -> Result<Io> {
        let library = ffi::library()?;
        let handle = Handle::new(Box::new(source));
        // SAFETY: no conditions (library.h).
        let context = own(unsafe { (library.ic_io_alloc)() }, free_io)?;
        let fields = IoContext {
            opaque: handle.opaque(),
            read: Some(handles::read),
            seek: Some(handles::seek),
            size: Some(handles::size),
        };
        // SAFETY: the library gave out a whole IOContext, which is plain data and ours.
        unsafe { context.as_ptr().write(fields) };
        Ok(Io { context, handle })
    }

    /// Gives C's struct, for calls of the library that have no method here.
    pub fn as_ptr(&self) -> *mut IoContext {
        self.context.as_ptr()
    }

    /// Looks whether the source is a container, and goes back to its start.
    ///
    /// # Errors
    /// The library's code, or the source's own error.
    pub fn probe(&self) -> Result<Info> {
        let mut info = MaybeUninit::<Info>::uninit();
        // SAFETY: the context is the library's, and `info` has room for the answer.
        let code = unsafe { (ffi::loaded().ic_probe)(self.as_ptr(), info.as_mut_ptr()) };
        self.check(code)?;
        // SAFETY: it succeeded, and then all of it is filled in (header_parse).
        Ok(unsafe { info.assume_init() })
    }

    /// Turns the answer of a call that may have called back into a result: a panic of the source
    /// goes on here, an error of it comes before the code that it became.
    ///
    /// # Errors
    /// See above.
    pub fn check(&self, code: i32) -> Result<()> {
        match (self.handle.take_failure(), ffi::check(code)) {
            (Some(error), Err(_)) => Err(error),
            (_, result) => result,
        }
    }
}

/// An open container.
pub struct Demuxer<'io> {
    raw: Owned<RawDemuxer>,
    io: &'io Io,
}

impl<'io> Demuxer<'io> {
    /// Reads header and index.
    ///
    /// # Errors
    /// The library's code, or the source's own error.
    pub fn open(io: &'io Io) -> Result<Demuxer<'io>> {
        let mut raw = ptr::null_mut();
        // SAFETY: the context is the library's and outlives the demuxer ('io).
        let code = unsafe { (ffi::loaded().ic_demuxer_open)(&mut raw, io.as_ptr()) };
        // What was made is owned before a panic of the source can go on.
        let raw = own(raw, close_demuxer);
        io.check(code)?;
        Ok(Demuxer { raw: raw?, io })
    }

    /// Gives what the header says.
    pub fn info(&self) -> &Info {
        // SAFETY: the library's own struct, unchanged until it is closed.
        unsafe { &*(ffi::loaded().ic_demuxer_info)(self.raw.as_ptr()) }
    }

    /// Reads the next packet; `None` after the last.
    ///
    /// # Errors
    /// The library's code, or the source's own error; the position stays where it was.
    pub fn read(&mut self) -> Result<Option<Packet>> {
        let mut raw = ptr::null_mut();
        // SAFETY: the demuxer is the library's and only we use it (&mut).
        let code = unsafe { (ffi::loaded().ic_demuxer_read)(self.raw.as_ptr(), &mut raw) };
        let raw = own(raw, free_packet);
        if code == Code::END.value() {
            return Ok(None);
        }
        self.io.check(code)?;
        Ok(Some(Packet { raw: raw? }))
    }

    /// Goes to the last key frame at or before a number; gives its number.
    ///
    /// # Errors
    /// [`Code::SEEK`] when there is no such frame.
    pub fn seek(&mut self, number: u32) -> Result<u32> {
        let mut key = 0;
        // SAFETY: as in `read`.
        ffi::check(unsafe {
            (ffi::loaded().ic_demuxer_seek)(self.raw.as_ptr(), number, &mut key)
        })?;
        Ok(key)
    }
}

/// One coded frame.
pub struct Packet {
    raw: Owned<RawPacket>,
}

impl Packet {
    fn get(&self) -> &RawPacket {
        // SAFETY: the library's struct, ours until it is freed; nobody writes it.
        unsafe { self.raw.as_ref() }
    }

    /// Gives the number of its frame, from 0.
    pub fn number(&self) -> u32 {
        self.get().number
    }

    /// Tells whether it needs no other frame.
    pub fn is_key(&self) -> bool {
        self.get().key != 0
    }

    /// Gives the coded bytes.
    pub fn payload(&self) -> &[u8] {
        let packet = self.get();
        // SAFETY: `data` holds `bytes` bytes that were read (ic_demuxer_read).
        unsafe { std::slice::from_raw_parts(packet.data, packet.bytes as usize) }
    }

    /// Gives the coded bytes to be changed, as a damaged transport would.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `payload`; nobody else uses them (&mut).
        unsafe {
            let packet = self.raw.as_ref();
            std::slice::from_raw_parts_mut(packet.data, packet.bytes as usize)
        }
    }
}

/// A decoder, with the frames that it may refer to.
pub struct Decoder {
    raw: Owned<RawDecoder>,
}

impl Decoder {
    /// Makes a decoder for a container.
    ///
    /// # Errors
    /// [`Error::NoIoContext`], or the library's code.
    pub fn open(info: &Info) -> Result<Decoder> {
        let mut raw = ptr::null_mut();
        // SAFETY: both are valid for the call.
        let code = unsafe { (ffi::library()?.ic_decoder_open)(&mut raw, info) };
        let raw = own(raw, close_decoder);
        ffi::check(code)?;
        Ok(Decoder { raw: raw? })
    }

    /// Decodes one packet.
    ///
    /// # Errors
    /// The library's code; the decoder then waits for a key frame.
    pub fn decode(&mut self, packet: &Packet) -> Result<Frame> {
        let mut raw = ptr::null_mut();
        // SAFETY: decoder and packet are the library's; nobody else uses the decoder (&mut).
        let code = unsafe {
            (ffi::loaded().ic_decoder_decode)(self.raw.as_ptr(), packet.raw.as_ptr(), &mut raw)
        };
        let raw = own(raw, free_frame);
        ffi::check(code)?;
        Ok(Frame { raw: raw? })
    }
}

/// A decoded picture, in a buffer of C's: what Rust sees of it is a pointer.
pub struct Frame {
    raw: Owned<RawFrame>,
}

// SAFETY: references to frames may be taken and released on any thread (library.h), and nobody
// writes a frame once it is given out.
unsafe impl Send for Frame {}
// SAFETY: as above.
unsafe impl Sync for Frame {}

impl Frame {
    /// Takes a reference to a frame that somebody else holds.
    ///
    /// # Safety
    /// `frame` is a frame of the library, alive during the call.
    pub unsafe fn from_borrowed(frame: NonNull<RawFrame>) -> Frame {
        // SAFETY: the caller's promise; a reference is the frame's own address (library.h).
        unsafe { (ffi::loaded().ic_frame_ref)(frame.as_ptr()) };
        Frame {
            raw: guard(frame, free_frame),
        }
    }

    fn get(&self) -> &RawFrame {
        // SAFETY: we hold a reference, and nobody writes a frame that was given out.
        unsafe { self.raw.as_ref() }
    }

    /// Gives its number, from 0.
    pub fn number(&self) -> u32 {
        self.get().number
    }

    /// Gives width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.get().width, self.get().height)
    }

    /// Tells whether it was made from its packet alone.
    pub fn is_key(&self) -> bool {
        self.get().key != 0
    }

    /// Gives the bytes of all planes, which C holds.
    pub fn bytes(&self) -> usize {
        self.get().bytes as usize
    }

    /// Gives the checksum of all planes.
    pub fn checksum(&self) -> u64 {
        self.get().checksum
    }

    /// Gives a plane and its stride: 0 is brightness, 1 and 2 are colours in half resolution.
    ///
    /// # Panics
    /// When `plane` is more than 2.
    pub fn plane(&self, plane: usize) -> (&[u8], usize) {
        let frame = self.get();
        let rows = frame.height >> u32::from(plane > 0);
        let stride = frame.strides[plane] as usize;
        // SAFETY: a plane has its rows of `stride` bytes (frame_new), all of them painted.
        let pixels =
            unsafe { std::slice::from_raw_parts(frame.planes[plane], rows as usize * stride) };
        (pixels, stride)
    }
}

impl Clone for Frame {
    fn clone(&self) -> Frame {
        // SAFETY: we hold it, so it is alive.
        unsafe { Frame::from_borrowed(*self.raw) }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Frame")
            .field("number", &self.number())
            .field("size", &self.size())
            .finish()
    }
}
