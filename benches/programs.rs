//! What the ledger costs real programs: wall and user time, preloaded and
//! under `heapledger run`, against bare; how long `run` goes on after a program
//! has ended, and how long it takes to start one.
//!
//! Each run has a bare one just before and just after it, and its ratio is to
//! their mean: what the machine's speed does over some seconds then meets both.

mod common;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, mem};

use common::{
    Ledgers, Rounds, Variant, heapledger, preload_library, rounds, tool, verdict, workshop,
};

/// Single ratios lie 5 % apart on a machine that others use: the median of so many is within 1 %.
const ROUNDS: usize = 25;
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
        "real programs, ratio to the bare runs before and after, median and quartiles of {} rounds\n",
        rounds(ROUNDS)
    );
    println!(
        "{:26}{:>8}{:>23}{:>7}{:>23}{:>7}{:>8}  met",
        "", "bare s", "preload wall", "user", "run wall", "user", "target"
    );
    let programs = programs();
    for program in &programs {
        let [bare, preload] = [
            Variant::bare(),
            Variant::ledger("preload", library.clone(), &ledgers),
        ];
        let compared = Compared::run(rounds(ROUNDS), |way| {
            let mut command = match way {
                Way::Bare => bare.command(&program.words[0]),
                Way::Preloaded => preload.command(&program.words[0]),
                Way::Recorded => recorded(&program.words[0]),
            };
            let times = measure(command.args(&program.words[1..]));
            ledgers.clear();
            times
        });
        let [preloaded, recorded] = &compared.ratios;
        println!(
            "{:26}{:>8.2}{:>23}{:>7.3}{:>23}{:>7.3}{WALL_TARGET:>8.2}  {}",
            program.name,
            compared.bare_s,
            spread(preloaded),
            quantile(preloaded, 0.5, |times| times.user),
            spread(recorded),
            quantile(recorded, 0.5, |times| times.user),
            verdict(quantile(recorded, 0.5, |times| times.wall), WALL_TARGET)
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

#[derive(Clone, Copy)]
enum Way {
    Bare,
    Preloaded,
    Recorded,
}

#[derive(Clone, Copy)]
struct Times {
    wall: f64,
    user: f64,
}

/// Both ways beside bare.
struct Compared {
    bare_s: f64,
    ratios: [Vec<Times>; 2],
}

impl Compared {
    fn run(rounds: usize, mut measure: impl FnMut(Way) -> Times) -> Compared {
        let mut before = measure(Way::Bare);
        let mut bare = Vec::new();
        let mut ratios = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (way, ratios) in [Way::Preloaded, Way::Recorded].into_iter().zip(&mut ratios) {
                let times = measure(way);
                let after = measure(Way::Bare);
                ratios.push(Times {
                    wall: times.wall / ((before.wall + after.wall) / 2.0),
                    user: times.user / ((before.user + after.user) / 2.0),
                });
                bare.push(after);
                before = after;
            }
        }
        Compared {
            bare_s: quantile(&bare, 0.5, |times| times.wall),
            ratios,
        }
    }
}

fn quantile(times: &[Times], part: f64, which: impl Fn(&Times) -> f64) -> f64 {
    let mut values: Vec<f64> = times.iter().map(which).collect();
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * part).round() as usize]
}

/// Median and quartiles.
fn spread(times: &[Times]) -> String {
    let [low, middle, high] =
        [0.25, 0.5, 0.75].map(|part| quantile(times, part, |times| times.wall));
    format!("{middle:.3} ({low:.3} to {high:.3})")
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

/// Each program takes a second or so: of much less the start of `run`, which has a line of its
/// own, would be too large a part, and over much more the machine's speed changes.
const FILL: &str = "create table t(id integer primary key, name text, value real, note text);
create index by_name on t(name);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 400000)
insert into t select i, 'name' || (i * 7919 % 400000), i * 0.5, hex(i) || ' some more text' from n;
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
    for i in 0..300 {
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
