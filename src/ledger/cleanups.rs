//! Reads the clean-ups that a process has noted in its ledger.
//!
//! The page is written while it is read, and may come from anybody: an entry
//! counts if its number is the same before and after the copy, belongs to its
//! place, and what it says is known.

use std::mem::offset_of;
use std::sync::atomic::{Ordering::Acquire, fence};

use super::layout::{self, Answers, CLEANUPS, Cleanup, CleanupCall, Header};
use super::pages::{Pages, page_reference, read, read_array};

/// A clean-up as its process noted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotedCleanup {
    /// Counts from 1 in this ledger.
    pub number: u64,
    /// CLOCK_MONOTONIC.
    pub started_mono_ns: u64,
    pub took_ns: u64,
    pub settle_ns: u64,
    pub before_bytes: u64,
    /// By the ledger.
    pub freed_bytes: u64,
    /// By all reclaimers that can tell, those too that are not in `calls`.
    pub claimed_bytes: Option<u64>,
    pub target_bytes: u64,
    /// A `TRIGGER_` of the layout.
    pub trigger: u32,
    /// 0 calm to 3 critical.
    pub level: u32,
    /// Reclaimers that were called.
    pub called: u32,
    /// Those that claimed most, in the order of their calls.
    pub calls: Vec<NotedCall>,
}

/// What one reclaimer did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotedCall {
    /// Without control characters, at most 23 bytes of UTF-8.
    pub name: String,
    /// `None` where it cannot tell.
    pub claimed_bytes: Option<u64>,
    pub took_us: u32,
    /// An `ENDING_` of the layout; `ENDING_NONE` while the call is under way.
    pub ending: u32,
}

/// Gives the clean-ups later than number `seen` that are still there, the oldest first.
///
/// Where the ring has turned, numbers are missing: what lies between `seen` and the
/// first one given is lost.
pub(crate) fn read_cleanups(pages: &dyn Pages, seen: u64) -> Vec<NotedCleanup> {
    let pressure = offset_of!(Header, pressure) as u64;
    let words: Option<layout::Pressure> = read(pages, pressure);
    let page = words.map_or(0, |words| words.history);
    if page == 0 || page >= layout::MAX_PAGES {
        return Vec::new();
    }
    let copies = read_array::<Cleanup>(pages, page_reference(page), CLEANUPS);
    fence(Acquire); // what the first copy saw of an entry comes before its number in the second
    let again = read_array::<Cleanup>(pages, page_reference(page), CLEANUPS);
    let (Some(copies), Some(again)) = (copies, again) else {
        return Vec::new();
    };
    let mut found: Vec<NotedCleanup> = copies
        .iter()
        .zip(again)
        .enumerate()
        .filter(|(place, (first, second))| {
            first.number == second.number
                && first.number > seen
                && (first.number - 1) % CLEANUPS as u64 == *place as u64
        })
        .filter_map(|(_, (first, _))| noted(first))
        .collect();
    found.sort_by_key(|cleanup| cleanup.number);
    found
}

/// `None` where it says what this version does not know.
fn noted(cleanup: &Cleanup) -> Option<NotedCleanup> {
    let triggers = layout::TRIGGER_GROWTH..=layout::TRIGGER_ASKED;
    if !triggers.contains(&cleanup.trigger) || cleanup.level > 3 {
        return None;
    }
    let there = (cleanup.called as usize).min(layout::CLEANUP_CALLS);
    Some(NotedCleanup {
        number: cleanup.number,
        started_mono_ns: cleanup.started_mono_ns,
        took_ns: cleanup.took_ns,
        settle_ns: cleanup.settle_ns,
        before_bytes: cleanup.before_bytes,
        freed_bytes: cleanup.freed_bytes,
        claimed_bytes: known(cleanup.claimed_bytes),
        target_bytes: cleanup.target_bytes,
        trigger: cleanup.trigger,
        level: cleanup.level,
        called: cleanup.called,
        calls: cleanup.calls[..there].iter().filter_map(called).collect(),
    })
}

