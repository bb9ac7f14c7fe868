//! A profile as pprof and what understands it read it: `profile.proto`, compressed.
//!
//! Every address gets one of its own module's, so that modules of one recording,
//! which come from many processes, do not lie over each other.

#[cfg(test)]
mod tests;
mod wire;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, BufWriter, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use self::wire::Message;
use super::phrases;
use crate::analysis::stacks::{LocationId, ProcessStacks, StackRow, Stacks};
use crate::analysis::{LibraryId, Measure, ProcessReport, seconds};
use crate::recording::model::{Mode, StackFigures};

/// Writes a profile. Its samples have four values, as those of Go have: objects and
/// bytes allocated, objects and bytes in use; and a fifth where another measure is
/// asked for. The measure is what is shown first. Labels are side, scope, thread,
/// tid and pid.
///
/// # Errors
/// Those of `out`.
pub fn write(stacks: &Stacks, measure: Measure, out: impl Write) -> io::Result<()> {
    let out = GzEncoder::new(BufWriter::new(out), Compression::default());
    let mut profile = Profile {
        stacks,
        measure,
        strings: Strings::default(),
        message: Message::default(),
        mappings: Mappings::default(),
        is_written: vec![false; stacks.locations.len()],
        out,
    };
    profile.head()?;
    stacks.for_each(|process, rows| profile.samples(process, rows))?;
    profile.places()?;
    profile.tail()?;
    profile.out.finish()?.flush()
}

/// Fields of `Profile`, by number.
mod field {
    pub(super) const SAMPLE_TYPE: u64 = 1;
    pub(super) const SAMPLE: u64 = 2;
    pub(super) const MAPPING: u64 = 3;
    pub(super) const LOCATION: u64 = 4;
    pub(super) const FUNCTION: u64 = 5;
    pub(super) const STRING_TABLE: u64 = 6;
    pub(super) const DROP_FRAMES: u64 = 7;
    pub(super) const TIME_NANOS: u64 = 9;
    pub(super) const DURATION_NANOS: u64 = 10;
    pub(super) const PERIOD_TYPE: u64 = 11;
    pub(super) const PERIOD: u64 = 12;
    pub(super) const COMMENT: u64 = 13;
    pub(super) const DEFAULT_SAMPLE_TYPE: u64 = 14;
}

/// What Go calls the values of a heap profile, and their units.
const VALUES: [(&str, &str); 4] = [
    ("alloc_objects", "count"),
    ("alloc_space", "bytes"),
    ("inuse_objects", "count"),
    ("inuse_space", "bytes"),
];

/// Gives the name of the value that a measure is.
fn value_name(measure: Measure) -> &'static str {
    match measure {
        Measure::Live => "inuse_space",
        Measure::Allocated => "alloc_space",
        Measure::Blocks => "inuse_objects",
        Measure::Peak => "peak_space",
        Measure::Temporary => "temporary_space",
    }
}

/// What pprof leaves off the inner end of stacks, as it does by itself in profiles of
/// `malloc`: how Rust gets memory, which would have all that is `flat` on side `rust`.
const PLUMBING: &str = "(__rustc::)?__r(ust|dl|g)_(de|re)?alloc(_zeroed)?|<?heapledger::(alloc|core)::.*|<?alloc::(alloc|raw_vec)::.*";

fn has_fifth_value(measure: Measure) -> bool {
    matches!(measure, Measure::Peak | Measure::Temporary)
}

struct Profile<'a, W: Write> {
    stacks: &'a Stacks<'a>,
    measure: Measure,
    strings: Strings<'a>,
    /// Memory that every message is made in.
    message: Message,
    mappings: Mappings,
    /// Locations that samples name, in the order of their identifiers.
    is_written: Vec<bool>,
    out: GzEncoder<BufWriter<W>>,
}

impl<'a, W: Write> Profile<'a, W> {
    fn head(&mut self) -> io::Result<()> {
        let fifth = has_fifth_value(self.measure).then(|| (value_name(self.measure), "bytes"));
        for (name, unit) in VALUES.into_iter().chain(fifth) {
            let value_type = self.value_type(name, unit);
            self.put_message(field::SAMPLE_TYPE, &value_type)?;
        }
        Ok(())
    }

