//! Sentences that more than one format says.

use super::units::{count, counted, printable, unsigned_size};
use crate::analysis::{Call, Cleanups, Filter, Place, Report, signal_name};
use crate::recording::model::{Losses, Misuse, MisuseEnd, MisuseKind, Mode, Outcome, Process};

/// Says how a process ended: `exit code 0`, `killed by SIGKILL`.
pub(crate) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::ExitCode(code) => format!("exit code {code}"),
        Outcome::Signal(number) => format!("killed by {}", signal_name(*number)),
        Outcome::Exec => "became another program".to_owned(),
        Outcome::Running => "still running".to_owned(),
        Outcome::Unknown => "end not seen".to_owned(),
    }
}

/// Tells whether an outcome is a failure.
pub(crate) fn is_failure(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Signal(_))
        || matches!(outcome, Outcome::ExitCode(code) if *code != 0)
}

/// Writes a command line as a shell would take it.
pub(crate) fn command(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    printable(&quoted.join(" "))
}

/// Quotes a word where a shell would need it.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "-_=+,./:@%~".contains(letter);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Names the program of a process: `player`.
pub(crate) fn program(process: &Process) -> &str {
    let path = match process.exe.is_empty() {
        true => process
            .args
            .first()
            .map_or("(unknown program)", String::as_str),
        false => &process.exe,
    };
    path.rsplit('/').next().unwrap_or(path)
}

/// Writes a process's command line, the program by its name.
pub(crate) fn program_and_args(process: &Process) -> String {
    let args = process.args.get(1..).unwrap_or_default();
    let words: Vec<String> = std::iter::once(program(process).to_owned())
        .chain(args.iter().cloned())
        .collect();
    command(&words)
}

/// Says what was not booked in full, a sentence each; empty when nothing was lost.
pub(crate) fn losses(losses: &Losses) -> Vec<String> {
    let sentences = [
        (
            losses.owners_overflowed,
            "allocation at a call site that found no room is booked to a shared owner",
            "allocations at call sites that found no room share one owner",
        ),
        (
            losses.slots_overflowed,
            "thread found no slot and is booked to the shared one",
            "threads found no slot and share one",
        ),
        (
            losses.scopes_overflowed,
            "scope name found no room and is missing",
            "scope names found no room and are missing",
        ),
        (
            losses.pages_refused,
            "page of the ledger was refused by the file system",
            "pages of the ledger were refused by the file system",
        ),
        (
            losses.children_untracked,
            "forked child has no ledger",
            "forked children have no ledger",
        ),
        (
            losses.samples_dropped,
            "allocation is missing in the stacks, which had no room or were never reached",
            "allocations are missing in the stacks, which had no room or were never reached",
        ),
        (
            losses.stacks_overflowed,
            "sample is of a stack that found no room",
            "samples are of stacks that found no room and share one",
        ),
        (
            losses.blocks_unbooked,
            "allocation is in no figure: there was no address space for the books",
            "allocations are in no figure: there was no address space for the books",
        ),
        (
            losses.misuses_left_out,
            "call that misused the allocator found no room and is not listed",
            "calls that misused the allocator found no room and are not listed",
        ),
        (
            losses.foreign_frees,
            "free of a block that was not seen allocated, not booked",
            "frees of blocks that were not seen allocated, not booked",
        ),
    ];
    sentences
        .into_iter()
        .filter(|(number, ..)| *number > 0)
        .map(|(number, one, many)| counted(number, one, many))
        .collect()
}

/// Says that one side freed what the other had allocated, which is booked where it was allocated.
pub(crate) fn crossed(losses: &Losses) -> Option<String> {
    let blocks = counted(losses.crossed_frees, "block", "blocks");
    (losses.crossed_frees > 0)
        .then(|| format!("{blocks} allocated by one side and freed by the other"))
}

/// Says what became of clean-ups: `3 clean-ups freed 1.2 GiB (2 growth, 1 soft_limit)`.
pub(crate) fn cleanups(cleanups: &Cleanups) -> String {
    let number = counted(cleanups.cycles, "clean-up", "clean-ups");
    let triggers: Vec<String> = cleanups
        .by_trigger
        .iter()
        .map(|(name, times)| format!("{} {name}", count(*times)))
        .collect();
    let of = match cleanups.known() < cleanups.cycles {
        true => format!("the last {}: ", count(cleanups.known())),
        false => String::new(),
    };
    format!(
        "{number} freed {} ({of}{})",
        unsigned_size(cleanups.freed_bytes),
        triggers.join(", ")
    )
}

/// Says what is to be known about clean-ups, a sentence each.
pub(crate) fn cleanup_notes(cleanups: &Cleanups) -> Vec<String> {
    let contradicted = counted(cleanups.contradicted, "clean-up", "clean-ups");
    let claims = (cleanups.contradicted > 0)
        .then(|| format!("reclaimers say more than came free in {contradicted}"));
    let requests = counted(cleanups.refused, "request", "requests");
    let asked = unsigned_size(cleanups.refused_bytes);
    let refused = (cleanups.refused > 0)
        .then(|| format!("{requests} for {asked} refused past the hard limit"));
    let several = |times: u64| match times {
        1 => String::new(),
        _ => format!(" ({} processes)", count(times)),
    };
    let notes = cleanups.notes.iter();
    let notes = notes.map(|(note, &times)| cleanup_note(note) + &several(times));
    refused.into_iter().chain(claims).chain(notes).collect()
}

