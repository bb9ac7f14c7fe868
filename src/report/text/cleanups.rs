//! Clean-ups: one row each, and their marks below the picture over time.

use super::Page;
use crate::analysis::{Cleanups, Span, is_contradicted, seconds};
use crate::recording::model::{CallEnding, PressureEvent, Process, ReclaimerCall};
use crate::report::phrases;
use crate::report::style::Ink;
use crate::report::table::{Column, Table};
use crate::report::units::{count, counted, duration, unsigned_size};

/// What stands where a figure is not known.
const UNKNOWN: &str = "-";
const MARK: char = '▲';

/// A clean-up and the process that it was in.
type Row<'a> = (&'a Process, &'a PressureEvent);

impl Page<'_> {
    /// Gives the last clean-ups, and what is to be known about all.
    pub(super) fn cleanups(&self, most: usize) -> String {
        let sum = self.cleanup_sum();
        let notes = phrases::cleanup_notes(&sum);
        if sum.cycles == 0 && notes.is_empty() {
            return String::new();
        }
        let mut rows: Vec<Row> = self.cleanup_rows().collect();
        rows.sort_by(|a, b| began_s(a).total_cmp(&began_s(b)));
        let shown = &rows[rows.len().saturating_sub(most)..];
        let mut text = match (shown.len() as u64) < sum.cycles {
            true => self.title(&format!(
                "Clean-ups (last {} of {})",
                shown.len(),
                count(sum.cycles)
            )),
            false => self.title("Clean-ups"),
        };
        if !shown.is_empty() {
            let has_several = shown.iter().any(|row| row.0.pid != shown[0].0.pid);
            text += &table(shown, has_several).render(self.style);
        }
        if sum.cycles > 0 {
            text += &format!("  {}\n", phrases::cleanups(&sum));
        }
        for note in notes {
            text += &format!("  {}\n", self.style.paint(Ink::Warning, &note));
        }
        text
    }

    /// Gives a line with a mark in each column in which a clean-up began.
    pub(super) fn cleanup_marks(&self, span: Span, width: usize) -> String {
        let mut marks = vec![' '; width];
        let mut number = 0;
        for row in self.cleanup_rows() {
            marks[span.column(began_s(&row), width)] = MARK;
            number += 1;
        }
        if number == 0 {
            return String::new();
        }
        let marks: String = marks.into_iter().collect();
        let number = counted(number, "clean-up", "clean-ups");
        format!(
            "        {}  {number:>8}\n",
            self.style.paint(Ink::Title, &marks)
        )
    }

    fn cleanup_sum(&self) -> Cleanups {
        let mut sum = Cleanups::default();
        for report in self.report.tracked() {
            sum.add(&report.process.pressure);
        }
        sum
    }

    fn cleanup_rows(&self) -> impl Iterator<Item = Row<'_>> {
        let processes = self.report.tracked().map(|report| report.process);
        processes.flat_map(|process| {
            let events = process.pressure.events.iter();
            events.map(move |event| (process, event))
        })
    }
}

/// Seconds from the start of the recording.
fn began_s((process, event): &Row) -> f64 {
    seconds(process.started_s) + seconds(event.t_s)
}

fn table(rows: &[Row], has_several: bool) -> Table {
    let mut columns = vec![Column::Figure("at")];
    columns.extend(has_several.then_some(Column::Figure("pid")));
    columns.extend([Column::Word("trigger"), Column::Word("level")]);
    columns.extend(["before", "freed", "settled in", "took"].map(Column::Figure));
    columns.push(Column::Name("by"));
    let mut table = Table::new(columns);
    for row in rows {
        table.add(cells(row, has_several));
    }
    table
}

fn cells(row: &Row, has_several: bool) -> Vec<String> {
    let (process, event) = row;
    let settled = match event.is_complete {
        true => duration(seconds(event.settle_s)),
        false => UNKNOWN.to_owned(),
    };
    let mut cells = vec![duration(began_s(row))];
    cells.extend(has_several.then(|| process.pid.to_string()));
    cells.extend([
        event.trigger.name().to_owned(),
        event.level.name().to_owned(),
        unsigned_size(event.before_bytes),
        unsigned_size(event.freed_bytes),
        settled,
        duration(seconds(event.took_s)),
        by(event),
    ]);
    cells
}

/// Names who was asked, and what they say.
fn by(event: &PressureEvent) -> String {
    let mut calls: Vec<String> = event.reclaimers.iter().map(call).collect();
    if calls.is_empty() {
        calls.push("nobody".to_owned());
    }
    let mut text = calls.join(", ");
    if is_contradicted(event) {
        text += &format!(", freed {}", unsigned_size(event.freed_bytes));
    }
    if !event.is_complete {
        text += "; the process ended in it";
    }
    text
}

fn call(call: &ReclaimerCall) -> String {
    let claim = call
        .claimed_bytes
        .map(|bytes| format!(" says {}", unsigned_size(bytes)));
    let ending = match call.ending {
        CallEnding::Returned => String::new(),
        ending => format!(" ({})", ending.name()),
    };
    format!("{}{}{ending}", call.name, claim.unwrap_or_default())
}
