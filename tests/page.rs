//! `heapledger report --format html`, as a reader meets it: in a browser.
#![cfg(target_os = "linux")]

#[path = "page/browser.rs"]
mod browser;
mod common;
#[path = "page/many_stacks.rs"]
mod many_stacks;
#[path = "page/player.rs"]
mod player;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use browser::{Browser, key};
use common::{has_tool, heapledger, run, skip, workspace};
use heapledger::Side;
use heapledger::analysis::stacks::Stacks;
use heapledger::analysis::{By, Filter, Report};
use heapledger::recording::Recording;
use heapledger::recording::model::{Lifetimes, Lives, Mode, Site};
use heapledger::report::{html, json};
use serde_json::Value;

const CRUMBS: &str = "return [...document.querySelectorAll('#flame-crumbs button')].map((crumb) => crumb.textContent).join(' > ')";
const READOUT: &str = "return document.getElementById('flame-readout').innerText";

fn has_browser(test: &str) -> bool {
    let has_both = has_tool("chromium") && has_tool("chromedriver");
    if !has_both {
        skip(test, "chromium or chromedriver");
    }
    has_both
}

/// Writes the page of a recording; gives its path, and the report for programs.
fn write(test: &str, recording: &Recording) -> (PathBuf, Value) {
    let report = Report::new(recording);
    let path = write_page(test, &report);
    let mut text = Vec::new();
    json::write(&report, &mut text).expect("it is written");
    (path, serde_json::from_slice(&text).expect("it is JSON"))
}

fn write_page(test: &str, report: &Report) -> PathBuf {
    let filter = Filter::default();
    let stacks = Stacks::new(report, &filter, By::Site).expect("all of it can be shown");
    let path = workspace(test).join("page.html");
    html::write(&stacks, None, fs::File::create(&path).expect("a file")).expect("it is written");
    path
}

fn open(test: &str, recording: &Recording) -> (Browser, Value) {
    let (page, json) = write(test, recording);
    (Browser::open(&page, "light"), json)
}

