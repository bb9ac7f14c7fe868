//! Reads a whole ledger into owned books.
//!
//! A ledger may come from anybody, so every reference and every count in it is
//! checked, every walk is bounded, and what makes no sense is left out.

use std::collections::HashSet;

#[cfg(feature = "profile")]
use super::cleanups::{NotedCleanup, read_cleanups};
use super::layout::{self, Header, Module, Owner, Record, Slot, Text};
#[cfg(feature = "profile")]
use super::lifetimes::{EndedLives, read_lifetimes};
use super::pages::{Pages, page_reference, read, read_array};
#[cfg(feature = "profile")]
use super::samples::Samples;
use crate::counts::{Counts, Side};
use crate::error::{Error, Result};

/// Everything one ledger holds, summed over its threads.
pub(crate) struct Books {
    pub header: Header,
    pub exe: String,
    pub args: Vec<String>,
    /// Indexed by owner identifier; `None` where no complete owner stands.
    pub owners: Vec<Option<OwnerBooks>>,
    pub modules: Vec<Option<ModuleInfo>>,
    /// Indexed by scope identifier - 1.
    pub scopes: Vec<String>,
    pub threads: Vec<ThreadBooks>,
    pub sizes: [SizeCounts; 2],
    pub foreign_frees: u64,
    pub crossed_frees: u64,
    /// Clean-ups that the process drove by itself, the last ones.
    #[cfg(feature = "profile")]
    pub cleanups: Vec<NotedCleanup>,
    /// Sampled stacks, where its mode is to sample.
    #[cfg(feature = "profile")]
    pub samples: Option<Samples>,
    /// How long sampled blocks lived.
    #[cfg(feature = "profile")]
    pub lifetimes: Option<EndedLives>,
}

/// One owner and what it holds over all slots.
#[derive(Clone, Debug)]
pub(crate) struct OwnerBooks {
    pub kind: u32,
    pub side: Side,
    /// 0 = none.
    pub scope: u32,
    pub call_site: u64,
    /// Index into `Books::modules`.
    pub module: Option<usize>,
    /// The name that memory was charged to, for charges.
    pub charged: Option<String>,
    pub counts: Counts,
    /// Live (bytes, blocks) when the peak was last captured.
    pub at_peak: Option<(i64, i64)>,
}

/// A mapped object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModuleInfo {
    pub start: u64,
    pub end: u64,
    pub bias: u64,
    pub path: String,
    pub build_id: Vec<u8>,
}

/// Whose counters a row of `Books::threads` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ThreadKind {
    /// The thread `tid`, running or ended, whose slot nobody took over yet.
    Thread,
    /// All threads whose slots others took over.
    Ended,
    /// Threads that found no slot.
    Shared,
    /// What a forked parent had live.
    Inherited,
}

/// What was booked by one thread (or one group of them), by side.
#[derive(Clone, Debug)]
pub(crate) struct ThreadBooks {
    pub kind: ThreadKind,
    pub tid: u32,
    pub counts: [Counts; 2],
}

/// Requests of one side by size, in the layout's buckets.
#[derive(Clone, Debug)]
pub(crate) struct SizeCounts {
    pub buckets: Vec<u64>,
    pub longest: u64,
}

/// Reads only live bytes by side: cheap, for time series.
pub(crate) fn read_live_bytes(pages: &dyn Pages) -> Option<[i64; 2]> {
    let header = read_header(pages).ok()?;
    let mut live = [0i64; 2];
    walk_slots(&header, |page| {
        let head: SlotHead = SlotHead::read(pages, page)?;
        for (sum, flow) in live.iter_mut().zip(head.flow) {
            *sum = sum.wrapping_add(flow[0].wrapping_sub(flow[1]) as i64);
        }
        Some(head.next)
    });
    Some(live)
}

/// Reads what a forked process began with, of both sides; 0 for one that was not forked.
#[cfg(feature = "cli")]
pub(crate) fn read_inherited_bytes(pages: &dyn Pages) -> u64 {
    let Ok(header) = read_header(pages) else {
        return 0;
    };
    let mut inherited = 0i64;
    walk_slots(&header, |page| {
        let head = SlotHead::read(pages, page)?;
        if head.kind == layout::SLOT_INHERITED {
            for flow in head.flow {
                inherited = inherited.wrapping_add(flow[0].wrapping_sub(flow[1]) as i64);
            }
        }
        Some(head.next)
    });
    u64::try_from(inherited).unwrap_or(0)
}

