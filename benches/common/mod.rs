//! What the benches share: programs built with the C compiler, a directory for
//! ledgers, interleaved rounds and tables of ratios.
#![allow(dead_code)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, process};

/// Where the bench leaves what it builds.
pub fn workshop() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("benches");
    fs::create_dir_all(&directory).expect("the target directory is writable");
    directory
}

/// Builds `benches/programs/NAME.c` into a program or, if `output` has a suffix, a library.
pub fn build(name: &str, output: &str) -> PathBuf {
    // The package may be one inside benches/.
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|package| package.join("benches/programs").join(format!("{name}.c")))
        .find(|source| source.is_file())
        .unwrap_or_else(|| panic!("benches/programs/{name}.c is missing"));
    let output = workshop().join(output);
    let mut cc = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()));
    cc.args(["-O2", "-Wall", "-Wextra", "-D_GNU_SOURCE", "-fno-builtin"]);
    if output.extension().is_some() {
        cc.args(["-shared", "-fPIC"]);
    }
    cc.arg("-o")
        .arg(&output)
        .arg(source)
        .args(["-lpthread", "-ldl"]);
    let status = cc.status().expect("the C compiler starts");
    assert!(status.success(), "cannot build {name}.c: {status}");
    output
}

/// The command under test.
pub fn heapledger() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heapledger"));
    without_settings(&mut command);
    command
}

pub fn without_settings(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"HEAPLEDGER_") {
            command.env_remove(name);
        }
    }
    command.env_remove("LD_PRELOAD");
}

/// The library that `heapledger preload` names.
pub fn preload_library() -> PathBuf {
    let output = heapledger()
        .arg("preload")
        .output()
        .expect("heapledger starts");
    assert!(
        output.status.success(),
        "heapledger preload: {}",
        output.status
    );
    let path = String::from_utf8(output.stdout).expect("its path is text");
    PathBuf::from(path.trim_end())
}

/// A directory in shared memory for ledgers, gone when this value is.
pub struct Ledgers(PathBuf);

impl Ledgers {
    pub fn new() -> Ledgers {
        let shared = Path::new("/dev/shm");
        let parent = if shared.is_dir() {
            shared.to_owned()
        } else {
            env::temp_dir()
        };
        let directory = parent.join(format!("bench-of-heapledger-{}", process::id()));
        fs::create_dir(&directory).expect("shared memory is writable");
        Ledgers(directory)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Takes out what earlier programs left.
    pub fn clear(&self) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let path = entry.path();
            let _ = if path.is_dir() {
                fs::remove_dir_all(path)
            } else {
                fs::remove_file(path)
            };
        }
    }
}

impl Drop for Ledgers {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One of the things compared: a name, and the environment that makes it.
pub struct Variant {
    pub name: String,
    preload: Option<PathBuf>,
    ledgers: Option<PathBuf>,
    mode: &'static str,
}

impl Variant {
    pub fn bare() -> Variant {
        Variant {
            name: "bare".into(),
            preload: None,
            ledgers: None,
            mode: "count",
        }
    }

    pub fn preloaded(name: &str, library: PathBuf) -> Variant {
        Variant {
            name: name.into(),
            preload: Some(library),
            ledgers: None,
            mode: "count",
        }
    }

    pub fn ledger(name: &str, library: PathBuf, ledgers: &Ledgers) -> Variant {
        Variant {
            ledgers: Some(ledgers.path().to_owned()),
            ..Variant::preloaded(name, library)
        }
    }

    /// The same with stacks of one block in 512 KiB.
    pub fn sampled(name: &str, library: PathBuf, ledgers: &Ledgers) -> Variant {
        Variant {
            mode: "sample",
            ..Variant::ledger(name, library, ledgers)
        }
    }

    /// The same with every block's stack.
    pub fn full(name: &str, library: PathBuf, ledgers: &Ledgers) -> Variant {
        Variant {
            mode: "full",
            ..Variant::ledger(name, library, ledgers)
        }
    }

