//! In which order reclaimers are called, and how each has behaved so far.

use std::time::Duration;

/// A reclaimer that takes longer for one call is slow.
pub const RECLAIM_DEADLINE: Duration = Duration::from_secs(1);
/// After so many panics a reclaimer is not called any more.
const MAX_PANICS: u32 = 3;

/// What a reclaimer costs, and so when it has its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Priority {
    /// A cache: cheap to empty. First.
    Cache = 0,
    /// A host runtime's collector, which may free what caches let go.
    Host = 1,
    /// The allocator's own purge: once live bytes have settled.
    Allocator = 2,
}

/// How a call of a reclaimer went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It returned.
    Returned,
    /// It panicked, and that was caught.
    Panicked,
}

/// What is to be said about a reclaimer, each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remark {
    /// It did not return in time. It goes on being called, behind its like.
    Slow,
    /// It panicked too often and is not called any more.
    Disabled,
}

/// How one reclaimer has behaved so far.
///
/// ```
/// use std::time::Duration;
/// use heapledger::pressure::reclaimers::{Outcome, Priority, Remark, Standing};
///
/// let mut cache = Standing::new(Priority::Cache, 0);
/// let mut other = Standing::new(Priority::Cache, 1);
/// assert!(cache.turn() < other.turn());
/// assert_eq!(cache.called(Outcome::Returned, Duration::from_secs(3)), Some(Remark::Slow));
/// assert!(other.turn() < cache.turn());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    priority: Priority,
    registration: u64,
    panics: u32,
    is_slow: bool,
}

impl Standing {
    /// A reclaimer nothing is known of. `registration` counts up.
    pub fn new(priority: Priority, registration: u64) -> Standing {
        Standing {
            priority,
            registration,
            panics: 0,
            is_slow: false,
        }
    }

    /// What reclaimers are sorted by: priority, then the slow behind the others,
    /// then as they were registered.
    pub fn turn(&self) -> (Priority, bool, u64) {
        (self.priority, self.is_slow, self.registration)
    }

    /// Tells whether it is still called.
    pub fn is_enabled(&self) -> bool {
        self.panics < MAX_PANICS
    }

    /// Tells whether a call ever went past the deadline.
    pub fn is_slow(&self) -> bool {
        self.is_slow
    }

    /// Books a call; gives what is to be said now.
    pub fn called(&mut self, outcome: Outcome, took: Duration) -> Option<Remark> {
        if outcome == Outcome::Panicked && self.is_enabled() {
            self.panics += 1;
            if !self.is_enabled() {
                return Some(Remark::Disabled);
            }
        }
        if took > RECLAIM_DEADLINE && !self.is_slow {
            self.is_slow = true;
            return Some(Remark::Slow);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_come_first_and_the_slow_last_among_their_like() {
        let mut all = [
            Standing::new(Priority::Allocator, 0),
            Standing::new(Priority::Host, 1),
            Standing::new(Priority::Cache, 2),
            Standing::new(Priority::Cache, 3),
        ];
        assert_eq!(
            all[2].called(Outcome::Returned, Duration::from_secs(2)),
            Some(Remark::Slow)
        );
        assert_eq!(all[2].called(Outcome::Returned, Duration::MAX), None);
        assert!(all[2].is_enabled(), "slow ones go on being called");
        all.sort_by_key(Standing::turn);
        let order = all.map(|standing| standing.registration);
        assert_eq!(order, [3, 2, 1, 0]);
    }

    #[test]
    fn the_third_panic_disables_and_that_is_said_once() {
        let mut standing = Standing::new(Priority::Host, 0);
        let mut panics = || standing.called(Outcome::Panicked, Duration::ZERO);
        assert_eq!([panics(), panics()], [None, None]);
        assert_eq!([panics(), panics()], [Some(Remark::Disabled), None]);
        assert!(!standing.is_enabled());
    }

    #[test]
    fn a_call_that_returned_forgives_no_panic() {
        let mut standing = Standing::new(Priority::Host, 0);
        for outcome in [Outcome::Panicked, Outcome::Returned, Outcome::Panicked] {
            assert_eq!(standing.called(outcome, Duration::ZERO), None);
        }
        assert_eq!(
            standing.called(Outcome::Panicked, Duration::ZERO),
            Some(Remark::Disabled)
        );
    }
}
