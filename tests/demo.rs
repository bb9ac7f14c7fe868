//! `heapledger demo`: the story, its figures, and a recorder that agrees.
#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod common;

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use common::{Output, heapledger, run, workspace};
use heapledger::iocontext::Workload;
use serde_json::Value;

/// Few enough to be quick.
const FRAMES: u64 = 26;
/// Two that decode, and one that takes readings.
const THREADS: u64 = 3;
/// What a thread may hold back of a peak.
const QUANTUM_BYTES: u64 = 64 << 10;

fn demo(arguments: &[&str]) -> Output {
    run(heapledger().arg("demo").args(arguments))
}

fn figures(arguments: &[&str]) -> Value {
    let output = demo(&[&["--json", "--frames=26"], arguments].concat());
    assert_eq!(output.code(), 0, "{}", output.error);
    serde_json::from_str(&output.text).expect("one JSON object")
}

fn number(run: &Value, key: &str) -> u64 {
    let value = &run[key];
    value.as_u64().unwrap_or_else(|| panic!("{key}: {value}"))
}

#[test]
fn c_grows_in_the_blind_run_and_not_in_the_manual_one() {
    let demo = figures(&[]);
    assert_eq!(demo["schema"], "heapledger.demo/1");
    assert_eq!(demo["runs"][0]["name"], "blind");
    assert_eq!(demo["runs"][1]["name"], "pressure");
    assert_eq!(demo["runs"][2]["name"], "manual");
    let [blind, pressure, manual] = [0, 1, 2].map(|run| &demo["runs"][run]);
    for run in [blind, pressure, manual] {
        assert_eq!(number(run, "frames"), FRAMES);
        // All of them fit below the limit, so no two runs are compared.
        assert_eq!(number(run, "passes"), 1);
        assert!(
            run["seconds"].as_f64().unwrap() > 0.0 && run["frames_per_s"].as_f64().unwrap() > 0.0
        );
        // C holds megabytes, and Rust a few bytes a frame.
        assert!(number(run, "rust_peak_live_bytes") < 16 << 10, "{run}");
        let (rss, c) = (
            number(run, "rss_peak_bytes"),
            number(run, "c_peak_live_bytes"),
        );
        assert!(rss > c / 2, "{run}");
        // Looking for names afterwards takes more than this, and is not the workload's.
        assert!(rss < c + (48 << 20), "{run}");
        assert!(run["timeline"].as_array().unwrap().len() > 1);
    }
    let all_frames = number(blind, "frame_bytes");
    assert_eq!(number(manual, "frame_bytes"), all_frames);
    assert!(number(blind, "c_peak_live_bytes") >= all_frames);
    assert!(number(manual, "c_peak_live_bytes") < all_frames * 3 / 4);
    assert_eq!(number(&blind["kept"], "frames"), FRAMES);
    assert!(number(&blind["kept"], "visible_bytes") < 100 * FRAMES);

    let holder = &blind["holders"][0];
    assert_eq!(holder["side"], "c");
    assert_eq!(holder["library"], "libiocontext.so");
    assert_eq!(holder["scope"], "decode");
    assert_eq!(number(holder, "live_blocks"), FRAMES);
}

#[test]
fn a_recorder_agrees_to_the_byte() {
    let directory = workspace("demo_recorded");
    let recording = directory.join("demo.hlr");
    let output = run(heapledger()
        .args(["run", "-q", "-o"])
        .arg(&recording)
        .arg("--")
        .arg(env!("CARGO_BIN_EXE_heapledger"))
        .args(["demo", "--json", "--frames=26"]));
    assert_eq!(output.code(), 0, "{}", output.error);
    let demo: Value = serde_json::from_str(&output.text).expect("one JSON object");
    let report = run(heapledger()
        .args(["report", "--format=json"])
        .arg(&recording));
    let report: Value = serde_json::from_str(&report.text).expect("one JSON object");
    let processes = report["processes"].as_array().unwrap();
    for run in demo["runs"].as_array().unwrap() {
        let process = processes
            .iter()
            .find(|process| process["pid"] == run["pid"])
            .expect("the recorder saw the run");
        let c = &process["totals"]["c"];
        assert_eq!(c["allocated_bytes"], run["c_allocated_bytes"]);
        assert_eq!(c["allocated_blocks"], run["c_allocated_blocks"]);
        // A recorder looks from outside as well, and may catch what a thread has not published.
        for side in ["c", "rust"] {
            let inside = number(run, &format!("{side}_peak_live_bytes"));
            let outside = number(&process["totals"][side], "peak_live_bytes");
            assert!(
                outside >= inside && outside - inside <= THREADS * QUANTUM_BYTES,
                "{side}: {outside} from outside, {inside} from inside"
            );
        }
        assert_eq!(process["losses"]["foreign_frees"], 0);
    }
}