/// Notes that stand for a sentence; the others are told as they are.
fn cleanup_note(note: &str) -> String {
    let sentence = match note {
        "ineffective" => "clean-ups free next to nothing again and again",
        "baseline_above_limit" => {
            "what remains after a clean-up is more than the limits leave room for"
        }
        "drift" => "live bytes and the resident set lie far apart",
        "nobody_to_ask" => {
            "nobody there frees anything: no action reaches the program, and it registers nothing"
        }
        "own_driver" => "the program drives its own clean-ups, and was left alone",
        "helper: slow" => "the thread in the target did not answer in time",
        note => return printable(note),
    };
    sentence.to_owned()
}

/// Says what part of a recording is shown, where it is not all of it.
pub(crate) fn narrowing(filter: &Filter) -> Option<String> {
    if !filter.is_narrow() {
        return None;
    }
    let mut parts = Vec::new();
    parts.extend(filter.side.map(|side| format!("side {}", side.name())));
    parts.extend(filter.scope.as_ref().map(|name| format!("scope {name}")));
    parts.extend(
        filter
            .library
            .as_ref()
            .map(|name| format!("library {name}")),
    );
    if filter.min_bytes > 0 {
        let what = match filter.measure.is_bytes() {
            true => filter.measure.title(),
            false => "live bytes",
        };
        parts.push(format!(
            "at least {} of {what}",
            unsigned_size(filter.min_bytes)
        ));
    }
    if !filter.suppressions.is_empty() {
        parts.push("without what is suppressed".to_owned());
    }
    Some(format!("only {}", parts.join(", ")))
}

/// Says that figures of stacks are estimates, where some are.
pub(crate) fn estimates(report: &Report) -> Option<String> {
    estimates_of(report.tracked().map(|process| process.process))
}

/// Says the same of processes.
pub(crate) fn estimates_of<'a>(processes: impl Iterator<Item = &'a Process>) -> Option<String> {
    let (mut mean_bytes, mut samples) = (None, 0u64);
    for process in processes {
        if let Mode::Sample { sample_bytes } = process.mode {
            mean_bytes = mean_bytes.max(Some(sample_bytes));
            let taken = process.stacks.iter().map(|stack| stack.figures.samples);
            samples = taken.fold(samples, u64::saturating_add);
        }
    }
    Some(self::samples(samples, mean_bytes?))
}

/// Says what stacks are worth in mode sample, and that the rest is exact.
pub(crate) fn samples(samples: u64, mean_bytes: u64) -> String {
    let mean = unsigned_size(mean_bytes);
    match samples {
        0 => format!(
            "no stacks: nothing was sampled, one in {mean} on average (--sample-bytes); \
             totals and call sites are exact"
        ),
        _ => format!(
            "stacks are estimated from {}, one in {mean} on average; \
             totals and call sites are exact",
            counted(samples, "sample", "samples")
        ),
    }
}

/// Tells whether stacks are but the call sites.
pub(crate) fn has_no_stacks(report: &Report) -> bool {
    report
        .tracked()
        .all(|process| process.stacks == Mode::Count)
}

/// Says what a picture cannot show.
pub(crate) fn negative_rows(rows: u64) -> Option<String> {
    (rows > 0).then(|| {
        format!(
            "{} left out that held less than nothing, because they freed what others allocated",
            counted(rows, "stack", "stacks")
        )
    })
}

/// Says what was wrong with a call, and with which block: `double free of 24 B at 0x55d0`,
/// `likely double free of ...` where it may be right.
pub(crate) fn misuse(misuse: &Misuse) -> String {
    let address = format!("{:#x}", misuse.address);
    let block = match misuse.bytes {
        0 => "a block".to_owned(),
        bytes => format!("a block of {}", unsigned_size(bytes)),
    };
    let call = match misuse.is_realloc {
        true => "realloc",
        false => "free",
    };
    let likely = likely(misuse.may_be_right);
    let what = match misuse.kind {
        MisuseKind::DoubleFree => format!("{likely}double free of {block} at {address}"),
        MisuseKind::FreeOfUnknown => match misuse.inside_bytes {
            Some(inside) => {
                format!(
                    "{call} of {address}, {likely}{} inside {block}",
                    unsigned_size(inside)
                )
            }
            None => format!("{call} of {address}, which is no block"),
        },
        MisuseKind::FreeOfUnseen => format!("{call} of {address}, which nobody saw allocated"),
        MisuseKind::RustFreedByC => {
            format!("{block} at {address}, allocated by Rust and freed by C")
        }
        MisuseKind::CFreedByRust => {
            format!("{block} at {address}, allocated by C and freed by Rust")
        }
        MisuseKind::OtherSize => {
            let said = unsigned_size(misuse.said_bytes.unwrap_or(0));
            format!("{block} at {address}, given back by Rust as {said}")
        }
    };
    match misuse.count {
        0 | 1 => what,
        times => format!("{what}, {} times", count(times)),
    }
}

