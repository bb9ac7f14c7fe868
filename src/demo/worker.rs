//! One run of the demo, in a process of its own, which measures itself.

use std::fs::File;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::figures::{Event, Held, Holder, Kept, Line, Point, Reclaimer, Run};
use super::turns::Turns;
use super::{RunName, Task};
use crate::core::unbooked;
use crate::counts::Side;
use crate::iocontext::{Decoded, Frame, FrameCache, Scene};
use crate::pressure::{Cleanup, Pressure, Priority, ReclaimerCall, Registration};
use crate::snapshot::{Snapshot, ledger};

/// Looks generous. By what Rust sees of a frame it is room for twenty thousand.
const CACHE_BUDGET_BYTES: usize = 1 << 20;
/// No frame is larger.
const LARGEST_FRAME_BYTES: libc::c_int = 8 << 20;
/// Frames of one scene.
const SCENE_FRAMES: u64 = 12;
/// Frames until the other run has its turn: a quarter of a second, which is enough to be even
/// where the machine's speed changes from second to second.
const TURN_FRAMES: u64 = 100;
const READING_INTERVAL: Duration = Duration::from_millis(5);
const HOLDERS: usize = 20;

/// Who keeps the frames, and so when they are freed.
enum Keeper {
    Cache(FrameCache),
    Scenes(Mutex<Scenes>),
    Nobody,
    Pressed(Pressed),
}

/// A cache that is told when C's bytes are too many.
struct Pressed {
    cache: Arc<FrameCache>,
    soft_limit_bytes: u64,
    /// The driver counts time from here on.
    started: Instant,
    // Dropped in this order: nobody calls the cache any more when it goes.
    pressure: Pressure,
    _registration: Registration,
}

impl Pressed {
    fn new(soft_limit_bytes: u64) -> Result<Pressed> {
        let cache = Arc::new(FrameCache::new(CACHE_BUDGET_BYTES));
        let registration = ledger().register("frames", Priority::Cache, cache.clone());
        let pressure = ledger()
            .pressure()
            .growth(f64::INFINITY)
            .soft_limit(soft_limit_bytes)
            .follow_group(false)
            // What comes free is filled again at once: given back, it would only be touched anew.
            .trim(false)
            .start()?;
        Ok(Pressed {
            cache,
            soft_limit_bytes,
            started: Instant::now(),
            pressure,
            _registration: registration,
        })
    }

    fn held(&self, turns: &Turns) -> Held {
        let event = |cleanup: &Arc<Cleanup>| Event {
            t_s: turns
                .worked_until(self.started + cleanup.record.started)
                .as_secs_f64(),
            trigger: cleanup.record.trigger.name().to_owned(),
            level: cleanup.record.level.name().to_owned(),
            before_bytes: cleanup.record.before_bytes,
            freed_bytes: cleanup.record.freed_bytes,
            settle_ms: cleanup.record.settle_ms,
            reclaimers: cleanup.reclaimers.iter().map(reclaimer).collect(),
        };
        Held {
            soft_limit_bytes: self.soft_limit_bytes,
            events: self.pressure.cleanups().iter().map(event).collect(),
        }
    }
}

fn reclaimer(call: &ReclaimerCall) -> Reclaimer {
    Reclaimer {
        name: call.name.clone(),
        claimed_bytes: call.claimed_bytes.unwrap_or(0), // the workload's cache always tells
        took_ms: call.took.as_secs_f64() * 1000.0,
    }
}

/// The scene that is being filled. Earlier ones nobody holds, but they themselves.
#[derive(Default)]
struct Scenes {
    current: Arc<Scene>,
    frames: u64,
}

impl Keeper {
    fn of(task: &Task) -> Result<Keeper> {
        Ok(match task.name {
            RunName::Blind => Keeper::Cache(FrameCache::new(CACHE_BUDGET_BYTES)),
            RunName::Cycle => Keeper::Scenes(Mutex::default()),
            RunName::Manual => Keeper::Nobody,
            RunName::Pressure => Keeper::Pressed(Pressed::new(task.soft_limit_bytes)?),
        })
    }

    fn keep(&self, frame: Frame) {
        match self {
            Keeper::Cache(cache) => cache.insert(frame),
            Keeper::Scenes(scenes) => scenes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .add(frame),
            Keeper::Nobody => drop(frame),
            Keeper::Pressed(pressed) => pressed.cache.insert(frame),
        }
    }

