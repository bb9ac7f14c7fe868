//! The control groups of driven processes, each read and watched once for all
//! processes in it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::steward::Shared;
use crate::pressure::GroupMemory;
use crate::pressure::readings::ControlGroup;
use crate::pressure::stalls::StallWatch;

/// The groups that driven processes are in; `None` where there is no cgroup v2.
#[derive(Default)]
pub(super) struct Groups(HashMap<Option<ControlGroup>, Arc<Group>>);

type Members = Mutex<Vec<Weak<Shared>>>;

/// One group.
pub(super) struct Group {
    control: Option<ControlGroup>,
    last: Mutex<Option<(Instant, Option<GroupMemory>)>>,
    members: Arc<Members>,
    _stalls: Option<StallWatch>,
}

impl Groups {
    /// Gives the group of a process; `None` for one that cannot be seen from here.
    pub(super) fn of(&mut self, pid: Option<u32>) -> Arc<Group> {
        // Whatever moves processes about makes groups without end.
        self.0.retain(|_, group| group.is_in_use());
        let control = pid.and_then(ControlGroup::of);
        let group = self.0.entry(control.clone());
        Arc::clone(group.or_insert_with(|| Arc::new(Group::new(control))))
    }
}

impl Group {
    fn new(control: Option<ControlGroup>) -> Group {
        let members: Arc<Members> = Arc::default();
        let told = Arc::clone(&members);
        let report = move || {
            let present: Vec<Arc<Shared>> = lock(&told).iter().filter_map(Weak::upgrade).collect();
            present.iter().for_each(|member| member.note_stall());
        };
        Group {
            _stalls: StallWatch::start(control.as_ref(), report),
            control,
            last: Mutex::default(),
            members,
        }
    }

    /// Tells a steward of stalls from now on.
    pub(super) fn enter(&self, member: &Arc<Shared>) {
        let mut members = lock(&self.members);
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(member));
    }

    /// Reads the limit that leaves least; a reading not older than `age` is as good.
    pub(super) fn read(&self, age: Duration) -> Option<GroupMemory> {
        let control = self.control.as_ref()?;
        let mut last = lock(&self.last);
        match *last {
            Some((at, memory)) if at.elapsed() <= age => memory,
            _ => {
                let memory = control.read();
                *last = Some((Instant::now(), memory));
                memory
            }
        }
    }

    fn is_in_use(&self) -> bool {
        lock(&self.members)
            .iter()
            .any(|member| member.strong_count() > 0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
