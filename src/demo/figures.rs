//! What a run of the demo measured: `heapledger.demo/1`.

use serde::{Deserialize, Serialize};

/// Name and version of the JSON.
pub(crate) const SCHEMA: &str = "heapledger.demo/1";

/// All runs. Keys may be added, never renamed.
#[derive(Serialize)]
pub(crate) struct Demo {
    pub schema: &'static str,
    pub frames: u32,
    pub threads: u32,
    pub seed: u64,
    pub runs: Vec<Run>,
}

/// One run, measured by its own process.
#[derive(Serialize, Deserialize)]
pub(crate) struct Run {
    pub name: String,
    /// How often it decoded the container; times leave out what other runs
    /// had their turns in.
    pub passes: u32,
    pub frames: u64,
    pub c_peak_live_bytes: i64,
    pub rust_peak_live_bytes: i64,
    pub rss_peak_bytes: u64,
    pub seconds: f64,
    pub frames_per_s: f64,
    /// Time on processors while frames were decoded: in the program, and in the kernel for it.
    pub user_s: f64,
    pub system_s: f64,
    /// Pages that were touched for the first time meanwhile.
    pub page_faults: u64,
    /// Of the process that ran it.
    pub pid: u32,
    /// All that C allocated in that process, in usable bytes.
    pub c_allocated_bytes: u64,
    pub c_allocated_blocks: u64,
    /// Bytes of the frames decoded, as the library tells.
    pub frame_bytes: u64,
    /// What Rust keeps, as Rust counts it.
    pub kept: Kept,
    /// In the run that is held down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Held>,
    /// Who held live bytes when the last frame was decoded, the largest first.
    pub holders: Vec<Holder>,
    pub timeline: Vec<Point>,
}

/// What a cache believes to hold.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub frames: u64,
    pub visible_bytes: u64,
    pub budget_bytes: u64,
}

/// How a run was held down.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Held {
    pub soft_limit_bytes: u64,
    /// Clean-ups, the oldest first.
    pub events: Vec<Event>,
}

/// One clean-up.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Event {
    pub t_s: f64,
    pub trigger: String,
    pub level: String,
    pub before_bytes: u64,
    pub freed_bytes: u64,
    pub settle_ms: u64,
    pub reclaimers: Vec<Reclaimer>,
}

/// What one reclaimer claims.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Reclaimer {
    pub name: String,
    pub claimed_bytes: u64,
    pub took_ms: f64,
}

/// An owner of live bytes.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub side: String,
    pub library: Option<String>,
    pub symbol: Option<String>,
    pub scope: Option<String>,
    pub live_bytes: i64,
    pub live_blocks: i64,
}

/// One reading.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Point {
    pub t_s: f64,
    pub c_live_bytes: i64,
    pub rust_live_bytes: i64,
    pub rss_bytes: u64,
}

/// What a worker tells, a line of JSON each.
#[derive(Serialize, Deserialize)]
pub(crate) enum Line {
    /// Frames decoded so far.
    Progress(u64),
    /// Its turn is over, and it goes on when it is told so.
    Rests,
    Done(Box<Run>),
}
