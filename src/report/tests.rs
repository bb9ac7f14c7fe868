//! What must hold of every format.

use std::io::sink;

use proptest::prelude::*;

use super::{Style, diff, flamegraph, folded, html, json, pprof};
use crate::analysis::stacks::{CallTree, Impossible, Stacks};
use crate::analysis::{By, Difference, Filter, Measure, Report, fixture};
use crate::counts::Side;
use crate::recording::Recording;
use crate::recording::model::{Inlined, Mode, Stack, StackErrors, StackFigures};

/// Figures from one end of what a number can be to the other.
fn figures() -> impl Strategy<Value = StackFigures> {
    (any::<[i64; 4]>(), any::<[u64; 5]>()).prop_map(|(signed, unsigned)| StackFigures {
        live_bytes: signed[0],
        live_blocks: signed[1],
        allocated_bytes: unsigned[0],
        allocated_blocks: unsigned[1],
        at_peak: (signed[2], signed[3]),
        temporary: (unsigned[2], unsigned[3]),
        samples: unsigned[4],
        short_blocks: unsigned[1],
        lived_ns: u128::from(unsigned[0]) * u128::from(unsigned[2]),
        errors: StackErrors {
            live_bytes: unsigned[0],
            live_blocks: unsigned[1],
            allocated_bytes: unsigned[2],
            allocated_blocks: unsigned[3],
        },
    })
}

fn stack() -> impl Strategy<Value = Stack> {
    let frames = prop::collection::vec(0u32..3, 1..40);
    let index = || prop::option::of(0u32..2);
    (frames, any::<bool>(), index(), index(), figures()).prop_map(
        |(frames, is_truncated, scope, thread, figures)| Stack {
            frames,
            is_truncated,
            is_guessed: false,
            side: Side::from_index(usize::from(is_truncated)),
            scope: scope.filter(|&scope| scope == 0),
            thread,
            figures,
        },
    )
}

fn recording() -> impl Strategy<Value = Recording> {
    let mode = prop_oneof![
        Just(Mode::Full),
        any::<u64>().prop_map(|sample_bytes| Mode::Sample { sample_bytes })
    ];
    let name = "\\PC{0,12}|[;<&\u{0}-\u{20}]{0,5}";
    (
        mode,
        prop::collection::vec(stack(), 0..12),
        name,
        any::<u64>(),
    )
        .prop_map(|(mode, stacks, name, offset)| {
            let mut recording = fixture::recording();
            recording.sites[2].offset = offset;
            recording.sites[0].inlined = vec![Inlined {
                symbol: name.clone(),
                file: Some(name),
                line: Some(u32::MAX),
            }];
            recording.processes[0].mode = mode;
            recording.processes[0].stacks = stacks;
            recording
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_recording_makes_a_format_panic(
        recording in recording(),
        by in prop::sample::select(vec![By::Site, By::Library, By::Scope, By::Thread]),
        measure in prop::sample::select(vec![Measure::Live, Measure::Allocated, Measure::Peak, Measure::Blocks]),
    ) {
        let report = Report::new(&recording);
        let filter = Filter { measure, ..Filter::default() };
        let is_peak = measure == Measure::Peak;
        let is_sampled = !recording.processes[0].mode.has_exact_stacks();
        let lacks_stacks = report.tracked().any(|process| process.stacks == Mode::Count);
        let stacks = match Stacks::new(&report, &filter, by) {
            Err(Impossible::SamplesHaveNoPeak) if is_sampled && is_peak => return Ok(()),
            Err(Impossible::ThreadsHaveNoPeak) if lacks_stacks && is_peak && by == By::Thread => return Ok(()),
            stacks => stacks.unwrap(),
        };
        folded::write(&stacks, measure, sink()).unwrap();
        flamegraph::write(&stacks, measure, sink()).unwrap();
        flamegraph::write_difference(&stacks, &stacks, measure, sink()).unwrap();
        pprof::write(&stacks, measure, sink()).unwrap();
        json::write_with(&stacks, sink()).unwrap();
        html::write(&stacks, Some(by), sink()).unwrap();
        let difference = Difference::new(&stacks, &stacks, measure);
        diff::text::write(&difference, [&report; 2], Style::PLAIN, &mut sink()).unwrap();
        diff::json::write(&difference, [&report; 2], sink()).unwrap();
    }

    #[test]
    fn folded_lines_and_the_tree_have_one_sum(recording in recording()) {
        let report = Report::new(&recording);
        let filter = Filter::default();
        let stacks = Stacks::new(&report, &filter, By::Thread).unwrap();
        let mut text = Vec::new();
        folded::write(&stacks, Measure::Allocated, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let values = text.lines().map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
        let sum = values.fold(0u64, u64::saturating_add);
        let root = CallTree::by_side(&stacks, Measure::Allocated).nodes[0].sum();
        prop_assert_eq!(sum, root);
    }
}
