//! What lies in the page; tests/page.rs looks at it in a browser.

use serde_json::Value;

use super::{next_mark, write};
use crate::analysis::stacks::Stacks;
use crate::analysis::{By, Filter, Report, fixture};
use crate::recording::Recording;

fn page(recording: &Recording) -> String {
    let report = Report::new(recording);
    let filter = Filter::default();
    let stacks = Stacks::new(&report, &filter, By::Site).unwrap();
    let mut out = Vec::new();
    write(&stacks, None, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn data(page: &str) -> Value {
    part(page, "data")
}

fn part(page: &str, id: &str) -> Value {
    let (_, rest) = page.split_once(&format!("id=\"{id}\">")).unwrap();
    let (data, _) = rest.split_once("</script>").unwrap();
    serde_json::from_str(data).unwrap()
}

#[test]
fn totals_are_exact_digits() {
    let data = data(&page(&fixture::recording()));
    let totals = &data["processes"][0]["totals"];
    assert_eq!(totals["all"]["live_bytes"], "4200000");
    assert_eq!(totals["rust"]["allocated_bytes"], "300000");
    assert_eq!(data["tree"]["totals"], *totals);
}

#[test]
fn only_the_page_s_own_scripts_may_run_and_nothing_may_be_asked_for() {
    let page = page(&fixture::recording());
    let (_, rest) = page.split_once("script-src 'nonce-").unwrap();
    let (nonce, _) = rest.split_once('\'').unwrap();
    assert_eq!(nonce.len(), 32);
    assert_eq!(
        page.matches(nonce).count(),
        4,
        "twice in the policy, style, script"
    );
    assert!(page.contains("default-src 'none'"));
    assert!(!page.contains("unsafe-inline"));
    // The addresses that a page could ask for begin so; those in comments do as well.
    assert_eq!(
        page.matches("http").count(),
        page.matches("http-equiv").count()
    );
}

#[test]
fn a_mark_in_a_name_is_no_mark_of_the_page() {
    let mut recording = fixture::recording();
    recording.sites[0].symbol = Some("{{scripts}}</script>\u{202e}".into());
    let page = page(&recording);
    assert_eq!(data(&page)["texts"][0], "{{scripts}}</script>\u{fffd}");
    assert_eq!(page.matches("</script>").count(), 3);
}

#[test]
fn stacks_share_their_beginnings() {
    let data = data(&page(&fixture::with_stacks()));
    // Root; main, parse, grow, decode_frame; (truncated), main, parse, grow; and of
    // call sites by themselves decode_frame, parse, grow, while main is there.
    for column in ["up", "frame"] {
        assert_eq!(
            data["nodes"][column].as_str().unwrap().len(),
            12,
            "{column}"
        );
    }
    assert_eq!(data["stacks"]["side"], "AC");
    assert_eq!(data["stacks"]["folded"], 0);
    assert_eq!(data["processes"][0]["mode"], "full");
}

#[test]
fn columns_that_the_flame_graph_needs_come_first() {
    let has = |recording: &Recording, id: &str, table: &str, column: &str| {
        part(&page(recording), id)[table].get(column).is_some()
    };
    let stacks = fixture::with_stacks();
    for column in ["node", "side", "process", "live_bytes"] {
        assert!(has(&stacks, "data", "stacks", column), "{column}");
    }
    for column in ["allocated_bytes", "scope", "thread", "peak_bytes"] {
        assert!(has(&stacks, "rest", "stacks", column), "{column}");
    }
    assert!(has(&stacks, "rest", "sites", "place"));
    assert!(has(&stacks, "rest", "places", "symbol"));
    // Where no stacks are known, call sites are what it is made of.
    let sites = fixture::recording();
    assert!(has(&sites, "data", "sites", "place"));
    assert!(has(&sites, "data", "places", "node"));
}

#[test]
fn places_in_the_same_function_are_said_to_be_one() {
    let mut recording = fixture::with_stacks();
    let twin = recording.processes[0].stacks[0].frames[0];
    let mut other = recording.sites[twin as usize].clone();
    other.offset += 8;
    other.line = Some(9_999);
    other.inlined.clear();
    recording.sites.push(other);
    let mut stack = recording.processes[0].stacks[0].clone();
    stack.frames[0] = recording.sites.len() as u32 - 1;
    recording.processes[0].stacks.push(stack);
    let before = data(&page(&fixture::with_stacks()));
    let after = data(&page(&recording));
    assert_eq!(before["nodes"]["same"], serde_json::json!({"zeros": 12}));
    assert!(after["nodes"]["same"].is_string(), "{}", after["nodes"]);
}

#[test]
fn misuse_leads_to_its_stacks() {
    let data = data(&page(&fixture::with_misuse()));
    let misuse = &data["misuse"][0];
    assert_eq!(
        (&misuse["kind"], &misuse["count"]),
        (&"double_free".into(), &"3".into())
    );
    assert_eq!(misuse["ends"][0]["caller"], "Vec::grow");
    assert_eq!(misuse["ends"][1]["thread"], "decoder (101)");
    let nodes: Vec<_> = misuse["ends"]
        .as_array()
        .unwrap()
        .iter()
        .map(|end| &end["node"])
        .collect();
    // Call sites come first: decode_frame, parse, grow. Then main, parse, grow; decode_frame.
    assert_eq!(nodes, [&6, &4, &7]);
}

#[test]
fn marks_are_found_in_their_order() {
    assert_eq!(next_mark("a{{b}}c{{d}}"), Some(("a", "b", "c{{d}}")));
    assert_eq!(next_mark("a{b}c"), None);
}
