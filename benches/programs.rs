//! What the ledger costs real programs: wall and user time, preloaded and
//! under `heapledger run`, against bare; how long `run` goes on after a program
//! has ended, and how long it takes to start one.

mod common;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, mem};

use common::{
    Ledgers, Rounds, Variant, heapledger, preload_library, rounds, tool, verdict, workshop,
};

const ROUNDS: usize = 11;
const WALL_TARGET: f64 = 1.03;
const START_TARGET_MS: f64 = 15.0;

struct Program {
    name: &'static str,
    words: Vec<String>,
}

fn main() {
    let ledgers = Ledgers::new();
    let library = preload_library();
    println!(
        "real programs, ratio to bare, median of {} interleaved rounds\n",
        rounds(ROUNDS)
    );
    println!(
        "{:30}{:>9}{:>14}{:>8}{:>12}{:>8}{:>9}  met",
        "", "bare s", "preload wall", "user", "run wall", "user", "target"
    );
    let programs = programs();
    for program in &programs {
        let [bare, preload] = [
            Variant::bare(),
            Variant::ledger("preload", library.clone(), &ledgers),
        ];
        let mut user = vec![Vec::new(); 3];
        let wall = Rounds::run(rounds(ROUNDS), 3, |which| {
            let mut command = match which {
                0 => bare.command(&program.words[0]),
                1 => preload.command(&program.words[0]),
                _ => recorded(&program.words[0]),
            };
            let times = measure(command.args(&program.words[1..]));
            ledgers.clear();
            user[which].push(times.user);
            times.wall
        });
        let user = Rounds::from(user);
        println!(
            "{:30}{:>9.2}{:>14.3}{:>8.3}{:>12.3}{:>8.3}{WALL_TARGET:>9.2}  {}",
            program.name,
            wall.median(0),
            wall.ratio(1),
            user.ratio(1),
            wall.ratio(2),
            user.ratio(2),
            verdict(wall.ratio(2), WALL_TARGET)
        );
    }
    println!();
    for program in &programs {
        let after = Rounds::run(rounds(ROUNDS), 1, |_| {
            after_the_end(recorded(&program.words[0]).args(&program.words[1..])) * 1e3
        });
        println!(
            "run goes on after {:30}{:>7.1} ms",
            program.name,
            after.median(0)
        );
    }
    let start = Rounds::run(rounds(41), 2, |which| {
        let mut command = if which == 0 {
            Variant::bare().command("true")
        } else {
            recorded("true")
        };
        measure(&mut command).wall * 1e3
    });
    println!(
        "\nstart-up: true {:.1} ms, heapledger run -- true {:.1} ms, {:.1} more (target {START_TARGET_MS})  {}",
        start.median(0),
        start.median(1),
        start.more(1),
        verdict(start.more(1), START_TARGET_MS)
    );
}

fn recorded(program: &str) -> Command {
    let mut command = heapledger();
    command
        .args(["run", "-q", "-o"])
        .arg(workshop().join("program.hlr"))
        .arg("--")
        .arg(program);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

struct Times {
    wall: f64,
    user: f64,
}

/// Runs a command to its end; its user time is that of the whole tree.
fn measure(command: &mut Command) -> Times {
    let before = children_user();
    let start = Instant::now();
    let status = command
        .stdout(Stdio::null())
        .status()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let wall = start.elapsed().as_secs_f64();
    assert!(status.success(), "{command:?}: {status}");
    Times {
        wall,
        user: children_user() - before,
    }
}

/// Measures from the end of the program that `run` started to that of `run`.
fn after_the_end(run: &mut Command) -> f64 {
    let mut run = run.stdout(Stdio::null()).spawn().expect("run starts");
    let children = format!("/proc/{0}/task/{0}/children", run.id());
    let program: libc::pid_t = loop {
        let children = fs::read_to_string(&children).expect("run goes on");
        match children.split_whitespace().next() {
            Some(pid) => break pid.parse().expect("a number"),
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    // SAFETY: the call takes two integers and gives a descriptor or -1.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, program, 0) } as libc::c_int;
    assert!(pidfd >= 0, "the program ended at once");
    let mut poll = libc::pollfd {
        fd: pidfd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry is given, and it outlives the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, -1) };
    let end = Instant::now();
    assert_eq!(ready, 1);
    let status = run.wait().expect("run ends");
    let after = end.elapsed().as_secs_f64();
    // SAFETY: the descriptor is ours, and nobody uses it any more.
    unsafe { libc::close(pidfd) };
    assert!(status.success(), "{status}");
    after
}

fn children_user() -> f64 {
    // SAFETY: getrusage fills in the structure.
    let usage = unsafe {
        let mut usage: libc::rusage = mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    };
    usage.ru_utime.tv_sec as f64 + usage.ru_utime.tv_usec as f64 / 1e6
}

fn programs() -> Vec<Program> {
    let mut programs = Vec::new();
    let mut add = |tool: Option<PathBuf>, name: &'static str, words: Vec<String>| match tool {
        Some(path) => programs.push(Program {
            name,
            words: [path.display().to_string()]
                .into_iter()
                .chain(words)
                .collect(),
        }),
        None => println!("SKIPPED {name}: the program is missing"),
    };
    add(
        tool("sqlite3"),
        "sqlite3 filling a table",
        vec![":memory:".into(), FILL.into()],
    );
    add(
        python(),
        "python3 building objects",
        vec!["-c".into(), OBJECTS.into()],
    );
    let source = generated_source(&workshop());
    let output = workshop().join("generated.o").display().to_string();
    add(
        tool("gcc"),
        "gcc compiling a file",
        vec!["-O1".into(), "-c".into(), source, "-o".into(), output],
    );
    programs
}

/// The interpreter itself, where PATH has a script that looks for one.
fn python() -> Option<PathBuf> {
    let told = Command::new(tool("python3")?)
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .ok()?;
    let path = PathBuf::from(String::from_utf8(told.stdout).ok()?.trim());
    path.is_file().then_some(path)
}

/// So many rows that the start of `run`, which has a line of its own, is a hundredth of it
/// at most.
const FILL: &str = "create table t(id integer primary key, name text, value real, note text);
create index by_name on t(name);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000000)
insert into t select i, 'name' || (i * 7919 % 1000000), i * 0.5, hex(i) || ' some more text' from n;
select count(*), sum(length(note)) from t where name > 'name5';";

const OBJECTS: &str = "
class Node:
    def __init__(self, number):
        self.name = 'node %d' % number
        self.links = [number, number + 1]
        self.facts = {'number': number, 'text': 'x' * (number % 600)}
for repeat in range(6):
    nodes = [Node(number) for number in range(60000)]
    texts = ''.join(node.facts['text'] for node in nodes)
    del nodes
";

fn generated_source(directory: &Path) -> String {
    let mut text = String::from("struct s { int a, b; double c; };\n");
    for i in 0..700 {
        writeln!(
            text,
            "int f{i}(struct s *p, int n) {{ int r = {i}; for (int k = 0; k < n; k++) {{ if (p[k].a > {i}) r += p[k].b * k; \
             else switch (p[k].b % 5) {{ case 0: r ^= k; break; case 1: r -= p[k].a; break; default: p[k].c += r; }} }} \
             return r + (int)p[n].c; }}"
        )
        .expect("text grows");
    }
    let path = directory.join("generated.c");
    fs::write(&path, text).expect("the target directory is writable");
    path.display().to_string()
}