/// The few words of a slot that a time series needs, without the 12 KiB around them.
struct SlotHead {
    kind: u32,
    next: u32,
    flow: [[u64; 2]; 2],
}

impl SlotHead {
    fn read(pages: &dyn Pages, page: u32) -> Option<SlotHead> {
        const NEXT: usize = std::mem::offset_of!(Slot, next);
        const KIND: usize = std::mem::offset_of!(Slot, kind);
        const { assert!(KIND == 4 && NEXT == 8 && std::mem::offset_of!(Slot, flow) == 16) };
        let mut first = [0u64; 6];
        pages.copy(page_reference(page), &mut first)?;
        let mut hot = [0u64; 4];
        pages.copy(
            page_reference(page) + std::mem::offset_of!(Slot, hot) as u64,
            &mut hot,
        )?;
        let sum = |base: usize, part: usize| first[base].wrapping_add(hot[part]);
        Some(SlotHead {
            kind: (first[0] >> 32) as u32,
            next: first[1] as u32,
            flow: [[sum(2, 0), sum(3, 2)], [sum(4, 1), sum(5, 3)]],
        })
    }
}

/// Reads and checks the header.
pub(crate) fn read_header(pages: &dyn Pages) -> Result<Header> {
    let mut first = [0u64; 3];
    pages.copy(0, &mut first).ok_or(Error::NotALedger)?;
    if first[0] != layout::MAGIC {
        return Err(Error::NotALedger);
    }
    let found = first[1] as u32;
    // A writer has its layout's number to write yet when it has only the magic.
    if found == 0 {
        return Err(Error::NotALedger);
    }
    if found != layout::LAYOUT {
        return Err(Error::Layout {
            found,
            expected: layout::LAYOUT,
        });
    }
    if (first[1] >> 32) as usize != layout::PAGE_BYTES || first[2] as u32 != layout::STATE_READY {
        return Err(Error::NotALedger);
    }
    read(pages, 0).ok_or(Error::NotALedger)
}

impl Books {
    /// Reads a ledger.
    ///
    /// # Errors
    /// [`Error::NotALedger`] and [`Error::Layout`].
    #[cfg(feature = "profile")]
    pub(crate) fn read(pages: &dyn Pages) -> Result<Books> {
        let mut books = Books::read_counts(pages)?;
        books.samples = Samples::read(pages, &books.header, books.modules.len());
        books.lifetimes = read_lifetimes(pages, &books.header);
        Ok(books)
    }

    /// Reads a ledger without its stacks.
    ///
    /// # Errors
    /// [`Error::NotALedger`] and [`Error::Layout`].
    pub(crate) fn read_counts(pages: &dyn Pages) -> Result<Books> {
        let mut books = Books::read_owners(pages)?;
        let header = books.header;
        // A page belongs to one slot: who claims more than there are is not worth the time.
        let mut pages_left = layout::MAX_PAGES as usize;
        walk_slots(&header, |page| {
            let slot: Slot = read(pages, page_reference(page))?;
            let claimed = slot.record_pages.iter().filter(|&&page| page != 0).count();
            pages_left = pages_left.checked_sub(claimed)?;
            books.add_slot(pages, &slot);
            Some(slot.next)
        });
        Ok(books)
    }

    /// Reads who the owners are, and nothing of what they hold.
    ///
    /// # Errors
    /// [`Error::NotALedger`] and [`Error::Layout`].
    pub(crate) fn read_owners(pages: &dyn Pages) -> Result<Books> {
        let header = read_header(pages)?;
        let mut books = Books {
            exe: read_text(pages, header.exe).unwrap_or_default(),
            args: split_args(&read_text(pages, header.args).unwrap_or_default()),
            modules: read_modules(pages, &header),
            scopes: read_scopes(pages, &header),
            owners: Vec::new(),
            threads: Vec::new(),
            sizes: [SizeCounts::empty(), SizeCounts::empty()],
            foreign_frees: 0,
            crossed_frees: 0,
            #[cfg(feature = "profile")]
            cleanups: read_cleanups(pages, 0),
            #[cfg(feature = "profile")]
            samples: None,
            #[cfg(feature = "profile")]
            lifetimes: None,
            header,
        };
        books.owners = read_owners(pages, &header, books.modules.len(), &books.scopes);
        Ok(books)
    }

