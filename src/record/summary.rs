//! The few lines on standard error after the program has ended.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use bytesize::ByteSize;

use super::tally::{Tally, totals};
use crate::counts::Counts;
use crate::recording::model::{Losses, Module, OwnerEntry, Process, Site};

/// Sites that are shown.
const SITES: usize = 5;

/// Everything the summary speaks of.
pub(super) struct Summary<'a> {
    pub tally: &'a Tally,
    pub modules: &'a [Module],
    pub sites: &'a [Site],
    /// Highest sum over all processes, as read.
    pub tree_peak: [i64; 3],
    pub duration_s: f64,
    pub file: &'a Path,
    pub file_bytes: u64,
}

/// Colours, or none.
#[derive(Clone, Copy)]
pub(super) struct Style {
    is_coloured: bool,
}

impl Style {
    /// Colour only on a terminal, and never with NO_COLOR.
    pub(super) fn for_stderr() -> Style {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Style {
            is_coloured: io::stderr().is_terminal() && !refused,
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.is_coloured {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn warning(self, text: &str) -> String {
        self.paint("33", text)
    }
}

impl Summary<'_> {
    pub(super) fn print(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        let tally = self.tally;
        let processes = match tally.processes {
            1 => "1 process".to_owned(),
            count => format!("{} processes", thousands(count)),
        };
        writeln!(
            out,
            "\n{} {processes}, {:.1} s",
            style.bold("heapledger:"),
            self.duration_s
        )?;
        if tally.processes > tally.untracked {
            self.print_totals(out, style)?;
            self.print_sites(out, style)?;
        }
        self.print_notes(out, style)?;
        let command = format!("heapledger report {}", quoted(self.file));
        writeln!(
            out,
            "\n{} {}",
            style.bold(&command),
            style.faint(&format!("({})", size(self.file_bytes as i64)))
        )
    }

    fn print_totals(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        let heading = format!(
            "{:<30}{:>12}{:>12}{:>12}{:>16}",
            "", "live at end", "peak", "allocated", "blocks"
        );
        writeln!(out, "\n  {}", style.faint(&heading))?;
        let several = self.tally.processes - self.tally.untracked > 1;
        if several {
            let largest = self
                .tally
                .largest
                .as_ref()
                .map_or([0; 3], |process| process.peak.live_bytes);
            let peak: [i64; 3] =
                std::array::from_fn(|side| self.tree_peak[side].max(largest[side]));
            print_group(
                out,
                style,
                "all processes",
                self.tally.allocated(self.sites),
                (peak, false),
            )?;
        }
        match self
            .tally
            .root
            .as_ref()
            .filter(|root| root.untracked_reason.is_none())
        {
            Some(root) => {
                let title = format!("{} (pid {})", name(root), root.pid);
                print_group(
                    out,
                    style,
                    &title,
                    totals(root, self.sites),
                    (root.peak.live_bytes, true),
                )
            }
            None => Ok(()),
        }
    }

    fn print_sites(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        let Some(process) = &self.tally.largest else {
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
        let when = if is_captured {
            "near its peak"
        } else {
            "at the end"
        };
        writeln!(
            out,
            "\n  {}",
            style.faint(&format!(
                "held by {} (pid {}) {when}",
                name(process),
                process.pid
            ))
        )?;
        for owner in owners.iter().take(SITES) {
            let (bytes, blocks) = held(owner);
            let blocks = if blocks == 1 {
                "1 block".to_owned()
            } else {
                format!("{} blocks", thousands(blocks.max(0) as u64))
            };
            writeln!(
                out,
                "  {:>10}  {:>16}  {}",
                size(bytes),
                blocks,
                self.place(owner, process)
            )?;
        }
        Ok(())
    }

    /// Says where a call stands: function, library, line, scope.
    fn place(&self, owner: &OwnerEntry, process: &Process) -> String {
        let Some(site) = self.sites.get(owner.site as usize) else {
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
            .and_then(|index| self.modules.get(index as usize));
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

    fn print_notes(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        let lost = losses(&self.tally.losses);
        if !lost.is_empty() {
            writeln!(
                out,
                "\n  {} {}",
                style.warning("not booked in full:"),
                lost.join(", ")
            )?;
        }
        if self.tally.untracked > 0 {
            writeln!(out, "\n  {}", style.warning("not tracked:"))?;
        }
        for process in &self.tally.named {
            let reason = process.untracked_reason.as_deref().unwrap_or("");
            writeln!(out, "    {} (pid {}): {reason}", name(process), process.pid)?;
        }
        match self
            .tally
            .untracked
            .saturating_sub(self.tally.named.len() as u64)
        {
            0 => Ok(()),
            more => writeln!(out, "    and {} more", thousands(more)),
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
            style.bold(&padded)
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
            size(counts.allocated_bytes.min(i64::MAX as u64) as i64),
            thousands(counts.allocated_blocks),
        )?;
    }
    Ok(())
}

fn losses(losses: &Losses) -> Vec<String> {
    [
        (losses.foreign_frees, "foreign frees"),
        (losses.crossed_frees, "blocks freed by the other side"),
        (losses.owners_overflowed, "call sites without room"),
        (losses.slots_overflowed, "threads without a slot"),
        (losses.scopes_overflowed, "scopes without room"),
        (losses.pages_refused, "pages refused by the file system"),
        (
            losses.children_untracked,
            "forked children without a ledger",
        ),
    ]
    .into_iter()
    .filter(|&(count, _)| count > 0)
    .map(|(count, what)| format!("{} {what}", thousands(count)))
    .collect()
}

fn name(process: &Process) -> &str {
    let path = if process.exe.is_empty() {
        process.args.first().map_or("?", String::as_str)
    } else {
        &process.exe
    };
    path.rsplit('/').next().unwrap_or(path)
}

fn shortened(text: &str, limit: usize) -> String {
    match text.chars().count() < limit {
        true => text.to_owned(),
        false => text.chars().take(limit - 2).chain(['…']).collect(),
    }
}

/// Writes a path as the shell would read it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = text
        .chars()
        .all(|letter| letter.is_alphanumeric() || "/._-+:,@%".contains(letter));
    if is_plain {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// Writes a number of bytes as `512 MiB`.
fn size(bytes: i64) -> String {
    let text = ByteSize(bytes.unsigned_abs())
        .display()
        .iec()
        .to_string()
        .replace(".0 ", " ");
    if bytes < 0 { format!("-{text}") } else { text }
}

/// Writes a count as `1,234,567`.
fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_for_people() {
        assert_eq!(size(512 << 20), "512 MiB");
        assert_eq!(size(0), "0 B");
        assert_eq!(size(-1536), "-1.5 KiB");
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(quoted(Path::new("a b.hlr")), "'a b.hlr'");
        assert_eq!(shortened("abcdef", 5), "abc…");
    }
}
