//! How much memory the ledger takes: private memory of the program plus its
//! ledger's pages in shared memory, preloaded less bare.

mod common;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::{fs, thread, time::Duration};

use common::{Ledgers, Variant, build, preload_library, verdict};

const MIB: f64 = 1_048_576.0;
const KIB: f64 = 1024.0;

struct Held {
    /// What the program says it holds.
    live: f64,
    /// Private memory and ledgers.
    taken: f64,
}

fn main() {
    let ledgers = Ledgers::new();
    let program = build("memory", "memory");
    let bare = Variant::bare();
    let booked = Variant::ledger("heapledger", preload_library(), &ledgers);
    let hold = |variant: &Variant, what: &str, count: u32| {
        let held = hold(variant, &program, what, count, ledgers.path());
        ledgers.clear();
        held
    };
    let more = |what, count| hold(&booked, what, count).taken - hold(&bare, what, count).taken;

    println!("memory taken by the ledger: preloaded less bare, shared pages included\n");
    println!("{:44}{:>12}{:>12}  met", "", "measured", "target");
    let start = more("blocks", 0);
    line("program with hardly any block, KiB", start / KIB, 1024.0);
    for megabytes in [20, 200] {
        let live = hold(&bare, "blocks", megabytes).live;
        let extra = more("blocks", megabytes);
        line(
            &format!("{megabytes} MiB in blocks of 32 to 256 bytes, %"),
            (extra - MIB).max(0.0) * 100.0 / live,
            7.0,
        );
        println!(
            "{:44}{:>12.2}",
            "    all of it, with the fixed part, %",
            extra * 100.0 / live
        );
    }
    let one = more("threads", 1);
    for threads in [10, 50, 200] {
        let each = (more("threads", threads) - one) / f64::from(threads - 1);
        line(&format!("each of {threads} threads, KiB"), each / KIB, 64.0);
    }
    let few = hold(&booked, "short", 100).taken;
    let many = hold(&booked, "short", 10_100).taken;
    line(
        "10,000 short threads, growth, KiB",
        (many - few) / KIB,
        64.0,
    );
}

fn line(what: &str, value: f64, limit: f64) {
    println!(
        "{what:44}{value:>12.2}{limit:>12.2}  {}",
        verdict(value, limit)
    );
}

fn hold(variant: &Variant, program: &Path, what: &str, count: u32, ledgers: &Path) -> Held {
    let mut command = variant.command(program);
    command.arg(what).arg(count.to_string());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("it is piped"))
        .read_line(&mut line)
        .expect("it prints a number");
    thread::sleep(Duration::from_millis(20)); // threads that have just arrived go to sleep
    let taken = private_bytes(child.id()) + shared_bytes(ledgers);
    drop(child.stdin.take());
    let status = child.wait().expect("it can be waited for");
    assert!(status.success(), "{what} {count}: {status}");
    Held {
        live: line.trim().parse().expect("it prints a number"),
        taken,
    }
}

fn private_bytes(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let of = |name: &str| -> f64 {
        let line = status
            .lines()
            .find(|line| line.starts_with(name))
            .expect("Linux tells");
        line.split_whitespace()
            .nth(1)
            .and_then(|word| word.parse().ok())
            .expect("a number of KiB")
    };
    (of("RssAnon:") + of("VmSwap:") + of("VmPTE:")) * KIB
}

/// What the files of a directory tree take.
fn shared_bytes(directory: &Path) -> f64 {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => shared_bytes(&entry.path()),
            Ok(metadata) => metadata.blocks() as f64 * 512.0,
            Err(_) => 0.0,
        })
        .sum()
}