    fn samples(&mut self, process: &ProcessReport<'a>, rows: &ProcessStacks) -> io::Result<()> {
        let mut sample = Message::default();
        for row in &rows.rows {
            if row.figures == StackFigures::default() {
                continue;
            }
            sample.clear();
            let path = rows.path(row);
            for &location in path {
                self.is_written[location as usize] = true;
            }
            sample.numbers(1, path.iter().map(|&location| identifier(location)));
            let values = values(&row.figures, self.measure);
            sample.numbers(2, values.map(|value| value as u64));
            self.labels(&mut sample, process, row);
            self.put_message(field::SAMPLE, &sample)?;
        }
        Ok(())
    }

    fn labels(&mut self, sample: &mut Message, process: &ProcessReport<'a>, row: &StackRow) {
        let catalog = &self.stacks.report.catalog;
        let scope = row.scope.map(|scope| catalog.scope(scope));
        let threads = &process.process.threads;
        let thread = row.thread.and_then(|index| threads.get(index as usize));
        let thread_name = thread.map(|thread| thread.name.as_str());
        for (key, text) in [
            ("side", Some(row.side.name())),
            ("scope", scope),
            ("thread", thread_name),
        ] {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                let mut label = Message::default();
                label.number(1, self.strings.of(key));
                label.number(2, self.strings.of(text));
                sample.message(3, &label);
            }
        }
        let tid = thread.map_or(0, |thread| thread.tid);
        for (key, number) in [("tid", tid), ("pid", process.process.pid)] {
            if number != 0 {
                let mut label = Message::default();
                label.number(1, self.strings.of(key));
                label.number(3, u64::from(number));
                sample.message(3, &label);
            }
        }
    }

    /// Writes the locations and functions that samples name, and the mappings that
    /// those lie in.
    fn places(&mut self) -> io::Result<()> {
        let stacks = self.stacks;
        let mut is_function_used = vec![false; stacks.functions.len()];
        for location in (0..self.is_written.len()).filter(|&id| self.is_written[id]) {
            for frame in stacks.frames_of(location as LocationId) {
                is_function_used[frame.function as usize] = true;
            }
        }
        self.mappings = Mappings::of(stacks, &self.is_written);
        self.write_mappings()?;
        for location in 0..self.is_written.len() {
            if self.is_written[location] {
                self.write_location(location as LocationId)?;
            }
        }
        let files = files(stacks, &self.is_written);
        for function in (0..is_function_used.len()).filter(|&id| is_function_used[id]) {
            self.write_function(function, files.get(&(function as u32)).copied())?;
        }
        Ok(())
    }

    fn write_mappings(&mut self) -> io::Result<()> {
        let mut mapping = Message::default();
        for (id, range) in (1u64..).zip(std::mem::take(&mut self.mappings.ranges)) {
            let library = self.stacks.report.catalog.library(range.library);
            mapping.clear();
            mapping.number(1, id);
            mapping.number(2, range.start);
            mapping.number(3, range.start.saturating_add(range.length));
            let path = library.path.unwrap_or(library.name);
            mapping.number(5, self.strings.of(path));
            if let Some(build_id) = &library.build_id {
                mapping.number(6, self.strings.of(build_id));
            }
            // Functions, files, lines and inlined frames are all that there is to be had.
            (7..=10).for_each(|known| mapping.number(known, 1));
            self.put_message(field::MAPPING, &mapping)?;
        }
        Ok(())
    }

    fn write_location(&mut self, location: LocationId) -> io::Result<()> {
        let stacks = self.stacks;
        let mut message = Message::default();
        message.number(1, identifier(location));
        if let Some((mapping, address)) = self.mappings.place(stacks, location) {
            message.number(2, mapping);
            message.number(3, address);
        }
        // The innermost comes first.
        for frame in stacks.frames_of(location).iter().rev() {
            let mut line = Message::default();
            line.number(1, identifier(frame.function));
            line.number(2, u64::from(frame.line.unwrap_or(0)));
            message.message(4, &line);
        }
        self.put_message(field::LOCATION, &message)
    }

    fn write_function(&mut self, function: usize, file: Option<&'a str>) -> io::Result<()> {
        let name = &self.stacks.functions[function].name;
        let mut message = Message::default();
        message.number(1, identifier(function as u32));
        let is_cpp = name.ends_with(')') || name.ends_with(" const");
        let name = self.strings.of(name);
        message.number(2, name);
        // Where the linker's name is the same, pprof demangles once more and leaves out
        // parameters and what stands in angle brackets: C++ is shorter for it, and all
        // `<T as Trait>::alloc` of Rust's would be one `::alloc`.
        if is_cpp {
            message.number(3, name);
        }
        if let Some(file) = file {
            message.number(4, self.strings.of(file));
        }
        self.put_message(field::FUNCTION, &message)
    }

    fn tail(&mut self) -> io::Result<()> {
        let report = self.stacks.report;
        let start = &report.recording.start;
        let duration_s = report
            .processes
            .iter()
            .map(|process| seconds(process.process.started_s) + seconds(process.process.duration_s))
            .fold(0.0, f64::max);
        let unit = self.value_type("space", "bytes");
        self.put_message(field::PERIOD_TYPE, &unit)?;
        let mut tail = Message::default();
        tail.number(field::DROP_FRAMES, self.strings.of(PLUMBING));
        tail.number(field::TIME_NANOS, start.unix_ns);
        tail.number(field::DURATION_NANOS, (duration_s * 1e9) as u64);
        tail.number(field::PERIOD, self.period());
        let mut comments = vec![
            format!("heapledger {}", start.heapledger),
            phrases::command(report.command()),
        ];
        comments.extend(phrases::estimates(report));
        comments.extend(phrases::narrowing(self.stacks.filter()));
        for comment in comments {
            let comment = self.strings.owned(comment);
            tail.number(field::COMMENT, comment);
        }
        let first = self.strings.of(value_name(self.measure));
        tail.number(field::DEFAULT_SAMPLE_TYPE, first);
        for text in self.strings.in_order() {
            tail.text(field::STRING_TABLE, text);
        }
        self.out.write_all(tail.bytes())
    }

    /// Gives the mean bytes between samples; 1 where every allocation was seen.
    fn period(&self) -> u64 {
        let processes = self.stacks.report.tracked();
        let periods = processes.map(|process| match process.stacks {
            Mode::Sample { sample_bytes } => sample_bytes,
            Mode::Count | Mode::Full => 1,
        });
        periods.max().unwrap_or(1)
    }

    fn value_type(&mut self, name: &'static str, unit: &'static str) -> Message {
        let mut message = Message::default();
        message.number(1, self.strings.of(name));
        message.number(2, self.strings.of(unit));
        message
    }

    fn put_message(&mut self, field: u64, message: &Message) -> io::Result<()> {
        self.message.clear();
        self.message.message(field, message);
        self.out.write_all(self.message.bytes())
    }
}

