//! The findings, as people and programs read them.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, TableStyle, presets};
use serde_json::{Map, Value, json};

use crate::machine::Machine;
use crate::measure::{Figure, Figures, Pace, Slice, WORKLOADS};
use crate::peers::{Group, LineUp};

pub struct Findings<'a> {
    pub machine: Machine,
    /// The share of the processors that other programs took meanwhile.
    pub others: Option<f64>,
    pub pace: Pace,
    pub line_up: &'a LineUp,
    pub figures: &'a Figures,
}

impl Findings<'_> {
    pub fn terminal(&self) -> String {
        self.render(presets::NOTHING, "")
    }

    pub fn markdown(&self) -> String {
        self.render(presets::ASCII_MARKDOWN, "### ")
    }

    fn render(&self, style: TableStyle, heading: &str) -> String {
        let mut text = format!(
            "Measured on {}.\nRatios to the first row, medians of {} interleaved rounds; in the first row the time as well.\n",
            self.machine.sentence(),
            self.pace.rounds
        );
        if let Some(share) = self.others {
            let percent = share * 100.0;
            writeln!(
                text,
                "Other programs took {percent:.0} % of the processors meanwhile."
            )
            .expect("text grows");
        }
        if self.pace.is_quick {
            text.push_str("A quick run: whether everything works, not what it costs.\n");
        }
        for (group, figures) in self.line_up.groups.iter().zip(self.figures) {
            let table = costs(group, figures, style);
            write!(text, "\n{heading}{}\n\n{}\n", group.title, trimmed(&table))
                .expect("text grows");
        }
        let groups = self
            .line_up
            .groups
            .iter()
            .zip(self.figures.iter().map(Vec::as_slice));
        let table = standing(&groups.collect::<Vec<_>>(), style);
        let title = "Where heapledger stands among those that keep books";
        write!(text, "\n{heading}{title}\n\n{}\n", trimmed(&table)).expect("text grows");
        if !self.line_up.skipped.is_empty() {
            text.push_str("\nSkipped:\n");
        }
        for skipped in &self.line_up.skipped {
            writeln!(text, "- {}: {}", skipped.name, skipped.reason).expect("text grows");
        }
        text
    }

    pub fn json(&self) -> Value {
        let machine = &self.machine;
        let workloads = WORKLOADS.iter().map(|workload| {
            json!({
                "name": workload.name,
                "operation": workload.operation,
                "threads": workload.threads(),
                "slice": match workload.slice {
                    Slice::Least => "least",
                    Slice::Median => "median",
                },
            })
        });
        let groups = self.line_up.groups.iter().zip(self.figures);
        let skipped = self.line_up.skipped.iter();
        json!({
            "schema": "heapledger.peers/1",
            "machine": {
                "processor": machine.processor,
                "cores": machine.cores,
                "system": machine.system,
                "kernel": machine.kernel,
                "glibc": machine.glibc,
                "rustc": machine.rustc,
                "cc": machine.cc,
            },
            "others_share": self.others,
            "rounds": self.pace.rounds,
            "milliseconds": self.pace.milliseconds,
            "is_quick": self.pace.is_quick,
            "workloads": workloads.collect::<Vec<_>>(),
            "groups": groups.map(|(group, figures)| group_json(group, figures)).collect::<Vec<_>>(),
            "skipped": skipped.map(|skipped| json!({ "name": skipped.name, "reason": skipped.reason })).collect::<Vec<_>>(),
        })
    }
}

fn new_table(style: TableStyle, header: Vec<&str>) -> Table {
    let mut table = Table::new();
    table.load_style(style).set_header(header);
    table
}

