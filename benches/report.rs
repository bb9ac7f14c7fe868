//! How long a report of a large tree takes: 5,000 call sites in 200 processes,
//! each process with an owner at every site.

use std::hint::black_box;
use std::io;
use std::time::Instant;

use heapledger::analysis::Report;
use heapledger::recording::Recording;
use heapledger::recording::model::{
    Module, Outcome, OwnerEntry, Peak, Process, Site, Sizes, Start, Thread, TimelinePoint,
};
use heapledger::report::{Style, json, text};
use heapledger::{Counts, Side};

const SITES: u32 = 5_000;
const PROCESSES: u32 = 200;
const ROUNDS: usize = 5;

fn main() {
    let recording = recording();
    println!("report of {SITES} sites in {PROCESSES} processes, ms, median of {ROUNDS}");
    let analysis = median_ms(|| drop(black_box(Report::new(&recording))));
    let report = Report::new(&recording);
    let as_text = median_ms(|| text::write(&report, None, Style::PLAIN, &mut io::sink()).unwrap());
    let mut bytes = 0;
    let as_json = median_ms(|| {
        let mut out = Counter(0);
        json::write(&report, &mut out).unwrap();
        bytes = out.0;
    });
    println!("  analysis         {analysis:7.1}");
    println!(
        "  text             {as_text:7.1}   with analysis {:7.1}",
        analysis + as_text
    );
    println!(
        "  json ({} MB)    {as_json:7.1}   with analysis {:7.1}",
        bytes / 1_000_000,
        analysis + as_json
    );
}

fn median_ms(mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
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