fn assert_calm(browser: &Browser) {
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn frames_are_zoomed_into_and_left_again_by_mouse_and_by_keys() {
    const TEST: &str = "page_zoom";
    if !has_browser(TEST) {
        return;
    }
    let (browser, _) = open(TEST, &player::recording());
    assert_eq!(browser.text(CRUMBS), "all");
    // The second row is the largest root, the third what it calls.
    browser.click_at("#flame-box canvas", 40, 30);
    assert_eq!(browser.text(CRUMBS), "all > player::worker::decode_loop");
    browser.click_at("#flame-box canvas", 40, 51);
    assert_eq!(
        browser.text(CRUMBS),
        "all > player::worker::decode_loop > avcodec_send_packet"
    );
    browser.press(&[key::ESCAPE]);
    assert_eq!(browser.text(CRUMBS), "all > player::worker::decode_loop");
    browser.click("#flame-crumbs button");
    assert_eq!(browser.text(CRUMBS), "all");
    browser.run("document.getElementById('flame-box').focus()");
    browser.press(&[key::DOWN, key::RIGHT]);
    assert!(
        browser.text(READOUT).starts_with("main"),
        "{}",
        browser.text(READOUT)
    );
    browser.press(&[key::LEFT, key::DOWN, key::ENTER]);
    assert_eq!(
        browser.text(CRUMBS),
        "all > player::worker::decode_loop > avcodec_send_packet"
    );
    browser.press(&[key::UP, key::UP]);
    assert_eq!(browser.text(CRUMBS), "all");
    let aloud = browser.text("return document.getElementById('live').textContent");
    assert!(aloud.starts_with("all: "), "{aloud}");
    assert_calm(&browser);
}

#[test]
fn a_search_says_how_much_lies_below_what_it_finds() {
    const TEST: &str = "page_search";
    if !has_browser(TEST) {
        return;
    }
    let (browser, json) = open(TEST, &player::recording());
    browser.press(&["/"]);
    browser.type_text("libavcodec");
    let expected: i64 = stacks(&json)
        .filter(|stack| {
            stack["frames"]
                .as_array()
                .unwrap()
                .iter()
                .any(|frame| frame["library"] == "libavcodec.so.59")
        })
        .map(|stack| stack["live_bytes"].as_i64().unwrap())
        .sum();
    let found = browser.text("return document.getElementById('flame-found').textContent");
    assert!(
        found.contains(&mebibytes(expected)),
        "{found}, not {}",
        mebibytes(expected)
    );
    browser.press(&[key::ESCAPE]);
    assert_eq!(
        browser.text("return document.getElementById('flame-found').textContent"),
        ""
    );
    assert_eq!(
        browser.text("return document.activeElement.id"),
        "flame-box"
    );
    assert_calm(&browser);
}

#[test]
fn tables_sort_and_search() {
    const TEST: &str = "page_tables";
    if !has_browser(TEST) {
        return;
    }
    let (browser, json) = open(TEST, &player::recording());
    let names = "return [...document.querySelectorAll('#holders-table td.name')].map((cell) => cell.firstChild.textContent).join('|')";
    let by = |key: &str| {
        let mut sites: Vec<&Value> = json["processes"][0]["sites"]
            .as_array()
            .unwrap()
            .iter()
            .collect();
        sites.sort_by_key(|site| std::cmp::Reverse(site[key].as_i64().unwrap()));
        sites.first().unwrap()["symbol"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(browser.text(names).starts_with(&by("live_bytes")));
    browser.click("#holders-table [data-sort=allocated]");
    assert!(browser.text(names).starts_with(&by("allocated_bytes")));
    browser.click("#holders-table [data-sort=name]");
    assert!(
        browser
            .text(names)
            .starts_with("<alloc::vec::Vec<T> as Clone>::clone")
    );
    assert_eq!(
        browser.text("return document.querySelector('#holders-table th[aria-sort]').textContent"),
        "Call site"
    );
    browser.click("#holders-search");
    browser.type_text("scene.rs");
    assert_eq!(browser.text(names), "player::ui::Scene::layout");
    browser.press(&[key::ESCAPE]);
    browser.click("#holders-tab-libraries");
    browser.press(&[key::TAB]);
    assert!(
        browser.text(names).contains("libcrypto.so.3"),
        "{}",
        browser.text(names)
    );
    browser.click("#leaks-table .fold");
    let stack = browser.text("return document.querySelector('#leaks-table .path').innerText");
    assert!(stack.contains("hevc_frame_start"), "{stack}");
    assert_calm(&browser);
}

#[test]
fn what_is_live_is_called_by_who_asked_for_it() {
    const TEST: &str = "page_own";
    if !has_browser(TEST) {
        return;
    }
    let mut recording = player::recording();
    let vector = recording.sites[0].clone();
    let library = "/rustc/1/library/alloc/src/vec/mod.rs".to_owned();
    let mut inner = |symbol: &str, file: Option<String>, offset| {
        let site = Site {
            symbol: Some(symbol.into()),
            offset,
            file,
            ..vector.clone()
        };
        recording.sites.push(site);
        recording.sites.len() as u32 - 1
    };
    let plumbing = [
        inner("heapledger::core::linked::system_alloc", None, 0xf000),
        inner("alloc::alloc::alloc", Some(library.clone()), 0xf010),
        inner("alloc::vec::from_elem", Some(library), 0xf020),
    ];
    let asked = recording.processes[0].stacks.iter_mut();
    for stack in asked.filter(|stack| stack.side == Side::Rust) {
        stack.frames.splice(0..0, plumbing);
    }
    let (browser, _) = open(TEST, &recording);
    browser.click("#side [data-value='1']");
    let names = browser.text("return [...document.querySelectorAll('#leaks-table td.name')].map((cell) => cell.innerText).join('|')");
    assert!(
        names.contains("alloc::vec::from_elem\n← player::"),
        "{names}"
    );
    assert!(!names.contains("alloc::alloc"), "{names}");
    browser.click("#leaks-table .fold");
    let stack = browser.text("return document.querySelector('#leaks-table .path').innerText");
    assert!(
        stack.starts_with("heapledger::core::linked::system_alloc"),
        "all of it is there: {stack}"
    );
    assert_calm(&browser);
}

#[test]
fn where_there_is_little_room_names_stand_first_and_stay() {
    const TEST: &str = "page_narrow";
    if !has_browser(TEST) {
        return;
    }
    let (browser, _) = open(TEST, &player::recording());
    let first = "return ['holders', 'leaks'].map((table) => document.querySelector(`#${table}-table tbody td`).className).join(' ')";
    assert_eq!(browser.text(first), "share share");
    browser.resize(380, 900);
    browser.wait_for("return document.querySelector('#leaks-table tbody td').className === 'name'");
    assert_eq!(browser.text(first), "name name");
    let hidden = "return [...document.querySelectorAll('th, td')].filter((cell) => cell.className === 'share' && cell.offsetWidth > 0).length === 0";
    assert_eq!(browser.run(hidden), true);
    // As many headings as cells, and the name where the eye is, also when figures are pushed aside.
    for left in [0, 10_000] {
        let inside = format!(
            "const box = document.querySelector('#leaks-table').parentElement; box.scrollLeft = {left}; \
             const name = document.querySelector('#leaks-table td.name').getBoundingClientRect(); \
             return name.left >= 0 && name.right <= innerWidth"
        );
        assert_eq!(browser.run(&inside), true, "{left}");
    }
    assert_eq!(
        browser.run("return document.documentElement.scrollWidth <= innerWidth"),
        true,
        "the page itself is no wider than the window"
    );
    assert_calm(&browser);
    browser.resize(1280, 1000);
    browser
        .wait_for("return document.querySelector('#leaks-table tbody td').className === 'share'");
}

#[test]
fn each_side_is_shown_alone() {
    const TEST: &str = "page_sides";
    if !has_browser(TEST) {
        return;
    }
    let (browser, json) = open(TEST, &player::recording());
    let shown = "return document.getElementById('flame-readout').dataset.bytes";
    for (button, side) in [("0", "c"), ("1", "rust"), ("-1", "all")] {
        browser.click(&format!("#side [data-value='{button}']"));
        let expected = &json["processes"][0]["totals"][side]["live_bytes"];
        assert_eq!(browser.text(shown), expected.to_string(), "{side}");
    }
    browser.run("document.querySelector(\"#side [aria-checked='true']\").focus()");
    browser.press(&[key::RIGHT]);
    let expected = &json["processes"][0]["totals"]["c"]["live_bytes"];
    assert_eq!(browser.text(shown), expected.to_string());
    browser.click("#flame-by [data-value=thread]");
    assert_eq!(browser.text(shown), expected.to_string(), "by thread");
    browser.click("#flame-by [data-value=scope]");
    browser.click("#flame-measure [data-value=temporary]");
    let temporary: i64 = stacks(&json)
        .filter(|stack| stack["side"] == "c")
        .map(|stack| stack["temporary_bytes"].as_i64().unwrap())
        .sum();
    assert_eq!(browser.text(shown), temporary.to_string());
    assert_calm(&browser);
}

#[test]
fn lifetimes_are_shown_by_side_where_blocks_were_sampled() {
    const TEST: &str = "page_lifetimes";
    if !has_browser(TEST) {
        return;
    }
    let mut recording = player::recording();
    let lives = |blocks, live_blocks| Lives {
        buckets: vec![(500, blocks), (31_457_279, 3)],
        samples: 9,
        longest_ns: 31_000_000,
        short_blocks: blocks,
        live_blocks,
    };
    recording.processes[0].lifetimes = Some(Lifetimes {
        step_ns: 1,
        sides: [lives(1_234_567, 40), lives(77, 5)],
    });
    let (browser, json) = open(TEST, &recording);
    assert_eq!(json["processes"][0]["lifetimes"]["rust"]["count"], 80);
    let cells = "return [...document.querySelectorAll('#lifetimes-table tbody tr')].map((row) => row.innerText.replaceAll('\\t', ' ')).join('|')";
    let both = browser.text(cells);
    assert!(
        both.starts_with("Freed blocks 1,234,570 80|Half lived at most 500 ns 500 ns|"),
        "{both}"
    );
    assert!(
        both.contains("|Longest 31 ms 31 ms|Under 1 ms 100.0 % 96.3 %|Never freed 40 5|"),
        "{both}"
    );
    let bars = "return [...document.querySelectorAll('#lifetimes .bars > div')].map((row) => row.innerText.replaceAll('\\n', ' ')).join('|')";
    browser.click("#side [data-value='1']");
    let rust = browser.text(bars);
    assert!(
        rust.starts_with("100 ns – 1 µs 77|") && rust.ends_with("|never freed 5"),
        "{rust}"
    );
    assert!(rust.contains("|10 ms – 100 ms 3|"), "{rust}");
    assert_calm(&browser);
}

#[test]
fn totals_are_those_of_the_json_to_the_byte() {
    const TEST: &str = "page_totals";
    if !has_browser(TEST) {
        return;
    }
    let mut recording = player::recording();
    // More than a script's numbers can hold.
    recording.processes[0].owners[0].counts.allocated_bytes += (1 << 60) + 1;
    recording.processes[0].owners[0].counts.freed_bytes += (1 << 60) + 1;
    let (browser, json) = open(TEST, &recording);
    let totals = &json["processes"][0]["totals"]["all"];
    for key in [
        "live_bytes",
        "allocated_bytes",
        "freed_bytes",
        "peak_live_bytes",
    ] {
        let value = browser.text(&format!(
            "return document.querySelector('[data-total={key}]').textContent"
        ));
        let digits: String = value.split(" B").next().unwrap().replace(',', "");
        assert_eq!(digits, totals[key].to_string(), "{key}");
    }
    assert_calm(&browser);
}

#[test]
fn dark_is_what_the_system_prefers_until_the_reader_says_otherwise() {
    const TEST: &str = "page_dark";
    if !has_browser(TEST) {
        return;
    }
    let (page, _) = write(TEST, &player::recording());
    let browser = Browser::open(&page, "dark");
    let background = "return getComputedStyle(document.body).backgroundColor";
    let dark = browser.text(background);
    assert_eq!(
        browser.text("return document.documentElement.dataset.theme"),
        "dark"
    );
    browser.click("#theme");
    assert_eq!(
        browser.text("return document.documentElement.dataset.theme"),
        "light"
    );
    assert_ne!(browser.text(background), dark);
    assert_eq!(
        browser.text("return document.getElementById('theme').getAttribute('aria-pressed')"),
        "false"
    );
    assert_calm(&browser);
}

#[test]
fn misuse_opens_into_both_its_ends_by_keys_alone() {
    const TEST: &str = "page_misuse";
    if !has_browser(TEST) {
        return;
    }
    let (browser, _) = open(TEST, &player::recording());
    assert_eq!(
        browser.text("return String(document.getElementById('misuse'))"),
        "null"
    );
    for scheme in ["light", "dark"] {
        let (page, _) = write(TEST, &player::with_misuse());
        let browser = Browser::open(&page, scheme);
        assert_eq!(
            browser
                .text("return document.querySelector('#sections [href=\"#misuse\"]').textContent"),
            "Misuse"
        );
        let rows = "return [...document.querySelectorAll('#misuse-table td.name')].map((cell) => cell.querySelector('button').firstChild.textContent).join('|')";
        assert_eq!(
            browser.text(rows),
            "likely double free of a block of 1.4 KiB at 0x7f3120004810|\
             a block of 64 KiB at 0x7f3120009000, allocated by C and freed by Rust, 1,200 times"
        );
        let sum = browser.text("return document.querySelector('#misuse .hint').textContent");
        assert!(
            sum.starts_with("1,200 calls that no correct program makes. 1 call is likely misuse"),
            "{sum}"
        );
        browser.run("document.querySelector('#misuse-table .fold').focus()");
        browser.press(&[key::ENTER]);
        let ends = "return [...document.querySelectorAll('#misuse-table .end')].map((end) => end.innerText.split('\\n').map((line) => line.trim()).join(' / ')).join('|')";
        let read = "av_read_frame / libavformat.so.59 · libavformat/demux.c:1453 / \
                    player::demux::Demuxer::next_packet / player · src/demux.rs:77 / \
                    main / player · src/main.rs:31";
        assert_eq!(
            browser.text(ends),
            format!(
                "freed again by decoder-1 (4712) / \
                 avcodec_send_packet / libavcodec.so.59 · libavcodec/decode.c:710 / \
                 player::worker::decode_loop / player · src/worker.rs:64|\
                 freed first by player (4711) / {read}|allocated by player (4711) / {read}"
            )
        );
        browser.press(&[key::ENTER]);
        assert_eq!(
            browser.text(ends),
            "",
            "it closes again, with the focus where it was"
        );
        browser.run("document.getElementById('misuse-search').focus()");
        browser.type_text("framecache");
        assert!(
            browser.text(rows).starts_with("a block of 64 KiB"),
            "{}",
            browser.text(rows)
        );
        browser.click("#side [data-value=\"1\"]");
        assert!(
            browser.text(rows).starts_with("a block of 64 KiB"),
            "sides hide no misuse"
        );
        browser.click("#flame-measure [data-value=temporary]");
        browser.click("#flame-measure [data-value=peak]");
        assert_calm(&browser);
    }
}

#[test]
fn the_timeline_is_read_with_keys_and_shows_clean_ups() {
    const TEST: &str = "page_timeline";
    if !has_browser(TEST) {
        return;
    }
    let (browser, _) = open(TEST, &player::recording());
    let readout = "return document.getElementById('timeline-readout').innerText";
    browser.run("document.getElementById('timeline-box').focus()");
    browser.press(&[key::PAGE_DOWN]);
    let first = browser.text(readout);
    assert!(first.starts_with("At 13.9 s: C "), "{first}");
    assert!(
        first.contains("Clean-up (growth, moderate): freed 265 MiB of 249 MiB claimed in 700 ms"),
        "{first}"
    );
    browser.press(&["+", key::ESCAPE, key::PAGE_DOWN]);
    assert!(
        browser.text(readout).starts_with("At 23.6 s"),
        "{}",
        browser.text(readout)
    );
    let rows = browser.run("return document.querySelectorAll('#cleanups-table tbody tr').length");
    assert_eq!(rows, 3);
    assert_calm(&browser);
}

#[test]
fn a_claim_that_the_ledger_contradicts_is_shown_as_such() {
    const TEST: &str = "page_contradicted";
    if !has_browser(TEST) {
        return;
    }
    let mut recording = player::recording();
    let events = &mut recording.processes[0].pressure.events;
    events[0].claimed_bytes = Some(3 * events[0].freed_bytes);
    let (browser, _) = open(TEST, &recording);
    let claims = browser.run(
        "return [...document.querySelectorAll('#cleanups-table tbody tr')]\
         .map((row) => row.cells[5].innerText)",
    );
    assert_eq!(
        claims,
        serde_json::json!(["795 MiB contradicted", "246 MiB", "358 MiB"])
    );
    browser.run("document.getElementById('timeline-box').focus()");
    browser.press(&[key::PAGE_DOWN]);
    let first = browser.text("return document.getElementById('timeline-readout').innerText");
    let told = "freed 265 MiB of 795 MiB claimed, which the ledger contradicts, in 700 ms";
    assert!(first.contains(told), "{first}");
    assert_calm(&browser);
}

#[test]
fn names_of_a_hostile_recording_stay_names() {
    const TEST: &str = "page_hostile";
    const NAME: &str = "</script><img src=x onerror=\"document.title='taken'\"><!--{{data}}";
    if !has_browser(TEST) {
        return;
    }
    let mut recording = player::recording();
    recording.start.command[0] = NAME.into();
    recording.warnings.push(NAME.into());
    recording
        .modules
        .iter_mut()
        .for_each(|module| module.path = NAME.into());
    let process = &mut recording.processes[0];
    process
        .scopes
        .iter_mut()
        .for_each(|scope| *scope = NAME.into());
    process
        .threads
        .iter_mut()
        .for_each(|thread| thread.name = NAME.into());
    process.exe = NAME.into();
    for site in &mut recording.sites {
        site.symbol = Some(NAME.into());
        site.file = Some(NAME.into());
    }
    let (browser, _) = open(TEST, &recording);
    browser.click("#flame-by [data-value=thread]");
    browser.click("#holders-tab-threads");
    browser.click("#leaks-table .fold");
    assert_eq!(browser.run("return document.images.length"), 0);
    assert!(browser.text("return document.title").contains("onerror"));
    assert!(
        browser
            .text("return document.querySelector('#leaks-table td.name').innerText")
            .contains(NAME)
    );
    assert_calm(&browser);
}

#[test]
fn recordings_of_every_shape_are_shown_without_a_complaint() {
    const TEST: &str = "page_shapes";
    if !has_browser(TEST) {
        return;
    }
    let gaps = "return document.getElementById('gaps').innerText";
    let overview = "return document.getElementById('overview').innerText";
    let (browser, _) = open(TEST, &Recording::default());
    assert!(browser.text(overview).contains("No process was tracked"));
    assert_calm(&browser);

    let mut untracked = player::recording();
    untracked.processes[0].untracked_reason = Some("statically linked".into());
    let (browser, _) = open(TEST, &untracked);
    assert!(
        browser
            .text(gaps)
            .contains("player (pid 4711) untracked: statically linked")
    );
    assert_calm(&browser);

    let mut without_stacks = player::recording();
    let process = &mut without_stacks.processes[0];
    process.mode = Mode::Count;
    process.stacks.clear();
    process.losses.owners_overflowed = 1_200;
    let mut child = process.clone();
    (child.pid, child.started_s) = (4_712, 12.5);
    without_stacks.processes.push(child);
    let (browser, json) = open(TEST, &without_stacks);
    assert!(
        browser
            .text(gaps)
            .contains("1,200 allocations at call sites that found no room")
    );
    let of_one = json["processes"][0]["totals"]["all"]["live_bytes"]
        .as_i64()
        .unwrap();
    let shown = "return document.getElementById('flame-readout').dataset.bytes";
    assert_eq!(browser.text(shown), (2 * of_one).to_string());
    browser.run("const choice = document.getElementById('process'); choice.value = '1'; choice.dispatchEvent(new Event('change'))");
    assert_eq!(browser.text(shown), of_one.to_string());
    browser.click("#flame-by [data-value=thread]");
    assert_eq!(browser.text(shown), of_one.to_string());
    browser.click("#flame-by [data-value=library]");
    browser.click("#flame-measure [data-value=peak]");
    browser.click("#holders-tab-scopes");
    assert_calm(&browser);

    let mut sampled = player::recording();
    sampled.processes[0].mode = Mode::Sample {
        sample_bytes: 512 << 10,
    };
    let (browser, _) = open(TEST, &sampled);
    let hint = browser.text("return document.getElementById('flame-hint').textContent");
    assert!(
        hint.contains("samples, one in 512 KiB on average"),
        "{hint}"
    );
    let peak = "return document.querySelector('#flame-measure [data-value=peak]').title";
    assert_eq!(
        browser.text(peak),
        "Which stacks held the peak is not known from samples"
    );
    assert!(
        browser.text(READOUT).contains("samples, ± about "),
        "{}",
        browser.text(READOUT)
    );
    assert_calm(&browser);
}

#[test]
fn absurd_figures_are_shown_without_a_complaint() {
    const TEST: &str = "page_absurd";
    if !has_browser(TEST) {
        return;
    }
    let mut recording = player::recording();
    let process = &mut recording.processes[0];
    (process.started_s, process.duration_s) = (f64::NAN, f64::INFINITY);
    for (index, stack) in process.stacks.iter_mut().enumerate() {
        let largest = index % 2 == 0;
        stack.figures.live_bytes = if largest { i64::MAX } else { i64::MIN };
        stack.figures.allocated_bytes = u64::MAX;
        stack.thread = Some(u32::MAX - 1);
    }
    for point in &mut process.timeline {
        (point.t_s, point.c_live_bytes, point.rss_bytes) = (f64::INFINITY, i64::MIN, u64::MAX);
    }
    let absurd = Lives {
        buckets: vec![(u64::MAX, u64::MAX), (0, 1)],
        samples: u64::MAX,
        longest_ns: u64::MAX,
        short_blocks: u64::MAX,
        live_blocks: u64::MAX,
    };
    process.lifetimes = Some(Lifetimes {
        step_ns: u64::MAX,
        sides: [absurd.clone(), absurd],
    });
    for event in &mut process.pressure.events {
        (event.t_s, event.took_s, event.freed_bytes) = (f64::MAX, f64::NAN, u64::MAX);
    }
    let (browser, _) = open(TEST, &recording);
    browser.run("document.getElementById('timeline-box').focus()");
    browser.press(&[key::RIGHT, key::PAGE_DOWN, "+", "+", "-"]);
    browser.click("#flame-by [data-value=thread]");
    browser.click("#flame-measure [data-value=allocated]");
    browser.click("#leaks-table .fold");
    assert_calm(&browser);
}

#[test]
fn a_hundred_thousand_stacks_make_a_page_that_opens() {
    const TEST: &str = "page_large";
    if !has_browser(TEST) {
        return;
    }
    let recording = many_stacks::recording(100_000);
    let page = write_page(TEST, &Report::new(&recording));
    let length = fs::metadata(&page).expect("a page").len();
    assert!(length < 10 << 20, "{length} bytes");
    let browser = Browser::open(&page, "light");
    let shown = "return document.getElementById('flame-readout').dataset.bytes";
    let stacks = &recording.processes[0].stacks;
    let expected: i64 = stacks.iter().map(|stack| stack.figures.live_bytes).sum();
    assert_eq!(browser.text(shown), expected.to_string());
    let flame = browser.text("return document.documentElement.dataset.flameMs");
    let ready = browser.text("return document.documentElement.dataset.readyMs");
    println!("{length} bytes: flame graph after {flame} ms, complete after {ready} ms");
    browser.click("#flame-by [data-value=scope]");
    assert_eq!(browser.text(shown), expected.to_string());
    assert_calm(&browser);
}

#[test]
fn the_command_writes_the_page_of_a_real_recording() {
    const TEST: &str = "page_command";
    if !has_browser(TEST) {
        return;
    }
    let directory = workspace(TEST);
    let recording = directory.join("list.hlr");
    let page = directory.join("list.html");
    let recorded = run(heapledger()
        .args(["run", "-q", "--mode", "full", "-o"])
        .arg(&recording)
        .args(["--", "ls", "/"]));
    assert_eq!(recorded.code(), 0, "{}", recorded.error);
    let written = run(heapledger()
        .arg("report")
        .arg(&recording)
        .args(["--format=html", "-o"])
        .arg(&page));
    assert_eq!((written.code(), written.error.as_str()), (0, ""));
    let json = run(heapledger()
        .arg("report")
        .arg(&recording)
        .args(["--format", "json"]));
    let json: Value = serde_json::from_str(&json.text).expect("it is JSON");
    let browser = Browser::open(&page, "light");
    let shown = browser.text("return document.getElementById('flame-readout').dataset.bytes");
    assert_eq!(
        shown,
        json["processes"][0]["totals"]["all"]["live_bytes"].to_string()
    );
    assert_calm(&browser);
}

/// Takes the picture of the README anew with HEAPLEDGER_BLESS=1.
#[test]
fn the_readme_has_a_picture_of_the_page() {
    const TEST: &str = "page_picture";
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/report.png");
    if std::env::var_os("HEAPLEDGER_BLESS").is_some() {
        if !has_browser(TEST) {
            return;
        }
        let (page, _) = write(TEST, &player::recording());
        take_picture(&page, &picture);
    }
    let length = fs::metadata(&picture).expect("the picture is there").len();
    assert!((1..200 << 10).contains(&length), "{length} bytes");
}

fn take_picture(page: &Path, picture: &Path) {
    let profile = tempfile::tempdir().expect("a directory for the profile");
    let taken = run(Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .args([
            "--hide-scrollbars",
            "--window-size=1280,1180",
            "--virtual-time-budget=2000",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--screenshot={}", picture.display()))
        .arg(format!("file://{}", page.display())));
    assert_eq!(taken.code(), 0, "{}", taken.error);
}

fn stacks(json: &Value) -> impl Iterator<Item = &Value> {
    json["processes"][0]["stacks"]
        .as_array()
        .expect("a list")
        .iter()
}

fn mebibytes(bytes: i64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}
