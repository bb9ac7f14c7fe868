//! The clean-ups of one process or of several, summed up.

use std::collections::BTreeMap;

use crate::recording::model::{Pressure, PressureEvent};

/// Kinds of notes that are told apart; there are a few, and a recording may come from anybody.
const MAX_NOTES: usize = 64;
/// A claim below this is not worth a quarrel: live bytes move in quanta of this size.
const QUANTUM_BYTES: u64 = 64 << 10;

/// What became of clean-ups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleanups {
    /// How many there were.
    pub cycles: u64,
    /// What came free in them, by the ledger.
    pub freed_bytes: u64,
    /// Those that are known in full, by what triggered them.
    pub by_trigger: BTreeMap<&'static str, u64>,
    /// Of these, those whose reclaimers say far more than came free.
    pub contradicted: u64,
    /// What is to be known, and of how many processes.
    pub notes: BTreeMap<String, u64>,
}

impl Cleanups {
    /// Adds a process.
    pub fn add(&mut self, pressure: &Pressure) {
        self.cycles = self.cycles.saturating_add(pressure.cycles);
        self.freed_bytes = self.freed_bytes.saturating_add(pressure.freed_bytes);
        for event in &pressure.events {
            *self.by_trigger.entry(event.trigger.name()).or_default() += 1;
            self.contradicted += u64::from(is_contradicted(event));
        }
        for note in &pressure.notes {
            if self.notes.len() < MAX_NOTES || self.notes.contains_key(note) {
                *self.notes.entry(note.clone()).or_default() += 1;
            }
        }
    }

    /// Gives how many clean-ups are known in full.
    pub fn known(&self) -> u64 {
        self.by_trigger.values().sum()
    }
}

/// Tells whether the ledger contradicts what reclaimers say: not half of it came free.
pub fn is_contradicted(event: &PressureEvent) -> bool {
    let claimed_bytes = event.claimed_bytes.unwrap_or(0);
    event.is_complete && claimed_bytes > QUANTUM_BYTES && event.freed_bytes < claimed_bytes / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::fixture;

    #[test]
    fn sums_and_notes_of_processes_are_put_together() {
        let pressure = fixture::cleanups();
        let mut sum = Cleanups::default();
        sum.add(&pressure);
        sum.add(&pressure);
        assert_eq!((sum.cycles, sum.known()), (10, 6));
        assert_eq!(sum.freed_bytes, 2 * pressure.freed_bytes);
        assert_eq!(sum.by_trigger["growth"], 2);
        assert_eq!(sum.contradicted, 2);
        assert_eq!(sum.notes["helper: slow"], 2);
    }
}
