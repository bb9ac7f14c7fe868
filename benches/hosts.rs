//! What programs in Go, Python and Java take whose memory lies in C: alone, with
//! what could be thought to help, booked, and with clean-ups.

mod common;
#[path = "common/hosts.rs"]
mod hosts;

use common::{Rounds, has_flag, rounds, verdict};
use hosts::{Books, Figures, Host, Way, go_hosts, java_host, python_host};

const ROUNDS: usize = 3;

fn main() {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    match go_hosts() {
        Ok(hosts) => found.extend(hosts),
        Err(tool) => missing.push(("Go", tool)),
    }
    for (language, host) in [("Python", python_host()), ("Java", java_host())] {
        match host {
            Ok(host) => found.push(host),
            Err(tool) => missing.push((language, tool)),
        }
    }
    let rounds = if has_flag("--quick") {
        1
    } else {
        rounds(ROUNDS)
    };
    println!(
        "1,000 frames of 3.0 MiB in C, held by objects that only a collector finds; medians of {rounds} interleaved rounds\n"
    );
    println!(
        "{:60}{:>11}{:>8}{:>11}{:>11}{:>9}  target",
        "", "peak RSS", "ratio", "C's peak", "clean-ups", "time"
    );
    for host in &found {
        show(host, rounds);
    }
    for (language, tool) in missing {
        println!("SKIPPED {language}: {tool} is missing");
    }
}

fn mebibytes(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / f64::from(1 << 20))
}

fn show(host: &Host, rounds: usize) {
    println!("{}", host.name);
    let ways = host.ways();
    let mut runs: Vec<Vec<Figures>> = ways.iter().map(|_| Vec::new()).collect();
    let peaks = Rounds::run(rounds, ways.len(), |which| {
        let figures = host.run(ways[which]);
        let peak = figures.peak_rss_bytes as f64;
        runs[which].push(figures);
        peak
    });
    for (which, &way) in ways.iter().enumerate() {
        let books = |of: fn(&Books) -> u64| {
            let values = runs[which].iter().filter_map(|run| run.books.as_ref());
            common::median(values.map(|books| of(books) as f64))
        };
        let is_booked = matches!(way, Way::Booked | Way::CleanedUp);
        let ratio = peaks.ratio(which);
        println!(
            "  {:58}{:>11}{ratio:>8.2}{:>11}{:>11}{:>7.1} s  {}",
            host.describe(way),
            mebibytes(peaks.median(which)),
            if is_booked {
                mebibytes(books(|books| books.c_peak_bytes))
            } else {
                String::new()
            },
            if way == Way::CleanedUp {
                format!("{:.0}", books(|books| books.cleanups))
            } else {
                String::new()
            },
            common::median(runs[which].iter().map(|run| run.seconds)),
            match way {
                Way::CleanedUp => {
                    let target = 1.0 / host.at_most_one_in;
                    format!("{target:.3}  {}", verdict(ratio, target))
                }
                _ => String::new(),
            },
        );
    }
}
