//! What was run, the totals, the picture over time, and sizes.

use super::Page;
use crate::analysis::{LifetimeSummary, Reading, SideTotals, SizeSummary, Span, lives, readings};
use crate::counts::Side;
use crate::report::chart;
use crate::report::phrases;
use crate::report::style::Ink;
use crate::report::table::{Column, Table};
use crate::report::units::{
    count, counted, duration, printable, short_duration, signed_count, size, unsigned_size,
};

/// What stands where a figure is not known.
const UNKNOWN: &str = "-";
const CHART_LINES: usize = 2;
const WIDEST_CHART: usize = 100;
/// What the names and figures beside a chart take of a line.
const BESIDE_CHART: usize = 28;

type Series = (&'static str, Ink, fn(&Reading) -> u64);

const SERIES: [Series; 3] = [
    ("c", Ink::C, |reading| reading.c_live_bytes),
    ("rust", Ink::Rust, |reading| reading.rust_live_bytes),
    ("RSS", Ink::Resident, |reading| reading.rss_bytes),
];

impl Page<'_> {
    pub(super) fn header(&self) -> String {
        let processes = &self.report.recording.processes;
        let Some(outcome) = self.report.outcome() else {
            return self.title("heapledger report") + "the recording holds no process\n";
        };
        let mut ended = phrases::outcome(outcome);
        if phrases::is_failure(outcome) {
            ended = self.style.paint(Ink::Warning, &ended);
        }
        let lasted = duration(Span::of(processes.iter()).duration_s);
        let number = counted(processes.len() as u64, "process", "processes");
        let untracked = match self.report.untracked().count() as u64 {
            0 => String::new(),
            number => format!(", {} untracked", count(number)),
        };
        let command = phrases::command(self.report.command());
        format!(
            "{}{ended} after {lasted}, {number}{untracked}\n{}",
            self.title(&command),
            self.narrowing()
        )
    }

    /// Says that tables do not show all that the totals count.
    fn narrowing(&self) -> String {
        let Some(narrowing) = phrases::narrowing(&self.report.filter) else {
            return String::new();
        };
        let mut lines = vec![format!(
            "tables show {narrowing}; totals, times and sizes are of all"
        )];
        let suppressed = self.report.suppressed;
        if suppressed.owners > 0 {
            lines.push(format!(
                "suppressed: {} with {} in {} live at the end",
                counted(suppressed.owners, "owner", "owners"),
                size(suppressed.live_bytes),
                counted(suppressed.live_blocks.max(0) as u64, "block", "blocks")
            ));
        }
        let lines = lines.iter().map(|line| printable(line) + "\n");
        lines.collect()
    }

    pub(super) fn totals(&self) -> String {
        let Some(tree) = &self.tree else {
            return String::new();
        };
        let figures = [
            "live at end",
            "in blocks",
            "peak",
            "allocated",
            "in blocks",
            "freed",
            "reallocs",
        ];
        let mut table = side_table(&figures);
        for (name, side) in tree.books.totals.named() {
            table.add(totals_row(name, side));
        }
        let mut text = self.title("Totals") + &table.render(self.style);
        if self.report.tracked().count() > 1 {
            text += &self.faint("  processes peak at different times: the peaks of each are below");
            if self.report.tracked().any(|process| process.process.forked) {
                text += &self.faint("  what forks inherited is not counted as allocated again");
            }
        }
        text
    }

    pub(super) fn timeline(&self) -> String {
        let tracked = || self.report.tracked().map(|process| process.process);
        let span = Span::of(tracked());
        let width = self
            .style
            .columns
            .saturating_sub(BESIDE_CHART)
            .clamp(10, WIDEST_CHART);
        // A column shows the highest of its time; the last reading is the last of much narrower ones.
        let narrow = readings(tracked(), span, width * 256);
        let readings = readings(tracked(), span, width);
        let full = SERIES
            .iter()
            .map(|(.., value)| highest(&readings, *value))
            .max()
            .unwrap_or(0);
        if full == 0 {
            return String::new();
        }
        let mut text = self.title("Live bytes over time");
        for series in SERIES
            .into_iter()
            .filter(|(.., value)| highest(&readings, *value) > 0)
        {
            let last = narrow.last().map_or(0, |reading| (series.2)(reading));
            text += &self.series(series, &readings, full, last);
        }
        text += &self.cleanup_marks(span, width);
        let end = duration(span.duration_s);
        text + &self.faint(&format!("        0{end:>width$}", width = width - 1))
    }

    fn series(
        &self,
        (name, ink, value): Series,
        readings: &[Reading],
        full: u64,
        last: u64,
    ) -> String {
        let values: Vec<u64> = readings.iter().map(value).collect();
        let last = unsigned_size(last);
        let highest = unsigned_size(highest(readings, value));
        let beside = [
            ("", format!("{highest:>8} highest")),
            (name, format!("{last:>8} last")),
        ];
        let lines = chart::columns(&values, full, CHART_LINES);
        let draw = |(line, (name, note)): (&String, (&str, String))| {
            format!("  {name:<4}  {}  {note}\n", self.style.paint(ink, line))
        };
        lines.iter().zip(beside).map(draw).collect()
    }

    pub(super) fn sizes(&self) -> String {
        let Some(tree) = &self.tree else {
            return String::new();
        };
        let mut table = side_table(&["requests", "mean", "p50", "p90", "p99", "max"]);
        let mut is_empty = true;
        for (name, sizes) in ["c", "rust"].into_iter().zip(tree.books.sizes) {
            if let Some(sizes) = sizes.filter(|sizes| sizes.count > 0) {
                table.add(sizes_row(name, &sizes));
                is_empty = false;
            }
        }
        if is_empty {
            String::new()
        } else {
            self.title("Sizes asked for") + &table.render(self.style)
        }
    }
}

