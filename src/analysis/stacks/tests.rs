use super::*;
use crate::analysis::{Suppressions, fixture};
use crate::recording::Recording;

/// Each row as `root;...;innermost side live`, the largest first.
fn shown(stacks: &Stacks) -> Vec<String> {
    let mut rows = Vec::new();
    stacks
        .for_each(|_, of| {
            for row in &of.rows {
                let path = of.path(row).iter().rev();
                let frames = path.flat_map(|&location| stacks.frames_of(location));
                let names: Vec<&str> = frames
                    .map(|frame| &*stacks.function_of(frame).name)
                    .collect();
                let text = format!("{} {}", names.join(";"), row.side.name());
                rows.push((row.figures.live_bytes, text));
            }
            Ok::<(), ()>(())
        })
        .unwrap();
    rows.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    rows.into_iter()
        .map(|(live, text)| format!("{text} {live}"))
        .collect()
}

fn rows(recording: &Recording, filter: &Filter, by: By) -> Vec<String> {
    shown(&Stacks::new(&Report::new(recording), filter, by).unwrap())
}

fn all(recording: &Recording, by: By) -> Vec<String> {
    rows(recording, &Filter::default(), by)
}

#[test]
fn without_stacks_each_owner_is_a_stack_of_one_frame() {
    let recording = fixture::recording();
    assert_eq!(
        all(&recording, By::Site),
        [
            "decode_frame c 4000000",
            "player::parse rust 200000",
            "player+0x900 c 0"
        ]
    );
    assert_eq!(
        all(&recording, By::Scope),
        [
            "decode;decode_frame c 4000000",
            "(no scope);player::parse rust 200000",
            "(no scope);player+0x900 c 0"
        ]
    );
    assert_eq!(
        all(&recording, By::Library),
        [
            "libcodec.so.1 c 4000000",
            "player rust 200000",
            "player c 0"
        ]
    );
    assert_eq!(
        all(&recording, By::Thread),
        ["decoder c 4000000", "player rust 200000", "player c 0"]
    );
    let report = Report::new(&recording);
    let filter = Filter::default();
    let stacks = Stacks::new(&report, &filter, By::Site).unwrap().of(0);
    let totals = report.totals().all.counts.unwrap();
    let sum = stacks.total();
    assert!(stacks.is_exact);
    assert_eq!(sum.live_bytes, totals.live_bytes);
    assert_eq!(sum.allocated_blocks, totals.allocated_blocks);
    assert_eq!(sum.at_peak.0, 4_700_000);
}

#[test]
fn recorded_stacks_have_all_their_frames() {
    let recording = fixture::with_stacks();
    assert_eq!(
        all(&recording, By::Site),
        [
            "main;player::parse;Vec::grow;decode_frame c 4000000",
            "(truncated);main;player::parse;Vec::grow rust 200000",
        ]
    );
    assert_eq!(
        all(&recording, By::Library),
        [
            "player;libcodec.so.1 c 4000000",
            "(truncated);player rust 200000"
        ]
    );
    assert_eq!(
        all(&recording, By::Thread)[0],
        "decoder;main;player::parse;Vec::grow;decode_frame c 4000000"
    );
    let report = Report::new(&recording);
    let filter = Filter::default();
    let stacks = Stacks::new(&report, &filter, By::Site).unwrap();
    let rows = stacks.of(0);
    let innermost = rows.path(&rows.rows[1])[0];
    let frames = stacks.frames_of(innermost);
    assert_eq!((frames[0].line, frames[1].line), (Some(42), Some(7)));
    assert_eq!([false, true], [frames[0].is_inlined, frames[1].is_inlined]);
}

#[test]
fn what_side_c_booked_for_rust_is_rusts() {
    let mut recording = fixture::with_stacks();
    recording.sites[0].rust_shim = true;
    assert!(all(&recording, By::Site)[0].ends_with("rust 4000000"));
}

#[test]
fn filters_choose_stacks() {
    let recording = fixture::with_stacks();
    let live = |filter: Filter| {
        let report = Report::new(&recording);
        let stacks = Stacks::new(&report, &filter, By::Site).unwrap();
        let of = stacks.of(0);
        (of.total().live_bytes, of.suppressed)
    };
    let filter = Filter::default;
    let rust = Some(Side::Rust);
    assert_eq!(
        live(Filter {
            side: rust,
            ..filter()
        })
        .0,
        200_000
    );
    let scope = Some("decode".to_owned());
    assert_eq!(live(Filter { scope, ..filter() }).0, 4_000_000);
    for name in ["libcodec.so.1", "libcodec", "/usr/lib/libcodec.so.1"] {
        let library = Some(name.to_owned());
        assert_eq!(
            live(Filter {
                library,
                ..filter()
            })
            .0,
            4_000_000,
            "{name}"
        );
    }
    let min_bytes = 200_001;
    assert_eq!(
        live(Filter {
            min_bytes,
            ..filter()
        })
        .0,
        4_000_000
    );
    for (text, left, suppressed) in [
        ("leak:^decode_*", 200_000, (1, 4_000_000)),
        ("leak:Vec::gr", 0, (2, 4_200_000)),
        ("leak:parse.rs$", 0, (2, 4_200_000)),
        ("leak:/libcodec", 200_000, (1, 4_000_000)),
        ("leak:nothing", 4_200_000, (0, 0)),
    ] {
        let suppressions = Suppressions::parse(text).unwrap();
        let filter = Filter {
            suppressions,
            ..filter()
        };
        assert_eq!(live(filter), (left, suppressed), "{text}");
    }
}

