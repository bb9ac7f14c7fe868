//! What the ledger costs real programs: wall and user time, preloaded and
//! under `heapledger run`, against bare; and how long `run` takes to start one.

mod common;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
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
    for program in programs() {
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
        .args(["run", "-q", "--mode", "count", "-o"])
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

const FILL: &str = "create table t(id integer primary key, name text, value real, note text);
create index by_name on t(name);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 250000)
insert into t select i, 'name' || (i * 7919 % 250000), i * 0.5, hex(i) || ' some more text' from n;
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