fn likely(may_be_right: bool) -> &'static str {
    match may_be_right {
        true => "likely ",
        false => "",
    }
}

/// Says why misuse is called likely.
pub(crate) const LIKELY: &str =
    "likely: their memory may have been given out again past malloc, and then they are right";

/// Says what happened at one of a misuse's stacks.
pub(crate) fn misuse_end(misuse: &Misuse, end: MisuseEnd) -> &'static str {
    match end {
        MisuseEnd::Allocated => "allocated",
        MisuseEnd::FirstFreed => "freed first",
        MisuseEnd::Freed if misuse.is_realloc => "resized",
        MisuseEnd::Freed if misuse.kind == MisuseKind::DoubleFree => "freed again",
        MisuseEnd::Freed => "freed",
    }
}

/// Sums calls of each kind up: `3 double frees, 1 likely double free, 1 block allocated by C
/// and freed by Rust`.
pub(crate) fn misuses<'a>(misuses: impl Iterator<Item = &'a Misuse> + Clone) -> String {
    let words = |kind| match kind {
        MisuseKind::DoubleFree => ("double free", "double frees"),
        MisuseKind::FreeOfUnknown => ("free of what is no block", "frees of what is no block"),
        MisuseKind::FreeOfUnseen => (
            "free of a block that nobody saw allocated",
            "frees of blocks that nobody saw allocated",
        ),
        MisuseKind::OtherSize => (
            "block that Rust gave back with another size",
            "blocks that Rust gave back with another size",
        ),
        MisuseKind::RustFreedByC => (
            "block allocated by Rust and freed by C",
            "blocks allocated by Rust and freed by C",
        ),
        MisuseKind::CFreedByRust => (
            "block allocated by C and freed by Rust",
            "blocks allocated by C and freed by Rust",
        ),
    };
    let sum = |sort: (MisuseKind, bool)| {
        let alike = misuses
            .clone()
            .filter(|misuse| (misuse.kind, misuse.may_be_right) == sort);
        alike.fold(0u64, |sum, misuse| sum.saturating_add(misuse.count))
    };
    let sorts = MisuseKind::ALL
        .into_iter()
        .flat_map(|kind| [(kind, false), (kind, true)]);
    let parts = sorts.filter_map(|(kind, may_be_right)| {
        let (one, many) = words(kind);
        let likely = likely(may_be_right);
        Some(sum((kind, may_be_right)))
            .filter(|&sum| sum > 0)
            .map(|sum| counted(sum, &format!("{likely}{one}"), &format!("{likely}{many}")))
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// Says where a call is written, the file with its directory: `player/parse.rs:42`.
pub(crate) fn call_source(call: &Call) -> String {
    source(call.file, call.line)
}

/// Names the function of a call site, or what stands in for it.
pub(crate) fn place_name(place: &Place) -> String {
    place
        .symbol
        .map_or_else(|| "(no symbol)".to_owned(), str::to_owned)
}

/// Says where a call site lies: `libcodec.so.1+0x1234`.
pub(crate) fn place_address(place: &Place) -> String {
    match place.has_address {
        true => format!("{}+{:#x}", place.library_name, place.offset),
        false => place.library_name.to_owned(),
    }
}

/// Says where a call site is written, the file with its directory: `player/parse.rs:42`.
pub(crate) fn place_source(place: &Place) -> String {
    source(place.file, place.line)
}

fn source(file: Option<&str>, line: Option<u32>) -> String {
    let Some(file) = file else {
        return String::new();
    };
    let from = file.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at + 1);
    let file = &file[from..];
    line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_words() {
        assert_eq!(outcome(&Outcome::ExitCode(3)), "exit code 3");
        assert_eq!(outcome(&Outcome::Signal(9)), "killed by SIGKILL");
        assert_eq!(outcome(&Outcome::Unknown), "end not seen");
        assert!(is_failure(&Outcome::Signal(9)) && !is_failure(&Outcome::ExitCode(0)));
    }

    #[test]
    fn commands_can_be_pasted() {
        let words = ["player", "a file.mkv", "it's", ""].map(String::from);
        assert_eq!(command(&words), r"player 'a file.mkv' 'it'\''s' ''");
    }

    #[test]
    fn only_what_was_lost_is_said() {
        assert!(losses(&Losses::default()).is_empty());
        let some = Losses {
            slots_overflowed: 1_200,
            ..Losses::default()
        };
        assert_eq!(losses(&some), ["1,200 threads found no slot and share one"]);
        let one = Losses {
            foreign_frees: 1,
            ..Losses::default()
        };
        let said = ["1 free of a block that was not seen allocated, not booked"];
        assert_eq!(losses(&one), said);
    }
}
