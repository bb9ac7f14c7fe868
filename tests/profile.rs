//! `heapledger::profile()`: programs that profile themselves, held to what they hold.
#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use common::{Output, example, has_tool, heapledger, preload_library, run, run_within, workspace};

/// Go builds its pprof on first use.
const GO_PATIENCE: Duration = Duration::from_secs(600);

/// tests/programs/profiling.rs, with side c and without.
fn builds() -> &'static [PathBuf; 2] {
    static BUILDS: OnceLock<[PathBuf; 2]> = OnceLock::new();
    BUILDS.get_or_init(|| {
        [
            example("profiling", "profiling_rust", &["--features", "profile"]),
            example(
                "profiling",
                "profiling_both",
                &["--features", "profile,interpose"],
            ),
        ]
    })
}

fn plain() -> Command {
    clean(Command::new(&builds()[0]))
}

fn with_interpose() -> Command {
    clean(Command::new(&builds()[1]))
}

fn clean(mut command: Command) -> Command {
    for name in [
        "HEAPLEDGER_MODE",
        "HEAPLEDGER_SAMPLE_BYTES",
        "HEAPLEDGER_DIR",
    ] {
        command.env_remove(name);
    }
    command
}

fn good(output: Output) -> String {
    assert_eq!(
        (output.code(), output.error.as_str()),
        (0, ""),
        "{output:?}"
    );
    output.text
}

/// One stack as profiling.rs shows it.
#[derive(Debug)]
struct Shown {
    /// Its words but the names.
    figures: String,
    /// Innermost first.
    names: Vec<String>,
}

impl Shown {
    fn has(&self, part: &str) -> bool {
        self.names.iter().any(|name| name.contains(part))
    }
}

fn stacks(text: &str) -> Vec<Shown> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("stack "));
    let shown = lines.map(|line| {
        let (figures, names) = line.rsplit_once(' ').expect("figures and names");
        Shown {
            figures: figures.to_owned(),
            names: names.split(';').map(str::to_owned).collect(),
        }
    });
    shown.collect()
}

/// Adds the figures of stacks of one side up: live bytes and blocks, allocated bytes and blocks.
fn sums(stacks: &[Shown], side: &str) -> [i64; 4] {
    let mut sums = [0; 4];
    for stack in stacks {
        let mut words = stack.figures.split(' ');
        if words.next() != Some(side) {
            continue;
        }
        let pairs = words.filter_map(|word| word.split_once('='));
        let pairs = pairs.filter(|(name, _)| ["live", "allocated"].contains(name));
        let numbers = pairs.flat_map(|(_, pair)| pair.split('/'));
        for (sum, number) in sums.iter_mut().zip(numbers) {
            *sum += number.parse::<i64>().expect("a number");
        }
    }
    sums
}

const RUST: [i64; 4] = [11_500, 13, 16_500, 18];
// 2,008 usable bytes each.
const C: [i64; 4] = [4 * 2_008, 4, 6 * 2_008, 6];

#[test]
fn the_mode_that_was_linked_in_holds_from_the_first_allocation_on() {
    let text = good(run(&mut plain()));
    assert!(
        text.starts_with("mode Sample { sample_bytes: 1 }\n"),
        "{text}"
    );
    assert!(text.contains("sees c false\nsees rust true\n"), "{text}");
    let stacks = stacks(&text);
    assert_eq!(stacks.len(), 2, "{text}");
    let of_thread = |name: &str| {
        let thread = format!(" thread={name} ");
        let found = stacks.iter().find(|stack| stack.figures.contains(&thread));
        found.unwrap_or_else(|| panic!("no stack of {name}:\n{text}"))
    };
    // The kernel cuts a name after 15 bytes.
    let main = of_thread("profiling_rust");
    assert_eq!(
        main.figures,
        "rust thread=profiling_rust live=10000/10 allocated=15000/15 samples=15 errors=0"
    );
    assert!(
        main.has("profiling::keep") && main.has("profiling::main"),
        "{main:?}"
    );
    let worker = of_thread("worker");
    assert_eq!(
        worker.figures,
        "rust thread=worker live=1500/3 allocated=1500/3 samples=3 errors=0"
    );
    assert!(
        worker.has("profiling::keep") && worker.has("start_thread"),
        "{worker:?}"
    );
}

#[test]
fn the_environment_goes_before_what_was_linked_in() {
    let text = good(run(plain().env("HEAPLEDGER_MODE", "count")));
    assert!(text.starts_with("mode Count\n"), "{text}");
    let stacks = stacks(&text);
    assert!(
        stacks
            .iter()
            .all(|stack| stack.figures.contains(" thread=- ")),
        "{text}"
    );
    assert_eq!(sums(&stacks, "rust"), RUST);

    let command = &mut plain();
    command.env("HEAPLEDGER_SAMPLE_BYTES", "4096");
    let text = good(run(command));
    assert!(
        text.starts_with("mode Sample { sample_bytes: 4096 }\n"),
        "{text}"
    );
}

