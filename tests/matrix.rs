//! Real programs: each behaves under `heapledger run` as it does bare, down to
//! the files that it writes, and its books add up in every process, in every mode.
//! Where a program allocates the same in any two runs, all modes have the same books.
#![cfg(all(
    feature = "cli",
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use common::report::{COUNTERS, Report, rows};
use common::{Output, assert_same, has_tool, heapledger, run_within, workspace};
use heapledger::recording::Recording;
use heapledger::recording::model::{Losses, Mode};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::{Value, json};

/// Python's own tests take the longest, and a machine may have other work.
const PATIENCE: Duration = Duration::from_secs(600);

/// A server that says nothing for so long hangs.
const SERVER_PATIENCE: Duration = Duration::from_secs(60);

/// What is recorded of each allocation; the first is what the others are held to.
const MODES: [&str; 3] = ["count", "sample", "full"];

/// Variables of no meaning, which make every mode's environment as large as any
/// other's: a shell keeps a copy of each variable.
fn filling(mode: &str) -> &'static [(&'static str, &'static str)] {
    const SAMPLE: (&str, &str) = ("MATRIX_EVENED_1", "______");
    const SAMPLE_BYTES: (&str, &str) = ("MATRIX_EVENED_OUT_BYTES", "______");
    const FULL: (&str, &str) = ("MATRIX_EVENED_2", "____");
    match mode {
        "count" => &[SAMPLE, SAMPLE_BYTES, FULL],
        "sample" => &[FULL],
        _ => &[SAMPLE, SAMPLE_BYTES],
    }
}

/// What a program needs and leaves, and what of its output varies from run to run.
struct Program {
    directory: PathBuf,
    args: Vec<String>,
    inputs: Vec<(String, String)>,
    products: Vec<&'static str>,
    tidy: fn(&str) -> String,
    repeats: Repeats,
    has_many_stacks: bool,
}

/// What of a program's books is the same in any two runs, and so in any two modes: by
/// program, or for all of them where that is empty.
type Repeats = &'static [(&'static str, &'static [&'static str])];

const EVERYTHING: Repeats = &[("", &COUNTERS)];
const NOTHING: Repeats = &[];

/// The compiler proper: whether one more block is taken for its own collector depends on
/// where memory comes to lie. What it gives back does not.
const CC1: (&str, &[&str]) = ("cc1", &["freed_blocks", "reallocs"]);

/// A process number may grow by a digit between two runs, and somebody keep it as text.
const ATTEMPTS: usize = 3;

