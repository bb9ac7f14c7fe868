//! The examples in Go, Python and Java, built and run: alone, with what could
//! be thought to help, booked, and with clean-ups. The bench prints what they
//! take, the test holds it to what is promised.
#![allow(dead_code)]

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};
use std::{env, fs, io, mem, thread};

/// No run takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(180);

/// The limit that clean-ups keep to.
pub const SOFT_LIMIT: &str = "256MiB";

/// One program, and what of it is measured.
pub struct Host {
    /// The language, and how frames are freed.
    pub name: &'static str,
    /// With clean-ups its peak is at most one in so many of what it is alone.
    pub at_most_one_in: f64,
    program: PathBuf,
    args: Vec<OsString>,
    /// What `run` is told to do.
    on_pressure: &'static str,
    /// A variable that could be thought to help.
    no_help: Option<(&'static str, &'static str)>,
}

/// How a program is started.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As it is.
    Alone,
    /// With a variable that could be thought to help.
    NoHelp,
    /// Under `heapledger run`, which only counts.
    Booked,
    /// Under `heapledger run` with a limit.
    CleanedUp,
}

/// What a run came to.
pub struct Figures {
    /// The highest resident set of the largest process.
    pub peak_rss_bytes: u64,
    pub seconds: f64,
    /// What it printed.
    pub text: String,
    /// What the ledger tells, where one was kept.
    pub books: Option<Books>,
}

/// What the ledger tells of the process that held most.
pub struct Books {
    pub c_peak_bytes: u64,
    pub cleanups: u64,
    pub freed_bytes: u64,
    /// The names of the reclaimers that were called, each once.
    pub reclaimers: Vec<String>,
}

// ---- the programs ----

/// Finds the first program of this name in PATH.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name)
}

fn workshop() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hosts");
    fs::create_dir_all(&directory).expect("the target directory is writable");
    directory
}

/// The first version with `runtime.AddCleanup`.
pub const GO: &str = "go 1.24 or later";
const GO_MINOR: u32 = 24;

fn is_new(go: &Path) -> bool {
    let output = Command::new(go).args(["env", "GOVERSION"]).output();
    let version = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let minor = version.ok().and_then(|version| {
        let digits = version.trim().strip_prefix("go1.")?.split(['.', 'r', 'b']);
        digits.into_iter().next()?.parse().ok()
    });
    minor.is_some_and(|minor: u32| minor >= GO_MINOR)
}

/// The `go` command, which asks no network for anything; `None` where it is missing or too old.
pub fn go(directory: &Path) -> Option<Command> {
    let program = find("go").filter(|program| is_new(program))?;
    let mut command = Command::new(program);
    command.current_dir(directory).envs([
        ("GOTOOLCHAIN", "local"),
        ("GOPROXY", "off"),
        ("GOWORK", "off"),
        ("GOFLAGS", ""),
        ("CGO_ENABLED", "1"),
    ]);
    if env::var_os("GOCACHE").is_none() {
        command.env("GOCACHE", workshop().join("go-cache"));
    }
    Some(command)
}

fn done(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{said}",
        output.status
    );
}

/// Gives Go's two variants.
///
/// # Errors
/// The name of the tool that is missing.
pub fn go_hosts() -> Result<[Host; 2], &'static str> {
    let program = workshop().join("go-frames");
    let mut build = go(&example("go-finalizer")).ok_or(GO)?;
    done(build.arg("build").arg("-o").arg(&program).arg("."));
    let host = |name, args: &[&str]| Host {
        name,
        at_most_one_in: 8.0,
        program: program.clone(),
        args: args.iter().map(OsString::from).collect(),
        // Each thread that called C has freed memory of its own, which glibc keeps.
        on_pressure: "trim",
        no_help: Some(("GOMEMLIMIT", "64MiB")),
    };
    Ok([
        host("Go, runtime.SetFinalizer", &[]),
        host("Go, runtime.AddCleanup", &["-cleanup"]),
    ])
}

/// Gives Python's program.
///
/// # Errors
/// The name of the tool that is missing.
pub fn python_host() -> Result<Host, &'static str> {
    // What PATH has may be a script that looks for an interpreter.
    let output = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .ok_or("python3")?;
    Ok(Host {
        name: "Python, ctypes and cycles",
        at_most_one_in: 4.0,
        program: String::from_utf8_lossy(&output.stdout).trim_end().into(),
        args: vec![example("python-ctypes").join("frames.py").into()],
        on_pressure: "python",
        no_help: None,
    })
}

/// Gives Java's program.
///
/// # Errors
/// The name of the tool that is missing.
pub fn java_host() -> Result<Host, &'static str> {
    let compiler = find("javac").ok_or("javac")?;
    let directory = workshop().join("java");
    let source = example("java-direct").join("Frames.java");
    done(Command::new(compiler).arg("-d").arg(&directory).arg(source));
    let args = ["-Xmx512m", "-XX:MaxDirectMemorySize=8g", "-cp"];
    Ok(Host {
        name: "Java, direct buffers",
        at_most_one_in: 4.0,
        program: find("java").ok_or("java")?,
        args: args
            .iter()
            .map(OsString::from)
            .chain([directory.into(), "Frames".into()])
            .collect(),
        on_pressure: "jvm",
        no_help: None,
    })
}

// ---- runs ----