#[test]
fn what_a_recording_cannot_tell_is_said() {
    let recording = fixture::recording();
    let report = Report::new(&recording);
    let refusal = |filter: Filter, by| {
        Stacks::new(&report, &filter, by)
            .map(|stacks| shown(&stacks))
            .unwrap_err()
            .to_string()
    };
    let unknown = Filter {
        scope: Some("x".into()),
        ..Filter::default()
    };
    assert_eq!(
        refusal(unknown, By::Site),
        "no scope `x` in this recording; there is decode"
    );
    let unknown = Filter {
        library: Some("x".into()),
        ..Filter::default()
    };
    assert_eq!(
        refusal(unknown, By::Site),
        "no library `x` in this recording; there is libcodec.so.1, player"
    );
    let scoped = Filter {
        scope: Some("decode".into()),
        ..Filter::default()
    };
    assert!(refusal(scoped, By::Thread).starts_with("threads cannot be narrowed"));
    let peak = Filter {
        measure: Measure::Peak,
        ..Filter::default()
    };
    assert!(refusal(peak, By::Thread).contains("held the peak"));
    let temporary = Filter {
        measure: Measure::Temporary,
        ..Filter::default()
    };
    assert!(refusal(temporary, By::Site).contains("--mode full"));
}

#[test]
fn a_narrowed_report_keeps_its_totals_and_what_the_filter_chose() {
    let recording = fixture::recording();
    let mut report = Report::new(&recording);
    let filter = Filter {
        library: Some("libcodec".into()),
        ..Filter::default()
    };
    report.narrow(&filter).unwrap();
    let books = report.processes[0].books.as_ref().unwrap();
    assert_eq!(
        (
            books.sites.len(),
            books.libraries.len(),
            books.threads.len()
        ),
        (1, 1, 0)
    );
    assert_eq!(report.processes[0].peak_rows().len(), 1);
    assert_eq!(report.totals().all.counts.unwrap().live_bytes, 4_200_000);
    let stacks = Stacks::new(&report, &filter, By::Site).unwrap();
    assert_eq!(shown(&stacks), ["decode_frame c 4000000"]);

    let mut report = Report::new(&recording);
    let rust = Filter {
        side: Some(Side::Rust),
        ..Filter::default()
    };
    report.narrow(&rust).unwrap();
    let books = report.processes[0].books.as_ref().unwrap();
    assert_eq!(books.sites.len(), 1);
    assert_eq!(books.threads[0].counts.live_bytes, 200_000);

    let mut report = Report::new(&recording);
    let suppressions = Suppressions::parse("leak:decode").unwrap();
    report
        .narrow(&Filter {
            suppressions,
            ..Filter::default()
        })
        .unwrap();
    assert_eq!(report.suppressed.live_bytes, 4_000_000);
    assert_eq!(
        (report.suppressed.owners, report.suppressed.live_blocks),
        (1, 5_000)
    );
}

#[test]
fn what_was_charged_by_name_is_beside_the_stacks_of_a_sample() {
    let mut recording = fixture::recording();
    recording.processes.truncate(1);
    let process = &mut recording.processes[0];
    let sample_bytes = 512 << 10;
    process.mode = Mode::Sample { sample_bytes };
    let [charged, sampled] = [process.owners[0].clone(), process.owners[1].clone()];
    recording.sites[charged.site as usize].charged = Some("textures".into());
    // Without a single sample call sites stand for stacks.
    let live: i64 = recording.processes[0]
        .owners
        .iter()
        .map(|owner| owner.counts.live_bytes)
        .sum();
    let value = |line: &String| line.rsplit(' ').next().unwrap().parse::<i64>().unwrap();
    let unsampled = all(&recording, By::Site);
    assert_eq!(unsampled.iter().map(value).sum::<i64>(), live);
    recording.processes[0].stacks.push(Stack {
        frames: vec![sampled.site],
        is_truncated: true,
        is_guessed: true,
        side: sampled.side,
        scope: None,
        thread: None,
        figures: StackFigures {
            live_bytes: 600_000,
            samples: 1,
            ..StackFigures::default()
        },
    });
    let lines = all(&recording, By::Site);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0], "textures (charged) c 4000000");
    assert!(lines[1].starts_with("(truncated);"), "{lines:?}");
}
