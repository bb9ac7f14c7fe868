//! How long a browser takes to open the page of 100,000 stacks: from the beginning of
//! the navigation to the frame in which the flame graph is there to be used, and to the
//! last table; beside an empty page in the same browser, in interleaved rounds. And how
//! long the page takes to be written.

#[path = "../tests/page/browser.rs"]
#[allow(dead_code)]
mod browser;
mod common;
#[path = "../tests/page/many_stacks.rs"]
mod many_stacks;

use std::fs;
use std::path::Path;
use std::time::Instant;

use browser::Browser;
use common::{rounds, tool, verdict, workshop};
use heapledger::analysis::stacks::Stacks;
use heapledger::analysis::{By, Filter, Report};
use heapledger::recording::Recording;
use heapledger::report::html;

const ROUNDS: usize = 11;
const STACKS: u32 = 100_000;
const WRITTEN_MS: f64 = 3_000.0;
const MOST_BYTES: f64 = 10e6;
const OPENED_MS: f64 = 1_000.0;

/// Tells its time as the page of a report does: after a frame has gone to the screen.
const EMPTY: &str = "<!DOCTYPE html><title>empty</title><p>empty</p><script>
requestAnimationFrame(() => setTimeout(() => {
  document.documentElement.dataset.flameMs = document.documentElement.dataset.readyMs = performance.now();
}));
</script>";

/// Zooms into the largest frame, and tells when that has gone to the screen.
const ZOOM: &str = "const box = document.getElementById('flame-box');
const began = performance.now();
box.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowDown' }));
box.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter' }));
requestAnimationFrame(() => setTimeout(() => {
  document.documentElement.dataset.zoomMs = performance.now() - began;
}));";

fn main() {
    if tool("chromium").is_none() || tool("chromedriver").is_none() {
        println!("SKIPPED the page: chromium or chromedriver is missing");
        return;
    }
    let recording = many_stacks::recording(STACKS);
    let page = workshop().join("page.html");
    let empty = workshop().join("empty.html");
    fs::write(&empty, EMPTY).expect("the target directory is writable");
    let written_ms = write(&recording, &page);
    let bytes = fs::metadata(&page).expect("the page is there").len() as f64;
    let figures = measure(&empty, &page);
    let row = |name: &str, value: f64, unit: &str, target: Option<f64>| {
        let told = target.map_or(String::new(), |target| {
            format!("{target:>9.0} {unit:3} {}", verdict(value, target))
        });
        println!("{name:44}{value:>9.0} {unit:3}{told}");
    };
    println!(
        "the page of {STACKS} stacks, medians of {} interleaved rounds\n",
        rounds(ROUNDS)
    );
    println!("{:44}{:>9}{:>12}      met", "", "", "target");
    row("written in", written_ms, "ms", Some(WRITTEN_MS));
    row("length", bytes / 1e3, "kB", Some(MOST_BYTES / 1e3));
    row(
        "an empty page on the screen after",
        figures.empty,
        "ms",
        None,
    );
    row(
        "flame graph on the screen after",
        figures.flame,
        "ms",
        Some(OPENED_MS),
    );
    row(
        "... in a browser just started",
        figures.first,
        "ms",
        Some(OPENED_MS),
    );
    row("last table after", figures.ready, "ms", Some(OPENED_MS));
    row("a zoom takes", figures.zoom, "ms", None);
}

/// Writes the page, and gives the shortest time of three.
fn write(recording: &Recording, page: &Path) -> f64 {
    let once = |_| {
        let began = Instant::now();
        let report = Report::new(recording);
        let filter = Filter::default();
        let stacks = Stacks::new(&report, &filter, By::Site).expect("all of it can be shown");
        let file = fs::File::create(page).expect("the target directory is writable");
        html::write(&stacks, None, file).expect("it is written");
        began.elapsed().as_secs_f64() * 1e3
    };
    (0..3).map(once).fold(f64::INFINITY, f64::min)
}

/// Milliseconds, from the beginning of each navigation.
struct Figures {
    empty: f64,
    flame: f64,
    /// In a browser that has shown an empty page alone.
    first: f64,
    ready: f64,
    zoom: f64,
}

fn measure(empty: &Path, page: &Path) -> Figures {
    let mut all: [Vec<f64>; 5] = Default::default();
    for _ in 0..rounds(ROUNDS) {
        let browser = Browser::open(empty, "light");
        browser.visit(page);
        all[0].push(stamp(&browser, "flameMs"));
        browser.visit(empty);
        all[1].push(stamp(&browser, "flameMs"));
        browser.visit(page);
        all[2].push(stamp(&browser, "flameMs"));
        all[3].push(stamp(&browser, "readyMs"));
        browser.run(ZOOM);
        browser.wait_for("return document.documentElement.dataset.zoomMs !== undefined");
        all[4].push(stamp(&browser, "zoomMs"));
    }
    let [first, empty, flame, ready, zoom] = all.map(median);
    Figures {
        empty,
        flame,
        first,
        ready,
        zoom,
    }
}

fn stamp(browser: &Browser, name: &str) -> f64 {
    let text = browser.text(&format!("return document.documentElement.dataset.{name}"));
    text.parse().expect("a number")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
