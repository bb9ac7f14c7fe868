//! Rows of stacks. The frames of an address are rendered once for all stacks.

use std::ops::Range;

use serde::Serialize;

use super::object::append;
use super::sites::append_figure;
use crate::analysis::Place;
use crate::analysis::stacks::{Frame, LocationId, ProcessStacks, StackRow, Stacks};
use crate::counts::Side;
use crate::recording::model::{Mode, Process, StackFigures};

/// Every location, scope and what else rows name, as JSON.
pub(super) struct StackNames {
    text: Vec<u8>,
    locations: Vec<Range<usize>>,
    scopes: Vec<Range<usize>>,
}

#[derive(Serialize)]
struct FrameJson<'a> {
    symbol: Option<&'a str>,
    library: Option<&'a str>,
    /// Where there is no symbol: nothing else tells such frames apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    file: Option<&'a str>,
    line: Option<u32>,
    inlined: bool,
}

impl StackNames {
    pub(super) fn new(stacks: &Stacks) -> StackNames {
        let mut text = Vec::new();
        let mut add = |write: &dyn Fn(&mut Vec<u8>)| {
            let from = text.len();
            write(&mut text);
            from..text.len()
        };
        let locations = (0..stacks.locations.len() as LocationId)
            .map(|location| add(&|text| append_location(text, stacks, location)))
            .collect();
        let scopes = stacks.report.catalog.scopes().iter();
        let scopes = scopes.map(|name| add(&|text| append(text, name))).collect();
        StackNames {
            text,
            locations,
            scopes,
        }
    }

    /// Appends a row.
    pub(super) fn stack(
        &self,
        out: &mut Vec<u8>,
        process: &Process,
        stacks: &ProcessStacks,
        row: &StackRow,
    ) {
        out.extend_from_slice(b"{\"frames\":[");
        for (index, &location) in stacks.path(row).iter().enumerate() {
            out.extend((index > 0).then_some(b','));
            out.extend_from_slice(&self.text[self.locations[location as usize].clone()]);
        }
        out.extend_from_slice(match row.side {
            Side::C => b"],\"side\":\"c\",\"scope\":",
            Side::Rust => b"],\"side\":\"rust\",\"scope\":",
        });
        out.extend_from_slice(match row.scope {
            Some(scope) => &self.text[self.scopes[scope.index()].clone()],
            None => b"null",
        });
        let thread = row
            .thread
            .and_then(|index| process.threads.get(index as usize));
        match thread {
            Some(thread) => {
                append_figure(out, b",\"tid\":", thread.tid);
                out.extend_from_slice(b",\"thread\":");
                append(out, &thread.name);
            }
            None => out.extend_from_slice(b",\"tid\":null,\"thread\":null"),
        }
        if row.is_guessed {
            out.extend_from_slice(b",\"guessed\":true");
        }
        let figures = &row.figures;
        append_figure(out, b",\"live_bytes\":", figures.live_bytes);
        append_figure(out, b",\"live_blocks\":", figures.live_blocks);
        append_figure(out, b",\"allocated_bytes\":", figures.allocated_bytes);
        append_figure(out, b",\"allocated_blocks\":", figures.allocated_blocks);
        append_figure(out, b",\"samples\":", figures.samples);
        // Where a mode does not know: no key, and not 0.
        if !stacks.is_exact {
            let errors = &figures.errors;
            append_figure(out, b",\"live_bytes_error\":", errors.live_bytes);
            append_figure(out, b",\"live_blocks_error\":", errors.live_blocks);
            append_figure(out, b",\"allocated_bytes_error\":", errors.allocated_bytes);
            append_figure(
                out,
                b",\"allocated_blocks_error\":",
                errors.allocated_blocks,
            );
            append_lifetimes(out, process, figures);
        } else {
            append_figure(out, b",\"at_peak_bytes\":", figures.at_peak.0);
            append_figure(out, b",\"at_peak_blocks\":", figures.at_peak.1);
        }
        if process.mode == Mode::Full {
            append_figure(out, b",\"peak_bytes\":", figures.at_peak.0);
            append_figure(out, b",\"peak_blocks\":", figures.at_peak.1);
            append_figure(out, b",\"temporary_bytes\":", figures.temporary.0);
            append_figure(out, b",\"temporary_blocks\":", figures.temporary.1);
        }
        out.push(b'}');
    }
}

/// Appends what is known of how long blocks lived that were freed.
fn append_lifetimes(out: &mut Vec<u8>, process: &Process, figures: &StackFigures) {
    let Some(lifetimes) = &process.lifetimes else {
        return;
    };
    append_figure(out, b",\"freed_blocks\":", figures.freed_blocks());
    if lifetimes.tells_short() {
        append_figure(out, b",\"freed_under_1ms_blocks\":", figures.short_blocks);
    }
    out.extend_from_slice(b",\"mean_lifetime_s\":");
    append(out, &figures.mean_lifetime_s());
}

/// Appends a location's frames, the innermost first, as stacks have them.
fn append_location(text: &mut Vec<u8>, stacks: &Stacks, location: LocationId) {
    let frames = stacks.frames_of(location);
    let site = stacks.locations[location as usize].site;
    let nameless = site
        .map(|site| stacks.report.catalog.place(site))
        .filter(|place| place.symbol.is_none());
    for (index, frame) in frames.iter().rev().enumerate() {
        text.extend((index > 0).then_some(b','));
        append_frame(text, stacks, frame, nameless.filter(|_| !frame.is_inlined));
    }
}

fn append_frame(text: &mut Vec<u8>, stacks: &Stacks, frame: &Frame, nameless: Option<&Place>) {
    let function = stacks.function_of(frame);
    let catalog = &stacks.report.catalog;
    let library = function
        .library
        .map(|library| catalog.library(library).name);
    append(
        text,
        &FrameJson {
            symbol: nameless.is_none().then_some(&function.name),
            library,
            offset: nameless
                .filter(|place| place.has_address)
                .map(|place| place.offset),
            file: frame.file,
            line: frame.line,
            inlined: frame.is_inlined,
        },
    );
}
