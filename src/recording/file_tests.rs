use proptest::prelude::*;

use super::*;
use crate::counts::{Counts, Side};
use crate::recording::model::{
    Inlined, Misuse, MisuseKind, MisuseStack, Mode, Outcome, OwnerEntry, Stack, StackFigures,
};

fn sample_process(pid: u32, site: u32) -> Process {
    let counts = Counts::new((4096, 4), (1024, 1), 4000, 0);
    Process {
        pid,
        exe: "/usr/bin/true".into(),
        outcome: Outcome::Signal(9),
        owners: vec![OwnerEntry {
            site,
            side: Side::C,
            scope: None,
            counts,
            at_peak: (10, 1),
        }],
        mode: Mode::Full,
        stacks: vec![Stack {
            frames: vec![site, 0],
            is_truncated: false,
            is_guessed: true,
            side: Side::C,
            scope: None,
            thread: None,
            figures: StackFigures {
                live_bytes: 3072,
                samples: 4,
                ..StackFigures::default()
            },
        }],
        misuses: vec![misuse(site)],
        ..Process::default()
    }
}

fn misuse(site: u32) -> Misuse {
    let end = |frames: &[u32]| {
        Some(MisuseStack {
            frames: frames.to_vec(),
            is_truncated: false,
            tid: 7,
        })
    };
    Misuse {
        may_be_right: true,
        kind: MisuseKind::DoubleFree,
        address: u64::MAX,
        is_realloc: false,
        bytes: 100,
        inside_bytes: None,
        said_bytes: None,
        tid: 7,
        t_s: 0.25,
        count: 2,
        allocated: end(&[site, 0]),
        first_freed: end(&[0]),
        freed: None,
    }
}

/// A recording of two processes, as bytes, and where each frame ends.
fn sample() -> (Vec<u8>, Vec<usize>) {
    let mut file = tempfile::tempfile().unwrap();
    let start = Start {
        command: vec!["true".into()],
        root_pid: 7,
        ..Start::default()
    };
    let mut ends = Vec::new();
    let mut sites = vec![Site {
        offset: 1,
        module: Some(0),
        ..Site::default()
    }];
    let modules = vec![Module {
        path: "/lib/x.so".into(),
        build_id: vec![1],
    }];
    let mut writer = Writer::new(file.try_clone().unwrap(), &start).unwrap();
    ends.push(writer.bytes_written() as usize);
    writer
        .process(sample_process(9, 0), &modules, &sites)
        .unwrap();
    ends.push(writer.bytes_written() as usize);
    sites.push(Site {
        offset: 2,
        ..Site::default()
    });
    writer
        .process(sample_process(7, 1), &modules, &sites)
        .unwrap();
    ends.push(writer.bytes_written() as usize);
    sites[0].symbol = Some("decode".into());
    sites[0].inlined = vec![Inlined {
        symbol: "grow".into(),
        file: None,
        line: Some(3),
    }];
    writer.end(&sites).unwrap();
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    (bytes, ends)
}

fn read_bytes(bytes: &[u8]) -> Result<Frames, OpenError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    read(file, Path::new("test.hlr"))
}

#[test]
fn what_was_written_comes_back_with_the_root_first() {
    let frames = read_bytes(&sample().0).unwrap();
    let recording = frames.recording;
    assert!(frames.ended);
    assert_eq!(recording.warnings, Vec::<String>::new());
    assert_eq!(
        recording
            .processes
            .iter()
            .map(|process| process.pid)
            .collect::<Vec<_>>(),
        [7, 9]
    );
    assert_eq!(recording.processes[0].outcome, Outcome::Signal(9));
    assert_eq!(recording.sites[0].symbol.as_deref(), Some("decode"));
    assert_eq!(recording.sites[0].inlined[0].symbol, "grow");
    assert_eq!(recording.sites.len(), 2);
    let [first, second] = &recording.processes[..] else {
        panic!("two processes");
    };
    assert_eq!(first.stacks[0].frames, [1, 0]);
    assert_eq!(second.stacks[0].frames, [0, 0]);
    assert!(first.stacks[0].is_guessed && second.stacks[0].is_guessed);
    assert_eq!(first.mode, Mode::Full);
    assert_eq!(first.stacks[0].figures.live_bytes, 3072);
    assert_eq!(recording.modules[0].name(), "x.so");
    assert_eq!(
        (&first.misuses[..], &second.misuses[..]),
        (&[misuse(1)][..], &[misuse(0)][..])
    );
}

