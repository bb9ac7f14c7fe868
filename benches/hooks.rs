//! What the malloc hooks cost: `malloc` and `free` in C programs under the
//! preload library, against bare glibc.
//!
//! The programs time slices of a millisecond and give the shortest; all
//! variants take turns, a process each, round by round; shown is the median of
//! the rounds' ratios. `--library FILE` measures another build beside this one.
//! Beside it the least that such books could cost: `entries` notes each block's
//! owner and does nothing else, `counters` counts as well, and neither makes sure
//! of anything (benches/programs/entries.c).

mod common;

use common::{
    Ledgers, Rounds, Variant, build, library, numbers, option, preload_library, rounds, verdict,
};

const ROUNDS: usize = 15;
const MILLISECONDS: &str = "120";

struct Workload {
    name: &'static str,
    words: [&'static str; 2],
    target: Option<f64>,
}

const WORKLOADS: [Workload; 5] = [
    Workload {
        name: "64 B pair",
        words: ["pair", "1"],
        target: Some(1.5),
    },
    Workload {
        name: "64 B pair, 2 threads",
        words: ["pair", "2"],
        target: Some(1.5),
    },
    Workload {
        name: "10,000-block window",
        words: ["window", "1"],
        target: Some(1.15),
    },
    Workload {
        name: "window, 2 threads",
        words: ["window", "2"],
        target: Some(1.15),
    },
    Workload {
        name: "freed by the other thread",
        words: ["cross", "2"],
        target: None,
    },
];

fn main() {
    let ledgers = Ledgers::new();
    let program = build("workload", "workload");
    let mut variants = vec![
        Variant::bare(),
        Variant::preloaded("forwarding", build("forwarding", "forwarding.so")),
        Variant::ledger("heapledger", preload_library(), &ledgers),
        Variant::sampled("sample", preload_library(), &ledgers),
        Variant::preloaded("entries", build("entries", "entries.so")),
        Variant::preloaded("counters", build("counters", "counters.so")),
    ];
    if let Some(other) = option("--library") {
        variants.push(Variant::ledger("other", other, &ledgers));
    }
    match library("libmemusage.so") {
        Some(library) => variants.push(Variant::preloaded("memusage", library)),
        None => println!("SKIPPED memusage: libmemusage.so missing"),
    }

    println!(
        "malloc + free, ratio to bare glibc, median of {} interleaved rounds\n",
        rounds(ROUNDS)
    );
    print!("{:28}{:>9}", "", "bare ns");
    for variant in &variants[1..] {
        print!("{:>12}", variant.name);
    }
    println!("{:>9}  met", "target");
    for workload in &WORKLOADS {
        let measured = Rounds::run(rounds(ROUNDS), variants.len(), |variant| {
            let mut command = variants[variant].command(&program);
            numbers(command.args(workload.words).arg(MILLISECONDS))[0]
        });
        ledgers.clear();
        print!("{:28}{:>9.1}", workload.name, measured.median(0));
        for variant in 1..variants.len() {
            print!("{:>12.2}", measured.ratio(variant));
        }
        match workload.target {
            Some(target) => println!("{target:>9.2}  {}", verdict(measured.ratio(2), target)),
            None => println!(),
        }
    }
}
