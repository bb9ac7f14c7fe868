//! What `run` says when the program has ended.

use std::io::{self, Write};
use std::path::Path;

use super::style::{Ink, Style};
use super::table::{Column, Table};
use super::units::{count, counted, duration, printable, signed_count, size, unsigned_size};
use super::{chart, phrases};
use crate::analysis::{ProcessReport, Report, SideTotals, Span, readings};
use crate::recording::Recording;

/// Call sites shown.
const TOP: usize = 5;
const WIDEST_CHART: usize = 60;

/// Writes at most 15 lines: the outcome, the totals, who made up the peak, what was lost.
///
/// # Errors
/// Those of `out`.
pub fn write(
    recording: &Recording,
    recording_path: &Path,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let report = Report::new(recording);
    let summary = Summary {
        report: &report,
        style,
    };
    let file = printable(&phrases::quoted(&recording_path.to_string_lossy()));
    let hint = format!(
        "  everything: {}\n",
        style.paint(Ink::Title, &format!("heapledger report {file}"))
    );
    let parts = [
        summary.header(),
        summary.totals(),
        summary.timeline(),
        summary.peak(),
        summary.untracked(),
        summary.losses(),
        hint,
    ];
    out.write_all(parts.concat().as_bytes())?;
    out.flush()
}

struct Summary<'a> {
    report: &'a Report<'a>,
    style: Style,
}

impl Summary<'_> {
    fn header(&self) -> String {
        let Some(outcome) = self.report.outcome().map(phrases::outcome) else {
            return "heapledger: nothing ran\n".to_owned();
        };
        let processes = &self.report.recording.processes;
        let lasted = duration(Span::of(processes.iter()).duration_s);
        let number = counted(processes.len() as u64, "process", "processes");
        let ended = format!(": {outcome} after {lasted}, {number}");
        let room = self
            .style
            .columns
            .saturating_sub(ended.chars().count() + "heapledger: ".len());
        let command =
            super::table::shortened(&phrases::command(self.report.command()), room.max(20));
        format!(
            "{}{ended}\n",
            self.style
                .paint(Ink::Title, &format!("heapledger: {command}"))
        )
    }

    fn totals(&self) -> String {
        if self.report.tracked().next().is_none() {
            return String::new();
        }
        let figures = ["live at end", "in blocks", "peak", "allocated"];
        let mut columns = vec![Column::Word("side")];
        columns.extend(figures.map(Column::Figure));
        let mut table = Table::new(columns);
        for (name, side) in self.report.totals().named() {
            table.row(totals_row(name, side));
        }
        table.render(self.style)
    }

    fn timeline(&self) -> String {
        let tracked = || self.report.tracked().map(|process| process.process);
        let width = self.style.columns.saturating_sub(36).min(WIDEST_CHART);
        let values: Vec<u64> = readings(tracked(), Span::of(tracked()), width)
            .iter()
            .map(|reading| reading.all_live_bytes)
            .collect();
        let highest = values.iter().copied().max().unwrap_or(0);
        if highest == 0 {
            return String::new();
        }
        let line = chart::columns(&values, highest, 1).concat();
        format!(
            "  live  {}  {} highest\n",
            self.style.paint(Ink::C, &line),
            unsigned_size(highest)
        )
    }

    fn peak(&self) -> String {
        let Some(process) = self
            .report
            .heaviest()
            .filter(|process| !process.peak.sites.is_empty())
        else {
            return String::new();
        };
        let whose = match self.report.tracked().count() {
            1 => String::new(),
            _ => format!(
                " of {} (pid {})",
                printable(phrases::program(process.process)),
                process.process.pid
            ),
        };
        let peak = size(process.peak.live_bytes);
        let title = format!(
            "  who held the peak{whose}, {peak} after {}:\n",
            duration(process.peak.at_s)
        );
        title + &self.peak_table(process)
    }

    /// The table has no headings: five lines need none.
    fn peak_table(&self, process: &ProcessReport) -> String {
        let mut table = Table::new([
            Column::Figure(""),
            Column::Word(""),
            Column::Name(""),
            Column::Name(""),
        ]);
        for row in process.peak_rows().take(TOP) {
            let place = self.report.catalog.place(row.site);
            let side = row.side.name().to_owned();
            table.row([
                size(row.at_peak.0),
                side,
                phrases::place_name(place),
                phrases::place_address(place),
            ]);
        }
        let text = table.render(self.style);
        text.split_once('\n')
            .map_or(String::new(), |(_, rows)| rows.to_owned())
    }

    fn untracked(&self) -> String {
        let Some(first) = self.report.untracked().next() else {
            return String::new();
        };
        let others = match self.report.untracked().count() as u64 - 1 {
            0 => String::new(),
            number => format!(", and {} more", count(number)),
        };
        let program = phrases::program(first.process);
        let reason = first.untracked_reason().unwrap_or_default();
        self.warning(&printable(&format!(
            "{program} untracked: {reason}{others}"
        )))
    }

    fn losses(&self) -> String {
        let violations = self
            .report
            .tracked()
            .map(|process| process.violations.count)
            .sum::<u64>();
        let mut sentences = match violations {
            0 => Vec::new(),
            _ => vec![format!(
                "the books do not add up in {}",
                counted(violations, "place", "places")
            )],
        };
        sentences.extend(phrases::losses(&self.report.losses()));
        sentences.extend(
            self.report
                .recording
                .warnings
                .iter()
                .map(|warning| printable(warning)),
        );
        if sentences.is_empty() {
            String::new()
        } else {
            self.warning(&sentences.join("; "))
        }
    }

    fn warning(&self, text: &str) -> String {
        format!("  {}\n", self.style.paint(Ink::Warning, text))
    }
}

