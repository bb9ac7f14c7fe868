//! What has changed, for people: growth first.

use std::io::{self, Write};

use crate::analysis::stacks::Label;
use crate::analysis::{Change, Difference, Measure, Report, SiteName, StackName};
use crate::report::phrases;
use crate::report::style::{Ink, Style};
use crate::report::table::{Column, Table};
use crate::report::units::{printable, signed_count, size};

/// Rows that are shown of what has grown, and of what has shrunk.
const MOST_GROWN: usize = 20;
const MOST_SHRUNK: usize = 10;

/// Writes a difference.
///
/// # Errors
/// Those of `out`.
pub fn write(
    difference: &Difference,
    [old, new]: [&Report; 2],
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let page = Page { difference, style };
    let stacks = match &difference.stacks {
        // Without stacks these would be the call sites again.
        Some(_) if phrases::has_no_stacks(new) => String::new(),
        Some(stacks) => page.changes("Stacks", stacks, &["side", "stack", "scope"], stack_cells),
        None => "stacks are not compared: the recordings are of different modes\n".to_owned(),
    };
    let sections = [
        page.header(old, new),
        page.totals(),
        page.changes(
            "Call sites",
            &difference.sites,
            &["side", "call site", "library", "scope"],
            site_cells,
        ),
        stacks,
        warnings(old, new, style),
    ];
    let written: Vec<String> = sections
        .into_iter()
        .filter(|section| !section.is_empty())
        .collect();
    out.write_all(written.join("\n").as_bytes())?;
    out.flush()
}

struct Page<'a> {
    difference: &'a Difference<'a>,
    style: Style,
}

impl Page<'_> {
    fn header(&self, old: &Report, new: &Report) -> String {
        let measure = self.difference.measure;
        let growth = self.difference.total.growth(measure);
        let said = match growth {
            0 => format!("{} as before", measure.title()),
            1.. => format!("{} of {} more", value(measure, growth), measure.title()),
            _ => format!(
                "{} of {} less",
                value(measure, growth.saturating_neg()),
                measure.title()
            ),
        };
        let said = match growth > 0 {
            true => self.style.paint(Ink::Warning, &said),
            false => said,
        };
        let [before, after] = [old, new].map(|report| phrases::command(report.command()));
        let title = match before == after {
            true => after,
            false => format!("{before}  ->  {after}"),
        };
        let mut text = format!("{}\n{said}\n", self.style.paint(Ink::Title, &title));
        for note in [phrases::narrowing(&new.filter), phrases::estimates(new)]
            .into_iter()
            .flatten()
        {
            text += &format!("{}\n", printable(&note));
        }
        text
    }

    fn totals(&self) -> String {
        let [before, after] = &self.difference.total.figures;
        let mut table = Table::new([
            Column::Word(""),
            Column::Figure("before"),
            Column::Figure("after"),
            Column::Figure("change"),
        ]);
        for measure in [Measure::Live, Measure::Blocks, Measure::Allocated] {
            let growth = self.difference.total.growth(measure);
            table.add(vec![
                measure.title().to_owned(),
                value(measure, measure.of(before)),
                value(measure, measure.of(after)),
                signed(measure, growth),
            ]);
        }
        table.render(self.style)
    }

    /// Makes a table of what has changed, what has grown most first.
    fn changes<N>(
        &self,
        title: &str,
        rows: &[Change<N>],
        names: &[&'static str],
        cells: impl Fn(&N) -> Vec<String>,
    ) -> String {
        let measure = self.difference.measure;
        let grown = rows.partition_point(|row| row.growth(measure) > 0);
        let kept = rows.partition_point(|row| row.growth(measure) >= 0);
        if grown == 0 && kept == rows.len() {
            return String::new();
        }
        let shown_grown = &rows[..grown.min(MOST_GROWN)];
        let shown_shrunk = &rows[kept.max(rows.len().saturating_sub(MOST_SHRUNK))..];
        let mut columns = ["change", "before", "after", "blocks"]
            .map(Column::Figure)
            .to_vec();
        columns.extend(names.iter().map(|&name| match name {
            "side" => Column::Word(name),
            _ => Column::Name(name),
        }));
        let mut table = Table::new(columns);
        for row in shown_grown.iter().chain(shown_shrunk) {
            let [before, after] = row.figures.map(|figures| measure.of(&figures));
            let mut line = vec![
                signed(measure, row.growth(measure)),
                value(measure, before),
                value(measure, after),
                signed(Measure::Blocks, row.growth(Measure::Blocks)),
            ];
            line.extend(cells(&row.name));
            table.add(line);
        }
        let heading = format!(
            "{title} ({} grown, {} shrunk, {} as before)",
            grown,
            rows.len() - kept,
            kept - grown
        );
        format!(
            "{}\n{}",
            self.style.paint(Ink::Title, &heading),
            table.render(self.style)
        )
    }
}

