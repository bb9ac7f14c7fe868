//! Who is compared, and what each tells about a program's allocations.

use crate::common::Ledgers;
use crate::measure::WORKLOADS;
use crate::peer::{Entry, Peer, Proof, Source, is_lacking};
use anyhow::Result;

const PRELOADS: [Entry; 11] = [
    Entry {
        name: "glibc",
        source: Source::Bare,
        keeps_books: false,
        sees: "its own sums, on request",
        setting: None,
        proof: Proof::None,
    },
    Entry {
        name: "empty forwarding hooks",
        source: Source::Forwarding,
        keeps_books: false,
        sees: "nothing: the floor of any interposer",
        setting: None,
        proof: Proof::None,
    },
    Entry {
        name: "heapledger count",
        source: Source::Heapledger,
        keeps_books: true,
        sees: "everything exactly, C and Rust, by call site, scope and thread, live and peak; survives SIGKILL",
        setting: Some(("HEAPLEDGER_MODE", "count")),
        proof: Proof::File,
    },
    Entry {
        name: "heapledger sample",
        source: Source::Heapledger,
        keeps_books: true,
        sees: "the same; live, peak and total by stack and lifetimes, estimated from a sample each 512 KiB",
        setting: Some(("HEAPLEDGER_MODE", "sample")),
        proof: Proof::File,
    },
    Entry {
        name: "heapledger full",
        source: Source::Heapledger,
        keeps_books: true,
        sees: "the same by stack exactly, added up in place; leaks, peak, temporary blocks, misuse with both stacks",
        setting: Some(("HEAPLEDGER_MODE", "full")),
        proof: Proof::File,
    },
    Entry {
        name: "memusage",
        source: Source::Library("libmemusage.so"),
        keeps_books: true,
        sees: "totals, peak and sizes of the process, at its exit",
        setting: None,
        proof: Proof::Says("Memory usage summary"),
    },
    Entry {
        name: "heaptrack --raw",
        source: Source::Starter("heaptrack", &["--raw", "-o", "trace"]),
        keeps_books: true,
        sees: "every call with its stack, written out",
        setting: None,
        proof: Proof::File,
    },
    Entry {
        name: "jemalloc",
        source: Source::Library("libjemalloc.so.2"),
        keeps_books: false,
        sees: "its own sums, on request",
        setting: None,
        proof: Proof::None,
    },
    Entry {
        name: "jemalloc, prof on",
        source: Source::Library("libjemalloc.so.2"),
        keeps_books: true,
        sees: "live and total by stack, estimated from a sample each 512 KiB",
        setting: Some(("MALLOC_CONF", "prof:true,prof_final:true,prof_prefix:prof")),
        proof: Proof::File,
    },
    Entry {
        name: "tcmalloc (minimal)",
        source: Source::Library("libtcmalloc_minimal.so.4"),
        keeps_books: false,
        sees: "its own sums, on request",
        setting: None,
        proof: Proof::None,
    },
    Entry {
        name: "mimalloc",
        source: Source::Library("libmimalloc.so.2"),
        keeps_books: false,
        sees: "its own sums, on request",
        setting: None,
        proof: Proof::None,
    },
];

