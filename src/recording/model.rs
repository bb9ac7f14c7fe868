//! What a recording holds: plain data, complete in itself.
//!
//! Processes name their modules and call sites by index into tables that the
//! whole recording shares, so that a site that appears in 200 processes is
//! resolved and stored once.

use std::ops::AddAssign;

pub use super::lives::{Lifetimes, Lives};
pub use super::misuse::{Misuse, MisuseEnd, MisuseKind, MisuseStack};
pub use super::pressure::{CallEnding, Pressure, PressureEvent, ReclaimerCall};
use crate::counts::{Counts, Side};
pub use crate::pressure::{Level, Trigger};

/// A recording in memory.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// What the recorder knew at the start.
    pub start: Start,
    /// Every mapped object that some call site lies in.
    pub modules: Vec<Module>,
    /// Every call site, resolved as far as symbols allow.
    pub sites: Vec<Site>,
    /// One entry a ledger, and one a process seen without one; the root first.
    pub processes: Vec<Process>,
    /// What a reader should know: cut short, recorder killed.
    pub warnings: Vec<String>,
}

/// The first frame of a recording.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct Start {
    /// The command line that was run.
    pub command: Vec<String>,
    /// Directory of the live ledgers: where to look when the recorder was killed.
    pub ledger_directory: String,
    /// When recording began, nanoseconds since the epoch.
    pub unix_ns: u64,
    /// Pid of the root process, 0 before it started.
    pub root_pid: u32,
    /// Version of heapledger that wrote the recording.
    pub heapledger: String,
}

/// A mapped object file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct Module {
    /// Path in the recorded process.
    pub path: String,
    /// Build-id, empty where the object has none.
    pub build_id: Vec<u8>,
}

impl Module {
    /// Gives the file name: `libc.so.6`.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// A call site: where the call into the malloc family returns to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct Site {
    /// Index into [`Recording::modules`]; `None` for code outside any file (JIT) and for charges.
    pub module: Option<u32>,
    /// Address in the module's own terms (as `nm` shows it); without a module, in memory.
    pub offset: u64,
    /// Function that the call stands in, demangled.
    pub symbol: Option<String>,
    /// Source file of the call.
    pub file: Option<String>,
    /// Source line of the call.
    pub line: Option<u32>,
    /// Functions that the compiler inlined there, the outermost first; the last one makes the call.
    pub inlined: Vec<Inlined>,
    /// The call is one of Rust's standard allocator shims, so that what side `c`
    /// booked here is Rust's.
    pub rust_shim: bool,
    /// Set for memory charged by name, which has no call site.
    pub charged: Option<String>,
    /// Stands for all owners that found no room in the ledger.
    pub overflow: bool,
}

/// A function that the compiler put into another one at a call site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct Inlined {
    /// Its name, demangled.
    pub symbol: String,
    /// Source file, within this function, of the call.
    pub file: Option<String>,
    /// Source line, within this function, of the call.
    pub line: Option<u32>,
}

/// What is known of each allocation of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub enum Mode {
    /// Its call site: [`Process::stacks`] is empty.
    #[default]
    Count,
    /// The stacks of a sample: their figures are estimates without bias.
    Sample {
        /// Mean bytes between two samples.
        sample_bytes: u64,
    },
    /// Its stack: figures are exact.
    Full,
}

impl Mode {
    /// Gives the name that the command line has for it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Count => "count",
            Mode::Sample { .. } => "sample",
            Mode::Full => "full",
        }
    }

    /// Tells whether figures of stacks are exact, and no estimates.
    pub fn has_exact_stacks(self) -> bool {
        !matches!(self, Mode::Sample { .. })
    }
}

impl Process {
    /// Gives how many threads may have been stopped in the middle of booking a block: all
    /// but the one that ended the process by itself.
    pub(crate) fn under_way(&self) -> u64 {
        let is_own_end = matches!(self.outcome, Outcome::ExitCode(_) | Outcome::Exec);
        (self.threads.len() as u64).saturating_sub(u64::from(is_own_end))
    }
}

/// How a process ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub enum Outcome {
    /// It exited with this code.
    ExitCode(i32),
    /// This signal ended it, by number.
    Signal(i32),
    /// It became another program, which has an entry of its own.
    Exec,
    /// It ran on when the recording ended.
    Running,
    /// It ended, and nobody who could see how was there.
    #[default]
    Unknown,
}

