//! The words of cleanup pressure in another process's ledger: for whoever
//! drives clean-ups from outside.
//!
//! The file belongs to the other process, which may cut it short at any moment,
//! and then a load or store through a mapping is SIGBUS. So the mapping made
//! here is only ever named to the kernel: futex calls wait, wake and change
//! words of 32 bits atomically and answer EFAULT where a store would kill;
//! everything else goes through `pread` and `pwrite`.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::ptr::{self, NonNull};
use std::time::{Duration, Instant};

use super::books::{read_header, read_live_bytes};
use super::cleanups::{NotedCall, read_answers};
use super::layout::{self, Header, PAGE_BYTES, Pressure};
use super::pages::{FilePages, read};

/// Two calls a slot: with more of them a sum would take longer than clean-ups may wait.
const MAX_SLOTS: u32 = 256;

/// What [`Change`] can take away.
const CROSSED: u32 = 0x7ff;

/// The pressure words of one ledger, writable.
///
/// One driver a ledger: two would answer each other's requests.
pub(crate) struct PressureWords {
    file: File,
    /// The ledger's first page, shared. Never read or written through, see above.
    page: NonNull<libc::c_void>,
}

// SAFETY: the page is only ever named to the kernel, whose futex calls are for many threads.
unsafe impl Send for PressureWords {}
// SAFETY: as above.
unsafe impl Sync for PressureWords {}

impl Drop for PressureWords {
    fn drop(&mut self) {
        // SAFETY: what `open` mapped, and nothing borrows from it.
        unsafe { libc::munmap(self.page.as_ptr(), PAGE_BYTES) };
    }
}

/// Copies the words of a ledger that is only looked at; `None` when it was cut short.
pub(crate) fn peek(ledger: &File) -> Option<Pressure> {
    read(&FilePages(ledger), offset_of!(Header, pressure) as u64)
}

/// A futex among the words.
#[derive(Clone, Copy)]
enum Word {
    Crossed,
    Level,
    Request,
    RequestLevel,
    Done,
    Bell,
    Beat,
}

impl Word {
    const fn reference(self) -> u64 {
        let inside = match self {
            Word::Crossed => offset_of!(Pressure, crossed),
            Word::Level => offset_of!(Pressure, level),
            Word::Request => offset_of!(Pressure, request),
            Word::RequestLevel => offset_of!(Pressure, request_level),
            Word::Done => offset_of!(Pressure, done),
            Word::Bell => offset_of!(Pressure, bell),
            Word::Beat => offset_of!(Pressure, beat),
        };
        (offset_of!(Header, pressure) + inside) as u64
    }
}

/// How much of a clean-up the helper is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Reclaimers, a wait until live bytes have settled, and the allocator's purge.
    #[cfg(test)]
    All,
    /// Reclaimers alone: who asks waits for live bytes himself.
    Reclaim,
    /// The allocator's purge alone.
    Purge,
}

impl Part {
    fn bits(self) -> u32 {
        match self {
            #[cfg(test)]
            Part::All => 0,
            Part::Reclaim => layout::REQUEST_NO_PURGE,
            Part::Purge => layout::REQUEST_PURGE,
        }
    }
}

/// What the kernel does to a word in FUTEX_WAKE_OP, which has room for 12 bits of argument.
#[derive(Clone, Copy)]
enum Change {
    Set(u32),
    Add(u32),
    Clear(u32),
    Raise(u32),
}

impl Change {
    /// As FUTEX_OP() of linux/futex.h encodes it, with a comparison that wakes nobody else.
    fn encode(self) -> u32 {
        let (operation, argument) = match self {
            Change::Set(value) => (0, value),
            Change::Add(value) => (1, value),
            Change::Clear(bits) => (3, bits), // FUTEX_OP_ANDN
            Change::Raise(bits) => (2, bits), // FUTEX_OP_OR
        };
        debug_assert!(argument < 1 << 11, "twelve bits, of which one is a sign");
        operation << 28 | (argument & 0xfff) << 12
    }
}

