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
        match processes
            .map(ends)
            .reduce(|all, next| (all.0.min(next.0), all.1.max(next.1)))
        {
            Some((from_s, to_s)) => Span {
                from_s,
                duration_s: to_s - from_s,
            },
            None => Span::default(),
        }
    }

    /// Gives the column of `columns` that a moment lies in.
    pub fn column(&self, at_s: f64, columns: usize) -> usize {
        let share = (at_s - self.from_s) / self.duration_s;
        ((share * columns as f64) as usize).min(columns - 1)
    }
}

/// Makes a number of seconds from a recording safe to compute with.
pub fn seconds(value: f64) -> f64 {
    const TEN_THOUSAND_YEARS: f64 = 3.2e11;
    if value.is_nan() {
        0.0
    } else {
        value.clamp(0.0, TEN_THOUSAND_YEARS)
    }
}

/// Sums the processes' timelines up, each value held until the next, and gives
/// the highest sums within each of `columns` columns of `span`.
pub fn readings<'a>(
    processes: impl Iterator<Item = &'a Process>,
    span: Span,
    columns: usize,
) -> Vec<Reading> {
    let highest_of_each = |highest: &mut Values, now: &Values| {
        for (highest, now) in highest.iter_mut().zip(now) {
            *highest = (*highest).max(*now);
        }
    };
    let columns = in_columns(processes, span, columns, highest_of_each);
    columns.map(Reading::new).collect()
}

/// What was live at one moment, and the resident set around it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Side c.
    pub c_live_bytes: u64,
    /// Side rust.
    pub rust_live_bytes: u64,
    /// Highest resident set within the column.
    pub rss_bytes: u64,
}

/// As [`readings`], but with both sides of each column at one moment, its highest,
/// so that they can be drawn one upon the other.
pub fn moments<'a>(
    processes: impl Iterator<Item = &'a Process>,
    span: Span,
    columns: usize,
) -> Vec<Moment> {
    let highest_together = |highest: &mut Values, now: &Values| {
        let rss = highest[3].max(now[3]);
        if now[2] > highest[2] {
            *highest = *now;
        }
        highest[3] = rss;
    };
    let columns = in_columns(processes, span, columns, highest_together);
    let moment = |values| {
        let reading = Reading::new(values);
        Moment {
            c_live_bytes: reading.c_live_bytes,
            rust_live_bytes: reading.rust_live_bytes,
            rss_bytes: reading.rss_bytes,
        }
    };
    columns.map(moment).collect()
}

/// Sums the processes' timelines up. Each column begins with the values that it
/// finds, and `raise` brings in those after each change.
fn in_columns<'a>(
    processes: impl Iterator<Item = &'a Process>,
    span: Span,
    columns: usize,
    raise: impl Fn(&mut Values, &Values),
) -> impl Iterator<Item = Values> {
    let is_empty = columns == 0 || span.duration_s <= 0.0;
    let mut changes: Vec<Change> = match is_empty {
        true => Vec::new(),
        false => processes.flat_map(changes).collect(),
    };
    changes.sort_by(|left, right| left.at_s.total_cmp(&right.at_s));
    let mut changes = changes.into_iter().peekable();
    let mut now = Values::default();
    (0..if is_empty { 0 } else { columns }).map(move |column| {
        let mut highest = now;
        while let Some(change) =
            changes.next_if(|change| span.column(change.at_s, columns) <= column)
        {
            for (now, by) in now.iter_mut().zip(change.by) {
                *now += by;
            }
            raise(&mut highest, &now);
        }
        highest
    })
}

/// Side c, side rust, both together, resident set.
const SERIES: usize = 4;

/// One value a series; wide enough for the absurd values of many processes.
type Values = [i128; SERIES];

/// A step of the sums.
struct Change {
    at_s: f64,
    by: Values,
}

fn changes(process: &Process) -> Vec<Change> {
    let start = seconds(process.started_s);
    let end = start + seconds(process.duration_s);
    let mut last = [0; SERIES];
    let mut changes = Vec::with_capacity(process.timeline.len() + 1);
    let mut step = |at_s, to: Values| {
        let by = std::array::from_fn(|series| to[series] - last[series]);
        last = to;
        changes.push(Change { at_s, by });
    };
    for point in &process.timeline {
        step(start + seconds(point.t_s), values(point));
    }
    // The end of the whole picture is drawn with what was live then.
    let last_reading_s = process
        .timeline
        .iter()
        .map(|point| seconds(point.t_s))
        .fold(0.0, f64::max);
    step((start + last_reading_s).max(end).next_up(), [0; SERIES]);
    changes
}

fn values(point: &TimelinePoint) -> Values {
    let [c, rust] = [point.c_live_bytes, point.rust_live_bytes].map(|live| i128::from(live.max(0)));
    [c, rust, c + rust, i128::from(point.rss_bytes)]
}

impl Reading {
    fn new(values: Values) -> Reading {
        let [c, rust, all, rss] =
            values.map(|value| u64::try_from(value.max(0)).unwrap_or(u64::MAX));
        Reading {
            c_live_bytes: c,
            rust_live_bytes: rust,
            all_live_bytes: all,
            rss_bytes: rss,
        }
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
        Process {
            started_s,
            duration_s,
            timeline: points.iter().map(point).collect(),
            ..Process::default()
        }
    }

    fn live(processes: &[Process], columns: usize) -> Vec<u64> {
        let span = Span::of(processes.iter());
        readings(processes.iter(), span, columns)
            .iter()
            .map(|reading| reading.c_live_bytes)
            .collect()
    }

    #[test]
    fn a_value_holds_until_the_next_and_a_column_shows_its_highest() {
        let one = process(0.0, 4.0, &[(0.1, 10), (0.2, 30), (0.3, 20), (2.5, 5)]);
        assert_eq!(live(&[one], 4), [30, 20, 20, 5]);
    }

    #[test]
    fn processes_add_up_while_they_live() {
        let parent = process(0.0, 4.0, &[(0.0, 100)]);
        let child = process(1.0, 1.5, &[(0.0, 7)]);
        assert_eq!(live(&[parent, child], 4), [100, 107, 107, 100]);
    }

    #[test]
    fn a_moment_has_both_sides_at_once() {
        let point = |t_s, c_live_bytes, rust_live_bytes, rss_bytes| TimelinePoint {
            t_s,
            c_live_bytes,
            rust_live_bytes,
            rss_bytes,
        };
        let process = Process {
            duration_s: 2.0,
            timeline: vec![
                point(0.0, 10, 1, 50),
                point(0.5, 3, 20, 40),
                point(1.5, 2, 0, 70),
            ],
            ..Process::default()
        };
        let span = Span::of([&process].into_iter());
        let shown = moments([&process].into_iter(), span, 2)
            .iter()
            .map(|moment| {
                (
                    moment.c_live_bytes,
                    moment.rust_live_bytes,
                    moment.rss_bytes,
                )
            })
            .collect::<Vec<_>>();
        assert_eq!(shown, [(3, 20, 50), (3, 20, 70)]);
    }

    #[test]
    fn absurd_times_do_not_panic() {
        let odd = process(
            f64::NAN,
            f64::INFINITY,
            &[(f64::NAN, i64::MIN), (-1.0, i64::MAX), (f64::INFINITY, 1)],
        );
        assert_eq!(live(&[odd], 2), [i64::MAX as u64, i64::MAX as u64]);
        assert!(live(&[process(1.0, 0.0, &[(0.0, 1)])], 4).is_empty());
    }
}
