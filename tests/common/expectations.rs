//! The words in which a program states its ledger.
//!
//! A line of a program's first comment that begins with `expect:` holds words
//! `name=value`. Some choose what is looked at, the others say what it must be:
//!
//! | chooses | |
//! | --- | --- |
//! | `in=SYMBOL` | the process that has this call site (default: the root); with `count=N`, N of them |
//! | `not=SYMBOL` | of these, the one that does not have this call site |
//! | `exe=NAME` | the process of this program |
//! | `site=SYMBOL` | the sum of all call sites in this function; spaces are written `_` |
//! | `library=NAME`, `scope=NAME`, `thread=NAME`, `side=c` | these rows |
//!
//! | must be | |
//! | --- | --- |
//! | `live_bytes=N` and all other counters | exactly this; nothing chosen counts 0 |
//! | `rows=N` | so many rows were chosen |
//! | `outcome=exit:N`, `signal:NAME`, `exec` | how the process ended |
//! | `processes=N` | so many in the recording |
//! | `losses.NAME=N`, `losses.NAME>N` | what was lost |
//! | `tracked=false`, `untracked_reason~TEXT` | what is said of it |
//! | `thread_rows_at_most=N` | slots are reused |
//!
//! A number is a sum of products, such as `5000*u(300)+72`, where `u(n)` is what
//! glibc's malloc gives to a request of n bytes. A program that runs over other
//! allocators writes lines of the same words (without `expect:`) to the file
//! that TEST_EXPECT_FILE names.

use serde_json::Value;

use super::report::{COUNTERS, Report, rows, sum};

#[derive(Debug)]
pub struct Expectation {
    line: String,
    words: Vec<(String, char, String)>,
}

impl Expectation {
    /// Reads the first comment of a source.
    pub fn of_comment(source: &str) -> Vec<Expectation> {
        let comment = source
            .split_once("/*")
            .and_then(|(_, rest)| rest.split_once("*/"))
            .map_or("", |(comment, _)| comment);
        comment
            .lines()
            .filter_map(|line| line.trim_start_matches([' ', '*']).strip_prefix("expect:"))
            .map(Expectation::parse)
            .collect()
    }

    pub fn parse(line: &str) -> Expectation {
        let word = |word: &str| {
            let at = word
                .find(['=', '>', '~'])
                .unwrap_or_else(|| panic!("`{word}` in `{line}` has no value"));
            (
                word[..at].to_owned(),
                word.as_bytes()[at] as char,
                word[at + 1..].to_owned(),
            )
        };
        Expectation {
            line: line.trim().to_owned(),
            words: line.split_whitespace().map(word).collect(),
        }
    }

    fn word(&self, name: &str) -> Option<&str> {
        self.words
            .iter()
            .find(|word| word.0 == name)
            .map(|word| word.2.as_str())
    }

    /// Lists what is not as expected.
    pub fn check(&self, report: &Report) -> Vec<String> {
        let mut wrong = Vec::new();
        let processes = self.choose_processes(report);
        let count = self.word("count").map_or(1, number);
        if processes.len() as i64 != count {
            wrong.push(format!(
                "{} processes, not {count}, are meant by `{}`",
                processes.len(),
                self.line
            ));
        }
        for process in processes {
            for (name, operator, value) in &self.words {
                if let Err(found) = self.check_word(report, process, name, *operator, value) {
                    wrong.push(format!("{name} is {found} in `{}`", self.line));
                }
            }
        }
        wrong
    }

