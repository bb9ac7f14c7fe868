//! Keys for C in place of pointers, and the callbacks that C calls with them.
//!
//! `opaque` is a slot's number and its generation. A key whose source is gone,
//! or that somebody made up, finds nothing and gives C an error code.

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};

use slotmap::{DefaultKey, Key, KeyData, SlotMap};

use super::error::Code;
use super::source::Source;
use crate::Error;

/// A source, and what its callbacks could not tell C.
struct Entry {
    source: Box<dyn Source>,
    kept: Option<Kept>,
}

/// Why a callback failed; waits for the Rust side of the call.
enum Kept {
    Error(io::Error),
    Panic(Box<dyn Any + Send>),
}

type Shared = Arc<Mutex<Entry>>;

static SOURCES: RwLock<Option<SlotMap<DefaultKey, Shared>>> = RwLock::new(None);

/// `None`: a callback of this source is running. It may have come back here itself, so waiting for
/// it might never end. Poison says nothing: panics of sources are caught inside the lock.
fn lock(shared: &Shared) -> Option<MutexGuard<'_, Entry>> {
    match shared.try_lock() {
        Ok(entry) => Some(entry),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Keeps a source reachable for C until it is dropped.
pub(super) struct Handle {
    key: DefaultKey,
}

impl Handle {
    pub(super) fn new(source: Box<dyn Source>) -> Handle {
        let entry = Entry { source, kept: None };
        let shared = Arc::new(Mutex::new(entry));
        let mut sources = SOURCES.write().unwrap_or_else(PoisonError::into_inner);
        Handle {
            key: sources.get_or_insert_with(SlotMap::new).insert(shared),
        }
    }

    /// Gives the key, in the shape that C carries around.
    pub(super) fn opaque(&self) -> *mut c_void {
        self.key.data().as_ffi() as usize as *mut c_void
    }

    /// Goes on with a panic that a callback caught; gives the error that it kept.
    pub(super) fn take_failure(&self) -> Option<Error> {
        let kept = find(self.opaque()).and_then(|shared| lock(&shared)?.kept.take());
        match kept? {
            Kept::Error(error) => Some(Error::Source(error)),
            Kept::Panic(payload) => resume_unwind(payload),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut sources = SOURCES.write().unwrap_or_else(PoisonError::into_inner);
        let removed = sources
            .as_mut()
            .and_then(|sources| sources.remove(self.key));
        // The source's own drop may open or close others.
        drop(sources);
        drop(removed);
    }
}

fn find(opaque: *mut c_void) -> Option<Shared> {
    let number = opaque as usize as u64;
    let key = DefaultKey::from(KeyData::from_ffi(number));
    // The crate mends numbers that no key has; they are nobody's.
    if key.data().as_ffi() != number {
        return None;
    }
    let sources = SOURCES.read().unwrap_or_else(PoisonError::into_inner);
    sources.as_ref()?.get(key).cloned()
}

/// Calls the source behind a key. Nothing unwinds into C: a panic is kept, and
/// until Rust has taken it the source is not called again.
fn call<R>(
    opaque: *mut c_void,
    work: impl FnOnce(&mut dyn Source) -> io::Result<R>,
) -> Result<R, Code> {
    let shared = find(opaque).ok_or(Code::HANDLE)?;
    let mut entry = lock(&shared).ok_or(Code::IO)?;
    match &entry.kept {
        Some(Kept::Panic(_)) => return Err(Code::PANIC),
        Some(Kept::Error(_)) | None => {}
    }
    let source = &mut *entry.source;
    match catch_unwind(AssertUnwindSafe(|| work(source))) {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(error)) => {
            entry.kept = Some(Kept::Error(error));
            Err(Code::IO)
        }
        Err(payload) => {
            entry.kept = Some(Kept::Panic(payload));
            Err(Code::PANIC)
        }
    }
}

/// `IOContext.read`.
///
/// # Safety
/// `buffer` holds `size` initialised bytes that nobody else uses during the call.
pub(super) unsafe extern "C" fn read(opaque: *mut c_void, buffer: *mut u8, size: c_int) -> c_int {
    let Ok(bytes) = usize::try_from(size) else {
        return Code::ARGUMENT.value();
    };
    if buffer.is_null() {
        return Code::ARGUMENT.value();
    }
    // SAFETY: the caller's promise, which library.h repeats.
    let into = unsafe { std::slice::from_raw_parts_mut(buffer, bytes) };
    match call(opaque, |source| source.read(into)) {
        // More than there is room for is the library's to refuse.
        Ok(count) => c_int::try_from(count).unwrap_or(c_int::MAX),
        Err(code) => code.value(),
    }
}

/// `IOContext.seek`.
pub(super) unsafe extern "C" fn seek(opaque: *mut c_void, offset: i64, whence: c_int) -> i64 {
    let offset = u64::try_from(offset);
    let (Ok(offset), libc::SEEK_SET) = (offset, whence) else {
        return i64::from(Code::ARGUMENT.value());
    };
    match call(opaque, |source| source.seek(offset)) {
        Ok(position) => i64::try_from(position).unwrap_or(i64::MAX),
        Err(code) => i64::from(code.value()),
    }
}

/// `IOContext.size`.
pub(super) unsafe extern "C" fn size(opaque: *mut c_void) -> i64 {
    const UNKNOWN: i64 = -1;
    match call(opaque, |source| source.size()) {
        Ok(Some(bytes)) => i64::try_from(bytes).unwrap_or(i64::MAX),
        Ok(None) => UNKNOWN,
        Err(code) => i64::from(code.value()),
    }
}
