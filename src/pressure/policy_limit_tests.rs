//! What must hold where clean-ups do not lead back to calm: the limit asks again, in reach.

use super::super::simulation::{MIB, Reclaimers, Simulation, USELESS};
use super::tests::soft;
use super::*;

/// A cache is empty or nearly so when it is first asked, and holds half of what is live from then on.
#[test]
fn a_cleanup_that_came_too_early_does_not_disarm_the_limit() {
    // Mark by mark and nothing freed; past all marks at once, and freed what counts but does not
    // lead back to calm.
    for (first_bytes, freed_percent) in [(64 << 10, 0), (21 * MIB as i64, 7)] {
        let early = Reclaimers {
            freed_percent,
            ..USELESS
        };
        let mut simulation = Simulation::new(soft(128 * MIB), early, 60 * MIB);
        while simulation.started.is_empty() {
            simulation.turn(first_bytes);
        }
        while simulation.records.is_empty() {
            simulation.turn(64 << 10);
        }
        simulation.reclaimers.freed_percent = 50;
        simulation.turns(10_000, 64 << 10);
        assert!(
            simulation.peak_bytes <= 160 * MIB,
            "{freed_percent} %: {} MiB at the peak",
            simulation.peak_bytes / MIB
        );
    }
}

#[test]
fn a_cleanup_that_only_keeps_pace_with_the_program_is_no_ineffective_one() {
    let keeps_pace = Reclaimers {
        freed_percent: 8,
        ..USELESS
    };
    let mut simulation = Simulation::new(soft(1000 * MIB), keeps_pace, 790 * MIB);
    while simulation.records.is_empty() {
        simulation.turn(3 * MIB as i64);
    }
    let record = &simulation.records[0];
    assert!(
        record.after_bytes + 10 * MIB > record.before_bytes,
        "{record:?}"
    );
    assert!(record.freed_bytes > record.before_bytes / 20, "{record:?}");
    assert!(record.settle_ms <= 25, "nothing to hope for: {record:?}");
    // One budget, a level's band, and not two.
    assert_eq!(
        simulation.decision.armed_bytes,
        (record.after_bytes + 50 * MIB).min(900 * MIB)
    );
}

#[test]
fn what_grows_past_the_last_mark_is_asked_for_by_the_limit() {
    let some = Reclaimers {
        freed_percent: 6,
        ..USELESS
    };
    let mut simulation = Simulation::new(soft(1000 * MIB), some, 960 * MIB);
    simulation.turns(2_000, 0);
    // 6 % of 960 MiB are free: still critical, and below its mark.
    let after_bytes = simulation.records[0].after_bytes;
    assert_eq!(simulation.decision.level, Level::Critical);
    assert_eq!(simulation.decision.armed_bytes, after_bytes + 50 * MIB);
    simulation.turns(60, MIB as i64);
    assert_eq!(
        simulation.triggers()[1..],
        [(Trigger::SoftLimit, Level::Critical)]
    );
}

/// 3 GiB a second, of which a collector finds all in a few milliseconds.
#[test]
fn a_program_that_is_faster_than_any_pause_keeps_near_its_limit() {
    let collector = Reclaimers {
        round_ms: 4,
        freed_percent: 100,
        ..USELESS
    };
    let mut simulation = Simulation::new(soft(256 * MIB), collector, 0);
    simulation.turns(10_000, 3 * MIB as i64);
    // The last mark, at 95 %, and what is allocated until the collector has answered.
    assert_eq!(simulation.peak_bytes / MIB, 258);
}