#[test]
fn side_c_is_profiled_with_feature_interpose() {
    for mode in ["sample", "count"] {
        let text = good(run(with_interpose().env("HEAPLEDGER_MODE", mode)));
        assert!(text.contains("sees c true\nsees rust true\n"), "{text}");
        let stacks = stacks(&text);
        assert_eq!(
            (sums(&stacks, "c"), sums(&stacks, "rust")),
            (C, RUST),
            "{text}"
        );
        let c: Vec<&Shown> = stacks
            .iter()
            .filter(|stack| stack.figures.starts_with("c "))
            .collect();
        assert!(
            c.iter().all(|stack| stack.has("profiling::keep_c")),
            "{text}"
        );
    }
}

/// Under a recorder the recorder's mode holds, and a profile is what its report shows.
#[test]
fn under_a_recorder_a_profile_is_what_the_report_shows() {
    let directory = workspace("profile_recorded");
    let modes: [&[&str]; 2] = [&["--mode", "count"], &["--sample-bytes", "1"]];
    for (program, mode) in builds().iter().zip(modes) {
        let recording = directory.join("recording.hlr");
        let [pprof, folded] = ["own.pb.gz", "own.folded"].map(|name| directory.join(name));
        let mut command = heapledger();
        command
            .args(["run", "-q"])
            .args(mode)
            .arg("-o")
            .arg(&recording);
        command.arg("--").arg(program).args([&pprof, &folded]);
        let text = good(run(&mut command));
        let stacks = stacks(&text);
        assert_eq!(
            (sums(&stacks, "c"), sums(&stacks, "rust")),
            (C, RUST),
            "{text}"
        );
        let shown = good(run(heapledger().arg("report").arg(&recording).args([
            "--format",
            "folded",
            "--scope",
            "profiled",
            "--measure",
            "allocated",
        ])));
        // Names from inside and outside may differ where symbols are ambiguous; sums may not.
        assert_eq!(sum_of_folded(&shown), RUST[2] + C[2], "{shown}");
        let own = fs::read_to_string(&folded).unwrap();
        assert_eq!(sum_of_folded(&own), RUST[0] + C[0], "{own}");
        assert!(own.contains("profiling::keep"), "{own}");
    }
}

fn sum_of_folded(text: &str) -> i64 {
    let values = text.lines().map(|line| line.rsplit_once(' ').unwrap().1);
    values.map(|value| value.parse::<i64>().unwrap()).sum()
}

#[test]
fn without_a_ledger_it_is_an_error_and_the_program_goes_on() {
    let text = good(run(plain()
        .env("HEAPLEDGER_CHILDREN", "0")
        .env("HEAPLEDGER_RUN_PID", "1")));
    assert_eq!(
        text,
        "no profile: this process keeps no ledger\nkept 10 4 3\n"
    );
}

#[test]
fn a_preloaded_core_s_mode_holds() {
    let text = good(run(plain().env("LD_PRELOAD", preload_library())));
    assert!(text.starts_with("mode Count\n"), "{text}");
    assert_eq!(sums(&stacks(&text), "rust"), RUST);
}

fn go_tool(arguments: &[&str], file: &Path) -> String {
    let output = run_within(
        GO_PATIENCE,
        Command::new("go")
            .args(["tool", "pprof"])
            .args(arguments)
            .arg(file),
    );
    assert_eq!(output.code(), 0, "{output:?}");
    output.text
}

