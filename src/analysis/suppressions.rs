//! Leaks that are known and not worth a word, in LeakSanitizer's format.

use std::fmt;

/// What a file of suppressions says.
///
/// A line `leak:PATTERN` leaves out every stack of which a function's name, a
/// source file or a library matches. `*` stands for anything, `^` and `$` for the
/// ends of the name; without them a pattern may match anywhere. `#` begins a
/// comment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suppressions {
    patterns: Vec<Pattern>,
}

/// Why a file of suppressions cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuppressionError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What stands there.
    pub text: String,
}

impl fmt::Display for SuppressionError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "line {}: `{}` is no suppression; write leak:PATTERN",
            self.line, self.text
        )
    }
}

impl std::error::Error for SuppressionError {}

/// Sanitizers share such files: what is meant for another one is passed over.
const OTHERS: [&str; 12] = [
    "race",
    "race_top",
    "mutex",
    "thread",
    "signal",
    "deadlock",
    "called_from_lib",
    "interceptor_name",
    "interceptor_via_fun",
    "interceptor_via_lib",
    "odr_violation",
    "alloc_dealloc_mismatch",
];

impl Suppressions {
    /// Reads suppressions.
    ///
    /// # Errors
    /// The first line that is neither a suppression, a comment nor empty.
    pub fn parse(text: &str) -> Result<Suppressions, SuppressionError> {
        let mut patterns = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once(':') {
                Some(("leak", pattern)) if !pattern.is_empty() => {
                    patterns.push(Pattern::new(pattern));
                }
                Some((kind, _)) if OTHERS.contains(&kind) => {}
                _ => {
                    return Err(SuppressionError {
                        line: number,
                        text: line.to_owned(),
                    });
                }
            }
        }
        Ok(Suppressions { patterns })
    }

    /// Tells whether nothing is suppressed.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Gives the first pattern that matches any of the names.
    pub(crate) fn find<'n>(&self, names: impl Iterator<Item = &'n str> + Clone) -> Option<usize> {
        let matches = |pattern: &Pattern| names.clone().any(|name| pattern.matches(name));
        self.patterns.iter().position(matches)
    }

    /// Gives the patterns as they were written.
    pub fn patterns(&self) -> impl ExactSizeIterator<Item = &str> {
        self.patterns.iter().map(|pattern| pattern.text.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    text: String,
    /// The name begins with the first part.
    from_start: bool,
    /// The name ends with the last part.
    to_end: bool,
    /// What stands between asterisks.
    parts: Vec<String>,
}

impl Pattern {
    fn new(text: &str) -> Pattern {
        let (from_start, body) = match text.strip_prefix('^') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (to_end, body) = match body.strip_suffix('$') {
            Some(rest) => (true, rest),
            None => (false, body),
        };
        Pattern {
            text: text.to_owned(),
            from_start: from_start && !body.starts_with('*'),
            to_end: to_end && !body.ends_with('*'),
            parts: body
                .split('*')
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect(),
        }
    }

    fn matches(&self, name: &str) -> bool {
        let mut rest = name;
        let last = self.parts.len().checked_sub(1);
        for (index, part) in self.parts.iter().enumerate() {
            let is_last = Some(index) == last;
            let at = match (index == 0 && self.from_start, is_last && self.to_end) {
                (true, true) => (rest == part).then_some(0),
                (true, false) => rest.starts_with(part.as_str()).then_some(0),
                (false, true) => rest
                    .ends_with(part.as_str())
                    .then(|| rest.len() - part.len()),
                (false, false) => rest.find(part.as_str()),
            };
            let Some(at) = at else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
        // `^$` alone.
        last.is_some() || !(self.from_start && self.to_end) || name.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).matches(name)
    }

    #[test]
    fn patterns_match_as_leak_sanitizers_do() {
        assert!(matches("decode", "my_decode_frame"));
        assert!(!matches("^decode", "my_decode_frame"));
        assert!(matches("^my_*frame$", "my_decode_frame"));
        assert!(!matches("^my_*frame$", "my_decode_frames"));
        assert!(matches("a*b*c", "xaybzcw"));
        assert!(!matches("a*b*c", "xaybzw"));
        assert!(matches("frame$", "frame_frame"));
        assert!(matches("*", "anything") && matches("*", ""));
        assert!(matches("^ab*ba$", "abba") && !matches("^ab*ba$", "aba"));
        assert!(matches("^exact$", "exact") && !matches("^exact$", "exactly"));
        assert!(matches("^*end", "any end of it"));
        assert!(matches("ü*ß", "grüße"));
    }

    #[test]
    fn a_file_has_comments_and_other_tools_lines() {
        let text = "# known\n\nleak:libfontconfig\n  leak:^g_type_init$  \nrace:elsewhere\n";
        let suppressions = Suppressions::parse(text).unwrap();
        assert_eq!(
            suppressions.patterns().collect::<Vec<_>>(),
            ["libfontconfig", "^g_type_init$"]
        );
        let found = suppressions.find(["main", "g_type_init"].into_iter());
        assert_eq!(found, Some(1));
        assert_eq!(suppressions.find(["g_type_initial"].into_iter()), None);
    }

    #[test]
    fn a_line_that_says_nothing_is_named() {
        for (text, line) in [("leak:a\nlibx", 2), ("leak:", 1), ("leaks:a", 1)] {
            let error = Suppressions::parse(text).unwrap_err();
            assert_eq!(error.line, line, "{error}");
        }
    }
}
