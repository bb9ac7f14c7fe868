//! What this process holds, by stack, told to the process itself.
//!
//! [`profile()`] gives what a recording of the process would: in mode `count` each
//! call site as a stack of one call, with exact figures; in mode `sample` whole
//! stacks, with estimates that know their error. It is written for pprof, as folded
//! lines or as a flame graph, to any [`io::Write`], so that a server can show it:
//!
//! ```
//! #[global_allocator]
//! static ALLOC: heapledger::Alloc = heapledger::Alloc::system();
//!
//! // Stacks of one allocation in 64 KiB; without this line, call sites.
//! heapledger::sample_stacks!(64 * 1024);
//!
//! /// The body of `GET /debug/pprof/heap`.
//! fn heap() -> std::io::Result<Vec<u8>> {
//!     let profile = heapledger::profile().map_err(std::io::Error::other)?;
//!     let mut body = Vec::new();
//!     profile.with_symbols().write_pprof(&mut body)?;
//!     Ok(body)
//! }
//! # if heapledger::ledger().is_active() {
//! # assert!(heap().unwrap().starts_with(&[0x1f, 0x8b]));
//! # assert_eq!(heapledger::profile().unwrap().mode().name(), "sample");
//! # }
//! ```
//!
//! # Which mode
//!
//! Mode and mean are settled before the first allocation, and cost nothing to ask
//! for afterwards: `HEAPLEDGER_MODE` and `HEAPLEDGER_SAMPLE_BYTES` in the
//! environment, or else [`sample_stacks!`](crate::sample_stacks) in the program.
//! Under `heapledger run` or the preload library the recorder's mode holds.

mod symbols;
#[cfg(all(test, heapledger_core))]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::analysis::stacks::Stacks;
use crate::analysis::{By, Filter, Report};
use crate::counts::{Counts, Side};
use crate::error::Result;
use crate::ledger::books::{Books, ModuleInfo, ThreadKind};
use crate::ledger::layout::{HOOKS_C, HOOKS_RUST};
use crate::recording::Recording;
use crate::recording::model::{
    Inlined, Mode, Module, Outcome, OwnerEntry, Process, Site, StackFigures, Start, Thread,
};
use crate::recording::resolve::{Seen, Tables, seconds_between};
use crate::report::{flamegraph, folded, pprof};
use crate::snapshot::OwnBooks;

/// Sets the mode of this program to `sample`: the stacks of one allocation in 512 KiB
/// on average are kept, or of one in so many bytes as are given (1 B to 64 MiB).
///
/// It stands once in a program, beside its other items, in a crate that does not forbid
/// unsafe code: to name a symbol counts as that. The value is settled by the
/// linker, so that it holds from the first allocation on and costs none of them
/// anything. `HEAPLEDGER_MODE` in the environment, and a recorder, go before it. It
/// has no effect in a library that is loaded with `dlopen` by another program, nor
/// where no books are kept.
///
/// ```
/// heapledger::sample_stacks!(64 * 1024);
/// # #[global_allocator]
/// # static ALLOC: heapledger::Alloc = heapledger::Alloc::system();
/// # fn main() {
/// # if heapledger::ledger().is_active() {
/// let mode = heapledger::profile().unwrap().mode();
/// assert_eq!(mode, heapledger::recording::model::Mode::Sample { sample_bytes: 64 * 1024 });
/// # }
/// # }
/// ```
#[macro_export]
macro_rules! sample_stacks {
    () => {
        $crate::sample_stacks!(512 * 1024);
    };
    ($mean_bytes:expr) => {
        #[doc(hidden)]
        #[used]
        #[unsafe(no_mangle)]
        pub static HEAPLEDGER_SAMPLE_BYTES: u64 = $mean_bytes;
    };
}

