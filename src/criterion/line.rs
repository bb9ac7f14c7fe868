//! Books as one line of a table.

use std::fmt;

use super::books::{Books, SideBooks};

/// Columns of a side's cell without its name.
const CELL: usize = 62;

impl fmt::Display for Books {
    /// Writes both sides in one line, in columns that stand below each other from line to line.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [c, rust] = [self.c, self.rust].map(|side| self.cell(side));
        write!(formatter, "c {c:CELL$} | rust {rust}")
    }
}

impl Books {
    fn cell(&self, side: Option<SideBooks>) -> String {
        let Some(side) = side else {
            return "     not seen".to_owned();
        };
        if side == SideBooks::default() {
            return "     nothing".to_owned();
        }
        let blocks = side.counts.allocated_blocks;
        format!(
            "{:>6} {:<6} {:>11}, peak{}{:>11}, left{:>13}",
            count(blocks),
            if blocks == 1 { "block" } else { "blocks" },
            bytes(side.counts.allocated_bytes as i64),
            if self.peaks_are_exact { ' ' } else { '~' },
            bytes(side.peak_live_bytes),
            bytes(side.counts.live_bytes),
        )
    }
}

/// Writes bytes to the last one below 1 MiB, and five digits of more.
fn bytes(bytes: i64) -> String {
    let sign = if bytes < 0 { "-" } else { "" };
    let size = bytes.unsigned_abs();
    if size < 1 << 20 {
        return format!("{sign}{} B", count(size));
    }
    let (value, unit) = match size {
        ..0x4000_0000 => (size as f64 / f64::from(1 << 20), "MiB"),
        _ => (size as f64 / f64::from(1 << 30), "GiB"),
    };
    let decimals = match value {
        ..10.0 => 4,
        ..100.0 => 3,
        _ => 2,
    };
    format!("{sign}{value:.decimals$} {unit}")
}

/// Writes a count with its thousands apart.
fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Counts;

    fn side(blocks: u64, allocated: u64, left: i64, peak: i64) -> Option<SideBooks> {
        let freed = (allocated as i64 - left) as u64;
        Some(SideBooks {
            counts: Counts::new((allocated, blocks), (freed, blocks), allocated, 0),
            peak_live_bytes: peak,
        })
    }

    #[test]
    fn figures_stand_below_each_other() {
        let line = |c, rust, peaks_are_exact| {
            let books = Books {
                c,
                rust,
                peak_live_bytes: 0,
                peaks_are_exact,
            };
            books.to_string()
        };
        let lines = [
            line(side(3, 3000, 0, 1000), side(1, 5 << 20, -7, 5 << 20), true),
            line(
                side(12_345, 1_048_575, -1_048_575, 0),
                side(1, 9, 9, 9),
                false,
            ),
            line(None, Some(SideBooks::default()), true),
        ];
        let expected = [
            "c      3 blocks     3,000 B, peak     1,000 B, left          0 B | rust      1 block   5.0000 MiB, peak  5.0000 MiB, left         -7 B",
            "c 12,345 blocks 1,048,575 B, peak~        0 B, left -1,048,575 B | rust      1 block          9 B, peak~        9 B, left          9 B",
            "c      not seen                                                  | rust      nothing",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn sizes_keep_their_last_byte_below_a_mebibyte() {
        let written = [0, -1, 99_999, 1 << 20, 12_345_678, 200 << 20, 3 << 30].map(bytes);
        let expected = [
            "0 B",
            "-1 B",
            "99,999 B",
            "1.0000 MiB",
            "11.774 MiB",
            "200.00 MiB",
            "3.0000 GiB",
        ];
        assert_eq!(written, expected);
    }
}
