use std::alloc::{GlobalAlloc, Layout};
use std::io::Read;

use flate2::read::GzDecoder;

use super::*;
use crate::{Alloc, Scope, ledger};

/// Blocks that stay until it is dropped.
struct Held(Vec<*mut u8>, Layout);

impl Held {
    #[inline(never)]
    fn new(blocks: usize, bytes: usize) -> Held {
        let layout = Layout::from_size_align(bytes, 8).expect("a layout");
        // SAFETY: the size is not zero.
        let allocate = |_| unsafe { Alloc::system().alloc(layout) };
        Held((0..blocks).map(allocate).collect(), layout)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for &block in &self.0 {
            // SAFETY: each came from this allocator with this layout, and goes once.
            unsafe { Alloc::system().dealloc(block, self.1) };
        }
    }
}

fn sum(stacks: &[Stack], of: impl Fn(&StackFigures) -> i64) -> i64 {
    stacks.iter().map(|stack| of(&stack.figures())).sum()
}

#[test]
fn in_mode_count_each_call_site_is_a_stack_with_the_snapshot_s_figures() {
    let scope = "profiled exactly";
    let _scope = Scope::enter(scope);
    let held = Held::new(7, 1000);
    drop(Held::new(3, 50));
    let snapshot = ledger().snapshot();
    let profile = profile().expect("a ledger");
    assert_eq!(profile.mode(), Mode::Count);
    let owners: Counts = snapshot
        .owners()
        .filter(|owner| owner.scope() == Some(scope) && owner.side() == Side::Rust)
        .map(|owner| owner.counts())
        .sum();
    assert_eq!((owners.live_bytes, owners.allocated_blocks), (7000, 10));
    let stacks: Vec<Stack> = profile
        .stacks()
        .filter(|stack| stack.scope() == Some(scope) && stack.side() == Side::Rust)
        .collect();
    assert!(stacks.iter().all(|stack| stack.frames().len() == 1));
    assert_eq!(sum(&stacks, |figures| figures.live_bytes), 7000);
    assert_eq!(sum(&stacks, |figures| figures.live_blocks), 7);
    assert_eq!(sum(&stacks, |figures| figures.allocated_bytes as i64), 7150);
    assert_eq!(sum(&stacks, |figures| figures.allocated_blocks as i64), 10);
    drop(held);
}

#[test]
fn totals_are_the_sums_of_all_stacks() {
    let _held = Held::new(4, 300);
    let profile = profile().expect("a ledger");
    for side in Side::ALL {
        let stacks: Vec<Stack> = profile
            .stacks()
            .filter(|stack| stack.side() == side)
            .collect();
        let total = profile.side(side);
        assert_eq!(sum(&stacks, |figures| figures.live_bytes), total.live_bytes);
        assert!(total.adds_up());
    }
    assert_eq!(
        profile.all().live_bytes,
        profile.c().live_bytes + profile.rust().live_bytes
    );
    assert!(profile.sees(Side::Rust));
}

#[test]
fn symbols_are_looked_up_in_this_process() {
    let _scope = Scope::enter("profiled by name");
    let _held = Held::new(2, 10);
    let profile = profile().expect("a ledger");
    let stack = |profile: &Profile| {
        let mut stacks = profile.stacks();
        let found = stacks
            .find(|stack| stack.scope() == Some("profiled by name") && stack.side() == Side::Rust);
        let frame = found.expect("its stack").frames().next().expect("a frame");
        (frame.symbol().map(str::to_owned), frame.to_string())
    };
    let (symbol, shown) = stack(&profile);
    assert_eq!(symbol, None);
    assert!(shown.contains("+0x"), "{shown}");
    let named = profile.with_symbols();
    let (symbol, shown) = stack(&named);
    assert_eq!(symbol.as_deref(), Some(shown.as_str()));
    // Optimised or not, the call stands in the crate.
    assert!(shown.contains("heapledger"), "{shown}");
}

#[test]
fn what_was_asked_for_and_is_not_there_is_invalid_input() {
    let profile = profile().expect("a ledger");
    let filter = Filter {
        scope: Some("no such scope at all".to_owned()),
        ..Filter::default()
    };
    let error = profile.write_pprof_of(&filter, Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("no such scope at all"));
}

#[test]
fn an_error_of_the_receiver_is_handed_on() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let _held = Held::new(1, 10);
    let profile = profile().expect("a ledger");
    for error in [
        profile.write_pprof(Full),
        profile.write_folded(&Filter::default(), Full),
        profile.write_flamegraph(&Filter::default(), Full),
    ] {
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}

#[test]
fn looking_on_many_threads_while_others_allocate_gives_whole_books() {
    use std::sync::atomic::{AtomicBool, Ordering};

    let is_over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                let _scope = Scope::enter("profiled beside others");
                while !is_over.load(Ordering::Relaxed) {
                    drop(Held::new(20, 700));
                }
            });
        }
        let readers: Vec<_> = (0..2)
            .map(|_| {
                threads.spawn(|| {
                    for _ in 0..20 {
                        let profile = profile().expect("a ledger");
                        assert!(profile.all().adds_up());
                        let mut body = Vec::new();
                        profile.write_pprof(&mut body).expect("room in memory");
                        let mut raw = Vec::new();
                        let mut unpacked = GzDecoder::new(body.as_slice());
                        unpacked.read_to_end(&mut raw).expect("whole gzip");
                        assert!(!raw.is_empty());
                    }
                })
            })
            .collect();
        for reader in readers {
            reader.join().expect("no panic");
        }
        is_over.store(true, Ordering::Relaxed);
    });
}
