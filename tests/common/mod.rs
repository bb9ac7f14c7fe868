//! What the integration tests share: they build small programs with the C
//! compiler, run them bare and recorded, and compare with what the programs'
//! first comments expect.
#![allow(dead_code)]

pub mod expectations;
pub mod report;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use expectations::Expectation;
use report::Report;

/// No program here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Gives the command under test, without what the environment could add to it.
pub fn heapledger() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heapledger"));
    for (name, _) in
        env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"HEAPLEDGER_"))
    {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1");
    command
}

/// Gives the path of the preload library, as `heapledger preload` prints it.
pub fn preload_library() -> PathBuf {
    let output = run(heapledger().arg("preload"));
    assert!(
        output.status.success(),
        "heapledger preload: {}",
        output.error
    );
    PathBuf::from(output.text.trim_end_matches('\n'))
}

/// An empty directory for one test, which keeps what it leaves for a look afterwards.
pub fn workspace(test: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("the target directory is writable");
    directory
}

/// Says that a test cannot run here. Where all tools are meant to be there, that is a failure.
pub fn skip(test: &str, missing: &str) {
    let line = format!("SKIPPED {test}: {missing} missing\n");
    assert!(
        env::var_os("CI").is_none_or(|value| value != "true"),
        "{line}"
    );
    // Not eprintln!, which the test harness would swallow.
    let _ = std::io::stderr().write_all(line.as_bytes());
    let list = Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped.txt");
    if let Ok(mut file) = fs::OpenOptions::new().create(true).append(true).open(list) {
        let _ = file.write_all(line.as_bytes());
    }
}

/// Returns from the test, as skipped, unless the condition holds.
#[macro_export]
macro_rules! needs {
    ($test:expr, $condition:expr, $missing:expr) => {
        if !$condition {
            $crate::common::skip($test, $missing);
            return;
        }
    };
}

/// Gives the imports, as `nm -D` lists them, that a glibc of 2012 does not have: one
/// such keeps its loader from starting any program with the library.
pub fn imports_newer_than_2_17(symbols: &str) -> Vec<&str> {
    let versioned: Vec<(&str, &str)> = symbols
        .lines()
        .filter_map(|line| line.split_once("@GLIBC_"))
        .collect();
    assert!(!versioned.is_empty(), "{symbols}");
    let is_newer = |version: &str| {
        let parts = version
            .split('.')
            .map(|part| part.parse().unwrap_or(u32::MAX));
        parts.collect::<Vec<_>>().as_slice() > &[2, 17]
    };
    let newer = versioned
        .into_iter()
        .filter(|(_, version)| is_newer(version));
    newer.map(|(name, _)| name).collect()
}

/// Tells whether a program is in PATH.
pub fn has_tool(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

/// What [`can_be_strict`] needs.
pub const NO_FILTER: &str = "a process without a seccomp filter";

/// Tells whether a program can enter seccomp's strict mode, which nobody below a filter
/// can, as in many containers (seccomp(2)).
pub fn can_be_strict() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines().map(str::split_whitespace);
    lines.any(|line| line.eq(["Seccomp:", "0"]))
}

/// Tells whether we may mount, chroot and change the user.
pub fn is_root() -> bool {
    fs::metadata("/proc/self")
        .is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0)
}

/// Finds a shared library that the system's linker would find, too.
pub fn find_library(names: &[&str]) -> Option<PathBuf> {
    let mut directories: Vec<PathBuf> = env::var_os("LD_LIBRARY_PATH")
        .map(|path| env::split_paths(&path).collect())
        .unwrap_or_default();
    for directory in [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
        "/usr/local/lib",
    ] {
        directories.push(PathBuf::from(directory));
    }
    names.iter().find_map(|name| {
        directories
            .iter()
            .map(|dir| dir.join(name))
            .find(|path| path.exists())
    })
}

/// Where the programs' sources are.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs")
}

/// Builds an example of this package, by cargo, and gives a copy of it called `name`.
pub fn example(example: &str, name: &str, features: &[&str]) -> PathBuf {
    // Two cargos in one target directory would wait for each other; a copy must not be overtaken.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("combinations-target");
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--no-default-features",
            "--example",
            example,
        ])
        .args(features)
        .arg("--target-dir")
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .expect("cargo starts");
    assert!(status.success(), "cargo build of {example}: {status}");
    let kept = target.join(name);
    fs::copy(target.join("debug/examples").join(example), &kept)
        .expect("the build left its program");
    kept
}

/// One call of the compiler.
pub struct Build {
    source: PathBuf,
    output: String,
    flags: Vec<OsString>,
}

/// Builds `tests/programs/NAME` (with its suffix) as a program of the same name without it.
pub fn program(source: &str) -> Build {
    let stem = source.split_once('.').map_or(source, |(stem, _)| stem);
    Build {
        source: sources().join(source),
        output: stem.to_owned(),
        flags: Vec::new(),
    }
}

