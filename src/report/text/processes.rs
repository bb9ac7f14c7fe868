//! The processes of a tree.

use std::cmp::Reverse;

use super::Page;
use crate::analysis::{ProcessReport, seconds};
use crate::report::phrases;
use crate::report::table::{Column, Table};
use crate::report::units::{count, duration, size, unsigned_size};

impl Page<'_> {
    /// Gives the tracked processes with the highest peaks; the ending names the others.
    pub(super) fn processes(&self, most: usize) -> String {
        let mut rows: Vec<&ProcessReport> = self.report.tracked().collect();
        let tracked = rows.len();
        if tracked == 0 || self.report.processes.len() < 2 {
            return String::new();
        }
        rows.sort_by_key(|process| Reverse(process.peak.live_bytes));
        rows.truncate(most);
        let figures = [
            "pid",
            "parent",
            "peak",
            "live at end",
            "allocated",
            "in blocks",
            "lasted",
        ];
        let mut columns: Vec<_> = figures.map(Column::Figure).into();
        columns.extend([Column::Name("outcome"), Column::Name("program")]);
        let mut table = Table::new(columns);
        for process in &rows {
            table.add(row(process));
        }
        self.title_of("Processes", rows.len(), tracked) + &table.render(self.style)
    }
}

fn row(report: &ProcessReport) -> Vec<String> {
    let process = report.process;
    let all = report
        .books
        .as_ref()
        .and_then(|books| books.totals.all.counts)
        .unwrap_or_default();
    vec![
        process.pid.to_string(),
        process.parent_pid.to_string(),
        size(report.peak.live_bytes),
        size(all.live_bytes),
        unsigned_size(all.allocated_bytes),
        count(all.allocated_blocks),
        duration(seconds(process.duration_s)),
        phrases::outcome(&process.outcome),
        phrases::program_and_args(process),
    ]
}
