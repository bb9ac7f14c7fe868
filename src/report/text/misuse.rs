//! Misuse of the allocator: both ends of each, by name and line.

use super::Page;
use crate::analysis::{Call, ProcessReport, calls, own_calls};
use crate::recording::model::Misuse;
use crate::report::phrases;
use crate::report::style::Ink;
use crate::report::units::{count, counted, duration, printable};

/// Calls of a stack that are written out.
const MOST_CALLS: usize = 10;
/// Names that are longer stand out of the column.
const MOST_NAME_COLUMNS: usize = 48;

impl Page<'_> {
    /// Gives what misused the allocator, whatever part of the books is looked at.
    pub(super) fn misuses(&self, most: usize) -> String {
        let all: Vec<(&ProcessReport, &Misuse)> = self
            .report
            .tracked()
            .flat_map(|process| process.misuses.iter().map(move |misuse| (process, *misuse)))
            .collect();
        let (wrong, unseen): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|(_, misuse)| misuse.kind.is_certain());
        let of_unseen = self.misuses_of("Frees of blocks that nobody saw allocated", &unseen, most);
        let note = match of_unseen.is_empty() {
            true => String::new(),
            false => self.faint("  another allocator may have given them out"),
        };
        let is_likely = wrong.iter().any(|(_, misuse)| misuse.may_be_right);
        let why_likely = match is_likely {
            true => self.faint(&format!("  {}", phrases::LIKELY)),
            false => String::new(),
        };
        let wrong = self.misuses_of("Misuse of the allocator", &wrong, most);
        let sections = [wrong + &why_likely, of_unseen + &note];
        let written = sections.into_iter().filter(|section| !section.is_empty());
        written.collect::<Vec<_>>().join("\n")
    }

    fn misuses_of(&self, title: &str, rows: &[(&ProcessReport, &Misuse)], most: usize) -> String {
        if rows.is_empty() {
            return String::new();
        }
        let kinds = phrases::misuses(rows.iter().map(|(_, misuse)| *misuse));
        let mut text = self.title(title) + &format!("  {kinds}\n");
        for (process, misuse) in rows.iter().take(most) {
            text += &self.misuse(process, misuse);
        }
        if rows.len() > most {
            let more = counted((rows.len() - most) as u64, "place", "places");
            text += &self.faint(&format!("  and in {more} more (--format html, json)"));
        }
        text
    }

    fn misuse(&self, process: &ProcessReport, misuse: &Misuse) -> String {
        let whose = match self.report.tracked().count() {
            1 => String::new(),
            _ => {
                let program = printable(phrases::program(process.process));
                format!("{program} (pid {}): ", process.process.pid)
            }
        };
        let what = self.style.paint(Ink::Warning, &phrases::misuse(misuse));
        let when = format!("after {}", duration(misuse.t_s));
        let mut text = format!("  {whose}{what}  {}\n", self.style.paint(Ink::Faint, &when));
        for (end, stack) in misuse.stacks() {
            let end = phrases::misuse_end(misuse, end);
            let thread = thread(process, stack.tid);
            text += &format!("    {end}{}\n", self.style.paint(Ink::Faint, &thread));
            text += &self.calls(&calls(&self.report.catalog, stack), stack.is_truncated);
        }
        text
    }

    /// Lists the calls of a stack that its program wrote.
    pub(super) fn calls(&self, calls: &[Call], is_truncated: bool) -> String {
        let calls = own_calls(calls);
        let shown = &calls[..calls.len().min(MOST_CALLS)];
        let width = shown.iter().map(|call| call.name.chars().count()).max();
        let width = width.unwrap_or(0).min(MOST_NAME_COLUMNS);
        let mut text = String::new();
        for call in shown {
            let name = printable(&call.name);
            // An address names its library.
            let library = call.symbol.map_or("", |_| call.library);
            let source = phrases::call_source(call);
            let beside = [library, &source]
                .into_iter()
                .filter(|part| !part.is_empty());
            let beside = printable(&beside.collect::<Vec<_>>().join("  "));
            let beside = self.style.paint(Ink::Faint, &beside);
            text += format!("      {name:<width$}  {beside}").trim_end();
            text.push('\n');
        }
        let more = (calls.len() - shown.len()) as u64;
        let rest = match (more, is_truncated) {
            (0, false) => return text,
            (0, true) => "the rest of the stack is not known".to_owned(),
            (more, _) => format!("and {} more", count(more)),
        };
        text + &self.faint(&format!("      {rest}"))
    }
}

/// Names a thread, where the process has more than one.
fn thread(process: &ProcessReport, tid: u32) -> String {
    let threads = &process.process.threads;
    if tid == 0 || threads.len() < 2 {
        return String::new();
    }
    let name = threads.iter().find(|thread| thread.tid == tid);
    match name
        .map(|thread| thread.name.as_str())
        .filter(|name| !name.is_empty())
    {
        Some(name) => format!(" by thread {tid} ({})", printable(name)),
        None => format!(" by thread {tid}"),
    }
}