/// Gives what the process's helper has done in a request so far, in its order; nothing
/// where the page is about another one.
pub(crate) fn read_answers(pages: &dyn Pages, request: u32) -> Vec<NotedCall> {
    let pressure = offset_of!(Header, pressure) as u64;
    let words: Option<layout::Pressure> = read(pages, pressure);
    let page = words.map_or(0, |words| words.answers);
    if page == 0 || page >= layout::MAX_PAGES {
        return Vec::new();
    }
    let answers: Option<Answers> = read(pages, page_reference(page));
    let Some(answers) = answers.filter(|answers| answers.request == request) else {
        return Vec::new();
    };
    let there = (answers.count as usize).min(layout::ANSWERS);
    answers.calls[..there].iter().filter_map(called).collect()
}

fn called(call: &CleanupCall) -> Option<NotedCall> {
    let endings = layout::ENDING_NONE..=layout::ENDING_LATE;
    let name = call.name.split(|byte| *byte == 0).next()?;
    let name = String::from_utf8_lossy(name).replace(char::is_control, "?");
    endings.contains(&call.ending).then_some(NotedCall {
        name,
        claimed_bytes: known(call.claimed_bytes),
        took_us: call.took_us,
        ending: call.ending,
    })
}

fn known(claimed_bytes: u64) -> Option<u64> {
    (claimed_bytes != layout::CLAIM_UNKNOWN).then_some(claimed_bytes)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::*;

    const HISTORY: usize = offset_of!(Header, pressure) + offset_of!(layout::Pressure, history);
    const PAGE: u32 = 1;

    /// A ledger of two pages; the second may change between two copies.
    struct Ledger {
        words: RefCell<Vec<u64>>,
        between: fn(&mut [u64]),
    }

    impl Ledger {
        fn new(between: fn(&mut [u64])) -> Ledger {
            let mut words = vec![0u64; 2 * layout::PAGE_BYTES / 8];
            words[HISTORY / 8] |= u64::from(PAGE) << (HISTORY % 8 * 8);
            Ledger {
                words: RefCell::new(words),
                between,
            }
        }

        fn note(&self, number: u64, change: impl FnOnce(&mut Cleanup)) {
            let mut cleanup = Cleanup {
                number,
                before_bytes: 100 * number,
                freed_bytes: number,
                trigger: layout::TRIGGER_GROWTH,
                level: 1,
                ..Cleanup::default()
            };
            change(&mut cleanup);
            const WORDS: usize = size_of::<Cleanup>() / 8;
            // SAFETY: a mirror is made of integers, without padding (the C side's assertion of its size).
            let from: [u64; WORDS] = unsafe { std::mem::transmute(cleanup) };
            let place = layout::PAGE_BYTES / 8 + (number as usize - 1) % CLEANUPS * WORDS;
            self.words.borrow_mut()[place..place + WORDS].copy_from_slice(&from);
        }

        fn numbers(&self, seen: u64) -> Vec<u64> {
            let found = read_cleanups(self, seen);
            found.iter().map(|cleanup| cleanup.number).collect()
        }
    }

    impl Pages for Ledger {
        fn copy(&self, reference: u64, out: &mut [u64]) -> Option<()> {
            let first = reference as usize / 8;
            let mut words = self.words.borrow_mut();
            out.copy_from_slice(words.get(first..first.checked_add(out.len())?)?);
            if reference == page_reference(PAGE) {
                (self.between)(&mut words[layout::PAGE_BYTES / 8..]);
            }
            Some(())
        }
    }

    #[test]
    fn the_last_sixteen_come_in_order_and_only_those_not_seen() {
        let ledger = Ledger::new(|_| ());
        assert_eq!(ledger.numbers(0), [0u64; 0]);
        (1..=20).for_each(|number| ledger.note(number, |_| ()));
        assert_eq!(ledger.numbers(0), (5..=20).collect::<Vec<_>>());
        assert_eq!(ledger.numbers(18), [19, 20]);
        assert_eq!(ledger.numbers(20), [0u64; 0]);
        assert_eq!(read_cleanups(&ledger, 19)[0].before_bytes, 2000);
    }

    #[test]
    fn an_entry_that_is_written_meanwhile_is_left_out() {
        let ledger = Ledger::new(|page| page[0] = 0);
        ledger.note(1, |_| ());
        ledger.note(2, |_| ());
        assert_eq!(ledger.numbers(0), [2]);
    }

    #[test]
    fn names_and_calls_are_cut_to_what_is_there() {
        let ledger = Ledger::new(|_| ());
        let mut call = CleanupCall {
            claimed_bytes: layout::CLAIM_UNKNOWN,
            took_us: 8,
            ending: layout::ENDING_PANICKED,
            name: [b'x'; layout::CLEANUP_NAME_BYTES],
        };
        call.name[1] = b'\n';
        ledger.note(1, |cleanup| {
            cleanup.called = 9;
            cleanup.calls = [call; layout::CLEANUP_CALLS];
            cleanup.calls[1].ending = 77;
            cleanup.calls[2].name[1] = 0;
        });
        let found = read_cleanups(&ledger, 0).remove(0);
        let names: Vec<_> = found.calls.iter().map(|call| call.name.as_str()).collect();
        let long = format!("x?{}", "x".repeat(22));
        assert_eq!(names, [long.as_str(), "x", long.as_str()]);
        assert_eq!((found.called, found.calls[0].took_us), (9, 8));
        assert_eq!(
            (found.claimed_bytes, found.calls[0].claimed_bytes),
            (Some(0), None)
        );
    }

    #[test]
    fn answers_are_those_of_the_request_and_may_be_under_way() {
        let ledger = Ledger::new(|_| ());
        let answers = offset_of!(Header, pressure) + offset_of!(layout::Pressure, answers);
        let mut words = ledger.words.borrow_mut();
        words[answers / 8] |= u64::from(PAGE) << (answers % 8 * 8);
        let page = layout::PAGE_BYTES / 8;
        words[page] = 7 | 2 << 32; // request 7, two calls
        words[page + 2] = 300; // of the first: claimed
        words[page + 3] = 40 | u64::from(layout::ENDING_RETURNED) << 32;
        words[page + 4] = u64::from_le_bytes(*b"frames\0\0");
        words[page + 9] = u64::from_le_bytes(*b"python\0\0");
        drop(words);
        let call = |name: &str, claimed_bytes, took_us, ending| NotedCall {
            name: name.to_owned(),
            claimed_bytes,
            took_us,
            ending,
        };
        let expected = [
            call("frames", Some(300), 40, layout::ENDING_RETURNED),
            call("python", Some(0), 0, layout::ENDING_NONE),
        ];
        assert_eq!(read_answers(&ledger, 7), expected);
        assert_eq!(read_answers(&ledger, 8), []);
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let ledger = Ledger::new(|_| ());
        ledger.note(1, |cleanup| cleanup.trigger = 0);
        ledger.note(2, |cleanup| cleanup.level = 4);
        ledger.note(3, |cleanup| cleanup.number = 5); // in another's place
        ledger.note(4, |_| ());
        assert_eq!(ledger.numbers(0), [4]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_survived(
            words in prop::collection::vec(any::<u64>(), 1024),
            history in prop_oneof![any::<u32>(), Just(1u32)],
            seen: u64,
        ) {
            let ledger = Ledger { words: RefCell::new(words), between: |_| () };
            let mut all = ledger.words.borrow_mut();
            all[HISTORY / 8] = u64::from(history) << (HISTORY % 8 * 8);
            drop(all);
            let answers = offset_of!(Header, pressure) + offset_of!(layout::Pressure, answers);
            ledger.words.borrow_mut()[answers / 8] |= u64::from(PAGE) << (answers % 8 * 8);
            prop_assert!(read_answers(&ledger, seen as u32).len() <= layout::ANSWERS);
            let found = read_cleanups(&ledger, seen);
            prop_assert!(found.len() <= CLEANUPS);
            prop_assert!(found.iter().all(|cleanup| cleanup.number > seen && cleanup.calls.len() <= 4));
        }
    }
}
