//! A recording to look at: a media player in mode full, of both sides, with clean-ups.

use std::collections::BTreeMap;

use heapledger::recording::Recording;
use heapledger::recording::model::{
    CallEnding, Level, Misuse, MisuseKind, MisuseStack, Mode, Module, Outcome, OwnerEntry, Peak,
    Pressure, PressureEvent, Process, ReclaimerCall, Site, Sizes, Stack, StackFigures, Start,
    Thread, TimelinePoint, Trigger,
};
use heapledger::{Counts, Side};

const MIB: u64 = 1 << 20;
const SECONDS: u32 = 48;

/// Function, library, source. The order is that of the call sites.
const FUNCTIONS: &[(&str, &str, &str)] = &[
    ("main", "player", "src/main.rs:31"),
    (
        "player::session::Session::run",
        "player",
        "src/session.rs:118",
    ),
    (
        "player::demux::Demuxer::next_packet",
        "player",
        "src/demux.rs:77",
    ),
    (
        "player::cache::FrameCache::insert",
        "player",
        "src/cache.rs:142",
    ),
    (
        "player::cache::FrameCache::grow",
        "player",
        "src/cache.rs:190",
    ),
    ("player::ui::Scene::layout", "player", "src/ui/scene.rs:58"),
    (
        "player::ui::text::Glyphs::rasterize",
        "player",
        "src/ui/text.rs:203",
    ),
    ("player::subtitles::parse", "player", "src/subtitles.rs:41"),
    (
        "<alloc::vec::Vec<T> as Clone>::clone",
        "player",
        "alloc/src/vec/mod.rs:3310",
    ),
    (
        "hashbrown::raw::RawTable<T>::reserve_rehash",
        "player",
        "hashbrown/src/raw/mod.rs:1060",
    ),
    ("player::worker::decode_loop", "player", "src/worker.rs:64"),
    (
        "avcodec_send_packet",
        "libavcodec.so.59",
        "libavcodec/decode.c:710",
    ),
    (
        "decode_simple_receive_frame",
        "libavcodec.so.59",
        "libavcodec/decode.c:622",
    ),
    (
        "hevc_frame_start",
        "libavcodec.so.59",
        "libavcodec/hevcdec.c:2902",
    ),
    (
        "ff_hevc_set_new_ref",
        "libavcodec.so.59",
        "libavcodec/hevc_refs.c:164",
    ),
    (
        "ff_thread_get_buffer",
        "libavcodec.so.59",
        "libavcodec/pthread_frame.c:1040",
    ),
    (
        "avcodec_default_get_buffer2",
        "libavcodec.so.59",
        "libavcodec/get_buffer.c:261",
    ),
    (
        "pool_alloc_buffer",
        "libavutil.so.57",
        "libavutil/buffer.c:355",
    ),
    ("av_malloc", "libavutil.so.57", "libavutil/mem.c:105"),
    (
        "av_buffer_create",
        "libavutil.so.57",
        "libavutil/buffer.c:58",
    ),
    (
        "av_read_frame",
        "libavformat.so.59",
        "libavformat/demux.c:1453",
    ),
    (
        "matroska_parse_cluster",
        "libavformat.so.59",
        "libavformat/matroskadec.c:3980",
    ),
    (
        "av_packet_ref",
        "libavcodec.so.59",
        "libavcodec/avpacket.c:434",
    ),
    (
        "avformat_open_input",
        "libavformat.so.59",
        "libavformat/demux.c:226",
    ),
    (
        "ebml_parse",
        "libavformat.so.59",
        "libavformat/matroskadec.c:1301",
    ),
    ("SSL_read", "libssl.so.3", "ssl/ssl_lib.c:1876"),
    (
        "tls_get_more_records",
        "libssl.so.3",
        "ssl/record/methods/tls_common.c:660",
    ),
    ("CRYPTO_malloc", "libcrypto.so.3", "crypto/mem.c:190"),
    ("FT_Load_Glyph", "libfreetype.so.6", "src/base/ftobjs.c:930"),
    ("ft_mem_qalloc", "libfreetype.so.6", "src/base/ftutil.c:75"),
];

