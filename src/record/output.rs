//! The file that the recording goes to: there, writable and with room before
//! the program starts.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// Room that a recording can be expected to need.
const ROOM_BYTES: u64 = 1 << 20;

/// An open, empty output file.
pub(super) struct Output {
    pub path: PathBuf,
    /// The earlier recording that had the name.
    set_aside: Option<PathBuf>,
    is_regular: bool,
}

impl Output {
    /// Opens the file. A recording that has the name already becomes `FILE.old`.
    pub(super) fn open(path: &Path) -> Result<(Output, File)> {
        let shown = path.display();
        let found = fs::metadata(path).ok();
        if found.as_ref().is_some_and(|found| found.is_dir()) {
            bail!("cannot write the recording {shown}: it is a directory; name a file with -o");
        }
        let is_regular = found.as_ref().is_none_or(|found| found.is_file());
        let set_aside = match found.is_some() && is_regular {
            true => Some(
                set_aside(path)
                    .with_context(|| format!("cannot set aside the earlier recording {shown}"))?,
            ),
            false => None,
        };
        let output = Output {
            path: path.to_owned(),
            set_aside,
            is_regular,
        };
        match output.create() {
            Ok(file) => Ok((output, file)),
            Err(error) => {
                output.abandon();
                Err(error).with_context(|| format!("cannot write the recording {shown}"))
            }
        }
    }

    fn create(&self) -> Result<File> {
        let mut options = OpenOptions::new();
        options
            .write(true)
            .mode(0o644)
            .custom_flags(libc::O_NONBLOCK);
        if !self.is_regular {
            return Ok(options.open(&self.path)?);
        }
        let file = options.create_new(true).open(&self.path)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, ROOM_BYTES) {
            // Some file systems cannot reserve; then there is nothing to learn here.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        file.set_len(0)?;
        Ok(file)
    }

    /// Gives the name back to the earlier recording: nothing was recorded.
    pub(super) fn abandon(&self) {
        if !self.is_regular {
            return;
        }
        match &self.set_aside {
            Some(old) => drop(fs::rename(old, &self.path)),
            None => drop(fs::remove_file(&self.path)),
        }
    }
}

fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    let old = PathBuf::from(name);
    fs::rename(path, &old)?;
    Ok(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_recording_is_set_aside_and_comes_back() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.hlr");
        fs::write(&path, "first").unwrap();
        let (output, _file) = Output::open(&path).unwrap();
        assert_eq!(fs::read(home.path().join("a.hlr.old")).unwrap(), b"first");
        assert_eq!(fs::read(&path).unwrap(), b"");
        output.abandon();
        assert_eq!(fs::read(&path).unwrap(), b"first");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let home = tempfile::tempdir().unwrap();
        let missing = home.path().join("no/such/a.hlr");
        let error = format!("{:#}", Output::open(&missing).err().unwrap());
        assert!(
            error.starts_with("cannot write the recording ") && error.contains("No such file"),
            "{error}"
        );
        let error = format!("{:#}", Output::open(home.path()).err().unwrap());
        assert!(error.contains("it is a directory"), "{error}");
    }
}
