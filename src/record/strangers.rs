//! Finds descendants of the program that keep no ledger, and says why.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{inspect, proc, unix_ns};
use crate::recording::model::Process;
use crate::recording::resolve::seconds_between;

/// Name by which the preload library is known in /proc/PID/maps.
pub(super) const LIBRARY: &str = "/libheapledger.so";
/// The loader maps it after all that is preloaded. On a busy machine it may take any time.
/// Before glibc 2.34 the file is called libc-2.31.so.
const MAPPED_LATER: [&str; 2] = ["/libc.so", "/libc-2."];
/// Distance of two scans, if they are cheap.
const INTERVAL: Duration = Duration::from_millis(15);
/// A scan may cost this part of the time.
const COST_DIVISOR: u32 = 50;
/// So many are left out at most while the machine has no new process.
const LEFT_OUT: u32 = 9;
/// No scan looks at more processes.
const MAX_PROCESSES: usize = 10_000;
/// A young image may be about to create its ledger: it is judged when seen this often.
const SIGHTINGS: u32 = 3;

/// Identity of an image: start of the process, and what tells its images apart.
pub(super) type Identity = (u64, proc::LaidOut);

/// Something that the scan found out.
pub(super) struct Found {
    pub pid: u32,
    pub stat: proc::Stat,
    pub reason: String,
}

impl Found {
    /// Makes the entry of it, of which nothing more will be known.
    pub(super) fn process(&self, start_unix_ns: u64) -> Process {
        let exe = proc::exe(self.pid).unwrap_or_default();
        Process {
            pid: self.pid,
            parent_pid: self.stat.parent_pid,
            exe: exe.display().to_string(),
            args: proc::args(self.pid),
            started_s: seconds_between(start_unix_ns, unix_ns()),
            untracked_reason: Some(self.reason.clone()),
            ..Process::default()
        }
    }
}

/// The scanner.
pub(super) struct Strangers {
    root_pid: u32,
    children: bool,
    candidates: HashMap<u32, (Identity, u32)>,
    next: Instant,
    newest: proc::Newest,
    newest_number: Option<u64>,
    left_out: u32,
}

impl Strangers {
    pub(super) fn new(root_pid: u32, children: bool) -> Strangers {
        Strangers {
            root_pid,
            children,
            candidates: HashMap::new(),
            next: Instant::now() + INTERVAL,
            newest: proc::Newest::open(),
            newest_number: None,
            left_out: 0,
        }
    }

    /// Gives the moment of the next scan.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Scans the tree below the root. `known` gives the identity of images that are watched.
    pub(super) fn scan(&mut self, known: impl Fn(u32) -> Option<Identity>) -> Vec<Found> {
        let began = Instant::now();
        let mut found = Vec::new();
        let newest = self.newest.number();
        if !self.has_news(newest) {
            self.next = began + INTERVAL;
            return found;
        }
        let mut seen = HashMap::new();
        for (pid, stat) in self.tree() {
            let identity = (stat.start_ticks, stat.laid_out);
            if known(pid) == Some(identity) || matches!(stat.state, b'Z' | b'X') {
                continue;
            }
            let before = self
                .candidates
                .get(&pid)
                .filter(|(earlier, _)| *earlier == identity);
            let mut sightings =
                before.map_or(1, |(_, sightings)| (sightings + 1).min(SIGHTINGS + 1));
            if sightings == SIGHTINGS {
                match verdict(pid, known(pid).is_some()) {
                    Verdict::Stranger(reason) => found.push(Found { pid, stat, reason }),
                    Verdict::Loading => sightings -= 1,
                    Verdict::Ours => {}
                }
            }
            seen.insert(pid, (identity, sightings));
        }
        self.candidates = seen;
        self.next = Instant::now() + INTERVAL.max(began.elapsed() * COST_DIVISOR);
        found
    }

