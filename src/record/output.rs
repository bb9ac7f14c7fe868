//! The file that the recording goes to: there, writable and with room before
//! the program starts.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::embedded::random_name;

/// Room that a recording can be expected to need.
const ROOM_BYTES: u64 = 1 << 20;

/// An open, empty output file.
pub(super) struct Output {
    pub path: PathBuf,
    /// The earlier recording that had the name.
    set_aside: Option<PathBuf>,
    /// The one before it, kept until there is another in its place.
    displaced: Option<PathBuf>,
    is_regular: bool,
}

impl Output {
    /// Opens the file. A recording that has the name already becomes `FILE.old`; what had
    /// that name is kept until [`Output::settle`].
    pub(super) fn open(path: &Path) -> Result<(Output, File)> {
        let shown = path.display();
        let found = fs::metadata(path).ok();
        if found.as_ref().is_some_and(|found| found.is_dir()) {
            bail!("cannot write the recording {shown}: it is a directory; name a file with -o");
        }
        let is_regular = found.as_ref().is_none_or(|found| found.is_file());
        let mut output = Output {
            path: path.to_owned(),
            set_aside: None,
            displaced: None,
            is_regular,
        };
        if found.is_some() && is_regular {
            output
                .set_aside()
                .with_context(|| format!("cannot set aside the earlier recording {shown}"))?;
        }
        match output.create() {
            Ok(file) => Ok((output, file)),
            Err(error) => {
                output.abandon();
                Err(error).with_context(|| format!("cannot write the recording {shown}"))
            }
        }
    }

    fn set_aside(&mut self) -> io::Result<()> {
        let old = with_suffix(&self.path, ".old");
        if fs::symlink_metadata(&old).is_ok_and(|found| !found.is_dir()) {
            let spare = with_suffix(&old, &format!(".{}", random_name("kept")?));
            fs::rename(&old, &spare)?;
            self.displaced = Some(spare);
        }
        match fs::rename(&self.path, &old) {
            Ok(()) => self.set_aside = Some(old),
            Err(error) => {
                self.put_back(&old);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Gives `FILE.old` back to what had that name.
    fn put_back(&self, old: &Path) {
        if let Some(spare) = &self.displaced {
            let _ = fs::rename(spare, old);
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

    /// Gives the names back to the earlier recordings: nothing was recorded.
    pub(super) fn abandon(&self) {
        if !self.is_regular {
            return;
        }
        match &self.set_aside {
            Some(old) => {
                let _ = fs::rename(old, &self.path);
                self.put_back(old);
            }
            None => drop(fs::remove_file(&self.path)),
        }
    }

    /// The program runs: there will be a recording, and one earlier is kept.
    pub(super) fn settle(&self) {
        if let Some(spare) = &self.displaced {
            let _ = fs::remove_file(spare);
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
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

    fn texts(home: &Path) -> Vec<(String, String)> {
        let mut all: Vec<_> = fs::read_dir(home)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                let text = fs::read_to_string(entry.path()).unwrap();
                (entry.file_name().into_string().unwrap(), text)
            })
            .collect();
        all.sort();
        all
    }

    fn named(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, text): &(&str, &str)| (name.to_string(), text.to_string());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn what_comes_to_nothing_costs_no_earlier_recording() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.hlr");
        fs::write(&path, "second").unwrap();
        fs::write(home.path().join("a.hlr.old"), "first").unwrap();
        let before = texts(home.path());
        let (output, _file) = Output::open(&path).unwrap();
        output.abandon();
        assert_eq!(texts(home.path()), before);
        let (output, _file) = Output::open(&path).unwrap();
        output.settle();
        assert_eq!(
            texts(home.path()),
            named(&[("a.hlr", ""), ("a.hlr.old", "second")])
        );
    }

    #[test]
    fn a_directory_in_the_way_costs_no_earlier_recording() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.hlr");
        fs::write(&path, "first").unwrap();
        fs::create_dir(home.path().join("a.hlr.old")).unwrap();
        let error = format!("{:#}", Output::open(&path).err().unwrap());
        assert!(error.contains("cannot set aside"), "{error}");
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
