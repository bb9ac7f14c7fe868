//! The few lines on standard error after the program has ended.

use std::io::{self, Write};

use super::phrases;
use super::style::{Ink, Style};
use super::units::{count, counted, duration, printable, size, unsigned_size};
use crate::analysis::tally::{Lived, RunFigures, totals};
use crate::analysis::{calls_of_site, is_real};
use crate::counts::Counts;
use crate::recording::model::{Misuse, MisuseStack, Mode, Module, OwnerEntry, Process};

/// Sites that are shown.
const SITES: usize = 5;
/// Misuses that are shown.
const MISUSES: usize = 3;

/// Prints the summary of a run.
///
/// # Errors
/// Those of `out`.
pub(crate) fn print(run: &RunFigures<'_>, out: &mut dyn Write, style: Style) -> io::Result<()> {
    Summary(run).print(out, style)
}

struct Summary<'a>(&'a RunFigures<'a>);

impl Summary<'_> {
    fn print(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        let tally = self.0.tally;
        let processes = counted(tally.processes, "process", "processes");
        writeln!(
            out,
            "\n{} {} after {}, {processes}",
            style.paint(Ink::Title, "heapledger:"),
            phrases::outcome(self.0.outcome),
            duration(self.0.duration_s)
        )?;
        if tally.processes > tally.untracked {
            self.print_totals(out, style)?;
            self.print_sites(out, style)?;
            self.print_recorded(out, style)?;
            self.print_cleanups(out, style)?;
            self.print_misuses(out, style)?;
        }
        self.print_notes(out, style)?;
        let file = phrases::quoted(&self.0.file.to_string_lossy());
        let command = format!("heapledger report {}", printable(&file));
        writeln!(
            out,
            "\n{} {}",
            style.paint(Ink::Title, &command),
            style.paint(
                Ink::Faint,
                &format!("({})", unsigned_size(self.0.file_bytes))
            )
        )
    }

    fn print_totals(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        let heading = format!(
            "{:<30}{:>12}{:>12}{:>12}{:>16}",
            "", "live at end", "peak", "allocated", "blocks"
        );
        writeln!(out, "\n  {}", style.paint(Ink::Faint, &heading))?;
        let several = self.0.tally.processes - self.0.tally.untracked > 1;
        if several {
            let largest = self
                .0
                .tally
                .largest
                .as_ref()
                .map_or([0; 3], |process| process.peak.live_bytes);
            let peak: [i64; 3] =
                std::array::from_fn(|side| self.0.tree_peak[side].max(largest[side]));
            print_group(
                out,
                style,
                "all processes",
                self.0.tally.allocated(self.0.sites),
                (peak, false),
            )?;
        }
        match self
            .0
            .tally
            .root
            .as_ref()
            .filter(|root| root.untracked_reason.is_none())
        {
            Some(root) => {
                let title = format!("{} (pid {})", printable(phrases::program(root)), root.pid);
                print_group(
                    out,
                    style,
                    &title,
                    totals(root, self.0.sites),
                    (root.peak.live_bytes, true),
                )
            }
            None => Ok(()),
        }
    }

    fn print_sites(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        let Some(process) = &self.0.tally.largest else {
            return Ok(());
        };
        // The capture is up to an eighth below the peak; an end above it says more.
        let at_end: i64 = process
            .owners
            .iter()
            .map(|owner| owner.counts.live_bytes)
            .sum();
        let is_captured = process.peak.captured_live_bytes > at_end;
        let held = |owner: &OwnerEntry| {
            if is_captured {
                owner.at_peak
            } else {
                (owner.counts.live_bytes, owner.counts.live_blocks)
            }
        };
        let mut owners: Vec<&OwnerEntry> = process
            .owners
            .iter()
            .filter(|owner| held(owner).0 > 0)
            .collect();
        owners.sort_by_key(|owner| std::cmp::Reverse(held(owner).0));
        if owners.is_empty() {
            return Ok(());
        }
        let when = match (is_captured, process.mode) {
            (false, _) => "at the end",
            (true, Mode::Full) => "at its peak",
            (true, _) => "near its peak",
        };
        writeln!(
            out,
            "\n  {}",
            style.paint(
                Ink::Faint,
                &format!(
                    "held by {} (pid {}) {when}",
                    printable(phrases::program(process)),
                    process.pid
                )
            )
        )?;
        for owner in owners.iter().take(SITES) {
            let (bytes, blocks) = held(owner);
            let blocks = counted(blocks.max(0) as u64, "block", "blocks");
            writeln!(
                out,
                "  {:>10}  {:>16}  {}",
                size(bytes),
                blocks,
                printable(&self.place(owner, process))
            )?;
        }
        Ok(())
    }

    /// Says where a call stands: function, library, line, scope.
    fn place(&self, owner: &OwnerEntry, process: &Process) -> String {
        let Some(site) = self.0.sites.get(owner.site as usize) else {
            return "?".to_owned();
        };
        if site.overflow {
            return "(sites that found no room)".to_owned();
        }
        if let Some(name) = &site.charged {
            return format!("(charged) {name}");
        }
        let module = site
            .module
            .and_then(|index| self.0.modules.get(index as usize));
        let library = module.map_or("(no file)", Module::name);
        let mut place = match &site.symbol {
            Some(symbol) => format!("{symbol}  {library}"),
            None => format!("{library}+{:#x}", site.offset),
        };
        if let (Some(file), Some(line)) = (&site.file, site.line) {
            let file = file.rsplit('/').next().unwrap_or(file);
            place.push_str(&format!("  {file}:{line}"));
        }
        if let Some(scope) = owner
            .scope
            .and_then(|index| process.scopes.get(index as usize))
        {
            place.push_str(&format!("  [{scope}]"));
        }
        place
    }

    fn print_cleanups(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        let cleanups = &self.0.tally.cleanups;
        let notes = phrases::cleanup_notes(cleanups);
        if cleanups.cycles == 0 && notes.is_empty() {
            return Ok(());
        }
        writeln!(out)?;
        if cleanups.cycles > 0 {
            writeln!(out, "  {}", phrases::cleanups(cleanups))?;
        }
        for note in notes {
            writeln!(out, "    {}", style.paint(Ink::Warning, &note))?;
        }
        Ok(())
    }

    /// Says what of all this is exact, what is known of single allocations, and which
    /// mode keeps more.
    fn print_recorded(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        let recorded = &self.0.tally.recorded;
        let allocations = recorded.allocations;
        let line = match self.0.mode {
            Mode::Count => {
                "no stacks were kept (--mode count); totals and call sites are exact".to_owned()
            }
            Mode::Sample { sample_bytes } => phrases::samples(allocations, sample_bytes),
            Mode::Full => format!(
                "{} with their stacks, {} in all",
                counted(allocations, "allocation", "allocations"),
                counted(recorded.stacks, "stack", "stacks"),
            ),
        };
        writeln!(out, "\n  {line}")?;
        if let Some(lived) = lived_line(&self.0.tally.lived) {
            writeln!(out, "  {lived}")?;
        }
        if matches!(self.0.mode, Mode::Sample { .. }) {
            let more = "for exact stacks: heapledger run --mode full";
            writeln!(out, "  {}", style.paint(Ink::Faint, more))?;
        }
        match self.0.tally.without_stacks {
            processes @ 1.. if self.0.mode != Mode::Count => {
                let processes = counted(processes, "process", "processes");
                let lost = format!("no stacks could be kept in {processes}");
                writeln!(out, "  {}", style.paint(Ink::Warning, &lost))
            }
            _ => Ok(()),
        }
    }

    /// Says who misused the allocator, certainly or likely: each end by the function that
    /// called for it.
    fn print_misuses(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        let tally = self.0.tally;
        let is_shim = |site: u32| {
            let site = self.0.sites.get(site as usize);
            site.is_some_and(|site| site.rust_shim)
        };
        let real: Vec<(&Process, &Misuse)> = tally
            .misused
            .iter()
            .flat_map(|process| process.misuses.iter().map(move |misuse| (process, misuse)))
            .filter(|(_, misuse)| misuse.kind.is_certain() && is_real(misuse, is_shim))
            .collect();
        if real.is_empty() {
            return Ok(());
        }
        let kinds = phrases::misuses(real.iter().map(|(_, misuse)| *misuse));
        let title = style.paint(Ink::Warning, "misuse of the allocator:");
        writeln!(out, "\n  {title} {kinds}")?;
        for (process, misuse) in real.iter().take(MISUSES) {
            let whose = match tally.processes {
                1 => String::new(),
                _ => format!("{} (pid {}): ", phrases::program(process), process.pid),
            };
            writeln!(out, "    {}{}", printable(&whose), phrases::misuse(misuse))?;
            for (end, stack) in misuse.stacks() {
                let end = phrases::misuse_end(misuse, end);
                writeln!(out, "      {end:<11}  {}", printable(&self.caller(stack)))?;
            }
        }
        match real.len().saturating_sub(MISUSES) {
            0 => {}
            more => writeln!(out, "    and {} more", count(more as u64))?,
        }
        match tally.more_misused {
            0 => Ok(()),
            more => writeln!(
                out,
                "    and in {}",
                counted(more, "more process", "more processes")
            ),
        }
    }

    /// Names the innermost function that is not a standard library's.
    fn caller(&self, stack: &MisuseStack) -> String {
        let sites = stack
            .frames
            .iter()
            .filter_map(|&frame| self.0.sites.get(frame as usize));
        let calls: Vec<_> = sites
            .flat_map(|site| calls_of_site(site, self.0.modules))
            .collect();
        let caller = calls
            .iter()
            .find(|call| !call.is_plumbing())
            .or(calls.first());
        let Some(call) = caller else {
            return "?".to_owned();
        };
        let library = call.symbol.map_or("", |_| call.library);
        let source = phrases::call_source(call);
        let parts = [&*call.name, library, &source];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join("  ")
    }

    fn print_notes(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        let mut lost = phrases::losses(&self.0.tally.losses);
        lost.extend(phrases::crossed(&self.0.tally.losses));
        if !lost.is_empty() {
            writeln!(
                out,
                "\n  {} {}",
                style.paint(Ink::Warning, "not booked in full:"),
                lost.join(", ")
            )?;
        }
        if self.0.tally.untracked > 0 {
            writeln!(out, "\n  {}", style.paint(Ink::Warning, "not tracked:"))?;
        }
        for process in &self.0.tally.named {
            let reason = process.untracked_reason.as_deref().unwrap_or("");
            let program = phrases::program(process);
            let line = format!("{program} (pid {}): {reason}", process.pid);
            writeln!(out, "    {}", printable(&line))?;
        }
        match self
            .0
            .tally
            .untracked
            .saturating_sub(self.0.tally.named.len() as u64)
        {
            0 => Ok(()),
            more => writeln!(out, "    and {} more", count(more)),
        }
    }
}

