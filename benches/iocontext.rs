//! What the IOContext workload costs, and what it allocates on both sides:
//! probing, reading, decoding, and whole runs on one thread and two.

#[path = "common/both_sides.rs"]
mod both_sides;
mod common;

use std::fs::File;
use std::hint::black_box;
use std::io::Cursor;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use heapledger::criterion::BenchBooks;
use heapledger::iocontext::{
    Decoder, Demuxer, Frame, FrameCache, Io, Packet, Stream, Workload, generate,
};

#[global_allocator]
static ALLOC: heapledger::Alloc = heapledger::Alloc::system();

/// Two groups of frames, each of one size: work for two threads.
const FRAMES: u32 = 24;

const WORKLOAD: Workload = Workload {
    frames: FRAMES,
    threads: 1,
    seed: 1,
};

fn container() -> Vec<u8> {
    let mut bytes = Vec::new();
    generate(&WORKLOAD.recipe(), &mut bytes).expect("a recipe that holds");
    bytes
}

/// The parts of a decode, one at a time.
fn parts(criterion: &mut Criterion) {
    let bytes: &'static [u8] = container().leak();
    let source = || Io::new(Cursor::new(bytes)).expect("the library loads");
    let io = source();
    let mut demuxer = Demuxer::open(&io).expect("a sound container");
    let info = *demuxer.info();
    let packets: Vec<Packet> =
        std::iter::from_fn(|| demuxer.read().expect("a sound container")).collect();

    let mut group = criterion.benchmark_group("iocontext");
    group.bench_books("probe", || {
        let io = source();
        drop(black_box(Stream::open(&io).expect("a sound container")));
    });
    let mut demuxer = Demuxer::open(&io).expect("a sound container");
    group.bench_books("read a packet", || {
        if demuxer.read().expect("a sound container").is_none() {
            demuxer.seek(0).expect("there is a first frame");
        }
    });
    let mut decoder = Decoder::open(&info).expect("a sound container");
    let key = &packets[0];
    group.bench_books("decode a key frame", || {
        black_box(decoder.decode(key).expect("a sound packet").checksum())
    });
    let mut decoder = Decoder::open(&info).expect("a sound container");
    let opening = &packets[..info.key_interval as usize];
    group.throughput(Throughput::Elements(opening.len() as u64));
    group.bench_books("decode a group of 12 frames", || {
        let frames: Vec<Frame> = opening
            .iter()
            .map(|packet| decoder.decode(packet).expect("a sound packet"))
            .collect();
        black_box(frames.len())
    });
    group.finish();
}

/// Whole runs: frames freed at once, and kept in a cache until the end.
fn runs(criterion: &mut Criterion) {
    let container: Arc<File> = WORKLOAD.container().expect("a recipe that holds");
    let mut group = criterion.benchmark_group("iocontext run");
    group.throughput(Throughput::Elements(FRAMES.into()));
    group.sample_size(10);
    for threads in [1, 2] {
        let workload = Workload {
            threads,
            ..WORKLOAD
        };
        let run = |keep: &(dyn Fn(Frame) + Sync)| {
            workload.run(&container, keep).expect("a sound container")
        };
        group.bench_books(
            BenchmarkId::new("manual", format!("{threads} threads")),
            || run(&drop::<Frame>),
        );
        group.bench_books(
            BenchmarkId::new("blind", format!("{threads} threads")),
            || {
                let cache = FrameCache::new(1 << 20);
                run(&|frame| cache.insert(frame))
            },
        );
    }
    group.finish();
}

criterion_group! {
    name = all;
    config = both_sides::criterion();
    targets = parts, runs
}

fn main() {
    both_sides::see_both_sides();
    all();
    Criterion::default().configure_from_args().final_summary();
}
