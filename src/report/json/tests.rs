use serde_json::{Value, json};

use super::*;
use crate::analysis::fixture;
use crate::recording::Recording;
use crate::recording::model::{Losses, Outcome, TimelinePoint};

fn text(recording: &Recording) -> String {
    let mut out = Vec::new();
    write(&Report::new(recording), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn parsed(recording: &Recording) -> Value {
    serde_json::from_str(&text(recording)).unwrap()
}

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

const COUNTS: [&str; 8] = [
    "live_bytes",
    "live_blocks",
    "allocated_bytes",
    "allocated_blocks",
    "freed_bytes",
    "freed_blocks",
    "reallocs",
    "requested_bytes",
];

#[test]
fn every_key_of_the_contract_is_there_and_in_its_order() {
    let report = parsed(&fixture::recording());
    assert_eq!(report["schema"], "heapledger.report/1");
    let process = &report["processes"][0];
    let expected = "pid ppid exe args mode duration_s outcome tracked untracked_reason totals libraries sites scopes \
                    threads sizes peak timeline stacks pressure losses";
    let expected: Vec<&str> = expected.split_whitespace().collect();
    assert_eq!(keys(process)[..expected.len()], expected);
    let names = [
        "library", "symbol", "offset", "file", "line", "side", "scope",
    ];
    assert_eq!(keys(&process["sites"][0]), [&names[..], &COUNTS].concat());
    assert_eq!(
        keys(&process["libraries"][0]),
        [&["name", "path", "build_id"][..], &COUNTS].concat()
    );
    assert_eq!(
        keys(&process["scopes"][0]),
        [&["name"][..], &COUNTS].concat()
    );
    assert_eq!(
        keys(&process["threads"][0]),
        [&["tid", "name"][..], &COUNTS].concat()
    );
    assert_eq!(
        keys(&process["totals"]["c"]),
        [&COUNTS[..], &["peak_live_bytes"]].concat()
    );
    assert_eq!(
        keys(&process["sizes"]["c"]),
        ["count", "mean", "p50", "p90", "p99", "max"]
    );
    assert_eq!(keys(&process["peak"])[..3], ["live_bytes", "at_s", "sites"]);
    assert_eq!(
        keys(&process["timeline"][0]),
        ["t_s", "c_live_bytes", "rust_live_bytes", "rss_bytes"]
    );
    let losses =
        "foreign_frees samples_dropped owners_overflowed slots_overflowed invariant_violations";
    assert_eq!(
        keys(&process["losses"])[..5],
        losses.split(' ').collect::<Vec<_>>()
    );
}

#[test]
fn figures_are_exact() {
    let report = parsed(&fixture::recording());
    let process = &report["processes"][0];
    assert_eq!(
        process["totals"]["all"],
        json!({"live_bytes": 4_200_000, "live_blocks": 5_020, "allocated_bytes": 5_300_000, "allocated_blocks": 5_130,
               "freed_bytes": 1_100_000, "freed_blocks": 110, "reallocs": 0, "requested_bytes": 5_300_000,
               "peak_live_bytes": 4_700_000})
    );
    assert_eq!(
        process["sites"][0],
        json!({"library": "libcodec.so.1", "symbol": "decode_frame", "offset": 0x1234, "file": null, "line": null,
               "side": "c", "scope": "decode", "live_bytes": 4_000_000, "live_blocks": 5_000,
               "allocated_bytes": 4_000_000, "allocated_blocks": 5_000, "freed_bytes": 0, "freed_blocks": 0,
               "reallocs": 0, "requested_bytes": 4_000_000})
    );
    assert_eq!(process["libraries"][0]["build_id"], "cafe");
    assert_eq!(process["peak"]["sites"][1]["live_bytes"], 600_000);
    assert_eq!(
        process["sizes"]["rust"],
        json!({"count": 30, "mean": 10_000.0, "p50": 10_000, "p90": 10_000, "p99": 10_000, "max": 10_000})
    );
    assert_eq!(process["timeline"].as_array().unwrap().len(), 3);
    assert_eq!(
        process["pressure"],
        json!({"events": [], "cycles": 0, "freed_bytes": 0, "events_left_out": 0,
               "refused": 0, "refused_bytes": 0, "notes": []})
    );
}

#[test]
fn stacks_with_guessed_callers_say_so() {
    let mut recording = fixture::with_stacks();
    recording.processes[0].stacks[1].is_guessed = true;
    let process = &parsed(&recording)["processes"][0];
    assert_eq!(process["stacks"][0]["guessed"], Value::Null);
    assert_eq!(process["stacks"][1]["guessed"], true);
    assert_eq!(
        process["notes"],
        json!(["1 of 2 stacks lead through code without unwinding data: \
             callers there were found by frame pointers alone"])
    );
}

#[test]
fn stacks_have_their_frames_innermost_first() {
    let report = parsed(&fixture::with_stacks());
    let process = &report["processes"][0];
    assert_eq!(
        (&process["mode"], &process["stacks_exact"]),
        (&json!("full"), &json!(true))
    );
    let grow = json!({"symbol": "Vec::grow", "library": "player", "file": "/rust/vec.rs", "line": 7, "inlined": true});
    let parse = json!({"symbol": "player::parse", "library": "player", "file": "/src/player/parse.rs", "line": 42, "inlined": false});
    let main = json!({"symbol": "main", "library": "player", "file": null, "line": null, "inlined": false});
    let cut = json!({"symbol": "(truncated)", "library": null, "file": null, "line": null, "inlined": false});
    assert_eq!(
        process["stacks"][1],
        json!({"frames": [grow, parse, main, cut], "side": "rust", "scope": null, "tid": 100, "thread": "player",
               "live_bytes": 200_000, "live_blocks": 20, "allocated_bytes": 200_000, "allocated_blocks": 20,
               "samples": 20, "at_peak_bytes": 200_000, "at_peak_blocks": 20,
               "peak_bytes": 200_000, "peak_blocks": 20, "temporary_bytes": 20_000, "temporary_blocks": 2})
    );
    assert_eq!(process["stacks"][0]["scope"], "decode");
}

#[test]
fn frames_without_a_name_are_told_apart_by_their_addresses() {
    let mut recording = fixture::with_misuse();
    recording.sites[1].symbol = None;
    recording.sites[2].symbol = None;
    let report = parsed(&recording);
    let process = &report["processes"][0];
    let grow = json!({"symbol": "Vec::grow", "library": "player", "file": "/rust/vec.rs", "line": 7, "inlined": true});
    let nameless = |site: usize| {
        let site = &recording.sites[site];
        json!({"symbol": null, "library": "player", "offset": site.offset,
               "file": site.file, "line": site.line, "inlined": false})
    };
    assert_ne!(nameless(1), nameless(2));
    let stack = process["stacks"][1]["frames"].as_array().unwrap();
    assert_eq!(stack[..3], [grow.clone(), nameless(1), nameless(2)]);
    assert_eq!(stack[3]["symbol"], "(truncated)");
    assert!(stack[3].get("offset").is_none(), "that is no address");
    assert_eq!(
        process["misuse"][0]["stacks"]["freed"],
        json!([grow, nameless(1), nameless(2)])
    );
}

#[test]
fn misuse_has_both_its_ends() {
    let report = parsed(&fixture::with_misuse());
    let misuse = &report["processes"][0]["misuse"];
    let kinds: Vec<_> = misuse
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["kind"])
        .collect();
    let all = [
        "double_free",
        "free_of_unknown",
        "rust_freed_by_c",
        "c_freed_by_rust",
        "other_size",
        "free_of_unseen",
    ];
    assert_eq!(kinds, all);
    let main = json!({"symbol": "main", "library": "player", "file": null, "line": null, "inlined": false});
    let decode = json!({"symbol": "decode_frame", "library": "libcodec.so.1", "file": null, "line": null, "inlined": false});
    let grow = json!({"symbol": "Vec::grow", "library": "player", "file": "/rust/vec.rs", "line": 7, "inlined": true});
    let parse = json!({"symbol": "player::parse", "library": "player", "file": "/src/player/parse.rs", "line": 42, "inlined": false});
    assert_eq!(
        misuse[0],
        json!({"kind": "double_free", "address": "0x55d000001000", "call": "free", "bytes": 1_000,
               "inside_bytes": null, "said_bytes": null, "certain": true,
               "count": 3, "t_s": 0.5, "tid": 100, "thread": "player",
               "stacks": {"allocated": [decode, main], "first_freed": [main], "freed": [grow, parse, main]}})
    );
    let certain: Vec<_> = misuse
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["certain"])
        .collect();
    assert_eq!(certain, [true, false, true, true, true, false]);
    assert_eq!(misuse[1]["inside_bytes"], 16);
    assert_eq!(misuse[1]["stacks"].get("first_freed"), None);
}

