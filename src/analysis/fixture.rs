//! A small recording with round figures, for tests.

use crate::counts::{Counts, Side};
use crate::recording::Recording;
use crate::recording::model::{
    CallEnding, Inlined, Level, Misuse, MisuseKind, MisuseStack, Mode, Module, Outcome, OwnerEntry,
    Peak, Pressure, PressureEvent, Process, ReclaimerCall, Site, Sizes, Stack, StackFigures, Start,
    Thread, TimelinePoint, Trigger,
};

/// (bytes, blocks) allocated and freed; as much requested as allocated.
pub(crate) fn counts(allocated: (u64, u64), freed: (u64, u64)) -> Counts {
    Counts::new(allocated, freed, allocated.0, 0)
}

/// A player of 2 s: a codec that holds 5,000 blocks, a Rust parser and a scope.
pub(crate) fn recording() -> Recording {
    Recording {
        start: Start {
            command: vec!["player".into(), "--loop".into(), "a file.mkv".into()],
            root_pid: 100,
            ..Start::default()
        },
        modules: vec![
            module("/usr/lib/libcodec.so.1", &[0xca, 0xfe]),
            module("/usr/bin/player", &[]),
        ],
        sites: vec![
            Site {
                symbol: Some("decode_frame".into()),
                ..site(0, 0x1234)
            },
            Site {
                symbol: Some("player::parse".into()),
                file: Some("/src/player/parse.rs".into()),
                line: Some(42),
                ..site(1, 0x500)
            },
            site(1, 0x900),
        ],
        processes: vec![process()],
        warnings: Vec::new(),
    }
}

/// The same player in mode full: main's parser, with an inlined function, calls the
/// codec once and allocates once. What the other fixture frees, this one never asked for.
pub(crate) fn with_stacks() -> Recording {
    let mut recording = recording();
    recording.sites[1].inlined = vec![Inlined {
        symbol: "Vec::grow".into(),
        file: Some("/rust/vec.rs".into()),
        line: Some(7),
    }];
    recording.sites[2].symbol = Some("main".into());
    let process = &mut recording.processes[0];
    process.mode = Mode::Full;
    process.owners.retain(|owner| owner.counts.live_blocks > 0);
    process.threads[0].counts = [Counts::default(), counts((200_000, 20), (0, 0))];
    process.stacks = vec![
        stack(&[0, 1, 2], Side::C, (Some(0), 1), (4_000_000, 5_000)),
        Stack {
            is_truncated: true,
            ..stack(&[1, 2], Side::Rust, (None, 0), (200_000, 20))
        },
    ];
    recording
}

/// The player in mode full, with one misuse of each kind.
pub(crate) fn with_misuse() -> Recording {
    let mut recording = with_stacks();
    let end = |frames: &[u32]| {
        Some(MisuseStack {
            frames: frames.to_vec(),
            is_truncated: false,
            tid: 101,
        })
    };
    let misuse = |kind, address, bytes| Misuse {
        kind,
        may_be_right: false,
        address,
        is_realloc: false,
        bytes,
        inside_bytes: None,
        said_bytes: None,
        tid: 100,
        t_s: 0.5,
        count: 1,
        allocated: None,
        first_freed: None,
        freed: None,
    };
    recording.processes[0].misuses = vec![
        Misuse {
            count: 3,
            allocated: end(&[0, 2]),
            first_freed: end(&[2]),
            freed: end(&[1, 2]),
            ..misuse(MisuseKind::DoubleFree, 0x55d0_0000_1000, 1_000)
        },
        Misuse {
            may_be_right: true,
            inside_bytes: Some(16),
            is_realloc: true,
            allocated: end(&[1, 2]),
            freed: end(&[2]),
            ..misuse(MisuseKind::FreeOfUnknown, 0x55d0_0000_2010, 100)
        },
        Misuse {
            allocated: end(&[1, 2]),
            freed: end(&[0, 2]),
            ..misuse(MisuseKind::RustFreedByC, 0x55d0_0000_3000, 24)
        },
        Misuse {
            allocated: end(&[0, 2]),
            freed: end(&[1, 2]),
            ..misuse(MisuseKind::CFreedByRust, 0x55d0_0000_4000, 4_096)
        },
        Misuse {
            said_bytes: Some(64),
            allocated: end(&[1, 2]),
            freed: end(&[1, 2]),
            ..misuse(MisuseKind::OtherSize, 0x55d0_0000_5000, 32)
        },
        Misuse {
            freed: end(&[0, 2]),
            ..misuse(MisuseKind::FreeOfUnseen, 0x7f00_0000_6000, 0)
        },
    ];
    recording
}

