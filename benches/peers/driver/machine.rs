//! What the figures were measured on and with. No names of machines, no paths.

use std::ffi::CStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use std::{mem, thread};

pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub system: String,
    pub kernel: String,
    pub glibc: String,
    pub rustc: String,
    pub cc: String,
}

impl Machine {
    pub fn look() -> Machine {
        Machine {
            processor: after("/proc/cpuinfo", "model name", ':'),
            cores: thread::available_parallelism().map_or(1, usize::from),
            system: after("/etc/os-release", "PRETTY_NAME", '=')
                .trim_matches('"')
                .to_owned(),
            kernel: kernel(),
            glibc: glibc(),
            rustc: rustc(),
            cc: first_line("cc", &["--version"]),
        }
    }

    pub fn sentence(&self) -> String {
        let Machine {
            processor,
            cores,
            system,
            kernel,
            glibc,
            rustc,
            cc,
        } = self;
        format!(
            "{processor}, {cores} cores, {system}, Linux {kernel}, glibc {glibc}, {rustc}, {cc}"
        )
    }
}

/// How much of the processors others took while we measured.
pub struct Others {
    begin: Instant,
    busy: f64,
    ours: f64,
}

impl Others {
    pub fn watch() -> Others {
        Others {
            begin: Instant::now(),
            busy: busy_seconds(),
            ours: our_seconds(),
        }
    }

    /// Their share of all processors since then; `None` where /proc does not tell.
    pub fn share(&self) -> Option<f64> {
        let theirs = (busy_seconds() - self.busy) - (our_seconds() - self.ours);
        let cores = thread::available_parallelism().map_or(1, usize::from) as f64;
        let share = theirs / (self.begin.elapsed().as_secs_f64() * cores);
        share.is_finite().then(|| share.clamp(0.0, 1.0))
    }
}

/// What all processors have worked, and what was taken from them by the machine's host.
fn busy_seconds() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let mut words = text.lines().next().unwrap_or_default().split_whitespace();
    // cpu user nice system idle iowait irq softirq steal ...
    let ticks: Vec<f64> = words
        .by_ref()
        .skip(1)
        .take(8)
        .filter_map(|word| word.parse().ok())
        .collect();
    if ticks.len() < 8 {
        return f64::NAN;
    }
    let idle = ticks[3] + ticks[4];
    // SAFETY: it reads a constant of the system.
    (ticks.iter().sum::<f64>() - idle) / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64
}

/// What this process and the programs that it waited for have worked.
fn our_seconds() -> f64 {
    let of = |who| {
        // SAFETY: getrusage fills in the structure.
        let used = unsafe {
            let mut used: libc::rusage = mem::zeroed();
            libc::getrusage(who, &mut used);
            used
        };
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        seconds(used.ru_utime) + seconds(used.ru_stime)
    };
    of(libc::RUSAGE_SELF) + of(libc::RUSAGE_CHILDREN)
}

/// What a line of a file says behind its key.
fn after(file: &str, key: &str, separator: char) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(separator))
        .find(|(name, _)| name.trim() == key)
        .map_or_else(
            || "unknown".to_owned(),
            |(_, value)| value.trim().to_owned(),
        )
}

/// The kernel's version without what its builder added.
fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let version = release.trim().split(['-', '+']).next();
    version.unwrap_or("unknown").to_owned()
}

pub fn glibc() -> String {
    // SAFETY: it returns a constant string.
    let version = unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) };
    version.to_string_lossy().into_owned()
}

/// `rustc 1.88.0`
pub fn rustc() -> String {
    let line = first_line("rustc", &["--version"]);
    line.split_whitespace()
        .take(2)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The version of the package that a file came with, or what its name says.
pub fn package_version(path: &Path) -> String {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let as_packed = |path: &Path| {
        let owner = first_line("dpkg-query", &["--search", &path.display().to_string()]);
        let package = owner
            .split_once(": ")
            .map(|(package, _)| package.to_owned())?;
        let version = first_line(
            "dpkg-query",
            &["--show", "--showformat=${Version}", &package],
        );
        (version != "unknown").then_some(version)
    };
    // Packages may know a file by its name from before /lib became a link.
    let before_merge = real
        .strip_prefix("/usr")
        .map(|path| Path::new("/").join(path));
    as_packed(&real)
        .or_else(|| as_packed(&before_merge.ok()?))
        .unwrap_or_else(|| {
            let name = real.file_name().unwrap_or_default().to_string_lossy();
            name.into_owned()
        })
}

fn first_line(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output();
    let printed = output.ok().filter(|output| output.status.success());
    let text = printed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let line = text.as_deref().and_then(|text| text.lines().next());
    line.map_or_else(|| "unknown".to_owned(), |line| line.trim().to_owned())
}

/// The version of a crate that this comparison was built with.
pub fn crate_version(name: &str) -> String {
    let lock = include_str!("../Cargo.lock");
    let mut lines = lock
        .lines()
        .skip_while(|line| *line != format!("name = {name:?}"));
    let version = lines
        .nth(1)
        .and_then(|line| line.strip_prefix("version = "));
    version.unwrap_or_default().trim_matches('"').to_owned()
}