fn site_cells(name: &SiteName) -> Vec<String> {
    vec![
        name.side.name().to_owned(),
        name.symbol.as_deref().unwrap_or("(no symbol)").to_owned(),
        name.library.to_owned(),
        name.scope.unwrap_or_default().to_owned(),
    ]
}

fn stack_cells(name: &StackName) -> Vec<String> {
    let names: Vec<&str> = name.frames.iter().map(|label: &Label| label.name).collect();
    vec![
        name.side.name().to_owned(),
        names.join(" < "),
        name.scope.unwrap_or_default().to_owned(),
    ]
}

fn warnings(old: &Report, new: &Report, style: Style) -> String {
    let lines = [("before", old), ("after", new)]
        .into_iter()
        .flat_map(|(when, report)| {
            let warnings = report.recording.warnings.iter();
            warnings.map(move |warning| format!("{when}: {}", printable(warning)))
        });
    lines
        .map(|line| style.paint(Ink::Warning, &line) + "\n")
        .collect()
}

fn value(measure: Measure, value: i64) -> String {
    match measure.is_bytes() {
        true => size(value),
        false => signed_count(value),
    }
}

fn signed(measure: Measure, growth: i64) -> String {
    let sign = if growth > 0 { "+" } else { "" };
    format!("{sign}{}", value(measure, growth))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::stacks::Stacks;
    use crate::analysis::{By, Filter, fixture};
    use crate::recording::Recording;

    fn text(old: &Recording, new: &Recording) -> String {
        let filter = Filter::default();
        let (old, new) = (Report::new(old), Report::new(new));
        let stacks = [&old, &new].map(|report| Stacks::new(report, &filter, By::Site).unwrap());
        let difference = Difference::new(&stacks[0], &stacks[1], Measure::Live);
        let mut out = Vec::new();
        write(&difference, [&old, &new], Style::PLAIN, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn growth_comes_first() {
        let old = fixture::recording();
        let mut new = fixture::recording();
        new.processes[0].owners[0].counts = fixture::counts((3_000_000, 4_000), (0, 0));
        new.processes[0].owners[2].counts = fixture::counts((2_200_000, 30), (0, 0));
        let expected = "\
player --loop 'a file.mkv'
977 KiB of live bytes more

                    before    after    change
  live bytes       4.0 MiB  5.0 MiB  +977 KiB
  live blocks        5,020    4,030      -990
  allocated bytes  5.1 MiB  6.0 MiB  +977 KiB

Call sites (1 grown, 1 shrunk, 1 as before)
    change   before    after  blocks  side  call site      library        scope
  +1.9 MiB  195 KiB  2.1 MiB     +10  rust  player::parse  player
  -977 KiB  3.8 MiB  2.9 MiB  -1,000  c     decode_frame   libcodec.so.1  decode
";
        assert_eq!(text(&old, &new), expected);
    }

    #[test]
    fn stacks_have_a_table_of_their_own() {
        let old = fixture::with_stacks();
        let mut new = fixture::with_stacks();
        new.processes[0].stacks[0].figures.live_bytes += 1024;
        new.warnings.push("cut\x1b short".into());
        let text = text(&old, &new);
        assert!(text.contains("live bytes as before"), "{text}");
        assert!(
            text.contains("Stacks (1 grown, 0 shrunk, 1 as before)"),
            "{text}"
        );
        assert!(
            text.contains("decode_frame < Vec::grow < player::parse < main"),
            "{text}"
        );
        assert!(text.ends_with("after: cut\u{fffd} short\n"), "{text}");
    }

    #[test]
    fn different_modes_are_told() {
        let text = text(&fixture::recording(), &fixture::with_stacks());
        assert!(text.contains("stacks are not compared"), "{text}");
    }
}