#[test]
fn without_stacks_call_sites_are_stacks_of_one_frame() {
    let report = parsed(&fixture::recording());
    let process = &report["processes"][0];
    let sum = |list: &str, key: &str| {
        let rows = process[list].as_array().unwrap().iter();
        rows.map(|row| row[key].as_i64().unwrap()).sum::<i64>()
    };
    for key in COUNTS[..4].iter() {
        assert_eq!(sum("stacks", key), sum("sites", key), "{key}");
    }
    let unnamed = &process["stacks"][2]["frames"][0];
    assert_eq!(
        (&unnamed["symbol"], &unnamed["library"]),
        (&Value::Null, &json!("player"))
    );
}

#[test]
fn a_filter_is_told_and_leaves_the_totals() {
    let recording = fixture::recording();
    let filter = Filter {
        library: Some("libcodec".into()),
        ..Filter::default()
    };
    let mut report = Report::new(&recording);
    report.narrow(&filter).unwrap();
    let mut out = Vec::new();
    write_with(&Stacks::new(&report, &filter, By::Scope).unwrap(), &mut out).unwrap();
    let json: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(json["filter"]["library"], "libcodec");
    let process = &json["processes"][0];
    assert_eq!(process["totals"]["all"]["live_bytes"], 4_200_000);
    assert_eq!(process["sites"].as_array().unwrap().len(), 1);
    assert_eq!(process["stacks"].as_array().unwrap().len(), 1);
    assert_eq!(process["stacks"][0]["frames"][1]["symbol"], "decode");
}

