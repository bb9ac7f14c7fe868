//! Starts the program with the preload library and the ledgers' directory in
//! its environment, and nothing else changed.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::directory::LedgerDirectory;
use super::inherited::Inherited;
use super::inspect::Program;

/// What a tracked program is given.
pub(super) struct Tracking {
    pub library: PathBuf,
    pub directory: LedgerDirectory,
    pub children: bool,
}

/// Starts the program.
pub(super) fn launch(
    command: &[OsString],
    program: &Program,
    tracking: Option<&Tracking>,
    inherited: Inherited,
) -> io::Result<Child> {
    let mut child = Command::new(&command[0]);
    child.args(&command[1..]);
    if let Some(tracking) = tracking {
        if program
            .untracked
            .is_none_or(|reason| !reason.forbids_preload())
        {
            let present = std::env::var_os("LD_PRELOAD").unwrap_or_default();
            child.env(
                "LD_PRELOAD",
                preload(&tracking.library, program.sanitizer.as_deref(), &present),
            );
        }
        child.env("HEAPLEDGER_DIR", &tracking.directory.path);
        child.env("HEAPLEDGER_RUN_PID", std::process::id().to_string());
        match tracking.children {
            true => child.env_remove("HEAPLEDGER_CHILDREN"),
            false => child.env("HEAPLEDGER_CHILDREN", "0"),
        };
    }
    inherited.give(&mut child);
    child.spawn()
}

/// Gives LD_PRELOAD: AddressSanitizer insists on being first, then we, then what was there.
fn preload(library: &Path, sanitizer: Option<&OsStr>, present: &OsStr) -> OsString {
    let mut all = OsString::new();
    let parts = [
        sanitizer,
        Some(library.as_os_str()),
        Some(present).filter(|present| !present.is_empty()),
    ];
    for part in parts.into_iter().flatten() {
        if !all.is_empty() {
            all.push(":");
        }
        all.push(part);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_preloads() {
        let library = Path::new("/x/libheapledger.so");
        assert_eq!(
            preload(library, None, OsStr::new("")),
            "/x/libheapledger.so"
        );
        assert_eq!(
            preload(library, None, OsStr::new("a.so b.so")),
            "/x/libheapledger.so:a.so b.so"
        );
        let asan = Some(OsStr::new("libasan.so.8"));
        assert_eq!(
            preload(library, asan, OsStr::new("a.so")),
            "libasan.so.8:/x/libheapledger.so:a.so"
        );
    }
}