#[test]
fn go_tool_pprof_reads_what_a_program_wrote_of_itself() {
    let test = "go_tool_pprof_reads_what_a_program_wrote_of_itself";
    needs!(test, has_tool("go"), "go");
    let directory = workspace(test);
    let [pprof, folded] = ["own.pb.gz", "own.folded"].map(|name| directory.join(name));
    good(run(with_interpose().args([&pprof, &folded])));
    let focus = ["-nodefraction=0", "-tagfocus=scope=profiled"];
    let top = |index: &str, more: &str| {
        let unit = if index.ends_with("space") {
            "-unit=B"
        } else {
            "-unit=count"
        };
        let index = format!("-sample_index={index}");
        go_tool(
            &[&focus[..], &["-top", unit, &index, more]].concat(),
            &pprof,
        )
    };
    for (index, side, sum) in [
        ("inuse_space", "c", C[0]),
        ("inuse_space", "rust", RUST[0]),
        ("alloc_space", "c", C[2]),
        ("alloc_space", "rust", RUST[2]),
    ] {
        let text = top(index, &format!("-tagignore=side={}", other(side)));
        let total = format!("Showing nodes accounting for {sum}B");
        assert!(text.contains(&total), "{index} {side}:\n{text}");
    }
    let text = top("inuse_objects", "-cum");
    let keep = text.lines().find(|line| line.ends_with(" profiling::keep"));
    let cumulated = keep.and_then(|line| line.split_whitespace().nth(3));
    assert_eq!(cumulated, Some("13"), "{text}");
    let raw = go_tool(&["-raw"], &pprof);
    for words in [
        "side:[c]",
        "side:[rust]",
        "scope:[profiled]",
        "thread:[worker]",
        "tid:[",
    ] {
        assert!(raw.contains(words), "no {words} in\n{raw}");
    }
    assert!(
        raw.contains("alloc_objects/count alloc_space/bytes inuse_objects/count inuse_space/bytes")
    );
    assert!(raw.contains("tests/programs/profiling.rs:"), "{raw}");
}

fn other(side: &str) -> &'static str {
    if side == "c" { "rust" } else { "c" }
}

/// A server that is told to go when the test is over.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start() -> Server {
        let program = example(
            "pprof_axum",
            "pprof_axum",
            &["--features", "profile,interpose"],
        );
        let mut command = clean(Command::new(program));
        command.arg("127.0.0.1:0").stdout(Stdio::piped());
        let mut child = command.spawn().expect("the example starts");
        let mut line = String::new();
        let out = child.stdout.take().expect("its standard output");
        BufReader::new(out)
            .read_line(&mut line)
            .expect("its address");
        let address = line.trim_end().strip_suffix("/debug/pprof/heap");
        let address = address.unwrap_or_else(|| panic!("`{line}` is no address"));
        Server {
            address: address.to_owned(),
            child,
        }
    }

    fn get(&self, path: &str) -> minreq::Response {
        let answer = minreq::get(format!("{}{path}", self.address))
            .with_timeout(60)
            .send();
        let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(answer.status_code, 200, "{path}: {answer:?}");
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_shows_its_profile() {
    let test = "a_server_shows_its_profile";
    let directory = workspace(test);
    let server = Server::start();
    server.get("/decode/300");
    let answer = server.get("/debug/pprof/heap");
    let is_kind = |(name, kind): &(String, String)| {
        name == "content-type" && kind == "application/octet-stream"
    };
    assert!(answer.headers.iter().any(is_kind), "{:?}", answer.headers);
    let file = directory.join("heap.pb.gz");
    fs::write(&file, answer.as_bytes()).unwrap();
    let strings = strings_of(&file);
    for word in [
        "inuse_space",
        "alloc_space",
        "side",
        "rust",
        "scope",
        "decode",
    ] {
        assert!(strings.contains_key(word), "{word} is not in the profile");
    }
    let is_handler = |name: &String| name.contains("pprof_axum::decode");
    assert!(strings.keys().any(is_handler), "{strings:?}");

    let svg = server.get("/debug/heap.svg");
    let svg = svg.as_str().expect("text");
    assert!(svg.starts_with("<?xml") || svg.starts_with("<svg"), "{svg}");
    assert!(svg.contains("pprof_axum::decode"));

    needs!(test, has_tool("go"), "go");
    let url = format!("{}/debug/pprof/heap", server.address);
    let top = go_tool(
        &[
            "-top",
            "-cum",
            "-tagfocus=scope=decode",
            "-sample_index=inuse_space",
        ],
        Path::new(&url),
    );
    assert!(top.contains("pprof_axum::decode"), "{top}");
}

/// Gives the texts of a profile, by the field's number and length, as profile.proto has them.
fn strings_of(file: &Path) -> BTreeMap<String, usize> {
    let unpacked = run_raw(Command::new("gzip").args(["-dc"]).arg(file));
    let mut texts = BTreeMap::new();
    let mut at = 0;
    while at < unpacked.len() {
        let key = varint(&unpacked, &mut at);
        let value = varint(&unpacked, &mut at);
        if key & 7 == 2 {
            let end = at + value as usize;
            if key >> 3 == 6 {
                let text = String::from_utf8(unpacked[at..end].to_vec()).expect("text");
                let place = texts.len();
                texts.insert(text, place);
            }
            at = end;
        }
    }
    texts
}

fn varint(bytes: &[u8], at: &mut usize) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[*at];
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn run_raw(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("gzip starts");
    assert!(output.status.success(), "{output:?}");
    output.stdout
}