/// One process, or one program image of it.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Parent's process id, 0 when unknown.
    pub parent_pid: u32,
    /// Path of the program.
    pub exe: String,
    /// Its arguments, the program's name first.
    pub args: Vec<String>,
    /// Seconds from the start of the recording to the first booking.
    pub started_s: f64,
    /// Seconds it was recorded for.
    pub duration_s: f64,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it has no books; `None` when it has.
    pub untracked_reason: Option<String>,
    /// It began with what a forked parent had live.
    pub forked: bool,
    /// Bitwise or of what is booked: 1 = side c, 2 = side rust.
    pub hooks: u32,
    /// What is known of each allocation.
    pub mode: Mode,
    /// Everything that was ever booked, by owner.
    pub owners: Vec<OwnerEntry>,
    /// What was booked by stack. It lies in frames of its own, in front of the process's.
    #[cfg_attr(feature = "cli", serde(skip))]
    pub stacks: Vec<Stack>,
    /// Its misuse of the allocator, in the order in which it began; mode full alone
    /// knows. It lies in a frame of its own, in front of the process's.
    #[cfg_attr(feature = "cli", serde(skip))]
    pub misuses: Vec<Misuse>,
    /// Names of the scopes that owners refer to.
    pub scopes: Vec<String>,
    /// The same, by thread.
    pub threads: Vec<Thread>,
    /// Requests by size, by side (index 0 = c, 1 = rust).
    pub sizes: [Sizes; 2],
    /// How long blocks lived; mode sample alone knows.
    pub lifetimes: Option<Lifetimes>,
    /// The highest live bytes.
    pub peak: Peak,
    /// Live bytes over time.
    pub timeline: Vec<TimelinePoint>,
    /// What could not be booked in full.
    pub losses: Losses,
    /// Its clean-ups.
    pub pressure: Pressure,
}

/// What one owner holds.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct OwnerEntry {
    /// Index into [`Recording::sites`].
    pub site: u32,
    /// Side that booked it.
    pub side: Side,
    /// Index into [`Process::scopes`].
    pub scope: Option<u32>,
    /// Its counters.
    pub counts: Counts,
    /// Live bytes and blocks when the peak was captured.
    pub at_peak: (i64, i64),
}

/// Who asked for memory, with all callers.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct Stack {
    /// Indices into [`Recording::sites`], innermost first: the call into the malloc
    /// family, then the call of the function it stands in, and so on.
    pub frames: Vec<u32>,
    /// The outermost frames are missing.
    pub is_truncated: bool,
    /// Some callers were found by frame pointers alone, as in code without unwinding
    /// data. It lies in a frame of its own, in front of the process's.
    #[cfg_attr(feature = "cli", serde(skip))]
    pub is_guessed: bool,
    /// Side that booked it.
    pub side: Side,
    /// Index into [`Process::scopes`].
    pub scope: Option<u32>,
    /// Index into [`Process::threads`], where stacks are kept by thread.
    pub thread: Option<u32>,
    /// What it holds.
    pub figures: StackFigures,
}

/// What was allocated at a stack: exact, or estimated from samples, as
/// [`Process::mode`] says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct StackFigures {
    /// Bytes held at the end.
    pub live_bytes: i64,
    /// Blocks held at the end.
    pub live_blocks: i64,
    /// Bytes ever allocated.
    pub allocated_bytes: u64,
    /// Blocks ever allocated.
    pub allocated_blocks: u64,
    /// Live bytes and blocks when the peak was captured.
    pub at_peak: (i64, i64),
    /// Bytes and blocks that the same thread's next operation freed; mode full alone knows.
    pub temporary: (u64, u64),
    /// Allocations that the figures are made from.
    pub samples: u64,
    /// Blocks that were freed within a millisecond; mode sample alone knows.
    pub short_blocks: u64,
    /// How long all blocks lived that were freed, in sum, in nanoseconds; mode sample alone knows.
    pub lived_ns: u128,
    /// How far the figures may be off; all 0 where they are exact.
    pub errors: StackErrors,
}

/// Half the width of the 95 % interval around each estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct StackErrors {
    /// Of bytes held at the end.
    pub live_bytes: u64,
    /// Of blocks held at the end.
    pub live_blocks: u64,
    /// Of bytes ever allocated.
    pub allocated_bytes: u64,
    /// Of blocks ever allocated.
    pub allocated_blocks: u64,
}

impl StackFigures {
    /// Gives the figures of an owner as those of a stack of one call.
    pub fn of(counts: &Counts, at_peak: (i64, i64)) -> StackFigures {
        StackFigures {
            live_bytes: counts.live_bytes,
            live_blocks: counts.live_blocks,
            allocated_bytes: counts.allocated_bytes,
            allocated_blocks: counts.allocated_blocks,
            at_peak,
            samples: counts.allocated_blocks,
            ..StackFigures::default()
        }
    }
}

impl StackFigures {}

