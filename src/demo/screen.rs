//! The story on one screen.

use std::collections::BTreeMap;

use super::figures::{Demo, Holder, Point, Run};
use crate::report::chart;
use crate::report::style::{Ink, Style};
use crate::report::table::{Column, Table};
use crate::report::units::{count, counted, duration, printable, size, unsigned_size};

/// Call sites that are shown.
const SITES: usize = 3;
const CHART_LINES: usize = 3;
const WIDEST_CHART: usize = 90;
/// What the names and figures beside a chart take of a line.
const BESIDE_CHART: usize = 30;

/// Draws all runs, the blind one first.
pub(crate) fn draw(demo: &Demo, style: Style) -> String {
    let screen = Screen { demo, style };
    let Some((blind, others)) = demo.runs.split_first() else {
        return String::new();
    };
    [
        screen.opening(blind),
        screen.pictures(blind, others),
        screen.holders(blind),
        screen.table(),
        screen.moral(blind, others),
    ]
    .join("\n")
}

struct Screen<'a> {
    demo: &'a Demo,
    style: Style,
}

impl Screen<'_> {
    fn opening(&self, blind: &Run) -> String {
        let title = "heapledger demo: what C holds and Rust cannot see";
        let believes = match blind.kept.frames {
            0 => "that it dropped every frame; they refer to each other".to_owned(),
            frames => format!(
                "{} in a cache, {} of {}: nothing to evict",
                counted(frames, "frame", "frames"),
                unsigned_size(blind.kept.visible_bytes),
                unsigned_size(blind.kept.budget_bytes)
            ),
        };
        format!(
            "{}\n{} decoded by a C library for a Rust program, on {}\n\n  Rust believes   {}\n  C holds         {}\n",
            self.style.paint(Ink::Title, title),
            counted(self.demo.frames.into(), "frame", "frames"),
            counted(self.demo.threads.into(), "thread", "threads"),
            self.style.paint(Ink::Rust, &believes),
            self.style.paint(
                Ink::C,
                &format!(
                    "{} at its peak, {} times what Rust sees",
                    size(blind.c_peak_live_bytes),
                    count(times(blind.c_peak_live_bytes, blind.rust_peak_live_bytes))
                )
            )
        )
    }

    fn pictures(&self, blind: &Run, others: &[Run]) -> String {
        let c = |point: &Point| point.c_live_bytes.max(0) as u64;
        let rust = |point: &Point| point.rust_live_bytes.max(0) as u64;
        let full = blind.timeline.iter().map(c).max().unwrap_or(0);
        let mut text = self.heading("Live bytes on one scale, each run over its own time");
        text += &self.series(blind, "c", Ink::C, CHART_LINES, full, c);
        text += &self.series(blind, "rust", Ink::Rust, 1, full, rust);
        for run in others {
            text += &self.series(run, "c", Ink::C, 1, full, c);
        }
        text
    }

    fn series(
        &self,
        run: &Run,
        side: &str,
        ink: Ink,
        lines: usize,
        full: u64,
        value: fn(&Point) -> u64,
    ) -> String {
        let width = self.style.columns.saturating_sub(BESIDE_CHART);
        let values = columns_of(run, width.clamp(10, WIDEST_CHART), value);
        let highest = run.timeline.iter().map(value).max().unwrap_or(0);
        let picture = chart::columns(&values, full, lines);
        let last = picture.len().saturating_sub(1);
        let line = |(index, line): (usize, &String)| {
            let (name, note) = match index == last {
                true => (
                    format!("{} {side}", run.name),
                    format!("{:>8}", unsigned_size(highest)),
                ),
                false => (String::new(), String::new()),
            };
            let line = self.style.paint(ink, line);
            format!("  {name:<12}{line}  {note}").trim_end().to_owned() + "\n"
        };
        picture.iter().enumerate().map(line).collect()
    }

    fn holders(&self, blind: &Run) -> String {
        let all: i64 = blind.holders.iter().map(|holder| holder.live_bytes).sum();
        let mut table = Table::new([
            Column::Figure("live"),
            Column::Figure("in blocks"),
            Column::Figure("share"),
            Column::Name("side"),
            Column::Name("call site"),
            Column::Name("library"),
            Column::Name("scope"),
        ]);
        for holder in blind.holders.iter().take(SITES) {
            let or_empty = |text: &Option<String>| printable(text.as_deref().unwrap_or(""));
            table.add(vec![
                size(holder.live_bytes),
                count(holder.live_blocks.max(0) as u64),
                share(holder.live_bytes, all),
                holder.side.clone(),
                or_empty(&holder.symbol),
                or_empty(&holder.library),
                or_empty(&holder.scope),
            ]);
        }
        let by = |name: &str, key: fn(&Holder) -> Option<&str>| {
            format!(
                "  by {name:<8} {}\n",
                sums(&blind.holders, key, self.style.columns)
            )
        };
        format!(
            "{}{}{}{}",
            self.heading("Who holds it when the last frame is decoded"),
            table.render(self.style),
            by("library", |holder| holder.library.as_deref()),
            by("scope", |holder| holder.scope.as_deref()),
        )
    }

    fn table(&self) -> String {
        let mut table = Table::new([
            Column::Name("run"),
            Column::Figure("frames"),
            Column::Figure("time"),
            Column::Figure("frames/s"),
            Column::Figure("C peak"),
            Column::Figure("Rust peak"),
            Column::Figure("RSS peak"),
        ]);
        for run in &self.demo.runs {
            table.add(vec![
                run.name.clone(),
                count(run.frames),
                duration(run.seconds),
                format!("{:.0}", run.frames_per_s),
                size(run.c_peak_live_bytes),
                size(run.rust_peak_live_bytes),
                unsigned_size(run.rss_peak_bytes),
            ]);
        }
        table.render(self.style) + &self.passes()
    }

    /// Why some runs decode more.
    fn passes(&self) -> String {
        let runs = self.demo.runs.iter();
        let compared: Vec<&Run> = runs.filter(|run| run.passes > 1).collect();
        let names: Vec<&str> = compared.iter().map(|run| run.name.as_str()).collect();
        match compared.first() {
            Some(run) => format!(
                "  {} decode all of them {} times, in turns\n",
                names.join(" and "),
                run.passes
            ),
            None => String::new(),
        }
    }

    fn moral(&self, blind: &Run, others: &[Run]) -> String {
        let ideal = others.iter().find(|run| run.name == "manual");
        let saved = ideal.map_or(String::new(), |manual| {
            format!(
                "The run `manual` frees each frame at once: {} would have done.\n",
                size(manual.c_peak_live_bytes)
            )
        });
        let held: String = others.iter().filter_map(held).collect();
        let why = match blind.kept.frames {
            0 => "Rust counts references, and a cycle always has one.",
            _ => "The cache did what it was told: it counted the bytes that Rust can see.",
        };
        format!(
            "{why}\n{held}{saved}On your own program: {}\n",
            self.style.paint(Ink::Title, "heapledger run -- CMD")
        )
    }

    fn heading(&self, text: &str) -> String {
        self.style.paint(Ink::Title, text) + "\n"
    }
}

