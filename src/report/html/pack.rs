//! How columns of numbers lie in the page, and how nothing in it can end its script.

use std::io::{self, Write};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Another digit follows.
const MORE: u128 = 32;

/// A column of whole numbers: five bits a digit, the lowest first, the sign in the
/// lowest bit. Half as long as decimal numbers with commas. One of zeros alone is
/// written as their number.
#[derive(Debug, Default)]
pub(super) struct Column {
    digits: Vec<u8>,
    has_others: bool,
}

impl Column {
    /// Packs numbers.
    pub(super) fn of(values: impl IntoIterator<Item = impl Into<i128>>) -> Column {
        let mut column = Column::default();
        values.into_iter().for_each(|value| column.push(value));
        column
    }

    /// Packs the distance of each number from the one before, the first from 0.
    pub(super) fn of_steps(values: impl IntoIterator<Item = impl Into<i128>>) -> Column {
        let mut last = 0;
        Column::of(values.into_iter().map(|value| {
            let value = value.into();
            value - std::mem::replace(&mut last, value)
        }))
    }

    /// Appends a number.
    pub(super) fn push(&mut self, value: impl Into<i128>) {
        let value = value.into();
        self.has_others |= value != 0;
        let mut rest = value.unsigned_abs() << 1 | u128::from(value < 0);
        loop {
            let digit = rest % MORE;
            rest /= MORE;
            let more = if rest > 0 { MORE } else { 0 };
            self.digits.push(DIGITS[(digit | more) as usize]);
            if rest == 0 {
                return;
            }
        }
    }
}

impl Serialize for Column {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.has_others && !self.digits.is_empty() {
            let mut zeros = serializer.serialize_map(Some(1))?;
            zeros.serialize_entry("zeros", &self.digits.len())?;
            return zeros.end();
        }
        serializer.serialize_str(str::from_utf8(&self.digits).expect("digits are ASCII"))
    }
}

/// Columns of the same length, by name.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<(&'static str, Column)>);

impl Table {
    /// Names columns.
    pub(super) fn of(columns: impl IntoIterator<Item = (&'static str, Column)>) -> Table {
        Table(columns.into_iter().collect())
    }

    /// Takes out those columns that are not needed first.
    pub(super) fn put_off(&mut self, is_first: impl Fn(&str) -> bool) -> Table {
        let (first, rest) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(name, _)| is_first(name));
        self.0 = first;
        Table(rest)
    }
}

impl Serialize for Table {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, column)| (name, column)))
    }
}

/// Passes JSON on so that HTML sees no mark-up in it. In JSON these letters stand
/// in strings only, where each has another spelling.
pub(super) struct Harmless<W>(pub(super) W);

impl<W: Write> Write for Harmless<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| b"<>&".contains(byte)) {
            self.0.write_all(&rest[..at])?;
            write!(self.0, "\\u{:04x}", rest[at])?;
            rest = &rest[at + 1..];
        }
        self.0.write_all(rest)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(column: Column) -> String {
        String::from_utf8(column.digits).unwrap()
    }

    #[test]
    fn small_numbers_are_one_letter_and_the_largest_survive() {
        assert_eq!(text(Column::of([0, 1, -1, 15, -15])), "ACDef");
        assert_eq!(text(Column::of([16])), "gB");
        assert_eq!(text(Column::of_steps([5, 7, 6])), "KED");
        assert_eq!(text(Column::of([u64::MAX])), "+///////////f");
    }

    #[test]
    fn zeros_alone_are_counted() {
        let written = |values: &[u64]| {
            let column = Column::of(values.iter().copied());
            serde_json::to_string(&column).unwrap()
        };
        assert_eq!(written(&[0, 0, 0]), r#"{"zeros":3}"#);
        assert_eq!(written(&[0, 1]), r#""AC""#);
        assert_eq!(written(&[]), r#""""#);
    }

    #[test]
    fn columns_that_can_wait_are_taken_out() {
        let column = || Column::of([1]);
        let mut table = Table::of([("node", column()), ("scope", column())]);
        let rest = table.put_off(|name| name == "node");
        assert_eq!(serde_json::to_string(&table).unwrap(), r#"{"node":"C"}"#);
        assert_eq!(serde_json::to_string(&rest).unwrap(), r#"{"scope":"C"}"#);
    }

    #[test]
    fn no_name_can_end_the_script() {
        let mut out = Harmless(Vec::new());
        serde_json::to_writer(&mut out, "</script><!--&amp;").unwrap();
        let written = String::from_utf8(out.0).unwrap();
        assert_eq!(written, r#""\u003c/script\u003e\u003c!--\u0026amp;""#);
        assert_eq!(
            serde_json::from_str::<String>(&written).unwrap(),
            "</script><!--&amp;"
        );
    }
}