/// The same program in each of the modes.
struct Recorded(Vec<(&'static str, Report)>);

impl Recorded {
    /// Hands over the report of each mode.
    fn each(&self, check: impl Fn(&Report)) {
        self.0.iter().for_each(|(_, report)| check(report));
    }
}

/// Gives the name of the file that a process runs.
fn name_of(process: &Value) -> &str {
    let exe = process["exe"].as_str().unwrap_or_default();
    exe.rsplit('/').next().unwrap_or_default()
}

/// Gives what is the same in any two runs, a line a process, in order.
fn repeated(report: &Report, repeats: Repeats) -> Vec<String> {
    let mut lines = Vec::new();
    for (program, counters) in repeats {
        for process in report.processes() {
            let name = name_of(process);
            // As in x86_64-linux-gnu-as.
            let is_meant =
                program.is_empty() || name == *program || name.ends_with(&format!("-{program}"));
            if !is_meant {
                continue;
            }
            let mut line = name.to_owned();
            for side in ["c", "rust"] {
                for counter in *counters {
                    let count = process["totals"][side][*counter].as_i64();
                    line += &format!(" {side}.{counter}={}", count.unwrap_or(-1));
                }
            }
            lines.push(line);
        }
    }
    lines.sort();
    lines
}

fn program<S: Into<String>>(test: &str, args: impl IntoIterator<Item = S>) -> Program {
    Program {
        directory: workspace(&format!("matrix_{test}")),
        args: args.into_iter().map(Into::into).collect(),
        inputs: Vec::new(),
        products: Vec::new(),
        tidy: str::to_owned,
        repeats: EVERYTHING,
        has_many_stacks: false,
    }
}

impl Program {
    /// Puts a file into the directory that the program starts in.
    fn input(mut self, name: impl Into<String>, content: impl Into<String>) -> Program {
        self.inputs.push((name.into(), content.into()));
        self
    }

    /// Names a file that has to come out the same.
    fn product(mut self, name: &'static str) -> Program {
        self.products.push(name);
        self
    }

    /// Says how to remove what differs between any two runs.
    fn tidied(mut self, tidy: fn(&str) -> String) -> Program {
        self.tidy = tidy;
        self
    }

    /// Says what of its books differs between any two runs.
    fn repeating(mut self, repeats: Repeats) -> Program {
        self.repeats = repeats;
        self
    }

    /// Says that hundreds of its processes have stacks by the ten thousand, so that mode
    /// full is judged by the recording, and not by a gigabyte of JSON.
    fn having_many_stacks(mut self) -> Program {
        self.has_many_stacks = true;
        self
    }

    /// Runs one command in a new directory, of the same name each time.
    fn run(&self, command: &mut Command) -> (Output, Vec<Vec<u8>>) {
        let work = self.directory.join("work");
        let _ = fs::remove_dir_all(&work);
        fs::create_dir_all(&work).expect("the workspace is writable");
        for (name, content) in &self.inputs {
            fs::write(work.join(name), content).expect("the workspace is writable");
        }
        let mut output = run_within(PATIENCE, quiet_environment(command).current_dir(&work));
        output.text = (self.tidy)(&output.text);
        output.error = (self.tidy)(&output.error);
        let read = |name: &&str| {
            fs::read(work.join(name)).unwrap_or_else(|error| panic!("{name}: {error}\n{output:?}"))
        };
        let products = self.products.iter().map(read).collect();
        (output, products)
    }

    /// Runs it bare and in every mode, compares, and checks the books.
    fn behaves_as_bare(&self) -> Recorded {
        let bare = self.run(Command::new(&self.args[0]).args(&self.args[1..]));
        let in_mode = |mode: &'static str| (mode, self.behaves_as(&bare, mode));
        let mut modes = MODES.to_vec();
        if self.has_many_stacks {
            modes.retain(|mode| *mode != "full");
            assert_all_was_recorded(&self.run_recorded(&bare, "full"));
        }
        for attempt in 1.. {
            let recorded = Recorded(modes.iter().copied().map(in_mode).collect());
            let lines = |(mode, report): &(_, _)| (*mode, repeated(report, self.repeats));
            let lines: Vec<(&str, Vec<String>)> = recorded.0.iter().map(lines).collect();
            let counted = &lines[0].1;
            let is_empty = self.repeats.is_empty();
            assert_eq!(is_empty, counted.is_empty(), "{}", recorded.0[0].1);
            if lines.iter().all(|(_, found)| found == counted) {
                return recorded;
            }
            assert!(
                attempt < ATTEMPTS,
                "the books depend on the mode: {lines:#?}"
            );
        }
        unreachable!("an attempt returns or fails")
    }

    /// Runs it in a mode, which changes nothing. Gives the recording.
    fn run_recorded(&self, (bare, bare_products): &(Output, Vec<Vec<u8>>), mode: &str) -> PathBuf {
        let recording = self.directory.join(format!("{mode}.hlr"));
        let (recorded, products) = self.run(record(&recording, mode).args(&self.args));
        assert_same(bare, &recorded);
        for (index, name) in self.products.iter().enumerate() {
            assert!(
                products[index] == bare_products[index],
                "{name} differs in mode {mode}"
            );
        }
        recording
    }

    fn behaves_as(&self, bare: &(Output, Vec<Vec<u8>>), mode: &str) -> Report {
        let recording = self.run_recorded(bare, mode);
        let report = Report::read(&recording);
        let report = report.unwrap_or_else(|error| panic!("{:?}: {error}", self.args));
        assert_recorded_in(&report, mode);
        report
    }

    /// The same for a program that must succeed to have shown anything.
    fn succeeds_as_bare(&self) -> Recorded {
        let recorded = self.behaves_as_bare();
        recorded.each(|report| {
            let outcome = &last_image(report)["outcome"];
            assert_eq!(outcome["exit_code"], 0, "{report}");
        });
        recorded
    }
}

/// Holds a recording in mode full to what a report in JSON is held to.
fn assert_all_was_recorded(recording: &Path) {
    let text = run_within(PATIENCE, heapledger().arg("report").arg(recording)).text;
    assert!(!text.contains("do not add up"), "{text}");
    let recording = Recording::open(recording).expect("it was recorded");
    let mut stacks = 0;
    for process in &recording.processes {
        if process.untracked_reason.is_none() {
            assert_eq!(process.mode, Mode::Full, "process {}", process.pid);
            assert_eq!(process.losses, Losses::default(), "process {}", process.pid);
            stacks += process.stacks.len();
        }
    }
    assert!(stacks > 0, "{text}");
}

/// Gives what the root process became: `env` and `setarch` become another program.
fn last_image(report: &Report) -> &Value {
    let pid = &report.root()["pid"];
    let mut images = report.processes().into_iter();
    let last = images.rfind(|process| process["pid"] == *pid);
    last.expect("a report has its root")
}

/// Holds a report to sums that add up, in the mode that was asked for.
fn assert_recorded_in(report: &Report, mode: &str) {
    report.assert_books_hold();
    for process in report.processes() {
        if process["tracked"] == true {
            assert_eq!(process["mode"], mode, "{report}");
        }
    }
}

/// Gives `heapledger run` up to the program's name.
fn record(recording: &Path, mode: &str) -> Command {
    let mut command = heapledger();
    command.args(["run", "-q", "--mode", mode, "-o"]);
    command.arg(recording).arg("--");
    command.envs(filling(mode).iter().copied());
    command
}

/// Takes away what could make a tool behave differently on another machine.
fn quiet_environment(command: &mut Command) -> &mut Command {
    for name in [
        "JAVA_TOOL_OPTIONS",
        "NODE_OPTIONS",
        "MAKEFLAGS",
        "MAKELEVEL",
    ] {
        command.env_remove(name);
    }
    command
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
}

/// Writes a C file of so many functions.
fn c_source(functions: usize) -> String {
    let mut source = String::from("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n");
    for index in 0..functions {
        source.push_str(&format!(
            "int work{index}(const char *text, int n)\n{{\n\
             \tint sum = {index};\n\
             \tfor (int i = 0; i < n; i++)\n\
             \t\tsum += (text[i] ^ {index}) * (i % 7) + (sum >> 3);\n\
             \tchar *copy = malloc(n + 1);\n\
             \tmemcpy(copy, text, n);\n\
             \tsum += copy[n / 2];\n\
             \tfree(copy);\n\
             \treturn sum;\n}}\n"
        ));
    }
    source
}

#[test]
fn bash_runs_pipes_subshells_and_background_jobs() {
    needs!("matrix_bash", has_tool("bash"), "bash");
    let script = r#"
set -u
for i in 1 2 3 4 5; do echo "line $i"; done | sed 's/line/row/' | sort -r
( cd / && x=inner; echo "subshell $x $PWD" )
for i in 1 2 3 4; do ( exit $((i * 3)) ) & jobs[$i]=$!; done
for i in 1 2 3 4; do wait "${jobs[$i]}"; echo "job $i: $?"; done
diff <(seq 1 5) <(seq 1 2 9) && echo same
trap 'echo trapped' USR1; kill -USR1 $$
coproc cat; echo through >&"${COPROC[1]}"; read -r -u "${COPROC[0]}" line; echo "$line"
declare -A map; for i in {1..2000}; do map[k$i]="value $i"; done; echo "${#map[@]} ${map[k77]}"
text=$(for i in {1..500}; do printf '%05d' "$i"; done); echo "${#text}"
bash -c 'kill -KILL $$'; echo "killed: $?" 2>&1
exec 2>/dev/null
exit 7
"#;
    let recorded = program("bash", ["bash", "script.sh"])
        .input("script.sh", script)
        .tidied(without_numbers_of_processes)
        .behaves_as_bare();
    recorded.each(|report| {
        assert_eq!(report.root()["outcome"]["exit_code"], 7, "{report}");
        assert!(!report.processes_of("sed").is_empty(), "{report}");
        let killed = json!({"signal": "SIGKILL"});
        let may_be = |process: &&&Value| Report::may_have_ended(process, &killed);
        let processes = report.processes_of("bash");
        assert!(processes.iter().filter(may_be).count() >= 1, "{report}");
    });
}

/// Bash names a killed child by its process id.
fn without_numbers_of_processes(text: &str) -> String {
    let line = |line: &str| match line.find(" Killed ") {
        Some(at) => line[at..].to_owned() + "\n",
        None => line.to_owned() + "\n",
    };
    text.lines().map(line).collect()
}

#[test]
fn pythons_own_tests_of_threads_and_children_pass_as_they_do_bare() {
    let Some(python) = python_with_tests() else {
        return common::skip("matrix_python", "python3 with its test package");
    };
    let mut args = vec![python.as_str(), "-m", "test", "-v", "-u", "none"];
    args.extend(["--timeout", "300", "test_threading", "test_subprocess"]);
    let recorded = program("python", args)
        .tidied(verdicts_of_python)
        .repeating(NOTHING) // tests of threads and clocks
        .having_many_stacks()
        .behaves_as_bare();
    recorded.each(|report| {
        assert!(report.processes().len() > 50, "{report}");
    });
}

#[test]
fn python_builds_and_drops_objects() {
    let Some(python) = python_with_tests() else {
        return common::skip("matrix_python_objects", "python3 with its test package");
    };
    let script = r#"
import json, re, zlib
kept = {}
for number in range(20000):
    kept['key %d' % number] = {'text': 'x' * (number % 600), 'links': [number] * (number % 7)}
    if number % 3 == 0:
        kept.pop('key %d' % (number // 2), None)
text = json.dumps(kept)
print(len(kept), len(text), zlib.crc32(text.encode()), len(re.findall('[1-9]7', text)))
"#;
    // Hashes are drawn anew each time unless they are told not to be.
    let args = ["env", "PYTHONHASHSEED=0", &python, "-S", "-B", "script.py"];
    let recorded = program("python_objects", args)
        .input("script.py", script)
        .succeeds_as_bare();
    recorded.each(|report| {
        let blocks = last_image(report)["totals"]["c"]["allocated_blocks"].as_i64();
        assert!(blocks > Some(10_000), "{report}");
    });
}

/// Finds a Python that brings its tests; the system's own first, as nobody has added to it.
fn python_with_tests() -> Option<String> {
    let print = "import sys, test.test_threading, test.test_subprocess; print(sys.executable)";
    ["/usr/bin/python3", "python3"].iter().find_map(|python| {
        let output = Command::new(python).args(["-c", print]).output().ok()?;
        let path = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| path.trim().to_owned())
    })
}

/// Keeps what failed and how many tests there were.
fn verdicts_of_python(text: &str) -> String {
    let verdict = |line: &&str| {
        [
            "FAIL: ", "ERROR: ", "Ran ", "OK", "FAILED", "SUCCESS", "Result: ",
        ]
        .iter()
        .any(|start| line.starts_with(start))
    };
    let without_time = |line: &str| match line.split_once(" in ") {
        Some((before, _)) => format!("{before}\n"),
        None => format!("{line}\n"),
    };
    text.lines().filter(verdict).map(without_time).collect()
}

#[test]
fn git_commits_clones_and_collects_garbage() {
    needs!("matrix_git", has_tool("git"), "git");
    let script = r#"
set -e
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
export GIT_AUTHOR_DATE='2024-01-01T00:00:00Z' GIT_COMMITTER_DATE='2024-01-01T00:00:00Z'
git init -q -b main origin
cd origin
for commit in 1 2 3 4 5 6; do
    for file in 1 2 3 4 5 6 7 8 9 10; do seq "$commit" "$((commit * 50 + file))" > "file$file"; done
    git add .
    git commit -q -m "commit $commit"
done
cd ..
git clone -q --no-local origin copy
cd copy
git gc -q --prune=now
git fsck --no-progress
git log --format='%H %s'
git ls-tree -r HEAD
git count-objects -v | grep -E '^(count|in-pack|packs|garbage)'
git rev-parse no-such-branch -- || echo "as expected: $?"
"#;
    let recorded = program("git", ["sh", "script.sh"])
        .input("script.sh", script)
        // What git itself allocates depends on the times of files and on hashes of addresses.
        .repeating(&[("seq", &COUNTERS), ("grep", &COUNTERS)])
        .succeeds_as_bare();
    recorded.each(|report| {
        assert!(report.processes_of("git").len() >= 18, "{report}");
    });
}

#[test]
fn gcc_compiles_a_file() {
    needs!("matrix_gcc", has_tool("gcc"), "gcc");
    // What gcc itself keeps depends on the random name of the file between the two.
    let args = ["gcc", "-O2", "-g", "-c", "file.c", "-o", "file.o"];
    let recorded = program("gcc", args)
        .input("file.c", c_source(150))
        .product("file.o")
        .repeating(&[CC1, ("as", &COUNTERS)])
        .succeeds_as_bare();
    recorded.each(|report| {
        for name in ["cc1", "as"] {
            let is = |process: &&Value| name_of(process).ends_with(name);
            let found = report.processes().into_iter().filter(is).count();
            assert_eq!(found, 1, "{name}\n{report}");
        }
        assert_eq!(report.processes().len(), 3, "gcc, cc1 and as\n{report}");
    });
}

#[test]
fn make_builds_several_files_at_once() {
    needs!("matrix_make", has_tool("make"), "make");
    needs!("matrix_make", has_tool("gcc"), "gcc");
    let makefile = "\
objects := a.o b.o c.o d.o e.o main.o
all: program
\t@./program
program: $(objects)
\t@gcc -Wl,--build-id=none -o $@ $(objects)
%.o: %.c
\t@gcc -O1 -c $< -o $@
";
    let mut make = program("make", ["make", "-j2"])
        .repeating(&[CC1, ("as", &COUNTERS), ("program", &COUNTERS)])
        .input("Makefile", makefile)
        .product("program");
    let mut main = String::from("#include <stdio.h>\n");
    let mut calls = String::new();
    for name in ["a", "b", "c", "d", "e"] {
        let source = c_source(20).replace("int work", &format!("int {name}_work"));
        make = make.input(format!("{name}.c"), source);
        main.push_str(&format!("int {name}_work7(const char *, int);\n"));
        calls.push_str(&format!(
            "\tprintf(\"%d\\n\", {name}_work7(\"{name} text\", 6));\n"
        ));
    }
    main.push_str(&format!("int main(void)\n{{\n{calls}\treturn 0;\n}}\n"));
    let recorded = make.input("main.c", main).succeeds_as_bare();
    recorded.each(|report| {
        assert_eq!(report.processes_of("cc1").len(), 6, "{report}");
        assert_eq!(report.processes_of("program").len(), 1, "{report}");
    });
}

#[test]
fn sqlite_fills_and_queries_a_table() {
    needs!("matrix_sqlite", has_tool("sqlite3"), "sqlite3");
    let script = "
create table t(id integer primary key, word text, n integer);
with recursive c(i) as (select 1 union all select i + 1 from c where i < 40000)
insert into t select i, printf('word-%08d', (i * 7919) % 40009), i % 97 from c;
create index by_word on t(word);
select n, count(*), min(word), max(word) from t group by n order by 2 desc, 1 limit 10;
update t set word = word || '-' || id where n < 10;
delete from t where n > 90;
vacuum;
select count(*), sum(id), sum(length(word)) from t;
pragma integrity_check;
select no_such_column from t;
";
    let recorded = program(
        "sqlite",
        [
            "sqlite3",
            "-init",
            "/dev/null",
            "file.db",
            ".read script.sql",
        ],
    )
    .input("script.sql", script)
    .product("file.db")
    .behaves_as_bare();
    recorded.each(|report| {
        assert_eq!(report.processes().len(), 1, "{report}");
        let library = |row: &&Value| {
            row["name"]
                .as_str()
                .is_some_and(|name| name.contains("sqlite3"))
        };
        let books = rows(&report.root()["libraries"]).into_iter().find(library);
        let blocks = books.and_then(|row| row["allocated_blocks"].as_i64());
        assert!(blocks.is_some_and(|blocks| blocks > 40_000), "{report}");
    });
}

const JAVA_SOURCE: &str = r#"
import java.nio.ByteBuffer;
import java.util.zip.Deflater;

public class Work {
    static int depth(int n) { return n == 0 ? 0 : 1 + depth(n - 1); }
    static int bottomless(int n) { return bottomless(n + 1) + 1; }
    public static void main(String[] args) throws Exception {
        long[] sums = new long[4];
        Thread[] threads = new Thread[4];
        for (int i = 0; i < threads.length; i++) {
            int id = i;
            threads[i] = new Thread(() -> {
                for (int round = 0; round < 50; round++) {
                    ByteBuffer buffer = ByteBuffer.allocateDirect(10_000);
                    buffer.putInt(0, round * id);
                    sums[id] += buffer.getInt(0);
                }
            });
            threads[i].start();
        }
        for (Thread thread : threads) thread.join();
        System.out.println(sums[1] + " " + sums[2] + " " + sums[3]);
        Deflater deflater = new Deflater();
        deflater.setInput(new byte[100_000]);
        deflater.finish();
        System.out.println(deflater.deflate(new byte[1000]));
        deflater.end();
        System.out.println(depth(5000));
        try {
            System.out.println(bottomless(0));
        } catch (StackOverflowError error) {
            System.out.println("overflow");
        }
        System.exit(3);
    }
}
"#;

#[test]
fn javac_compiles_a_class() {
    needs!("matrix_javac", has_tool("javac"), "javac");
    program("javac", ["javac", "-g", "Work.java"])
        .repeating(NOTHING) // its compiler's threads
        .input("Work.java", JAVA_SOURCE)
        .product("Work.class")
        .succeeds_as_bare();
}

#[test]
fn java_runs_threads_direct_buffers_and_deep_recursion() {
    needs!("matrix_java", has_tool("java"), "java");
    let recorded = program("java", ["java", "Work.java"])
        .repeating(NOTHING) // its compiler's threads
        .input("Work.java", JAVA_SOURCE)
        .behaves_as_bare();
    recorded.each(|report| {
        assert_eq!(report.root()["outcome"]["exit_code"], 3, "{report}");
    });
}

#[test]
fn node_runs_worker_threads() {
    needs!("matrix_node", has_tool("node"), "node");
    let script = r#"
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const zlib = require('zlib');
if (!isMainThread) {
    let sum = 0;
    const kept = [];
    for (let i = 0; i < 20000; i++) { kept.push({ i, text: 'x' + i }); sum += i % (workerData + 2); }
    for (let i = 0; i < 50; i++) sum += zlib.deflateSync(Buffer.alloc(10000, i)).length;
    parentPort.postMessage(sum);
} else {
    Promise.all([0, 1, 2, 3].map((id) => new Promise((resolve, reject) => {
        const worker = new Worker(__filename, { workerData: id });
        let sum;
        worker.on('message', (message) => { sum = message; });
        worker.on('error', reject);
        worker.on('exit', (code) => resolve(`${id}: ${sum} ${code}`));
    }))).then((lines) => { console.log(lines.join('\n')); process.exitCode = 5; });
}
"#;
    let recorded = program("node", ["node", "script.js"])
        .repeating(NOTHING) // its compiler's and collector's threads
        .input("script.js", script)
        .behaves_as_bare();
    recorded.each(|report| {
        assert_eq!(report.root()["outcome"]["exit_code"], 5, "{report}");
    });
}

#[test]
fn ffmpeg_encodes_a_test_picture() {
    needs!("matrix_ffmpeg", has_tool("ffmpeg"), "ffmpeg");
    let source = "testsrc=duration=2:size=320x240:rate=15";
    let mut args = vec![
        "ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", source,
    ];
    args.extend([
        "-fflags",
        "+bitexact",
        "-flags",
        "+bitexact",
        "-threads",
        "2",
    ]);
    args.extend(["-c:v", "mpeg4", "-y", "picture.avi", "-f", "framemd5", "-"]);
    let recorded = program("ffmpeg", args)
        .product("picture.avi")
        // Two threads hand each other as many buffers as they happen to need.
        .repeating(&[("ffmpeg", &["live_blocks", "live_bytes"])])
        .succeeds_as_bare();
    recorded.each(|report| {
        let codec = rows(&report.root()["libraries"]).into_iter().any(|row| {
            let name = row["name"].as_str().unwrap_or_default();
            name.starts_with("libavutil") || name.starts_with("libavcodec")
        });
        assert!(codec, "{report}");
    });
}

#[test]
fn stress_ng_forks_clones_and_starts_threads() {
    needs!("matrix_stress", has_tool("stress-ng"), "stress-ng");
    let mut args = vec!["stress-ng".to_owned(), "--malloc-bytes=32M".to_owned()];
    for (stressor, workers, ops) in [
        ("malloc", 2, 20_000),
        ("fork", 1, 200),
        ("vfork", 1, 200),
        ("clone", 1, 200),
        ("pthread", 2, 200),
    ] {
        args.push(format!("--{stressor}={workers}"));
        args.push(format!("--{stressor}-ops={ops}"));
    }
    args.push("--timeout=120".to_owned());
    let recorded = program("stress", args)
        .tidied(what_stress_ng_finds)
        .repeating(NOTHING) // its sizes are random
        .succeeds_as_bare();
    recorded.each(|report| {
        assert!(report.processes().len() >= 5, "{report}");
    });
}

/// Keeps failures and the verdict, without times and process ids.
fn what_stress_ng_finds(text: &str) -> String {
    let line = |line: &str| {
        let verdict = line.contains("successful run completed");
        let wrong = line.contains("fail:") || line.contains("error:") || line.contains("unsuccess");
        match (verdict, wrong) {
            (true, _) => Some("successful run completed\n".to_owned()),
            (_, true) => Some(line.to_owned() + "\n"),
            _ => None,
        }
    };
    text.lines().filter_map(line).collect()
}

/// A server and what it prints, line by line. It does not outlive the test.
struct Server {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Server {
    fn start(command: &mut Command) -> Server {
        let mut child = quiet_environment(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (sender, lines) = mpsc::channel();
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|stream| Box::new(stream) as _),
            child.stderr.take().map(|stream| Box::new(stream) as _),
        ];
        for stream in streams.into_iter().flatten() {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Server {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Waits until the server has printed a line with this text.
    fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + SERVER_PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                Err(error) => panic!("no `{text}` ({error}) in\n{}", self.seen.join("\n")),
            }
            if self.seen.last().is_some_and(|line| line.contains(text)) {
                return;
            }
        }
    }

    /// Waits until it has ended, and all who hold its output have.
    fn wait(mut self) -> ExitStatus {
        let deadline = Instant::now() + SERVER_PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(error) => panic!("does not end ({error}):\n{}", self.seen.join("\n")),
            }
        }
        self.child.wait().expect("a child can be waited for")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let group = Pid::from_child(&self.child);
            let _ = kill_process_group(group, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Runs a client, which must succeed, and gives what it prints.
fn client(program: &str, args: &[&str]) -> String {
    let output = run_within(SERVER_PATIENCE, Command::new(program).args(args));
    assert_eq!(output.code(), 0, "{program} {args:?}: {output:?}");
    output.text
}

#[test]
fn redis_serves_a_benchmark_and_saves_in_the_background() {
    needs!("matrix_redis", has_tool("redis-server"), "redis-server");
    needs!(
        "matrix_redis",
        has_tool("redis-benchmark"),
        "redis-benchmark"
    );
    let directory = workspace("matrix_redis");
    // The path of a socket is short, wherever the checkout is.
    let sockets = tempfile::tempdir().expect("there is a temporary directory");
    let socket = sockets.path().join("redis");
    let serve = |command: &mut Command| {
        let data = directory.join("data");
        let _ = fs::remove_dir_all(&data);
        fs::create_dir_all(&data).expect("the workspace is writable");
        command.args(["--port", "0", "--save", "", "--daemonize", "no"]);
        command.arg("--unixsocket").arg(&socket);
        let mut server = Server::start(command.current_dir(&data));
        server.wait_for("eady to accept connections");
        let socket = socket.to_str().expect("a path in UTF-8");
        let ask = |words: &[&str]| client("redis-cli", &[&["-s", socket], words].concat());
        let mut said = ask(&["PING"]);
        client(
            "redis-benchmark",
            &[
                "-s",
                socket,
                "-q",
                "-n",
                "4000",
                "-r",
                "1000",
                "-d",
                "200",
                "-t",
                "set,get,incr,lpush,lrange_100,mset",
            ],
        );
        said += &ask(&["SET", "key", "value"]);
        said += &ask(&["STRLEN", "no-such-key"]);
        let info = ask(&["INFO", "memory"]);
        said.extend(
            info.lines()
                .filter(|line| line.starts_with("mem_allocator")),
        );
        ask(&["BGSAVE"]);
        server.wait_for("Background saving terminated with success");
        said += &ask(&["GET", "key"]);
        let mut shutdown = Command::new("redis-cli");
        shutdown.args(["-s", socket, "SHUTDOWN", "NOSAVE"]);
        run_within(SERVER_PATIENCE, &mut shutdown);
        let status = server.wait();
        assert!(data.join("dump.rdb").is_file(), "nothing was saved");
        (said, status)
    };
    let bare = serve(&mut Command::new("redis-server"));
    assert_eq!(bare.1.code(), Some(0));
    for mode in MODES {
        let recording = directory.join(format!("{mode}.hlr"));
        let recorded = serve(record(&recording, mode).arg("redis-server"));
        assert_eq!(recorded, bare, "{mode}");
        let report = Report::read(&recording).unwrap();
        assert_recorded_in(&report, mode);
        // The server and the child that saved.
        let [root, child] = report.processes()[..] else {
            panic!("not two processes\n{report}");
        };
        assert_eq!(root["outcome"]["exit_code"], 0, "{report}");
        assert!(
            Report::may_have_ended(child, &json!({"exit_code": 0})),
            "{report}"
        );
    }
}

#[test]
fn nginx_starts_reloads_and_quits() {
    // Debian keeps it where only root looks.
    let nginx = ["/usr/sbin/nginx", "/usr/local/sbin/nginx"]
        .into_iter()
        .find(|path| Path::new(path).is_file())
        .or(has_tool("nginx").then_some("nginx"));
    let Some(nginx) = nginx else {
        return common::skip("matrix_nginx", "nginx");
    };
    let directory = workspace("matrix_nginx");
    let serve = |command: &mut Command| {
        let prefix = directory.join("prefix");
        let _ = fs::remove_dir_all(&prefix);
        fs::create_dir_all(&prefix).expect("the workspace is writable");
        let port = free_port();
        fs::write(prefix.join("nginx.conf"), nginx_conf(port)).expect("the workspace is writable");
        command
            .args(["-e", "stderr", "-c", "nginx.conf", "-p"])
            .arg(&prefix);
        let mut server = Server::start(command.current_dir(&prefix));
        // One line announces the workers, and one more names each.
        for _ in 0..3 {
            server.wait_for("start worker process");
        }
        let mut said = Vec::new();
        for _ in 0..20 {
            said.push(get(port, "/"));
        }
        let master = fs::read_to_string(prefix.join("nginx.pid")).expect("it wrote its pid");
        let master = Pid::from_raw(master.trim().parse().expect("a pid")).expect("a pid");
        kill_process(master, Signal::HUP).expect("the server lives");
        for _ in 0..3 {
            server.wait_for("start worker process");
        }
        for _ in 0..2 {
            server.wait_for("exited with code 0");
        }
        for _ in 0..20 {
            said.push(get(port, "/"));
        }
        said.push(get(port, "/missing"));
        kill_process(master, Signal::QUIT).expect("the server lives");
        (said, server.wait())
    };
    let bare = serve(&mut Command::new(nginx));
    assert_eq!(bare.1.code(), Some(0));
    for mode in MODES {
        let recording = directory.join(format!("{mode}.hlr"));
        let recorded = serve(record(&recording, mode).arg(nginx));
        assert_eq!(recorded, bare, "{mode}");
        let report = Report::read(&recording).unwrap();
        assert_recorded_in(&report, mode);
        let processes = report.processes_of("nginx");
        assert_eq!(
            processes.len(),
            5,
            "a master, two workers, two more\n{report}"
        );
        for process in processes {
            assert!(
                Report::may_have_ended(process, &json!({"exit_code": 0})),
                "{report}"
            );
        }
    }
}

/// Asks the system for a port that nobody listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback works");
    listener.local_addr().expect("it is bound").port()
}

fn nginx_conf(port: u16) -> String {
    format!(
        "daemon off;
pid nginx.pid;
error_log stderr notice;
worker_processes 2;
events {{ worker_connections 64; }}
http {{
    access_log off;
    server_tokens off;
    keepalive_timeout 0;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port};
        location = / {{ return 200 \"hello\\n\"; }}
        location / {{ return 404; }}
    }}
}}
"
    )
}

/// Fetches a page, and gives it without the date.
fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server listens");
    stream
        .set_read_timeout(Some(SERVER_PATIENCE))
        .expect("a time-out is not zero");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("the server reads");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("the server answers");
    answer
        .lines()
        .filter(|line| !line.starts_with("Date:"))
        .map(|line| line.to_owned() + "\n")
        .collect()
}
