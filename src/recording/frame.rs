//! One frame of a recording: kind, length, checksum, payload.
//!
//! A frame is complete or it is not there: a recorder that was killed leaves
//! at most one torn frame, at the end.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use super::model::{Misuse, Module, Process, Site, Stack, Start};

/// First bytes of every recording.
pub(crate) const MAGIC: [u8; 8] = *b"hlrecord";
/// Layout of the frames and of what they hold.
pub(crate) const LAYOUT: u32 = 6;
/// Bytes of the file before its first frame: the magic and the layout.
pub(crate) const PREAMBLE_BYTES: usize = 12;
/// Bytes of a frame before its payload: kind, length, checksum.
const HEAD_BYTES: usize = 9;
/// No payload is larger; a process with every table full stays far below.
const MAX_PAYLOAD_BYTES: u32 = 64 << 20;

/// What a frame carries.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Frame {
    /// What the recorder knew at the start. A later one replaces it.
    Start(Start),
    /// Modules, from this index of the table on.
    Modules(u32, Vec<Module>),
    /// Sites, from this index of the table on; at the end of a run they come
    /// once more, with symbols.
    Sites(u32, Vec<Site>),
    /// A process; what it refers to came before it.
    Process(Box<Process>),
    /// The run ended in good order.
    End,
    /// Stacks of the process that comes next.
    Stacks(Vec<Stack>),
    /// Misuse of the allocator by the process that comes next.
    Misuses(Vec<Misuse>),
    /// Which of the stacks of the process that comes next have guessed callers, by place.
    Guessed(Vec<u32>),
}

impl Frame {
    fn kind(&self) -> u8 {
        match self {
            Frame::Start(_) => 1,
            Frame::Modules(..) => 2,
            Frame::Sites(..) => 3,
            Frame::Process(_) => 4,
            Frame::End => 5,
            Frame::Stacks(_) => 6,
            Frame::Misuses(_) => 7,
            Frame::Guessed(_) => 8,
        }
    }

    /// Gives the bytes of the frame.
    pub(crate) fn encode(&self) -> io::Result<Vec<u8>> {
        let bytes = postcard::to_extend(self, vec![0; HEAD_BYTES]).map_err(io::Error::other)?;
        let payload_bytes = u32::try_from(bytes.len() - HEAD_BYTES)
            .ok()
            .filter(|&length| length <= MAX_PAYLOAD_BYTES)
            .ok_or_else(|| io::Error::other("a frame is too large"))?;
        let mut bytes = bytes;
        bytes[0] = self.kind();
        bytes[1..5].copy_from_slice(&payload_bytes.to_le_bytes());
        let checksum = checksum(bytes[0], &bytes[HEAD_BYTES..]);
        bytes[5..9].copy_from_slice(&checksum.to_le_bytes());
        Ok(bytes)
    }

    /// Reads the next frame.
    pub(crate) fn read(input: &mut impl Read) -> Next {
        let mut head = [0u8; HEAD_BYTES];
        match read_up_to(input, &mut head) {
            Ok(0) => return Next::EndOfFile,
            Ok(HEAD_BYTES) => {}
            Ok(_) | Err(_) => return Next::Torn,
        }
        let word =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (payload_bytes, expected) = (word(1), word(5));
        if payload_bytes > MAX_PAYLOAD_BYTES {
            return Next::Damaged;
        }
        // `take` grows the buffer with what is really there, not with what is claimed.
        let mut payload = Vec::new();
        match input
            .by_ref()
            .take(u64::from(payload_bytes))
            .read_to_end(&mut payload)
        {
            Ok(found) if found == payload_bytes as usize => {}
            _ => return Next::Torn,
        }
        if checksum(head[0], &payload) != expected {
            return Next::Damaged;
        }
        match postcard::from_bytes::<Frame>(&payload) {
            Ok(frame) if frame.kind() == head[0] => Next::Frame(frame),
            _ => Next::Damaged,
        }
    }
}

/// What the next bytes of a recording are.
pub(crate) enum Next {
    /// A complete frame.
    Frame(Frame),
    /// Nothing: the file ends on a frame's end.
    EndOfFile,
    /// The beginning of a frame that was never finished.
    Torn,
    /// Something that no recorder wrote.
    Damaged,
}

fn checksum(kind: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(payload);
    hasher.finalize()
}

/// Fills as much of `out` as there is.
fn read_up_to(input: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < out.len() {
        match input.read(&mut out[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
