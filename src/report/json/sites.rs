//! Rows of call sites. What names a site is rendered once for all processes.

use std::ops::Range;

use serde::Serialize;

use super::object::append;
use crate::analysis::{Catalog, Place, SiteRow};
use crate::counts::{Counts, Side};

/// The names of every call site and scope, as JSON.
pub(super) struct Names {
    text: Vec<u8>,
    sites: Vec<Range<usize>>,
    scopes: Vec<Range<usize>>,
}

#[derive(Serialize)]
struct PlaceJson<'a> {
    library: &'a str,
    symbol: Option<&'a str>,
    offset: u64,
    file: Option<&'a str>,
    line: Option<u32>,
}

impl Names {
    pub(super) fn new(catalog: &Catalog) -> Names {
        let mut text = Vec::new();
        let mut add = |write: &dyn Fn(&mut Vec<u8>)| {
            let from = text.len();
            write(&mut text);
            from..text.len()
        };
        let sites = catalog
            .places()
            .iter()
            .map(|place| add(&|text| append_place(text, place)))
            .collect();
        let scopes = catalog
            .scopes()
            .iter()
            .map(|name| add(&|text| append(text, name)))
            .collect();
        Names {
            text,
            sites,
            scopes,
        }
    }

    /// Appends a row with all its counters.
    pub(super) fn site(&self, out: &mut Vec<u8>, row: &SiteRow) {
        self.owner(out, row);
        append_counts(out, &row.counts);
        out.push(b'}');
    }

    /// Appends a row with what it held at the peak.
    pub(super) fn site_at_peak(&self, out: &mut Vec<u8>, row: &SiteRow) {
        self.owner(out, row);
        append_figure(out, b",\"live_bytes\":", row.at_peak.0);
        append_figure(out, b",\"live_blocks\":", row.at_peak.1);
        out.push(b'}');
    }

    fn owner(&self, out: &mut Vec<u8>, row: &SiteRow) {
        out.extend_from_slice(&self.text[self.sites[row.site.index()].clone()]);
        out.extend_from_slice(match row.side {
            Side::C => b",\"side\":\"c\",\"scope\":",
            Side::Rust => b",\"side\":\"rust\",\"scope\":",
        });
        out.extend_from_slice(match row.scope {
            Some(scope) => &self.text[self.scopes[scope.index()].clone()],
            None => b"null",
        });
    }
}

/// The object stays open for what differs from row to row.
fn append_place(text: &mut Vec<u8>, place: &Place) {
    let Place {
        symbol,
        offset,
        file,
        line,
        ..
    } = *place;
    append(
        text,
        &PlaceJson {
            library: place.library_name,
            symbol,
            offset,
            file,
            line,
        },
    );
    text.pop();
}

fn append_counts(out: &mut Vec<u8>, counts: &Counts) {
    append_figure(out, b",\"live_bytes\":", counts.live_bytes);
    append_figure(out, b",\"live_blocks\":", counts.live_blocks);
    append_figure(out, b",\"allocated_bytes\":", counts.allocated_bytes);
    append_figure(out, b",\"allocated_blocks\":", counts.allocated_blocks);
    append_figure(out, b",\"freed_bytes\":", counts.freed_bytes);
    append_figure(out, b",\"freed_blocks\":", counts.freed_blocks);
    append_figure(out, b",\"reallocs\":", counts.reallocs);
    append_figure(out, b",\"requested_bytes\":", counts.requested_bytes);
}

/// Appends a key, with all that stands around it, and a number: a large tree has
/// fifteen million of them.
pub(super) fn append_figure(out: &mut Vec<u8>, key: &[u8], figure: impl itoa::Integer) {
    out.extend_from_slice(key);
    out.extend_from_slice(itoa::Buffer::new().format(figure).as_bytes());
}
