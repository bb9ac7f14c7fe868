//! Waits until what a clean-up freed has really come free.
//!
//! Finalizers run after the collector's call has returned: Go freed four times
//! more 20 ms later, a JVM 240 MB 100 ms later. Who measures at once believes
//! that collecting does not help.

use std::time::Duration;

use super::limits::percent;

/// How often live bytes are sampled.
pub(super) const SAMPLE_EVERY: Duration = Duration::from_millis(5);
/// How long nothing more must come free.
const FLAT: Duration = Duration::from_millis(20);
/// How long it may take at most.
const AT_MOST: Duration = Duration::from_millis(250);
/// Published live bytes move in quanta of this size.
const QUANTUM_BYTES: u64 = 64 << 10;

/// Live bytes on their way down.
///
/// Flat means that they fall no further. A program that allocates all the while
/// never stands still, and waiting for it would only dilute what came free.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settling {
    began: Duration,
    lowest_bytes: u64,
    /// The lowest that counts as a fall: what lies less below it is noise.
    flat_bytes: u64,
    flat_since: Duration,
}

impl Settling {
    pub fn begin(now: Duration, live_bytes: u64) -> Settling {
        Settling {
            began: now,
            lowest_bytes: live_bytes,
            flat_bytes: live_bytes,
            flat_since: now,
        }
    }

    /// Gives the fewest live bytes of all samples.
    ///
    /// What came free is told from these. A program that allocates as fast as its
    /// reclaimers free has as much as before when it has settled, and would never
    /// be cleaned up again for lack of an effect.
    pub fn lowest_bytes(&self) -> u64 {
        self.lowest_bytes
    }

    /// Takes a sample; gives how long it took once it is settled.
    ///
    /// While next to nothing has come free, a late finalizer is still hoped for
    /// to the end: nobody is called ineffective for being slow.
    pub fn sample(
        &mut self,
        now: Duration,
        live_bytes: u64,
        freed_enough: bool,
    ) -> Option<Duration> {
        self.lowest_bytes = self.lowest_bytes.min(live_bytes);
        let noise_bytes = QUANTUM_BYTES.max(percent(self.flat_bytes, 1) / 10);
        if live_bytes < self.flat_bytes.saturating_sub(noise_bytes) {
            self.flat_bytes = live_bytes;
            self.flat_since = now;
        }
        let took = now.saturating_sub(self.began);
        let is_flat = now.saturating_sub(self.flat_since) >= FLAT;
        (took >= AT_MOST || is_flat && freed_enough).then_some(took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Milliseconds until live bytes that follow `live` are settled.
    fn settled_after_ms(freed_enough: bool, live: impl Fn(u64) -> u64) -> u128 {
        let mut settling = Settling::begin(Duration::ZERO, live(0));
        (5..)
            .step_by(5)
            .find_map(|ms| settling.sample(Duration::from_millis(ms), live(ms), freed_enough))
            .map(|took| took.as_millis())
            .expect("it ends")
    }

    #[test]
    fn what_stands_still_is_settled_after_20_ms() {
        assert_eq!(settled_after_ms(true, |_| 100 * MIB), 20);
    }

    #[test]
    fn late_finalizers_are_waited_for() {
        assert_eq!(settled_after_ms(true, |ms| (100 - ms.min(60)) * MIB), 80);
    }

    #[test]
    fn what_keeps_falling_is_cut_off() {
        assert_eq!(settled_after_ms(true, |ms| (1000 - ms) * MIB), 250);
    }

    #[test]
    fn allocations_meanwhile_do_not_prolong_it() {
        assert_eq!(settled_after_ms(true, |ms| (100 + ms) * MIB), 20);
    }

    #[test]
    fn nothing_freed_is_believed_only_at_the_end() {
        assert_eq!(settled_after_ms(false, |_| 100 * MIB), 250);
    }
}
