//! What the C library reads from: readers that live in Rust.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A reader behind an `IOContext`.
pub trait Source: Send {
    /// Reads at most `into.len()` bytes at the position and moves it; 0 at the end.
    ///
    /// # Errors
    /// Any; the library stops, and its caller gets the error back as [`crate::Error::Source`].
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;

    /// Goes to an offset from the start; gives the new position.
    ///
    /// # Errors
    /// As [`Source::read`].
    fn seek(&mut self, offset: u64) -> io::Result<u64>;

    /// Gives all bytes there are; `None` where that is not known.
    ///
    /// # Errors
    /// As [`Source::read`].
    fn size(&mut self) -> io::Result<Option<u64>>;
}

/// Reads a file that several threads may share, each at a position of its own.
#[derive(Debug)]
pub struct FileSource {
    file: Arc<File>,
    position: u64,
}

impl FileSource {
    /// Begins at the file's start.
    pub fn new(file: Arc<File>) -> FileSource {
        FileSource { file, position: 0 }
    }
}

impl Source for FileSource {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(into, self.position)?;
        self.position += count as u64;
        Ok(count)
    }

    fn seek(&mut self, offset: u64) -> io::Result<u64> {
        self.position = offset;
        Ok(offset)
    }

    fn size(&mut self) -> io::Result<Option<u64>> {
        Ok(Some(self.file.metadata()?.len()))
    }
}

impl<T: AsRef<[u8]> + Send> Source for io::Cursor<T> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        io::Read::read(self, into)
    }

    fn seek(&mut self, offset: u64) -> io::Result<u64> {
        self.set_position(offset);
        Ok(offset)
    }

    fn size(&mut self) -> io::Result<Option<u64>> {
        Ok(Some(self.get_ref().as_ref().len() as u64))
    }
}
