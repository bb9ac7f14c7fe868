//! The IOContext run: a C library that reads through callbacks into Rust decodes
//! frames of megabytes. What C allocates there goes to malloc, not to the
//! program's global allocator.

use std::fs::File;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use heapledger::iocontext::Workload;

/// One group from a key frame to the next: frames of one size.
const FRAMES: u32 = 12;

const WORKLOAD: Workload = Workload {
    frames: FRAMES,
    threads: 1,
    seed: 1,
};

pub struct Decoding {
    container: Arc<File>,
}

impl Decoding {
    pub fn new() -> Decoding {
        let container = WORKLOAD.container();
        Decoding {
            container: container.expect("a container is made"),
        }
    }

    /// Nanoseconds of work a frame: opened, decoded, dropped. A frame takes too
    /// long to be often undisturbed, so it is not the clock on the wall that counts.
    pub fn slice(&self) -> f64 {
        let begin = worked();
        let decoded = WORKLOAD.run(&self.container, |frame| drop(black_box(frame)));
        let spent = (worked() - begin).as_nanos() as f64;
        let frames = decoded.expect("the container is whole").frames;
        assert_eq!(frames, u64::from(FRAMES));
        spent / f64::from(FRAMES)
    }
}

/// What this thread has worked.
fn worked() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: it fills in the structure.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
