//! The workload: a container from a seed, decoded on several threads.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::{self, Write};
use std::iter::Sum;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use super::decode::Stream;
use super::error::Code;
use super::ffi::{self, Recipe};
use super::objects::{Frame, Io};
use super::source::FileSource;
use crate::{Error, Result};

/// Frames from one key frame, and with it one size, to the next.
const KEY_INTERVAL: u32 = 12;

/// How much is decoded, from what, on how many threads.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Frames in all.
    pub frames: u32,
    /// Threads that decode at once, each its own part.
    pub threads: u32,
    /// The same seed makes the same container everywhere.
    pub seed: u64,
}

/// What a run decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Frames.
    pub frames: u64,
    /// Bytes of all their planes.
    pub frame_bytes: u64,
}

impl Sum for Decoded {
    fn sum<I: Iterator<Item = Decoded>>(parts: I) -> Decoded {
        parts.fold(Decoded::default(), |sum, part| Decoded {
            frames: sum.frames + part.frames,
            frame_bytes: sum.frame_bytes + part.frame_bytes,
        })
    }
}

/// Tells that a thread decodes no more, however it came to that.
struct Ended<F: Fn()>(F);

impl<F: Fn()> Drop for Ended<F> {
    fn drop(&mut self) {
        self.0();
    }
}

/// Where a generated container goes, and why it could not.
struct Sink<'a> {
    write: &'a mut (dyn Write + 'a),
    error: Option<io::Error>,
    panic: Option<Box<dyn std::any::Any + Send>>,
}

/// Writes a container.
///
/// # Errors
/// The library's code, or the writer's own error as [`Error::Source`].
pub fn generate(recipe: &Recipe, write: &mut dyn Write) -> Result<()> {
    let mut sink = Sink {
        write,
        error: None,
        panic: None,
    };
    // A pointer serves here, where a reader gets a key: the library keeps it no longer than the call.
    let opaque: *mut Sink<'_> = &mut sink;
    // SAFETY: the recipe is valid for the call, and `take` is given what it expects.
    let code = unsafe { (ffi::library()?.ic_generate)(recipe, take, opaque.cast()) };
    if let Some(payload) = sink.panic {
        resume_unwind(payload);
    }
    match sink.error {
        Some(error) => Err(Error::Source(error)),
        None => ffi::check(code),
    }
}

/// # Safety
/// `opaque` is a [`Sink`] that nobody else uses; `bytes` has `size` bytes.
unsafe extern "C" fn take(opaque: *mut c_void, bytes: *const u8, size: c_int) -> c_int {
    // SAFETY: `generate` passes its sink, and the library hands it on as it is.
    let sink = unsafe { &mut *opaque.cast::<Sink<'_>>() };
    // SAFETY: the library's buffer of `size` bytes (library.h).
    let bytes = unsafe { std::slice::from_raw_parts(bytes, size as usize) };
    match catch_unwind(AssertUnwindSafe(|| sink.write.write_all(bytes))) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            sink.error = Some(error);
            Code::IO.value()
        }
        Err(payload) => {
            sink.panic = Some(payload);
            Code::PANIC.value()
        }
    }
}

impl Workload {
    /// Gives what the container is made from: frames of 1.3 to 7.6 MiB, 3.8 MiB on average.
    pub fn recipe(&self) -> Recipe {
        Recipe {
            seed: self.seed,
            frame_count: self.frames,
            key_interval: KEY_INTERVAL,
            max_width: 4096,
            max_height: 4096,
        }
    }

    /// Makes the container in a file without a name, so that neither side's books hold it.
    ///
    /// # Errors
    /// Those of [`generate`].
    pub fn container(&self) -> Result<Arc<File>> {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let file = rustix::fs::memfd_create("iocontext", flags)
            .map_err(|error| Error::Source(error.into()))?;
        let mut file = File::from(file);
        generate(&self.recipe(), &mut file)?;
        Ok(Arc::new(file))
    }

    /// Decodes the container on the workload's threads; each frame goes to `on_frame`, on the thread
    /// that decoded it.
    ///
    /// # Errors
    /// The first thread's, once all have ended; [`Error::Source`] where one could not be started.
    ///
    /// # Panics
    /// When a thread panicked.
    pub fn run(&self, container: &Arc<File>, on_frame: impl Fn(Frame) + Sync) -> Result<Decoded> {
        self.run_watched(container, on_frame, || ())
    }

    /// As [`Workload::run`]; each thread calls `on_end` once, when it decodes no more.
    pub(crate) fn run_watched(
        &self,
        container: &Arc<File>,
        on_frame: impl Fn(Frame) + Sync,
        on_end: impl Fn() + Sync,
    ) -> Result<Decoded> {
        let (frames, frame_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        let count = |frame: Frame| {
            frames.fetch_add(1, Relaxed);
            frame_bytes.fetch_add(frame.bytes() as u64, Relaxed);
            on_frame(frame);
        };
        let part = |thread| {
            let _ended = Ended(&on_end);
            self.decode_part(container, thread, &count)
        };
        thread::scope(|scope| {
            let part = &part;
            let begin = |thread| {
                let begun = thread::Builder::new().spawn_scoped(scope, move || part(thread));
                begun.inspect_err(|_| on_end()) // others may wait for its end
            };
            let threads: Vec<_> = (1..self.threads.max(1)).map(begin).collect();
            let here = part(0);
            let others = threads.into_iter().map(|thread| {
                let ended = thread.map_err(Error::Source)?.join();
                ended.unwrap_or_else(|payload| resume_unwind(payload))
            });
            others.fold(here, Result::and)
        })?;
        Ok(Decoded {
            frames: frames.into_inner(),
            frame_bytes: frame_bytes.into_inner(),
        })
    }

    /// Decodes every `threads`-th group of frames, from its key frame on.
    fn decode_part(
        &self,
        container: &Arc<File>,
        thread: u32,
        on_frame: &impl Fn(Frame),
    ) -> Result<()> {
        let io = Io::new(FileSource::new(Arc::clone(container)))?;
        let mut stream = Stream::open(&io)?;
        let info = *stream.info();
        let starts = (0..info.frame_count).step_by(info.key_interval as usize);
        for start in starts
            .skip(thread as usize)
            .step_by(self.threads.max(1) as usize)
        {
            let mut left = info.key_interval.min(info.frame_count - start);
            stream.seek(start)?;
            while left > 0 {
                let Some(frame) = stream.next_frame()? else {
                    return Err(Error::IoContext(Code::TRUNCATED));
                };
                on_frame(frame);
                left -= 1;
            }
        }
        Ok(())
    }
}