/// Identifiers begin with 1: 0 is none.
fn identifier(index: u32) -> u64 {
    u64::from(index) + 1
}

fn values(figures: &StackFigures, measure: Measure) -> impl Iterator<Item = i64> {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let four = [
        signed(figures.allocated_blocks),
        signed(figures.allocated_bytes),
        figures.live_blocks,
        figures.live_bytes,
    ];
    let fifth = has_fifth_value(measure).then(|| measure.of(figures));
    four.into_iter().chain(fifth)
}

/// Gives by function the source file in which it is, which is where its frames are.
fn files<'a>(stacks: &Stacks<'a>, is_written: &[bool]) -> HashMap<u32, &'a str> {
    let mut files = HashMap::new();
    for location in (0..is_written.len()).filter(|&id| is_written[id]) {
        for frame in stacks.frames_of(location as LocationId) {
            if let Some(file) = frame.file {
                files.entry(frame.function).or_insert(file);
            }
        }
    }
    files
}

/// Where libraries lie, one after the other.
#[derive(Default)]
struct Mappings {
    ranges: Vec<MappedRange>,
    /// By library: its mapping's identifier and start.
    by_library: HashMap<LibraryId, (u64, u64)>,
}

struct MappedRange {
    library: LibraryId,
    start: u64,
    length: u64,
}

