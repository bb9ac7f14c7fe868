//! A bounded series of readings, however long the process runs.

use std::time::{Duration, Instant};

use crate::recording::model::TimelinePoint;

/// A process keeps fewer points than this.
const MAX_POINTS: usize = 400;
/// Distance of the first points.
const FIRST_INTERVAL: Duration = Duration::from_millis(5);

/// Distance of the last points of a process that runs for months.
const MAX_INTERVAL: Duration = Duration::from_secs(3600);

/// Readings of one process.
pub(super) struct Timeline {
    points: Vec<TimelinePoint>,
    interval: Duration,
    next: Instant,
}

impl Timeline {
    pub(super) fn new(now: Instant) -> Timeline {
        Timeline {
            points: Vec::new(),
            interval: FIRST_INTERVAL,
            next: now,
        }
    }

    /// Gives the moment of the next reading.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Adds a reading; when there are too many, keeps the higher of each two and
    /// reads half as often.
    pub(super) fn push(&mut self, now: Instant, point: TimelinePoint) {
        self.points.push(point);
        if self.points.len() >= MAX_POINTS {
            let all =
                |point: &TimelinePoint| point.c_live_bytes.saturating_add(point.rust_live_bytes);
            let higher = |pair: &[TimelinePoint]| pair.iter().copied().max_by_key(all);
            self.points = self.points.chunks(2).filter_map(higher).collect();
            self.interval = (self.interval * 2).min(MAX_INTERVAL);
        }
        self.next = now + self.interval;
    }

    pub(super) fn into_points(self) -> Vec<TimelinePoint> {
        self.points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_short_and_keeps_the_highest() {
        let start = Instant::now();
        let mut timeline = Timeline::new(start);
        for index in 0..50_000i64 {
            let high = if index == 31_337 { 1_000_000 } else { 0 };
            let point = TimelinePoint {
                t_s: index as f64,
                c_live_bytes: index + high,
                rust_live_bytes: 0,
                rss_bytes: 0,
            };
            timeline.push(start, point);
        }
        assert!(timeline.next() > start + FIRST_INTERVAL);
        let points = timeline.into_points();
        assert!(points.len() < MAX_POINTS);
        assert!(points.is_sorted_by(|a, b| a.t_s < b.t_s));
        assert_eq!(
            points.iter().map(|point| point.c_live_bytes).max(),
            Some(1_031_337)
        );
    }
}
