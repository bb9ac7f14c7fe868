//! The C library as C sees it: `library.h` in Rust, and the loaded functions.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

use super::error::Code;
use crate::embedded::IOCONTEXT;
use crate::{Error, Result};

/// The functions and the key that the caller fills in (`IOContext`).
#[repr(C)]
pub struct IoContext {
    /// A key (`handles.rs`), never a pointer.
    pub opaque: *mut c_void,
    /// Reads at most `size` bytes; gives the count, 0 at the end, or a code.
    pub read: Option<unsafe extern "C" fn(*mut c_void, *mut u8, c_int) -> c_int>,
    /// Goes to an offset; gives the new position, or a code.
    pub seek: Option<unsafe extern "C" fn(*mut c_void, i64, c_int) -> i64>,
    /// Gives all bytes there are, -1 where that is not known, or a code.
    pub size: Option<unsafe extern "C" fn(*mut c_void) -> i64>,
}

/// What a container's header says (`ic_info`).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Info {
    /// Frames, one a packet.
    pub frame_count: u32,
    /// Pixels of the widest frame.
    pub max_width: u32,
    /// Pixels of the highest frame.
    pub max_height: u32,
    /// Bytes of the largest payload.
    pub max_packet_bytes: u32,
    /// Frames from one key frame to the next.
    pub key_interval: u32,
    reserved: u32,
    /// Where the index begins.
    pub index_offset: u64,
    /// Brightness of flat blocks, by number.
    pub levels: [u8; 256],
}

/// One coded frame (`ic_packet`).
#[repr(C)]
pub struct RawPacket {
    pub(super) data: *mut u8,
    pub(super) bytes: u32,
    pub(super) number: u32,
    pub(super) key: u32,
    pub(super) width: u16,
    pub(super) height: u16,
    pub(super) frame_checksum: u64,
}

/// One picture (`ic_frame`).
#[repr(C)]
pub struct RawFrame {
    pub(super) planes: [*mut u8; 3],
    pub(super) strides: [u32; 3],
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) number: u32,
    pub(super) key: u32,
    pub(super) bytes: u32,
    reserved: u32,
    pub(super) checksum: u64,
    brightness: [u32; 64],
}

/// What a container is made from (`ic_recipe`).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Recipe {
    /// The same recipe makes the same bytes everywhere.
    pub seed: u64,
    /// Frames, one a packet.
    pub frame_count: u32,
    /// Frames from one key frame to the next.
    pub key_interval: u32,
    /// Of the library's sizes, from 64 x 64 to 3,072 x 1,728 pixels, those that fit are made.
    pub max_width: u32,
    /// As `max_width`.
    pub max_height: u32,
}

/// Where the library's memory comes from (`ic_memory`).
#[repr(C)]
pub struct Memory {
    /// As `malloc`.
    pub malloc: unsafe extern "C" fn(usize) -> *mut c_void,
    /// As `calloc`.
    pub calloc: unsafe extern "C" fn(usize, usize) -> *mut c_void,
    /// As `realloc`.
    pub realloc: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void,
    /// As `free`.
    pub free: unsafe extern "C" fn(*mut c_void),
}

/// An open container (`ic_demuxer`), known to C alone.
#[repr(C)]
pub struct RawDemuxer {
    opaque: [u8; 0],
}

/// A decoder (`ic_decoder`), known to C alone.
#[repr(C)]
pub struct RawDecoder {
    opaque: [u8; 0],
}

/// What receives a container's bytes; takes all `size` of them and gives 0, or a code.
pub type Write = unsafe extern "C" fn(*mut c_void, *const u8, c_int) -> c_int;

