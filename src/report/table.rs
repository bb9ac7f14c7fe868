//! Tables that fit a line.

use comfy_table::{Cell, CellAlignment, Table as Layout, TableStyle};

use super::style::{Ink, Style};
use super::units::printable;

/// How a column behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// Figures: to the right, never shortened.
    Figure(&'static str),
    /// Short words: to the left, never shortened.
    Word(&'static str),
    /// Names: to the left, and shortened where the line is full.
    Name(&'static str),
}

/// Rows under headings.
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

const INDENT: usize = 2;
const GAP: usize = 2;
const SHORTEST_NAME: usize = 12;

impl Table {
    pub(crate) fn new(columns: impl Into<Vec<Column>>) -> Table {
        Table {
            columns: columns.into(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Lays the table out; every line ends with a newline.
    pub(crate) fn render(&mut self, style: Style) -> String {
        self.shorten(style.columns);
        let mut layout = Layout::new();
        layout.load_style(TableStyle::new());
        layout.set_header(self.columns.iter().map(|column| column.heading()));
        layout.add_rows(self.rows.iter().map(|row| row.iter().map(Cell::new)));
        for (index, column) in self.columns.iter().enumerate() {
            if let Some(cells) = layout.column_mut(index) {
                cells.set_padding((if index == 0 { INDENT as u16 } else { 0 }, GAP as u16));
                if matches!(column, Column::Figure(_)) {
                    cells.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        let mut text = String::new();
        for (index, line) in layout.lines().enumerate() {
            let line = line.trim_end();
            match index {
                0 => text.push_str(&style.paint(Ink::Faint, line)),
                _ => text.push_str(line),
            }
            text.push('\n');
        }
        text
    }

    /// Makes text printable, and shares what the figures leave of the line among the names.
    fn shorten(&mut self, line_columns: usize) {
        for cell in self.rows.iter_mut().flatten() {
            *cell = printable(cell);
        }
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|index| self.width(index))
            .collect();
        let is_name = |column: &Column| matches!(column, Column::Name(_));
        let fixed: usize = self
            .columns
            .iter()
            .zip(&widths)
            .filter(|(column, _)| !is_name(column))
            .map(|(_, width)| width)
            .sum();
        let room = line_columns.saturating_sub(fixed + INDENT + GAP * (self.columns.len() - 1));
        let mut names: Vec<usize> = (0..widths.len())
            .filter(|&index| is_name(&self.columns[index]))
            .collect();
        names.sort_by_key(|&index| widths[index]);
        let mut left = room;
        for (taken, &index) in names.iter().enumerate() {
            let share = (left / (names.len() - taken)).max(SHORTEST_NAME);
            let width = widths[index].min(share);
            left = left.saturating_sub(width);
            for row in &mut self.rows {
                row[index] = shortened(&row[index], width);
            }
        }
    }

    fn width(&self, index: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[index].chars().count());
        cells
            .max()
            .unwrap_or(0)
            .max(self.columns[index].heading().chars().count())
    }
}

impl Column {
    fn heading(self) -> &'static str {
        match self {
            Column::Figure(heading) | Column::Word(heading) | Column::Name(heading) => heading,
        }
    }
}

/// Cuts the middle out: names differ at both ends.
pub(crate) fn shortened(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let head = width.saturating_sub(1) / 2;
    let tail = width.saturating_sub(1) - head;
    text.chars()
        .take(head)
        .chain(['…'])
        .chain(text.chars().skip(length - tail))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_under_each_other() {
        let mut table = Table::new([
            Column::Figure("live"),
            Column::Word("side"),
            Column::Name("call site"),
        ]);
        table.add(vec!["1.5 MiB".into(), "c".into(), "main".into()]);
        table.add(vec!["12 B".into(), "rust".into(), "a\x1b".into()]);
        let expected =
            "     live  side  call site\n  1.5 MiB  c     main\n     12 B  rust  a\u{fffd}\n";
        assert_eq!(table.render(Style::PLAIN), expected);
    }

    #[test]
    fn names_give_way_and_figures_do_not() {
        let mut table = Table::new([
            Column::Figure("live"),
            Column::Name("call site"),
            Column::Name("where"),
        ]);
        table.add(vec!["1,000,000".into(), "s".repeat(100), "lib.so".into()]);
        let text = table.render(Style {
            colour: false,
            columns: 60,
        });
        assert!(
            text.lines().all(|line| line.chars().count() <= 60),
            "{text}"
        );
        assert!(text.contains("lib.so") && text.contains('…'), "{text}");
    }

    #[test]
    fn a_name_loses_its_middle() {
        assert_eq!(shortened("abcdefghij", 5), "ab…ij");
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("abc", 0), "…");
    }
}
