//! What must hold of the policy: each case of the design, then anything at all.

use proptest::prelude::*;

use super::super::limits::{GroupMemory, Limits};
use super::super::pacer::BUDGET_BYTES;
use super::super::simulation::{MIB, Reclaimers, Simulation, USELESS, ms};
use super::*;

pub(super) fn soft(bytes: u64) -> Limits {
    Limits {
        soft_bytes: Some(bytes),
        ..Limits::default()
    }
}

// ---- what must hold ----

#[test]
fn useless_reclaimers_are_called_once_in_ten_budgets_and_that_is_said_once() {
    let mut simulation = Simulation::new(Limits::default(), USELESS, 0);
    simulation.turns(200_000, 64 << 10);
    simulation.turns(130_000, MIB as i64);
    let starts: Vec<u64> = simulation
        .started
        .iter()
        .map(|cycle| cycle.before_bytes / MIB)
        .collect();
    // 64, then baselines times 1 + 2, 4, 8, 10; what came meanwhile is on top.
    assert_eq!(starts.len(), 5, "{starts:?}");
    assert!(starts[4] >= 11 * starts[3], "{starts:?}");
    assert_eq!(simulation.notes, [Note::Ineffective]);
    assert_eq!(simulation.records[0].claimed_bytes(), MIB);
    assert_eq!(simulation.records[0].freed_bytes, 0, "a claim is no truth");
}

#[test]
fn useless_reclaimers_thin_out_where_live_bytes_swing_around_a_mark() {
    let mut simulation = Simulation::new(soft(1000 * MIB), USELESS, 700 * MIB);
    let mut cycles = Vec::new();
    for _ in 0..60 {
        simulation.turns(150, MIB as i64);
        simulation.turns(1_000, 0);
        simulation.turns(150, -(MIB as i64));
        simulation.turns(1_000, 0);
        cycles.push(simulation.started.len());
    }
    assert_eq!(
        simulation
            .levels
            .iter()
            .filter(|level| **level == Level::Calm)
            .count(),
        60
    );
    let late = cycles[59] - cycles[29];
    assert_eq!(late, 3, "30 rises, one cycle in ten: {cycles:?}");
}

#[test]
fn useful_reclaimers_keep_their_budget() {
    let useful = Reclaimers {
        freed_percent: 90,
        late_ms: 30,
        ..USELESS
    };
    let mut simulation = Simulation::new(Limits::default(), useful, 0);
    simulation.turns(40_000, 100 << 10);
    assert!(simulation.records.len() > 20);
    for record in &simulation.records {
        assert!(record.freed_bytes > record.before_bytes / 2, "{record:?}");
        assert!(record.before_bytes < 200 * MIB, "{record:?}");
        assert!(
            (30..=250).contains(&record.settle_ms),
            "late frees are seen: {record:?}"
        );
    }
    assert_eq!(simulation.notes, []);
}

#[test]
fn frees_a_tenth_of_a_second_late_are_counted() {
    let late = Reclaimers {
        freed_percent: 80,
        late_ms: 100,
        ..USELESS
    };
    let mut simulation = Simulation::new(Limits::default(), late, 0);
    simulation.turns(65, MIB as i64);
    simulation.turns(400, 0);
    assert!(simulation.records[0].freed_bytes > 50 * MIB);
    assert!((100..=130).contains(&simulation.records[0].settle_ms));
}

#[test]
fn what_reclaimers_allocate_never_starts_the_next_cycle() {
    let greedy = Reclaimers {
        allocated_bytes: 300 * MIB,
        ..USELESS
    };
    for limits in [Limits::default(), soft(310 * MIB)] {
        let mut simulation = Simulation::new(limits, greedy, 0);
        simulation.step(Event::Asked { target_bytes: 0 });
        simulation.turns(60_000, 0);
        assert_eq!(simulation.triggers(), [(Trigger::Asked, Level::Moderate)]);
        assert_eq!(simulation.records[0].after_bytes, 300 * MIB);
    }
}

#[test]
fn a_thousand_crossings_are_one_cycle() {
    let mut simulation = Simulation::new(Limits::default(), USELESS, 0);
    simulation.readings.live_bytes = 100 * MIB;
    for _ in 0..1000 {
        simulation.step(Event::Crossed);
    }
    assert_eq!(simulation.started.len(), 1);
    assert_eq!(simulation.decision.armed_bytes, NOT_ARMED);
    simulation.turns(10_000, 0);
    assert_eq!(simulation.records.len(), 1);
}

#[test]
fn a_slow_round_delays_and_never_overlaps() {
    let slow = Reclaimers {
        round_ms: 3_000,
        freed_percent: 50,
        ..USELESS
    };
    let mut simulation = Simulation::new(Limits::default(), slow, 0);
    simulation.turns(60_000, MIB as i64);
    // Each takes 3 s and pauses for 15; `start` holds them apart.
    assert!(
        (3..=4).contains(&simulation.started.len()),
        "{:?}",
        simulation.started
    );
}

