// expect, by scope `exact`: rust 100 blocks of 1,000 bytes, 40 of them freed, one realloc of 2,000
// to 3,000 bytes; c 50 blocks of 504 usable bytes from the library in LIBRARY, 20 of them freed.
//
// Built with and without feature `interpose`, run plainly and under the preload: whatever is
// booked is booked once and on its side.

use std::ffi::{CString, c_void};
use std::hint::black_box;

use heapledger::{Counts, Side, ledger, scope};

#[global_allocator]
static ALLOC: heapledger::Alloc = heapledger::Alloc::system();

/// Boxed, since each is a block of its own.
type Block = Box<[u8; 1000]>;

type Take = unsafe extern "C" fn() -> *mut c_void;

fn open_library() -> Take {
    let path =
        CString::new(std::env::var("LIBRARY").expect("LIBRARY names the C library")).unwrap();
    // SAFETY: the path is a C string, and the library's `take` has the type `Take`.
    unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        assert!(!library.is_null(), "cannot open {path:?}");
        let take = libc::dlsym(library, c"take".as_ptr());
        assert!(!take.is_null());
        std::mem::transmute::<*mut c_void, Take>(take)
    }
}

fn work(take: Take, kept: &mut Vec<Block>, held: &mut Vec<*mut c_void>, grown: &mut Vec<u8>) {
    let _exact = scope!("exact");
    for _ in 0..100 {
        kept.push(black_box(Box::new([1u8; 1000])));
    }
    kept.truncate(60);
    // Exactly one allocation and one realloc.
    *grown = Vec::with_capacity(2000);
    black_box(grown.as_mut_ptr());
    grown.resize(2000, 0);
    grown.reserve_exact(1000);
    black_box(grown.as_mut_ptr());
    for _ in 0..50 {
        // SAFETY: `take` is malloc with a constant.
        held.push(unsafe { take() });
    }
    for block in held.drain(30..) {
        // SAFETY: the block is malloc's and nobody else's.
        unsafe { libc::free(block) };
    }
}

fn of_scope(side: Side, scope: &str) -> Counts {
    ledger()
        .snapshot()
        .owners()
        .filter(|owner| owner.side() == side && owner.scope() == Some(scope))
        .map(|owner| owner.counts())
        .sum()
}

fn main() {
    let take = open_library();
    let (mut kept, mut held, mut grown) =
        (Vec::with_capacity(100), Vec::with_capacity(50), Vec::new());
    work(take, &mut kept, &mut held, &mut grown);
    let snapshot = ledger().snapshot();
    assert_eq!(
        snapshot.c().live_bytes + snapshot.rust().live_bytes,
        snapshot.all().live_bytes
    );
    for side in Side::ALL {
        let counts = of_scope(side, "exact");
        println!(
            "{} seen={} blocks={} bytes={} live_blocks={} live_bytes={} reallocs={} requested={}",
            side.name(),
            snapshot.sees(side),
            counts.allocated_blocks,
            counts.allocated_bytes,
            counts.live_blocks,
            counts.live_bytes,
            counts.reallocs,
            counts.requested_bytes,
        );
    }
    println!("foreign {}", snapshot.foreign_frees());
    // A recorder finds what is live at the end, so nothing may be dropped.
    std::mem::forget(black_box((kept, held, grown)));
    // SAFETY: _exit takes any status.
    unsafe { libc::_exit(0) }
}