impl AddAssign for StackErrors {
    /// Samples are taken independently of each other: squares add up.
    fn add_assign(&mut self, other: StackErrors) {
        for (sum, error) in [
            (&mut self.live_bytes, other.live_bytes),
            (&mut self.live_blocks, other.live_blocks),
            (&mut self.allocated_bytes, other.allocated_bytes),
            (&mut self.allocated_blocks, other.allocated_blocks),
        ] {
            *sum = (*sum as f64).hypot(error as f64).round() as u64;
        }
    }
}

impl AddAssign for StackFigures {
    /// Adds up, and stops at the largest number: figures may be an enemy's.
    fn add_assign(&mut self, other: StackFigures) {
        for (sum, value) in [
            (&mut self.live_bytes, other.live_bytes),
            (&mut self.live_blocks, other.live_blocks),
            (&mut self.at_peak.0, other.at_peak.0),
            (&mut self.at_peak.1, other.at_peak.1),
        ] {
            *sum = sum.saturating_add(value);
        }
        for (sum, value) in [
            (&mut self.allocated_bytes, other.allocated_bytes),
            (&mut self.allocated_blocks, other.allocated_blocks),
            (&mut self.temporary.0, other.temporary.0),
            (&mut self.temporary.1, other.temporary.1),
            (&mut self.samples, other.samples),
            (&mut self.short_blocks, other.short_blocks),
        ] {
            *sum = sum.saturating_add(value);
        }
        self.lived_ns = self.lived_ns.saturating_add(other.lived_ns);
        self.errors += other.errors;
    }
}

/// What one thread booked.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct Thread {
    /// Thread id; 0 for a row that stands for several.
    pub tid: u32,
    /// Its name, or `(ended threads)`, `(shared slot)`, `(inherited)`.
    pub name: String,
    /// By side (index 0 = c, 1 = rust).
    pub counts: [Counts; 2],
}

/// Requests by size.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct Sizes {
    /// (largest size of the bucket, count), the empty buckets left out.
    pub buckets: Vec<(u64, u64)>,
    /// Largest request, exact.
    pub max: u64,
}

/// The highest live bytes of a process, within one quantum a thread.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct Peak {
    /// Side c, side rust, both together; each at its own moment.
    pub live_bytes: [i64; 3],
    /// Seconds from the start of the process to the peak of both together.
    pub at_s: f64,
    /// Live bytes when [`OwnerEntry::at_peak`] was captured: within an eighth of the peak. 0 = never.
    pub captured_live_bytes: i64,
}

/// One reading from outside.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct TimelinePoint {
    /// Seconds from the start of the process.
    pub t_s: f64,
    /// Live bytes of side c.
    pub c_live_bytes: i64,
    /// Live bytes of side rust.
    pub rust_live_bytes: i64,
    /// Resident set; 0 when it could not be read.
    pub rss_bytes: u64,
}

/// What could not be booked in full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct Losses {
    /// Frees of blocks that the ledger never saw allocated.
    pub foreign_frees: u64,
    /// Blocks that one side allocated and the other freed.
    pub crossed_frees: u64,
    /// Allocations booked to an overflow owner, at call sites that found no room.
    pub owners_overflowed: u64,
    /// Threads booked to the shared slot.
    pub slots_overflowed: u64,
    /// Scope names that found no room.
    pub scopes_overflowed: u64,
    /// Pages that the file system refused.
    pub pages_refused: u64,
    /// Forked children that could not have a ledger.
    pub children_untracked: u64,
    /// Blocks that were to have a stack and have none: no room was left, or in mode full
    /// a handler jumped out of their allocation. Their owners have them.
    pub samples_dropped: u64,
    /// Samples booked to an overflow stack, for want of room for another.
    pub stacks_overflowed: u64,
    /// Blocks that no figure has, since address space for the books was refused; their
    /// frees are among `foreign_frees`.
    pub blocks_unbooked: u64,
    /// Calls that are misuse and have no record, for want of room for another.
    pub misuses_left_out: u64,
}

impl AddAssign for Losses {
    /// Adds up, and stops at the largest number: figures may be an enemy's.
    fn add_assign(&mut self, other: Losses) {
        for (sum, count) in [
            (&mut self.foreign_frees, other.foreign_frees),
            (&mut self.crossed_frees, other.crossed_frees),
            (&mut self.owners_overflowed, other.owners_overflowed),
            (&mut self.slots_overflowed, other.slots_overflowed),
            (&mut self.scopes_overflowed, other.scopes_overflowed),
            (&mut self.pages_refused, other.pages_refused),
            (&mut self.children_untracked, other.children_untracked),
            (&mut self.samples_dropped, other.samples_dropped),
            (&mut self.stacks_overflowed, other.stacks_overflowed),
            (&mut self.blocks_unbooked, other.blocks_unbooked),
            (&mut self.misuses_left_out, other.misuses_left_out),
        ] {
            *sum = sum.saturating_add(count);
        }
    }
}