/// What held a run down, in a line.
fn held(run: &Run) -> Option<String> {
    let held = run.pressure.as_ref()?;
    let freed_bytes: u64 = held.events.iter().map(|event| event.freed_bytes).sum();
    Some(format!(
        "The run `{}` asks for less than {}: {} freed {}.\n",
        run.name,
        unsigned_size(held.soft_limit_bytes),
        counted(held.events.len() as u64, "clean-up", "clean-ups"),
        unsigned_size(freed_bytes)
    ))
}

fn times(c: i64, rust: i64) -> u64 {
    (c.max(0) / rust.max(1)) as u64
}

fn share(part: i64, all: i64) -> String {
    format!("{:.1} %", 100.0 * part as f64 / all.max(1) as f64)
}

/// The highest reading of each column's time; a column without one repeats the last.
fn columns_of(run: &Run, width: usize, value: fn(&Point) -> u64) -> Vec<u64> {
    let end = run.timeline.last().map_or(0.0, |point| point.t_s);
    let mut columns = vec![None; width];
    for point in &run.timeline {
        let column = (point.t_s / end.max(f64::MIN_POSITIVE) * width as f64) as usize;
        let highest = &mut columns[column.min(width - 1)];
        *highest = (*highest).max(Some(value(point)));
    }
    let mut last = 0;
    let filled = columns.into_iter().map(|column: Option<u64>| {
        last = column.unwrap_or(last);
        last
    });
    filled.collect()
}