/// Builds it as a shared library `libNAME.so`.
pub fn library(source: &str) -> Build {
    let stem = source.split_once('.').map_or(source, |(stem, _)| stem);
    program(source)
        .called(&format!("lib{stem}.so"))
        .flags(["-fPIC", "-shared"])
}

impl Build {
    /// Names the output.
    pub fn called(mut self, output: &str) -> Build {
        self.output = output.to_owned();
        self
    }

    /// Adds flags.
    pub fn flags<F: AsRef<OsStr>>(mut self, flags: impl IntoIterator<Item = F>) -> Build {
        self.flags
            .extend(flags.into_iter().map(|flag| flag.as_ref().to_owned()));
        self
    }

    /// Links a library and finds it where it is at run time, too.
    pub fn linked_with(self, library: &Path) -> Build {
        let directory = library
            .parent()
            .expect("a library is in a directory")
            .display();
        self.flags(["-Wl,--no-as-needed"]).flags([
            library.as_os_str().to_owned(),
            format!("-Wl,-rpath,{directory}").into(),
        ])
    }

    /// Compiles it into a directory.
    pub fn build(self, directory: &Path) -> PathBuf {
        let cpp = self
            .source
            .extension()
            .is_some_and(|extension| extension == "cpp");
        let compiler = match cpp {
            true => env::var_os("CXX").unwrap_or_else(|| "c++".into()),
            false => env::var_os("CC").unwrap_or_else(|| "cc".into()),
        };
        let output = directory.join(&self.output);
        let mut command = Command::new(compiler);
        // The compiler knows malloc's family and errno too well for programs that test them.
        command.args(["-Wall", "-Wextra", "-O1", "-g", "-pthread", "-fno-builtin"]);
        command
            .args(cpp.then_some("-std=c++17"))
            .arg("-o")
            .arg(&output)
            .arg(&self.source)
            .args(&self.flags);
        let done = command.output().expect("the C compiler starts");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(
            done.status.success() && said.is_empty(),
            "{}: {said}",
            self.source.display()
        );
        output
    }
}

/// What a command left behind.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub text: String,
    pub error: String,
}

impl Output {
    /// Gives the exit code as a shell would: 128 + N for signal N.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .or_else(|| self.status.signal().map(|signal| 128 + signal))
            .unwrap_or(-1)
    }
}

/// Runs a command to its end, in a process group of its own.
pub fn run(command: &mut Command) -> Output {
    run_within(PATIENCE, command)
}