fn align_right(table: &mut Table, columns: std::ops::Range<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn trimmed(table: &Table) -> String {
    let lines = table.to_string();
    lines
        .lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
}

fn time(ns: f64) -> String {
    match ns {
        1e6.. => format!("{:.1} ms", ns / 1e6),
        _ => format!("{ns:.1} ns"),
    }
}

fn costs(group: &Group, figures: &[Vec<Figure>], style: TableStyle) -> Table {
    let titles = WORKLOADS.iter().map(|workload| workload.title);
    let header = ["", "version"].into_iter().chain(titles).chain(["sees"]);
    let mut table = new_table(style, header.collect());
    for (at, (peer, figures)) in group.peers.iter().zip(figures).enumerate() {
        let cells = figures.iter().map(|figure| match at {
            0 => format!("1.00 ({})", time(figure.ns())),
            _ => format!("{:.2}", figure.ratio()),
        });
        let names = [peer.entry.name.to_owned(), peer.version.clone()].into_iter();
        table.add_row(
            names
                .chain(cells)
                .chain([peer.entry.sees.to_owned()])
                .collect::<Vec<_>>(),
        );
    }
    align_right(&mut table, 2..2 + WORKLOADS.len());
    table
}

/// What differs by less is the same.
const SAME: f64 = 0.02;

/// Workload by workload, heapledger's place among those that keep books, from the cheapest.
fn standing(groups: &[(&Group, &[Vec<Figure>])], style: TableStyle) -> Table {
    let header = [
        "",
        "heapledger",
        "place",
        "cheaper",
        "the same within 2 %",
        "dearer",
    ];
    let mut table = new_table(style, header.to_vec());
    for (group, figures) in groups {
        for (at, workload) in WORKLOADS.iter().enumerate() {
            table.add_row(standing_row(group, workload.title, |peer| {
                figures[peer][at].ratio()
            }));
        }
    }
    align_right(&mut table, 1..3);
    table
}

fn standing_row(group: &Group, title: &str, ratio: impl Fn(usize) -> f64) -> Vec<String> {
    let entry = |peer: usize| group.peers[peer].entry;
    let is_ours = |peer: &usize| entry(*peer).name.starts_with("heapledger");
    let books = (0..group.peers.len()).filter(|peer| entry(*peer).keeps_books);
    let (ours, mut others): (Vec<usize>, Vec<usize>) = books.partition(is_ours);
    let ours = ratio(ours[0]);
    others.sort_by(|one, other| ratio(*one).total_cmp(&ratio(*other)));
    let list = |is_meant: &dyn Fn(f64) -> bool| {
        let meant = others
            .iter()
            .filter(|peer| is_meant(ratio(**peer) / ours - 1.0));
        meant
            .map(|peer| format!("{} {:.2}", entry(*peer).name, ratio(*peer)))
            .collect::<Vec<_>>()
    };
    let cheaper = list(&|more| more < -SAME);
    vec![
        format!("{}: {title}", group.name),
        format!("{ours:.2}"),
        format!("{} of {}", cheaper.len() + 1, others.len() + 1),
        cheaper.join("; "),
        list(&|more| more.abs() <= SAME).join("; "),
        list(&|more| more > SAME).join("; "),
    ]
}

fn group_json(group: &Group, figures: &[Vec<Figure>]) -> Value {
    let peers = group.peers.iter().zip(figures).map(|(peer, figures)| {
        let workloads: Map<String, Value> = WORKLOADS
            .iter()
            .zip(figures)
            .map(|(workload, figure)| (workload.name.to_owned(), figure_json(figure)))
            .collect();
        json!({ "name": peer.entry.name, "version": peer.version, "sees": peer.entry.sees, "workloads": workloads })
    });
    json!({
        "name": group.name,
        "base": group.peers.first().map(|peer| peer.entry.name),
        "peers": peers.collect::<Vec<_>>(),
    })
}

fn figure_json(figure: &Figure) -> Value {
    let rounds = figure
        .samples
        .iter()
        .map(|sample| json!({ "least_ns": sample.least, "median_ns": sample.median }));
    json!({
        "ns": figure.ns(),
        "ratio": figure.ratio(),
        "least_ns": figure.least_ns,
        "median_ns": figure.median_ns,
        "least_ratio": figure.least_ratio,
        "median_ratio": figure.median_ratio,
        "rounds": rounds.collect::<Vec<_>>(),
    })
}
