//! Programs that descendants executed and of which neither a ledger nor a look
//! tells: the kernel's process connector does, where we may listen.

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::super::clerk::Job;
use super::super::lives::{Execution, Lives};
use super::super::{ending, inspect, mono_ns, unix_ns};
use super::Watch;
use crate::recording::model::{Outcome, Process};
use crate::recording::resolve::seconds_between;

/// Reason of a program that was executed, kept no ledger and was not seen.
const ENDED_TOO_SOON: &str = "kept no ledger, and ended before it could be looked at";
/// The same of one that runs on.
const BEGAN_TOO_LATE: &str = "kept no ledger when the recording ended";

impl Watch<'_> {
    /// Hands over what is known of the program that a process became at this moment.
    pub(super) fn give_unseen(&mut self, pid: u32, mono_ns: u64, outcome: Outcome) {
        self.begun.entry(pid).or_default().push(mono_ns);
        let execution = self.lives.as_ref().and_then(|lives| {
            let all = lives.executions().iter();
            all.rev()
                .find(|one| one.pid == pid && one.mono_ns == mono_ns)
                .cloned()
        });
        let execution = execution.unwrap_or(Execution {
            pid,
            parent_pid: 0,
            mono_ns,
            executed: None,
        });
        let process = Box::new(self.unseen(&execution, outcome));
        self.run.clerk.give(Job::Untracked(process));
    }

    /// Hands over every program that the root and its descendants executed and
    /// that is not in the recording yet. When all others are.
    pub(super) fn give_all_unseen(&mut self) {
        if !self.run.children {
            return;
        }
        self.hear();
        let Some(lives) = &self.lives else {
            return;
        };
        // In a pid namespace of their own ledgers have other numbers than the kernel tells us.
        if !self.begun.keys().all(|&pid| lives.descends(pid)) {
            return;
        }
        for (execution, until) in with_ends(lives.executions()) {
            let span = execution.mono_ns..until.unwrap_or(u64::MAX);
            let begun = self.begun.get(&execution.pid);
            let is_known = begun.is_some_and(|all| all.iter().any(|began| span.contains(began)));
            // What is known of the root itself is said elsewhere.
            if is_known || (execution.pid == self.root_pid && !self.root_was_seen) {
                continue;
            }
            let outcome = match until {
                Some(_) => Outcome::Exec,
                None => how_it_ended(lives, execution),
            };
            let process = Box::new(self.unseen(execution, outcome));
            self.run.clerk.give(Job::Untracked(process));
        }
    }

    fn unseen(&self, execution: &Execution, outcome: Outcome) -> Process {
        let now = mono_ns();
        let lasted_ns = now.saturating_sub(execution.mono_ns);
        let began_unix_ns = unix_ns().saturating_sub(lasted_ns);
        let path = execution.executed.as_ref().map(|one| one.path.display());
        let reason = reason(execution).unwrap_or_else(|| match outcome {
            Outcome::Running => BEGAN_TOO_LATE.to_owned(),
            _ => ENDED_TOO_SOON.to_owned(),
        });
        Process {
            pid: execution.pid,
            parent_pid: execution.parent_pid,
            exe: path.map_or("(unknown program)".to_owned(), |path| path.to_string()),
            started_s: seconds_between(self.run.start_unix_ns, began_unix_ns),
            duration_s: seconds_between(execution.mono_ns, now),
            outcome,
            untracked_reason: Some(reason),
            ..Process::default()
        }
    }
}

/// Gives each execution with when the same process executed the next program.
fn with_ends(all: &[Execution]) -> Vec<(&Execution, Option<u64>)> {
    let mut next: HashMap<u32, u64> = HashMap::new();
    let mut pairs: Vec<_> = all
        .iter()
        .rev()
        .map(|one| (one, next.insert(one.pid, one.mono_ns)))
        .collect();
    pairs.reverse();
    pairs
}

fn how_it_ended(lives: &Lives, execution: &Execution) -> Outcome {
    let status = lives.wait_status(execution.pid, execution.mono_ns);
    status.map_or(Outcome::Running, |status| {
        ending::from_status(ExitStatus::from_raw(status))
    })
}

/// What the file of the program says, where it can still be found.
fn reason(execution: &Execution) -> Option<String> {
    let file = execution.executed.as_ref()?.file()?;
    let untracked = inspect::inspect_file(file).untracked;
    let untracked = untracked.or_else(|| inspect::privileges(file))?;
    Some(untracked.to_string())
}
