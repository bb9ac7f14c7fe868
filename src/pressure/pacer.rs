//! How much live bytes may grow before the next clean-up.

use super::limits::{Level, Room, percent};

/// The least budget, so that small programs are left in peace.
pub(super) const BUDGET_BYTES: u64 = 64 << 20;
/// A clean-up that frees less than this part is not worth its time,
pub(super) const INEFFECTIVE_PERCENT: u64 = 5;
/// and one that frees more than this part could come sooner.
const EFFECTIVE_PERCENT: u64 = 20;
/// Fruitless clean-ups thin out to one in so many budgets.
const MAX_BUDGETS: u32 = 10;
/// After so many in a row they are called ineffective.
const FRUITLESS_UNTIL_SAID: u32 = 2;

/// How a clean-up did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Ineffective,
    Fair,
    Effective,
}

impl Effect {
    pub fn of(before_bytes: u64, after_bytes: u64) -> Effect {
        let freed_bytes = before_bytes.saturating_sub(after_bytes);
        if freed_bytes < percent(before_bytes, INEFFECTIVE_PERCENT).max(1) {
            Effect::Ineffective
        } else if freed_bytes <= percent(before_bytes, EFFECTIVE_PERCENT) {
            Effect::Fair
        } else {
            Effect::Effective
        }
    }
}

/// Learns from each clean-up when the next one is worth it.
#[derive(Clone, Debug)]
pub(super) struct Pacer {
    ratio: f64,
    /// What was live when the last clean-up had settled.
    baseline_bytes: u64,
    /// How many budgets lie between two clean-ups.
    budgets: u32,
    fruitless: u32,
}

impl Pacer {
    /// `ratio` is the part of the baseline that may be added; what is no ratio counts as 1.
    pub fn new(ratio: f64, live_bytes: u64) -> Pacer {
        Pacer {
            ratio: if ratio >= 0.0 { ratio } else { 1.0 },
            baseline_bytes: live_bytes,
            budgets: 1,
            fruitless: 0,
        }
    }

    pub fn baseline_bytes(&self) -> u64 {
        self.baseline_bytes
    }

    pub fn budgets(&self) -> u32 {
        self.budgets
    }

    /// Tells whether clean-ups have come to nothing again and again.
    pub fn is_fruitless(&self) -> bool {
        self.fruitless >= FRUITLESS_UNTIL_SAID
    }

    /// The live bytes past which a clean-up is due.
    ///
    /// Above the last mark only growth can still trigger one, and the budget of a
    /// large baseline would lead past the limit: there the least budget counts.
    pub fn threshold_bytes(&self, room: Option<Room>) -> u64 {
        let is_above_marks =
            room.is_some_and(|room| self.baseline_bytes > room.mark_bytes(Level::Critical));
        let budget_bytes = if is_above_marks {
            BUDGET_BYTES
        } else {
            BUDGET_BYTES.max(self.proportional_bytes())
        };
        self.baseline_bytes
            .saturating_add(budget_bytes.saturating_mul(u64::from(self.budgets)))
    }

    /// The live bytes past which the limit asks once more, whatever marks are left.
    ///
    /// A clean-up that has not led back to calm leaves live bytes between the marks,
    /// or above the last: what grows there from then on is asked for after a level's
    /// band, as if it had passed a mark, and thins out with the budgets. Past the
    /// last mark no band is wider than the least budget. Above it, where nothing can
    /// be freed, growth alone counts.
    pub fn limit_threshold_bytes(&self, room: Room) -> u64 {
        let budgets = u64::from(self.budgets);
        let last_mark_bytes = room.mark_bytes(Level::Critical);
        let is_above_marks = self.baseline_bytes > last_mark_bytes;
        if is_above_marks && self.fruitless > 0 {
            return u64::MAX;
        }
        let past_marks_bytes = self
            .baseline_bytes
            .max(last_mark_bytes)
            .saturating_add(BUDGET_BYTES.saturating_mul(budgets));
        if self.baseline_bytes <= room.clear_bytes(Level::Moderate) {
            return past_marks_bytes; // the marks themselves are passed anew
        }
        let band_bytes = room.band_bytes(Level::Moderate).saturating_mul(budgets);
        past_marks_bytes.min(self.baseline_bytes.saturating_add(band_bytes))
    }

