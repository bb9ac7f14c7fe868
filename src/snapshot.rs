//! The ledger of this process, and owned copies of its sums.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Deref;

use crate::core;
use crate::counts::{Counts, Side};
use crate::error::{Error, Result};
use crate::ledger::books::{Books, OwnerBooks, read_live_bytes};
use crate::ledger::layout::{HOOKS_C, HOOKS_RUST, OWNER_OVERFLOW};
use crate::ledger::pages::Pages;

/// Gives the ledger of this process.
pub fn ledger() -> Ledger {
    Ledger(())
}

/// The ledger of this process.
#[derive(Clone, Copy, Debug)]
pub struct Ledger(());

impl Ledger {
    /// Tells whether books are kept: false on other platforms, and where start-up failed.
    pub fn is_active(self) -> bool {
        core::copy_words(0, &mut [0])
    }

    /// Reads both sides' live bytes alone, without a copy of the books: for series and limits.
    ///
    /// As exact as [`Ledger::snapshot`]. Nothing is allocated. Zero without a ledger.
    pub fn live(self) -> LiveBytes {
        let [c_live_bytes, rust_live_bytes] = read_live_bytes(&ProcessPages).unwrap_or_default();
        LiveBytes {
            c_live_bytes,
            rust_live_bytes,
        }
    }

    /// Copies the sums: exact to the byte once the writers are quiet.
    ///
    /// While they run it may miss what they book during the read. What the copy
    /// itself takes from the heap is booked nowhere. Without a ledger all sums
    /// are zero and [`Snapshot::sees`] is false of both sides.
    pub fn snapshot(self) -> Snapshot {
        Snapshot {
            books: OwnBooks::read(|pages| Books::read_counts(pages)).ok(),
        }
    }
}

/// This process's ledger, through the core.
struct ProcessPages;

impl Pages for ProcessPages {
    fn copy(&self, reference: u64, out: &mut [u64]) -> Option<()> {
        core::copy_words(reference, out).then_some(())
    }
}

/// What both sides hold at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveBytes {
    /// Of side `c`, in usable bytes.
    pub c_live_bytes: i64,
    /// Of side `rust`, in requested bytes.
    pub rust_live_bytes: i64,
}

/// The highest live bytes so far, within 64 KiB a thread of the truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peaks {
    /// Of side `c`.
    pub c_live_bytes: i64,
    /// Of side `rust`.
    pub rust_live_bytes: i64,
    /// Of both together; the sides' own peaks may lie at other moments.
    pub all_live_bytes: i64,
}

/// Books of this process, read and dropped unbooked, so that looking does not change them.
pub(crate) struct OwnBooks(ManuallyDrop<Books>);

impl OwnBooks {
    /// Reads as much of the ledger as `how` does.
    ///
    /// # Errors
    /// [`Error::NoLedger`] where there is none, else those of `how`.
    pub(crate) fn read(how: impl FnOnce(&dyn Pages) -> Result<Books>) -> Result<OwnBooks> {
        if !ledger().is_active() {
            return Err(Error::NoLedger);
        }
        core::unbooked(|| how(&ProcessPages).map(ManuallyDrop::new)).map(OwnBooks)
    }
}

impl Deref for OwnBooks {
    type Target = Books;

    fn deref(&self) -> &Books {
        &self.0
    }
}

impl Drop for OwnBooks {
    fn drop(&mut self) {
        // SAFETY: drop runs once, and nothing uses the field afterwards.
        core::unbooked(|| unsafe { ManuallyDrop::drop(&mut self.0) });
    }
}

/// An owned, read-only copy of the ledger's sums at one moment.
pub struct Snapshot {
    books: Option<OwnBooks>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Snapshot")
            .field("c", &self.c())
            .field("rust", &self.rust())
            .finish()
    }
}

impl Snapshot {
    /// Gives what the malloc family allocated and freed, in usable bytes.
    ///
    /// Zero where [`Snapshot::sees`] says that C is not seen.
    pub fn c(&self) -> Counts {
        self.side(Side::C)
    }

    /// Gives what the Rust global allocator allocated and freed, in requested bytes.
    pub fn rust(&self) -> Counts {
        self.side(Side::Rust)
    }

    /// Gives both sides' sum.
    pub fn all(&self) -> Counts {
        Side::ALL.into_iter().map(|side| self.side(side)).sum()
    }

