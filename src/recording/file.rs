//! The recording as a file: written frame by frame, read as if by an enemy.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use super::check;
use super::frame::{Frame, LAYOUT, MAGIC, Next, PREAMBLE_BYTES};
use super::model::{Misuse, Module, Process, Recording, Site, Stack, Start};

/// Rows of a table in one frame.
const ROWS_PER_FRAME: usize = 4096;

/// Where room is set aside: no recording is that long.
const RESERVE_AT: u64 = 1 << 36;

/// Why a recording could not be opened.
#[derive(Debug)]
pub struct OpenError {
    /// What was to be opened.
    pub path: PathBuf,
    /// What stood in the way.
    pub reason: OpenFailure,
}

/// What stood in the way of opening a recording.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenFailure {
    /// The file system said no.
    Io(io::Error),
    /// The file is neither a recording nor a ledger.
    NotARecording,
    /// A newer or an older heapledger wrote it.
    Layout {
        /// Layout of the file.
        found: u32,
        /// Layout that this version reads.
        expected: u32,
    },
    /// The directory holds no ledger.
    NoLedgers,
    /// It is a ledger, and not one that this version can read.
    Ledger(crate::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(formatter, "cannot open recording {path}: ")?;
        match &self.reason {
            OpenFailure::Io(error) => write!(formatter, "{error}"),
            OpenFailure::NotARecording => formatter.write_str("not a heapledger recording"),
            OpenFailure::Layout { found, expected } => {
                let (which, besides) = match found > expected {
                    true => ("a newer", ""),
                    false => ("an older", ", or record again"),
                };
                write!(
                    formatter,
                    "{which} heapledger wrote it (layout {found}, this one reads {expected}); \
                     read it with that one{besides}"
                )
            }
            OpenFailure::NoLedgers => formatter.write_str("no ledger in this directory"),
            OpenFailure::Ledger(error) => write!(formatter, "{error}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// Appends frames to a recording.
pub(crate) struct Writer {
    file: File,
    modules_written: usize,
    sites_written: usize,
    bytes_written: u64,
}

impl Writer {
    /// Begins a recording in an empty file.
    pub(crate) fn new(file: File, start: &Start) -> io::Result<Writer> {
        let mut writer = Writer {
            file,
            modules_written: 0,
            sites_written: 0,
            bytes_written: 0,
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend(LAYOUT.to_le_bytes());
        bytes.extend(Frame::Start(start.clone()).encode()?);
        writer.put(&bytes)?;
        Ok(writer)
    }

    /// Tells again what is known of the run as a whole.
    pub(crate) fn start(&mut self, start: &Start) -> io::Result<()> {
        self.put(&Frame::Start(start.clone()).encode()?)
    }

    /// Appends a process, after what is new in the tables it refers to.
    pub(crate) fn process(
        &mut self,
        mut process: Process,
        modules: &[Module],
        sites: &[Site],
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        encode_rows(&mut bytes, modules, self.modules_written, Frame::Modules)?;
        encode_rows(&mut bytes, sites, self.sites_written, Frame::Sites)?;
        let stacks = std::mem::take(&mut process.stacks);
        encode_rows(&mut bytes, &stacks, 0, |_, rows| Frame::Stacks(rows))?;
        let guessed = (0u32..).zip(&stacks).filter(|(_, stack)| stack.is_guessed);
        let guessed: Vec<u32> = guessed.map(|(place, _)| place).collect();
        encode_rows(&mut bytes, &guessed, 0, |_, rows| Frame::Guessed(rows))?;
        let misuses = std::mem::take(&mut process.misuses);
        encode_rows(&mut bytes, &misuses, 0, |_, rows| Frame::Misuses(rows))?;
        bytes.extend(Frame::Process(Box::new(process)).encode()?);
        self.put(&bytes)?;
        (self.modules_written, self.sites_written) = (modules.len(), sites.len());
        Ok(())
    }

    /// Appends the sites once more, now with their symbols, and ends the recording.
    pub(crate) fn end(&mut self, sites: &[Site]) -> io::Result<()> {
        let mut bytes = Vec::new();
        encode_rows(&mut bytes, sites, 0, Frame::Sites)?;
        bytes.extend(Frame::End.encode()?);
        self.release();
        self.put(&bytes)?;
        // Behind the end there may be the rest of a torn frame.
        let _ = self.file.set_len(self.bytes_written);
        Ok(())
    }

    /// Sets room aside for what must be written in the end, as far as the file
    /// system can. It lies far behind the end of the file, and shows in its
    /// blocks, not in its length.
    pub(crate) fn reserve(&self, bytes: u64) {
        let _ = fallocate(&self.file, FallocateFlags::KEEP_SIZE, RESERVE_AT, bytes);
    }

    /// Gives the room back, to be written in.
    pub(crate) fn release(&self) {
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let _ = fallocate(&self.file, punch, RESERVE_AT, RESERVE_AT);
    }

    /// Gives the size of the recording so far.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            // What comes next takes the place of the torn frame; pipes have no places.
            let _ = self.file.seek(SeekFrom::Start(self.bytes_written));
            return Err(error);
        }
        self.bytes_written += bytes.len() as u64;
        Ok(())
    }
}

fn encode_rows<T: Clone>(
    bytes: &mut Vec<u8>,
    rows: &[T],
    first: usize,
    frame: impl Fn(u32, Vec<T>) -> Frame,
) -> io::Result<()> {
    let mut at = first;
    for rows in rows[first..].chunks(ROWS_PER_FRAME) {
        bytes.extend(frame(at as u32, rows.to_vec()).encode()?);
        at += rows.len();
    }
    Ok(())
}

/// A recording as its frames give it, and whether they were all there.
pub(crate) struct Frames {
    pub recording: Recording,
    /// The recorder wrote its end frame.
    pub ended: bool,
    /// Stacks that wait for their process.
    stacks: Vec<Stack>,
    /// Places of those whose callers were guessed.
    guessed: Vec<u32>,
    /// Misuse that waits for its process.
    misuses: Vec<Misuse>,
}

/// Reads all complete frames.
pub(crate) fn read(file: File, path: &Path) -> Result<Frames, OpenError> {
    let fail = |reason| OpenError {
        path: path.to_owned(),
        reason,
    };
    let mut input = BufReader::new(file);
    let mut preamble = Vec::new();
    let preamble_bytes = input
        .by_ref()
        .take(PREAMBLE_BYTES as u64)
        .read_to_end(&mut preamble);
    if preamble_bytes.map_err(|error| fail(OpenFailure::Io(error)))? < PREAMBLE_BYTES
        || preamble[..MAGIC.len()] != MAGIC
    {
        return Err(fail(OpenFailure::NotARecording));
    }
    let found = u32::from_le_bytes([preamble[8], preamble[9], preamble[10], preamble[11]]);
    if found != LAYOUT {
        return Err(fail(OpenFailure::Layout {
            found,
            expected: LAYOUT,
        }));
    }
    let mut frames = Frames {
        recording: Recording::default(),
        ended: false,
        stacks: Vec::new(),
        guessed: Vec::new(),
        misuses: Vec::new(),
    };
    loop {
        let problem = match Frame::read(&mut input) {
            Next::Frame(frame) => {
                frames.add(frame);
                continue;
            }
            Next::EndOfFile => break,
            Next::Torn => "the recording is cut short; everything before the cut is shown",
            Next::Damaged => "the recording is damaged; everything before the damage is shown",
        };
        frames.recording.warnings.push(problem.to_owned());
        break;
    }
    check::check(&mut frames.recording);
    Ok(frames)
}

impl Frames {
    fn add(&mut self, frame: Frame) {
        let recording = &mut self.recording;
        match frame {
            Frame::Start(start) => recording.start = start,
            Frame::Modules(first, rows) => replace_from(&mut recording.modules, first, rows),
            Frame::Sites(first, rows) => replace_from(&mut recording.sites, first, rows),
            Frame::Stacks(rows) => self.stacks.extend(rows),
            Frame::Guessed(rows) => self.guessed.extend(rows),
            Frame::Misuses(rows) => self.misuses.extend(rows),
            Frame::Process(process) => {
                for place in self.guessed.drain(..) {
                    // One that no stack has says nothing of any.
                    if let Some(stack) = self.stacks.get_mut(place as usize) {
                        stack.is_guessed = true;
                    }
                }
                recording.processes.push(Process {
                    stacks: std::mem::take(&mut self.stacks),
                    misuses: std::mem::take(&mut self.misuses),
                    ..*process
                });
            }
            Frame::End => self.ended = true,
        }
    }
}

/// Puts rows into a table at `first`; rows that would leave a gap are dropped.
fn replace_from<T>(table: &mut Vec<T>, first: u32, rows: Vec<T>) {
    let first = first as usize;
    if first > table.len() {
        return;
    }
    for (index, row) in rows.into_iter().enumerate() {
        match table.get_mut(first + index) {
            Some(old) => *old = row,
            None => table.push(row),
        }
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
