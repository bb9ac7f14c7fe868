//! Starts the program with the preload library and the ledgers' directory in
//! its environment, and nothing else changed.

use std::ffi::{CStr, CString, OsStr, OsString, c_char};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::ptr::null;

use super::directory::LedgerDirectory;
use super::inherited::Inherited;
use super::inspect::Program;
use crate::recording::model::Mode;

/// Who runs scripts that do not say who runs them.
const SHELL: &CStr = c"/bin/sh";

/// What a tracked program is given.
pub(super) struct Tracking {
    pub library: PathBuf,
    pub directory: LedgerDirectory,
    pub mode: Mode,
    pub aborts_on_misuse: bool,
    pub children: bool,
    /// What the environment says besides.
    pub variables: Vec<(&'static str, OsString)>,
}

/// Starts the program.
pub(super) fn launch(
    command: &[OsString],
    program: &Program,
    tracking: Option<&Tracking>,
    inherited: Inherited,
) -> io::Result<Child> {
    let image = ImageCall::new(command, program, environment(program, tracking))?;
    let mut child = Command::new(&command[0]);
    inherited.give(&mut child);
    // SAFETY: execve is async-signal-safe, and all that it is given was made before the fork.
    unsafe { child.pre_exec(move || Err(image.execute())) };
    child.spawn()
}

type Variables = Vec<(OsString, OsString)>;

/// Gives the program's environment, in its order: ours, and what the preload library needs.
fn environment(program: &Program, tracking: Option<&Tracking>) -> Variables {
    let mut all: Variables = std::env::vars_os().collect();
    let Some(tracking) = tracking else {
        return all;
    };
    if program
        .untracked
        .is_none_or(|reason| !reason.forbids_preload())
    {
        let present = std::env::var_os("LD_PRELOAD").unwrap_or_default();
        let sanitizer = program.sanitizer.as_deref();
        let value = preload(&tracking.library, sanitizer, &present);
        set(&mut all, "LD_PRELOAD", Some(value));
    }
    let directory = tracking.directory.path.clone().into_os_string();
    let run_pid = std::process::id().to_string().into();
    set(&mut all, "HEAPLEDGER_DIR", Some(directory));
    set(&mut all, "HEAPLEDGER_RUN_PID", Some(run_pid));
    let children = (!tracking.children).then(|| "0".into());
    set(&mut all, "HEAPLEDGER_CHILDREN", children);
    // What the surroundings say of it does not count: the command line decides.
    let (mode, sample_bytes) = match tracking.mode {
        Mode::Sample { sample_bytes } => (Some("sample".into()), Some(sample_bytes)),
        Mode::Full => (Some("full".into()), None),
        Mode::Count => (None, None),
    };
    let sample_bytes = sample_bytes.map(|bytes| bytes.to_string().into());
    set(&mut all, "HEAPLEDGER_MODE", mode);
    set(&mut all, "HEAPLEDGER_SAMPLE_BYTES", sample_bytes);
    let aborts = tracking.aborts_on_misuse.then(|| "1".into());
    set(&mut all, "HEAPLEDGER_ABORT_ON_MISUSE", aborts);
    for (name, value) in &tracking.variables {
        set(&mut all, name, Some(value.clone()));
    }
    all
}

fn set(all: &mut Variables, name: &str, value: Option<OsString>) {
    all.retain(|(found, _)| found != name);
    all.extend(value.map(|value| (name.into(), value)));
}

/// Texts as execve takes them: a table of pointers that ends with a null.
struct Texts {
    pointers: Vec<*const c_char>,
    /// What the pointers lead to.
    _texts: Vec<CString>,
}

// SAFETY: the pointers lead to texts that this value owns and nobody changes.
unsafe impl Send for Texts {}
// SAFETY: as above.
unsafe impl Sync for Texts {}

impl Texts {
    fn new(texts: impl Iterator<Item = Vec<u8>>) -> io::Result<Texts> {
        let texts = texts.map(|text| Ok(CString::new(text)?));
        let texts: Vec<CString> = texts.collect::<io::Result<_>>()?;
        let pointers = texts.iter().map(|text| text.as_ptr()).chain([null()]);
        Ok(Texts {
            pointers: pointers.collect(),
            _texts: texts,
        })
    }
}

/// A call of execve, its arguments laid out before the fork.
///
/// execvp would hand everything that the kernel does not know to /bin/sh, a
/// program for another machine as well.
struct ImageCall {
    path: CString,
    arguments: Texts,
    environment: Texts,
    /// The shell's arguments, for a script that does not name its interpreter.
    shell: Option<Texts>,
}

impl ImageCall {
    fn new(
        command: &[OsString],
        program: &Program,
        environment: Variables,
    ) -> io::Result<ImageCall> {
        let bytes = |text: &OsString| text.as_bytes().to_vec();
        let path = program.path.as_os_str().as_bytes().to_vec();
        let shell = match program.is_shell_script {
            true => {
                let first = [SHELL.to_bytes().to_vec(), path.clone()].into_iter();
                Some(Texts::new(first.chain(command[1..].iter().map(bytes)))?)
            }
            false => None,
        };
        let variables = environment
            .into_iter()
            .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
        Ok(ImageCall {
            path: CString::new(path)?,
            arguments: Texts::new(command.iter().map(bytes))?,
            environment: Texts::new(variables)?,
            shell,
        })
    }

    /// Becomes the program; returns only when that failed.
    fn execute(&self) -> io::Error {
        let error = self.become_image(&self.path, &self.arguments);
        match &self.shell {
            Some(arguments) if error.raw_os_error() == Some(libc::ENOEXEC) => {
                self.become_image(SHELL, arguments)
            }
            _ => error,
        }
    }

    fn become_image(&self, path: &CStr, arguments: &Texts) -> io::Error {
        let (arguments, environment) = (&arguments.pointers, &self.environment.pointers);
        // SAFETY: a path that ends with NUL and two tables that end with a null, all alive.
        unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
        io::Error::last_os_error()
    }
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
