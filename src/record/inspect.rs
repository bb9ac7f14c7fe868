//! Looks at a program before it starts, and says what cannot be tracked and why.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use object::elf;
use object::read::elf::{Dyn, ElfFile, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol, ReadCache};
use rustix::fs::Access;

/// `#!` lines lead at most this far, as in the kernel.
const MAX_SCRIPTS: usize = 5;
/// A `#!` line is cut here, as by the kernel.
const SCRIPT_LINE_BYTES: u64 = 256;

/// The section by which a program says that it books its own allocations.
const NOTE_SECTION: &str = ".note.heapledger";

/// Why a program cannot be started.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NotFound(String),
    NotExecutable(String),
}

/// Why a program cannot be tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Untracked {
    Static,
    Musl,
    OtherMachine,
    NotElf,
    SetUid,
    SetGid,
    Capabilities,
    OwnAllocator,
    Sanitizer,
}

impl Untracked {
    /// Tells whether the program's loader could not even load the library, and
    /// would say so on the program's standard error.
    pub(crate) fn forbids_preload(self) -> bool {
        matches!(self, Untracked::Musl | Untracked::OtherMachine)
    }

    /// Tells whether the program may turn out not to run here at all.
    pub(crate) fn may_not_start(self) -> bool {
        self.forbids_preload() || self == Untracked::NotElf
    }
}

impl fmt::Display for Untracked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Untracked::Static => "statically linked",
            Untracked::Musl => "linked with musl, not glibc",
            Untracked::OtherMachine => "built for another machine or word size",
            Untracked::NotElf => "not an ELF program",
            Untracked::SetUid => "set-user-ID, so the dynamic linker ignores LD_PRELOAD",
            Untracked::SetGid => "set-group-ID, so the dynamic linker ignores LD_PRELOAD",
            Untracked::Capabilities => {
                "has file capabilities, so the dynamic linker ignores LD_PRELOAD"
            }
            Untracked::OwnAllocator => "bypassed: it has a malloc of its own",
            Untracked::Sanitizer => "bypassed: AddressSanitizer has a malloc of its own",
        })
    }
}

/// What was found out about a program that can be started.
#[derive(Debug, Default)]
pub(crate) struct Program {
    /// The file to execute.
    pub path: PathBuf,
    /// A text without `#!`: /bin/sh runs it where the kernel does not.
    pub is_shell_script: bool,
    /// Why it cannot be tracked.
    pub untracked: Option<Untracked>,
    /// The AddressSanitizer runtime it is linked with, which must be loaded first.
    pub sanitizer: Option<OsString>,
}

/// Finds a program as the shell would and looks at what would really run.
pub(crate) fn inspect(command: &OsStr) -> Result<Program, Refusal> {
    let file = find(command)?;
    let mut path = file.clone();
    for _ in 0..MAX_SCRIPTS {
        if let Some(reason) = privileges(&path) {
            return Ok(Program {
                path: file,
                untracked: Some(reason),
                ..Program::default()
            });
        }
        match interpreter_of_script(&path) {
            Some(interpreter) if !interpreter.is_file() => {
                return Err(Refusal::NotFound(format!(
                    "{}: its interpreter {} does not exist",
                    path.display(),
                    interpreter.display()
                )));
            }
            Some(interpreter) => path = interpreter,
            None => break,
        }
    }
    Ok(Program {
        is_shell_script: path == file && !is_binary(&file),
        path: file,
        ..inspect_file(&path)
    })
}

/// Looks at one file, the image of a program.
pub(crate) fn inspect_file(path: &Path) -> Program {
    // What cannot be read may well be executed: the handshake will tell.
    let Ok(file) = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
    else {
        return Program::default();
    };
    let cache = ReadCache::new(file);
    match object::FileKind::parse(&cache) {
        Ok(object::FileKind::Elf64) => inspect_elf(&cache).unwrap_or(not_elf()),
        Ok(object::FileKind::Elf32) => Program {
            untracked: Some(Untracked::OtherMachine),
            ..Program::default()
        },
        // A script without `#!`: execvp gives it to /bin/sh.
        _ if !is_binary(path) => inspect_shell(path),
        _ => not_elf(),
    }
}

fn inspect_shell(script: &Path) -> Program {
    let shell = Path::new("/bin/sh");
    if script == shell {
        not_elf()
    } else {
        inspect_file(shell)
    }
}

fn not_elf() -> Program {
    Program {
        untracked: Some(Untracked::NotElf),
        ..Program::default()
    }
}

fn is_binary(path: &Path) -> bool {
    let mut start = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(SCRIPT_LINE_BYTES).read_to_end(&mut start));
    // What cannot be read is for the kernel to know.
    read.is_err() || start.contains(&0)
}

type Elf<'cache> = ElfFile<'cache, elf::FileHeader64<Endianness>, &'cache ReadCache<File>>;

