//! Test subject of tests/profile.rs: a program that profiles itself.
//!
//! What it holds in scope `profiled`: on side rust 10 of 15 blocks of 1,000 bytes from
//! `keep`, and 3 of 500 from `keep` on a thread called `worker`; where C is seen, 4 of
//! 6 blocks of 2,000 bytes from `keep_c`.

use std::ffi::c_void;
use std::fs::File;

use heapledger::analysis::Filter;
use heapledger::{Profile, Side, scope};

#[global_allocator]
static ALLOC: heapledger::Alloc = heapledger::Alloc::system();

// Every block, unless the environment says otherwise.
heapledger::sample_stacks!(1);

unsafe extern "C" {
    fn malloc(bytes: usize) -> *mut c_void;
    fn free(block: *mut c_void);
}

#[inline(never)]
fn keep(blocks: usize, bytes: usize) -> Vec<Box<[u8]>> {
    let mut kept = Vec::new();
    {
        // The list itself is not what is looked at.
        let _list = scope!("list");
        kept.reserve_exact(blocks);
    }
    let _profiled = scope!("profiled");
    kept.extend((0..blocks).map(|_| vec![1u8; bytes].into_boxed_slice()));
    kept
}

#[inline(never)]
fn keep_c() -> Vec<*mut c_void> {
    let mut kept = Vec::with_capacity(6);
    let _profiled = scope!("profiled");
    for _ in 0..6 {
        // SAFETY: any size may be asked for.
        kept.push(unsafe { malloc(2_000) });
    }
    kept
}

fn show(profile: &Profile) {
    println!("mode {:?}", profile.mode());
    for side in Side::ALL {
        println!("sees {} {}", side.name(), profile.sees(side));
    }
    for stack in profile.stacks() {
        if stack.scope() != Some("profiled") {
            continue;
        }
        let figures = stack.figures();
        let mut names: Vec<String> = Vec::new();
        for frame in stack.frames() {
            let inlined = frame.inlined().iter().rev();
            names.extend(inlined.map(|function| function.symbol.clone()));
            names.push(frame.to_string());
        }
        println!(
            "stack {} thread={} live={}/{} allocated={}/{} samples={} errors={} {}",
            stack.side().name(),
            stack.thread().map_or("-", |thread| &thread.name),
            figures.live_bytes,
            figures.live_blocks,
            figures.allocated_bytes,
            figures.allocated_blocks,
            figures.samples,
            figures.errors.live_bytes,
            names.join(";").replace(' ', "_"),
        );
    }
}

fn main() {
    let mut kept = keep(15, 1_000);
    kept.truncate(10);
    let mut kept_c = keep_c();
    for block in kept_c.split_off(4) {
        // SAFETY: it came from malloc, and goes once.
        unsafe { free(block) };
    }
    let worker = std::thread::Builder::new().name("worker".to_owned());
    let (told, tells) = std::sync::mpsc::channel();
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let worker = worker.spawn(move || {
        let kept = keep(3, 500);
        told.send(()).expect("the main thread waits");
        let _ = is_done.recv();
        kept.len()
    });
    tells.recv().expect("the worker tells");
    match heapledger::profile() {
        Err(error) => println!("no profile: {error}"),
        Ok(profile) => {
            let profile = profile.with_symbols();
            show(&profile);
            let mut files = std::env::args().skip(1);
            if let (Some(pprof), Some(folded)) = (files.next(), files.next()) {
                let filter = Filter {
                    scope: Some("profiled".to_owned()),
                    ..Filter::default()
                };
                let create = |path| File::create(path).expect("the directory is writable");
                profile.write_pprof(create(pprof)).expect("room");
                profile.write_folded(&filter, create(folded)).expect("room");
            }
        }
    }
    drop(done);
    let worker = worker.expect("a thread").join().expect("no panic");
    println!("kept {} {} {worker}", kept.len(), kept_c.len());
}