impl Page<'_> {
    /// Says how long blocks lived, where some were sampled.
    pub(super) fn lifetimes(&self) -> String {
        let processes = self.report.tracked().map(|process| process.process);
        let Some(all) = lives(processes.filter_map(|process| process.lifetimes.as_ref())) else {
            return String::new();
        };
        let mut table = side_table(&[
            "freed",
            "p50",
            "p90",
            "p99",
            "longest",
            "under 1 ms",
            "never freed",
        ]);
        let mut is_empty = true;
        for side in Side::ALL {
            if let Some(summary) = LifetimeSummary::new(&all, side) {
                table.add(lifetimes_row(side, &summary));
                is_empty = false;
            }
        }
        if is_empty {
            return String::new();
        }
        self.title("How long blocks lived, estimated from samples") + &table.render(self.style)
    }
}

fn lifetimes_row(side: Side, summary: &LifetimeSummary) -> Vec<String> {
    let times = [summary.p50_s, summary.p90_s, summary.p99_s, summary.max_s];
    let times = times.map(|seconds| match summary.count {
        0 => UNKNOWN.to_owned(),
        _ => short_duration(seconds),
    });
    let share = match summary.under_1ms {
        Some(_) if summary.count == 0 => UNKNOWN.to_owned(),
        Some(short) => format!("{:.1} %", short as f64 * 100.0 / summary.count as f64),
        None => "not known".to_owned(),
    };
    [side.name().to_owned(), count(summary.count)]
        .into_iter()
        .chain(times)
        .chain([share, count(summary.never_freed)])
        .collect()
}

fn highest(readings: &[Reading], value: fn(&Reading) -> u64) -> u64 {
    readings.iter().map(value).max().unwrap_or(0)
}

fn side_table(figures: &[&'static str]) -> Table {
    let figures = figures.iter().map(|heading| Column::Figure(heading));
    Table::new(
        std::iter::once(Column::Word("side"))
            .chain(figures)
            .collect::<Vec<_>>(),
    )
}

fn totals_row(name: &str, side: SideTotals) -> Vec<String> {
    let peak = side
        .peak_live_bytes
        .map_or_else(|| UNKNOWN.to_owned(), size);
    let figures = match side.counts {
        Some(counts) => [
            size(counts.live_bytes),
            signed_count(counts.live_blocks),
            peak,
            unsigned_size(counts.allocated_bytes),
            count(counts.allocated_blocks),
            unsigned_size(counts.freed_bytes),
            count(counts.reallocs),
        ],
        None => [
            "not watched",
            UNKNOWN,
            UNKNOWN,
            UNKNOWN,
            UNKNOWN,
            UNKNOWN,
            UNKNOWN,
        ]
        .map(str::to_owned),
    };
    std::iter::once(name.to_owned()).chain(figures).collect()
}

fn sizes_row(name: &str, sizes: &SizeSummary) -> Vec<String> {
    let bytes = [
        sizes.mean.round() as u64,
        sizes.p50,
        sizes.p90,
        sizes.p99,
        sizes.max,
    ];
    [name.to_owned(), count(sizes.count)]
        .into_iter()
        .chain(bytes.map(unsigned_size))
        .collect()
}