    pub fn command(&self, program: impl Into<OsString>) -> Command {
        let mut command = Command::new(program.into());
        without_settings(&mut command);
        if let Some(library) = &self.preload {
            command.env("LD_PRELOAD", library);
        }
        if let Some(ledgers) = &self.ledgers {
            command
                .env("HEAPLEDGER_DIR", ledgers)
                .env("HEAPLEDGER_MODE", self.mode);
        }
        command.stderr(Stdio::null()).stdin(Stdio::null());
        command
    }
}

/// Runs a program that prints numbers.
pub fn numbers(command: &mut Command) -> Vec<f64> {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .map(|word| {
            word.parse()
                .unwrap_or_else(|_| panic!("{command:?} printed `{word}`"))
        })
        .collect()
}

pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    if values.is_empty() {
        f64::NAN
    } else {
        values[values.len() / 2]
    }
}

/// Measurements by variant, taken round by round: whatever the machine does
/// meanwhile meets all variants alike, and ratios are taken within a round.
pub struct Rounds {
    values: Vec<Vec<f64>>,
}

impl Rounds {
    /// Each round measures every variant, beginning with another one.
    pub fn run(rounds: usize, variants: usize, mut measure: impl FnMut(usize) -> f64) -> Rounds {
        let mut values = vec![Vec::new(); variants];
        for round in 0..rounds {
            for turn in 0..variants {
                let variant = (round + turn) % variants;
                values[variant].push(measure(variant));
            }
        }
        Rounds { values }
    }

    pub fn from(values: Vec<Vec<f64>>) -> Rounds {
        Rounds { values }
    }

    pub fn median(&self, variant: usize) -> f64 {
        median(self.values[variant].iter().copied())
    }

    /// The least of all rounds: what the work costs when nothing disturbs it.
    pub fn least(&self, variant: usize) -> f64 {
        self.values[variant]
            .iter()
            .copied()
            .fold(f64::INFINITY, f64::min)
    }

    /// Median of the rounds' ratios to the first variant.
    pub fn ratio(&self, variant: usize) -> f64 {
        median(
            self.values[variant]
                .iter()
                .zip(&self.values[0])
                .map(|(value, bare)| value / bare),
        )
    }

    /// Median of the rounds' differences to the first variant.
    pub fn more(&self, variant: usize) -> f64 {
        median(
            self.values[variant]
                .iter()
                .zip(&self.values[0])
                .map(|(value, bare)| value - bare),
        )
    }
}

/// `yes` or `NO`, for a table's last column.
pub fn verdict(value: f64, limit: f64) -> &'static str {
    if value <= limit { "yes" } else { "NO" }
}

/// A number of rounds, or what `--rounds` says, or the few that suffice to see that the bench
/// works: `cargo test --benches` runs it without `--bench`.
pub fn rounds(usual: usize) -> usize {
    if has_flag("--rounds") {
        let word = option("--rounds").unwrap_or_default();
        let number = word.to_str().and_then(|word| word.parse().ok());
        return number
            .filter(|&number| number > 0)
            .unwrap_or_else(|| panic!("--rounds {}: not a number of rounds", word.display()));
    }
    if has_flag("--quick") || !has_flag("--bench") {
        3
    } else {
        usual
    }
}

pub fn has_flag(flag: &str) -> bool {
    env::args().any(|word| word == flag)
}

/// The word after `flag`.
pub fn option(flag: &str) -> Option<PathBuf> {
    env::args_os()
        .skip_while(|word| word != flag)
        .nth(1)
        .map(PathBuf::from)
}

/// The first of these programs that PATH has.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// A library where systems keep theirs.
pub fn library(name: &str) -> Option<PathBuf> {
    [
        "/lib/x86_64-linux-gnu",
        "/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
    ]
    .iter()
    .map(|directory| Path::new(directory).join(name))
    .find(|path| path.is_file())
}
