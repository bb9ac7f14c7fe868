//! How full the room is: limits, watermarks and levels.

use super::cycle::Trigger;

const MIB: u64 = 1 << 20;
/// A level is left this far below where it is reached, and at least 5 % of the room.
const CLEARING_BYTES: u64 = 16 * MIB;
const CLEARING_PERCENT: u64 = 5;

/// How urgent a clean-up is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
#[repr(u32)]
pub enum Level {
    /// Nothing to do.
    #[default]
    Calm = 0,
    /// Free what is cheap to make again.
    Moderate = 1,
    /// Free what can be spared.
    High = 2,
    /// Free all that can be freed: the limit is next.
    Critical = 3,
}

impl Level {
    /// The levels that ask for something, the most urgent first.
    const RAISED: [Level; 3] = [Level::Critical, Level::High, Level::Moderate];

    /// Gives the level that a ledger's word stands for; past the last it is the last.
    pub(crate) fn from_number(number: u32) -> Level {
        match number {
            0 => Level::Calm,
            1 => Level::Moderate,
            2 => Level::High,
            _ => Level::Critical,
        }
    }

    /// The level's name in reports and in the environment of commands.
    pub fn name(self) -> &'static str {
        match self {
            Level::Calm => "calm",
            Level::Moderate => "moderate",
            Level::High => "high",
            Level::Critical => "critical",
        }
    }

    fn percent_of_room(self) -> u64 {
        match self {
            Level::Calm => 0,
            Level::Moderate => 80,
            Level::High => 90,
            Level::Critical => 95,
        }
    }
}

/// What the user set and the control groups allow. May change from reading to reading.
///
/// The user's limits are about live bytes and are compared with them as they
/// are. The lower one counts for levels. A hard limit may besides refuse memory,
/// which is decided elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Where clean-up should have happened.
    pub soft_bytes: Option<u64>,
    /// What should never be passed.
    pub hard_bytes: Option<u64>,
    /// The control group that leaves least.
    pub group: Option<GroupMemory>,
}

/// The control group that leaves a process least, of those that it is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupMemory {
    /// The lower one of memory.high and memory.max.
    pub limit_bytes: u64,
    /// memory.current: all that is charged to the group, the page cache too.
    pub current_bytes: u64,
    /// Of that, what the kernel gives back for nothing (`inactive_file` of memory.stat).
    pub inactive_file_bytes: u64,
}

impl GroupMemory {
    /// What is charged and cannot be given back for nothing.
    fn held_bytes(&self) -> u64 {
        self.current_bytes.saturating_sub(self.inactive_file_bytes)
    }

    /// What the group may still take.
    pub fn left_bytes(&self) -> u64 {
        self.limit_bytes.saturating_sub(self.held_bytes())
    }

    /// What the limit leaves to the ledger's blocks: all but what the ledger cannot see.
    fn room_bytes(&self, live_bytes: u64) -> u64 {
        let unseen_bytes = self.held_bytes().saturating_sub(live_bytes);
        self.limit_bytes.saturating_sub(unseen_bytes)
    }
}

/// The bytes that live blocks may take, and which limit says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub bytes: u64,
    pub set_by: Trigger,
}

impl Room {
    /// The narrowest of the limits; `None` without any.
    pub fn within(limits: &Limits, live_bytes: u64) -> Option<Room> {
        let room = |set_by| move |bytes| Room { bytes, set_by };
        let group = limits.group.map(|group| group.room_bytes(live_bytes));
        let rooms = [
            limits.soft_bytes.map(room(Trigger::SoftLimit)),
            limits.hard_bytes.map(room(Trigger::HardLimit)),
            group.map(room(Trigger::Cgroup)),
        ];
        rooms.into_iter().flatten().min_by_key(|room| room.bytes)
    }

    /// The level is reached when more than this is live.
    pub fn mark_bytes(self, level: Level) -> u64 {
        percent(self.bytes, level.percent_of_room())
    }

    /// The level is left when no more than this is live.
    ///
    /// In a room of a few MiB the band would reach below nothing, and no level
    /// would ever be left: it takes half of what lies below the mark at most.
    pub fn clear_bytes(self, level: Level) -> u64 {
        self.mark_bytes(level) - self.band_bytes(level)
    }

    /// What lies between reaching a level and leaving it.
    pub fn band_bytes(self, level: Level) -> u64 {
        let band_bytes = percent(self.bytes, CLEARING_PERCENT).max(CLEARING_BYTES);
        band_bytes.min(self.mark_bytes(level) / 2)
    }

