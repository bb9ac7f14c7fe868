//! Forks in signal handlers that have interrupted malloc or free: children go on, and
//! the books of their parent stay its own.
#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    feature = "cli",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod common;

use common::Case;
use common::report::rows;

/// Gives blocks that the interrupted call site of the process has allocated, and freed.
fn pairs_of(process: &serde_json::Value) -> (u64, u64) {
    let sites = rows(&process["sites"]);
    let of_pairs = sites
        .iter()
        .filter(|site| site["symbol"] == "interrupted_alloc");
    let counts = of_pairs.map(|site| (&site["allocated_blocks"], &site["freed_blocks"]));
    counts.fold((0, 0), |sum, (allocated, freed)| {
        let count = |value: &serde_json::Value| value.as_u64().expect("a count");
        (sum.0 + count(allocated), sum.1 + count(freed))
    })
}

fn children_go_on(every: &str, mode: &[&str]) {
    let case = Case::over_signal_safe_allocator("fork_in_handler.c").arg(every);
    assert_eq!(case.run_bare().code(), 0);
    let (output, report) = case.run_recorded(mode);
    assert_eq!((output.code(), output.error.as_str()), (0, ""));
    let pairs: u64 = output.text.trim().parse().expect("a number of blocks");
    let root = report.root();
    assert_eq!(pairs_of(root), (pairs, pairs), "{report}");
    assert_eq!(root["losses"]["foreign_frees"], 0);
    let children = report
        .processes()
        .into_iter()
        .filter(|process| process["forked"] == true);
    let mut count = 0;
    for child in children {
        count += 1;
        assert_eq!(child["outcome"]["exit_code"], 0, "{report}");
        let (allocated, freed) = pairs_of(child);
        // The operation that was under way may be in neither's books.
        assert!(
            (allocated - freed).abs_diff(64) <= 1,
            "{allocated} and {freed}"
        );
    }
    assert!(count > 10, "children have ledgers: {count}");
}

#[test]
fn a_child_forked_within_malloc_goes_on_in_every_mode() {
    children_go_on("2", &["--mode", "count"]);
    children_go_on("13", &["--sample-bytes", "1"]);
    children_go_on("7", &["--mode", "full"]);
}