    fn kept(&self) -> Kept {
        let cache = match self {
            Keeper::Cache(cache) => cache,
            Keeper::Pressed(pressed) => &pressed.cache,
            Keeper::Scenes(_) | Keeper::Nobody => return Kept::default(),
        };
        Kept {
            frames: cache.len() as u64,
            visible_bytes: cache.visible_bytes() as u64,
            budget_bytes: cache.budget_bytes() as u64,
        }
    }

    fn held(&self, turns: &Turns) -> Option<Held> {
        match self {
            Keeper::Pressed(pressed) => Some(pressed.held(turns)),
            _ => None,
        }
    }
}

impl Scenes {
    fn add(&mut self, frame: Frame) {
        if self.frames == SCENE_FRAMES {
            *self = Scenes::default();
        }
        Scene::add(&self.current, frame);
        self.frames += 1;
    }
}

/// Decodes the container on standard input; tells on standard output how it went.
pub(super) fn work(task: &Task) -> Result<()> {
    let books = ledger().snapshot();
    if !(books.sees(Side::C) && books.sees(Side::Rust)) {
        bail!("the preload library does not see both sides here");
    }
    drop(books);
    recycle_frames();
    // Output's buffer is made now, since the process frees it with its booked blocks.
    io::stdout().flush()?;
    let container = File::from(rustix::stdio::stdin().try_clone_to_owned()?);
    let run = measured(task, &Arc::new(container))?;
    // Nor is what is said about it; `run` itself, in part unbooked, goes with the process.
    let line = ManuallyDrop::new(Line::Done(Box::new(run)));
    unbooked(|| tell(&line))
}

/// Lets glibc keep the memory of freed frames in its heaps, where the next ones find it.
///
/// It comes to these two figures by itself when it sees the first large frame freed; until then each
/// large block is a mapping of its own, which is gone when it is freed. In the run `manual` that
/// is at once, in the run `pressure` not before the cache is full: half a gibibyte would be
/// touched a second time for it.
fn recycle_frames() {
    // SAFETY: two plain settings, before any other thread is there. Refused, they change nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST_FRAME_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 2 * LARGEST_FRAME_BYTES);
    }
}

fn tell(line: &Line) -> Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&text)?;
    Ok(out.flush()?)
}

/// What was decoded in all passes, and what was seen meanwhile.
struct Observed {
    turns: Turns,
    decoded: Decoded,
    toll: Toll,
    timeline: Vec<Point>,
}

/// Decodes the container as often as it is to be.
fn decode(task: &Task, container: &Arc<File>, keeper: &Keeper) -> Result<Observed> {
    let turn_frames = (task.passes > 1).then_some(TURN_FRAMES);
    let frames = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    let toll = Toll::now();
    let turns = unbooked(|| Turns::begin(turn_frames));
    let (decoded, timeline) = thread::scope(|scope| {
        // What looks at the workload is not part of it.
        let readings = scope.spawn(|| unbooked(|| take_readings(&turns, &frames, &is_over)));
        let pass = |_| {
            turns.threads_begin(task.workload.threads.max(1));
            let on_frame = |frame| {
                keeper.keep(frame);
                frames.fetch_add(1, Relaxed);
                turns.frame(others_turn);
            };
            let on_end = || turns.thread_ended(others_turn);
            task.workload.run_watched(container, on_frame, on_end)
        };
        let decoded: Result<Decoded, _> = (0..task.passes).map(pass).sum();
        turns.end();
        is_over.store(true, Relaxed);
        readings.thread().unpark();
        (decoded, readings.join().unwrap_or_default())
    });
    Ok(Observed {
        turns,
        decoded: decoded.context("cannot decode")?,
        toll: Toll::now().since(&toll),
        timeline,
    })
}

/// Says that a turn is over, and waits for the next one to be given by whoever reads that.
fn others_turn() {
    let is_told = unbooked(|| tell(&Line::Rests)).is_ok();
    let next = || rustix::io::read(rustix::stdio::stdout(), &mut [0; 1]);
    // Nobody is there any more where nothing comes.
    if !is_told || next() != Ok(1) {
        std::process::exit(1);
    }
}

