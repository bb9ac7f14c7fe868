//! The course of a process: slices one after the other, which two threads begin
//! together.

use std::sync::atomic::{
    AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use std::time::{Duration, Instant};
use std::{hint, mem, thread};

/// Undisturbed slices that two threads try for.
const ENOUGH: usize = 20;

/// Looks at a word before the processor is left to others.
const SPINS: usize = 10_000;

/// What a thread measured of one slice.
#[derive(Clone, Copy)]
pub struct Slice {
    /// Nanoseconds an operation.
    cost: f64,
    /// Whether the thread was never preempted.
    is_undisturbed: bool,
}

/// The slices during which no thread was preempted; where there are none, all.
pub fn undisturbed(threads: &[Vec<Slice>]) -> Vec<Vec<f64>> {
    let count = threads[0].len();
    let is_kept =
        |at: usize| threads.len() == 1 || threads.iter().all(|slices| slices[at].is_undisturbed);
    let any = (0..count).any(is_kept);
    let kept = |slices: &Vec<Slice>| {
        let numbers = (0..count).filter(|at| !any || is_kept(*at));
        numbers.map(|at| slices[at].cost).collect()
    };
    threads.iter().map(kept).collect()
}

pub struct Course {
    pub threads: usize,
    time: Duration,
    arrived: AtomicUsize,
    /// How many slices there are; the first thread says it before the last one.
    last: AtomicUsize,
    /// How many slices of each thread were disturbed, so far.
    disturbed: [AtomicUsize; 2],
}

impl Course {
    pub fn new(threads: usize, time: Duration) -> Course {
        Course {
            threads,
            time,
            arrived: AtomicUsize::new(0),
            last: AtomicUsize::new(usize::MAX),
            disturbed: Default::default(),
        }
    }

    /// How many operations make a slice: with two threads far fewer, so that more
    /// slices find both of them running.
    pub fn operations(&self, alone: usize) -> usize {
        match self.threads {
            1 => alone,
            _ => alone / 40,
        }
    }

    /// Two threads pass together; what they wait here is in no slice.
    pub fn meet(&self) {
        if self.threads == 1 {
            return;
        }
        let target = (self.arrived.fetch_add(1, AcqRel) / 2 + 1) * 2;
        for turns in 1.. {
            if self.arrived.load(Acquire) >= target {
                break;
            }
            hint::spin_loop();
            if turns % SPINS == 0 {
                thread::yield_now(); // both may be on one processor
            }
        }
    }

    pub fn run(&self, number: usize, mut slice: impl FnMut() -> f64) -> Vec<Slice> {
        if self.threads > 1 {
            go_to_own_processor(number);
        }
        slice(); // to warm up
        let mut slices = Vec::with_capacity(65_536);
        let begin = Instant::now();
        let mut before = preemptions();
        while slices.len() < self.last.load(Relaxed) {
            if number == 0 && self.is_last(slices.len(), begin.elapsed()) {
                self.last.store(slices.len() + 1, Relaxed); // the other has seen it once they met
            }
            self.meet();
            let cost = slice();
            let after = preemptions();
            let is_undisturbed = mem::replace(&mut before, after) == after;
            self.disturbed[number].fetch_add(usize::from(!is_undisturbed), Relaxed);
            slices.push(Slice {
                cost,
                is_undisturbed,
            });
        }
        slices
    }

    /// Whether the next slice is the last one: when time is over, and two threads
    /// have undisturbed slices enough or have tried for four times as long.
    fn is_last(&self, slices: usize, spent: Duration) -> bool {
        let disturbed: usize = self.disturbed.iter().map(|count| count.load(Relaxed)).sum();
        let is_enough = self.threads == 1 || slices >= disturbed + ENOUGH;
        slices > 0 && spent >= self.time && (is_enough || spent >= 4 * self.time)
    }
}

/// Two threads on one processor would never run together.
fn go_to_own_processor(number: usize) {
    let bytes = mem::size_of::<libc::cpu_set_t>();
    // SAFETY: the sets are of the size that is said, and zeros are an empty set.
    unsafe {
        let mut allowed: libc::cpu_set_t = mem::zeroed();
        let mut own: libc::cpu_set_t = mem::zeroed();
        if libc::sched_getaffinity(0, bytes, &mut allowed) != 0 {
            return;
        }
        let mut processors = (0..8 * bytes).filter(|at| libc::CPU_ISSET(*at, &allowed));
        if let Some(processor) = processors.nth(number) {
            libc::CPU_SET(processor, &mut own);
            libc::sched_setaffinity(0, bytes, &own);
        }
    }
}

/// How often this thread had to leave its processor to others.
fn preemptions() -> i64 {
    // SAFETY: getrusage fills in the structure.
    unsafe {
        let mut used: libc::rusage = mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &mut used);
        used.ru_nivcsw
    }
}