impl PressureWords {
    /// Opens the words of a ledger that is complete; the file may have been opened for reading only.
    ///
    /// # Errors
    /// When this ledger's file may not be written, or is no ledger of this layout.
    pub(crate) fn open(ledger: &File) -> io::Result<PressureWords> {
        // The same file, whatever has its name by now.
        let path = format!("/proc/self/fd/{}", ledger.as_fd().as_raw_fd());
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let no_ledger =
            || io::Error::new(io::ErrorKind::InvalidData, "not a ledger of this version");
        let header: Header = read(&FilePages(&file), 0).ok_or_else(no_ledger)?;
        if header.magic != layout::MAGIC
            || header.layout != layout::LAYOUT
            || header.state != layout::STATE_READY
        {
            return Err(no_ledger());
        }
        // SAFETY: a new mapping of a file that is open; the kernel chooses the place.
        let page = unsafe {
            libc::mmap(
                ptr::null_mut(),
                PAGE_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(page) {
            Some(page) if page.as_ptr() != libc::MAP_FAILED => Ok(PressureWords { file, page }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Copies all words.
    ///
    /// # Errors
    /// When the file was cut short.
    pub(crate) fn read(&self) -> io::Result<Pressure> {
        read(&FilePages(&self.file), offset_of!(Header, pressure) as u64).ok_or_else(cut_short)
    }

    /// Gives the live bytes of both sides as published, late by at most a quantum a thread.
    ///
    /// # Errors
    /// When the file was cut short.
    pub(crate) fn live_bytes(&self) -> io::Result<i64> {
        let live: LiveWords =
            read(&FilePages(&self.file), offset_of!(Header, live) as u64).ok_or_else(cut_short)?;
        Ok(live.c.saturating_add(live.rust))
    }

    /// Gives the live bytes of both sides, exact while the process is quiet; `None` where
    /// there are too many threads to ask them one by one, or the file was cut short.
    pub(crate) fn exact_live_bytes(&self) -> Option<i64> {
        let pages = FilePages(&self.file);
        let header = read_header(&pages).ok()?;
        let [c, rust] = (header.slot_count <= MAX_SLOTS).then(|| read_live_bytes(&pages))??;
        Some(c.saturating_add(rust))
    }

    /// Asks to be woken when live bytes are past the threshold; true where they are already,
    /// which no thread of the process may come to notice. `i64::MAX` disarms.
    ///
    /// # Errors
    /// When the file was cut short.
    pub(crate) fn arm(&self, live_bytes: i64) -> io::Result<bool> {
        self.change(Word::Crossed, Change::Clear(layout::CROSSED_ARMED))?;
        self.write(offset_of!(Pressure, armed_bytes), live_bytes)?;
        self.give_way()?;
        Ok(self.live_bytes()? > live_bytes)
    }

    /// Waits until somebody wants the driver, and gives the `CROSSED_` bits; 0 when the time is up.
    ///
    /// They stay until [`take`](Self::take).
    ///
    /// # Errors
    /// When the file was cut short, or holds what no version writes there and [`take`](Self::take)
    /// would leave.
    pub(crate) fn wait_crossed(&self, at_most: Duration) -> io::Result<u32> {
        let until = Instant::now().checked_add(at_most);
        loop {
            let crossed = self.read()?.crossed;
            if crossed & !CROSSED != 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if crossed != 0 || !self.wait(Word::Crossed, 0, until)? {
                return Ok(crossed);
            }
        }
    }

    /// Takes back what was crossed, and gives it. Disarm first, or a thread may cross at once again.
    ///
    /// # Errors
    /// When the file was cut short.
    pub(crate) fn take(&self) -> io::Result<u32> {
        let crossed = self.read()?.crossed & CROSSED;
        if crossed != 0 {
            self.change(Word::Crossed, Change::Clear(crossed))?;
        }
        Ok(crossed)
    }

    /// Says the level, 0 to 3, to who asks for it, and to eventfds when it changed.
    ///
    /// # Errors
    /// When the file was cut short.
    pub(crate) fn set_level(&self, level: u32) -> io::Result<()> {
        let level = level.min(3);
        if self.read()?.level != level {
            self.change(Word::Level, Change::Set(level))?;
            self.change(Word::Bell, Change::Add(1))?;
        }
        self.give_way()
    }

    /// Says that whoever set the level is still there. A helper that hears nothing for twenty
    /// seconds takes a level back.
    ///
    /// # Errors
    /// When the file was cut short.
    pub(crate) fn beat(&self) -> io::Result<()> {
        self.change(Word::Beat, Change::Add(1))
    }

    /// A driver in the process that began while we wrote looks again, and writes its own words.
    fn give_way(&self) -> io::Result<()> {
        match self.read()?.driver {
            0 => Ok(()),
            _ => self.change(Word::Crossed, Change::Raise(layout::CROSSED_POKED)),
        }
    }

    /// Tells whether a thread is there that serves requests.
    ///
    /// # Errors
    /// When the file was cut short.
    #[cfg(test)]
    pub(crate) fn has_helper(&self) -> io::Result<bool> {
        Ok(self.read()?.helper != 0)
    }

    /// Ends the waits of whoever waits here for the process: [`wait_crossed`](Self::wait_crossed)
    /// gives `CROSSED_POKED`; [`wait_done`](Self::wait_done) looks again, if it waits already.
    ///
    /// # Errors
    /// When the file was cut short.
    pub(crate) fn poke(&self) -> io::Result<()> {
        self.change(Word::Crossed, Change::Raise(layout::CROSSED_POKED))?;
        self.change(Word::Done, Change::Add(0))
    }

    /// Asks for a clean-up and gives its number, for [`wait_done`](Self::wait_done).
    ///
    /// # Errors
    /// When the file was cut short.
    pub(crate) fn request(&self, part: Part, level: u32, target_bytes: i64) -> io::Result<u32> {
        let number = self.read()?.request.wrapping_add(1);
        self.change(Word::RequestLevel, Change::Set(level.min(3) | part.bits()))?;
        self.write(offset_of!(Pressure, request_target_bytes), target_bytes)?;
        // Its number last, and the bell after it: pairs with the helper's loads.
        self.change(Word::Request, Change::Add(1))?;
        self.change(Word::Bell, Change::Add(1))?;
        Ok(number)
    }

    /// Waits until a clean-up is done and gives the words then; `None` when the time is up.
    ///
    /// # Errors
    /// When the file was cut short.
    pub(crate) fn wait_done(&self, number: u32, at_most: Duration) -> io::Result<Option<Pressure>> {
        let until = Instant::now().checked_add(at_most);
        loop {
            let words = self.read()?;
            // The helper skips numbers that were overtaken; both wrap around.
            if words.done.wrapping_sub(number) as i32 >= 0 {
                // Copied once more: what stands beside `done` was stored before it.
                return self.read().map(Some);
            }
            if !self.wait(Word::Done, words.done, until)? {
                return Ok(None);
            }
        }
    }

    /// Gives what the helper has done in a request so far.
    pub(crate) fn answers(&self, number: u32) -> Vec<NotedCall> {
        read_answers(&FilePages(&self.file), number)
    }

    /// Writes a word of 64 bits. The kernel copies eight aligned bytes in one piece on our
    /// machines; were it ever two, one quantum would compare with a threshold that is off.
    fn write(&self, inside: usize, value: i64) -> io::Result<()> {
        let reference = (offset_of!(Header, pressure) + inside) as u64;
        self.file.write_all_at(&value.to_ne_bytes(), reference)
    }

    /// The word's address, for the kernel.
    fn address(&self, word: Word) -> *mut u32 {
        self.page
            .as_ptr()
            .cast::<u8>()
            .wrapping_add(word.reference() as usize)
            .cast()
    }

    /// Changes a word and wakes all who wait for it.
    fn change(&self, word: Word, change: Change) -> io::Result<()> {
        let address = self.address(word);
        // SAFETY: an address in our mapping; the kernel changes the word behind it or says EFAULT.
        let done = unsafe {
            libc::syscall(
                libc::SYS_futex,
                address,
                libc::FUTEX_WAKE_OP,
                i32::MAX,
                0usize,
                address,
                change.encode(),
            )
        };
        if done < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Waits while the word is `seen`; false when the time was up before the call.
    fn wait(&self, word: Word, seen: u32, until: Option<Instant>) -> io::Result<bool> {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(false);
        }
        let left = left.unwrap_or(Duration::from_secs(3600));
        let time = libc::timespec {
            tv_sec: left.as_secs() as libc::time_t,
            tv_nsec: left.subsec_nanos().into(),
        };
        // SAFETY: an address in our mapping, which the kernel reads or says EFAULT, and a time that outlives the call.
        let done = unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.address(word),
                libc::FUTEX_WAIT,
                seen,
                &raw const time,
            )
        };
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            _ if done == 0 => Ok(true),
            Some(libc::EAGAIN | libc::EINTR | libc::ETIMEDOUT) => Ok(true),
            _ => Err(error),
        }
    }
}

/// `hl_header.live`.
#[repr(C)]
#[derive(Clone, Copy)]
struct LiveWords {
    c: i64,
    rust: i64,
}

// SAFETY: repr(C), two integers.
unsafe impl layout::Mirror for LiveWords {}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the ledger was cut short")
}

#[cfg(test)]
#[path = "pressure_words_tests.rs"]
mod tests;