fn totals_row(name: &str, side: SideTotals) -> [String; 5] {
    let peak = side.peak_live_bytes.map_or_else(|| "-".to_owned(), size);
    match side.counts {
        Some(counts) => [
            name.to_owned(),
            size(counts.live_bytes),
            signed_count(counts.live_blocks),
            peak,
            unsigned_size(counts.allocated_bytes),
        ],
        None => [name, "not watched", "-", "-", "-"].map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::fixture;
    use crate::recording::model::{Losses, Outcome, Process};

    fn rendered(recording: &Recording) -> String {
        let mut out = Vec::new();
        let style = Style {
            colour: false,
            columns: 80,
        };
        write(
            recording,
            Path::new("heapledger.player.100.hlr"),
            style,
            &mut out,
        )
        .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn it_says_who_held_the_peak() {
        let text = rendered(&fixture::recording());
        let expected = "\
heapledger: player --loop 'a file.mkv': exit code 0 after 2.00 s, 1 process
  side  live at end  in blocks     peak  allocated
  c         3.8 MiB      5,000  4.3 MiB    4.8 MiB
  rust      195 KiB         20  244 KiB    293 KiB
  all       4.0 MiB      5,020  4.5 MiB    5.1 MiB
  live                        ████████████████████▇▇  4.5 MiB highest
  who held the peak, 4.5 MiB after 1.25 s:
  3.7 MiB  c     decode_frame   libcodec.so.1+0x1234
  586 KiB  c     (no symbol)    player+0x900
  195 KiB  rust  player::parse  player+0x500
  everything: heapledger report heapledger.player.100.hlr
";
        assert_eq!(text, expected);
    }

    #[test]
    fn losses_and_untracked_processes_are_said() {
        let mut recording = fixture::recording();
        recording.processes[0].outcome = Outcome::Signal(9);
        recording.processes[0].losses = Losses {
            foreign_frees: 2,
            ..Losses::default()
        };
        recording.processes.push(Process {
            exe: "/bin/busybox".into(),
            untracked_reason: Some("statically linked".into()),
            ..Process::default()
        });
        let text = rendered(&recording);
        assert!(
            text.contains("killed by SIGKILL after 2.00 s, 2 processes\n"),
            "{text}"
        );
        assert!(
            text.contains("  busybox untracked: statically linked\n"),
            "{text}"
        );
        assert!(
            text.contains("  2 frees of blocks that were not seen allocated, not booked\n"),
            "{text}"
        );
        assert!(text.lines().count() <= 15, "{text}");
    }

    #[test]
    fn an_empty_recording_has_a_summary_too() {
        assert!(rendered(&Recording::default()).starts_with("heapledger: nothing ran\n"));
    }
}
