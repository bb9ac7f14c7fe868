//! Figures as people read them.

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Writes a number of bytes: `512 MiB`, `1.5 KiB`, `-3 B`.
pub(crate) fn size(bytes: i64) -> String {
    let sign = if bytes < 0 { "-" } else { "" };
    format!("{sign}{}", unsigned_size(bytes.unsigned_abs()))
}

/// As [`size`], for what cannot be negative.
pub(crate) fn unsigned_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    // 1023.5 would be shown as 1024 of the smaller unit.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && value < 9.95);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// Writes a count with its thousands apart: `1,234,567`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// As [`count`], for what may be negative.
pub(crate) fn signed_count(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}", count(value.unsigned_abs()))
}

/// Writes a count and what is counted: `1 process`, `3 processes`.
pub(crate) fn counted(value: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(value), if value == 1 { one } else { many })
}

/// Writes a time: `340 ms`, `2.50 s`, `3 min 20 s`, `5 h 10 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match seconds {
        _ if seconds < 0.9995 => format!("{:.0} ms", seconds * 1000.0),
        _ if seconds < 9.995 => format!("{seconds:.2} s"),
        _ if seconds < 99.95 => format!("{seconds:.1} s"),
        _ if whole < 3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", count(whole / 3600), whole / 60 % 60),
    }
}

/// As [`duration`], for what may be far shorter: `250 ns`, `3.2 µs`, `15 µs`.
pub(crate) fn short_duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        _ if seconds < 0.9995e-6 => (seconds * 1e9, "ns"),
        _ if seconds < 0.9995e-3 => (seconds * 1e6, "µs"),
        _ if seconds < 9.95e-3 => (seconds * 1e3, "ms"),
        _ => return duration(seconds),
    };
    let decimals = usize::from(unit != "ns" && value < 9.95);
    format!("{value:.decimals$} {unit}")
}

/// Makes text from a recording safe to print: control characters would drive the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| {
            if is_harmful(letter) {
                '\u{fffd}'
            } else {
                letter
            }
        })
        .collect()
}

fn is_harmful(letter: char) -> bool {
    // Marks that turn the direction of what follows can make one name look like another.
    letter.is_control() || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_decimal_under_ten() {
        let expected = [
            (0, "0 B"),
            (1, "1 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (10_188, "9.9 KiB"),
            (10_230, "10 KiB"),
            (536_870_912, "512 MiB"),
            (1_048_575, "1.0 MiB"),
            (-3 << 30, "-3.0 GiB"),
            (i64::MAX, "8.0 EiB"),
            (i64::MIN, "-8.0 EiB"),
        ];
        for (bytes, text) in expected {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(unsigned_size(u64::MAX), "16 EiB");
    }

    #[test]
    fn counts_have_their_thousands_apart() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(signed_count(-1_234), "-1,234");
        assert_eq!(counted(1, "process", "processes"), "1 process");
        assert_eq!(counted(0, "process", "processes"), "0 processes");
    }

    #[test]
    fn times_below_a_second_have_a_unit_of_their_own() {
        let expected = [
            (0.0, "0 ns"),
            (250e-9, "250 ns"),
            (999.7e-9, "1.0 µs"),
            (3.21e-6, "3.2 µs"),
            (15e-6, "15 µs"),
            (2.04e-3, "2.0 ms"),
            (0.34, "340 ms"),
            (2.5, "2.50 s"),
        ];
        for (seconds, text) in expected {
            assert_eq!(short_duration(seconds), text);
        }
    }

    #[test]
    fn times_are_as_long_as_they_need_to_be() {
        let expected = [
            (0.0, "0 ms"),
            (0.34, "340 ms"),
            (0.9996, "1.00 s"),
            (2.5, "2.50 s"),
            (12.34, "12.3 s"),
        ];
        for (seconds, text) in expected {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!(duration(200.0), "3 min 20 s");
        assert_eq!(duration(18_600.0), "5 h 10 min");
    }

    #[test]
    fn names_cannot_drive_the_terminal() {
        assert_eq!(printable("a\x1b[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
        assert_eq!(printable("übung.so"), "übung.so");
    }
}
