use super::*;
use crate::analysis::{By, Filter, fixture};
use crate::recording::Recording;

fn svg(recording: &Recording, by: By, measure: Measure) -> String {
    let mut out = Vec::new();
    let report = Report::new(recording);
    let filter = Filter::default();
    let stacks = Stacks::new(&report, &filter, by).unwrap();
    write(&stacks, measure, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn difference(old: &Recording, new: &Recording) -> String {
    let mut out = Vec::new();
    let filter = Filter::default();
    let (old, new) = (Report::new(old), Report::new(new));
    let old = Stacks::new(&old, &filter, By::Site).unwrap();
    let new = Stacks::new(&new, &filter, By::Site).unwrap();
    write_difference(&old, &new, Measure::Live, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Gives the titles of boxes whose name begins so.
fn titles<'a>(svg: &'a str, name: &str) -> Vec<&'a str> {
    let boxes = svg.split("<g class=\"f\"").skip(1);
    boxes
        .filter_map(|text| text.split_once("<title>")?.1.split_once("</title>"))
        .map(|(title, _)| title)
        .filter(|title| title.starts_with(name))
        .collect()
}

#[test]
fn boxes_tell_the_exact_sums_of_both_sides() {
    let svg = svg(&fixture::with_stacks(), By::Site, Measure::Live);
    assert_eq!(
        titles(&svg, "all"),
        ["all\n4,200,000 bytes (4.0 MiB), 100.0 %\n\
          c 4,000,000 bytes (3.8 MiB), rust 200,000 bytes (195 KiB)"]
    );
    assert_eq!(
        titles(&svg, "main"),
        [
            "main (player)\n4,000,000 bytes (3.8 MiB), 95.2 %\nc 4,000,000 bytes (3.8 MiB), rust 0 bytes",
            "main (player)\n200,000 bytes (195 KiB), 4.8 %\nc 0 bytes, rust 200,000 bytes (195 KiB)",
        ]
    );
    assert!(svg.contains("player --loop 'a file.mkv': live bytes"));
    let hue = |side, name| {
        format!(
            "fill=\"#{}\"",
            varied(side, name)
                .map(|part| format!("{part:02x}"))
                .concat()
        )
    };
    assert!(svg.contains(&hue(C, "decode_frame")), "side c's colour");
    assert!(
        svg.contains(&hue(RUST, "(truncated)")),
        "side rust's colour"
    );
    let addresses = svg.matches("http").count();
    let names = svg.matches("http://www.w3.org/2000/svg\"").count();
    assert_eq!(
        addresses, names,
        "nothing is fetched: the only address names the format"
    );
}

#[test]
fn names_cannot_leave_their_place() {
    let mut recording = fixture::with_stacks();
    recording.sites[0].symbol =
        Some("operator<<\x07</title><script>alert('&')</script>\u{ffff}".into());
    let svg = svg(&recording, By::Thread, Measure::Blocks);
    let escaped =
        "operator&lt;&lt;\u{fffd}&lt;/title&gt;&lt;script&gt;alert('&amp;')&lt;/script&gt;\u{fffd}";
    assert_eq!(titles(&svg, escaped).len(), 1, "{svg}");
    assert_eq!(svg.matches("<script>").count(), 1);
    assert_eq!(titles(&svg, "decoder\n5,000 blocks").len(), 1);
}

#[test]
fn nothing_is_an_empty_picture() {
    let svg = svg(&Recording::default(), By::Site, Measure::Live);
    assert_eq!(
        titles(&svg, "all")[0],
        "all\n0 bytes, 0.0 %\nc 0 bytes, rust 0 bytes"
    );
    assert!(svg.ends_with("</svg>\n"));
}

#[test]
fn a_difference_shows_what_grew_and_what_is_gone() {
    let old = fixture::with_stacks();
    let mut new = fixture::with_stacks();
    let stacks = &mut new.processes[0].stacks;
    stacks[0].figures.live_bytes = 6_000_000;
    stacks.remove(1);
    let svg = difference(&old, &new);
    assert_eq!(
        titles(&svg, "all"),
        ["all\n1.7 MiB more\nfrom 4,200,000 bytes (4.0 MiB) to 6,000,000 bytes (5.7 MiB)"]
    );
    assert_eq!(
        titles(&svg, "(truncated)"),
        ["(truncated)\n195 KiB less\nfrom 200,000 bytes (195 KiB) to 0 bytes"]
    );
    assert!(
        svg.contains("fill=\"#7eb6f0\""),
        "what is gone is as blue as can be"
    );
    let same = difference(&old, &old);
    assert_eq!(titles(&same, "all\nas before").len(), 1);
}
