//! The private directory in which the recorded processes keep their ledgers.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use rustix::fs::FallocateFlags;

use crate::embedded::random_name;

/// The least that is worth beginning with: one small ledger.
const ROOM_BYTES: u64 = 256 << 10;

/// Removed with everything in it when dropped.
pub(super) struct LedgerDirectory {
    pub path: PathBuf,
}

impl LedgerDirectory {
    /// Makes the directory where shared memory, or else any file, can be had.
    pub(super) fn create() -> Result<LedgerDirectory> {
        let set = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let mut bases = vec![PathBuf::from("/dev/shm")];
        bases.extend(set("XDG_RUNTIME_DIR"));
        bases.extend(set("TMPDIR"));
        bases.push(PathBuf::from("/tmp"));
        let mut refusals = Vec::new();
        for base in bases {
            match create_below(&base) {
                Ok(directory) => return Ok(directory),
                Err(error) => refusals.push(format!("{}: {error}", base.display())),
            }
        }
        bail!(
            "no directory can hold the ledgers ({})",
            refusals.join("; ")
        )
    }
}

impl Drop for LedgerDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn create_below(base: &Path) -> io::Result<LedgerDirectory> {
    let path = base.join(random_name("heapledger")?);
    DirBuilder::new().mode(0o700).create(&path)?;
    let directory = LedgerDirectory { path };
    // Root's programs give up their privileges and fork: their children create
    // ledgers here too, and cannot see each other's names.
    let mode = if rustix::process::geteuid().is_root() {
        0o1733
    } else {
        0o700
    };
    fs::set_permissions(&directory.path, Permissions::from_mode(mode))?;
    let probe = directory.path.join("probe");
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&probe)?;
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, ROOM_BYTES)?;
    fs::remove_file(&probe)?;
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_private_and_goes_away() {
        let base = tempfile::tempdir().unwrap();
        let directory = create_below(base.path()).unwrap();
        let mode = directory.path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o044, 0, "nobody else lists it");
        fs::write(directory.path.join("1-00000000.ledger"), "x").unwrap();
        let path = directory.path.clone();
        drop(directory);
        assert!(!path.exists());
    }
}
