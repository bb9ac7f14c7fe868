//! `heapledger run --on-pressure` from outside: what each action does to a program
//! that knows nothing of it, what is recorded, and that nothing waits for ever.
#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    feature = "cli",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use common::report::{Report, rows};
use common::{Output, has_tool, heapledger, program, run, run_within, workspace};
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// Each run waits for what it waits for; on a busy machine an interpreter alone takes its time.
const PATIENCE: Duration = Duration::from_secs(300);

fn steered() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
        let build = program("steered.c").flags([format!("-I{}", include.display())]);
        build.build(&workspace("run_pressure_program"))
    })
}

/// A run of a program, and what came of it. Growth begins a clean-up of one that held
/// nothing at 64 MiB, and 64 blocks of it are a little more.
struct Run {
    directory: PathBuf,
    options: Vec<String>,
    envs: Vec<(&'static str, String)>,
}

impl Run {
    fn new(test: &str, options: &[&str]) -> Run {
        Run {
            directory: workspace(test),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            envs: Vec::new(),
        }
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn command(&self, command: &mut Command) -> (Output, Report) {
        let recording = self.directory.join("recording.hlr");
        let mut all = heapledger();
        // What else runs on the machine makes no clean-ups here.
        all.env("MEMORY_PRESSURE_WATCH", "/dev/null")
            .envs(self.envs.clone())
            .arg("run")
            .args(&self.options)
            .arg("-o")
            .arg(&recording)
            .arg("--")
            .arg(command.get_program())
            .args(command.get_args());
        let output = run_within(PATIENCE, &mut all);
        let report = Report::read(&recording).unwrap_or_else(|error| {
            panic!("{error}\nafter {output:?}");
        });
        assert_eq!(report.violations(), [""; 0]);
        (output, report)
    }

    /// Runs the test program to a good end.
    fn steer(&self, arguments: &[&str]) -> (Output, Report) {
        let (output, report) = self.command(Command::new(steered()).args(arguments));
        assert_eq!(output.code(), 0, "{}", output.error);
        (output, report)
    }
}

fn events(process: &Value) -> Vec<&Value> {
    rows(&process["pressure"]["events"])
}

/// The only clean-up of a process.
fn event(process: &Value) -> &Value {
    let all = events(process);
    assert_eq!(all.len(), 1, "{}", process["pressure"]);
    all[0]
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

fn notes(process: &Value) -> Vec<&str> {
    let notes = rows(&process["pressure"]["notes"]);
    notes
        .into_iter()
        .map(|note| note.as_str().unwrap())
        .collect()
}

/// Who was asked, and how that ended.
fn calls(event: &Value) -> Vec<(&str, &str)> {
    rows(&event["reclaimers"])
        .into_iter()
        .map(|call| {
            (
                call["name"].as_str().unwrap(),
                call["ending"].as_str().unwrap(),
            )
        })
        .collect()
}

/// Holds that the program's blocks were live before, and came free to the last byte.
fn assert_all_freed(process: &Value, said: &str) {
    let held: u64 = said.trim().parse().expect("the bytes that it held");
    let event = event(process);
    let left = number(&process["totals"]["all"]["live_bytes"]);
    assert_eq!(number(&event["before_bytes"]), held + left, "{event}");
    assert_eq!(number(&event["freed_bytes"]), held, "{event}");
    assert_eq!(event["complete"], true);
}

fn wait_until_gone(pid: &str) {
    let is_there = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ")
            .next()
            .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
    };
    while is_there() {
        std::thread::yield_now();
    }
}

// ---- each action ----

#[test]
fn a_signal_makes_a_program_free_and_the_ledger_tells_to_the_byte() {
    let run = Run::new("pressure_signal", &["-q", "--on-pressure", "signal:USR1"]);
    let (output, report) = run.steer(&["handle", "hold", "64", "told", "calm"]);
    let root = report.root();
    assert_all_freed(root, &output.text);
    let event = event(root);
    assert_eq!(
        (&event["trigger"], &event["level"]),
        (&"growth".into(), &"moderate".into())
    );
    assert_eq!(calls(event), [("signal:USR1", "returned")]);
    assert_eq!(event["claimed_bytes"], Value::Null);
    assert_eq!(notes(root), [""; 0]);
    assert_eq!(output.error, "");
}

#[test]
fn a_program_without_a_handler_is_not_killed_by_the_signal() {
    let run = Run::new(
        "pressure_no_handler",
        &["-q", "--on-pressure", "signal:SIGUSR1"],
    );
    let (_, report) = run.steer(&["hold", "64", "pressed", "calm"]);
    assert_eq!(calls(event(report.root())), [("", ""); 0]);
    let note = "signal:USR1: not sent, since the process has no handler for it";
    assert_eq!(notes(report.root()), [note]);
}

#[test]
fn a_command_is_told_whom_it_is_about() {
    let mut run = Run::new("pressure_exec", &["-q"]);
    let told = run.file("told");
    let script = format!(
        "echo $HEAPLEDGER_PID $HEAPLEDGER_PRESSURE_LEVEL $HEAPLEDGER_LIVE_BYTES $HEAPLEDGER_TARGET_BYTES >{told}.new; \
         echo out, of; kill -USR1 $HEAPLEDGER_PID; mv {told}.new {told}"
    );
    run.options
        .extend(["--on-pressure".to_owned(), format!("exec:{script}")]);
    let (output, report) = run.steer(&["handle", "hold", "64", "told", "file", &told, "calm"]);
    let root = report.root();
    assert_all_freed(root, &output.text);
    assert_eq!(calls(event(root)), [("exec", "returned")]);
    let words = fs::read_to_string(&told).unwrap();
    let words: Vec<&str> = words.split_whitespace().collect();
    assert_eq!(words[..2], [root["pid"].to_string().as_str(), "moderate"]);
    let [live, target]: [u64; 2] = [2, 3].map(|at| words[at].parse().unwrap());
    assert!(live > 64 * MIB && target > 0, "{words:?}");
    assert_eq!(
        output.error, "out, of\n",
        "its output is no part of the program's"
    );
}

#[test]
fn a_command_that_fails_is_said_to() {
    for (command, note) in [
        ("exec:exit 3", "exec: exit code 3"),
        (
            "exec:/no/such/command",
            "exec: exit code 127: the shell found no such command",
        ),
        (
            "exec:/dev/null",
            "exec: exit code 126: the shell could not run it",
        ),
    ] {
        let run = Run::new("pressure_exec_fails", &["--on-pressure", command]);
        let (output, report) = run.steer(&["hold", "64", "pressed", "calm"]);
        assert_eq!(calls(event(report.root())), [("exec", "failed")]);
        assert_eq!(notes(report.root()), [note]);
        assert!(
            output.error.contains(&format!(
                "\n  1 clean-up freed 0 B (1 growth)\n    {note}\n"
            )),
            "{}",
            output.error
        );
    }
}

#[test]
fn a_command_that_hangs_holds_nothing_up_and_ends_with_the_program() {
    let mut run = Run::new("pressure_exec_hangs", &["-q"]);
    let pid = run.file("pid");
    let script = format!("exec:echo $$ >{pid}.new; mv {pid}.new {pid}; sleep 600");
    run.options.extend(["--on-pressure".to_owned(), script]);
    let (_, report) = run.steer(&["hold", "64", "file", &pid]);
    assert_eq!(event(report.root())["complete"], false);
    wait_until_gone(fs::read_to_string(&pid).unwrap().trim());
}

#[test]
fn a_command_past_its_deadline_is_slow_and_not_started_a_second_time() {
    let mut run = Run::new("pressure_exec_slow", &["-q"]);
    let count = run.file("count");
    let script = format!("exec:echo >>{count}; sleep 600");
    run.options.extend(["--on-pressure".to_owned(), script]);
    let (_, report) = run.steer(&["hold", "64", "pressed", "calm", "ask", "pressed", "calm"]);
    let all = events(report.root());
    assert_eq!(calls(all[0]), [("exec", "late")]);
    assert_eq!(
        (&all[1]["trigger"], calls(all[1]).len()),
        (&"asked".into(), 0)
    );
    assert!(notes(report.root()).contains(&"exec: slow"));
    assert_eq!(fs::read_to_string(&count).unwrap(), "\n");
}

#[test]
fn glibc_gives_back_what_is_free() {
    let run = Run::new("pressure_trim", &["-q", "--on-pressure", "trim"]);
    let (_, report) = run.steer(&["hold", "64", "pressed", "calm"]);
    assert_eq!(calls(event(report.root())), [("trim", "returned")]);
}

#[test]
fn who_is_no_python_and_no_jvm_is_said_to_be_none() {
    let run = Run::new("pressure_no_host", &["-q", "--on-pressure", "python,jvm"]);
    let (_, report) = run.steer(&["hold", "64", "pressed", "calm"]);
    let none = "found nothing to do it with";
    assert_eq!(
        notes(report.root()),
        [format!("python: {none}"), format!("jvm: {none}")]
    );
}

const PYTHON: &str = "
import ctypes, gc, time
gc.set_threshold(1 << 30) # on, and never by itself
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
freed = 0
class Frame:
    def __init__(self):
        self.me, self.block = self, libc.malloc(8 << 20)
    def __del__(self):
        global freed
        libc.free(self.block)
        freed += 1
made = 0
while freed == 0:
    assert made < 100
    Frame()
    made += 1
    time.sleep(0.02)
while libc.hl_pressure_level(): # until the clean-up is over
    time.sleep(0.001)
";

#[test]
fn python_collects_what_only_c_knows_is_large() {
    if !has_tool("python3") {
        return common::skip("python_collects_what_only_c_knows_is_large", "python3");
    }
    // What is found in PATH may be a script that looks for the interpreter, in eighty processes.
    let found =
        common::run(Command::new("python3").args(["-c", "import sys; print(sys.executable)"]));
    assert_eq!(found.code(), 0, "{}", found.error);
    let run = Run::new("pressure_python", &["-q", "--on-pressure", "python"]);
    let (output, report) = run.command(Command::new(found.text.trim()).args(["-c", PYTHON]));
    assert_eq!(output.code(), 0, "{}", output.error);
    let mut all = report.processes().into_iter().flat_map(events);
    let event = all.next().expect("a clean-up");
    assert_eq!(calls(event), [("python", "returned")]);
    // Eight frames; meanwhile it may have made one more.
    assert!(number(&event["freed_bytes"]) >= 7 * 8 * MIB, "{event}");
    assert!(report.root()["peak"]["live_bytes"].as_u64().unwrap() < 800 * MIB);
}

const JAVA: &str = "
public class Steered {
    public static void main(String[] arguments) throws Exception {
        var rest = new java.lang.ref.PhantomReference[1];
        var queue = new java.lang.ref.ReferenceQueue<Object>();
        for (int made = 0; queue.poll() == null; made++) {
            if (made == 100)
                System.exit(1);
            var buffer = java.nio.ByteBuffer.allocateDirect(8 << 20);
            if (made == 0)
                rest[0] = new java.lang.ref.PhantomReference<Object>(buffer, queue);
            Thread.sleep(20);
        }
        Thread.sleep(1000); // cleaners are late
    }
}
";

#[test]
fn a_jvm_collects_what_only_c_knows_is_large() {
    let test = "a_jvm_collects_what_only_c_knows_is_large";
    if !has_tool("java") || !has_tool("javac") {
        return common::skip(test, "java or javac");
    }
    let run = Run::new("pressure_jvm", &["-q", "--on-pressure", "jvm"]);
    let source = run.directory.join("Steered.java");
    fs::write(&source, JAVA).unwrap();
    assert!(
        Command::new("javac")
            .arg(&source)
            .status()
            .unwrap()
            .success()
    );
    let (output, report) = run.command(
        Command::new("java")
            .args(["-Xmx2g", "-cp"])
            .arg(&run.directory)
            .arg("Steered"),
    );
    assert_eq!(output.code(), 0, "{}", output.error);
    let mut all = report.processes().into_iter().flat_map(events);
    let freed = all.any(|event| {
        calls(event) == [("jvm", "returned")] && number(&event["freed_bytes"]) >= 32 * MIB
    });
    assert!(freed, "{}", report.root()["pressure"]);
}

#[test]
fn each_process_that_listens_as_a_service_hears_of_its_own_pressure() {
    let mut run = Run::new("pressure_systemd", &["-q", "--on-pressure", "systemd"]);
    // Replaced for the program. A file that is none of the kernel's never reports stalls.
    let silent = run.file("silent");
    fs::write(&silent, "").unwrap();
    run.envs.push(("MEMORY_PRESSURE_WATCH", silent));
    // The parent listens first and sees in the end that it was not told.
    let (output, report) = run.steer(&["listen", "fork", "listen", "hold", "64", "heed", "calm"]);
    let child = report.processes()[1];
    assert_eq!(calls(event(child)), [("systemd", "returned")]);
    assert_eq!(
        number(&event(child)["freed_bytes"]),
        output.text.trim().parse::<u64>().unwrap()
    );
    assert_eq!(events(report.root()).len(), 0);
}

#[test]
fn the_null_device_switches_the_protocol_off_and_that_is_said() {
    let run = Run::new("pressure_off", &["-q", "--on-pressure", "systemd"]);
    let (output, _) = run.steer(&["listen"]);
    assert_eq!(output.text, "off\n");
    assert_eq!(
        output.error,
        "heapledger: MEMORY_PRESSURE_WATCH=/dev/null switches memory pressure off; \
         --on-pressure systemd does nothing\n"
    );
}

// ---- what the program registers ----

#[test]
fn a_limit_alone_asks_what_the_program_registers() {
    let run = Run::new("pressure_limit", &["-q", "--soft-limit", "100MiB"]);
    let (output, report) = run.steer(&["register", "frees", "hold", "82", "told", "calm"]);
    let root = report.root();
    let event = event(root);
    assert_eq!(
        (&event["trigger"], &event["level"]),
        (&"soft_limit".into(), &"moderate".into())
    );
    assert_eq!(calls(event), [("frees", "returned")]);
    let held: u64 = output.text.trim().parse().unwrap();
    // The mark is passed by the last block or the one before it.
    let freed = number(&event["freed_bytes"]);
    assert!(
        freed <= held && number(&event["before_bytes"]) > 80 * MIB,
        "{event}"
    );
}

#[test]
fn growth_counts_beside_a_limit_only_where_it_is_asked_for() {
    let arguments = ["register", "frees", "hold", "70", "ask", "told", "calm"];
    let run = Run::new("pressure_limit_alone", &["-q", "--hard-limit", "1G"]);
    let (_, report) = run.steer(&arguments);
    assert_eq!(event(report.root())["trigger"], "asked");
    let run = Run::new(
        "pressure_limit_growth",
        &["-q", "--hard-limit", "1G", "--growth", "1"],
    );
    let (_, report) = run.steer(&["register", "frees", "hold", "70", "told", "calm"]);
    assert_eq!(event(report.root())["trigger"], "growth");
}

#[test]
fn nobody_to_ask_is_told_from_asking_in_vain() {
    let run = Run::new("pressure_nobody", &["-q", "--growth", "1"]);
    let twice = [
        "hold", "64", "pressed", "calm", "hold", "150", "pressed", "calm",
    ];
    let (_, report) = run.steer(&twice);
    assert_eq!(notes(report.root()), ["nobody_to_ask"]);
    assert!(
        events(report.root())
            .iter()
            .all(|event| calls(event).is_empty())
    );
}

#[test]
fn a_claim_that_the_ledger_contradicts_is_shown_as_such() {
    let run = Run::new("pressure_lie", &["--growth", "1"]);
    let (output, report) = run.steer(&["register", "keeps", "hold", "64", "told", "calm"]);
    let event = event(report.root());
    assert_eq!(event["reclaimers"][0]["claimed_bytes"], 300 * MIB);
    assert_eq!(
        (&event["freed_bytes"], &event["contradicted"]),
        (&0.into(), &true.into())
    );
    assert!(
        output
            .error
            .contains("reclaimers say more than came free in 1 clean-up")
    );
    let text = common::run(
        heapledger()
            .arg("report")
            .arg(run.directory.join("recording.hlr")),
    );
    assert!(
        text.text.contains("keeps says 300 MiB, freed 0 B"),
        "{}",
        text.text
    );
}

#[test]
fn who_cannot_tell_what_it_freed_is_shown_without_a_claim() {
    let run = Run::new("pressure_unknown", &["-q", "--growth", "1"]);
    let (_, report) = run.steer(&["register", "collects", "hold", "64", "told", "calm"]);
    let event = event(report.root());
    assert_eq!(calls(event), [("collects", "returned")]);
    assert_eq!(event["reclaimers"][0]["claimed_bytes"], Value::Null);
    assert_eq!(event["claimed_bytes"], Value::Null);
    assert_eq!(event["contradicted"], false);
}

#[test]
fn a_helper_that_hangs_is_slow_and_not_asked_again() {
    let run = Run::new("pressure_hang", &["-q", "--growth", "1"]);
    let (_, report) = run.steer(&[
        "register", "hangs", "hold", "64", "told", "calm", "ask", "pressed", "calm", "once",
    ]);
    let all = events(report.root());
    assert_eq!(calls(all[0]), [("hangs", "late")]);
    assert_eq!(
        (&all[1]["trigger"], calls(all[1]).len()),
        (&"asked".into(), 0)
    );
    assert!(notes(report.root()).contains(&"helper: slow"));
}

// ---- ends of all kinds ----

#[test]
fn a_target_killed_in_a_clean_up_is_no_error() {
    let run = Run::new("pressure_killed", &["-q", "--growth", "1"]);
    let arguments = ["register", "dies", "hold", "64", "told", "calm"];
    let (output, report) = run.command(Command::new(steered()).args(arguments));
    assert_eq!((output.code(), output.error.as_str()), (137, ""));
    let event = event(report.root());
    assert_eq!(event["complete"], false);
    assert_eq!(number(&event["freed_bytes"]), 0);
}

#[test]
fn a_recorder_that_is_killed_leaves_no_level_behind() {
    let directory = workspace("pressure_orphan");
    // 96 MiB of 100 are critical, and nobody frees any.
    let output = run(heapledger()
        .env("MEMORY_PRESSURE_WATCH", "/dev/null")
        .args(["run", "-q", "--soft-limit=100MiB", "-o"])
        .arg(directory.join("recording.hlr"))
        .arg("--")
        .arg(steered())
        .args(["register", "keeps", "hold", "96", "told", "pressed"])
        .args(["orphan", "calm", "free", "hold", "1"]));
    // Its output ends with the program, which has seen calm while all was still held.
    let said: Vec<&str> = output.text.lines().collect();
    assert_eq!(said.len(), 3, "{output:?}");
    fs::remove_dir_all(said[1]).expect("what the recorder has left");
}

#[test]
fn a_target_that_is_stopped_holds_nothing_up() {
    let run = Run::new("pressure_stopped", &["-q", "--growth", "1"]);
    // In a session of its own: in ours the kernel hangs up on who is stopped once its parents have ended.
    let (_, report) = run.steer(&[
        "fork", "daemon", "register", "stops", "hold", "64", "told", "calm",
    ]);
    let child = report.processes()[1];
    assert_eq!(child["outcome"]["running"], true);
    assert_eq!(event(child)["complete"], false);
    let pid = child["pid"].to_string();
    assert!(
        Command::new("kill")
            .args(["-KILL", &pid])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn a_forked_child_and_an_executed_image_are_driven_for_themselves() {
    let run = Run::new("pressure_tree", &["-q", "--on-pressure", "signal:USR1"]);
    let (output, report) = run.steer(&[
        "handle", "fork", "hold", "64", "told", "calm", "exec", "handle", "hold", "64", "told",
        "calm",
    ]);
    let processes = report.processes();
    assert_eq!(processes.len(), 3);
    assert_eq!(events(processes[0]).len(), 0);
    let said: Vec<&str> = output.text.lines().collect();
    assert_all_freed(processes[1], said[0]);
    assert_all_freed(processes[2], said[1]);
    assert_eq!(processes[1]["outcome"]["exec"], true);
    assert_eq!(processes[1]["pid"], processes[2]["pid"]);
}

// ---- mistakes ----

#[test]
fn mistakes_are_named_before_anything_runs() {
    let one_line = [
        (
            &["--soft-limit", "2G", "--hard-limit", "1G"][..],
            "heapledger: --soft-limit is above --hard-limit; the soft one comes first",
        ),
        (
            &["--soft-limit", "0"],
            "heapledger: --soft-limit 0 leaves no room for any program",
        ),
        (
            &["--hard-limit", "0 KiB", "--soft-limit", "1G"],
            "heapledger: --hard-limit 0 leaves no room for any program",
        ),
        (
            &["--soft-limit", "1G", "--refuse-past-hard-limit"],
            "heapledger: --refuse-past-hard-limit needs a --hard-limit",
        ),
        (
            &["--on-pressure", "trim", "--on-pressure", "trim"],
            "heapledger: --on-pressure: trim is one too many; each kind of action stands once",
        ),
        (
            &["--on-pressure", "signal:USR1,signal:USR2"],
            "heapledger: --on-pressure: signal:USR2 is one too many; each kind of action stands once",
        ),
        (
            &["--on-pressure", "trim,"],
            "heapledger: invalid value 'trim,' for '--on-pressure <ACTION,...>': an action is missing; \
             use trim, signal:NAME, exec:CMD, python, jvm or systemd",
        ),
        (
            &["--on-pressure", "signal:32"], // glibc's own
            "heapledger: invalid value 'signal:32' for '--on-pressure <ACTION,...>': there is no signal `32`; \
             name one as in signal:USR1 or signal:10",
        ),
        (
            &["--on-pressure", "exec:"],
            "heapledger: invalid value 'exec:' for '--on-pressure <ACTION,...>': exec: needs a command, \
             as in exec:'./drop-caches $HEAPLEDGER_PID'",
        ),
        (
            &["--on-pressure", "purge"],
            "heapledger: invalid value 'purge' for '--on-pressure <ACTION,...>': `purge` is no action; \
             use trim, signal:NAME, exec:CMD, python, jvm or systemd",
        ),
        (
            &["--on-pressure", "signal:KILL"],
            "heapledger: invalid value 'signal:KILL' for '--on-pressure <ACTION,...>': no program can handle SIGKILL; \
             name a signal that frees memory, as in signal:USR1",
        ),
        (
            &["--growth", "-1"],
            "heapledger: invalid value '-1' for '--growth <RATIO>': a ratio is a number from 0 on, as in 0.5 or 2",
        ),
        (
            &["--growth", "-inf"],
            "heapledger: invalid value '-inf' for '--growth <RATIO>': a ratio is a number from 0 on, as in 0.5 or 2",
        ),
        (
            &["--soft-limit", "-1MiB"],
            "heapledger: invalid value '-1MiB' for '--soft-limit <SIZE>': a size cannot be negative",
        ),
        (
            &["--soft-limit", "--hard-limit", "1G"],
            "heapledger: invalid value '--hard-limit' for '--soft-limit <SIZE>': \
             a size begins with a number, as in 512MiB, 2G or 1048576",
        ),
        (
            &["--hard-limit", "16777216T"],
            "heapledger: invalid value '16777216T' for '--hard-limit <SIZE>': the size does not fit 64 bits",
        ),
        (
            &["--soft-limit", "5 apples"],
            "heapledger: invalid value '5 apples' for '--soft-limit <SIZE>': unknown unit `apples`; \
             use B, K, M, G or T, or KiB, MiB, GiB or TiB",
        ),
    ];
    for (options, line) in one_line {
        let output = common::run(
            heapledger()
                .arg("run")
                .args(options)
                .args(["--", "echo", "ran"]),
        );
        assert_eq!(
            (output.code(), output.text.as_str()),
            (125, ""),
            "{options:?}"
        );
        assert_eq!(output.error, format!("{line}\n"));
    }
}