    fn choose_processes<'r>(&self, report: &'r Report) -> Vec<&'r Value> {
        let all = report.processes();
        if let Some(symbol) = self.word("in") {
            let has = |process: &Value, symbol| {
                rows(&process["sites"])
                    .into_iter()
                    .any(|site| is_in(site, symbol))
            };
            let without = self.word("not");
            let meant = |process: &&Value| {
                has(process, symbol) && without.is_none_or(|symbol| !has(process, symbol))
            };
            return all.into_iter().filter(meant).collect();
        }
        if let Some(name) = self.word("exe") {
            let is = |process: &&Value| {
                process["exe"]
                    .as_str()
                    .is_some_and(|exe| exe.rsplit('/').next() == Some(name))
            };
            return all.into_iter().filter(is).collect();
        }
        all.into_iter().take(1).collect()
    }

    /// Gives the rows that the counters of this line are summed over.
    fn choose_rows<'r>(&self, process: &'r Value) -> Vec<&'r Value> {
        if let Some(symbol) = self.word("site") {
            let side = self.word("side");
            let is =
                |site: &&Value| is_in(site, symbol) && side.is_none_or(|side| site["side"] == side);
            return rows(&process["sites"]).into_iter().filter(is).collect();
        }
        for (word, table) in [
            ("library", "libraries"),
            ("scope", "scopes"),
            ("thread", "threads"),
        ] {
            if let Some(name) = self.word(word) {
                return rows(&process[table])
                    .into_iter()
                    .filter(|row| row["name"] == name)
                    .collect();
            }
        }
        match self.word("side") {
            Some(side) => vec![&process["totals"][side]],
            None => panic!("`{}` counts, but does not say what", self.line),
        }
    }

    fn check_word(
        &self,
        report: &Report,
        process: &Value,
        name: &str,
        operator: char,
        value: &str,
    ) -> Result<(), String> {
        let compare = |found: i64| {
            let expected = number(value);
            let holds = if operator == '>' {
                found > expected
            } else {
                found == expected
            };
            if holds {
                Ok(())
            } else {
                Err(format!("{found}, not {expected},"))
            }
        };
        match name {
            "in" | "not" | "exe" | "count" | "site" | "library" | "scope" | "thread" | "side" => {
                Ok(())
            }
            "rows" => compare(self.choose_rows(process).len() as i64),
            "processes" => compare(report.processes().len() as i64),
            "outcome" => match outcome(process) {
                found if found == value => Ok(()),
                found => Err(found),
            },
            "tracked" => match process["tracked"].to_string() {
                found if found == value => Ok(()),
                found => Err(found),
            },
            "untracked_reason" => match process["untracked_reason"].as_str() {
                Some(found) if found.contains(value) => Ok(()),
                found => Err(format!("{found:?}")),
            },
            "thread_rows_at_most" => match rows(&process["threads"]).len() as i64 {
                found if found <= number(value) => Ok(()),
                found => Err(found.to_string()),
            },
            _ if COUNTERS.contains(&name) => compare(sum(&self.choose_rows(process), name)),
            _ => match name.strip_prefix("losses.") {
                Some(loss) => match process["losses"][loss].as_i64() {
                    Some(found) => compare(found),
                    None => Err("not in the report".to_owned()),
                },
                None => panic!("`{name}` in `{}` is no word", self.line),
            },
        }
    }
}

/// Tells whether a call site stands in this function, whatever its parameters.
fn is_in(site: &Value, symbol: &str) -> bool {
    let found = site["symbol"].as_str().unwrap_or_default();
    found
        .split('(')
        .next()
        .unwrap_or_default()
        .trim()
        .replace(' ', "_")
        == symbol
}

/// Writes an outcome in the words of an expectation.
pub fn outcome(process: &Value) -> String {
    let outcome = &process["outcome"];
    if let Some(code) = outcome["exit_code"].as_i64() {
        format!("exit:{code}")
    } else if let Some(signal) = outcome["signal"].as_str() {
        format!("signal:{signal}")
    } else if outcome["exec"] == true {
        "exec".to_owned()
    } else {
        outcome.to_string()
    }
}

/// Reads a sum of products of numbers and `u(n)`.
fn number(text: &str) -> i64 {
    text.split('+')
        .map(|term| term.split('*').map(factor).product::<i64>())
        .sum()
}

fn factor(text: &str) -> i64 {
    match text
        .strip_prefix("u(")
        .and_then(|rest| rest.strip_suffix(')'))
    {
        Some(size) => glibc_usable(number(size)),
        None => text
            .parse()
            .unwrap_or_else(|_| panic!("`{text}` is no number")),
    }
}

/// Usable bytes of glibc's malloc on a 64-bit machine, for blocks that are no mapping of their own.
fn glibc_usable(size: i64) -> i64 {
    (((size + 8 + 15) & !15) - 8).max(24)
}