    /// Gives a side's sum over the owners.
    pub(crate) fn side(&self, side: Side) -> Counts {
        self.owners
            .iter()
            .flatten()
            .filter(|owner| owner.side == side)
            .map(|owner| owner.counts)
            .sum()
    }

    fn add_slot(&mut self, pages: &dyn Pages, slot: &Slot) {
        let mut totals = [Counts::default(); 2];
        let count =
            (slot.record_count as usize).min(layout::RECORD_PAGES * layout::RECORDS_PER_PAGE);
        for (index, &record_page) in slot.record_pages.iter().enumerate() {
            let first = index * layout::RECORDS_PER_PAGE;
            if first >= count || record_page == 0 {
                continue;
            }
            let rows = (count - first).min(layout::RECORDS_PER_PAGE);
            let records = read_array::<Record>(pages, page_reference(record_page), rows);
            for record in records.into_iter().flatten() {
                self.add_record(&record, &mut totals);
            }
        }
        for (side, sizes) in self.sizes.iter_mut().enumerate() {
            sizes.add(&slot.sizes[side], slot.hot.longest[side]);
        }
        self.foreign_frees = self.foreign_frees.wrapping_add(slot.foreign_frees);
        self.crossed_frees = self.crossed_frees.wrapping_add(slot.crossed_frees);
        self.add_thread(slot, totals);
    }

    fn add_record(&mut self, record: &Record, totals: &mut [Counts; 2]) {
        let Some(Some(owner)) = self.owners.get_mut(record.owner as usize) else {
            return;
        };
        let requested_bytes = match owner.side {
            Side::C => record.requested_bytes,
            Side::Rust => record.allocated_bytes,
        };
        let counts = Counts::new(
            (record.allocated_bytes, record.allocated_blocks),
            (record.freed_bytes, record.freed_blocks),
            requested_bytes,
            record.reallocs,
        );
        owner.counts += counts;
        totals[owner.side.index()] += counts;
    }

    /// Splits a slot's totals into its present thread's and its earlier threads'.
    fn add_thread(&mut self, slot: &Slot, totals: [Counts; 2]) {
        let kind = match slot.kind {
            layout::SLOT_SHARED => ThreadKind::Shared,
            layout::SLOT_INHERITED => ThreadKind::Inherited,
            _ => ThreadKind::Thread,
        };
        let ended = slot.ended.map(|ended| {
            Counts::new(
                (ended.allocated_bytes, ended.allocated_blocks),
                (ended.freed_bytes, ended.freed_blocks),
                ended.requested_bytes,
                ended.reallocs,
            )
        });
        let own = [totals[0] - ended[0], totals[1] - ended[1]];
        let row = |kind, tid, counts| ThreadBooks { kind, tid, counts };
        if kind == ThreadKind::Thread || own.iter().any(|counts| !counts.is_untouched()) {
            self.threads.push(row(kind, slot.tid, own));
        }
        if ended.iter().any(|counts| !counts.is_untouched()) {
            match self
                .threads
                .iter_mut()
                .find(|thread| thread.kind == ThreadKind::Ended)
            {
                Some(row) => (0..2).for_each(|side| row.counts[side] += ended[side]),
                None => self.threads.push(row(ThreadKind::Ended, 0, ended)),
            }
        }
    }
}

impl SizeCounts {
    fn empty() -> SizeCounts {
        SizeCounts {
            buckets: vec![0; layout::SIZE_BUCKETS],
            longest: 0,
        }
    }

    fn add(&mut self, buckets: &[u64], longest: u64) {
        for (sum, count) in self.buckets.iter_mut().zip(buckets) {
            *sum = sum.wrapping_add(*count);
        }
        self.longest = self.longest.max(longest);
    }

    /// Gives the largest size that falls into a bucket.
    pub(crate) fn bucket_end(index: usize) -> u64 {
        let linear = (layout::LINEAR_SIZES >> layout::LINEAR_SHIFT) as usize;
        if index < linear {
            return ((index as u64 + 1) << layout::LINEAR_SHIFT) - 1;
        }
        let index = index - layout::LINEAR_EXTRA;
        let shift = (index >> (layout::SIZE_BITS - 1)) - 1;
        let low = ((index - (shift << (layout::SIZE_BITS - 1))) as u64) << shift;
        low + (1u64 << shift) - 1
    }
}

