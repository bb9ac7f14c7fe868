//! Names pushed around some work.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::core;

/// Books what this thread allocates, C and Rust, to a name until the guard is dropped.
///
/// Scopes nest; the innermost counts. The guard stays on its thread: do not
/// hold one across an `.await`. Frees are booked to whatever scope the block
/// was allocated in.
///
/// ```
/// let _decode = heapledger::scope!("decode");
/// let frame = vec![0u8; 1 << 20]; // booked to `decode`
/// # drop(frame);
/// ```
#[macro_export]
macro_rules! scope {
    ($name:expr) => {{
        static NAME: $crate::ScopeName = $crate::ScopeName::new($name);
        NAME.enter()
    }};
}

/// A scope's name that is looked up once: what [`scope!`](crate::scope!) keeps in a static.
#[derive(Debug)]
pub struct ScopeName {
    name: &'static str,
    /// The core's identifier; 0 = not known yet.
    id: AtomicU32,
}

impl ScopeName {
    /// Makes a name without looking it up.
    pub const fn new(name: &'static str) -> ScopeName {
        ScopeName {
            name,
            id: AtomicU32::new(0),
        }
    }

    /// Enters the scope on this thread.
    pub fn enter(&self) -> Scope {
        let mut id = self.id.load(Relaxed);
        if id == 0 {
            id = core::scope_id(self.name);
            self.id.store(id, Relaxed);
        }
        Scope::enter_id(id)
    }
}

/// A scope that this thread is in until it is dropped.
#[must_use = "the scope ends when this is dropped"]
#[derive(Debug)]
pub struct Scope {
    /// Leaving is the entering thread's own act.
    not_send: PhantomData<*const ()>,
}

impl Scope {
    /// Enters a scope whose name is only known at run time; `scope!` is faster for a constant one.
    pub fn enter(name: &str) -> Scope {
        Scope::enter_id(core::scope_id(name))
    }

    fn enter_id(id: u32) -> Scope {
        core::scope_enter(id);
        Scope {
            not_send: PhantomData,
        }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        core::scope_leave();
    }
}
