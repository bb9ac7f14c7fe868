//! Opens whatever holds books: a finished recording, one whose recorder was
//! killed, a directory of ledgers, a single ledger.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::check::{check, sort_processes};
use super::file::{self, OpenError, OpenFailure};
use super::model::{Mode, Outcome, Process, Recording, Start};
use super::resolve::{Seen, Tables, seconds_between};
use super::symbols::{self, Detail};
use crate::ledger::books::Books;
use crate::ledger::layout;
use crate::ledger::pages::FilePages;

/// More ledgers than any run leaves behind.
const MAX_LEDGERS: usize = 200_000;

impl Recording {
    /// Opens a recording. Where its recorder was killed, what the ledgers of
    /// that run still hold is added.
    ///
    /// # Errors
    /// When the file cannot be read, is not a recording, or has another layout.
    /// A recording that is cut short or damaged is no error: all complete
    /// frames are given, and [`Recording::warnings`] says what is missing.
    pub fn open(path: &Path) -> Result<Recording, OpenError> {
        let file = open_file(path).map_err(|reason| OpenError {
            path: path.to_owned(),
            reason,
        })?;
        let frames = file::read(file, path)?;
        let mut recording = frames.recording;
        if !frames.ended {
            recording.adopt_ledgers();
        }
        Ok(recording)
    }

    /// Opens a recording, a directory of ledgers, or a single ledger.
    ///
    /// # Errors
    /// As [`Recording::open`], and when a directory holds no ledger.
    pub fn open_any(path: &Path) -> Result<Recording, OpenError> {
        let fail = |reason| OpenError {
            path: path.to_owned(),
            reason,
        };
        let is_directory = path
            .metadata()
            .map_err(|error| fail(OpenFailure::Io(error)))?
            .is_dir();
        if is_directory {
            return from_ledgers(&ledgers_in(path))
                .unwrap_or_else(|| Err(fail(OpenFailure::NoLedgers)));
        }
        let mut magic = [0u8; 8];
        let mut file = open_file(path).map_err(fail)?;
        if file.read_exact(&mut magic).is_err() || u64::from_le_bytes(magic) != layout::MAGIC {
            return Recording::open(path);
        }
        let books =
            Books::read(&FilePages(&file)).map_err(|error| fail(OpenFailure::Ledger(error)))?;
        Ok(assemble(Start::default(), vec![books]))
    }

    /// Adds the processes whose ledgers a killed recorder left behind, and the
    /// symbols that it had no time for.
    fn adopt_ledgers(&mut self) {
        let directory = PathBuf::from(&self.start.ledger_directory);
        let found = if directory.is_absolute() {
            ledgers_in(&directory)
        } else {
            Vec::new()
        };
        let start_ns = self.start.unix_ns;
        let mut tables = Tables::with(
            std::mem::take(&mut self.modules),
            std::mem::take(&mut self.sites),
        );
        let mut adopted = 0usize;
        let found = read_all(&found);
        self.warnings.extend(found.warning());
        for (books, outcome) in with_outcomes(found.books) {
            let process = tables.process(&books, seen(&books, outcome), start_ns);
            // The recorder may have died between writing a frame and removing the ledger.
            if !self.processes.iter().any(|known| is_same(known, &process)) {
                self.processes.push(process);
                adopted += 1;
            }
        }
        (self.modules, self.sites) = (tables.modules, tables.sites);
        self.name_sites();
        check(self);
        self.warnings.push(match directory.is_absolute() {
            true => format!(
                "the recorder did not finish; {adopted} more processes are read from their ledgers in {}",
                directory.display()
            ),
            false => "the recording ends before it says what was run".to_owned(),
        });
    }
}

impl Recording {
    fn name_sites(&mut self) {
        let is_full = |process: &Process| process.mode == Mode::Full;
        let has_every_stack = self.processes.iter().any(is_full);
        symbols::resolve(&self.modules, &mut self.sites, Detail::of(has_every_stack));
    }
}

fn is_same(a: &Process, b: &Process) -> bool {
    a.pid == b.pid && a.started_s == b.started_s && a.untracked_reason.is_none()
}

fn open_file(path: &Path) -> Result<File, OpenFailure> {
    // Non-blocking, so that a pipe with nobody at its other end does not hang us.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let file = file.map_err(OpenFailure::Io)?;
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => Err(OpenFailure::NotARecording),
        Err(error) => Err(OpenFailure::Io(error)),
    }
}

fn ledgers_in(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "ledger")
        })
        .take(MAX_LEDGERS)
        .collect();
    paths.sort();
    paths
}