#[test]
fn one_seed_on_one_thread_allocates_the_same_each_time() {
    let once = figures(&["--threads=1", "--seed=9"]);
    let again = figures(&["--threads=1", "--seed=9"]);
    for (run, same) in [(0, 0), (2, 2)] {
        for key in ["frame_bytes", "c_allocated_blocks", "c_allocated_bytes"] {
            assert_eq!(once["runs"][run][key], again["runs"][same][key], "{key}");
        }
    }
    let other = figures(&["--threads=1", "--seed=10"]);
    assert_ne!(
        once["runs"][0]["c_allocated_bytes"],
        other["runs"][0]["c_allocated_bytes"]
    );
}

#[test]
fn pressure_holds_c_down() {
    let output = demo(&["--json", "--frames=96", "--soft-limit=128MiB"]);
    assert_eq!(output.code(), 0, "{}", output.error);
    let demo: Value = serde_json::from_str(&output.text).expect("one JSON object");
    let [blind, held, manual] = [0, 1, 2].map(|run| &demo["runs"][run]);
    assert_eq!(number(&held["pressure"], "soft_limit_bytes"), 128 << 20);
    let events = held["pressure"]["events"].as_array().unwrap();
    assert!(!events.is_empty(), "nobody cleaned up");
    assert_eq!(events[0]["trigger"], "soft_limit");
    for event in events {
        // Where more remains than 95 % of the limit, growth of 64 MiB over that is the reason.
        if event["trigger"] == "growth" {
            assert!(number(event, "before_bytes") > (128 << 20) * 95 / 100 + (64 << 20));
        } else {
            assert_eq!(event["trigger"], "soft_limit");
        }
        assert_eq!(event["reclaimers"][0]["name"], "frames");
        assert!(number(event, "before_bytes") > (128 << 20) * 8 / 10);
    }
    assert!(number(held, "c_peak_live_bytes") < number(blind, "c_peak_live_bytes"));
    assert!(number(&held["kept"], "frames") < 96);
    assert_eq!((number(blind, "frames"), number(blind, "passes")), (96, 1));
    for compared in [held, manual] {
        let (frames, passes) = (number(compared, "frames"), number(compared, "passes"));
        assert_eq!((frames, passes), (192, 2));
        let bytes = number(compared, "frame_bytes");
        assert_eq!(bytes, 2 * number(blind, "frame_bytes"));
        // What was seen lies within the time of its own turns, in order.
        let points = compared["timeline"].as_array().unwrap();
        let no_events = Vec::new();
        let events = compared["pressure"]["events"].as_array();
        for seen in [points, events.unwrap_or(&no_events)] {
            let times: Vec<f64> = seen.iter().filter_map(|one| one["t_s"].as_f64()).collect();
            assert!(times.is_sorted(), "{times:?}");
            let end = compared["seconds"].as_f64().unwrap();
            assert!(times.iter().all(|t_s| (0.0..=end).contains(t_s)), "{end}");
        }
    }
}

#[test]
fn a_cycle_keeps_its_frames_as_well() {
    let demo = figures(&["--variant=cycle", "--threads=1"]);
    let cycle = &demo["runs"][0];
    assert_eq!(cycle["name"], "cycle");
    assert!(number(cycle, "c_peak_live_bytes") >= number(cycle, "frame_bytes"));
    assert_eq!(number(&cycle["holders"][0], "live_blocks"), FRAMES);
}

