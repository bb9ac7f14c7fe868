//! How long a report of a large tree takes: 5,000 call sites in 200 processes,
//! each process with an owner at every site. And what formats of stacks take of one
//! process with 100,000 stacks of 24 frames.

#[path = "common/both_sides.rs"]
mod both_sides;
mod common;

use std::hint::black_box;
use std::io;
use std::time::Duration;

use criterion::{Criterion, criterion_group};
use heapledger::analysis::stacks::Stacks;
use heapledger::analysis::{By, Difference, Filter, Measure, Report};
use heapledger::criterion::BenchBooks;
use heapledger::recording::Recording;
use heapledger::recording::model::{
    Inlined, Mode, Module, Outcome, OwnerEntry, Peak, Process, Site, Sizes, Stack, StackFigures,
    Start, Thread, TimelinePoint,
};
use heapledger::report::{Style, flamegraph, folded, html, json, pprof, text};
use heapledger::{Counts, Side};

#[global_allocator]
static ALLOC: heapledger::Alloc = heapledger::Alloc::system();

const SITES: u32 = 5_000;
const PROCESSES: u32 = 200;
const STACKS: u32 = 100_000;
const FRAMES: u32 = 24;

fn report(criterion: &mut Criterion) {
    let recording = recording();
    let mut group = criterion.benchmark_group("report");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(6));
    group.bench_books("analysis", || Report::new(&recording));
    group.bench_books("analysis and text", || {
        let mut out = Counter(0);
        text::write(&Report::new(&recording), None, Style::PLAIN, &mut out).map(|()| out.0)
    });
    group.bench_books("analysis and json", || {
        let mut out = Counter(0);
        json::write(&Report::new(&recording), &mut out).map(|()| out.0)
    });
    group.finish();
}