fn measured(task: &Task, container: &Arc<File>) -> Result<Run> {
    let keeper = Keeper::of(task)?;
    let observed = ManuallyDrop::new(decode(task, container, &keeper)?);
    let seconds = observed.turns.worked().as_secs_f64();
    let kept = keeper.kept();
    let held = unbooked(|| keeper.held(&observed.turns));
    // Before names are looked up: reading debug information takes tens of megabytes.
    let rss_peak_bytes = resident_peak_bytes()?;
    let holders = unbooked(|| holders(&ledger().snapshot()));
    // The books are read when all is freed, so that nothing moves any more between this
    // reading and that of a recorder.
    drop(keeper);
    let books = ledger().snapshot();
    let peaks = books.peaks();
    Ok(Run {
        name: task.name.to_string(),
        passes: task.passes,
        frames: observed.decoded.frames,
        c_peak_live_bytes: peaks.c_live_bytes,
        rust_peak_live_bytes: peaks.rust_live_bytes,
        rss_peak_bytes,
        seconds,
        frames_per_s: observed.decoded.frames as f64 / seconds,
        user_s: observed.toll.user.as_secs_f64(),
        system_s: observed.toll.system.as_secs_f64(),
        page_faults: observed.toll.page_faults,
        pid: std::process::id(),
        c_allocated_bytes: books.c().allocated_bytes,
        c_allocated_blocks: books.c().allocated_blocks,
        frame_bytes: observed.decoded.frame_bytes,
        kept,
        pressure: held,
        holders,
        timeline: unbooked(|| observed.timeline.clone()),
    })
}

/// What the work took from the machine, by the kernel's account.
struct Toll {
    user: Duration,
    system: Duration,
    page_faults: u64,
}

impl Toll {
    fn now() -> Toll {
        // SAFETY: zeros are a valid rusage, and the kernel fills in ours.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_SELF, &mut usage);
            usage
        };
        let time = |time: libc::timeval| {
            Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
        };
        Toll {
            user: time(usage.ru_utime),
            system: time(usage.ru_stime),
            page_faults: usage.ru_minflt as u64,
        }
    }

    fn since(self, begin: &Toll) -> Toll {
        Toll {
            user: self.user.saturating_sub(begin.user),
            system: self.system.saturating_sub(begin.system),
            page_faults: self.page_faults.saturating_sub(begin.page_faults),
        }
    }
}

/// Reads the books until the run is over, and once more then.
fn take_readings(turns: &Turns, frames: &AtomicU64, is_over: &AtomicBool) -> Vec<Point> {
    let mut points = Vec::new();
    loop {
        let worked = turns.worked();
        let is_last = is_over.load(Relaxed);
        let live = ledger().live();
        points.push(Point {
            t_s: worked.as_secs_f64(),
            c_live_bytes: live.c_live_bytes,
            rust_live_bytes: live.rust_live_bytes,
            rss_bytes: resident_bytes().unwrap_or(0),
        });
        // Nobody listens any more: the demo was ended, and a gibibyte is not to outlive it.
        if tell(&Line::Progress(frames.load(Relaxed))).is_err() {
            std::process::exit(1);
        }
        if is_last {
            return points;
        }
        thread::park_timeout(READING_INTERVAL);
    }
}

fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn resident_peak_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|value| value.trim().strip_suffix(" kB"));
    let kib: u64 = kib
        .context("/proc/self/status has no VmHWM")?
        .trim()
        .parse()?;
    Ok(kib << 10)
}

/// Names who holds live bytes, the largest first.
fn holders(books: &Snapshot) -> Vec<Holder> {
    let mut owners: Vec<_> = books.owners().collect();
    owners.retain(|owner| owner.counts().live_bytes > 0);
    owners.sort_by_key(|owner| std::cmp::Reverse(owner.counts().live_bytes));
    let holder = |owner: &crate::Owner<'_>| Holder {
        side: owner.side().name().to_owned(),
        library: owner.library().map(file_name),
        symbol: owner.symbol(),
        scope: owner.scope().map(str::to_owned),
        live_bytes: owner.counts().live_bytes,
        live_blocks: owner.counts().live_blocks,
    };
    owners.iter().take(HOLDERS).map(holder).collect()
}

fn file_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}