/// Visits the slots in chain order; `visit` gives the next page or ends the walk.
fn walk_slots(header: &Header, mut visit: impl FnMut(u32) -> Option<u32>) {
    let mut seen = HashSet::new();
    let mut page = header.first_slot;
    while page != 0 && page < layout::MAX_PAGES && seen.insert(page) {
        match visit(page) {
            Some(next) => page = next,
            None => return,
        }
    }
}

fn read_text(pages: &dyn Pages, text: Text) -> Option<String> {
    let bytes = text.bytes as usize;
    if text.reference == 0 || bytes > layout::PAGE_BYTES {
        return None;
    }
    let start = u64::from(text.reference) & !7;
    let skip = (u64::from(text.reference) - start) as usize;
    let mut words = vec![0u64; (skip + bytes).div_ceil(8)];
    pages.copy(start, &mut words)?;
    let all: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    Some(String::from_utf8_lossy(&all[skip..skip + bytes]).into_owned())
}

fn split_args(args: &str) -> Vec<String> {
    match args.strip_suffix('\0').unwrap_or(args) {
        "" => Vec::new(),
        args => args.split('\0').map(str::to_owned).collect(),
    }
}

fn read_modules(pages: &dyn Pages, header: &Header) -> Vec<Option<ModuleInfo>> {
    let count = (header.module_count as usize).min(layout::MODULE_PAGES * layout::MODULES_PER_PAGE);
    let rows = read_paged::<Module>(pages, &header.module_pages, layout::MODULES_PER_PAGE, count);
    rows.into_iter()
        .map(|row| {
            let module = row.filter(|module| module.ready != 0 && module.start < module.end)?;
            let id_bytes = (module.build_id_bytes as usize).min(layout::BUILD_ID_BYTES);
            Some(ModuleInfo {
                start: module.start,
                end: module.end,
                bias: module.bias,
                path: read_text(pages, module.path).unwrap_or_default(),
                build_id: module.build_id[..id_bytes].to_vec(),
            })
        })
        .collect()
}

fn read_scopes(pages: &dyn Pages, header: &Header) -> Vec<String> {
    let count = (header.scope_count as usize).min(layout::SCOPE_PAGES * layout::SCOPES_PER_PAGE);
    read_paged::<Text>(pages, &header.scope_pages, layout::SCOPES_PER_PAGE, count)
        .into_iter()
        .map(|text| {
            text.and_then(|text| read_text(pages, text))
                .unwrap_or_default()
        })
        .collect()
}

fn read_owners(
    pages: &dyn Pages,
    header: &Header,
    modules: usize,
    scopes: &[String],
) -> Vec<Option<OwnerBooks>> {
    let count = (header.owner_count as usize).min(layout::MAX_OWNERS as usize);
    let capture = header.peak_capture as usize;
    read_paged::<Owner>(pages, &header.owner_pages, layout::OWNERS_PER_PAGE, count)
        .into_iter()
        .map(|row| {
            let owner = row.filter(|owner| owner.kind != 0)?;
            let charged = (owner.kind == layout::OWNER_CHARGE).then(|| {
                let name = (owner.call_site as usize).wrapping_sub(1);
                scopes.get(name).cloned().unwrap_or_default()
            });
            Some(OwnerBooks {
                kind: owner.kind,
                side: Side::from_index((owner.tag >> 31) as usize),
                scope: owner.tag & 0x7fff_ffff,
                call_site: owner.call_site,
                module: (owner.module as usize)
                    .checked_sub(1)
                    .filter(|&index| index < modules),
                charged,
                counts: Counts::default(),
                at_peak: (1..=2).contains(&capture).then(|| {
                    (
                        owner.peak_bytes[capture - 1],
                        owner.peak_blocks[capture - 1],
                    )
                }),
            })
        })
        .collect()
}