#[test]
fn answers_to_other_cycles_are_ignored() {
    let mut simulation = Simulation::new(Limits::default(), USELESS, 0);
    simulation.step(Event::Asked { target_bytes: 5 });
    for number in [0, 2, u64::MAX] {
        simulation.step(Event::Finished {
            number,
            claims: Vec::new(),
        });
        simulation.step(Event::Purged { number });
    }
    simulation.step(Event::Purged { number: 1 });
    assert_eq!(simulation.decision.look_at, None, "still running");
    simulation.step(Event::Finished {
        number: 1,
        claims: Vec::new(),
    });
    assert_eq!(simulation.decision.look_at, Some(ms(5)), "settling");
}

#[test]
fn above_the_limit_the_least_budget_counts_and_the_baseline_is_said() {
    let mut simulation = Simulation::new(soft(500 * MIB), USELESS, 800 * MIB);
    assert_eq!(
        simulation.triggers(),
        [(Trigger::SoftLimit, Level::Critical)]
    );
    simulation.turns(2_000, 0);
    assert_eq!(simulation.notes, [Note::BaselineAboveLimit]);
    // One cycle came to nothing, so two budgets.
    assert_eq!(simulation.decision.armed_bytes, (800 + 2 * 64) * MIB);
    simulation.turns(60_000, 0);
    assert_eq!(simulation.started.len(), 1, "nothing grows, nothing runs");
    simulation.turns(200, MIB as i64);
    assert_eq!(
        simulation.triggers()[1..],
        [(Trigger::Growth, Level::Critical)]
    );
    simulation.turns(2_000, 0);
    assert_eq!(
        simulation.notes,
        [Note::BaselineAboveLimit, Note::Ineffective]
    );
}

#[test]
fn a_limit_lowered_at_run_time_counts_at_the_next_look() {
    let mut simulation = Simulation::new(soft(1000 * MIB), USELESS, 300 * MIB);
    simulation.turns(5_000, 0);
    assert_eq!(simulation.started.len(), 0);
    simulation.readings.limits = soft(320 * MIB);
    simulation.step(Event::Look);
    assert_eq!(simulation.triggers(), [(Trigger::SoftLimit, Level::High)]);
    simulation.readings.limits = Limits::default();
    simulation.turns(5_000, 0);
    assert_eq!(simulation.decision.level, Level::Calm);
}

#[test]
fn drift_is_reported_and_starts_nothing() {
    let mut simulation = Simulation::new(soft(1000 * MIB), USELESS, 100 * MIB);
    simulation.readings.resident_bytes = Some(5000 * MIB);
    simulation.turns(60_000, 0);
    assert_eq!(simulation.started.len(), 0);
    for _ in 0..2 {
        simulation.step(Event::Asked { target_bytes: MIB });
        simulation.turns(3_000, 0);
    }
    assert_eq!(simulation.notes, [Note::Drift]);
    assert_eq!(simulation.records[1].drift_bytes, Some(4900 * MIB as i64));
    assert_eq!(simulation.records[1].target_bytes, MIB);
}

// ---- triggers and levels ----

#[test]
fn every_level_asks_once_on_the_way_up() {
    let mut simulation = Simulation::new(soft(10_000 * MIB), USELESS, 7_500 * MIB);
    simulation.turns(24_000, 100 << 10);
    let soft_limit = |level| (Trigger::SoftLimit, level);
    let expected = [Level::Moderate, Level::High, Level::Critical].map(soft_limit);
    assert_eq!(simulation.triggers(), expected);
    assert_eq!(
        simulation.levels,
        [Level::Moderate, Level::High, Level::Critical]
    );
    // The target leads back to calm: 75 % of the limit.
    let first = &simulation.started[0];
    assert_eq!(first.target_bytes, first.before_bytes - 7_500 * MIB);
}

#[test]
fn a_group_leaves_what_others_do_not_take() {
    let group = |current_bytes| Limits {
        group: Some(GroupMemory {
            limit_bytes: 1000 * MIB,
            current_bytes,
            inactive_file_bytes: 0,
        }),
        ..Limits::default()
    };
    let mut simulation = Simulation::new(group(100 * MIB), USELESS, 100 * MIB);
    simulation.turns(5_000, 0);
    assert_eq!(simulation.started.len(), 0);
    // Nobody crosses anything when others fill the group; the look of each second sees it.
    simulation.readings.limits = group(985 * MIB);
    simulation.turns(1_000, 0);
    assert_eq!(simulation.triggers(), [(Trigger::Cgroup, Level::Moderate)]);
}

