//! Folded stacks, one line each: what flame graph tools read.

use std::io::{self, BufWriter, Write};

use super::units::printable;
use crate::analysis::Measure;
use crate::analysis::stacks::{CallTree, NodeId, Stacks};

/// Writes `outermost;...;innermost VALUE` for every stack that has something of the
/// measure. Stacks of equal names are one line. Gives how many rows held less than
/// nothing, which no line can show.
///
/// # Errors
/// Those of `out`.
pub fn write(stacks: &Stacks, measure: Measure, out: impl Write) -> io::Result<u64> {
    let mut out = BufWriter::with_capacity(1 << 16, out);
    let tree = CallTree::by_side(stacks, measure);
    let callees = tree.callees();
    let mut line = String::new();
    // Each with the length of its caller's line.
    let mut open: Vec<(NodeId, usize)> = callees[0].iter().rev().map(|&node| (node, 0)).collect();
    while let Some((node, length)) = open.pop() {
        line.truncate(length);
        if length > 0 {
            line.push(';');
        }
        line.push_str(&name(tree.label(node).name));
        let own = tree.nodes[node as usize].own;
        let value = own[0].saturating_add(own[1]);
        if value > 0 {
            writeln!(out, "{line} {value}")?;
        }
        let called = callees[node as usize].iter().rev();
        open.extend(called.map(|&node| (node, line.len())));
    }
    out.flush()?;
    Ok(tree.negative_rows)
}

/// Semicolons stand between names, and a line ends a stack.
fn name(name: &str) -> String {
    match name.is_empty() {
        true => "(unnamed)".to_owned(),
        false => printable(name).replace(';', ":"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{By, Filter, Report, fixture};
    use crate::recording::Recording;

    fn folded(recording: &Recording, by: By, measure: Measure) -> String {
        let mut out = Vec::new();
        let report = Report::new(recording);
        let filter = Filter::default();
        let stacks = Stacks::new(&report, &filter, by).unwrap();
        write(&stacks, measure, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_begin_with_the_outermost_function() {
        let text = folded(&fixture::with_stacks(), By::Site, Measure::Live);
        assert_eq!(
            text,
            "(truncated);main;player::parse;Vec::grow 200000\n\
             main;player::parse;Vec::grow;decode_frame 4000000\n"
        );
        let blocks = folded(&fixture::with_stacks(), By::Scope, Measure::Blocks);
        assert!(
            blocks.starts_with("(no scope);(truncated);main"),
            "{blocks}"
        );
        assert!(blocks.ends_with("decode;main;player::parse;Vec::grow;decode_frame 5000\n"));
    }

    #[test]
    fn without_stacks_lines_have_one_function() {
        let text = folded(&fixture::recording(), By::Site, Measure::Peak);
        assert_eq!(
            text,
            "decode_frame 3900000\nplayer+0x900 600000\nplayer::parse 200000\n"
        );
    }

    #[test]
    fn names_cannot_break_a_line() {
        let mut recording = fixture::with_stacks();
        recording.sites[0].symbol = Some("a;b\n9 8\x1b".into());
        recording.sites[1].symbol = Some(String::new());
        let text = folded(&recording, By::Site, Measure::Live);
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("main;(unnamed);Vec::grow;a:b\u{fffd}9 8\u{fffd} 4000000"));
    }

    #[test]
    fn what_is_below_nothing_is_left_out_and_counted() {
        let mut recording = fixture::recording();
        recording.processes[0].owners[0].counts.live_bytes = -5;
        assert_eq!(
            folded(&recording, By::Site, Measure::Live),
            "player::parse 200000\n"
        );
        let report = Report::new(&recording);
        let filter = Filter::default();
        let stacks = Stacks::new(&report, &filter, By::Site).unwrap();
        assert_eq!(CallTree::by_side(&stacks, Measure::Live).negative_rows, 1);
    }
}