    /// The level at these live bytes for somebody who comes from `current`.
    pub fn level(self, live_bytes: u64, current: Level) -> Level {
        let holds = |level: &Level| {
            live_bytes
                > if current >= *level {
                    self.clear_bytes(*level)
                } else {
                    self.mark_bytes(*level)
                }
        };
        Level::RAISED.into_iter().find(holds).unwrap_or(Level::Calm)
    }

    /// The next mark above both the live bytes and the level.
    pub fn next_mark_bytes(self, live_bytes: u64, current: Level) -> Option<u64> {
        let above = Level::RAISED.into_iter().filter(|level| *level > current);
        let marks = above.map(|level| self.mark_bytes(level));
        marks.filter(|mark_bytes| *mark_bytes > live_bytes).min()
    }
}

pub(super) fn percent(bytes: u64, percent: u64) -> u64 {
    (u128::from(bytes) * u128::from(percent) / 100) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn soft(bytes: u64) -> Room {
        Room {
            bytes,
            set_by: Trigger::SoftLimit,
        }
    }

    #[test]
    fn the_narrowest_limit_counts() {
        let mut limits = Limits::default();
        assert_eq!(Room::within(&limits, 7), None);
        limits.hard_bytes = Some(1000);
        assert_eq!(Room::within(&limits, 7).unwrap().set_by, Trigger::HardLimit);
        limits.soft_bytes = Some(800);
        assert_eq!(Room::within(&limits, 7), Some(soft(800)));
        // 900, of which 500 - 100 - 50 are not the ledger's.
        limits.group = Some(GroupMemory {
            limit_bytes: 900,
            current_bytes: 500,
            inactive_file_bytes: 100,
        });
        let room = Room::within(&limits, 50).unwrap();
        assert_eq!((room.bytes, room.set_by), (550, Trigger::Cgroup));
        assert_eq!(limits.group.unwrap().left_bytes(), 500);
    }

    #[test]
    fn what_the_group_counts_and_the_ledger_too_is_not_taken_off_twice() {
        let group = GroupMemory {
            limit_bytes: 1000,
            current_bytes: 300,
            inactive_file_bytes: 0,
        };
        assert_eq!(group.room_bytes(300), 1000);
        // Blocks that were never touched are live and not charged.
        assert_eq!(group.room_bytes(5000), 1000);
    }

    #[test]
    fn levels_rise_at_their_marks_and_fall_well_below() {
        let room = soft(1000 * MIB);
        let mut level = Level::Calm;
        let mut at = |mib: u64| {
            level = room.level(mib * MIB, level);
            level
        };
        let (calm, moderate) = (Level::Calm, Level::Moderate);
        assert_eq!(
            [at(800), at(801), at(751), at(750)],
            [calm, moderate, moderate, calm]
        );
        assert_eq!(
            [at(901), at(951), at(901)],
            [Level::High, Level::Critical, Level::Critical]
        );
        assert_eq!(
            [at(900), at(851), at(850), at(700)],
            [Level::High, Level::High, moderate, calm]
        );
    }

    #[test]
    fn a_small_room_can_be_left_too() {
        let room = soft(10 * MIB);
        assert_eq!(room.mark_bytes(Level::Moderate), 8 * MIB);
        assert_eq!(room.clear_bytes(Level::Moderate), 4 * MIB);
        assert_eq!(room.level(4 * MIB, Level::Critical), Level::Calm);
        assert_eq!(soft(0).level(0, Level::Critical), Level::Calm);
        assert_eq!(soft(0).level(1, Level::Calm), Level::Critical);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_level_once_reached_stays_within_its_band(bytes: u64, live: u64) {
            let room = soft(bytes);
            let level = room.level(live, Level::Calm);
            prop_assert_eq!(room.level(live, level), level);
            if level > Level::Calm {
                // Down to the end of the band nothing changes; at its end it does.
                prop_assert_eq!(room.level(room.clear_bytes(level).saturating_add(1).min(live), level), level);
                prop_assert!(room.level(room.clear_bytes(level), level) < level);
            }
            for (low, high) in [(Level::Moderate, Level::High), (Level::High, Level::Critical)] {
                prop_assert!(room.mark_bytes(low) <= room.mark_bytes(high));
                prop_assert!(room.clear_bytes(low) <= room.clear_bytes(high));
            }
        }

        #[test]
        fn the_next_mark_lies_above(bytes: u64, live: u64) {
            let room = soft(bytes);
            let level = room.level(live, Level::Calm);
            if let Some(mark_bytes) = room.next_mark_bytes(live, level) {
                prop_assert!(mark_bytes > live);
                prop_assert!(room.level(mark_bytes.saturating_add(1), level) > level);
            } else {
                prop_assert!(level == Level::Critical);
            }
        }
    }
}