#[test]
fn stalls_raise_to_moderate_once_in_15_s() {
    let mut simulation = Simulation::new(Limits::default(), USELESS, 10 * MIB);
    let mut at = Vec::new();
    for ms in 0..60_000u64 {
        if ms % 500 == 0 {
            simulation.step(Event::Psi);
        }
        simulation.turn(0);
        if at.len() < simulation.started.len() {
            at.push(ms / 1000);
        }
    }
    // Fruitless: the first, and then one in two budgets of time, in four.
    assert_eq!(at, [0, 30], "{at:?}");
    assert_eq!(simulation.triggers()[0], (Trigger::Psi, Level::Moderate));
    simulation.turns(16_000, 0);
    assert_eq!(simulation.decision.level, Level::Calm);
    assert_eq!(simulation.decision.look_at, None);
}

/// Where answers help, budgets thin nothing out: what holds reports apart is their own time.
#[test]
fn of_stalls_that_are_reported_all_the_time_one_in_15_s_counts_at_each_level() {
    let useful = Reclaimers {
        freed_percent: 25,
        ..USELESS
    };
    let mut simulation = Simulation::new(soft(1000 * MIB), useful, 10 * MIB);
    let mut at = Vec::new();
    for ms in 0..50_000u64 {
        // At 35 s the limit raises the level by itself, which is answered at once.
        if ms == 35_000 {
            simulation.readings.live_bytes = 920 * MIB;
            simulation.reclaimers.freed_percent = 6; // fair, and still at this level
            simulation.step(Event::Look);
        }
        if ms % 500 == 0 && !(34_500..37_000).contains(&ms) {
            simulation.step(Event::Psi);
        }
        simulation.turn(0);
        while at.len() < simulation.started.len() {
            let cycle = &simulation.started[at.len()];
            at.push((cycle.trigger, cycle.level, ms / 1000));
        }
    }
    let first = [0, 15, 30].map(|s| (Trigger::Psi, Level::Moderate, s));
    assert_eq!(at[..3], first, "{at:?}");
    assert_eq!(at[3], (Trigger::SoftLimit, Level::High, 35), "{at:?}");
    // The first report at this level counts, though the last one below it was 7 s ago.
    assert_eq!(at[4], (Trigger::Psi, Level::High, 37), "{at:?}");
}

#[test]
fn wishes_wait_for_the_pause_and_are_answered_together() {
    let mut simulation = Simulation::new(Limits::default(), USELESS, 10 * MIB);
    simulation.step(Event::Asked { target_bytes: 0 });
    for target_bytes in [MIB, 3 * MIB, 2 * MIB] {
        simulation.step(Event::Asked { target_bytes });
    }
    simulation.turns(10_000, 0);
    let targets: Vec<u64> = simulation
        .started
        .iter()
        .map(|cycle| cycle.target_bytes)
        .collect();
    assert_eq!(targets, [10 * MIB / 20, 3 * MIB]);
    assert_eq!(simulation.notes, [], "asking is no pacing");
}

#[test]
fn at_critical_the_pause_is_short() {
    let slow = Reclaimers {
        round_ms: 1_000,
        ..USELESS
    };
    let mut simulation = Simulation::new(soft(1000 * MIB), slow, 0);
    simulation.step(Event::Asked { target_bytes: 0 });
    simulation.turns(1_500, 0);
    simulation.readings.live_bytes = 820 * MIB;
    simulation.step(Event::Crossed);
    assert_eq!(simulation.started.len(), 1, "moderate waits");
    assert_eq!(
        simulation.decision.armed_bytes,
        900 * MIB,
        "the next mark is watched"
    );
    simulation.readings.live_bytes = 960 * MIB;
    simulation.turns(1_200, 0);
    assert_eq!(
        simulation.triggers()[1..],
        [(Trigger::SoftLimit, Level::Critical)]
    );
}

#[test]
fn a_wish_that_has_passed_by_itself_is_dropped() {
    let mut simulation = Simulation::new(Limits::default(), USELESS, 0);
    simulation.step(Event::Asked { target_bytes: 0 });
    simulation.turns(30, 0);
    simulation.readings.live_bytes = 100 * MIB;
    simulation.step(Event::Look);
    let due = simulation.decision.look_at.unwrap();
    assert_eq!(simulation.decision.armed_bytes, NOT_ARMED);
    simulation.readings.live_bytes = 10 * MIB;
    simulation.readings.now = due;
    simulation.step(Event::Look);
    assert_eq!(simulation.started.len(), 1);
    assert_eq!(simulation.decision.armed_bytes, 64 * MIB);
}

#[test]
fn levels_do_not_flap_within_the_clearing_band() {
    let mut simulation = Simulation::new(soft(1000 * MIB), USELESS, 790 * MIB);
    for _ in 0..50 {
        simulation.turns(40, MIB as i64);
        simulation.turns(40, -(MIB as i64));
        simulation.turns(1_000, 0);
    }
    assert_eq!(simulation.levels, [Level::Moderate]);
    assert_eq!(simulation.started.len(), 1);
}

