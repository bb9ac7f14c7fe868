//! Makes a recording from a file safe to work with: every index leads
//! somewhere, every figure is a number, the root comes first.

use super::model::{MisuseStack, PressureEvent, Process, Recording};

/// No recorder keeps deeper stacks.
const MOST_FRAMES: usize = 1024;
/// No compiler nests deeper what it inlines; each stack through a site has them all.
const MOST_INLINED: usize = 64;

/// Drops what refers to nothing and says so.
pub(super) fn check(recording: &mut Recording) {
    let modules = recording.modules.len();
    let mut dangling = 0usize;
    for site in &mut recording.sites {
        site.inlined.truncate(MOST_INLINED);
        if site.module.is_some_and(|index| index as usize >= modules) {
            site.module = None;
            dangling += 1;
        }
    }
    let sites = recording.sites.len();
    for process in &mut recording.processes {
        dangling += check_process(process, sites);
    }
    if dangling > 0 {
        recording.warnings.push(format!(
            "{dangling} entries refer to nothing and are left out"
        ));
    }
    sort_processes(recording);
}

/// Puts the root first, then everything in the order in which it began.
pub(super) fn sort_processes(recording: &mut Recording) {
    let root_pid = recording.start.root_pid;
    recording.processes.sort_by(|a, b| {
        let rank = |process: &Process| process.pid != root_pid;
        rank(a)
            .cmp(&rank(b))
            .then(a.started_s.total_cmp(&b.started_s))
    });
}

fn check_process(process: &mut Process, sites: usize) -> usize {
    let before = process.owners.len();
    process.owners.retain(|owner| (owner.site as usize) < sites);
    let mut dangling = before - process.owners.len();
    let scopes = process.scopes.len();
    for owner in &mut process.owners {
        if owner.scope.is_some_and(|index| index as usize >= scopes) {
            owner.scope = None;
            dangling += 1;
        }
    }
    dangling += check_stacks(process, sites);
    dangling += check_misuses(process, sites);
    for seconds in [
        &mut process.started_s,
        &mut process.duration_s,
        &mut process.peak.at_s,
    ]
    .into_iter()
    .chain(process.timeline.iter_mut().map(|point| &mut point.t_s))
    .chain(process.pressure.events.iter_mut().flat_map(times))
    .chain(process.misuses.iter_mut().map(|misuse| &mut misuse.t_s))
    {
        if !seconds.is_finite() {
            *seconds = 0.0;
        }
    }
    dangling
}

fn times(event: &mut PressureEvent) -> impl Iterator<Item = &mut f64> {
    let calls = event.reclaimers.iter_mut().map(|call| &mut call.took_s);
    [&mut event.t_s, &mut event.settle_s, &mut event.took_s]
        .into_iter()
        .chain(calls)
}

/// A frame that leads nowhere costs its stack: without it the stack would be another one.
fn check_stacks(process: &mut Process, sites: usize) -> usize {
    let before = process.stacks.len();
    process.stacks.retain(|stack| {
        let is_known = |&frame: &u32| (frame as usize) < sites;
        !stack.frames.is_empty() && stack.frames.iter().all(is_known)
    });
    let mut dangling = before - process.stacks.len();
    let (scopes, threads) = (process.scopes.len(), process.threads.len());
    for stack in &mut process.stacks {
        if stack.frames.len() > MOST_FRAMES {
            stack.frames.truncate(MOST_FRAMES);
            stack.is_truncated = true;
        }
        for (index, rows) in [(&mut stack.scope, scopes), (&mut stack.thread, threads)] {
            if index.is_some_and(|index| index as usize >= rows) {
                *index = None;
                dangling += 1;
            }
        }
    }
    dangling
}

/// A frame that leads nowhere costs its end of the misuse; the call was made all the same.
fn check_misuses(process: &mut Process, sites: usize) -> usize {
    let mut dangling = 0;
    for misuse in &mut process.misuses {
        for end in [
            &mut misuse.allocated,
            &mut misuse.first_freed,
            &mut misuse.freed,
        ] {
            let Some(stack) = end else { continue };
            if !check_end(stack, sites) {
                *end = None;
                dangling += 1;
            }
        }
    }
    dangling
}

/// Tells whether the stack leads anywhere, and cuts it to what any recorder keeps.
fn check_end(stack: &mut MisuseStack, sites: usize) -> bool {
    if stack.frames.len() > MOST_FRAMES {
        stack.frames.truncate(MOST_FRAMES);
        stack.is_truncated = true;
    }
    let is_known = |&frame: &u32| (frame as usize) < sites;
    !stack.frames.is_empty() && stack.frames.iter().all(is_known)
}