/// None of them sees a byte that C allocates.
const RUST: [Entry; 13] = [
    Entry {
        name: "System",
        source: Source::Crate("", env!("CARGO_BIN_EXE_with_system")),
        keeps_books: false,
        sees: "nothing",
        setting: None,
        proof: Proof::None,
    },
    Entry {
        name: "heapledger::Alloc",
        source: Source::Crate("heapledger", env!("CARGO_BIN_EXE_with_heapledger")),
        keeps_books: true,
        sees: "everything exactly, by call site, scope and thread, live and peak",
        setting: None,
        proof: Proof::None,
    },
    Entry {
        name: "stats_alloc",
        source: Source::Crate("stats_alloc", env!("CARGO_BIN_EXE_with_stats_alloc")),
        keeps_books: true,
        sees: "totals",
        setting: None,
        proof: Proof::None,
    },
    Entry {
        name: "cap",
        source: Source::Crate("cap", env!("CARGO_BIN_EXE_with_cap")),
        keeps_books: true,
        sees: "live bytes, and a limit",
        setting: None,
        proof: Proof::None,
    },
    Entry {
        name: "peak_alloc",
        source: Source::Crate("peak_alloc", env!("CARGO_BIN_EXE_with_peak_alloc")),
        keeps_books: true,
        sees: "live bytes and their peak",
        setting: None,
        proof: Proof::None,
    },
    Entry {
        name: "tracking-allocator, off",
        source: Source::Crate(
            "tracking-allocator",
            env!("CARGO_BIN_EXE_with_tracking_allocator"),
        ),
        keeps_books: false,
        sees: "nothing",
        setting: None,
        proof: Proof::None,
    },
    Entry {
        name: "tracking-allocator, on",
        source: Source::Crate(
            "tracking-allocator",
            env!("CARGO_BIN_EXE_with_tracking_allocator"),
        ),
        keeps_books: true,
        sees: "each call by group; here a tracker that sums live bytes",
        setting: Some(("PEER", "on")),
        proof: Proof::None,
    },
    Entry {
        name: "dhat, off",
        source: Source::Crate("dhat", env!("CARGO_BIN_EXE_with_dhat")),
        keeps_books: false,
        sees: "nothing",
        setting: None,
        proof: Proof::None,
    },
    Entry {
        name: "dhat, on",
        source: Source::Crate("dhat", env!("CARGO_BIN_EXE_with_dhat")),
        keeps_books: true,
        sees: "everything by stack, live and peak, at exit",
        setting: Some(("PEER", "on")),
        proof: Proof::File,
    },
    Entry {
        name: "divan AllocProfiler",
        source: Source::Crate("divan", env!("CARGO_BIN_EXE_with_divan")),
        keeps_books: true,
        sees: "totals and peak by thread; shown for a bench's own threads, while it runs",
        setting: None,
        proof: Proof::None,
    },
    Entry {
        name: "jemalloc",
        source: Source::Crate("tikv-jemallocator", env!("CARGO_BIN_EXE_with_jemalloc")),
        keeps_books: false,
        sees: "its own sums, on request",
        setting: None,
        proof: Proof::None,
    },
    Entry {
        name: "jemalloc, prof on",
        source: Source::Crate("tikv-jemallocator", env!("CARGO_BIN_EXE_with_jemalloc")),
        keeps_books: true,
        sees: "live and total by stack, estimated from a sample each 512 KiB",
        setting: Some((
            "_RJEM_MALLOC_CONF",
            "prof:true,prof_final:true,prof_prefix:prof",
        )),
        proof: Proof::File,
    },
    Entry {
        name: "mimalloc",
        source: Source::Crate("mimalloc", env!("CARGO_BIN_EXE_with_mimalloc")),
        keeps_books: false,
        sees: "its own sums, on request",
        setting: None,
        proof: Proof::None,
    },
];

/// Peers that are compared with one another, the bare allocator first.
pub struct Group {
    pub name: &'static str,
    pub title: &'static str,
    pub peers: Vec<Peer>,
}

pub struct Skipped {
    pub name: &'static str,
    pub reason: String,
}

#[derive(Default)]
pub struct LineUp {
    pub groups: Vec<Group>,
    pub skipped: Vec<Skipped>,
}

impl LineUp {
    /// All peers that are here and work. One that is not installed, or was built
    /// without what it is asked for, is skipped; any other failure is an error.
    pub fn find(scratch: &Ledgers) -> Result<LineUp> {
        let mut line_up = LineUp::default();
        line_up.add("preload", "Under preload", &PRELOADS, scratch)?;
        line_up.add("rust", "Rust global allocators", &RUST, scratch)?;
        Ok(line_up)
    }

    fn add(
        &mut self,
        name: &'static str,
        title: &'static str,
        entries: &'static [Entry],
        scratch: &Ledgers,
    ) -> Result<()> {
        let mut peers = Vec::new();
        for entry in entries {
            let found = Peer::find(entry, scratch);
            let working = found.and_then(|peer| peer.run(&WORKLOADS[0], 1, scratch).map(|_| peer));
            match working {
                Ok(peer) => peers.push(peer),
                Err(error) if is_lacking(&error) => self.skipped.push(Skipped {
                    name: entry.name,
                    reason: error.to_string(),
                }),
                Err(error) => return Err(error),
            }
        }
        self.groups.push(Group { name, title, peers });
        Ok(())
    }
}