/// Declares the table of the library's functions and how it is filled.
macro_rules! functions {
    ($($name:ident: fn($($type:ty),*) $(-> $result:ty)?;)*) => {
        /// The library's functions, with the contracts of `library.h`.
        pub struct Library {
            $(
                #[doc = concat!("`", stringify!($name), "` of `library.h`.")]
                pub $name: unsafe extern "C" fn($($type),*) $(-> $result)?,
            )*
        }

        impl Library {
            /// # Safety
            /// `loaded` is an open `libiocontext.so`.
            unsafe fn find(loaded: *mut c_void) -> Option<Library> {
                $(
                    let name = concat!(stringify!($name), "\0");
                    // SAFETY: the name ends with a zero, and the library is open.
                    let $name = unsafe { libc::dlsym(loaded, name.as_ptr().cast::<c_char>()) };
                    if $name.is_null() {
                        return None;
                    }
                )*
                Some(Library {
                    // SAFETY: the types repeat library.h, which the very library was built from (build.rs).
                    $($name: unsafe {
                        std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($type),*) $(-> $result)?>($name)
                    },)*
                })
            }
        }
    };
}

functions! {
    ic_error_text: fn(c_int) -> *const c_char;
    ic_set_memory: fn(*const Memory);
    ic_io_alloc: fn() -> *mut IoContext;
    ic_io_free: fn(*mut *mut IoContext);
    ic_probe: fn(*mut IoContext, *mut Info) -> c_int;
    ic_demuxer_open: fn(*mut *mut RawDemuxer, *mut IoContext) -> c_int;
    ic_demuxer_info: fn(*const RawDemuxer) -> *const Info;
    ic_demuxer_read: fn(*mut RawDemuxer, *mut *mut RawPacket) -> c_int;
    ic_demuxer_seek: fn(*mut RawDemuxer, u32, *mut u32) -> c_int;
    ic_demuxer_close: fn(*mut *mut RawDemuxer);
    ic_packet_free: fn(*mut *mut RawPacket);
    ic_decoder_open: fn(*mut *mut RawDecoder, *const Info) -> c_int;
    ic_decoder_decode: fn(*mut RawDecoder, *const RawPacket, *mut *mut RawFrame) -> c_int;
    ic_decoder_close: fn(*mut *mut RawDecoder);
    ic_frame_ref: fn(*mut RawFrame) -> *mut RawFrame;
    ic_frame_free: fn(*mut *mut RawFrame);
    ic_decode_all: fn(*mut IoContext, unsafe extern "C" fn(*mut c_void, *mut RawFrame) -> c_int, *mut c_void) -> c_int;
    ic_generate: fn(*const Recipe, Write, *mut c_void) -> c_int;
}

static LIBRARY: OnceLock<std::result::Result<Library, String>> = OnceLock::new();

/// Gives the library, loaded on first use.
///
/// # Errors
/// [`Error::NoIoContext`] when there is no place to load it from.
pub fn library() -> Result<&'static Library> {
    let loaded = LIBRARY.get_or_init(|| load().map_err(|error| format!("{error:#}")));
    loaded
        .as_ref()
        .map_err(|why| Error::NoIoContext(why.clone()))
}

/// Gives the library where something that it made is at hand.
pub(super) fn loaded() -> &'static Library {
    match LIBRARY.get() {
        Some(Ok(library)) => library,
        _ => unreachable!("what the library made needs the library"),
    }
}

fn load() -> anyhow::Result<Library> {
    let path = IOCONTEXT.extract()?;
    let name = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the name ends with a zero; the library, built by build.rs, has no constructors.
    let loaded = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if loaded.is_null() {
        // SAFETY: dlerror gives a C string, ours until the next call on this thread.
        let why = unsafe { CStr::from_ptr(libc::dlerror()) };
        anyhow::bail!("{}", why.to_string_lossy());
    }
    // SAFETY: it was opened above and is never closed.
    unsafe { Library::find(loaded) }
        .ok_or_else(|| anyhow::anyhow!("{} lacks a function", path.display()))
}

/// Turns a code into a result.
pub(super) fn check(code: c_int) -> Result<()> {
    match code {
        0.. => Ok(()),
        code => Err(Error::IoContext(Code::new(code))),
    }
}