#[test]
fn clean_ups_have_the_contracts_shape() {
    let mut recording = fixture::recording();
    recording.processes[0].pressure = fixture::cleanups();
    let pressure = &parsed(&recording)["processes"][0]["pressure"];
    let event = json!({
        "t_s": 1.0, "trigger": "soft_limit", "level": "high", "before_bytes": 4_500_000,
        "freed_bytes": 0, "settle_ms": 20.0,
        "reclaimers": [
            {"name": "frames", "claimed_bytes": 3_000_000, "took_ms": 1.0, "ending": "returned"},
            {"name": "exec", "claimed_bytes": null, "took_ms": 5000.0, "ending": "late"},
        ],
        "claimed_bytes": 3_000_000, "took_ms": 25.0, "complete": true, "contradicted": true,
    });
    assert_eq!(pressure["events"][1], event);
    assert_eq!(pressure["events"].as_array().unwrap().len(), 3);
    assert_eq!(
        (&pressure["cycles"], &pressure["events_left_out"]),
        (&json!(5), &json!(2))
    );
    assert_eq!(pressure["notes"], json!(["helper: slow", "ineffective"]));
    assert_eq!(
        (&pressure["refused"], &pressure["refused_bytes"]),
        (&json!(2), &json!(3_000_000))
    );
}

#[test]
fn outcomes_have_the_contracts_shape() {
    let outcomes = [
        (Outcome::ExitCode(3), json!({"exit_code": 3})),
        (Outcome::Signal(9), json!({"signal": "SIGKILL"})),
        (Outcome::Exec, json!({"exec": true})),
        (Outcome::Running, json!({"running": true})),
        (Outcome::Unknown, json!({"unknown": true})),
    ];
    for (outcome, expected) in outcomes {
        let mut recording = fixture::recording();
        recording.processes[0].outcome = outcome;
        assert_eq!(parsed(&recording)["processes"][0]["outcome"], expected);
    }
}

#[test]
fn an_untracked_process_has_null_and_not_zero() {
    let mut recording = fixture::recording();
    recording.processes[0].untracked_reason = Some("statically linked".into());
    let report = parsed(&recording);
    let process = &report["processes"][0];
    assert_eq!(
        (&process["tracked"], &process["untracked_reason"]),
        (&json!(false), &json!("statically linked"))
    );
    assert_eq!(process["totals"]["all"]["live_bytes"], Value::Null);
    assert_eq!(process["peak"]["live_bytes"], Value::Null);
    assert_eq!(process["sites"], json!([]));
}

#[test]
fn violations_and_losses_are_counted() {
    let mut recording = fixture::recording();
    recording.processes[0].owners[0].counts.live_bytes = i64::MIN;
    recording.processes[0].losses = Losses {
        foreign_frees: u64::MAX,
        ..Losses::default()
    };
    let report = parsed(&recording);
    let losses = &report["processes"][0]["losses"];
    assert_eq!(
        (&losses["invariant_violations"], &losses["foreign_frees"]),
        (&json!(1), &json!(u64::MAX))
    );
    assert!(
        report["processes"][0]["violations"][0]
            .as_str()
            .unwrap()
            .contains("-9223372036854775808")
    );
}

#[test]
fn an_empty_recording_is_an_empty_list() {
    assert_eq!(parsed(&Recording::default())["processes"], json!([]));
}

#[test]
fn times_that_are_no_numbers_stay_valid_json() {
    let mut recording = fixture::recording();
    recording.processes[0].duration_s = f64::NAN;
    recording.processes[0].timeline = vec![TimelinePoint {
        t_s: f64::INFINITY,
        c_live_bytes: i64::MIN,
        rust_live_bytes: 0,
        rss_bytes: u64::MAX,
    }];
    let report = parsed(&recording);
    assert_eq!(report["processes"][0]["duration_s"], 0.0);
    assert!(report["processes"][0]["timeline"][0]["t_s"].is_f64());
}

#[test]
fn many_processes_stay_in_order() {
    let mut recording = fixture::recording();
    let first = recording.processes[0].clone();
    recording.processes = (1..=100)
        .map(|pid| crate::recording::model::Process {
            pid,
            ..first.clone()
        })
        .collect();
    let report = parsed(&recording);
    let pids: Vec<u64> = report["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|process| process["pid"].as_u64().unwrap())
        .collect();
    assert_eq!(pids, (1..=100).collect::<Vec<_>>());
}