#[test]
fn guessed_stacks_are_told_from_others_and_need_not_be_told_of() {
    let file = tempfile::tempfile().unwrap();
    let mut writer = Writer::new(file.try_clone().unwrap(), &Start::default()).unwrap();
    let mut process = sample_process(7, 0);
    let known = Stack {
        is_guessed: false,
        ..process.stacks[0].clone()
    };
    process.stacks.insert(0, known.clone());
    writer.process(process, &[], &[Site::default()]).unwrap();
    // As those wrote who knew of no such mark.
    let mut older = sample_process(8, 0);
    older.stacks = vec![known];
    writer.process(older, &[], &[Site::default()]).unwrap();
    // Places that no stack has.
    let stray = Frame::Guessed(vec![0, u32::MAX]).encode().unwrap();
    writer.put(&stray).unwrap();
    let mut empty = sample_process(9, 0);
    empty.stacks = Vec::new();
    writer.process(empty, &[], &[Site::default()]).unwrap();
    writer.end(&[Site::default()]).unwrap();
    let mut file = file;
    file.seek(SeekFrom::Start(0)).unwrap();
    let recording = read(file, Path::new("test.hlr")).unwrap().recording;
    let marks = |process: &Process| -> Vec<bool> {
        process
            .stacks
            .iter()
            .map(|stack| stack.is_guessed)
            .collect()
    };
    let marks: Vec<Vec<bool>> = recording.processes.iter().map(marks).collect();
    assert_eq!(marks, [vec![false, true], vec![false], vec![]]);
    assert_eq!(recording.warnings, Vec::<String>::new());
}

#[test]
fn every_truncation_gives_all_complete_frames() {
    let (bytes, ends) = sample();
    for length in 0..bytes.len() {
        match read_bytes(&bytes[..length]) {
            Err(error) => assert!(length < PREAMBLE_BYTES, "{length}: {error}"),
            Ok(frames) => {
                let complete = ends[1..].iter().filter(|&&end| end <= length).count();
                assert_eq!(
                    frames.recording.processes.len(),
                    complete,
                    "cut at {length}"
                );
                assert!(!frames.ended);
            }
        }
    }
}

#[test]
fn a_recording_that_ends_before_its_start_says_so() {
    let (bytes, _) = sample();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes[..PREAMBLE_BYTES]).unwrap();
    let recording = Recording::open(file.path()).unwrap();
    assert_eq!(
        recording.warnings,
        ["the recording ends before it says what was run"]
    );
}

#[test]
fn another_layout_is_named() {
    let (mut bytes, _) = sample();
    bytes[8] = 9;
    let error = read_bytes(&bytes).err().unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot open recording test.hlr: a newer heapledger wrote it (layout 9, this one reads \
             {LAYOUT}); read it with that one"
        )
    );
    bytes[8] = 1;
    let error = read_bytes(&bytes).err().unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot open recording test.hlr: an older heapledger wrote it (layout 1, this one reads \
             {LAYOUT}); read it with that one, or record again"
        )
    );
}

#[test]
fn other_files_are_refused() {
    for bytes in [&b""[..], b"hlrec", b"#!/bin/sh\nexit 0\n", &[0; 4096]] {
        let error = read_bytes(bytes).err().unwrap();
        assert_eq!(
            error.to_string(),
            "cannot open recording test.hlr: not a heapledger recording"
        );
    }
}

#[test]
fn indices_that_lead_nowhere_are_left_out() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut writer = Writer::new(file.reopen().unwrap(), &Start::default()).unwrap();
    let sites = [Site {
        module: Some(77),
        ..Site::default()
    }];
    let mut process = sample_process(1, 99);
    process.started_s = f64::NAN;
    process.owners.push(OwnerEntry {
        site: 0,
        scope: Some(5),
        ..process.owners[0].clone()
    });
    process.stacks.push(Stack {
        frames: vec![0; 5000],
        scope: Some(9),
        thread: Some(7),
        ..process.stacks[0].clone()
    });
    let far = misuse(99);
    let deep = MisuseStack {
        frames: vec![0; 5000],
        ..far.first_freed.clone().unwrap()
    };
    process.misuses = vec![Misuse {
        t_s: f64::INFINITY,
        freed: Some(deep),
        ..far
    }];
    writer.process(process, &[], &sites).unwrap();
    writer.end(&sites).unwrap();
    let recording = Recording::open(file.path()).unwrap();
    assert_eq!(recording.sites[0].module, None);
    assert_eq!(recording.processes[0].owners.len(), 1);
    assert_eq!(recording.processes[0].owners[0].scope, None);
    assert_eq!(recording.processes[0].started_s, 0.0);
    assert_eq!(
        recording.warnings,
        ["7 entries refer to nothing and are left out"]
    );
    let [stack] = &recording.processes[0].stacks[..] else {
        panic!("the stack with a frame that leads nowhere is left out");
    };
    assert_eq!((stack.scope, stack.thread), (None, None));
    assert_eq!((stack.frames.len(), stack.is_truncated), (1024, true));
    let misuse = &recording.processes[0].misuses[0];
    assert_eq!((misuse.t_s, &misuse.allocated), (0.0, &None));
    assert_eq!(misuse.first_freed.as_ref().unwrap().frames, [0]);
    assert_eq!(misuse.freed.as_ref().unwrap().frames.len(), 1024);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn corruption_never_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let (mut bytes, _) = sample();
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        let _ = read_bytes(&bytes);
    }

    /// With a checksum that fits, what is inside the frame is the enemy's choice.
    #[test]
    fn hostile_payloads_never_panic(kind in 0u8..8, payload in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(LAYOUT.to_le_bytes());
        bytes.push(kind);
        bytes.extend((payload.len() as u32).to_le_bytes());
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&[kind]);
        hasher.update(&payload);
        bytes.extend(hasher.finalize().to_le_bytes());
        bytes.extend(&payload);
        let _ = read_bytes(&bytes);
    }
}
