use super::*;
use crate::analysis::fixture;
use crate::counts::Counts;
use crate::recording::Recording;
use crate::recording::model::{Losses, Outcome, Process};

fn rendered(recording: &Recording, by: Option<By>, columns: usize) -> String {
    let mut out = Vec::new();
    write(
        &Report::new(recording),
        by,
        Style {
            colour: false,
            columns,
        },
        &mut out,
    )
    .unwrap();
    String::from_utf8(out).unwrap()
}

/// Run with HEAPLEDGER_BLESS=1 to accept a new look.
fn expect(name: &str, text: &str) {
    let path = format!(
        "{}/src/report/text/expected/{name}.txt",
        env!("CARGO_MANIFEST_DIR")
    );
    if std::env::var_os("HEAPLEDGER_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{path}");
}

#[test]
fn a_wide_report_looks_like_this() {
    expect("wide", &rendered(&fixture::recording(), None, 140));
}

#[test]
fn a_narrow_report_looks_like_this() {
    expect("narrow", &rendered(&fixture::recording(), None, 80));
}

#[test]
fn clean_ups_look_like_this() {
    let mut recording = fixture::recording();
    recording.processes[0].pressure = fixture::cleanups();
    expect("cleanups", &rendered(&recording, None, 120));
}

#[test]
fn mode_full_looks_like_this() {
    expect("full", &rendered(&fixture::with_misuse(), None, 120));
}

#[test]
fn misuse_is_shown_whatever_part_is_looked_at() {
    let recording = fixture::with_misuse();
    let text = rendered(&recording, Some(By::Scope), 120);
    assert!(
        text.contains("double free of a block of 1000 B at 0x55d000001000, 3 times"),
        "{text}"
    );
}

#[test]
fn a_tree_looks_like_this() {
    let mut recording = fixture::recording();
    let mut child = recording.processes[0].clone();
    (child.pid, child.parent_pid, child.started_s) = (101, 100, 1.0);
    child.outcome = Outcome::Signal(9);
    child.losses = Losses {
        foreign_frees: 3,
        crossed_frees: 1,
        ..Losses::default()
    };
    child.peak.live_bytes[2] += 1_000_000;
    let untracked = Process {
        pid: 102,
        exe: "/bin/busybox".into(),
        untracked_reason: Some("statically linked".into()),
        ..Process::default()
    };
    recording.processes.extend([child, untracked]);
    expect("tree", &rendered(&recording, None, 140));
}

#[test]
fn one_table_comes_in_full_and_alone() {
    let mut recording = fixture::recording();
    let site = recording.sites[0].clone();
    for index in 0..30 {
        recording.sites.push(crate::recording::model::Site {
            offset: 0x9000 + index,
            ..site.clone()
        });
        let mut owner = recording.processes[0].owners[0].clone();
        (owner.site, owner.counts) = (3 + index as u32, Counts::default());
        recording.processes[0].owners.push(owner);
    }
    let full = rendered(&recording, Some(By::Site), 140);
    assert!(
        full.contains("\nCall sites\n") && full.contains("libcodec.so.1+0x901d"),
        "{full}"
    );
    assert!(!full.contains("Libraries"), "{full}");
    let top = rendered(&recording, None, 140);
    assert!(top.contains("\nCall sites (top 10 of 33)\n"), "{top}");
}

#[test]
fn a_table_without_rows_says_so() {
    let mut recording = fixture::recording();
    recording.processes[0]
        .owners
        .iter_mut()
        .for_each(|owner| owner.scope = None);
    let text = rendered(&recording, Some(By::Scope), 120);
    assert!(text.contains("nothing was booked to any scope\n"), "{text}");
}

#[test]
fn what_was_not_tracked_has_a_reason_and_no_figures() {
    let mut recording = fixture::recording();
    recording.processes[0].untracked_reason = Some("statically linked".into());
    let expected = "player --loop 'a file.mkv'\nexit code 0 after 2.00 s, 1 process, 1 untracked\n\n\
                    What could not be seen\n  player (pid 100) untracked: statically linked\n";
    assert_eq!(rendered(&recording, None, 140), expected);
}

#[test]
fn violations_are_printed() {
    let mut recording = fixture::recording();
    recording.processes[0].owners[0].counts.live_blocks += 1;
    let text = rendered(&recording, None, 140);
    assert!(
        text.contains("the books do not add up in 1 place:\n    pid 100: owner decode_frame"),
        "{text}"
    );
    assert!(!text.contains("nothing was lost"), "{text}");
}

#[test]
fn an_empty_recording_says_so() {
    let text = rendered(&Recording::default(), None, 140);
    assert!(
        text.starts_with("heapledger report\nthe recording holds no process\n"),
        "{text}"
    );
}

#[test]
fn an_end_that_nobody_saw_is_said() {
    let mut recording = fixture::recording();
    recording.processes[0].outcome = Outcome::Unknown;
    assert!(rendered(&recording, None, 140).contains("\nend not seen after 2.00 s"));
}

#[test]
fn absurd_recordings_do_not_panic() {
    let mut recording = fixture::recording();
    let process = &mut recording.processes[0];
    (process.started_s, process.duration_s) = (f64::NEG_INFINITY, f64::NAN);
    process.peak.live_bytes = [i64::MIN, i64::MAX, i64::MAX];
    process.peak.at_s = f64::INFINITY;
    process.args = vec!["\x1b]0;x\x07".into()];
    for owner in &mut process.owners {
        owner.at_peak = (i64::MIN, i64::MIN);
        owner.counts.live_bytes = i64::MIN;
        owner.counts.allocated_bytes = u64::MAX;
    }
    process
        .timeline
        .iter_mut()
        .for_each(|point| (point.t_s, point.c_live_bytes) = (f64::NAN, i64::MAX));
    process.sizes[0].buckets = vec![(u64::MAX, u64::MAX); 3];
    process.threads[0].name = "evil\x1b[2J".into();
    recording.processes.push(recording.processes[0].clone());
    for columns in [0, 1, 60, 1000] {
        let text = rendered(&recording, None, columns);
        assert!(!text.contains('\x1b'), "{text}");
    }
}