/// Prints what one process, or all of them, did. Processes end one after the
/// other, so what they held at their ends adds up to nothing that ever was.
fn print_group(
    out: &mut dyn Write,
    style: Style,
    title: &str,
    [c, rust]: [Counts; 2],
    (peak, is_one): ([i64; 3], bool),
) -> io::Result<()> {
    let all = [c, rust].into_iter().sum();
    let mut rows = vec![("all", all, Some(peak[2]))];
    if !rust.is_untouched() {
        // Peaks by side were measured before blocks of Rust's shims changed sides.
        let booked_rust = peak[1] > 0;
        rows.push(("  c", c, booked_rust.then_some(peak[0])));
        rows.push(("  rust", rust, booked_rust.then_some(peak[1])));
    }
    for (index, (label, counts, peak)) in rows.into_iter().enumerate() {
        let label = if index == 0 {
            shortened(title, 30)
        } else {
            label.to_owned()
        };
        let padded = format!("{label:<30}");
        let padded = if index == 0 {
            style.paint(Ink::Title, &padded)
        } else {
            padded
        };
        let unknown = || "-".to_owned();
        writeln!(
            out,
            "  {padded}{:>12}{:>12}{:>12}{:>16}",
            Some(counts.live_bytes)
                .filter(|_| is_one)
                .map_or_else(unknown, size),
            peak.map_or_else(unknown, size),
            unsigned_size(counts.allocated_bytes),
            count(counts.allocated_blocks),
        )?;
    }
    Ok(())
}

fn shortened(text: &str, limit: usize) -> String {
    match text.chars().count() < limit {
        true => text.to_owned(),
        false => text.chars().take(limit - 2).chain(['…']).collect(),
    }
}

/// Says how many blocks hardly lived, and how many were never freed; nothing where no
/// block was sampled.
fn lived_line(lived: &Lived) -> Option<String> {
    let all = lived.freed_blocks.saturating_add(lived.live_blocks);
    let percent = |blocks: u64| format!("{:.1} %", blocks as f64 * 100.0 / all as f64);
    let never = format!("{} were never freed", percent(lived.live_blocks));
    match (all, lived.is_coarse) {
        (0, _) => None,
        (_, true) => Some(format!("of all blocks, by estimate, {never}")),
        (_, false) => {
            let short = percent(lived.short_blocks);
            Some(format!(
                "of all blocks, by estimate, {short} lived less than 1 ms, {never}"
            ))
        }
    }
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
