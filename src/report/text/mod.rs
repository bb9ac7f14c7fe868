//! The report for people: tables and a picture.

mod cleanups;
mod ending;
mod holders;
mod overview;
mod peak;
mod processes;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use super::style::{Ink, Style};
pub use crate::analysis::By;
use crate::analysis::{Report, Tree};

/// Rows of a table that was not asked for by name.
const TOP: usize = 10;

/// Writes a report; with `by` one table in full, else the top of each.
///
/// # Errors
/// Those of `out`.
pub fn write(report: &Report, by: Option<By>, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let page = Page {
        report,
        tree: Tree::new(report),
        style,
    };
    let sections = match by {
        Some(by) => vec![
            page.header(),
            page.totals(),
            page.holders(by),
            page.ending(),
        ],
        None => vec![
            page.header(),
            page.totals(),
            page.timeline(),
            page.cleanups(TOP),
            page.libraries(TOP),
            page.sites(TOP),
            page.scopes(TOP),
            page.threads(TOP),
            page.sizes(),
            page.lifetimes(),
            page.peak(TOP),
            page.processes(TOP),
            page.ending(),
        ],
    };
    let written: Vec<String> = sections
        .into_iter()
        .filter(|section| !section.is_empty())
        .collect();
    out.write_all(written.join("\n").as_bytes())?;
    out.flush()
}

/// What every section is made from.
struct Page<'a> {
    report: &'a Report<'a>,
    tree: Option<Tree<'a>>,
    style: Style,
}

impl Page<'_> {
    fn title(&self, text: &str) -> String {
        format!("{}\n", self.style.paint(Ink::Title, text))
    }

    /// Gives a section's title, with how many rows of how many follow.
    fn title_of(&self, name: &str, shown: usize, all: usize) -> String {
        match shown < all {
            true => self.title(&format!("{name} (top {shown} of {all})")),
            false => self.title(name),
        }
    }

    fn faint(&self, line: &str) -> String {
        format!("{}\n", self.style.paint(Ink::Faint, line))
    }
}
