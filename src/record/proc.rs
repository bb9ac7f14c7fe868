//! What /proc tells about a process. Every call may find it gone.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::fstatfs;

/// From `linux/magic.h`.
const PROC_SUPER_MAGIC: rustix::fs::FsWord = 0x9fa0;

/// More threads than anybody looks at one by one.
const MAX_NAMES: usize = 4096;

/// Tells images of one process apart.
pub(super) type LaidOut = [u64; 3];

/// The fields of /proc/PID/stat that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub state: u8,
    pub parent_pid: u32,
    pub start_ticks: u64,
    /// Where its arguments begin, its code and its environment end: changes with every exec,
    /// the first by address randomisation, the others with the program where that is off.
    /// Zeros where we may not know.
    pub laid_out: LaidOut,
    /// As waitpid would give it; 0 where we may not know.
    pub wait_status: i32,
}

/// Reads /proc/PID/stat.
pub(super) fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&String::from_utf8_lossy(&text))
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The second field is the program's name in parentheses and may hold anything.
    let (_, fields) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        state: *fields.first()?.as_bytes().first()?,
        parent_pid: number(4)? as u32,
        start_ticks: number(22)?,
        laid_out: [48, 27, 51].map(|field| number(field).unwrap_or(0)),
        wait_status: number(52).unwrap_or(0) as i32,
    })
}

/// A process's /proc/PID/statm: to open it takes three times as long as to read it.
pub(super) struct Statm(File);

/// What it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    pub rss_bytes: u64,
    /// Of the program's own code: another program seldom has as many.
    pub text_pages: u64,
}

impl Statm {
    pub(super) fn open(pid: u32) -> Option<Statm> {
        File::open(format!("/proc/{pid}/statm")).ok().map(Statm)
    }

    pub(super) fn read(&self) -> Option<Memory> {
        let mut text = [0; 160]; // seven numbers
        let length = self.0.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(&text[..length]).ok()?;
        let mut pages = text.split_ascii_whitespace().map(str::parse::<u64>);
        let resident_pages = pages.nth(1)?.ok()?;
        let text_pages = pages.nth(1)?.ok()?;
        Some(Memory {
            rss_bytes: resident_pages.checked_mul(rustix::param::page_size() as u64)?,
            text_pages,
        })
    }
}

/// /proc/loadavg, kept open: its last number is that of the newest process or thread.
/// Containers may have one of their own there, which lags or says nothing.
pub(super) struct Newest(Option<File>);

impl Newest {
    pub(super) fn open() -> Newest {
        let file = File::open("/proc/loadavg").ok();
        Newest(file.filter(|file| fstatfs(file).is_ok_and(|at| at.f_type == PROC_SUPER_MAGIC)))
    }

    /// Gives the newest number that was given out; `None` where that is not told.
    pub(super) fn number(&self) -> Option<u64> {
        let mut text = [0; 160];
        let length = self.0.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(&text[..length]).ok()?;
        let number = text.split_ascii_whitespace().next_back()?.parse().ok();
        number.filter(|number| *number != 0)
    }
}

/// Adds the names of the process's threads.
pub(super) fn add_thread_names(pid: u32, names: &mut HashMap<u32, String>) {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return;
    };
    for task in tasks.flatten() {
        let Some(tid) = task.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if names.len() >= MAX_NAMES && !names.contains_key(&tid) {
            return;
        }
        if let Ok(name) = fs::read(task.path().join("comm")) {
            names.insert(tid, String::from_utf8_lossy(&name).trim_end().to_owned());
        }
    }
}

/// Tells whether any system call but four would end the process (strict seccomp).
pub(super) fn is_strict(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mut modes = status
        .lines()
        .filter_map(|line| line.strip_prefix("Seccomp:"));
    modes.any(|mode| mode.trim() == "1")
}

/// Gives the process's children; all of its threads may have some.
pub(super) fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_ascii_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Gives the program's path.
pub(super) fn exe(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// Gives the program's arguments.
pub(super) fn args(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let text = text.strip_suffix('\0').unwrap_or(&text);
    if text.is_empty() {
        Vec::new()
    } else {
        text.split('\0').map(str::to_owned).collect()
    }
}

/// Tells whether a file is mapped into the process; `None` when that cannot be seen.
pub(super) fn maps(pid: u32, file_name: &str) -> Option<bool> {
    let text = fs::read(format!("/proc/{pid}/maps")).ok()?;
    Some(
        text.windows(file_name.len())
            .any(|part| part == file_name.as_bytes()),
    )
}

/// Gives the files that are mapped into the process, each once.
pub(super) fn mapped_files(pid: u32) -> Vec<PathBuf> {
    let text = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mut files: Vec<PathBuf> = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        let path = line.iter().position(|&byte| byte == b'/');
        let path = path.map(|at| Path::new(OsStr::from_bytes(&line[at..])));
        files.extend(
            path.filter(|path| files.last().is_none_or(|last| last != path))
                .map(Path::to_owned),
        );
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let tail = (3..=52)
            .map(|field| field.to_string())
            .collect::<Vec<_>>()
            .join(" ");
        let text = format!("77 (a) S 9 (b)) {}", tail.replacen('3', "Z", 1));
        let found = parse_stat(&text).unwrap();
        assert_eq!(
            found,
            Stat {
                state: b'Z',
                parent_pid: 4,
                start_ticks: 22,
                laid_out: [48, 27, 51],
                wait_status: 52
            }
        );
        assert_eq!(parse_stat(""), None);
        assert_eq!(parse_stat("1 (x) "), None);
    }

    #[test]
    fn a_new_process_has_another_number() {
        let newest = Newest::open();
        let before = newest.number();
        let child = std::process::Command::new("true").spawn();
        let after = newest.number();
        assert!(child.unwrap().wait().unwrap().success());
        // A container's own file says nothing at all.
        let is_own = std::env::var_os("CI").is_none() && before.is_none();
        assert!(before != after || is_own && after.is_none());
    }

    #[test]
    fn this_process_can_be_read() {
        let pid = std::process::id();
        let memory = Statm::open(pid).unwrap().read().unwrap();
        assert!(memory.rss_bytes > 4096 && memory.text_pages > 0);
        assert!(stat(pid).unwrap().start_ticks > 0);
        assert!(!args(pid).is_empty());
        let mut names = HashMap::new();
        add_thread_names(pid, &mut names);
        assert!(names.contains_key(&pid));
    }
}
