//! The report as one page that needs nothing else: data, scripts and styles in one
//! file, for a browser without a network.
//!
//! Rust says what was booked, in columns of numbers and a list of names; the scripts
//! put stacks together and draw. What comes from a recording is data to the page and
//! never mark-up: it lies in a block of JSON that nothing can end, and is shown as
//! text. A policy in the page's head forbids every request, and every script but
//! the page's own, which a number drawn anew for each page names.

mod data;
mod facts;
mod misuse;
mod names;
mod pack;
mod rows;
#[cfg(test)]
mod tests;

use std::io::{self, BufWriter, Write};

use rustix::rand::{GetRandomFlags, getrandom};

use self::data::PageData;
use self::pack::Harmless;
use crate::analysis::By;
use crate::analysis::stacks::Stacks;

const PAGE: &str = include_str!("page.html");

const STYLES: [&str; 3] = [
    include_str!("theme.css"),
    include_str!("page.css"),
    include_str!("parts.css"),
];

/// In the order in which they need each other.
const SCRIPTS: [&str; 15] = [
    include_str!("units.js"),
    include_str!("dom.js"),
    include_str!("theme.js"),
    include_str!("data.js"),
    include_str!("state.js"),
    include_str!("tree.js"),
    include_str!("flame.js"),
    include_str!("timeline.js"),
    include_str!("table.js"),
    include_str!("holders.js"),
    include_str!("misuse.js"),
    include_str!("sizes.js"),
    include_str!("lifetimes.js"),
    include_str!("overview.js"),
    include_str!("page.js"),
];

/// Writes the page. `by` is how its flame graph first puts stacks together, which
/// otherwise depends on whether there are any; `stacks` are by call site.
///
/// # Errors
/// Those of `out`, and where the system has no random numbers.
pub fn write(stacks: &Stacks, by: Option<By>, out: impl Write) -> io::Result<()> {
    let data = PageData::new(stacks, by);
    let nonce = nonce()?;
    let mut out = BufWriter::with_capacity(1 << 16, out);
    let mut rest = PAGE;
    while let Some((before, name, after)) = next_mark(rest) {
        out.write_all(before.as_bytes())?;
        match name {
            "nonce" => out.write_all(nonce.as_bytes())?,
            "styles" => write_all(&STYLES, &mut out)?,
            "scripts" => write_all(&SCRIPTS, &mut out)?,
            "data" => serde_json::to_writer(Harmless(&mut out), &data)?,
            "rest" => serde_json::to_writer(Harmless(&mut out), &data.rest)?,
            name => unreachable!("the page has no mark {name}"),
        }
        rest = after;
    }
    out.write_all(rest.as_bytes())?;
    out.flush()
}

/// Splits a text at its first `{{name}}`.
fn next_mark(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("{{")?;
    let (name, after) = rest.split_once("}}")?;
    Some((before, name, after))
}

fn write_all(parts: &[&str], out: &mut impl Write) -> io::Result<()> {
    parts
        .iter()
        .try_for_each(|part| out.write_all(part.as_bytes()))
}

/// Draws a number that nobody knew when the recording was made.
fn nonce() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
