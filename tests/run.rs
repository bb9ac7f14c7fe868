//! `heapledger run` from outside: exit codes, messages, what is recorded.
#![cfg(all(target_os = "linux", target_env = "gnu", feature = "cli"))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use heapledger::recording::Recording;
use heapledger::recording::model::{Outcome, Process, Site};

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn recording(&self) -> Recording {
        Recording::open(&self.path().join("r.hlr")).unwrap()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heapledger"));
        command.current_dir(self.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command()
            .args(["run", "-o", "r.hlr"])
            .args(arguments)
            .output()
            .unwrap()
    }

    fn compile(&self, name: &str, source: &str, flags: &[&str]) -> PathBuf {
        let (input, output) = (
            self.path().join(format!("{name}.c")),
            self.path().join(name),
        );
        fs::write(&input, source).unwrap();
        let status = Command::new("cc")
            .arg(&input)
            .args(["-g", "-O0", "-o"])
            .arg(&output)
            .args(flags)
            .status()
            .unwrap();
        assert!(status.success());
        output
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn live_at(recording: &Recording, process: &Process, symbol: &str) -> (i64, i64) {
    let matching = process
        .owners
        .iter()
        .filter(|owner| recording.sites[owner.site as usize].symbol.as_deref() == Some(symbol));
    matching.fold((0, 0), |sum, owner| {
        (
            sum.0 + owner.counts.live_bytes,
            sum.1 + owner.counts.live_blocks,
        )
    })
}

const HOLDER: &str = r#"
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
void *volatile kept[6000];
__attribute__((noinline)) void take(int from, int blocks, int bytes) {
    for (int i = 0; i < blocks; i++) kept[from + i] = malloc(bytes);
}
int main(int argc, char **argv) {
    take(0, 5000, 104);
    kill(getpid(), SIGKILL);
    return argc + argv[0][0];
}
"#;

#[test]
fn what_a_killed_program_held_is_exact_and_named() {
    let home = Home::new();
    home.compile("holder", HOLDER, &[]);
    let output = home.run(&["--", "./holder"]);
    assert_eq!(output.status.code(), Some(128 + 9));
    let recording = home.recording();
    assert_eq!(recording.warnings, Vec::<String>::new());
    let process = &recording.processes[0];
    assert_eq!(process.outcome, Outcome::Signal(9));
    assert_eq!(live_at(&recording, process, "take"), (5000 * 104, 5000));
    assert!(
        stderr(&output).contains("take  holder  holder.c:7"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn early_and_late_call_sites_have_their_names() {
    let home = Home::new();
    let source = "#include <stdlib.h>\n#include <unistd.h>\n\
        __attribute__((noinline)) void *early(void) { void *p = malloc(1000); return p; }\n\
        __attribute__((noinline)) void *late(void) { void *p = malloc(3000); return p; }\n\
        int main(void) { early(); usleep(500000); late(); return 0; }\n";
    let program = home.compile("twice", source, &[]);
    // Half a second is enough for the first to be named while it runs; if not, it is at the end.
    assert!(home.run(&[program.to_str().unwrap()]).status.success());
    let recording = home.recording();
    for (symbol, line) in [("early", 3), ("late", 4)] {
        let is_it = |site: &&Site| site.symbol.as_deref() == Some(symbol);
        let site = recording.sites.iter().find(is_it);
        let site = site.unwrap_or_else(|| panic!("{symbol}: {:?}", recording.sites));
        assert!(site.file.as_ref().unwrap().ends_with("twice.c"), "{site:?}");
        assert_eq!(site.line, Some(line));
    }
}

#[test]
fn streams_and_exit_code_pass_untouched() {
    let home = Home::new();
    let output = home.run(&["-q", "--", "sh", "-c", "echo out; echo err >&2; exit 42"]);
    assert_eq!(output.status.code(), Some(42));
    assert_eq!(output.stdout, b"out\n");
    assert_eq!(output.stderr, b"err\n");
}

#[test]
fn every_child_has_its_entry_and_its_outcome() {
    let home = Home::new();
    home.run(&[
        "--",
        "sh",
        "-c",
        "ls / >/dev/null & sh -c 'sleep 0.1; kill -9 $$'; (sleep 0.1; exit 7); wait",
    ]);
    let recording = home.recording();
    let root = recording.start.root_pid;
    assert_eq!(recording.processes[0].pid, root);
    let outcomes: Vec<&Outcome> = recording
        .processes
        .iter()
        .map(|process| &process.outcome)
        .collect();
    for expected in [Outcome::Signal(9), Outcome::ExitCode(7), Outcome::Exec] {
        assert!(
            outcomes.contains(&&expected),
            "{expected:?} in {outcomes:?}"
        );
    }
    let mut keys: Vec<_> = recording
        .processes
        .iter()
        .map(|process| (process.pid, process.started_s.to_bits()))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(
        keys.len(),
        recording.processes.len(),
        "an image was recorded twice"
    );
}

const SHORT_LIVES: &str = r#"
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    for (int i = 0; i < 200; i++) {
        if (fork() == 0) {
            void *volatile block = malloc(100);
            _exit(block ? i : 255);
        }
        wait(0);
    }
    return 0;
}
"#;

/// The kernel tells everybody's end to who listens in the first pid namespace as root.
fn nobody_goes_unheard() -> bool {
    const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap();
    let is_root = std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap()) == 0;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>());
    let mut number = || numbers.next().and_then(Result::ok).unwrap_or(0);
    is_root && namespace == Path::new(FIRST_PID_NAMESPACE) && (number(), number()) >= (6, 6)
}

#[test]
fn children_that_live_for_a_moment_have_their_own_outcomes() {
    let home = Home::new();
    home.compile("short", SHORT_LIVES, &[]);
    home.run(&["-q", "--", "./short"]);
    let recording = home.recording();
    assert_eq!(recording.processes.len(), 201);
    let outcomes = recording.processes[1..].iter().map(|child| &child.outcome);
    let mut codes: Vec<i32> = outcomes
        .filter_map(|outcome| match outcome {
            Outcome::ExitCode(code) => Some(*code),
            Outcome::Unknown => None,
            other => panic!("{other:?}"),
        })
        .collect();
    codes.sort_unstable();
    let known = codes.len();
    codes.dedup();
    assert_eq!(codes.len(), known, "two children have one outcome");
    assert!(
        known == 200 || !nobody_goes_unheard(),
        "only {known} of 200 are known"
    );
}

const MANY_IMAGES: &str = r#"
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv) {
    void *volatile block = malloc(100);
    if (argc > 1)
        return block ? 7 : 255;
    kill(getppid(), SIGSTOP);
    for (int i = 0; i < 20; i++) {
        if (fork() == 0) {
            block = malloc(100);
            execl(argv[0], argv[0], "again", NULL);
            _exit(254);
        }
        wait(0);
    }
    kill(getppid(), SIGCONT);
    return 0;
}
"#;

#[test]
fn what_comes_to_light_all_at_once_is_put_in_order() {
    let home = Home::new();
    home.compile("many", MANY_IMAGES, &[]);
    let output = home.run(&["-q", "--", "./many"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let processes = home.recording().processes;
    let reasons: Vec<_> = processes
        .iter()
        .filter_map(|process| process.untracked_reason.as_deref())
        .collect();
    assert_eq!(reasons, [""; 0]);
    let is_exec = |process: &&Process| process.outcome == Outcome::Exec;
    assert_eq!(processes.iter().filter(is_exec).count(), 20);
    assert_eq!(processes.len(), 1 + 2 * 20);
}

const HELD: &str = r#"
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
int main(int argc, char **argv) {
    void *volatile block = malloc(100);
    int status = 255;
    if (argc > 1)
        return block ? 7 : 255;
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        execl(argv[0], argv[0], "again", NULL);
        _exit(254);
    }
    /* Its loader has not begun. Nobody tells how often the recorder has looked meanwhile. */
    if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
        return 253;
    nanosleep(&(struct timespec){ .tv_nsec = 400000000 }, NULL);
    ptrace(PTRACE_DETACH, child, 0, 0);
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 252;
}
"#;

#[test]
fn a_program_that_is_long_in_loading_is_no_stranger() {
    let home = Home::new();
    home.compile("held", HELD, &[]);
    let output = home.run(&["-q", "--", "./held"]);
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    let processes = home.recording().processes;
    let reasons: Vec<_> = processes
        .iter()
        .map(|process| process.untracked_reason.as_deref())
        .collect();
    assert_eq!(reasons, [None; 2]);
}

#[test]
fn our_own_failures_are_told_apart() {
    let home = Home::new();
    fs::write(home.path().join("plain"), "text").unwrap();
    for (arguments, code, message) in [
        (
            &["run", "--", "no-such-program"][..],
            127,
            "heapledger: cannot run no-such-program: not found in PATH\n",
        ),
        (
            &["run", "--", "./plain"],
            126,
            "heapledger: cannot run ./plain: not executable\n",
        ),
        (
            &["run", "--abort-on-misuse", "--", "ls"],
            125,
            "needs --mode full: the other modes do not see every misuse\n",
        ),
        (
            &["run", "-o", "no/dir/r.hlr", "--", "ls"],
            125,
            "cannot write the recording no/dir/r.hlr: No such file",
        ),
        (
            &["run", "-o", "/dev/full", "--", "ls"],
            125,
            "cannot write the recording /dev/full: No space left",
        ),
        (&["run"], 125, "no program is named"),
    ] {
        let output = home.command().args(arguments).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains(message),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert_eq!(output.stdout, b"", "the program must not have run");
    }
}

#[test]
fn an_earlier_recording_is_kept() {
    let home = Home::new();
    fs::write(home.path().join("r.hlr"), "earlier").unwrap();
    home.run(&["-q", "--", "no-such-program"]);
    assert_eq!(fs::read(home.path().join("r.hlr")).unwrap(), b"earlier");
    home.run(&["-q", "--", "ls"]);
    assert_eq!(fs::read(home.path().join("r.hlr.old")).unwrap(), b"earlier");
}

#[test]
fn a_static_program_runs_untracked_and_says_so() {
    let home = Home::new();
    home.compile("static", "int main(void) { return 3; }", &["-static"]);
    let output = home.run(&["-q", "--", "./static"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        stderr(&output),
        "heapledger: cannot track ./static: statically linked; running it untracked\n"
    );
    let process = &home.recording().processes[0];
    assert_eq!(
        process.untracked_reason.as_deref(),
        Some("statically linked")
    );
    assert_eq!(process.outcome, Outcome::ExitCode(3));
}

/// Their arguments and environments lie at the same place.
#[test]
fn a_stranger_that_executes_a_tracked_program_is_told_without_address_randomisation() {
    let home = Home::new();
    // Nothing tells whom the recorder has seen; half a second is ten times what it takes.
    let stranger = r#"
        #include <unistd.h>
        int main(void) { usleep(500000); return execl("./followed", "./followed", (char *)0); }"#;
    home.compile("stranger", stranger, &["-static"]);
    let followed = "#include <unistd.h>\nint main(void) { return usleep(200000); }";
    home.compile("followed", followed, &[]);
    let output = home.run(&[
        "-q",
        "--",
        "setarch",
        "-R",
        "sh",
        "-c",
        "./stranger; exit $?",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let recording = home.recording();
    let named = |name: &str| {
        let mut processes = recording.processes.iter();
        processes.find(|process| process.exe.ends_with(name))
    };
    let stranger = named("/stranger").expect("it was seen");
    assert_eq!(
        stranger.untracked_reason.as_deref(),
        Some("statically linked")
    );
    assert_eq!(stranger.outcome, Outcome::Exec);
    let followed = named("/followed").expect("it was tracked");
    assert_eq!(followed.untracked_reason, None);
    assert_eq!(followed.pid, stranger.pid);
}

#[test]
fn without_an_environment_a_child_is_said_to_be_untracked() {
    let home = Home::new();
    // Without the kernel's reports of processes it is looked for, which takes its time beside other work.
    home.run(&["-q", "--", "sh", "-c", "env -i sleep 3"]);
    let recording = home.recording();
    let reasons: Vec<_> = recording
        .processes
        .iter()
        .filter_map(|process| process.untracked_reason.as_deref())
        .collect();
    assert_eq!(reasons, ["started without LD_PRELOAD in its environment"]);
}

#[test]
fn signals_reach_the_program_once() {
    let home = Home::new();
    let script = "trap 'n=$((n+1)); touch user' USR1; trap 'touch other' USR2; \
        trap 'exit $((n+50))' TERM; touch ready; while :; do sleep 0.02; done";
    let mut run = home
        .command()
        .args(["run", "-q", "-o", "r.hlr", "--", "bash", "-c", script])
        .spawn()
        .unwrap();
    let pid = run.id().to_string();
    wait_for(&home.path().join("ready"));
    // A second USR1 would come before the next signal, which takes the same way.
    for (signal, heard) in [
        ("-USR1", Some("user")),
        ("-USR2", Some("other")),
        ("-TERM", None),
    ] {
        Command::new("kill").args([signal, &pid]).status().unwrap();
        if let Some(heard) = heard {
            wait_for(&home.path().join(heard));
        }
    }
    assert_eq!(run.wait().unwrap().code(), Some(51));
}

#[test]
fn a_killed_recorder_leaves_what_the_ledgers_hold() {
    let home = Home::new();
    let source = HOLDER.replace(
        "kill(getpid(), SIGKILL);",
        "close(creat(\"ready\", 0600)); sleep(3);",
    );
    home.compile("holder", &source, &[]);
    let mut run = home
        .command()
        .args(["run", "-o", "r.hlr", "--", "./holder"])
        .spawn()
        .unwrap();
    wait_for(&home.path().join("ready"));
    run.kill().unwrap();
    run.wait().unwrap();
    let recording = home.recording();
    assert!(
        recording.warnings[0].starts_with("the recorder did not finish; 1 more"),
        "{:?}",
        recording.warnings
    );
    let process = &recording.processes[0];
    assert_eq!(process.outcome, Outcome::Running);
    assert_eq!(live_at(&recording, process, "take"), (5000 * 104, 5000));

    let directory = PathBuf::from(&recording.start.ledger_directory);
    let ledgers = Recording::open_any(&directory).unwrap();
    assert_eq!(
        live_at(&ledgers, &ledgers.processes[0], "take"),
        (5000 * 104, 5000)
    );
    let ledger = fs::read_dir(&directory)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    assert_eq!(Recording::open_any(&ledger).unwrap().processes.len(), 1);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn children_can_be_left_alone() {
    let home = Home::new();
    home.run(&[
        "-q",
        "--no-children",
        "--",
        "sh",
        "-c",
        "ls / > /dev/null; sleep 0.1; echo",
    ]);
    assert_eq!(home.recording().processes.len(), 1);
}

#[test]
fn the_preload_library_works_without_a_recorder() {
    let home = Home::new();
    let output = home.command().arg("preload").output().unwrap();
    let library = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let output = Command::new("ls")
        .arg("/")
        .env("LD_PRELOAD", library)
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(stderr(&output), "");
}

fn wait_for(path: &Path) {
    let began = Instant::now();
    while !path.exists() {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{} never came",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

const RUST: &str = r#"
use std::hint::black_box;
#[inline(never)]
fn hold() -> Vec<Vec<u8>> {
    (0..1000).map(|byte| vec![byte as u8; 1000]).collect()
}
fn main() {
    let zeroed: Vec<Vec<u8>> = (0..100).map(|_| vec![0; 5000]).collect();
    let mut grown = Vec::new();
    (0..1000u64).for_each(|number| grown.push(black_box(number)));
    std::mem::forget(black_box((hold(), zeroed, grown)));
}
"#;

#[test]
fn an_unmodified_rust_release_build_is_known_by_its_allocator() {
    let home = Home::new();
    fs::write(home.path().join("held.rs"), RUST).unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let built = Command::new(rustc)
        .args(["-O", "held.rs"])
        .current_dir(home.path())
        .status();
    assert!(built.unwrap().success());
    home.run(&["-q", "--", "./held"]);
    let recording = home.recording();
    let site =
        |owner: &&heapledger::recording::model::OwnerEntry| &recording.sites[owner.site as usize];
    let (rust, c): (Vec<_>, Vec<_>) = recording.processes[0]
        .owners
        .iter()
        .partition(|owner| site(owner).rust_shim);
    let live = |owners: &[&heapledger::recording::model::OwnerEntry]| {
        owners
            .iter()
            .map(|owner| owner.counts.live_bytes)
            .sum::<i64>()
    };
    assert!(
        live(&rust) >= 1000 * 1000 + 100 * 5000 + 8000,
        "{} rust, {} c",
        live(&rust),
        live(&c)
    );
    assert!(live(&c) < 16_384, "{} rust, {} c", live(&rust), live(&c));
}