#[test]
fn the_story_names_who_holds_what() {
    let output = demo(&["--frames=26"]);
    assert_eq!(output.code(), 0, "{}", output.error);
    assert_eq!(output.error, "");
    for words in [
        "26 frames decoded by a C library for a Rust program, on 2 threads",
        "26 frames in a cache",
        "blind rust",
        "manual c",
        "libiocontext.so  decode",
        "by scope",
        "heapledger run -- CMD",
    ] {
        assert!(
            output.text.contains(words),
            "`{words}` is not in\n{}",
            output.text
        );
    }
}

#[test]
fn what_cannot_be_run_is_refused_before_memory_is_taken() {
    let huge = demo(&["--frames=1048576"]);
    assert_eq!((huge.code(), huge.text.as_str()), (1, ""));
    assert_eq!(huge.error.lines().count(), 1, "{}", huge.error);
    assert!(huge.error.contains("try --frames "), "{}", huge.error);
    for wrong in [
        ["--frames=0"],
        ["--threads=0"],
        ["--threads=65"],
        ["--seed=x"],
    ] {
        let output = demo(&wrong);
        assert_eq!((output.code(), output.text.as_str()), (2, ""), "{wrong:?}");
    }
    let stray = run(heapledger().env("HEAPLEDGER_DEMO_WORKER", "nonsense"));
    assert_eq!(stray.code(), 1);
    assert!(
        stray.error.contains("for the demo alone"),
        "{}",
        stray.error
    );
}

/// A worker without a demo.
fn worker(task: &str, out: impl Into<Stdio>) -> Child {
    let workload = Workload {
        frames: 110,
        threads: 1,
        seed: 1,
    };
    let container = workload.container().unwrap();
    heapledger()
        .arg("demo")
        .env("HEAPLEDGER_DEMO_WORKER", task)
        .env("LD_PRELOAD", common::preload_library())
        .stdin(Stdio::from(container.try_clone().unwrap()))
        .stdout(out)
        .spawn()
        .unwrap()
}

#[test]
fn a_worker_at_rest_does_not_outlive_its_demo() {
    let (demo, its) = UnixStream::pair().unwrap();
    let mut worker = worker("manual 110 1 1 536870912 2", OwnedFd::from(its));
    let mut lines = BufReader::new(demo).lines();
    let rests = lines.find(|line| line.as_ref().is_ok_and(|line| line == "\"Rests\""));
    assert!(rests.is_some(), "it had no turns");
    drop(lines);
    assert_eq!(worker.wait().unwrap().code(), Some(1));
}

#[test]
fn a_worker_does_not_outlive_its_demo() {
    let mut worker = worker("blind 110 1 1 536870912 1", Stdio::piped());
    let mut out = BufReader::new(worker.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.starts_with("{\"Progress\":"), "{line}");
    // As when the demo was killed. One that has decoded everything ends with 0.
    drop(out);
    assert_eq!(worker.wait().unwrap().code(), Some(1));
}

#[test]
fn an_address_space_limit_gives_fewer_frames() {
    let mut shell = Command::new("bash");
    shell
        .args(["-c", r#"ulimit -v 600000 && exec "$0" demo --json"#])
        .arg(env!("CARGO_BIN_EXE_heapledger"))
        .stdin(Stdio::null());
    let output = run(&mut shell);
    assert_eq!(output.code(), 0, "{}", output.error);
    let demo: Value = serde_json::from_str(&output.text).expect("one JSON object");
    let frames = number(&demo, "frames");
    assert!((24..100).contains(&frames), "{frames}");
    assert_eq!(number(&demo["runs"][0], "frames"), frames);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut shell = Command::new("bash");
    shell
        .args([
            "-o",
            "pipefail",
            "-c",
            r#""$0" demo --frames=2 --json | true"#,
        ])
        .arg(env!("CARGO_BIN_EXE_heapledger"))
        .stdin(Stdio::null());
    let output = run(&mut shell);
    assert_eq!(output.code(), 0, "{}", output.error);
}