// ---- whatever happens ----

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Look),
        Just(Event::Crossed),
        Just(Event::Psi),
        any::<u64>().prop_map(|target_bytes| Event::Asked { target_bytes }),
        (0u64..6).prop_map(|number| Event::Finished {
            number,
            claims: Vec::new()
        }),
        (0u64..6).prop_map(|number| Event::Purged { number }),
    ]
}

/// Sizes and times of every magnitude.
fn any_size() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0u32..64).prop_map(|(number, shift)| number >> shift)
}

fn any_readings() -> impl Strategy<Value = Readings> {
    let option = || prop::option::of(any_size());
    let group = prop::option::of((any_size(), any_size(), any_size()));
    (any_size(), any_size(), option(), option(), group, option()).prop_map(
        |(millis, live_bytes, soft_bytes, hard_bytes, group, resident_bytes)| Readings {
            now: Duration::from_millis(millis),
            live_bytes,
            limits: Limits {
                soft_bytes,
                hard_bytes,
                group: group.map(
                    |(limit_bytes, current_bytes, inactive_file_bytes)| GroupMemory {
                        limit_bytes,
                        current_bytes,
                        inactive_file_bytes,
                    },
                ),
            },
            resident_bytes,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any input, also of a clock that goes back: no overflow, no second cycle, the same again.
    #[test]
    fn any_input_is_survived(
        ratio in prop::num::f64::ANY,
        steps in prop::collection::vec((any_readings(), any_event()), 1..60),
    ) {
        let mut policy = Policy::new(ratio, &steps[0].0);
        let mut twin = policy.clone();
        let (mut started, mut ended, mut said) = (0, 0, Vec::new());
        for (readings, event) in steps {
            let decision = policy.step(&readings, event.clone());
            prop_assert_eq!(&decision, &twin.step(&readings, event));
            if let Some(record) = &decision.finished {
                ended += 1;
                prop_assert_eq!(record.number, ended);
            }
            if let Some(Order::Reclaim(cycle)) = decision.order {
                prop_assert_eq!(started, ended);
                started += 1;
                prop_assert_eq!(cycle.number, started);
                prop_assert!(cycle.target_bytes <= cycle.before_bytes);
            }
            prop_assert!(decision.armed_bytes <= NOT_ARMED);
            prop_assert!(decision.armed_bytes > readings.live_bytes.min(NOT_ARMED - 1));
            // With a limit something is always armed, in reach of it or of what could not be freed.
            let reach_bytes = policy.room.map(|room| {
                room.bytes
                    .max(policy.pacer.baseline_bytes())
                    .saturating_add(10 * BUDGET_BYTES)
                    .min(NOT_ARMED)
            });
            let is_in_reach = reach_bytes.is_none_or(|bytes| decision.armed_bytes <= bytes);
            prop_assert!(started > ended || policy.wanted().is_some() || is_in_reach, "{:?}", decision);
            prop_assert_eq!(started > ended, matches!(policy.phase, Phase::Running(_) | Phase::Settling(..) | Phase::Purging(_)));
            said.extend(decision.notes.iter());
        }
        said.sort_by_key(|note| *note as u8);
        prop_assert!(said.windows(2).all(|pair| pair[0] != pair[1]), "said once: {:?}", said);
    }

    /// Any program and any reclaimers: `Simulation` holds each step to the rules.
    #[test]
    fn any_program_is_paced(
        soft_mib in prop::option::of(1u64..2_000),
        round_ms in 0u64..400,
        freed_percent in 0u64..100,
        late_ms in 0u64..300,
        allocated_bytes in 0..100 * MIB,
        spans in prop::collection::vec((1u64..3_000, -2_000_000i64..4_000_000, prop::option::of(any_event())), 1..12),
    ) {
        let limits = Limits { soft_bytes: soft_mib.map(|mib| mib * MIB), ..Limits::default() };
        let reclaimers = Reclaimers { round_ms, freed_percent, late_ms, allocated_bytes };
        let mut simulation = Simulation::new(limits, reclaimers, 0);
        for (count, change_bytes, event) in spans {
            // Answers are the simulation's to give.
            if let Some(event @ (Event::Look | Event::Crossed | Event::Psi | Event::Asked { .. })) = event {
                simulation.step(event);
            }
            simulation.turns(count, change_bytes);
        }
        // Left alone it comes to rest: the cycle ends, and none follows for ever.
        simulation.turns(20_000, 0);
        let rested = simulation.started.len();
        simulation.turns(20_000, 0);
        prop_assert_eq!(simulation.started.len(), rested);
        prop_assert_eq!(simulation.records.len(), rested);
    }
}
