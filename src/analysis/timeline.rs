//! Live bytes over time, brought to as many readings as a picture has columns.

use crate::recording::model::{Process, TimelinePoint};

/// One column of a picture: the highest values within its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Side c.
    pub c_live_bytes: u64,
    /// Side rust.
    pub rust_live_bytes: u64,
    /// Both sides at one moment.
    pub all_live_bytes: u64,
    /// Resident set.
    pub rss_bytes: u64,
}

/// The time that a picture covers, in seconds from the start of the recording.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Span {
    /// Its beginning.
    pub from_s: f64,
    /// Its length.
    pub duration_s: f64,
}

impl Span {
    /// Gives the time from the first process's start to the last one's end.
    pub fn of<'a>(processes: impl Iterator<Item = &'a Process>) -> Span {
        let ends = |process: &Process| {
            let from = seconds(process.started_s);
            (from, from + seconds(process.duration_s))
        };
        match processes.map(ends).reduce(|all, next| (all.0.min(next.0), all.1.max(next.1))) {
            Some((from_s, to_s)) => Span { from_s, duration_s: to_s - from_s },
            None => Span::default(),
        }
    }

    fn column(&self, at_s: f64, columns: usize) -> usize {
        let share = (at_s - self.from_s) / self.duration_s;
        ((share * columns as f64) as usize).min(columns - 1)
    }
}

/// Makes a number of seconds from a recording safe to compute with.
pub fn seconds(value: f64) -> f64 {
    const TEN_THOUSAND_YEARS: f64 = 3.2e11;
    if value.is_nan() { 0.0 } else { value.clamp(0.0, TEN_THOUSAND_YEARS) }
}

/// Sums the processes' timelines up into `columns` readings over `span`; a
/// column without a reading of its own repeats the one before while the process lived.
pub fn readings<'a>(
    processes: impl Iterator<Item = &'a Process>,
    span: Span,
    columns: usize,
) -> Vec<Reading> {
    let mut sums = vec![Reading::default(); columns];
    if columns == 0 || span.duration_s <= 0.0 {
        return Vec::new();
    }
    for process in processes.filter(|process| !process.timeline.is_empty()) {
        add(process, span, &mut sums);
    }
    sums
}

fn add(process: &Process, span: Span, sums: &mut [Reading]) {
    let start = seconds(process.started_s);
    let mut own: Vec<Option<Reading>> = vec![None; sums.len()];
    for point in &process.timeline {
        let column = span.column(start + seconds(point.t_s), sums.len());
        own[column].get_or_insert_default().raise_to(point);
    }
    let last = span.column(start + seconds(process.duration_s), sums.len());
    let mut now = Reading::default();
    for (column, (sum, reading)) in sums.iter_mut().zip(own).enumerate() {
        now = reading.unwrap_or(now);
        if column <= last || reading.is_some() {
            sum.add(&now);
        }
    }
}

impl Reading {
    fn raise_to(&mut self, point: &TimelinePoint) {
        let [c, rust] = [point.c_live_bytes, point.rust_live_bytes].map(|live| live.max(0) as u64);
        self.c_live_bytes = self.c_live_bytes.max(c);
        self.rust_live_bytes = self.rust_live_bytes.max(rust);
        self.all_live_bytes = self.all_live_bytes.max(c.saturating_add(rust));
        self.rss_bytes = self.rss_bytes.max(point.rss_bytes);
    }

    fn add(&mut self, other: &Reading) {
        self.c_live_bytes = self.c_live_bytes.saturating_add(other.c_live_bytes);
        self.rust_live_bytes = self.rust_live_bytes.saturating_add(other.rust_live_bytes);
        self.all_live_bytes = self.all_live_bytes.saturating_add(other.all_live_bytes);
        self.rss_bytes = self.rss_bytes.saturating_add(other.rss_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(started_s: f64, duration_s: f64, points: &[(f64, i64)]) -> Process {
        let point = |&(t_s, live): &(f64, i64)| TimelinePoint {
            t_s,
            c_live_bytes: live,
            rust_live_bytes: 0,
            rss_bytes: 0,
        };
        Process { started_s, duration_s, timeline: points.iter().map(point).collect(), ..Process::default() }
    }

    fn live(processes: &[Process], columns: usize) -> Vec<u64> {
        let span = Span::of(processes.iter());
        readings(processes.iter(), span, columns).iter().map(|reading| reading.c_live_bytes).collect()
    }

    #[test]
    fn a_column_shows_its_highest_reading_and_empty_ones_repeat_the_last() {
        let one = process(0.0, 4.0, &[(0.1, 10), (0.2, 30), (0.3, 20), (2.5, 5)]);
        assert_eq!(live(&[one], 4), [30, 30, 5, 5]);
    }

    #[test]
    fn processes_add_up_while_they_live() {
        let parent = process(0.0, 4.0, &[(0.0, 100)]);
        let child = process(1.0, 1.5, &[(0.0, 7)]);
        assert_eq!(live(&[parent, child], 4), [100, 107, 107, 100]);
    }

    #[test]
    fn absurd_times_do_not_panic() {
        let odd = process(f64::NAN, f64::INFINITY, &[(f64::NAN, i64::MIN), (-1.0, i64::MAX), (f64::INFINITY, 1)]);
        assert_eq!(live(&[odd], 2), [i64::MAX as u64, 1]);
        assert!(live(&[process(1.0, 0.0, &[(0.0, 1)])], 4).is_empty());
    }
}