impl Host {
    /// Gives the ways that say something of this program.
    pub fn ways(&self) -> Vec<Way> {
        let mut ways = vec![Way::Alone, Way::Booked, Way::CleanedUp];
        if self.no_help.is_some() {
            ways.insert(1, Way::NoHelp);
        }
        ways
    }

    /// Describes a run as its command line, shortened.
    pub fn describe(&self, way: Way) -> String {
        match (way, self.no_help) {
            (Way::NoHelp, Some((name, value))) => format!("{name}={value}"),
            (Way::Alone | Way::NoHelp, _) => "alone".to_owned(),
            (Way::Booked, _) => "heapledger run".to_owned(),
            (Way::CleanedUp, _) => format!(
                "heapledger run --soft-limit {SOFT_LIMIT} --on-pressure {}",
                self.on_pressure
            ),
        }
    }

    /// Runs it to its end; one at a time, for each takes gigabytes.
    pub fn run(&self, way: Way) -> Figures {
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let recording = workshop().join("hosts.hlr");
        let mut command = match way {
            Way::Alone | Way::NoHelp => Command::new(&self.program),
            Way::Booked | Way::CleanedUp => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_heapledger"));
                command.args(["run", "-q", "-o"]).arg(&recording);
                if way == Way::CleanedUp {
                    command.args([
                        "--soft-limit",
                        SOFT_LIMIT,
                        "--on-pressure",
                        self.on_pressure,
                    ]);
                }
                command.arg("--").arg(&self.program);
                command
            }
        };
        without_settings(&mut command);
        if way == Way::NoHelp {
            command.envs(self.no_help);
        }
        let mut figures = measure(command.args(&self.args));
        if matches!(way, Way::Booked | Way::CleanedUp) {
            figures.books = Some(Books::read(&recording));
        }
        figures
    }
}

fn without_settings(command: &mut Command) {
    let ours = |name: &OsString| {
        let name = name.as_encoded_bytes();
        name.starts_with(b"HEAPLEDGER_") || name == b"LD_PRELOAD" || name == b"GOMEMLIMIT"
    };
    for (name, _) in env::vars_os().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
}

#[allow(clippy::zombie_processes)] // `wait` reaps it
fn measure(command: &mut Command) -> Figures {
    let described = format!("{command:?}");
    let begun = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("{described}: {error}"));
    let group = child.id();
    let (sender, receiver) = mpsc::channel();
    let reader = |stream: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut text = String::new();
            let read = stream.map(|mut stream| stream.read_to_string(&mut text));
            read.transpose().map(|_| text)
        })
    };
    let text = reader(child.stdout.take().map(|stream| Box::new(stream) as _));
    let error = reader(child.stderr.take().map(|stream| Box::new(stream) as _));
    thread::spawn(move || sender.send(wait(&child)));
    let Ok(ended) = receiver.recv_timeout(PATIENCE) else {
        // SAFETY: a call that takes two integers; the group is the child's, which is not reaped yet.
        unsafe { libc::kill(-(group as libc::pid_t), libc::SIGKILL) };
        panic!("{described} hangs");
    };
    let seconds = begun.elapsed().as_secs_f64();
    let (status, peak_rss_bytes) = ended.expect("a child can be waited for");
    let [text, error] = [text, error].map(|reader| {
        let read = reader.join().expect("the reader does not panic");
        read.expect("a pipe can be read")
    });
    assert!(status.success(), "{described}: {status}\n{error}");
    Figures {
        peak_rss_bytes,
        seconds,
        text,
        books: None,
    }
}

/// Waits for a child; gives how it ended, and the highest resident set among it and its own children.
fn wait(child: &Child) -> io::Result<(ExitStatus, u64)> {
    let mut status = 0;
    // SAFETY: a structure of integers.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: both are ours and outlive the call; nobody else waits for this child.
    let waited = unsafe { libc::wait4(child.id() as libc::pid_t, &mut status, 0, &mut usage) };
    if waited < 0 {
        return Err(io::Error::last_os_error());
    }
    let peak_rss_bytes = usage.ru_maxrss as u64 * 1024;
    Ok((ExitStatus::from_raw(status), peak_rss_bytes))
}

impl Books {
    fn read(recording: &Path) -> Books {
        let output = Command::new(env!("CARGO_BIN_EXE_heapledger"))
            .args(["report", "--format", "json"])
            .arg(recording)
            .output()
            .expect("heapledger starts");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{}: {error}", recording.display()));
        let c_peak =
            |process: &serde_json::Value| process["totals"]["c"]["peak_live_bytes"].as_u64();
        let process = report["processes"]
            .as_array()
            .and_then(|processes| processes.iter().max_by_key(|process| c_peak(process)))
            .expect("a process was recorded");
        let pressure = &process["pressure"];
        let events = pressure["events"].as_array().map_or(&[][..], Vec::as_slice);
        let mut reclaimers: Vec<String> = events
            .iter()
            .flat_map(|event| {
                event["reclaimers"]
                    .as_array()
                    .map_or(&[][..], Vec::as_slice)
            })
            .filter_map(|call| call["name"].as_str().map(str::to_owned))
            .collect();
        reclaimers.sort();
        reclaimers.dedup();
        Books {
            c_peak_bytes: c_peak(process).expect("C's peak"),
            cleanups: pressure["cycles"].as_u64().unwrap_or(0),
            freed_bytes: pressure["freed_bytes"].as_u64().unwrap_or(0),
            reclaimers,
        }
    }
}
