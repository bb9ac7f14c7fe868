//! Turns: runs that are compared work one after the other, some frames at a time.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::core::unbooked;

/// When a run works and when it rests, and how long it has worked.
///
/// A turn ends when so many frames are decoded: each thread then rests with its next
/// frame, and the last of them lets the other run go on. Work goes on when it is told so.
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
    /// `None`: one turn for all.
    turn_frames: Option<u64>,
}

struct State {
    /// Decoding threads, and those of them that do not rest.
    threads: u32,
    working: u32,
    /// Frames until the turn is over.
    left: u64,
    /// When each turn began, and after how much work.
    turns: Vec<(Instant, Duration)>,
    /// While nobody works.
    worked: Option<Duration>,
}

impl Turns {
    /// Begins the first turn.
    pub fn begin(turn_frames: Option<u64>) -> Turns {
        Turns {
            state: Mutex::new(State {
                threads: 0,
                working: 0,
                left: turn_frames.unwrap_or(u64::MAX),
                turns: vec![(Instant::now(), Duration::ZERO)],
                worked: None,
            }),
            changed: Condvar::new(),
            turn_frames,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many threads begin to decode. None does yet.
    pub fn threads_begin(&self, threads: u32) {
        let mut state = self.lock();
        (state.threads, state.working) = (threads, threads);
    }

    /// A thread has decoded a frame: it returns when it may go on. `others` lets the other run
    /// have its turn, and returns with the next one of ours.
    pub fn frame(&self, others: impl Fn()) {
        let mut state = self.lock();
        state.left = state.left.saturating_sub(1);
        if state.left > 0 {
            return;
        }
        state.working -= 1;
        let turn = state.turns.len();
        if state.working == 0 {
            self.rest(state, others);
            return;
        }
        while state.turns.len() == turn {
            state = self.wait(state);
        }
    }

    /// A thread has nothing more to decode.
    pub fn thread_ended(&self, others: impl Fn()) {
        let mut state = self.lock();
        state.threads -= 1;
        state.working -= 1;
        // It was the one that the resting ones waited for.
        if state.working == 0 && state.threads > 0 {
            self.rest(state, others);
        }
    }

    fn rest(&self, mut state: MutexGuard<'_, State>, others: impl Fn()) {
        let worked = state.worked();
        state.worked = Some(worked);
        drop(state);
        others();
        let mut state = self.lock();
        state.worked = None;
        unbooked(|| state.turns.push((Instant::now(), worked)));
        state.working = state.threads;
        state.left = self.turn_frames.unwrap_or(u64::MAX);
        self.changed.notify_all();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The last frame is decoded: no time passes any more.
    pub fn end(&self) {
        let mut state = self.lock();
        state.worked = Some(state.worked());
    }

    /// Gives the time spent with work, once there is work.
    pub fn worked(&self) -> Duration {
        let mut state = self.lock();
        while state.worked.is_some() && state.threads > 0 {
            state = self.wait(state);
        }
        state.worked()
    }

    /// Gives after how much work something was; what falls between two turns was at the end of one.
    pub fn worked_until(&self, at: Instant) -> Duration {
        let state = self.lock();
        let after = state.turns.partition_point(|&(start, _)| start <= at);
        let Some(&(start, before)) = state.turns[..after].last() else {
            return Duration::ZERO;
        };
        let end = state.turns.get(after).map(|next| next.1);
        end.unwrap_or_else(|| state.worked())
            .min(before + at.duration_since(start))
    }
}

impl State {
    fn worked(&self) -> Duration {
        self.worked.unwrap_or_else(|| {
            let last = self.turns.last();
            last.map_or(Duration::ZERO, |(start, before)| *before + start.elapsed())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::thread;

    use super::*;

    #[test]
    fn all_threads_rest_while_others_have_their_turn() {
        let turns = Turns::begin(Some(10));
        let frames = AtomicU32::new(0);
        let rests = Mutex::new(Vec::new());
        let others = || {
            let before = frames.load(SeqCst);
            thread::yield_now();
            rests.lock().unwrap().push((before, frames.load(SeqCst)));
        };
        turns.threads_begin(3);
        thread::scope(|scope| {
            // The first one ends while others still work, one of them alone in the end.
            for count in [5, 40, 60] {
                let (turns, frames, others) = (&turns, &frames, &others);
                scope.spawn(move || {
                    for _ in 0..count {
                        frames.fetch_add(1, SeqCst);
                        turns.frame(others);
                    }
                    turns.thread_ended(others);
                });
            }
        });
        assert_eq!(frames.load(SeqCst), 105);
        let rests = rests.into_inner().unwrap();
        assert!(!rests.is_empty());
        for (turn, (before, after)) in (1..).zip(rests) {
            assert_eq!(before, after, "somebody worked");
            // A thread rests with its first frame past the turn's, so there is one more each.
            assert!((10 * turn..=12 * turn).contains(&before), "{before}");
        }
    }

    #[test]
    fn rest_is_no_work() {
        let turns = Turns::begin(Some(1));
        turns.threads_begin(1);
        let rested = Mutex::new(Vec::new());
        turns.frame(|| {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(20) {
                thread::yield_now();
            }
            rested.lock().unwrap().extend([begin, Instant::now()]);
        });
        turns.thread_ended(|| unreachable!("nobody is left to rest"));
        turns.end();
        let [begin, end] = rested.into_inner().unwrap()[..] else {
            panic!("there was one rest");
        };
        let all = turns.lock().turns[0].0.elapsed();
        let worked = turns.worked();
        assert!(worked + (end - begin) <= all);
        assert_eq!(turns.worked(), worked, "the clock stands still");
        assert_eq!(turns.worked_until(begin), turns.worked_until(end));
        assert_eq!(turns.worked_until(Instant::now()), worked);
    }

    #[test]
    fn who_has_one_turn_never_rests() {
        let turns = Turns::begin(None);
        turns.threads_begin(1);
        for _ in 0..1000 {
            turns.frame(|| unreachable!("it has one turn"));
        }
        turns.thread_ended(|| unreachable!("it has one turn"));
    }
}