    /// Makes the next scan look, whatever has happened since the last.
    pub(super) fn expect(&mut self) {
        self.newest_number = None;
    }

    /// Tells whether there may be something new, by the machine's newest process: to ask for that
    /// costs a fraction of a scan. Who has no image yet may run another program at any time.
    fn has_news(&mut self, newest: Option<u64>) -> bool {
        let is_same = newest.is_some() && newest == self.newest_number;
        self.newest_number = newest;
        self.left_out += 1;
        let has_news = !is_same || !self.candidates.is_empty() || self.left_out > LEFT_OUT;
        if has_news {
            self.left_out = 0;
        }
        has_news
    }

    fn tree(&self) -> Vec<(u32, proc::Stat)> {
        let mut tree = Vec::new();
        let mut queue = vec![self.root_pid];
        while let Some(pid) = queue.pop()
            && tree.len() < MAX_PROCESSES
        {
            if self.children {
                queue.extend(proc::children(pid));
            }
            if let Some(stat) = proc::stat(pid) {
                tree.push((pid, stat));
            }
        }
        tree
    }
}

/// What a look at an image says.
enum Verdict {
    /// It keeps no ledger, for this reason.
    Stranger(String),
    /// The loader has not come far enough to tell.
    Loading,
    /// It merely has not allocated since its fork, or only moved its arguments.
    Ours,
}

fn verdict(pid: u32, had_ledger: bool) -> Verdict {
    match proc::maps(pid, LIBRARY) {
        Some(true) => return Verdict::Ours,
        None if had_ledger => return Verdict::Ours,
        _ => {}
    }
    let image = inspect::inspect_file(Path::new(&format!("/proc/{pid}/exe")));
    if let Some(reason) = image.untracked {
        return Verdict::Stranger(reason.to_string());
    }
    let Some(exe) = proc::exe(pid) else {
        return Verdict::Ours;
    };
    if let Some(reason) = inspect::privileges(&exe) {
        return Verdict::Stranger(reason.to_string());
    }
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let is_set = environment
        .split(|&byte| byte == 0)
        .any(|entry| entry.starts_with(b"LD_PRELOAD="));
    if !is_set {
        return Verdict::Stranger("started without LD_PRELOAD in its environment".to_owned());
    }
    let is_loaded = MAPPED_LATER
        .iter()
        .any(|name| proc::maps(pid, name) == Some(true));
    match is_loaded && proc::maps(pid, LIBRARY) == Some(false) {
        true => Verdict::Stranger(super::NOT_LOADED.to_owned()),
        false => Verdict::Loading,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_looked_for_while_nothing_is_new() {
        let mut strangers = Strangers::new(std::process::id(), true);
        assert!(strangers.has_news(Some(7)), "the first look");
        assert!(!strangers.has_news(Some(7)));
        assert!(strangers.has_news(Some(8)), "a new process");
        let mut looks = (0..20).map(|_| strangers.has_news(Some(8)));
        assert_eq!(looks.position(|looks| looks), Some(9), "each tenth");
        assert_eq!(looks.position(|looks| looks), Some(9));
    }

    #[test]
    fn what_is_expected_or_has_no_image_is_looked_for() {
        let mut strangers = Strangers::new(std::process::id(), true);
        assert!(strangers.has_news(Some(7)) && !strangers.has_news(Some(7)));
        strangers.expect();
        assert!(strangers.has_news(Some(7)) && !strangers.has_news(Some(7)));
        strangers.candidates.insert(7, ((1, [0; 3]), SIGHTINGS + 1));
        assert!(strangers.has_news(Some(7)) && strangers.has_news(Some(7)));
        strangers.candidates.clear();
        assert!(!strangers.has_news(Some(7)));
    }

    #[test]
    fn where_nobody_tells_of_new_processes_every_look_counts() {
        let mut strangers = Strangers::new(std::process::id(), true);
        assert!((0..3).all(|_| strangers.has_news(None)));
    }
}
