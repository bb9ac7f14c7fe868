use std::path::Path;

use super::*;
use crate::analysis::fixture;
use crate::analysis::tally::Tally;

#[test]
fn it_says_who_held_the_peak() {
    let recording = fixture::recording();
    let mut tally = Tally::default();
    let root = &recording.processes[0];
    tally.add(&mut root.clone(), root.pid);
    let run = RunFigures {
        tally: &tally,
        modules: &recording.modules,
        sites: &recording.sites,
        tree_peak: [0; 3],
        outcome: &root.outcome,
        mode: Mode::Count,
        duration_s: 2.0,
        file: Path::new("a b.hlr"),
        file_bytes: 1536,
    };
    let mut out = Vec::new();
    print(&run, &mut out, Style::PLAIN).unwrap();
    let text = String::from_utf8(out).unwrap();
    let expected = "
heapledger: exit code 0 after 2.00 s, 1 process

                                 live at end        peak   allocated          blocks
  player (pid 100)                   4.0 MiB     4.5 MiB     5.1 MiB           5,130
    c                                3.8 MiB     4.3 MiB     4.8 MiB           5,100
    rust                             195 KiB     244 KiB     293 KiB              30

  held by player (pid 100) near its peak
     3.7 MiB      4,900 blocks  decode_frame  libcodec.so.1  [decode]
     586 KiB         60 blocks  player+0x900
     195 KiB         20 blocks  player::parse  player  parse.rs:42

  no stacks were kept (--mode count); totals and call sites are exact

heapledger report 'a b.hlr' (1.5 KiB)
";
    assert_eq!(text, expected);
}

/// The part about the mode, with the fixture's processes and so many samples.
fn of_mode(mode: Mode, samples: u64, without_stacks: u64) -> String {
    let recording = fixture::recording();
    let root = &recording.processes[0];
    let mut tally = Tally::default();
    tally.recorded.allocations = samples;
    tally.recorded.stacks = 7;
    tally.without_stacks = without_stacks;
    let run = RunFigures {
        tally: &tally,
        modules: &recording.modules,
        sites: &recording.sites,
        tree_peak: [0; 3],
        outcome: &root.outcome,
        mode,
        duration_s: 2.0,
        file: Path::new("a.hlr"),
        file_bytes: 1536,
    };
    let mut out = Vec::new();
    Summary(&run)
        .print_recorded(&mut out, Style::PLAIN)
        .unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_mode_is_said_and_the_way_to_exact_stacks() {
    let sample = Mode::Sample {
        sample_bytes: 512 << 10,
    };
    let exact = "totals and call sites are exact\n  for exact stacks: heapledger run --mode full\n";
    assert_eq!(
        of_mode(sample, 31, 0),
        format!("\n  stacks are estimated from 31 samples, one in 512 KiB on average; {exact}")
    );
    assert_eq!(
        of_mode(sample, 0, 2),
        format!(
            "\n  no stacks: nothing was sampled, one in 512 KiB on average (--sample-bytes); \
                 {exact}  no stacks could be kept in 2 processes\n"
        )
    );
    assert_eq!(
        of_mode(Mode::Full, 1234, 0),
        "\n  1,234 allocations with their stacks, 7 stacks in all\n"
    );
}

#[test]
fn what_hardly_lived_and_what_was_never_freed_have_a_line() {
    let mut lived = Lived {
        freed_blocks: 150,
        short_blocks: 124,
        live_blocks: 50,
        is_coarse: false,
    };
    assert_eq!(
        lived_line(&lived).unwrap(),
        "of all blocks, by estimate, 62.0 % lived less than 1 ms, 25.0 % were never freed"
    );
    lived.is_coarse = true;
    assert_eq!(
        lived_line(&lived).unwrap(),
        "of all blocks, by estimate, 25.0 % were never freed"
    );
    assert_eq!(lived_line(&Lived::default()), None);
}

#[test]
fn clean_ups_have_a_line_and_a_line_for_what_is_odd() {
    let recording = fixture::recording();
    let mut root = recording.processes[0].clone();
    root.pressure = fixture::cleanups();
    let mut tally = Tally::default();
    tally.add(&mut root.clone(), root.pid);
    let run = RunFigures {
        tally: &tally,
        modules: &recording.modules,
        sites: &recording.sites,
        tree_peak: [0; 3],
        outcome: &root.outcome,
        mode: Mode::Count,
        duration_s: 2.0,
        file: Path::new("a.hlr"),
        file_bytes: 1536,
    };
    let mut out = Vec::new();
    Summary(&run)
        .print_cleanups(&mut out, Style::PLAIN)
        .unwrap();
    let expected = "
  5 clean-ups freed 8.6 MiB (the last 3: 1 asked, 1 growth, 1 soft_limit)
    2 requests for 2.9 MiB refused past the hard limit
    reclaimers say more than came free in 1 clean-up
    the thread in the target did not answer in time
    clean-ups free next to nothing again and again
";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn misuse_is_told_by_who_called_and_then_counted() {
    let recording = fixture::with_misuse();
    let root = &recording.processes[0];
    let mut tally = Tally::default();
    tally.add(&mut root.clone(), root.pid);
    let run = RunFigures {
        tally: &tally,
        modules: &recording.modules,
        sites: &recording.sites,
        tree_peak: [0; 3],
        outcome: &root.outcome,
        mode: Mode::Full,
        duration_s: 2.0,
        file: Path::new("a.hlr"),
        file_bytes: 1536,
    };
    let mut out = Vec::new();
    let summary = Summary(&run);
    summary.print_recorded(&mut out, Style::PLAIN).unwrap();
    summary.print_misuses(&mut out, Style::PLAIN).unwrap();
    let expected = "
  5,020 allocations with their stacks, 2 stacks in all

  misuse of the allocator: 3 double frees, 1 likely free of what is no block, 1 block allocated \
                        by Rust and freed by C, 1 block allocated by C and freed by Rust, 1 block that Rust gave back \
                        with another size
    double free of a block of 1000 B at 0x55d000001000, 3 times
      freed again  Vec::grow  player  rust/vec.rs:7
      freed first  main  player
      allocated    decode_frame  libcodec.so.1
    realloc of 0x55d000002010, likely 16 B inside a block of 100 B
      resized      main  player
      allocated    Vec::grow  player  rust/vec.rs:7
    a block of 24 B at 0x55d000003000, allocated by Rust and freed by C
      freed        decode_frame  libcodec.so.1
      allocated    Vec::grow  player  rust/vec.rs:7
    and 2 more
";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn long_names_are_cut() {
    assert_eq!(shortened("abcdef", 5), "abc…");
}