/// Path by place in the list above, side, scope, thread, live bytes, block size, turnover.
type Row = (&'static [u32], Side, Option<u32>, u32, u64, u64, u64);

const ROWS: &[Row] = &[
    (
        &[10, 11, 12, 13, 14, 15, 16, 17, 18],
        Side::C,
        Some(0),
        1,
        192 * MIB,
        3 * MIB,
        30,
    ),
    (
        &[10, 11, 12, 13, 14, 15, 16, 17, 18],
        Side::C,
        Some(0),
        2,
        144 * MIB,
        3 * MIB,
        28,
    ),
    (
        &[10, 11, 12, 13, 14, 15, 16, 17, 19, 18],
        Side::C,
        Some(0),
        1,
        MIB / 2,
        96,
        30,
    ),
    (
        &[10, 11, 12, 13, 14, 18],
        Side::C,
        Some(0),
        1,
        22 * MIB,
        270_336,
        30,
    ),
    (
        &[10, 11, 12, 13, 18],
        Side::C,
        Some(0),
        2,
        9 * MIB,
        65_536,
        26,
    ),
    (
        &[10, 11, 22, 19, 18],
        Side::C,
        Some(0),
        2,
        6 * MIB,
        16_384,
        90,
    ),
    (&[10, 3, 4, 9], Side::Rust, Some(1), 1, 24 * MIB, 4 * MIB, 3),
    (&[10, 3, 8], Side::Rust, Some(1), 2, 38 * MIB, 786_432, 12),
    (&[10, 3, 4], Side::Rust, Some(1), 2, 9 * MIB, 9_216, 9),
    (
        &[0, 1, 2, 20, 21, 24, 18],
        Side::C,
        Some(2),
        0,
        18 * MIB,
        131_072,
        60,
    ),
    (
        &[0, 1, 2, 20, 21, 22, 18],
        Side::C,
        Some(2),
        0,
        11 * MIB,
        49_152,
        75,
    ),
    (
        &[0, 1, 2, 20, 25, 26, 27],
        Side::C,
        Some(2),
        0,
        7 * MIB,
        17_408,
        140,
    ),
    (
        &[0, 1, 2, 25, 26, 27],
        Side::C,
        Some(2),
        0,
        2 * MIB,
        17_408,
        60,
    ),
    (&[0, 1, 23, 24, 18], Side::C, None, 0, 3 * MIB, 4_096, 2),
    (&[0, 1, 7, 8], Side::Rust, None, 0, 13 * MIB, 512, 4),
    (&[0, 1, 7], Side::Rust, None, 0, 6 * MIB, 128, 8),
    (
        &[0, 1, 5, 6, 28, 29],
        Side::C,
        Some(3),
        0,
        12 * MIB,
        2_048,
        14,
    ),
    (&[0, 1, 5, 6, 9], Side::Rust, Some(3), 0, 8 * MIB, MIB, 4),
    (&[0, 1, 5, 8], Side::Rust, Some(3), 0, 5 * MIB, 640, 220),
    (&[0, 1, 5], Side::Rust, Some(3), 0, MIB, 320, 400),
];

/// Gives the recording.
pub fn recording() -> Recording {
    let mut modules: Vec<Module> = Vec::new();
    let sites = FUNCTIONS
        .iter()
        .zip(0..)
        .map(|(function, index)| site(function, index, &mut modules));
    let sites = sites.collect();
    Recording {
        start: Start {
            command: [
                "player",
                "--cache",
                "512M",
                "https://media.example/concert.mkv",
            ]
            .map(String::from)
            .into(),
            unix_ns: 1_790_000_000_000_000_000,
            root_pid: 4_711,
            heapledger: "0.1.0".into(),
            ..Start::default()
        },
        modules,
        sites,
        processes: vec![process()],
        warnings: Vec::new(),
    }
}

/// The same player with two mistakes: a packet is freed twice by different threads, and
/// again and again a buffer of C's is given to Rust's allocator.
pub fn with_misuse() -> Recording {
    let mut recording = recording();
    let named = |name: &str| {
        let place = FUNCTIONS.iter().position(|function| function.0 == name);
        place.expect("a function of the player") as u32
    };
    let end = |names: &[&str], tid| {
        Some(MisuseStack {
            frames: names.iter().map(|name| named(name)).collect(),
            is_truncated: false,
            tid,
        })
    };
    let read = [
        "av_read_frame",
        "player::demux::Demuxer::next_packet",
        "main",
    ];
    let decode = ["avcodec_send_packet", "player::worker::decode_loop"];
    let misuse = Misuse {
        kind: MisuseKind::DoubleFree,
        may_be_right: true,
        address: 0x7f31_2000_4810,
        is_realloc: false,
        bytes: 1_416,
        inside_bytes: None,
        said_bytes: None,
        tid: 4_712,
        t_s: 12.25,
        count: 1,
        allocated: end(&read, 4_711),
        first_freed: end(&read, 4_711),
        freed: end(&decode, 4_712),
    };
    recording.processes[0].misuses = vec![
        misuse.clone(),
        Misuse {
            kind: MisuseKind::CFreedByRust,
            may_be_right: false,
            address: 0x7f31_2000_9000,
            bytes: 65_536,
            t_s: 31.0,
            count: 1_200,
            first_freed: None,
            allocated: misuse.freed,
            freed: end(&["player::cache::FrameCache::grow", "main"], 4_711),
            ..misuse
        },
    ];
    recording
}

fn site(
    (symbol, library, source): &(&str, &str, &str),
    index: u64,
    modules: &mut Vec<Module>,
) -> Site {
    let path = match library.contains(".so") {
        true => format!("/usr/lib/x86_64-linux-gnu/{library}"),
        false => format!("/usr/bin/{library}"),
    };
    let module = modules
        .iter()
        .position(|module| module.path == path)
        .unwrap_or_else(|| {
            modules.push(Module {
                path,
                build_id: vec![index as u8; 20],
            });
            modules.len() - 1
        });
    let (file, line) = source.rsplit_once(':').expect("a source has a line");
    Site {
        module: Some(module as u32),
        offset: 0x1_2340 + index * 0x9c4,
        symbol: Some((*symbol).to_owned()),
        file: Some(file.to_owned()),
        line: line.parse().ok(),
        ..Site::default()
    }
}

fn stack(&(path, side, scope, thread, live, size, turnover): &Row) -> Stack {
    let blocks = (live / size).max(1);
    let live = blocks * size;
    Stack {
        frames: path.iter().rev().copied().collect(),
        is_truncated: false,
        is_guessed: false,
        side,
        scope,
        thread: Some(thread),
        figures: StackFigures {
            live_bytes: live as i64,
            live_blocks: blocks as i64,
            allocated_bytes: live * turnover,
            allocated_blocks: blocks * turnover,
            at_peak: ((live + live / 5) as i64, (blocks + blocks / 5) as i64),
            temporary: (live * (turnover / 20), blocks * (turnover / 20)),
            samples: blocks * turnover,
            ..StackFigures::default()
        },
    }
}

fn counts(figures: &StackFigures) -> Counts {
    Counts {
        live_bytes: figures.live_bytes,
        live_blocks: figures.live_blocks,
        allocated_bytes: figures.allocated_bytes,
        allocated_blocks: figures.allocated_blocks,
        freed_bytes: figures.allocated_bytes - figures.live_bytes as u64,
        freed_blocks: figures.allocated_blocks - figures.live_blocks as u64,
        reallocs: 0,
        requested_bytes: figures.allocated_bytes,
    }
}

fn process() -> Process {
    let stacks: Vec<Stack> = ROWS.iter().map(stack).collect();
    let at_peak = |side: Option<Side>| -> i64 {
        let taken = stacks
            .iter()
            .filter(|stack| side.is_none_or(|side| stack.side == side));
        taken.map(|stack| stack.figures.at_peak.0).sum()
    };
    let names = ["player", "decoder-1", "decoder-2"];
    let threads = (0u32..)
        .zip(names)
        .map(|(index, name)| thread(index, name, &stacks));
    Process {
        pid: 4_711,
        parent_pid: 1,
        exe: "/usr/bin/player".into(),
        args: [
            "player",
            "--cache",
            "512M",
            "https://media.example/concert.mkv",
        ]
        .map(String::from)
        .into(),
        duration_s: f64::from(SECONDS),
        outcome: Outcome::ExitCode(0),
        hooks: 3,
        mode: Mode::Full,
        owners: owners(&stacks),
        scopes: ["decode", "frame cache", "network", "render"]
            .map(String::from)
            .into(),
        threads: threads.collect(),
        sizes: sizes(&stacks),
        peak: Peak {
            live_bytes: [
                at_peak(Some(Side::C)),
                at_peak(Some(Side::Rust)),
                at_peak(None),
            ],
            at_s: 33.9,
            captured_live_bytes: at_peak(None),
        },
        timeline: timeline(&stacks),
        pressure: pressure(),
        stacks,
        ..Process::default()
    }
}

fn owners(stacks: &[Stack]) -> Vec<OwnerEntry> {
    let mut owners = BTreeMap::<(u32, Side, Option<u32>), OwnerEntry>::new();
    for stack in stacks {
        let site = stack.frames[0];
        let owner = owners
            .entry((site, stack.side, stack.scope))
            .or_insert_with(|| OwnerEntry {
                site,
                side: stack.side,
                scope: stack.scope,
                counts: Counts::default(),
                at_peak: (0, 0),
            });
        owner.counts += counts(&stack.figures);
        owner.at_peak.0 += stack.figures.at_peak.0;
        owner.at_peak.1 += stack.figures.at_peak.1;
    }
    owners.into_values().collect()
}

fn thread(index: u32, name: &str, stacks: &[Stack]) -> Thread {
    let mut sides = [Counts::default(); 2];
    for stack in stacks.iter().filter(|stack| stack.thread == Some(index)) {
        sides[usize::from(stack.side == Side::Rust)] += counts(&stack.figures);
    }
    Thread {
        tid: 4_711 + index,
        name: name.to_owned(),
        counts: sides,
    }
}

fn sizes(stacks: &[Stack]) -> [Sizes; 2] {
    [Side::C, Side::Rust].map(|side| {
        let mut buckets = BTreeMap::<u64, u64>::new();
        let mut max = 0;
        for stack in stacks.iter().filter(|stack| stack.side == side) {
            let size = stack.figures.allocated_bytes / stack.figures.allocated_blocks;
            *buckets.entry(size).or_default() += stack.figures.allocated_blocks;
            max = max.max(size);
        }
        Sizes {
            buckets: buckets.into_iter().collect(),
            max,
        }
    })
}

/// Rises, is cleaned up three times, and ends at what the stacks hold.
fn timeline(stacks: &[Stack]) -> Vec<TimelinePoint> {
    let live = |side| -> i64 {
        let of_side = stacks.iter().filter(|stack| stack.side == side);
        of_side.map(|stack| stack.figures.live_bytes).sum()
    };
    let readings = SECONDS * 10;
    (0..readings)
        .map(|index| {
            let t_s = f64::from(index) * 0.1;
            let share = level(t_s);
            let ripple = (t_s * 5.0).sin() * 0.012 + (t_s * 1.7).sin() * 0.015;
            let c = (live(Side::C) as f64 * (share + ripple * share.min(0.6))) as i64;
            let rust = (live(Side::Rust) as f64
                * (share * 0.55 + 0.45 * (t_s / f64::from(SECONDS)).sqrt()))
                as i64;
            TimelinePoint {
                t_s,
                c_live_bytes: c.max(0),
                rust_live_bytes: rust.max(0),
                rss_bytes: (c.max(0) + rust.max(0)) as u64
                    + 42 * MIB
                    + (t_s * 0.9 * MIB as f64) as u64,
            }
        })
        .collect()
}

/// Gives the share of the final bytes: between clean-ups it rises.
fn level(t_s: f64) -> f64 {
    const TURNS: [(f64, f64); 10] = [
        (0.0, 0.01),
        (2.5, 0.12),
        (13.9, 1.02),
        (14.6, 0.52),
        (23.6, 1.08),
        (24.5, 0.58),
        (33.9, 1.2),
        (35.0, 0.46),
        (44.0, 0.96),
        (48.0, 1.0),
    ];
    let next = TURNS
        .iter()
        .position(|turn| turn.0 > t_s)
        .unwrap_or(TURNS.len() - 1);
    let (from, to) = (TURNS[next - 1], TURNS[next]);
    from.1 + (to.1 - from.1) * ((t_s - from.0) / (to.0 - from.0)).clamp(0.0, 1.0)
}

fn pressure() -> Pressure {
    let event = |t_s, trigger, level, before: u64, freed: u64, took_s| PressureEvent {
        t_s,
        trigger,
        level,
        before_bytes: before * MIB,
        freed_bytes: freed * MIB,
        claimed_bytes: Some((freed - freed / 16) * MIB),
        settle_s: 0.2,
        took_s,
        is_complete: true,
        reclaimers: vec![ReclaimerCall {
            name: "frames".into(),
            claimed_bytes: Some((freed - freed / 16) * MIB),
            took_s: took_s - 0.2,
            ending: CallEnding::Returned,
        }],
    };
    Pressure {
        cycles: 3,
        freed_bytes: 908 * MIB,
        events: vec![
            event(13.9, Trigger::Growth, Level::Moderate, 541, 265, 0.7),
            event(23.6, Trigger::Growth, Level::Moderate, 574, 262, 0.9),
            event(33.9, Trigger::SoftLimit, Level::Critical, 634, 381, 1.1),
        ],
        refused: 0,
        refused_bytes: 0,
        notes: Vec::new(),
    }
}
