//! Shared libraries that the command carries, laid where the dynamic linker can
//! load them from: private, verified, in a directory that may execute.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::StatVfsMountFlags;
use rustix::rand::{GetRandomFlags, getrandom};

/// A shared library inside this program.
pub(crate) struct Library {
    /// Its file's name, in a directory of its own.
    name: &'static str,
    content: &'static [u8],
}

/// What [`crate::record`] puts into LD_PRELOAD.
pub(crate) static PRELOAD: Library = Library {
    name: "libheapledger.so",
    content: include_bytes!(env!("HEAPLEDGER_PRELOAD")),
};

/// The C half of [`crate::iocontext`].
pub(crate) static IOCONTEXT: Library = Library {
    name: "libiocontext.so",
    content: include_bytes!(env!("HEAPLEDGER_IOCONTEXT")),
};

impl Library {
    /// Gives the path of the library, extracted where it was not there yet.
    ///
    /// # Errors
    /// When no directory will do; the message names each and says why.
    pub(crate) fn extract(&self) -> Result<PathBuf> {
        let mut refusals = Vec::new();
        for base in candidates() {
            match self.extract_below(&base) {
                Ok(path) => return Ok(path),
                Err(error) => refusals.push(format!("{}: {error:#}", base.display())),
            }
        }
        bail!(
            "no directory can hold {} ({})",
            self.name,
            refusals.join("; ")
        )
    }

    fn extract_below(&self, base: &Path) -> Result<PathBuf> {
        check_base(base)?;
        let user = rustix::process::geteuid().as_raw();
        let ours = base.join(format!("heapledger-{user}"));
        make_private(&ours)?;
        let directory = ours.join(format!("{:016x}", hash(self.content)));
        make_private(&directory)?;
        let path = directory.join(self.name);
        if !self.is_at(&path)? {
            self.write_atomically(&directory, &path)?;
        }
        Ok(path)
    }

    /// Tells whether the very library is there already; what else is there is replaced.
    fn is_at(&self, path: &Path) -> Result<bool> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let Ok(mut file) = OpenOptions::new().read(true).custom_flags(flags).open(path) else {
            return Ok(false);
        };
        let found = file.metadata()?;
        let is_ours = found.is_file()
            && found.uid() == rustix::process::geteuid().as_raw()
            && found.mode() & 0o022 == 0;
        if !is_ours || found.len() != self.content.len() as u64 {
            return Ok(false);
        }
        Ok(same_content(&mut file, self.content)?)
    }

    /// Two runs may extract at once: each writes its own file and the last rename wins.
    fn write_atomically(&self, directory: &Path, path: &Path) -> Result<()> {
        let draft = directory.join(random_name("draft")?);
        let result = self
            .write_draft(&draft)
            .and_then(|()| fs::rename(&draft, path));
        if result.is_err() {
            let _ = fs::remove_file(&draft);
        }
        result.with_context(|| format!("cannot write {}", path.display()))
    }

    fn write_draft(&self, draft: &Path) -> io::Result<()> {
        let mut file: File = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(draft)?;
        file.write_all(self.content)?;
        file.set_permissions(Permissions::from_mode(if is_root() {
            0o555
        } else {
            0o500
        }))
    }
}

/// Gives a name that nobody can have foreseen.
pub(crate) fn random_name(prefix: &str) -> io::Result<String> {
    let mut bytes = [0u8; 8];
    getrandom(&mut bytes[..], GetRandomFlags::empty())?;
    Ok(format!("{prefix}-{:016x}", u64::from_ne_bytes(bytes)))
}

/// Gives the directories to try, best first.
fn candidates() -> Vec<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let mut all = Vec::new();
    if is_root() {
        // Programs drop root's privileges and start others, which load it too.
        all.push(PathBuf::from("/var/cache"));
    } else {
        all.extend(set("XDG_RUNTIME_DIR"));
        all.extend(set("XDG_CACHE_HOME"));
        all.extend(set("HOME").map(|home| home.join(".cache")));
    }
    all.extend(["/dev/shm", "/run"].map(PathBuf::from));
    all.extend(set("TMPDIR"));
    all.push(PathBuf::from("/tmp"));
    all.retain(|path| path.is_absolute());
    all
}

