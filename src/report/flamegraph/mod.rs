//! Flame graphs: one SVG that needs nothing else.
//!
//! The width of a box is what was booked below it. Side c and side rust have
//! colours of their own, and what serves both a mixture by their shares.

mod svg;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use self::svg::{Legend, Picture};
use super::phrases;
use super::units::{count, counted, size, unsigned_size};
use crate::analysis::stacks::{CallTree, NodeId, Stacks};
use crate::analysis::{Measure, Report};

/// Draws the stacks of a report, side by side.
///
/// # Errors
/// Those of `out`.
pub fn write(stacks: &Stacks, measure: Measure, out: impl Write) -> io::Result<()> {
    let tree = CallTree::by_side(stacks, measure);
    let root = &tree.nodes[0];
    let whole = root.sum();
    let title_of = |node: NodeId| {
        let node = &tree.nodes[node as usize];
        let [c, rust] = node.total.map(|value| figure(measure, value));
        let sum = figure(measure, node.sum());
        format!("{sum}, {}\nc {c}, rust {rust}", share(node.sum(), whole))
    };
    let fill_of = |id: NodeId| {
        let node = &tree.nodes[id as usize];
        let rust = node.total[1] as f64 / node.sum().max(1) as f64;
        varied(mixed(C, RUST, rust), tree.label(id).name)
    };
    let [c, rust] = root.total.map(|value| short(measure, value));
    let picture = Picture {
        heading: heading(stacks.report, measure.title()),
        notes: notes(stacks, &tree),
        legend: vec![
            Legend::new(C, format!("C {c}")),
            Legend::new(RUST, format!("Rust {rust}")),
        ],
        weights: weights(&tree, |own| own[0].saturating_add(own[1])),
        title_of: &title_of,
        fill_of: &fill_of,
        tree: &tree,
    };
    picture.write(out)
}

/// Draws what two reports have at their stacks: red has grown, blue has shrunk, and
/// a box is as wide as the larger of both.
///
/// # Errors
/// Those of `out`.
pub fn write_difference(
    old: &Stacks,
    new: &Stacks,
    measure: Measure,
    out: impl Write,
) -> io::Result<()> {
    let tree = CallTree::of_two(old, new, measure);
    let title_of = |node: NodeId| {
        let [before, after] = tree.nodes[node as usize].total;
        let change = change(measure, [before, after]);
        let [before, after] = [before, after].map(|value| figure(measure, value));
        format!("{change}\nfrom {before} to {after}")
    };
    let fill_of = |node: NodeId| {
        let [before, after] = tree.nodes[node as usize].total.map(|value| value as f64);
        let change = (after - before) / after.max(before).max(1.0);
        mixed(
            SAME,
            if change > 0.0 { GROWN } else { SHRUNK },
            change.abs(),
        )
    };
    let picture = Picture {
        heading: heading(new.report, &format!("{}, compared", measure.title())),
        notes: vec![change(measure, tree.nodes[0].total)],
        legend: vec![
            Legend::new(GROWN, "grown".to_owned()),
            Legend::new(SAME, "as before".to_owned()),
            Legend::new(SHRUNK, "shrunk".to_owned()),
        ],
        weights: weights(&tree, |own| own[0].max(own[1])),
        title_of: &title_of,
        fill_of: &fill_of,
        tree: &tree,
    };
    picture.write(out)
}

/// Red, green, blue; light enough for black letters.
type Colour = [u8; 3];

const C: Colour = [0x8c, 0xb9, 0xe8];
const RUST: Colour = [0xf2, 0xa5, 0x6b];
const GROWN: Colour = [0xf0, 0x82, 0x78];
const SHRUNK: Colour = [0x7e, 0xb6, 0xf0];
const SAME: Colour = [0xdc, 0xdc, 0xdc];

/// Gives a colour between two, `share` of the way.
fn mixed(from: Colour, to: Colour, share: f64) -> Colour {
    let part = |from: u8, to: u8| {
        let value = f64::from(from) + (f64::from(to) - f64::from(from)) * share.clamp(0.0, 1.0);
        value.round() as u8
    };
    std::array::from_fn(|index| part(from[index], to[index]))
}

/// Gives a lighter colour to some names, so that neighbours differ.
fn varied(colour: Colour, name: &str) -> Colour {
    const WHITE: Colour = [0xff; 3];
    let sum = name.bytes().fold(0u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u32::from(byte))
    });
    mixed(colour, WHITE, f64::from(sum % 5) * 0.08)
}

/// Gives how wide each node is: as wide as all that it calls, and what ends in it.
fn weights(tree: &CallTree, own: impl Fn([u64; 2]) -> u64) -> Vec<u64> {
    let mut weights: Vec<u64> = tree.nodes.iter().map(|node| own(node.own)).collect();
    for node in (1..weights.len()).rev() {
        let parent = tree.nodes[node].parent as usize;
        weights[parent] = weights[parent].saturating_add(weights[node]);
    }
    weights
}

fn heading(report: &Report, what: &str) -> String {
    format!("{}: {what}", phrases::command(report.command()))
}

fn notes(stacks: &Stacks, tree: &CallTree) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(phrases::estimates(stacks.report));
    notes.extend(phrases::narrowing(stacks.filter()));
    notes.extend(phrases::negative_rows(tree.negative_rows));
    notes
}

/// Writes a value exactly, and bytes also as people say them.
fn figure(measure: Measure, value: u64) -> String {
    match (measure.is_bytes(), value) {
        (true, 1024..) => format!("{} bytes ({})", count(value), unsigned_size(value)),
        (true, _) => counted(value, "byte", "bytes"),
        (false, _) => counted(value, "block", "blocks"),
    }
}

fn short(measure: Measure, value: u64) -> String {
    match measure.is_bytes() {
        true => unsigned_size(value),
        false => count(value),
    }
}

fn share(value: u64, whole: u64) -> String {
    format!("{:.1} %", value as f64 * 100.0 / whole.max(1) as f64)
}

fn change(measure: Measure, [before, after]: [u64; 2]) -> String {
    let by = after.abs_diff(before);
    let figure = match measure.is_bytes() {
        true => size(i64::try_from(by).unwrap_or(i64::MAX)),
        false => counted(by, "block", "blocks"),
    };
    match after.cmp(&before) {
        std::cmp::Ordering::Greater => format!("{figure} more"),
        std::cmp::Ordering::Less => format!("{figure} less"),
        std::cmp::Ordering::Equal => "as before".to_owned(),
    }
}