    fn proportional_bytes(&self) -> u64 {
        if self.ratio.is_infinite() {
            return u64::MAX; // no growth is too much
        }
        // A cast of what is too large gives the largest number.
        (self.baseline_bytes as f64 * self.ratio) as u64
    }

    pub fn settle_at(&mut self, live_bytes: u64) {
        self.baseline_bytes = live_bytes;
    }

    pub fn learn(&mut self, effect: Effect) {
        match effect {
            Effect::Ineffective => {
                self.budgets = (self.budgets * 2).min(MAX_BUDGETS);
                self.fruitless = self.fruitless.saturating_add(1);
            }
            Effect::Fair => self.fruitless = 0,
            Effect::Effective => {
                self.budgets = (self.budgets / 2).max(1);
                self.fruitless = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cycle::Trigger;
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_budget_is_the_baseline_and_at_least_64_mib() {
        assert_eq!(Pacer::new(1.0, 0).threshold_bytes(None), 64 * MIB);
        assert_eq!(Pacer::new(1.0, 10 * MIB).threshold_bytes(None), 74 * MIB);
        assert_eq!(Pacer::new(1.0, 100 * MIB).threshold_bytes(None), 200 * MIB);
        assert_eq!(
            Pacer::new(0.5, 1000 * MIB).threshold_bytes(None),
            1500 * MIB
        );
    }

    #[test]
    fn odd_ratios_mean_something() {
        assert_eq!(
            Pacer::new(f64::NAN, 100 * MIB).threshold_bytes(None),
            200 * MIB
        );
        assert_eq!(Pacer::new(-3.0, 100 * MIB).threshold_bytes(None), 200 * MIB);
        assert_eq!(Pacer::new(0.0, 100 * MIB).threshold_bytes(None), 164 * MIB);
        assert_eq!(Pacer::new(f64::INFINITY, 0).threshold_bytes(None), u64::MAX);
        assert_eq!(Pacer::new(1e300, 1).threshold_bytes(None), u64::MAX);
    }

    #[test]
    fn above_the_marks_the_least_budget_counts() {
        let room = |bytes| {
            Some(Room {
                bytes,
                set_by: Trigger::SoftLimit,
            })
        };
        let mut pacer = Pacer::new(1.0, 1000 * MIB);
        assert_eq!(pacer.threshold_bytes(room(2000 * MIB)), 2000 * MIB);
        assert_eq!(pacer.threshold_bytes(room(900 * MIB)), 1064 * MIB);
        pacer.learn(Effect::Ineffective);
        assert_eq!(pacer.threshold_bytes(room(900 * MIB)), 1128 * MIB);
    }

    #[test]
    fn what_helps_is_asked_more_often_and_what_does_not_less() {
        let mut pacer = Pacer::new(1.0, 0);
        let mut after = |before: u64, after: u64| {
            pacer.learn(Effect::of(before, after));
            (pacer.budgets(), pacer.is_fruitless())
        };
        assert_eq!(after(100, 96), (2, false));
        assert_eq!(after(100, 130), (4, true));
        assert_eq!(after(100, 90), (4, false), "between 5 and 20 %");
        assert_eq!([after(100, 100), after(100, 100)], [(8, false), (10, true)]);
        assert_eq!(after(100, 100), (10, true));
        assert_eq!(
            [after(100, 70).0, after(100, 70).0, after(100, 70).0],
            [5, 2, 1]
        );
        assert_eq!(after(100, 0), (1, false));
    }

    #[test]
    fn the_bounds_of_an_effect_are_the_designs() {
        assert_eq!(Effect::of(1000, 951), Effect::Ineffective);
        assert_eq!(Effect::of(1000, 950), Effect::Fair);
        assert_eq!(Effect::of(1000, 800), Effect::Fair);
        assert_eq!(Effect::of(1000, 799), Effect::Effective);
        assert_eq!(Effect::of(0, 0), Effect::Ineffective);
        assert_eq!(Effect::of(u64::MAX, 0), Effect::Effective);
    }
}