fn inspect_elf(cache: &ReadCache<File>) -> Option<Program> {
    let file = Elf::parse(cache).ok()?;
    let header = file.elf_header();
    let endian = header.endian().ok()?;
    let ours = if cfg!(target_arch = "aarch64") {
        elf::EM_AARCH64
    } else {
        elf::EM_X86_64
    };
    let mut program = Program::default();
    let mut loader = None;
    for segment in header.program_headers(endian, cache).ok()? {
        if let Ok(Some(path)) = segment.interpreter(endian, cache) {
            loader = Some(path.to_vec());
        }
    }
    program.sanitizer = needed(&file)
        .into_iter()
        .find(|name| name.as_bytes().starts_with(b"libasan.so"));
    program.untracked = match loader {
        _ if header.e_machine(endian) != ours || !file.is_little_endian() => {
            Some(Untracked::OtherMachine)
        }
        None => Some(Untracked::Static),
        Some(path) if String::from_utf8_lossy(&path).contains("ld-musl") => Some(Untracked::Musl),
        Some(_) if defines_malloc(&file) && file.section_by_name(NOTE_SECTION).is_none() => {
            Some(Untracked::OwnAllocator)
        }
        Some(_) => program.sanitizer.as_ref().map(|_| Untracked::Sanitizer),
    };
    Some(program)
}

fn defines_malloc(file: &Elf<'_>) -> bool {
    file.dynamic_symbols()
        .any(|symbol| !symbol.is_undefined() && symbol.name_bytes() == Ok(b"malloc"))
}

/// Gives the libraries that a program is linked with.
fn needed(file: &Elf<'_>) -> Vec<OsString> {
    let (endian, data) = (file.endian(), file.data());
    let table = file.elf_section_table();
    let Ok(Some((entries, strings))) = table.dynamic(endian, data) else {
        return Vec::new();
    };
    let Ok(strings) = table.strings(endian, data, strings) else {
        return Vec::new();
    };
    entries
        .iter()
        .filter(|entry| entry.tag(endian) == elf::DT_NEEDED)
        .filter_map(|entry| entry.string(endian, strings).ok())
        .map(|name| OsString::from_vec(name.to_vec()))
        .collect::<HashSet<_>>()
        .into_iter()
        .collect()
}

/// Tells whether the kernel gives the program privileges that its caller has not.
pub(super) fn privileges(path: &Path) -> Option<Untracked> {
    let found = path.metadata().ok()?;
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    if found.mode() & 0o4000 != 0 && found.uid() != user.as_raw() {
        return Some(Untracked::SetUid);
    }
    if found.mode() & 0o2010 == 0o2010 && found.gid() != group.as_raw() {
        return Some(Untracked::SetGid);
    }
    let mut value = [0u8; 64];
    let has_capabilities = rustix::fs::getxattr(path, "security.capability", &mut value).is_ok();
    (has_capabilities && !user.is_root()).then_some(Untracked::Capabilities)
}

fn interpreter_of_script(path: &Path) -> Option<PathBuf> {
    let mut line = Vec::new();
    File::open(path)
        .ok()?
        .take(SCRIPT_LINE_BYTES)
        .read_to_end(&mut line)
        .ok()?;
    let line = line
        .strip_prefix(b"#!")?
        .split(|&byte| byte == b'\n')
        .next()?;
    let word = line
        .trim_ascii()
        .split(|byte| b" \t".contains(byte))
        .next()?;
    (!word.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(word)))
}

/// Finds the file that execvp would execute.
fn find(command: &OsStr) -> Result<PathBuf, Refusal> {
    let shown = command.to_string_lossy();
    if command.is_empty() {
        return Err(Refusal::NotFound("``: no such file".to_owned()));
    }
    if command.as_bytes().contains(&b'/') {
        return match check_executable(Path::new(command)) {
            Ok(()) => Ok(PathBuf::from(command)),
            Err(Miss::NotFound) => Err(Refusal::NotFound(format!("{shown}: no such file"))),
            Err(Miss::Denied(why)) => Err(Refusal::NotExecutable(format!("{shown}: {why}"))),
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let mut denied = None;
    for directory in std::env::split_paths(&path) {
        // An empty entry means the current directory, and joins as such.
        let file = directory.join(command);
        match check_executable(&file) {
            Ok(()) => return Ok(file),
            Err(Miss::NotFound) => {}
            Err(Miss::Denied(why)) => {
                denied = denied.or(Some(format!("{}: {why}", file.display())))
            }
        }
    }
    Err(match denied {
        Some(why) => Refusal::NotExecutable(why),
        None => Refusal::NotFound(format!("{shown}: not found in PATH")),
    })
}

enum Miss {
    NotFound,
    Denied(&'static str),
}

fn check_executable(path: &Path) -> Result<(), Miss> {
    match path.metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(Miss::Denied("permission denied"))
        }
        Err(_) => Err(Miss::NotFound),
        Ok(found) if found.is_dir() => Err(Miss::Denied("is a directory")),
        Ok(_) if rustix::fs::access(path, Access::EXEC_OK).is_err() => {
            Err(Miss::Denied("not executable"))
        }
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