/// Gives what this process holds, by stack: a copy, made while other threads go on.
///
/// As exact as [`Ledger::snapshot`](crate::Ledger::snapshot). It may be called on any
/// thread, on several at once, and not from a signal handler: it locks nothing of the
/// allocator's, and allocates. What it reads of the ledger it holds unbooked; the
/// profile itself is booked like anything of the program's, after it was read, so
/// that no profile contains itself. It takes the time of copying all owners, and in
/// mode `sample` all stacks.
///
/// # Errors
/// [`Error::NoLedger`](crate::Error::NoLedger) where
/// [`Ledger::is_active`](crate::Ledger::is_active) is false.
pub fn profile() -> Result<Profile> {
    Ok(Profile::of(&*OwnBooks::read(|pages| Books::read(pages))?))
}

/// What this process held at one moment, by stack.
#[derive(Clone, Debug)]
pub struct Profile {
    recording: Recording,
    /// Where in memory each of the recording's modules lies.
    biases: HashMap<u32, u64>,
}

impl Profile {
    fn of(books: &Books) -> Profile {
        let header = &books.header;
        let mut tables = Tables::default();
        let process = tables.tracked(books, seen(books), header.created_unix_ns);
        let modules = books.modules.iter().flatten();
        let loaded = symbols::loaded();
        let is_loaded = |module: &&ModuleInfo| {
            // The loader gives the program itself no name.
            let names = [module.path.as_str(), ""];
            let names = &names[..1 + usize::from(module.path == books.exe)];
            names
                .iter()
                .any(|&name| loaded.contains(&(module.bias, name.to_owned())))
        };
        let biases = modules
            .filter(is_loaded)
            .filter_map(|module| Some((tables.module_index(books, module)?, module.bias)))
            .collect();
        let recording = Recording {
            start: Start {
                command: books.args.clone(),
                unix_ns: header.created_unix_ns,
                root_pid: header.pid,
                heapledger: env!("CARGO_PKG_VERSION").to_owned(),
                ..Start::default()
            },
            modules: tables.modules,
            sites: tables.sites,
            processes: vec![process],
            warnings: Vec::new(),
        };
        Profile { recording, biases }
    }

    /// Looks up names, files and lines of all calls, with the functions that were
    /// inlined there.
    ///
    /// Slow: reads the debug information of each library that has calls, the first time
    /// a fraction of a second for a program of some size (seconds where it is built
    /// without optimisation), and keeps that of a few in memory, unbooked. Calls in a library that has been unloaded, and those without
    /// symbols, keep their address. Other threads that look up symbols, as for a
    /// backtrace of a panic, wait meanwhile; those that allocate do not.
    #[must_use]
    pub fn with_symbols(mut self) -> Profile {
        symbols::resolve(&mut self.recording.sites, &self.biases);
        self
    }

    /// Gives what is known of each allocation.
    pub fn mode(&self) -> Mode {
        self.process().mode
    }

    /// Tells whether a side is booked at all, as [`Snapshot::sees`](crate::Snapshot::sees).
    pub fn sees(&self, side: Side) -> bool {
        let hook = match side {
            Side::C => HOOKS_C,
            Side::Rust => HOOKS_RUST,
        };
        self.process().hooks & hook != 0
    }

    /// Gives what the malloc family allocated and freed, in usable bytes; exact in every mode.
    pub fn c(&self) -> Counts {
        self.side(Side::C)
    }

    /// Gives what the Rust global allocator allocated and freed, in requested bytes; exact
    /// in every mode.
    pub fn rust(&self) -> Counts {
        self.side(Side::Rust)
    }

    /// Gives both sides' sum; exact in every mode.
    pub fn all(&self) -> Counts {
        self.process().owners.iter().map(|row| row.counts).sum()
    }

    /// Gives one side's sum; exact in every mode.
    pub fn side(&self, side: Side) -> Counts {
        let owners = self.process().owners.iter();
        owners
            .filter(|row| row.side == side)
            .map(|row| row.counts)
            .sum()
    }

