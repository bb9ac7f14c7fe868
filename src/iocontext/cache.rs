//! The trap: owners of frames that count the bytes Rust can see.

use std::collections::VecDeque;
use std::mem::size_of;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::objects::Frame;
use crate::pressure::{Reclaim, ReclaimRequest, Reclaimed};

/// A frame in a cache. Behind its few bytes are megabytes of C's.
#[derive(Debug)]
pub struct CachedFrame {
    /// The picture.
    pub frame: Frame,
}

/// What Rust sees of a cached frame: the object, the counts of its `Arc`, and the cache's pointer.
const VISIBLE_BYTES: usize =
    size_of::<CachedFrame>() + 2 * size_of::<usize>() + size_of::<Arc<CachedFrame>>();

#[derive(Debug, Default)]
struct Frames {
    oldest_first: VecDeque<Arc<CachedFrame>>,
    visible_bytes: usize,
}

/// A cache with a budget, which it keeps: by the bytes that Rust can see.
#[derive(Debug)]
pub struct FrameCache {
    budget_bytes: usize,
    frames: Mutex<Frames>,
}

impl FrameCache {
    /// Makes an empty cache.
    pub fn new(budget_bytes: usize) -> FrameCache {
        FrameCache {
            budget_bytes,
            frames: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a frame, and lets the oldest go while the budget is exceeded.
    pub fn insert(&self, frame: Frame) {
        let cached = Arc::new(CachedFrame { frame });
        let mut frames = self.lock();
        frames.oldest_first.push_back(cached);
        frames.visible_bytes += VISIBLE_BYTES;
        while frames.visible_bytes > self.budget_bytes && frames.evict().is_some() {}
    }

    /// Lets the oldest frame go; `None` when there is none.
    pub fn evict(&self) -> Option<Arc<CachedFrame>> {
        self.lock().evict()
    }

    /// Lets the oldest frames go until so many bytes of C's are free, 0 for all; gives how many that were.
    pub fn evict_bytes(&self, target_bytes: u64) -> u64 {
        let mut freed_bytes = 0;
        while target_bytes == 0 || freed_bytes < target_bytes {
            // Freed outside the lock: decoders need not wait for it.
            let Some(oldest) = self.evict() else { break };
            freed_bytes += oldest.frame.bytes() as u64;
        }
        freed_bytes
    }

    /// Counts the frames.
    pub fn len(&self) -> usize {
        self.lock().oldest_first.len()
    }

    /// Tells whether there is no frame.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives the bytes that the cache believes to hold.
    pub fn visible_bytes(&self) -> usize {
        self.lock().visible_bytes
    }

    /// Gives the bytes that it may hold, as it counts them.
    pub fn budget_bytes(&self) -> usize {
        self.budget_bytes
    }
}

impl Frames {
    fn evict(&mut self) -> Option<Arc<CachedFrame>> {
        let oldest = self.oldest_first.pop_front()?;
        self.visible_bytes -= VISIBLE_BYTES;
        Some(oldest)
    }
}

/// What makes the trap harmless: C's bytes, not its own, tell the cache when to evict.
impl Reclaim for FrameCache {
    fn reclaim(&self, request: &ReclaimRequest) -> Reclaimed {
        Reclaimed::bytes(self.evict_bytes(request.target_bytes))
    }
}

/// Frames of one scene that know each other: a cycle, which never ends by itself.
#[derive(Debug, Default)]
pub struct Scene {
    frames: Mutex<Vec<Arc<SceneFrame>>>,
}

/// A frame that knows its scene.
#[derive(Debug)]
pub struct SceneFrame {
    /// The picture.
    pub frame: Frame,
    /// Holds this very frame.
    pub scene: Arc<Scene>,
}

impl Scene {
    /// Adds a frame to a scene.
    pub fn add(scene: &Arc<Scene>, frame: Frame) {
        let scene_frame = Arc::new(SceneFrame {
            frame,
            scene: Arc::clone(scene),
        });
        let mut frames = scene.frames.lock().unwrap_or_else(PoisonError::into_inner);
        frames.push(scene_frame);
    }

    /// Breaks the cycle; gives the frames.
    pub fn dissolve(&self) -> Vec<Arc<SceneFrame>> {
        std::mem::take(&mut *self.frames.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
