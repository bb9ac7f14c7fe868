//! Sizes as people write them: `512MiB`, `2G`, `1048576`.

use std::fmt;
use std::str::FromStr;

/// A number of bytes from the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size {
    pub bytes: u64,
}

/// Why a text is no size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SizeError {
    NoNumber,
    Negative,
    UnknownUnit(String),
    TooLarge,
}

impl fmt::Display for SizeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SizeError::NoNumber => {
                formatter.write_str("a size begins with a number, as in 512MiB, 2G or 1048576")
            }
            SizeError::Negative => formatter.write_str("a size cannot be negative"),
            SizeError::UnknownUnit(unit) => {
                write!(
                    formatter,
                    "unknown unit `{unit}`; use B, K, M, G or T, or KiB, MiB, GiB or TiB"
                )
            }
            SizeError::TooLarge => formatter.write_str("the size does not fit 64 bits"),
        }
    }
}

impl std::error::Error for SizeError {}

impl FromStr for Size {
    type Err = SizeError;

    /// Units are powers of 1,024, with or without `iB`; `kB`, `MB`, ... are powers of 1,000.
    fn from_str(text: &str) -> Result<Size, SizeError> {
        let text = text.trim();
        let begins_a_number =
            |text: &str| text.starts_with(|first: char| first.is_ascii_digit() || first == '.');
        if text.strip_prefix('-').is_some_and(begins_a_number) {
            return Err(SizeError::Negative);
        }
        if !begins_a_number(text) {
            return Err(SizeError::NoNumber);
        }
        let split = text
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let scale =
            scale(unit.trim()).ok_or_else(|| SizeError::UnknownUnit(unit.trim().to_owned()))?;
        if !number.bytes().any(|byte| byte.is_ascii_digit()) {
            return Err(SizeError::NoNumber);
        }
        let bytes = match number.parse::<u64>() {
            Ok(whole) => whole.checked_mul(scale),
            Err(_) if number.contains('.') => fraction(number, scale)?,
            Err(_) => None,
        };
        bytes.map(|bytes| Size { bytes }).ok_or(SizeError::TooLarge)
    }
}

fn fraction(number: &str, scale: u64) -> Result<Option<u64>, SizeError> {
    let bytes = number.parse::<f64>().map_err(|_| SizeError::NoNumber)? * scale as f64;
    Ok((bytes < u64::MAX as f64).then_some(bytes.round() as u64))
}

fn scale(unit: &str) -> Option<u64> {
    let lower = unit.to_ascii_lowercase();
    let (prefix, base) = match lower.strip_suffix("ib") {
        Some(prefix) if !prefix.is_empty() => (prefix, 1024u64),
        _ => match lower.strip_suffix('b') {
            Some("") => return Some(1),
            Some(prefix) => (prefix, 1000),
            None => (lower.as_str(), 1024),
        },
    };
    let power = match prefix {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    Some(base.pow(power))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<u64, SizeError> {
        text.parse::<Size>().map(|size| size.bytes)
    }

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in [
            ("1048576", 1 << 20),
            ("512MiB", 512 << 20),
            ("512 MiB", 512 << 20),
            ("2G", 2 << 30),
            ("2g", 2 << 30),
            ("1.5K", 1536),
            ("10kB", 10_000),
            ("7B", 7),
            ("0", 0),
            (" 64KiB ", 65_536),
            ("1T", 1 << 40),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(parse(""), Err(SizeError::NoNumber));
        assert_eq!(parse("MiB"), Err(SizeError::NoNumber));
        assert_eq!(parse("."), Err(SizeError::NoNumber));
        assert_eq!(parse("1.2.3M"), Err(SizeError::NoNumber));
        // An option's name, too, where its value was left out.
        for text in [
            "iB",
            "nan",
            "inf",
            "+5MiB",
            "½GiB",
            "-",
            "-q",
            "--",
            "--hard-limit",
            "-MiB",
        ] {
            assert_eq!(parse(text), Err(SizeError::NoNumber), "{text}");
        }
        for text in ["-1", "-0", "-1MiB", "-1.5G", "-.5"] {
            assert_eq!(parse(text), Err(SizeError::Negative), "{text}");
        }
        assert_eq!(
            parse("5 apples"),
            Err(SizeError::UnknownUnit("apples".into()))
        );
        assert_eq!(parse("1e9"), Err(SizeError::UnknownUnit("e9".into())));
        assert_eq!(parse("5%"), Err(SizeError::UnknownUnit("%".into())));
        assert_eq!(parse("99999999999999999999"), Err(SizeError::TooLarge));
        assert_eq!(parse("18446744073709551615K"), Err(SizeError::TooLarge));
        assert_eq!(parse("99999999999999999.5T"), Err(SizeError::TooLarge));
    }
}