fn same_content(file: &mut File, mut expected: &[u8]) -> io::Result<bool> {
    let mut piece = [0u8; 16384];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(expected.is_empty()),
            count => match expected.strip_prefix(&piece[..count]) {
                Some(rest) => expected = rest,
                None => return Ok(false),
            },
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn check_base(base: &Path) -> Result<()> {
    if base
        .as_os_str()
        .as_bytes()
        .iter()
        .any(|byte| b" :\t\n$".contains(byte))
    {
        bail!("LD_PRELOAD cannot hold a path with a space, a colon or a dollar sign");
    }
    let file_system = rustix::fs::statvfs(base)?;
    if file_system.f_flag.contains(StatVfsMountFlags::NOEXEC) {
        bail!("mounted noexec");
    }
    if is_root() && !everybody_reaches(base) {
        bail!("only root reaches it");
    }
    Ok(())
}

fn everybody_reaches(path: &Path) -> bool {
    path.ancestors()
        .all(|part| part.metadata().is_ok_and(|found| found.mode() & 0o001 != 0))
}

/// Makes our directory, or checks that it is ours and that nobody else writes in it.
fn make_private(directory: &Path) -> Result<()> {
    let mode = if is_root() { 0o755 } else { 0o700 };
    match DirBuilder::new().mode(mode).create(directory) {
        // The umask had its say.
        Ok(()) => {
            return Ok(fs::set_permissions(
                directory,
                Permissions::from_mode(mode),
            )?);
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.into()),
    }
    let found = fs::symlink_metadata(directory)?;
    let is_private = found.is_dir()
        && found.uid() == rustix::process::geteuid().as_raw()
        && found.mode() & 0o022 == 0;
    match is_private {
        true => Ok(()),
        false => Err(anyhow!(
            "{} is not a private directory of ours",
            directory.display()
        )),
    }
}

/// Names the content; the content itself is compared. FNV-1a by words: by bytes it
/// would be a sixth of what `run` takes to start.
fn hash(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(0xcbf2_9ce4_8422_2325, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let mixed = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x100_0000_01b3);
        mixed ^ (mixed >> 32) // a multiplication never moves anything down
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        directory
    }

    #[test]
    fn it_is_written_once_and_used_again() {
        let base = base();
        let first = PRELOAD.extract_below(base.path()).unwrap();
        let inode = first.metadata().unwrap().ino();
        assert_eq!(fs::read(&first).unwrap(), PRELOAD.content);
        assert_eq!(PRELOAD.extract_below(base.path()).unwrap(), first);
        assert_eq!(first.metadata().unwrap().ino(), inode);
    }

    #[test]
    fn a_changed_library_is_replaced() {
        let base = base();
        let path = PRELOAD.extract_below(base.path()).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        let mut content = PRELOAD.content.to_vec();
        content[PRELOAD.content.len() / 2] ^= 1;
        fs::write(&path, content).unwrap();
        assert_eq!(PRELOAD.extract_below(base.path()).unwrap(), path);
        assert_eq!(fs::read(&path).unwrap(), PRELOAD.content);
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let base = base();
        let path = PRELOAD.extract_below(base.path()).unwrap();
        let other = base.path().join("other");
        fs::rename(&path, &other).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        PRELOAD.extract_below(base.path()).unwrap();
        assert!(path.symlink_metadata().unwrap().is_file());
    }

    #[test]
    fn a_directory_that_others_write_is_refused() {
        let base = base();
        let path = PRELOAD.extract_below(base.path()).unwrap();
        fs::set_permissions(path.parent().unwrap(), Permissions::from_mode(0o777)).unwrap();
        assert!(
            PRELOAD
                .extract_below(base.path())
                .unwrap_err()
                .to_string()
                .contains("not a private directory")
        );
    }

    #[test]
    fn paths_that_ld_preload_cannot_hold_are_refused() {
        for name in ["with space", "with:colon"] {
            let base = base().path().join(name);
            assert!(
                PRELOAD
                    .extract_below(&base)
                    .unwrap_err()
                    .to_string()
                    .contains("LD_PRELOAD cannot hold")
            );
        }
    }
}