/// The same for a command that takes longer than the small programs.
pub fn run_within(patience: Duration, command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let described = format!("{command:?}");
    let child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{described}: {error}"));
    let group = child.id();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(patience) else {
        let _ = Command::new("kill")
            .args(["-KILL", "--", &format!("-{group}")])
            .status();
        panic!("{described} hangs");
    };
    let output = output.expect("a child can be waited for");
    Output {
        status: output.status,
        text: String::from_utf8_lossy(&output.stdout).into_owned(),
        error: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// What `run` is told for each mode. With a sample every few hundred bytes, what only
/// happens now and then happens all the time.
pub const EVERY_MODE: &[&[&str]] = &[
    &["--mode", "count"],
    &["--mode", "sample", "--sample-bytes", "300"],
    &["--mode", "full"],
];

/// A program with the ledger it is expected to have.
pub struct Case {
    workspace: PathBuf,
    program: PathBuf,
    source: PathBuf,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
}

impl Case {
    /// Takes the expectations from the first comment of `tests/programs/SOURCE`.
    pub fn new(workspace: &Path, source: &str, program: PathBuf) -> Case {
        Case {
            workspace: workspace.to_owned(),
            program,
            source: sources().join(source),
            args: Vec::new(),
            envs: Vec::new(),
        }
    }

    /// Builds a program that needs no flags, in a new workspace.
    pub fn of(source: &str) -> Case {
        let build = program(source);
        let directory = workspace(&build.output);
        let program = build.build(&directory);
        Case::new(&directory, source, program)
    }

    /// Builds a program that runs over the signal-safe allocator.
    pub fn over_signal_safe_allocator(source: &str) -> Case {
        let build = program(source);
        let directory = workspace(&build.output);
        let allocator = library("signal_safe_allocator.c").build(&directory);
        let program = build.linked_with(&allocator).build(&directory);
        Case::new(&directory, source, program)
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Case {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Sets a variable, for the bare run as well.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Case {
        self.envs.push((name.into(), value.as_ref().to_owned()));
        self
    }

    fn expect_file(&self, run: &str) -> PathBuf {
        let file = self.workspace.join(format!("expect-{run}"));
        let _ = fs::remove_file(&file);
        file
    }

    /// Runs it without us.
    pub fn run_bare(&self) -> Output {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .envs(self.envs.clone())
            .env("TEST_EXPECT_FILE", self.expect_file("bare"));
        run(&mut command)
    }

    /// Runs it recorded and reads the report.
    pub fn run_recorded(&self, options: &[&str]) -> (Output, Report) {
        let recording = self.workspace.join("recording.hlr");
        let mut command = heapledger();
        command
            .args(["run", "-q"])
            .args(options)
            .arg("-o")
            .arg(&recording)
            .arg("--");
        command.arg(&self.program).args(&self.args);
        command
            .envs(self.envs.clone())
            .env("TEST_EXPECT_FILE", self.expect_file("recorded"));
        let output = run(&mut command);
        let report = Report::read(&recording).unwrap_or_else(|error| {
            panic!("{}: {error}\nafter {output:?}", self.program.display())
        });
        (output, report)
    }

    /// Gives what the program's first comment and the program itself expect.
    pub fn expectations(&self, run: &str) -> Vec<Expectation> {
        let source = fs::read_to_string(&self.source).expect("the source is there");
        let mut expectations = Expectation::of_comment(&source);
        if let Ok(said) = fs::read_to_string(self.workspace.join(format!("expect-{run}"))) {
            expectations.extend(said.lines().map(Expectation::parse));
        }
        assert!(
            !expectations.is_empty(),
            "{} expects nothing",
            self.source.display()
        );
        expectations
    }

    /// Runs it bare and recorded in every mode: the same behaviour, the expected ledger,
    /// books that add up. Gives the report of the first mode.
    pub fn check(self) -> Report {
        self.check_in(EVERY_MODE)
    }

    /// The same with options for `run`.
    pub fn check_with(self, options: &[&str]) -> Report {
        self.check_in(&[options])
    }

    /// The same in these modes.
    pub fn check_in(self, modes: &[&[&str]]) -> Report {
        let bare = self.run_bare();
        assert_ne!(
            bare.code(),
            99,
            "{} misbehaves bare: {}",
            self.program.display(),
            bare.error
        );
        let in_mode = |options: &&[&str]| {
            let (recorded, report) = self.run_recorded(options);
            assert_same_in(&bare, &recorded, options);
            self.check_report_in(&report, "recorded", options);
            report
        };
        let reports: Vec<Report> = modes.iter().map(in_mode).collect();
        reports.into_iter().next().expect("there is a mode")
    }

    /// Holds a report against the expectations.
    pub fn check_report(&self, report: &Report, run: &str) {
        self.check_report_in(report, run, &[]);
    }

    fn check_report_in(&self, report: &Report, run: &str, options: &[&str]) {
        let mut wrong = report.violations();
        for expectation in self.expectations(run) {
            wrong.extend(expectation.check(report));
        }
        assert!(
            wrong.is_empty(),
            "{} {options:?}:\n  {}\n{report}",
            self.program.display(),
            wrong.join("\n  ")
        );
    }
}

/// Holds what a program did under us against what it does bare.
pub fn assert_same(bare: &Output, recorded: &Output) {
    assert_same_in(bare, recorded, &[]);
}

fn assert_same_in(bare: &Output, recorded: &Output, options: &[&str]) {
    assert_eq!(
        recorded.text, bare.text,
        "standard output {options:?}; on standard error: {}",
        recorded.error
    );
    assert_eq!(recorded.error, bare.error, "standard error {options:?}");
    assert_eq!(recorded.code(), bare.code(), "exit code {options:?}");
}

/// Does something with each way to run the unwinder's programs, in a directory of its own.
pub fn each_shape_of_stack(directory: &Path, mut test: impl FnMut(&Path, &dyn Fn() -> Command)) {
    let [shapes, strays] = ["unwind_shapes.c", "unwind_strays.c"].map(|source| {
        program(source)
            .flags(["-O2", "-fomit-frame-pointer"])
            .build(directory)
    });
    let plugin = library("unwind_joining_plugin.c").build(directory);
    let plugin = plugin.to_str().expect("our names are text");
    let all: [(&Path, &[&str]); 8] = [
        (&shapes, &["frames"]),
        (&shapes, &["raised"]),
        // A signal stack with 4 KiB beside the kernel's frame.
        (&shapes, &["raised", "4096"]),
        (&shapes, &["coroutines"]),
        (&shapes, &["threads"]),
        // The loader's lock is held by whoever waits for the thread that allocates.
        (&shapes, &["loaded", plugin]),
        (&strays, &["iterated"]),
        (&strays, &["strays"]),
    ];
    for (program, words) in all {
        let place = directory.join(words.join("-").replace('/', "_"));
        fs::create_dir(&place).expect("the workspace is writable");
        test(&place, &|| {
            let mut command = Command::new(program);
            command.args(words);
            command
        });
    }
}