/// What lies in a directory of ledgers.
#[derive(Default)]
struct Found {
    books: Vec<Books>,
    /// Why the first one that cannot be read cannot.
    refusal: Option<OpenError>,
    /// How many cannot be read.
    refused: usize,
}

impl Found {
    /// Says what is missing.
    fn warning(&self) -> Option<String> {
        let refusal = self.refusal.as_ref()?;
        let more = match self.refused {
            1 => String::new(),
            number => format!("; nor can {} more ledgers", number - 1),
        };
        Some(format!("{refusal}{more}"))
    }
}

fn read_all(paths: &[PathBuf]) -> Found {
    let mut found = Found::default();
    for path in paths {
        match read_ledger(path) {
            Ok(books) => found.books.push(books),
            // Its writer died before it was complete, or the process has removed it meanwhile.
            Err(OpenFailure::Ledger(crate::Error::NotALedger)) => {}
            Err(OpenFailure::Io(error)) if error.kind() == ErrorKind::NotFound => {}
            Err(reason) => {
                found.refused += 1;
                found.refusal.get_or_insert(OpenError {
                    path: path.clone(),
                    reason,
                });
            }
        }
    }
    found
}

fn read_ledger(path: &Path) -> Result<Books, OpenFailure> {
    let file = open_ledger(path).map_err(OpenFailure::Io)?;
    Books::read(&FilePages(&file)).map_err(OpenFailure::Ledger)
}

/// Opens a ledger: a regular file, and no link to one.
pub(crate) fn open_ledger(path: &Path) -> std::io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    Ok(file)
}

/// `None` where there is no ledger.
fn from_ledgers(paths: &[PathBuf]) -> Option<Result<Recording, OpenError>> {
    let found = read_all(paths);
    let warning = found.warning();
    if found.books.is_empty() {
        return found.refusal.map(Err);
    }
    let directory = paths[0]
        .parent()
        .unwrap_or(Path::new(""))
        .display()
        .to_string();
    let start = Start {
        ledger_directory: directory,
        ..Start::default()
    };
    let mut recording = assemble(start, found.books);
    recording.warnings.extend(warning);
    Some(Ok(recording))
}

/// Makes a recording of nothing but ledgers.
fn assemble(start: Start, books: Vec<Books>) -> Recording {
    let mut books = books;
    books.sort_by_key(|books| books.header.created_mono_ns);
    let first = &books[0];
    let start = Start {
        command: first.args.clone(),
        unix_ns: first.header.created_unix_ns,
        root_pid: first.header.pid,
        heapledger: env!("CARGO_PKG_VERSION").to_owned(),
        ..start
    };
    let mut recording = Recording {
        start,
        ..Recording::default()
    };
    let mut tables = Tables::default();
    for (books, outcome) in with_outcomes(books) {
        let seen = seen(&books, outcome);
        recording
            .processes
            .push(tables.process(&books, seen, recording.start.unix_ns));
    }
    (recording.modules, recording.sites) = (tables.modules, tables.sites);
    recording.name_sites();
    sort_processes(&mut recording);
    recording
}

/// Says of each ledger what can still be known about how its process ended.
fn with_outcomes(mut all: Vec<Books>) -> Vec<(Books, Outcome)> {
    all.sort_by_key(|books| books.header.created_mono_ns);
    let id = |books: &Books| (books.header.pid, books.header.start_ticks);
    let mut outcomes = Vec::with_capacity(all.len());
    for (index, books) in all.iter().enumerate() {
        let replaced = all[index + 1..].iter().any(|later| id(later) == id(books));
        outcomes.push(match replaced {
            true => Outcome::Exec,
            false if is_running(books.header.pid, books.header.start_ticks) => Outcome::Running,
            false => Outcome::Unknown,
        });
    }
    all.into_iter().zip(outcomes).collect()
}

fn seen(books: &Books, outcome: Outcome) -> Seen {
    let now_ns = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64);
    let duration_s = match outcome {
        Outcome::Running => seconds_between(books.header.created_unix_ns, now_ns),
        _ => 0.0,
    };
    Seen {
        duration_s,
        outcome,
        ..Seen::default()
    }
}

/// Tells whether the process that began at `start_ticks` is still there.
fn is_running(pid: u32, start_ticks: u64) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The second field is the program's name in parentheses and may hold anything.
    let mut fields = stat.rsplit(") ").next().unwrap_or("").split(' ');
    let is_dead = matches!(fields.next(), None | Some("Z" | "X"));
    let started = fields.nth(18).and_then(|ticks| ticks.parse::<u64>().ok());
    !is_dead && (start_ticks == 0 || started == Some(start_ticks))
}
