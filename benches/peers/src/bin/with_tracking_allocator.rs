//! tracking-allocator, if on with the least tracker that knows live bytes: one
//! sum for the one group that there is.

use std::alloc::System;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracking_allocator::{AllocationGroupId, AllocationRegistry, AllocationTracker, Allocator};

#[global_allocator]
static ALLOC: Allocator<System> = Allocator::system();

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

struct LiveBytes;

impl AllocationTracker for LiveBytes {
    fn allocated(&self, _: usize, bytes: usize, _: usize, _: AllocationGroupId) {
        LIVE_BYTES.fetch_add(bytes, Ordering::Relaxed);
    }

    fn deallocated(
        &self,
        _: usize,
        bytes: usize,
        _: usize,
        _: AllocationGroupId,
        _: AllocationGroupId,
    ) {
        LIVE_BYTES.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn main() -> ExitCode {
    if heapledger_peers::is_on() {
        AllocationRegistry::set_global_tracker(LiveBytes).expect("there is no other tracker");
        AllocationRegistry::enable_tracking();
    }
    let code = heapledger_peers::main();
    AllocationRegistry::disable_tracking();
    code
}