/// Reads the first `count` rows of a table that lies in single pages; rows of
/// pages that are not there come back as `None`.
fn read_paged<T: layout::Mirror>(
    pages: &dyn Pages,
    table: &[u32],
    rows_per_page: usize,
    count: usize,
) -> Vec<Option<T>> {
    let mut rows = Vec::new();
    for &page in table {
        let wanted = (count - rows.len()).min(rows_per_page);
        if wanted == 0 {
            break;
        }
        let found = match page {
            0 => None,
            page => read_array::<T>(pages, page_reference(page), wanted),
        };
        match found {
            Some(found) => rows.extend(found.into_iter().map(Some)),
            None => rows.extend(std::iter::repeat_n(None, wanted)),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::layout::{MAGIC, SIZE_BUCKETS};

    /// A ledger in memory, as a file would hold it.
    struct Words(Vec<u64>);

    impl Pages for Words {
        fn copy(&self, reference: u64, out: &mut [u64]) -> Option<()> {
            let start = usize::try_from(reference / 8).ok()?;
            let end = start.checked_add(out.len())?;
            out.copy_from_slice(self.0.get(start..end)?);
            Some(())
        }
    }

    /// The ledger of this test process, with what has a scope and a charge in it.
    #[cfg(heapledger_core)]
    fn own_ledger() -> Words {
        use crate::alloc::Alloc;
        use std::alloc::{GlobalAlloc, Layout};

        let _scope = crate::Scope::enter("own ledger");
        let layout = Layout::from_size_align(100, 8).expect("a layout");
        // SAFETY: the size is not zero, and the block is freed with its layout.
        unsafe {
            let block = Alloc::system().alloc(layout);
            Alloc::system().dealloc(block, layout);
        }
        let mut words = vec![0u64; 64 * layout::PAGE_BYTES / 8];
        for page in words.chunks_mut(layout::PAGE_BYTES / 8).enumerate() {
            let (number, page) = page;
            if !crate::core::copy_words(page_reference(number as u32), page) {
                page.fill(0);
            }
        }
        Words(words)
    }

    #[cfg(heapledger_core)]
    #[test]
    fn this_process_s_own_ledger_is_read_whole() {
        let books = Books::read_counts(&own_ledger()).expect("a ledger");
        assert_eq!(books.header.pid, std::process::id());
        assert!(books.scopes.iter().any(|scope| scope == "own ledger"));
        let in_scope: Counts = books
            .owners
            .iter()
            .flatten()
            .filter(|owner| owner.scope != 0 && owner.side == Side::Rust)
            .map(|owner| owner.counts)
            .sum();
        assert!(in_scope.adds_up() && in_scope.allocated_bytes >= 100);
    }

    #[cfg(heapledger_core)]
    #[test]
    fn damaged_ledgers_are_read_or_refused_but_never_panic() {
        let whole = own_ledger();
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..2_000u64 {
            let mut words = whole.0.clone();
            for _ in 0..=random() % 64 {
                // Half of the damage goes to the header, which steers the rest.
                let room = if random().is_multiple_of(2) {
                    512
                } else {
                    words.len() as u64
                };
                let at = (random() % room) as usize;
                words[at] = match random() % 4 {
                    0 => u64::MAX,
                    1 => random() % 70,
                    2 => random(),
                    _ => 0,
                };
            }
            if round % 8 == 0 {
                words.truncate((random() % words.len() as u64) as usize);
            }
            let damaged = Words(words);
            let _ = read_live_bytes(&damaged);
            let _ = Books::read_counts(&damaged);
            #[cfg(feature = "profile")]
            let _ = Books::read(&damaged);
        }
    }

    #[test]
    fn what_is_not_a_ledger_is_refused() {
        assert!(matches!(
            Books::read_counts(&Words(vec![])),
            Err(Error::NotALedger)
        ));
        assert!(matches!(
            Books::read_counts(&Words(vec![7; 4096])),
            Err(Error::NotALedger)
        ));
        let next = layout::LAYOUT + 1;
        let newer = Words(vec![MAGIC, u64::from(next) | 4096 << 32, 1]);
        assert!(matches!(
            Books::read_counts(&newer),
            Err(Error::Layout { found, expected: layout::LAYOUT }) if found == next
        ));
    }

    #[test]
    fn size_buckets_end_where_the_next_begins() {
        assert_eq!(SizeCounts::bucket_end(0), 7);
        assert_eq!(SizeCounts::bucket_end(127), 1023);
        assert_eq!(SizeCounts::bucket_end(128), 1087);
        assert_eq!(SizeCounts::bucket_end(SIZE_BUCKETS - 1), (1 << 40) - 1);
        for index in 1..SIZE_BUCKETS {
            assert!(SizeCounts::bucket_end(index) > SizeCounts::bucket_end(index - 1));
        }
    }
}
