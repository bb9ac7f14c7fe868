//! What could not be seen, and whether the books add up.

use super::Page;
use crate::analysis::ProcessReport;
use crate::report::phrases;
use crate::report::style::Ink;
use crate::report::units::{count, counted, printable};

/// Lines of a kind that are written out; the rest are counted.
const MOST_LINES: usize = 10;

impl Page<'_> {
    /// Says openly what was lost; and that nothing was, when nothing was.
    pub(super) fn ending(&self) -> String {
        let mut lines: Vec<String> = self
            .report
            .recording
            .warnings
            .iter()
            .map(|warning| printable(warning))
            .collect();
        lines.extend(self.violations());
        lines.extend(self.untracked());
        lines.extend(
            self.tree
                .iter()
                .flat_map(|tree| phrases::losses(&tree.losses)),
        );
        let mut text = self.title("What could not be seen");
        if lines.is_empty() && self.tree.is_some() {
            text += "  nothing was lost, and all sums agree\n";
        }
        for line in &lines {
            text += &format!("  {}\n", self.style.paint(Ink::Warning, line));
        }
        text + &self.notes()
    }

    fn untracked(&self) -> Vec<String> {
        let line = |process: &ProcessReport| {
            let reason = process.untracked_reason().unwrap_or_default();
            let program = phrases::program(process.process);
            printable(&format!(
                "{program} (pid {}) untracked: {reason}",
                process.process.pid
            ))
        };
        limited(
            self.report.untracked().map(line),
            self.report.untracked().count(),
            "untracked processes",
        )
    }

    fn violations(&self) -> Vec<String> {
        let number = self.tree.as_ref().map_or(0, |tree| tree.violation_count);
        if number == 0 {
            return Vec::new();
        }
        let described = self.report.tracked().flat_map(|process| {
            let pid = process.process.pid;
            process
                .violations
                .described
                .iter()
                .map(move |text| printable(&format!("  pid {pid}: {text}")))
        });
        let mut lines = vec![format!(
            "the books do not add up in {}:",
            counted(number, "place", "places")
        )];
        lines.extend(limited(described, number as usize, "places"));
        lines
    }

    /// Says the same note of many processes once.
    fn notes(&self) -> String {
        let mut notes: Vec<(&str, usize)> = Vec::new();
        for note in self.report.tracked().flat_map(|process| &process.notes) {
            match notes.iter().position(|(known, _)| known == note) {
                Some(at) => notes[at].1 += 1,
                None if notes.len() < MOST_LINES => notes.push((note, 1)),
                None => {}
            }
        }
        let line = |&(note, times): &(&str, usize)| match times {
            1 => format!("  {note}\n"),
            _ => format!("  {note} ({times} processes)\n"),
        };
        let crossed = self
            .tree
            .as_ref()
            .and_then(|tree| phrases::crossed(&tree.losses));
        let estimates = phrases::estimates(self.report);
        let has_stacks = |process: &ProcessReport| !process.stacks.has_exact_stacks();
        let shown = self.report.tracked().any(has_stacks);
        let shown = shown.then(|| "stacks are shown by --format html and flamegraph".to_owned());
        crossed
            .into_iter()
            .chain(estimates)
            .chain(shown)
            .map(|text| format!("  {text}\n"))
            .chain(notes.iter().map(line))
            .collect()
    }
}

fn limited(lines: impl Iterator<Item = String>, all: usize, what: &str) -> Vec<String> {
    let mut lines: Vec<String> = lines.take(MOST_LINES).collect();
    if all > lines.len() {
        lines.push(format!(
            "and {} more {what}",
            count((all - lines.len()) as u64)
        ));
    }
    lines
}
