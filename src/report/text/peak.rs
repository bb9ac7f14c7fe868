//! The peak, and who made it up.

use super::Page;
use crate::analysis::ProcessReport;
use crate::report::phrases;
use crate::report::table::{Column, Table};
use crate::report::units::{count, duration, printable, signed_count, size};

impl Page<'_> {
    /// Gives the peak of the process that had the highest.
    pub(super) fn peak(&self, most: usize) -> String {
        let Some(process) = self
            .report
            .heaviest()
            .filter(|process| process.peak.live_bytes > 0)
        else {
            return String::new();
        };
        let peak = &process.peak;
        let whose = match self.report.tracked().count() {
            1 => String::new(),
            _ => format!(
                " of {} (pid {})",
                printable(phrases::program(process.process)),
                process.process.pid
            ),
        };
        let mut text = self.title(&format!(
            "Peak{whose}: {} after {}",
            size(peak.live_bytes),
            duration(peak.at_s)
        ));
        if peak.sites.is_empty() {
            return text + &self.faint("  who held it was not captured");
        }
        text += &self.peak_table(process, most);
        if peak.sites.len() > most {
            text += &self.faint(&format!(
                "  and {} more owners",
                count((peak.sites.len() - most) as u64)
            ));
        }
        let captured = size(peak.captured_live_bytes);
        if captured != size(peak.live_bytes) {
            text += &self.faint(&format!(
                "  who held it was captured when {captured} were live"
            ));
        }
        text
    }

    fn peak_table(&self, process: &ProcessReport, most: usize) -> String {
        let rows: Vec<_> = process.peak_rows().take(most).copied().collect();
        let (names, cells) = self.site_names(&rows);
        let mut columns = vec![Column::Figure("held")];
        columns.extend(self.bar(0, 0).map(|_| Column::Word("share")));
        columns.push(Column::Figure("in blocks"));
        columns.extend(names);
        let mut table = Table::new(columns);
        for (row, names) in rows.iter().zip(cells) {
            let (bytes, blocks) = row.at_peak;
            let mut line = vec![size(bytes)];
            line.extend(self.bar(bytes, process.peak.captured_live_bytes));
            line.push(signed_count(blocks));
            line.extend(names);
            table.add(line);
        }
        table.render(self.style)
    }
}