    /// Visits the stacks, in no particular order: one for each path, side, scope and thread.
    ///
    /// In mode `count` each call site by side and scope is a stack of one call, with
    /// exact figures. In mode `sample` figures are estimates without bias, with their
    /// errors beside them, and a stack that no sample fell on is not there.
    pub fn stacks(&self) -> impl Iterator<Item = Stack<'_>> {
        let process = self.process();
        let is_by_site = process.mode == Mode::Count;
        let owners = process.owners.iter().filter(move |_| is_by_site);
        let sites = owners.map(|row| self.of_owner(row));
        let stacks = process.stacks.iter().map(|stack| Stack {
            profile: self,
            frames: &stack.frames,
            is_truncated: stack.is_truncated,
            side: stack.side,
            scope: stack.scope,
            thread: stack.thread,
            figures: stack.figures,
        });
        sites.chain(stacks)
    }

    fn of_owner<'a>(&'a self, row: &'a OwnerEntry) -> Stack<'a> {
        Stack {
            profile: self,
            frames: std::slice::from_ref(&row.site),
            is_truncated: false,
            side: row.side,
            scope: row.scope,
            thread: None,
            figures: StackFigures::of(&row.counts, row.at_peak),
        }
    }

    /// Writes a profile as `go tool pprof` and what understands it read it:
    /// `profile.proto`, compressed with gzip. Its samples are objects and bytes
    /// allocated, objects and bytes in use; its labels side, scope, thread, tid and pid.
    ///
    /// Names are in it after [`Profile::with_symbols`], else libraries and addresses in
    /// them.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_pprof(&self, out: impl io::Write) -> io::Result<()> {
        self.write_pprof_of(&Filter::default(), out)
    }

    /// The same of a part of it, the filter's measure being what is shown first.
    ///
    /// # Errors
    /// Those of `out`; [`io::ErrorKind::InvalidInput`] where the filter names a scope or a
    /// library that is not there, or a measure that the mode does not give.
    pub fn write_pprof_of(&self, filter: &Filter, out: impl io::Write) -> io::Result<()> {
        self.write(filter, |stacks| pprof::write(stacks, filter.measure, out))
    }

    /// Writes a line for each stack, `outermost;...;innermost VALUE`, for flame graph
    /// tools, by the filter's measure.
    ///
    /// # Errors
    /// As [`Profile::write_pprof_of`].
    pub fn write_folded(&self, filter: &Filter, out: impl io::Write) -> io::Result<()> {
        self.write(filter, |stacks| folded::write(stacks, filter.measure, out))
    }

    /// Draws a flame graph of both sides, by the filter's measure: an SVG that needs
    /// nothing else.
    ///
    /// # Errors
    /// As [`Profile::write_pprof_of`].
    pub fn write_flamegraph(&self, filter: &Filter, out: impl io::Write) -> io::Result<()> {
        self.write(filter, |stacks| {
            flamegraph::write(stacks, filter.measure, out)
        })
    }

    fn write(
        &self,
        filter: &Filter,
        format: impl FnOnce(&Stacks) -> io::Result<()>,
    ) -> io::Result<()> {
        let impossible = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
        let report = Report::new(&self.recording);
        let stacks = Stacks::new(&report, filter, By::Site).map_err(impossible)?;
        format(&stacks)
    }

    /// Gives it as a recording of one process: threads, sizes, peak, clean-ups and what
    /// could not be booked, too. What only a recorder outside sees is empty.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// Gives it as a recording that owns itself.
    pub fn into_recording(self) -> Recording {
        self.recording
    }

    fn process(&self) -> &Process {
        &self.recording.processes[0]
    }
}

/// Gives what can be seen from inside that a recorder would see from outside.
fn seen(books: &Books) -> Seen {
    let now_ns = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64);
    let threads = books.threads.iter();
    let running = threads.filter(|row| row.kind == ThreadKind::Thread);
    let named = running.filter_map(|row| Some((row.tid, thread_name(row.tid)?)));
    Seen {
        duration_s: seconds_between(books.header.created_unix_ns, now_ns),
        outcome: Outcome::Running,
        thread_names: named.collect(),
        ..Seen::default()
    }
}

fn thread_name(tid: u32) -> Option<String> {
    let name = std::fs::read(format!("/proc/self/task/{tid}/comm")).ok()?;
    let name = name.strip_suffix(b"\n").unwrap_or(&name);
    Some(String::from_utf8_lossy(name).into_owned())
}

