//! A recording of mode full with many stacks, as a server of a few hundred thousand
//! lines leaves one: call paths that share their beginnings, in both sides.

use heapledger::recording::Recording;
use heapledger::recording::model::{
    Mode, Module, Outcome, OwnerEntry, Peak, Process, Site, Sizes, Stack, StackFigures, Start,
    Thread, TimelinePoint,
};
use heapledger::{Counts, Side};

const FUNCTIONS: u64 = 12_000;
const THREADS: u32 = 24;
const SCOPES: u32 = 12;
const DEEPEST: u64 = 48;

/// Gives a recording with so many stacks.
pub fn recording(stacks: u32) -> Recording {
    let mut paths = Paths(0x9e37_79b9);
    let mut last = Vec::new();
    let stacks: Vec<Stack> = (0..stacks)
        .map(|_| {
            last = paths.next(&last);
            stack(&mut paths, &last)
        })
        .collect();
    Recording {
        start: Start {
            command: vec!["server".into(), "--workers".into(), "24".into()],
            heapledger: "0.1.0".into(),
            ..Start::default()
        },
        modules: (0..40).map(module).collect(),
        sites: (0..FUNCTIONS).map(site).collect(),
        processes: vec![process(stacks)],
        warnings: Vec::new(),
    }
}

/// Numbers without a pattern, the same in every run.
struct Paths(u64);

impl Paths {
    fn number(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    /// Goes back some way from the last stack, and down another one. Outermost first.
    fn next(&mut self, last: &[u32]) -> Vec<u32> {
        let kept = last.len() - (self.number(6) as usize).min(last.len());
        let mut path = last[..kept].to_vec();
        let deeper = 1 + self.number(6);
        for _ in 0..deeper {
            let caller = path.last().map_or(0, |&caller| u64::from(caller));
            // A function calls some dozen others.
            let callee = (caller * 31 + self.number(12) * 977 + 1) % FUNCTIONS;
            path.push(callee as u32);
        }
        let longest = (DEEPEST - self.number(20)) as usize;
        path.truncate(longest);
        path
    }
}

fn stack(numbers: &mut Paths, path: &[u32]) -> Stack {
    let blocks = 1 + numbers.number(200);
    let size = 16 << numbers.number(12);
    let live = blocks / 3;
    Stack {
        frames: path.iter().rev().copied().collect(),
        is_truncated: false,
        is_guessed: false,
        side: if numbers.number(3) == 0 {
            Side::Rust
        } else {
            Side::C
        },
        scope: Some(numbers.number(u64::from(SCOPES)) as u32),
        thread: Some(numbers.number(u64::from(THREADS)) as u32),
        figures: StackFigures {
            live_bytes: (live * size) as i64,
            live_blocks: live as i64,
            allocated_bytes: blocks * size,
            allocated_blocks: blocks,
            at_peak: ((live * size + size) as i64, live as i64 + 1),
            temporary: (blocks / 4 * size, blocks / 4),
            samples: blocks,
            ..StackFigures::default()
        },
    }
}

fn module(index: u8) -> Module {
    Module {
        path: format!("/usr/lib/x86_64-linux-gnu/libpart{index}.so.1"),
        build_id: vec![index; 20],
    }
}

fn site(index: u64) -> Site {
    Site {
        module: Some((index % 40) as u32),
        offset: index * 48,
        symbol: Some(format!(
            "project::module_{}::function_with_a_usual_name_{index}",
            index % 97
        )),
        file: Some(format!(
            "/home/build/project/src/module_{}/file.rs",
            index % 97
        )),
        line: Some(index as u32 % 900 + 1),
        ..Site::default()
    }
}

fn process(stacks: Vec<Stack>) -> Process {
    let point = |index: u32| TimelinePoint {
        t_s: f64::from(index) * 0.1,
        c_live_bytes: i64::from(index) * 4_000_000,
        rust_live_bytes: i64::from(index) * 2_000_000,
        rss_bytes: u64::from(index) * 7_000_000,
    };
    let owners = owners(&stacks);
    let live = |side: Option<Side>| {
        let taken = owners
            .iter()
            .filter(|owner| side.is_none_or(|side| owner.side == side));
        taken.map(|owner| owner.at_peak.0).sum()
    };
    let sizes = Sizes {
        buckets: (4..16).map(|power| ((1 << power) - 1, 1_000)).collect(),
        max: 32_000,
    };
    Process {
        pid: 4_711,
        exe: "/usr/bin/server".into(),
        args: vec!["server".into(), "--workers".into(), "24".into()],
        duration_s: 90.0,
        outcome: Outcome::ExitCode(0),
        hooks: 3,
        mode: Mode::Full,
        scopes: (0..SCOPES)
            .map(|scope| format!("request kind {scope}"))
            .collect(),
        threads: (0..THREADS).map(|index| thread(index, &stacks)).collect(),
        sizes: [sizes.clone(), sizes],
        peak: Peak {
            live_bytes: [live(Some(Side::C)), live(Some(Side::Rust)), live(None)],
            at_s: 88.0,
            captured_live_bytes: live(None),
        },
        timeline: (0..900).map(point).collect(),
        owners,
        stacks,
        ..Process::default()
    }
}

/// The books by call site, which agree with the stacks.
fn owners(stacks: &[Stack]) -> Vec<OwnerEntry> {
    let mut owners = std::collections::BTreeMap::<(u32, Side, Option<u32>), OwnerEntry>::new();
    for stack in stacks {
        let figures = &stack.figures;
        let site = stack.frames[0];
        let owner = owners
            .entry((site, stack.side, stack.scope))
            .or_insert_with(|| OwnerEntry {
                site,
                side: stack.side,
                scope: stack.scope,
                counts: Counts::default(),
                at_peak: (0, 0),
            });
        owner.counts += counts(figures);
        owner.at_peak.0 += figures.at_peak.0;
        owner.at_peak.1 += figures.at_peak.1;
    }
    owners.into_values().collect()
}

fn counts(figures: &StackFigures) -> Counts {
    Counts {
        live_bytes: figures.live_bytes,
        live_blocks: figures.live_blocks,
        allocated_bytes: figures.allocated_bytes,
        allocated_blocks: figures.allocated_blocks,
        freed_bytes: figures.allocated_bytes - figures.live_bytes as u64,
        freed_blocks: figures.allocated_blocks - figures.live_blocks as u64,
        reallocs: 0,
        requested_bytes: figures.allocated_bytes,
    }
}

fn thread(index: u32, stacks: &[Stack]) -> Thread {
    let of_thread = stacks.iter().filter(|stack| stack.thread == Some(index));
    let mut sides = [Counts::default(); 2];
    for stack in of_thread {
        sides[usize::from(stack.side == Side::Rust)] += counts(&stack.figures);
    }
    Thread {
        tid: 5_000 + index,
        name: format!("worker-{}", index % 8),
        counts: sides,
    }
}