/// Writes sums by some key, the largest first, as many as fit: `decode 1.5 GiB, read 70 KiB`.
fn sums(holders: &[Holder], key: fn(&Holder) -> Option<&str>, columns: usize) -> String {
    let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
    for holder in holders {
        *sums.entry(key(holder).unwrap_or("(none)")).or_default() += holder.live_bytes;
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let mut text = String::new();
    for (name, bytes) in sums {
        let more = format!("{} {}", printable(name), size(bytes));
        if text.len() + more.len() + 16 > columns {
            break;
        }
        text = match text.is_empty() {
            true => more,
            false => format!("{text}, {more}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Kept, SCHEMA};
    use super::*;

    fn run(name: &str, step_bytes: i64, kept: Kept) -> Run {
        let point = |index: i64| Point {
            t_s: index as f64 / 10.0,
            c_live_bytes: index * step_bytes,
            rust_live_bytes: 3000,
            rss_bytes: 50 << 20,
        };
        let holder = |library: &str, symbol: &str, live_bytes| Holder {
            side: "c".into(),
            library: Some(library.into()),
            symbol: Some(symbol.into()),
            scope: Some("decode".into()),
            live_bytes,
            live_blocks: 400,
        };
        Run {
            name: name.into(),
            passes: 1,
            frames: 400,
            c_peak_live_bytes: 20 * step_bytes,
            rust_peak_live_bytes: 4000,
            rss_peak_bytes: 1 << 30,
            seconds: 2.0,
            frames_per_s: 200.0,
            user_s: 3.0,
            system_s: 1.0,
            page_faults: 400_000,
            pid: 7,
            c_allocated_bytes: 1 << 30,
            c_allocated_blocks: 1000,
            frame_bytes: 1 << 30,
            kept,
            pressure: None,
            holders: vec![
                holder("libiocontext.so", "pool_take", 19 * step_bytes),
                holder("libc.so.6", "\x1b[31mfdopen", step_bytes),
            ],
            timeline: (0..=20).map(point).collect(),
        }
    }

    fn demo() -> Demo {
        let kept = Kept {
            frames: 400,
            visible_bytes: 16_000,
            budget_bytes: 1 << 20,
        };
        Demo {
            schema: SCHEMA,
            frames: 400,
            threads: 2,
            seed: 1,
            runs: vec![
                run("blind", 64 << 20, kept),
                run("manual", 4 << 20, Kept::default()),
            ],
        }
    }

    #[test]
    fn it_fits_a_terminal() {
        let style = Style {
            colour: false,
            columns: 80,
        };
        let text = draw(&demo(), style);
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(text.lines().count() <= 32, "{text}");
        assert!(!text.contains('\x1b'), "names are made safe to print");
    }

    #[test]
    fn it_says_who_decodes_more_often() {
        let mut demo = demo();
        assert!(!draw(&demo, Style::PLAIN).contains("in turns"));
        demo.runs.push(run("pressure", 9 << 20, Kept::default()));
        for run in &mut demo.runs[1..] {
            run.passes = 2;
        }
        let text = draw(&demo, Style::PLAIN);
        assert!(
            text.contains("manual and pressure decode all of them 2 times, in turns"),
            "{text}"
        );
    }

    #[test]
    fn it_says_what_was_measured() {
        let text = draw(&demo(), Style::PLAIN);
        for words in [
            "400 frames in a cache, 16 KiB of 1.0 MiB: nothing to evict",
            "1.2 GiB at its peak, 335,544 times what Rust sees",
            "95.0 %",
            "by library  libiocontext.so 1.2 GiB, libc.so.6 64 MiB",
            "by scope    decode 1.2 GiB",
            "80 MiB would have done",
        ] {
            assert!(text.contains(words), "`{words}` is not in\n{text}");
        }
        let row = |name: &str| {
            let found = text.lines().rev().find(|line| {
                let mut words = line.split_whitespace();
                words.next() == Some(name) && words.next() == Some("400")
            });
            found
                .expect("a row a run")
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(row("blind"), "blind 400 2.00 s 200 1.2 GiB 3.9 KiB 1.0 GiB");
        assert_eq!(
            row("manual"),
            "manual 400 2.00 s 200 80 MiB 3.9 KiB 1.0 GiB"
        );
    }
}