/// Who asked for memory, with all callers as far as they are known, and what it holds.
#[derive(Clone, Copy)]
pub struct Stack<'a> {
    profile: &'a Profile,
    frames: &'a [u32],
    is_truncated: bool,
    side: Side,
    scope: Option<u32>,
    thread: Option<u32>,
    figures: StackFigures,
}

impl<'a> Stack<'a> {
    /// Visits the calls, the innermost first: the call that allocated, then that of the
    /// function it stands in, and so on.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = Frame<'a>> + use<'a> {
        let recording = &self.profile.recording;
        self.frames.iter().map(|&site| {
            let site = &recording.sites[site as usize];
            let module = site.module.map(|index| &recording.modules[index as usize]);
            Frame { site, module }
        })
    }

    /// Tells whether the outermost calls are missing.
    pub fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    /// Gives the side that booked it.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Gives the scope it was in, if any.
    pub fn scope(&self) -> Option<&'a str> {
        let scopes = &self.profile.process().scopes;
        scopes.get(self.scope? as usize).map(String::as_str)
    }

    /// Gives its thread, which is known where stacks are.
    pub fn thread(&self) -> Option<&'a Thread> {
        self.profile.process().threads.get(self.thread? as usize)
    }

    /// Gives what it holds and has held: exact in mode `count`, else estimates with their errors.
    pub fn figures(&self) -> StackFigures {
        self.figures
    }
}

impl fmt::Debug for Stack<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Stack")
            .field("side", &self.side)
            .field("scope", &self.scope())
            .field("frames", &self.frames().collect::<Vec<_>>())
            .field("figures", &self.figures)
            .finish()
    }
}

/// One call of a stack.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    site: &'a Site,
    module: Option<&'a Module>,
}

impl<'a> Frame<'a> {
    /// Gives the path of the library, or the program, that the call stands in.
    pub fn library(&self) -> Option<&'a str> {
        Some(&self.module?.path)
    }

    /// Gives that file's build-id, where it has one.
    pub fn build_id(&self) -> Option<&'a [u8]> {
        let id = &self.module?.build_id;
        (!id.is_empty()).then_some(id)
    }

    /// Gives where the call returns to, in the library's own terms, as `nm` and `addr2line`
    /// know it; without a library, in memory. 0 for what is no call.
    pub fn offset(&self) -> u64 {
        self.site.offset
    }

    /// Gives the function that the call stands in, demangled, once symbols were looked up.
    pub fn symbol(&self) -> Option<&'a str> {
        self.site.symbol.as_deref()
    }

    /// Gives the source file of the call, once symbols were looked up.
    pub fn file(&self) -> Option<&'a str> {
        self.site.file.as_deref()
    }

    /// Gives the source line of the call, once symbols were looked up.
    pub fn line(&self) -> Option<u32> {
        self.site.line
    }

    /// Gives the functions that the compiler inlined there, the outermost first; the last
    /// one makes the call.
    pub fn inlined(&self) -> &'a [Inlined] {
        &self.site.inlined
    }

    /// Gives the name that memory was charged under which malloc never saw.
    pub fn charged(&self) -> Option<&'a str> {
        self.site.charged.as_deref()
    }

    /// Tells whether it stands for all that found no room in the ledger.
    pub fn is_overflow(&self) -> bool {
        self.site.overflow
    }
}

/// A name, or else `libcodec.so.1+0x1234`.
impl fmt::Display for Frame<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.symbol(), self.charged(), self.module) {
            _ if self.is_overflow() => formatter.write_str("(no room in the ledger)"),
            (Some(symbol), ..) => formatter.write_str(symbol),
            (_, Some(name), _) => write!(formatter, "{name} (charged)"),
            (_, _, Some(module)) => write!(formatter, "{}+{:#x}", module.name(), self.offset()),
            _ => write!(formatter, "(outside any file)+{:#x}", self.offset()),
        }
    }
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