fn stack(
    frames: &[u32],
    side: Side,
    (scope, thread): (Option<u32>, u32),
    (bytes, blocks): (u64, u64),
) -> Stack {
    Stack {
        frames: frames.to_vec(),
        is_truncated: false,
        is_guessed: false,
        side,
        scope,
        thread: Some(thread),
        figures: StackFigures {
            live_bytes: bytes as i64,
            live_blocks: blocks as i64,
            allocated_bytes: bytes,
            allocated_blocks: blocks,
            at_peak: (bytes as i64, blocks as i64),
            temporary: (bytes / 10, blocks / 10),
            samples: blocks,
            ..StackFigures::default()
        },
    }
}

fn module(path: &str, build_id: &[u8]) -> Module {
    Module {
        path: path.into(),
        build_id: build_id.into(),
    }
}

fn site(module: u32, offset: u64) -> Site {
    Site {
        module: Some(module),
        offset,
        ..Site::default()
    }
}

fn process() -> Process {
    let point = |t_s, c_live_bytes, rust_live_bytes| TimelinePoint {
        t_s,
        c_live_bytes,
        rust_live_bytes,
        rss_bytes: 8_000_000,
    };
    Process {
        pid: 100,
        parent_pid: 1,
        exe: "/usr/bin/player".into(),
        args: vec!["player".into(), "--loop".into(), "a file.mkv".into()],
        duration_s: 2.0,
        outcome: Outcome::ExitCode(0),
        hooks: 3,
        owners: owners(),
        scopes: vec!["decode".into()],
        threads: threads(),
        sizes: [
            Sizes {
                buckets: vec![(127, 100), (1023, 5_000)],
                max: 1_000,
            },
            Sizes {
                buckets: vec![(16_383, 30)],
                max: 10_000,
            },
        ],
        peak: Peak {
            live_bytes: [4_500_000, 250_000, 4_700_000],
            at_s: 1.25,
            captured_live_bytes: 4_700_000,
        },
        timeline: vec![
            point(0.0, 0, 0),
            point(1.0, 4_500_000, 200_000),
            point(1.9, 4_000_000, 200_000),
        ],
        ..Process::default()
    }
}

fn owners() -> Vec<OwnerEntry> {
    let owner = |site, side, scope, counts, at_peak| OwnerEntry {
        site,
        side,
        scope,
        counts,
        at_peak,
    };
    vec![
        owner(
            0,
            Side::C,
            Some(0),
            counts((4_000_000, 5_000), (0, 0)),
            (3_900_000, 4_900),
        ),
        owner(
            2,
            Side::C,
            None,
            counts((1_000_000, 100), (1_000_000, 100)),
            (600_000, 60),
        ),
        owner(
            1,
            Side::Rust,
            None,
            counts((200_000, 20), (0, 0)),
            (200_000, 20),
        ),
        owner(
            1,
            Side::Rust,
            None,
            counts((100_000, 10), (100_000, 10)),
            (0, 0),
        ),
    ]
}

fn threads() -> Vec<Thread> {
    vec![
        Thread {
            tid: 100,
            name: "player".into(),
            counts: [
                counts((1_000_000, 100), (1_000_000, 100)),
                counts((300_000, 30), (100_000, 10)),
            ],
        },
        Thread {
            tid: 101,
            name: "decoder".into(),
            counts: [counts((4_000_000, 5_000), (0, 0)), Counts::default()],
        },
    ]
}

/// Five clean-ups in these two seconds, of which three are known: one that worked, one
/// that did not, and one in which the process ended.
pub(crate) fn cleanups() -> Pressure {
    let call = |name: &str, claimed_bytes, took_s, ending| ReclaimerCall {
        name: name.into(),
        claimed_bytes,
        took_s,
        ending,
    };
    let event = |t_s, trigger, level, freed_bytes, claimed_bytes, reclaimers| PressureEvent {
        t_s,
        trigger,
        level,
        before_bytes: 4_500_000,
        freed_bytes,
        claimed_bytes,
        settle_s: 0.02,
        took_s: 0.025,
        is_complete: true,
        reclaimers,
    };
    let late = vec![
        call("frames", Some(3_000_000), 0.001, CallEnding::Returned),
        call("exec", None, 5.0, CallEnding::Late),
    ];
    let worked = vec![call("python", None, 0.0125, CallEnding::Returned)];
    let mut events = vec![
        event(
            0.5,
            Trigger::Growth,
            Level::Moderate,
            4_000_000,
            None,
            worked,
        ),
        event(
            1.0,
            Trigger::SoftLimit,
            Level::High,
            0,
            Some(3_000_000),
            late,
        ),
        event(
            1.9,
            Trigger::Asked,
            Level::Critical,
            10_000,
            None,
            Vec::new(),
        ),
    ];
    events[2].is_complete = false;
    Pressure {
        cycles: 5,
        freed_bytes: 9_000_000,
        refused: 2,
        refused_bytes: 3_000_000,
        events,
        notes: vec!["helper: slow".into(), "ineffective".into()],
    }
}
