use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::*;

/// No clean-up here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
const MIB: i64 = 1 << 20;

/// A program under the preload library, driven from here.
struct Target {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    ledgers: tempfile::TempDir,
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Target {
    /// Starts it and waits for its first line, "ready".
    fn start(command: &mut Command, actions: Option<&str>) -> Target {
        let ledgers = tempfile::tempdir().unwrap();
        command
            .env("LD_PRELOAD", env!("HEAPLEDGER_PRELOAD"))
            .env("HEAPLEDGER_DIR", ledgers.path())
            .env_remove("HEAPLEDGER_PRESSURE")
            .envs(actions.map(|actions| ("HEAPLEDGER_PRESSURE", actions)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut target = Target {
            child,
            input,
            output,
            ledgers,
        };
        target.says("ready");
        target
    }

    fn says(&mut self, expected: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), expected);
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// The ledger of the program, or of the process that it became.
    fn ledger(&self) -> File {
        let prefix = format!("{}-", self.child.id());
        let mine = fs::read_dir(self.ledgers.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            // A launcher that executes itself leaves the books of its first image behind.
            .max_by_key(|entry| entry.metadata().unwrap().modified().unwrap())
            .expect("a ledger");
        File::open(mine.path()).unwrap()
    }

    /// Ends by itself.
    fn ends(mut self) {
        self.tell("end");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

/// Lets the program grow past what is armed, and asks for a clean-up.
fn grow_and_clean_up(target: &mut Target, words: &PressureWords) -> Pressure {
    assert!(words.has_helper().unwrap());
    let before = words.live_bytes().unwrap();
    assert!(!words.arm(before + 64 * MIB).unwrap());
    target.tell("grow");
    assert_eq!(words.wait_crossed(PATIENCE).unwrap(), layout::CROSSED_ARMED);
    target.says("grown");
    assert!(words.arm(before + 64 * MIB).unwrap(), "past it already");
    words.arm(i64::MAX).unwrap();
    words.take().unwrap();
    assert_eq!(words.read().unwrap().crossed, 0);
    words.set_level(2).unwrap();
    let number = words.request(Part::All, 2, 100 * MIB).unwrap();
    let done = words.wait_done(number, PATIENCE).unwrap().expect("done");
    assert_eq!((done.level, done.crossings), (2, 1));
    done
}

/// Finalizers free after the collector has returned.
fn falls_below(words: &PressureWords, live_bytes: i64) {
    let until = Instant::now() + PATIENCE;
    while words.live_bytes().unwrap() > live_bytes {
        assert!(Instant::now() < until, "{}", words.live_bytes().unwrap());
        // Nobody crosses what is not armed: this only paces the loop.
        words.wait_crossed(Duration::from_millis(5)).unwrap();
    }
}

fn has_tool(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

/// As `tests/common` does it: where all tools are meant to be there, that is a failure.
fn skip(test: &str, missing: &str) {
    let line = format!("SKIPPED {test}: {missing} missing\n");
    assert!(
        std::env::var_os("CI").is_none_or(|value| value != "true"),
        "{line}"
    );
    let _ = std::io::stderr().write_all(line.as_bytes());
}

const C_PROGRAM: &str = r#"
#define HEAPLEDGER_WEAK
#include <heapledger.h>
#include <stdio.h>
#include <stdlib.h>
static void *cache[20];
static int64_t drop(void *context, const struct hl_reclaim_request *request)
{
    (void)context;
    if (request->level != HL_LEVEL_HIGH || request->target_bytes != 100 << 20)
        return 0;
    int64_t freed = 0;
    for (int i = 0; i < 20; i++) {
        free(cache[i]);
        freed += cache[i] ? 8 << 20 : 0;
        cache[i] = NULL;
    }
    return freed;
}
int main(void)
{
    struct hl_reclaimer what = {sizeof what, "cache", HL_RECLAIM_CACHE, 0, drop, NULL};
    char line[64];
    uint64_t handle = HEAPLEDGER_REGISTER(&what);
    puts("ready"), fflush(stdout);
    fgets(line, sizeof line, stdin);
    for (int i = 0; i < 20; i++)
        cache[i] = malloc(8 << 20);
    puts("grown"), fflush(stdout);
    fgets(line, sizeof line, stdin);
    HEAPLEDGER_UNREGISTER(handle);
    return 0;
}
"#;

fn compile(directory: &Path) -> std::path::PathBuf {
    let source = directory.join("target.c");
    fs::write(&source, C_PROGRAM).unwrap();
    let program = directory.join("target");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = Command::new(compiler)
        .args(["-Wall", "-fno-builtin", "-Wno-unused-result", "-I"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include"))
        .arg("-o")
        .args([&program, &source])
        .status();
    assert!(status.unwrap().success());
    program
}

#[test]
fn a_reclaimer_in_c_is_driven_from_outside() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile(directory.path());
    let mut target = Target::start(&mut Command::new(program), Some("trim"));
    let words = PressureWords::open(&target.ledger()).unwrap();
    let before = words.live_bytes().unwrap();
    wait_for_helper(&words);
    let done = grow_and_clean_up(&mut target, &words);
    assert_eq!(done.claimed_bytes, 160 * MIB);
    assert_eq!(done.reclaimers, 1);
    assert_eq!(
        (done.actions, done.acted),
        (layout::ACTION_TRIM, layout::ACTION_TRIM)
    );
    falls_below(&words, before + MIB);
    target.ends();
}

/// The thread says itself that it is there, soon after it was started.
fn wait_for_helper(words: &PressureWords) {
    let until = Instant::now() + PATIENCE;
    while !words.has_helper().unwrap() {
        assert!(Instant::now() < until);
        std::thread::yield_now();
    }
}

#[test]
fn python_collects_while_its_main_thread_waits() {
    if !has_tool("python3") {
        return skip("python_collects_while_its_main_thread_waits", "python3");
    }
    let script = "
import gc, sys
gc.set_threshold(1 << 30) # on, and never by itself
class Cycle:
    def __init__(self):
        self.me, self.bytes = self, bytes(8 << 20)
print('ready', flush=True)
sys.stdin.readline()
for _ in range(20):
    Cycle()
print('grown', flush=True)
sys.stdin.readline()
";
    // Behind a shim the process may be another program at first.
    let python = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .unwrap();
    let python = String::from_utf8(python.stdout).unwrap();
    let mut target = Target::start(
        Command::new(python.trim_end()).args(["-c", script]),
        Some("python"),
    );
    let words = PressureWords::open(&target.ledger()).unwrap();
    let before = words.live_bytes().unwrap();
    wait_for_helper(&words);
    let done = grow_and_clean_up(&mut target, &words);
    assert_eq!(done.acted, layout::ACTION_PYTHON);
    falls_below(&words, before + 16 * MIB);
    // Once more, while the interpreter ends: neither may wait for the other.
    words.request(Part::All, 1, 0).unwrap();
    target.ends();
}

const JAVA_PROGRAM: &str = r#"
public class Garbage {
    public static void main(String[] arguments) throws Exception {
        var input = new java.io.BufferedReader(new java.io.InputStreamReader(System.in));
        System.out.println("ready");
        input.readLine();
        for (int i = 0; i < 20; i++)
            java.nio.ByteBuffer.allocateDirect(8 << 20);
        System.out.println("grown");
        input.readLine();
    }
}
"#;

fn a_jvm_collects(test: &str, options: &[&str]) {
    if !has_tool("java") || !has_tool("javac") {
        return skip(test, "java or javac");
    }
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("Garbage.java");
    fs::write(&source, JAVA_PROGRAM).unwrap();
    let status = Command::new("javac").arg(&source).status();
    assert!(status.unwrap().success());
    let mut target = Target::start(
        Command::new("java")
            .args(options)
            .args(["-Xmx512m", "-cp"])
            .arg(directory.path())
            .arg("Garbage"),
        Some("jvm,trim"),
    );
    let words = PressureWords::open(&target.ledger()).unwrap();
    let before = words.live_bytes().unwrap();
    wait_for_helper(&words);
    let done = grow_and_clean_up(&mut target, &words);
    assert_eq!(done.acted, layout::ACTION_JVM | layout::ACTION_TRIM);
    falls_below(&words, before + 32 * MIB);
    target.ends();
}

#[test]
fn a_jvm_collects_through_system_gc() {
    a_jvm_collects("a_jvm_collects_through_system_gc", &[]);
}

#[test]
fn a_jvm_that_disables_explicit_collections_collects_all_the_same() {
    a_jvm_collects(
        "a_jvm_that_disables_explicit_collections_collects_all_the_same",
        &["-XX:+DisableExplicitGC"],
    );
}

#[test]
fn a_ledger_that_is_cut_short_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let target = Target::start(&mut Command::new(compile(directory.path())), None);
    let ledger = target.ledger();
    let words = PressureWords::open(&ledger).unwrap();
    wait_for_helper(&words);
    // The program itself must not look at its ledger any more.
    drop(target);
    words.file.set_len(0).unwrap();
    assert!(words.read().is_err());
    assert!(words.arm(1).is_err());
    assert!(words.wait_crossed(PATIENCE).is_err());
    assert!(words.set_level(1).is_err());
    assert!(words.request(Part::All, 1, 0).is_err());
    assert!(words.change(Word::Bell, Change::Add(1)).is_err());
    assert!(words.wait(Word::Done, 0, None).is_err());
    assert!(PressureWords::open(&ledger).is_err());
}

#[test]
fn bits_that_no_version_sets_are_no_reason_to_look_again_and_again() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile(directory.path());
    let target = Target::start(&mut Command::new(program), None);
    let words = PressureWords::open(&target.ledger()).unwrap();
    let reference = Word::Crossed.reference();
    words
        .file
        .write_all_at(&0x800u32.to_ne_bytes(), reference)
        .unwrap();
    let refused = words.wait_crossed(PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn changes_are_encoded_as_the_kernel_reads_them() {
    // linux/futex.h: operation in bits 28 to 30, argument in 12 to 23.
    assert_eq!(Change::Set(3).encode(), 0x0000_3000);
    assert_eq!(Change::Add(1).encode(), 0x1000_1000);
    assert_eq!(Change::Clear(7).encode(), 0x3000_7000);
}