fn stacks(criterion: &mut Criterion) {
    let recording = deep_recording();
    let filter = Filter::default();
    let mut group = criterion.benchmark_group("100,000 stacks");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(6));
    let with = |write: fn(&Stacks, &mut Counter) -> io::Result<()>| {
        let mut out = Counter(0);
        let report = Report::new(&recording);
        let stacks = Stacks::new(&report, &filter, By::Site).expect("all is looked at");
        write(&stacks, &mut out).map(|()| out.0)
    };
    group.bench_books("pprof", || {
        with(|stacks, out| pprof::write(stacks, Measure::Live, out))
    });
    group.bench_books("html", || {
        with(|stacks, out| html::write(stacks, None, out))
    });
    group.bench_books("flamegraph", || {
        with(|stacks, out| flamegraph::write(stacks, Measure::Live, out))
    });
    group.bench_books("folded", || {
        with(|stacks, out| folded::write(stacks, Measure::Live, out).map(drop))
    });
    group.bench_books("json", || with(|stacks, out| json::write_with(stacks, out)));
    group.bench_books("difference", || {
        let report = Report::new(&recording);
        let stacks = Stacks::new(&report, &filter, By::Site).expect("all is looked at");
        let difference = Difference::new(&stacks, &stacks, Measure::Live);
        difference.stacks.map(|stacks| stacks.len())
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = both_sides::criterion();
    targets = report, stacks
}

fn main() {
    both_sides::see_both_sides();
    benches();
    Criterion::default().configure_from_args().final_summary();
}

struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += black_box(bytes).len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn recording() -> Recording {
    let module = |index| Module {
        path: format!("/usr/lib/x86_64-linux-gnu/libpart{index}.so.1"),
        build_id: vec![index; 20],
    };
    let site = |index: u32| Site {
        module: Some(index % 50),
        offset: u64::from(index) * 16,
        symbol: Some(format!(
            "project::module::function_with_a_usual_name_{index}"
        )),
        file: Some(format!(
            "/home/build/project/src/module/file_{}.rs",
            index % 300
        )),
        line: Some(index),
        ..Site::default()
    };
    Recording {
        start: Start {
            command: vec!["make".into(), "-j2".into()],
            ..Start::default()
        },
        modules: (0..50).map(module).collect(),
        sites: (0..SITES).map(site).collect(),
        processes: (1..=PROCESSES).map(process).collect(),
        warnings: Vec::new(),
    }
}

/// One process in mode full, whose stacks branch as those of real programs do: all
/// begin alike, and differ more towards their ends.
fn deep_recording() -> Recording {
    let mut recording = recording();
    for site in recording.sites.iter_mut().step_by(4) {
        site.inlined = vec![Inlined {
            symbol: "alloc::vec::Vec<T>::with_capacity".into(),
            file: Some("/rust/library/alloc/src/vec/mod.rs".into()),
            line: Some(500),
        }];
    }
    recording.processes.truncate(1);
    let process = &mut recording.processes[0];
    process.mode = Mode::Full;
    process.stacks = (0..STACKS).map(stack).collect();
    recording
}

fn stack(index: u32) -> Stack {
    let branch = |depth: u32| {
        let choices = index >> (2 * (FRAMES - 1 - depth)).min(31);
        choices.wrapping_mul(2_654_435_761).wrapping_add(depth * 97) % SITES
    };
    let bytes = u64::from(index % 1_000 + 1) * 64;
    Stack {
        frames: (0..FRAMES).rev().map(branch).collect(),
        is_truncated: false,
        is_guessed: false,
        side: if index.is_multiple_of(3) {
            Side::Rust
        } else {
            Side::C
        },
        scope: None,
        thread: Some(0),
        figures: StackFigures {
            live_bytes: bytes as i64,
            live_blocks: 2,
            allocated_bytes: bytes * 3,
            allocated_blocks: 6,
            at_peak: (bytes as i64, 2),
            temporary: (bytes, 2),
            samples: 6,
            ..StackFigures::default()
        },
    }
}

fn process(pid: u32) -> Process {
    let owners: Vec<OwnerEntry> = (0..SITES).map(|site| owner(pid, site)).collect();
    let sum = |side| {
        owners
            .iter()
            .filter(|owner| owner.side == side)
            .map(|owner| owner.counts)
            .sum()
    };
    let thread = Thread {
        tid: pid,
        name: "main".into(),
        counts: [sum(Side::C), sum(Side::Rust)],
    };
    let point = |index: u32| TimelinePoint {
        t_s: f64::from(index) * 0.01,
        c_live_bytes: i64::from(index) * 1_000,
        rust_live_bytes: i64::from(index) * 500,
        rss_bytes: 50_000_000,
    };
    let sizes = Sizes {
        buckets: (4..16).map(|power| ((1 << power) - 1, 1_000)).collect(),
        max: 32_000,
    };
    Process {
        pid,
        parent_pid: pid - 1,
        exe: "/usr/bin/cc1".into(),
        args: vec!["cc1".into(), format!("file{pid}.c")],
        duration_s: 10.0,
        outcome: Outcome::ExitCode(0),
        hooks: 3,
        owners,
        threads: vec![thread],
        sizes: [sizes.clone(), sizes],
        peak: Peak {
            live_bytes: [6_000_000, 4_000_000, 9_000_000],
            at_s: 5.0,
            captured_live_bytes: 8_900_000,
        },
        timeline: (0..500).map(point).collect(),
        ..Process::default()
    }
}

fn owner(pid: u32, site: u32) -> OwnerEntry {
    // A stride that visits every residue: rows arrive in no useful order.
    let mixed = u64::from(site * 7_919 % SITES + pid);
    let (allocated, freed) = (mixed * 4_096 + 64, mixed * 1_024);
    let counts = Counts {
        live_bytes: (allocated - freed) as i64,
        live_blocks: 64,
        allocated_bytes: allocated,
        allocated_blocks: 128,
        freed_bytes: freed,
        freed_blocks: 64,
        reallocs: 3,
        requested_bytes: allocated - 64,
    };
    let side = if site.is_multiple_of(3) {
        Side::Rust
    } else {
        Side::C
    };
    OwnerEntry {
        site,
        side,
        scope: None,
        counts,
        at_peak: ((mixed * 2_000) as i64, 50),
    }
}