/// Of the gaps between mappings, and of their starts.
const PAGE_BYTES: u64 = 4096;
/// A file is no longer; addresses beyond are an enemy's, and lie in no mapping.
const LONGEST_FILE: u64 = 1 << 40;

impl Mappings {
    fn of(stacks: &Stacks, is_written: &[bool]) -> Mappings {
        let catalog = &stacks.report.catalog;
        let mut ends: Vec<Option<u64>> = vec![None; catalog.library_count()];
        for location in (0..is_written.len()).filter(|&id| is_written[id]) {
            let location = location as LocationId;
            if let Some((library, offset)) = library_of(stacks, location) {
                let end = &mut ends[library.index()];
                *end = Some(end.unwrap_or(0).max(offset + 1));
            }
        }
        // Readers take the first mapping for the program.
        let root = stacks.report.processes.first();
        let program = root.map(|process| process.process.exe.as_str());
        let is_program = |&library: &LibraryId| catalog.library(library).path == program;
        let first = catalog.library_ids().find(is_program);
        let others = catalog.library_ids().filter(|id| Some(*id) != first);
        let mut mappings = Mappings::default();
        let mut start = PAGE_BYTES;
        for library in first.into_iter().chain(others) {
            let Some(end) = ends[library.index()].or((Some(library) == first).then_some(1)) else {
                continue;
            };
            let length = end.next_multiple_of(PAGE_BYTES);
            let id = mappings.ranges.len() as u64 + 1;
            mappings.by_library.insert(library, (id, start));
            mappings.ranges.push(MappedRange {
                library,
                start,
                length,
            });
            start = start.saturating_add(length).saturating_add(PAGE_BYTES);
        }
        mappings
    }

    /// Gives a location's mapping and address.
    fn place(&self, stacks: &Stacks, location: LocationId) -> Option<(u64, u64)> {
        let (library, offset) = library_of(stacks, location)?;
        let (id, start) = *self.by_library.get(&library)?;
        Some((id, start.saturating_add(offset)))
    }
}

/// Gives the library of a location, and where in it; `None` for what lies in no file.
fn library_of(stacks: &Stacks, location: LocationId) -> Option<(LibraryId, u64)> {
    let catalog = &stacks.report.catalog;
    let site = stacks.locations[location as usize].site;
    let (library, offset) = match site {
        Some(site) => {
            let place = catalog.place(site);
            // The address of the call, and not of what comes after it.
            (place.library, place.offset.saturating_sub(1))
        }
        None => {
            let outermost = stacks.frames_of(location).first()?;
            (stacks.function_of(outermost).library?, 0)
        }
    };
    let is_file = catalog.library(library).path.is_some();
    (is_file && offset < LONGEST_FILE).then_some((library, offset))
}

/// The table of all texts; the first is empty.
struct Strings<'a> {
    index: HashMap<Cow<'a, str>, u64>,
}

impl Default for Strings<'_> {
    fn default() -> Self {
        Strings {
            index: HashMap::from([(Cow::Borrowed(""), 0)]),
        }
    }
}

impl<'a> Strings<'a> {
    fn of(&mut self, text: &'a str) -> u64 {
        let next = self.index.len() as u64;
        *self.index.entry(Cow::Borrowed(text)).or_insert(next)
    }

    fn owned(&mut self, text: String) -> u64 {
        let next = self.index.len() as u64;
        *self.index.entry(Cow::Owned(text)).or_insert(next)
    }

    fn in_order(&self) -> Vec<&str> {
        let mut texts = vec![""; self.index.len()];
        for (text, &index) in &self.index {
            texts[index as usize] = text;
        }
        texts
    }
}
