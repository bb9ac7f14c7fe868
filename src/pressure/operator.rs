//! Limits that whoever started the program set in its environment.

use std::ffi::OsStr;

const SOFT_LIMIT: &str = "HEAPLEDGER_SOFT_LIMIT";
const HARD_LIMIT: &str = "HEAPLEDGER_HARD_LIMIT";
const GROWTH: &str = "HEAPLEDGER_GROWTH";

/// What the operator set. Of its word and the program's own the lower counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Operator {
    pub(super) soft_bytes: Option<u64>,
    pub(super) hard_bytes: Option<u64>,
    growth_ratio: Option<f64>,
}

impl Operator {
    /// Gives what the environment says, and a note for each variable that says nothing.
    pub(super) fn from_environment() -> (Operator, Vec<String>) {
        // SAFETY: no pointers. A set-user-ID program is not the operator's to steer.
        if unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
            return (Operator::default(), Vec::new());
        }
        Operator::read(|name| std::env::var_os(name))
    }

    fn read<T: AsRef<OsStr>>(variable: impl Fn(&str) -> Option<T>) -> (Operator, Vec<String>) {
        let mut notes = Vec::new();
        let mut text = |name: &str, of: &str, holds: &dyn Fn(&str) -> bool| {
            let value = variable(name)?;
            let text = value.as_ref().to_str().filter(|text| holds(text));
            if text.is_none() {
                let value = value.as_ref().display();
                notes.push(format!("{name}: `{value}` is no {of}, ignored"));
            }
            text.map(str::to_owned)
        };
        let is_bytes = |text: &str| bytes(text).is_some();
        let is_ratio = |text: &str| ratio(text).is_some();
        let soft = text(SOFT_LIMIT, "number of bytes", &is_bytes);
        let hard = text(HARD_LIMIT, "number of bytes", &is_bytes);
        let growth = text(GROWTH, "ratio", &is_ratio);
        let operator = Operator {
            soft_bytes: soft.as_deref().and_then(bytes),
            hard_bytes: hard.as_deref().and_then(bytes),
            growth_ratio: growth.as_deref().and_then(ratio),
        };
        (operator, notes)
    }

    /// 1.0 where neither says anything.
    pub(super) fn growth(&self, own: Option<f64>) -> f64 {
        let ratios = self.growth_ratio.into_iter().chain(own);
        ratios.reduce(f64::min).unwrap_or(1.0)
    }
}

/// No limit of 0 bytes: nothing could ever be below it.
fn bytes(text: &str) -> Option<u64> {
    text.parse().ok().filter(|bytes| *bytes != 0)
}

fn ratio(text: &str) -> Option<f64> {
    text.parse().ok().filter(|ratio| *ratio >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(soft: &str, hard: &str, growth: &str) -> (Operator, Vec<String>) {
        let values = [(SOFT_LIMIT, soft), (HARD_LIMIT, hard), (GROWTH, growth)];
        Operator::read(|name| {
            let value = values.iter().find(|(known, _)| *known == name);
            value
                .map(|(_, value)| *value)
                .filter(|value| !value.is_empty())
        })
    }

    #[test]
    fn the_lower_ratio_counts() {
        let (operator, notes) = read("100", "200", "0.5");
        assert_eq!(notes, [""; 0]);
        assert_eq!(
            (operator.soft_bytes, operator.hard_bytes),
            (Some(100), Some(200))
        );
        assert_eq!(operator.growth(None), 0.5);
        assert_eq!(operator.growth(Some(0.25)), 0.25);
        assert_eq!(operator.growth(Some(f64::INFINITY)), 0.5);
        let silent = read("", "", "").0;
        assert_eq!((silent.soft_bytes, silent.growth(None)), (None, 1.0));
        assert_eq!(silent.growth(Some(3.0)), 3.0);
        assert_eq!(read("", "", "inf").0.growth(None), f64::INFINITY);
    }

    #[test]
    fn what_is_no_value_is_ignored_and_said() {
        let (operator, notes) = read("12M", "0", "-1");
        assert_eq!(operator, Operator::default());
        assert_eq!(
            notes,
            [
                "HEAPLEDGER_SOFT_LIMIT: `12M` is no number of bytes, ignored",
                "HEAPLEDGER_HARD_LIMIT: `0` is no number of bytes, ignored",
                "HEAPLEDGER_GROWTH: `-1` is no ratio, ignored",
            ]
        );
        assert_eq!(read("-5", "18446744073709551616", "NaN").1.len(), 3);
    }
}
