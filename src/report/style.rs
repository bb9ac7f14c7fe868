//! What the receiver of a report can show.

use std::io::IsTerminal;
use std::os::fd::AsFd;

/// Columns of a report that goes to a file.
const FILE_COLUMNS: usize = 140;
const NARROWEST: usize = 60;
const WIDEST: usize = 160;

/// How a report for people looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Colour may be used.
    pub colour: bool,
    /// Columns that a line may have.
    pub columns: usize,
}

/// What a piece of text is, and so how it is emphasised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    /// A title.
    Title,
    /// What a reader looks at last: headings of columns, axes.
    Faint,
    /// Side c.
    C,
    /// Side rust.
    Rust,
    /// Resident set.
    Resident,
    /// Something is wrong.
    Warning,
}

impl Style {
    /// No colour, as wide as a file may be.
    pub const PLAIN: Style = Style {
        colour: false,
        columns: FILE_COLUMNS,
    };

    /// Asks a stream: colour only on a terminal and never with NO_COLOR.
    pub fn of(stream: &(impl AsFd + IsTerminal)) -> Style {
        if !stream.is_terminal() {
            return Style::PLAIN;
        }
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let columns = match rustix::termios::tcgetwinsize(stream) {
            Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
            _ => 80,
        };
        Style {
            colour: !refused && !dumb,
            columns: columns.clamp(NARROWEST, WIDEST),
        }
    }

    /// Emphasises text.
    pub(crate) fn paint(&self, ink: Ink, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match ink {
            Ink::Title => "1",
            Ink::Faint => "2",
            Ink::C => "34",
            Ink::Rust => "33",
            Ink::Resident => "36",
            Ink::Warning => "1;31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gets_no_colour() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(Style::of(&file), Style::PLAIN);
        assert_eq!(Style::PLAIN.paint(Ink::Title, "x"), "x");
    }

    #[test]
    fn ink_ends_where_the_text_ends() {
        let style = Style {
            colour: true,
            columns: 80,
        };
        assert_eq!(style.paint(Ink::Title, "x"), "\x1b[1mx\x1b[0m");
    }
}