    /// Gives one side's sum over its owners.
    pub fn side(&self, side: Side) -> Counts {
        self.books
            .as_ref()
            .map(|books| books.side(side))
            .unwrap_or_default()
    }

    /// Tells whether a side is booked at all: C needs feature `interpose` or the preload library,
    /// Rust an [`Alloc`](crate::Alloc) that has allocated.
    pub fn sees(&self, side: Side) -> bool {
        let hook = match side {
            Side::C => HOOKS_C,
            Side::Rust => HOOKS_RUST,
        };
        self.books
            .as_ref()
            .is_some_and(|books| books.header.hooks & hook != 0)
    }

    /// Gives the highest live bytes so far.
    pub fn peaks(&self) -> Peaks {
        let Some(books) = self.books.as_ref() else {
            return Peaks::default();
        };
        let [c, rust, all] = books.header.peak;
        Peaks {
            c_live_bytes: c.max(self.c().live_bytes),
            rust_live_bytes: rust.max(self.rust().live_bytes),
            all_live_bytes: all.max(self.all().live_bytes),
        }
    }

    /// Counts frees of blocks that the ledger never saw allocated.
    pub fn foreign_frees(&self) -> u64 {
        self.books.as_ref().map_or(0, |books| books.foreign_frees)
    }

    /// Visits who holds what, in no particular order; owners that never booked anything are left out.
    pub fn owners(&self) -> impl Iterator<Item = Owner<'_>> {
        self.books.iter().flat_map(|books| {
            let booked = |owner: &&OwnerBooks| !owner.counts.is_untouched();
            books
                .owners
                .iter()
                .flatten()
                .filter(booked)
                .map(|owner| Owner { books, owner })
        })
    }
}

/// Who holds blocks: a side, a call site and a scope.
#[derive(Clone, Copy)]
pub struct Owner<'a> {
    books: &'a Books,
    owner: &'a OwnerBooks,
}

impl<'a> Owner<'a> {
    /// Gives what it allocated and freed.
    pub fn counts(&self) -> Counts {
        self.owner.counts
    }

    /// Gives the side it is booked on.
    pub fn side(&self) -> Side {
        self.owner.side
    }

    /// Gives the scope it was in, if any.
    pub fn scope(&self) -> Option<&'a str> {
        let index = (self.owner.scope as usize).checked_sub(1)?;
        self.books.scopes.get(index).map(String::as_str)
    }

    /// Gives the name it was charged under, for memory that malloc never saw.
    pub fn charged(&self) -> Option<&'a str> {
        self.owner.charged.as_deref()
    }

    /// Gives the return address of the call; `None` for charges and for what found no room.
    pub fn call_site(&self) -> Option<usize> {
        let has_site = self.owner.charged.is_none() && self.owner.kind != OWNER_OVERFLOW;
        has_site.then_some(self.owner.call_site as usize)
    }

    /// Gives the path of the library that the call stands in.
    pub fn library(&self) -> Option<&'a str> {
        Some(
            self.books
                .modules
                .get(self.owner.module?)?
                .as_ref()?
                .path
                .as_str(),
        )
    }

    /// Gives the call's address in the library's own terms, as `nm` and `addr2line` know it.
    pub fn offset(&self) -> Option<u64> {
        let module = self.books.modules.get(self.owner.module?)?.as_ref()?;
        Some(self.owner.call_site.wrapping_sub(module.bias))
    }

    /// Looks up the function that the call stands in, demangled.
    ///
    /// Slow: reads debug information, and keeps it in memory (unbooked).
    pub fn symbol(&self) -> Option<String> {
        let address = self.call_site()?.checked_sub(1)?;
        let mut name = core::unbooked(|| {
            let mut name: Option<String> = None;
            backtrace::resolve(address as *mut _, |symbol| {
                if name.is_none() {
                    name = symbol.name().map(|found| found.to_string());
                }
            });
            ManuallyDrop::new(name)
        });
        let booked = name.as_ref().cloned();
        // SAFETY: `name` is not used afterwards. It goes the way it came, unbooked.
        core::unbooked(|| unsafe { ManuallyDrop::drop(&mut name) });
        booked
    }
}

impl fmt::Debug for Owner<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Owner")
            .field("side", &self.side())
            .field("library", &self.library())
            .field("offset", &self.offset())
            .field("scope", &self.scope())
            .field("counts", &self.counts())
            .finish()
    }
}
