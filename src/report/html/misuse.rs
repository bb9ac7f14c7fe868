//! Misuse of the allocator, as the page has it.

use serde::Serialize;

use super::names::{Paths, Texts};
use crate::analysis::stacks::Stacks;
use crate::analysis::{ProcessReport, calls, seconds};
use crate::recording::model::{Misuse, MisuseStack};
use crate::report::phrases;
use crate::report::units::printable;

/// One misuse.
#[derive(Serialize)]
pub(super) struct MisuseData {
    /// Place in the list of processes.
    process: u32,
    kind: &'static str,
    certain: bool,
    what: String,
    /// Digits, because a script's numbers are exact to 53 bits only.
    count: String,
    /// Seconds from the start of the recording.
    at_s: f64,
    /// The last call first.
    ends: Vec<EndData>,
}

/// One end of a misuse.
#[derive(Serialize)]
struct EndData {
    what: &'static str,
    thread: String,
    /// The innermost function that is not a standard library's.
    caller: String,
    node: u32,
}

/// Gives all misuse, each process's in the order in which it began.
pub(super) fn misuses<'a>(
    stacks: &'a Stacks<'a>,
    texts: &mut Texts<'a>,
    paths: &mut Paths<'a>,
) -> Vec<MisuseData> {
    let mut all = Vec::new();
    for (process, report) in (0u32..).zip(&stacks.report.processes) {
        for misuse in &report.misuses {
            let ends = misuse.stacks().map(|(end, stack)| EndData {
                what: phrases::misuse_end(misuse, end),
                thread: thread(report, stack.tid),
                caller: caller(stacks, stack),
                node: paths.node(texts, &stacks.path_of(stack)),
            });
            let ends = ends.collect();
            all.push(MisuseData::new(process, report, misuse, ends));
        }
    }
    all
}

impl MisuseData {
    fn new(process: u32, report: &ProcessReport, misuse: &Misuse, ends: Vec<EndData>) -> Self {
        MisuseData {
            process,
            kind: misuse.kind.name(),
            certain: misuse.is_certain(),
            what: phrases::misuse(misuse),
            count: misuse.count.to_string(),
            at_s: seconds(report.process.started_s) + seconds(misuse.t_s),
            ends,
        }
    }
}

fn caller(stacks: &Stacks, stack: &MisuseStack) -> String {
    let calls = calls(&stacks.report.catalog, stack);
    let caller = calls.iter().find(|call| !call.is_plumbing());
    caller
        .or(calls.first())
        .map_or_else(String::new, |call| printable(&call.name))
}

fn thread(report: &ProcessReport, tid: u32) -> String {
    let known = report
        .process
        .threads
        .iter()
        .find(|thread| thread.tid == tid);
    match known.map(|thread| thread.name.as_str()) {
        _ if tid == 0 => String::new(),
        Some(name) if !name.is_empty() => format!("{} ({tid})", printable(name)),
        _ => format!("thread {tid}"),
    }
}
