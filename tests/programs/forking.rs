// expect: parent, scope `kept`: rust 100 blocks of 1,000 bytes, live 100; child: the same inherited,
// 40 of them freed; scope `elsewhere`: 777 bytes, in both; in scope `child` of the child 12 blocks:
// ten of 10 bytes, their Vec's 80 and the standard output's buffer of 1,024.
//
// Forks while another thread holds blocks: the child's books begin with what it inherited,
// Rust's in the bytes of their Layouts.

use std::hint::black_box;
use std::sync::mpsc::channel;

use heapledger::{Counts, ledger, scope};

#[global_allocator]
static ALLOC: heapledger::Alloc = heapledger::Alloc::system();

fn of_scope(scope: &str) -> Counts {
    ledger()
        .snapshot()
        .owners()
        .filter(|owner| owner.scope() == Some(scope))
        .map(|owner| owner.counts())
        .sum()
}

fn say(who: &str) {
    for scope in ["kept", "elsewhere", "child"] {
        let counts = of_scope(scope);
        println!(
            "{who} {scope} blocks={} bytes={} live_blocks={} live_bytes={}",
            counts.allocated_blocks, counts.allocated_bytes, counts.live_blocks, counts.live_bytes
        );
    }
}

fn main() {
    let mut kept: Vec<Box<[u8; 1000]>> = Vec::with_capacity(100);
    {
        let _kept = scope!("kept");
        kept.extend((0..100).map(|_| black_box(Box::new([1u8; 1000]))));
    }
    let (ready, wait) = channel();
    let (quit, until) = channel::<()>();
    let thread = std::thread::spawn(move || {
        let _elsewhere = scope!("elsewhere");
        let held = black_box(vec![0u8; 777]);
        drop(_elsewhere);
        ready.send(()).unwrap();
        let _ = until.recv();
        held.len()
    });
    wait.recv().unwrap();
    // SAFETY: the child only allocates, prints and leaves; glibc's malloc is usable after fork.
    match unsafe { libc::fork() } {
        0 => {
            kept.truncate(60);
            let _child = scope!("child");
            let more: Vec<Box<[u8; 10]>> =
                black_box((0..10).map(|_| Box::new([2u8; 10])).collect());
            std::mem::forget(more);
            say("child");
            // SAFETY: _exit takes any status.
            unsafe { libc::_exit(0) }
        }
        child => {
            let mut status = 1;
            // SAFETY: `status` outlives the call.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(status, 0, "the child failed");
            say("parent");
        }
    }
    drop(quit);
    assert_eq!(thread.join().unwrap(), 777);
    std::mem::forget(kept);
}
