//! A report in JSON, and the sums that must hold in every one.

use std::fmt;
use std::path::Path;

use serde_json::Value;

use super::{heapledger, run};

/// What every row counts.
pub const COUNTERS: [&str; 8] = [
    "live_bytes",
    "live_blocks",
    "allocated_bytes",
    "allocated_blocks",
    "freed_bytes",
    "freed_blocks",
    "reallocs",
    "requested_bytes",
];

pub struct Report {
    pub json: Value,
}

impl Report {
    /// Renders a recording, or a directory of ledgers.
    pub fn read(recording: &Path) -> Result<Report, String> {
        let output = run(heapledger()
            .arg("report")
            .arg(recording)
            .args(["--format", "json"]));
        if output.code() != 0 {
            return Err(format!(
                "report failed with {}: {}",
                output.code(),
                output.error
            ));
        }
        Report::parse(&output.text)
    }

    /// Takes what `report --format json` has printed.
    pub fn parse(text: &str) -> Result<Report, String> {
        let json: Value =
            serde_json::from_str(text).map_err(|error| format!("{error} in {text}"))?;
        if json["schema"] != "heapledger.report/1" {
            return Err(format!("schema {}", json["schema"]));
        }
        Ok(Report { json })
    }

    pub fn processes(&self) -> Vec<&Value> {
        rows(&self.json["processes"])
    }

    /// Gives the root process.
    pub fn root(&self) -> &Value {
        self.processes()
            .first()
            .copied()
            .expect("a report names a process")
    }

    /// Gives the processes of a program.
    pub fn processes_of(&self, name: &str) -> Vec<&Value> {
        let is = |process: &&Value| {
            process["exe"]
                .as_str()
                .is_some_and(|exe| exe.rsplit('/').next() == Some(name))
        };
        self.processes().into_iter().filter(is).collect()
    }

    /// Holds what must be true of every recording of a glibc program without
    /// allocators of its own: the root was seen at work, the sums add up, no
    /// block came from nowhere, and what was not seen is said.
    pub fn assert_books_hold(&self) {
        let mut wrong = self.violations();
        let root = self.root();
        if root["tracked"] != true || sum(&[&root["totals"]["c"]], "allocated_blocks") <= 0 {
            wrong.push("the root process was not seen allocating".to_owned());
        }
        for process in self.processes() {
            let pid = &process["pid"];
            if process["tracked"] != true && process["untracked_reason"].as_str().is_none() {
                wrong.push(format!("process {pid}: untracked, and no reason is given"));
            }
            let losses = process["losses"].as_object();
            for (loss, count) in losses.into_iter().flatten() {
                if count.as_i64() != Some(0) {
                    wrong.push(format!("process {pid}: losses.{loss} is {count}"));
                }
            }
            if process["losses"]["foreign_frees"].as_i64().is_none() {
                wrong.push(format!("process {pid}: foreign frees are not reported"));
            }
        }
        assert!(wrong.is_empty(), "{}\n{self}", wrong.join("\n"));
    }

    /// Tells whether a process below the root ended so, as far as anybody could
    /// see: how a grandchild ended is lost where its parent reaped it at once.
    pub fn may_have_ended(process: &Value, outcome: &Value) -> bool {
        process["outcome"] == *outcome || process["outcome"]["unknown"] == true
    }

    /// Lists the sums that do not add up.
    pub fn violations(&self) -> Vec<String> {
        self.processes()
            .into_iter()
            .filter(|process| process["tracked"] == true)
            .flat_map(process_violations)
            .collect()
    }
}

/// Gives an array's entries.
pub fn rows(array: &Value) -> Vec<&Value> {
    array
        .as_array()
        .map(|rows| rows.iter().collect())
        .unwrap_or_default()
}

/// Adds up a counter over rows.
pub fn sum(rows: &[&Value], counter: &str) -> i64 {
    rows.iter()
        .map(|row| {
            row[counter]
                .as_i64()
                .unwrap_or_else(|| panic!("no {counter} in {row}"))
        })
        .sum()
}

fn process_violations(process: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut same = |what: String, left: i64, right: i64| {
        if left != right {
            wrong.push(format!(
                "process {}: {what}: {left} is not {right}",
                process["pid"]
            ));
        }
    };
    let totals = &process["totals"];
    for side in ["c", "rust", "all"] {
        for unit in ["bytes", "blocks"] {
            let [allocated, freed, live] = ["allocated", "freed", "live"]
                .map(|word| sum(&[&totals[side]], &format!("{word}_{unit}")));
            same(
                format!("{side}: allocated - freed {unit} = live"),
                allocated - freed,
                live,
            );
        }
    }
    for table in ["sites", "libraries", "scopes", "threads"] {
        for row in rows(&process[table]) {
            for unit in ["bytes", "blocks"] {
                let [allocated, freed, live] = ["allocated", "freed", "live"]
                    .map(|word| sum(&[row], &format!("{word}_{unit}")));
                same(
                    format!("{table}: allocated - freed {unit} = live in {row}"),
                    allocated - freed,
                    live,
                );
            }
        }
    }
    for counter in COUNTERS {
        let [c, rust, all] = ["c", "rust", "all"].map(|side| sum(&[&totals[side]], counter));
        same(format!("c + rust = all {counter}"), c + rust, all);
        for (side, total) in [("c", c), ("rust", rust)] {
            let sites: Vec<&Value> = rows(&process["sites"])
                .into_iter()
                .filter(|row| row["side"] == side)
                .collect();
            same(
                format!("sum of sites of {side} {counter}"),
                sum(&sites, counter),
                total,
            );
        }
        for table in ["libraries", "threads"] {
            same(
                format!("sum of {table} {counter}"),
                sum(&rows(&process[table]), counter),
                all,
            );
        }
    }
    same(
        "losses.invariant_violations".to_owned(),
        process["losses"]["invariant_violations"]
            .as_i64()
            .unwrap_or(-1),
        0,
    );
    wrong
}

impl fmt::Display for Report {
    /// Shows enough to see what was counted instead.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for process in self.processes() {
            writeln!(
                f,
                "process {} {} outcome {} tracked {} {} losses {}",
                process["pid"],
                process["exe"],
                process["outcome"],
                process["tracked"],
                process["untracked_reason"],
                process["losses"]
            )?;
            for site in rows(&process["sites"]).into_iter().take(30) {
                write!(
                    f,
                    "   {} {} {} {}:",
                    site["library"], site["symbol"], site["side"], site["scope"]
                )?;
                for counter in COUNTERS {
                    write!(f, " {counter}={}", site[counter])?;
                }
                writeln!(f)?;
            }
            writeln!(
                f,
                "   {} sites, {} threads",
                rows(&process["sites"]).len(),
                rows(&process["threads"]).len()
            )?;
        }
        Ok(())
    }
}
