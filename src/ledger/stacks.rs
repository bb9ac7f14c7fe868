//! Reads the table of stacks of a ledger, whatever its rows count.
//!
//! As in `books.rs`, nothing that is read is believed.

use super::layout::{self, Header, Mirror, Stack, Text};
use super::pages::{Pages, page_reference, read, read_array};
use crate::counts::Side;

/// More frames than any writer keeps of one stack.
const MOST_FRAMES: usize = layout::PAGE_BYTES / size_of::<u64>();
/// All frames that a ledger has room for; texts of an enemy's may overlap.
const MOST_FRAMES_OF_ALL: usize = layout::MAX_PAGES as usize * MOST_FRAMES;

/// How far a stack goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// To where the thread began.
    Whole,
    /// The innermost calls of more than are kept.
    Deep,
    /// To code that nothing is known of.
    Lost,
    /// No further than the call itself.
    Call,
    /// No stack: the row of all that found no room.
    Overflow,
}

/// A call, as the address behind it; what a signal interrupted, as the address and one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub address: u64,
    /// Index into `Books::modules`.
    pub module: Option<usize>,
}

/// Whose stack a row is of.
#[derive(Clone, Debug)]
pub(crate) struct StackKey {
    pub side: Side,
    /// 0 = none.
    pub scope: u32,
    /// The thread's identifier as the kernel gave it; 0: several threads'.
    pub thread: u32,
    pub extent: Extent,
    /// Some frames were found by frame pointers alone.
    pub guessed: bool,
    /// Innermost first.
    pub frames: Vec<Frame>,
}

/// Reads what stands before the stacks of a ledger; `None` where it keeps none.
pub(crate) fn read_head(pages: &dyn Pages, header: &Header) -> Option<layout::Samples> {
    match header.samples {
        0 => None,
        page => read(pages, page_reference(page)),
    }
}

/// Reads the rows of a table with their indices, as the type that they are of.
pub(crate) fn read_rows<T: Mirror>(pages: &dyn Pages, head: &layout::Samples) -> Vec<(usize, T)> {
    const { assert!(size_of::<T>() * layout::STACKS_PER_PAGE == layout::PAGE_BYTES) };
    let mut rows = Vec::new();
    let most = layout::STACK_PAGES * layout::STACKS_PER_PAGE;
    let mut left = (head.row_count as usize).min(most);
    for (index, &page) in head.row_pages.iter().enumerate() {
        let count = left.min(layout::STACKS_PER_PAGE);
        left -= count;
        if count == 0 {
            break;
        }
        if page == 0 {
            continue;
        }
        let first = index * layout::STACKS_PER_PAGE;
        let found = read_array::<T>(pages, page_reference(page), count);
        rows.extend((first..).zip(found.into_iter().flatten()));
    }
    rows
}

/// Reads keys of rows, as many frames in all as a ledger has room for.
pub(crate) struct KeyReader<'a> {
    pages: &'a dyn Pages,
    modules: usize,
    frames_left: usize,
}

impl<'a> KeyReader<'a> {
    /// Begins with a ledger of so many modules.
    pub(crate) fn new(pages: &'a dyn Pages, modules: usize) -> KeyReader<'a> {
        KeyReader {
            pages,
            modules,
            frames_left: MOST_FRAMES_OF_ALL,
        }
    }

    /// Reads a row's key; `None` where it is not complete.
    pub(crate) fn read(&mut self, stack: &Stack) -> Option<StackKey> {
        if stack.ready == 0 {
            return None;
        }
        let extent = match stack.how & !layout::STACK_GUESSED {
            layout::STACK_WHOLE => Extent::Whole,
            layout::STACK_DEEP => Extent::Deep,
            layout::STACK_LOST => Extent::Lost,
            layout::STACK_TORN => Extent::Call,
            _ => Extent::Overflow,
        };
        let frames = read_frames(self.pages, stack.frames, self.modules).unwrap_or_default();
        self.frames_left = self.frames_left.checked_sub(frames.len())?;
        Some(StackKey {
            side: Side::from_index((stack.tag >> 31) as usize),
            scope: stack.tag & 0x7fff_ffff,
            thread: stack.thread,
            extent,
            guessed: stack.how & layout::STACK_GUESSED != 0,
            frames,
        })
    }
}

/// Frames lie at any byte, so whole words around them are copied.
fn read_frames(pages: &dyn Pages, text: Text, modules: usize) -> Option<Vec<Frame>> {
    let count = text.bytes as usize / size_of::<u64>();
    if text.reference == 0 || count > MOST_FRAMES {
        return None;
    }
    let start = u64::from(text.reference) & !7;
    let skip = (u64::from(text.reference) - start) as usize;
    let mut words = vec![0u64; (skip + count * size_of::<u64>()).div_ceil(size_of::<u64>())];
    pages.copy(start, &mut words)?;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let (frames, _) = bytes[skip..].as_chunks::<8>();
    Some(
        frames[..count]
            .iter()
            .map(|frame| {
                let word = u64::from_ne_bytes(*frame);
                Frame {
                    address: word & ((1 << 48) - 1),
                    module: ((word >> 48) as usize)
                        .checked_sub(1)
                        .filter(|&module| module < modules),
                }
            })
            .collect(),
    )
}
