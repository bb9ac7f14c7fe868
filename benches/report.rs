//! How long a report of a large tree takes: 5,000 call sites in 200 processes,
//! each process with an owner at every site.

#[path = "common/both_sides.rs"]
mod both_sides;
mod common;

use std::hint::black_box;
use std::io;
use std::time::Duration;

use criterion::{Criterion, criterion_group};
use heapledger::analysis::Report;
use heapledger::criterion::BenchBooks;
use heapledger::recording::Recording;
use heapledger::recording::model::{
    Module, Outcome, OwnerEntry, Peak, Process, Site, Sizes, Start, Thread, TimelinePoint,
};
use heapledger::report::{Style, json, text};
use heapledger::{Counts, Side};

#[global_allocator]
static ALLOC: heapledger::Alloc = heapledger::Alloc::system();

const SITES: u32 = 5_000;
const PROCESSES: u32 = 200;

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

criterion_group! {
    name = benches;
    config = both_sides::criterion();
    targets = report
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
