// expect, under the preload: side rust 20 blocks in `mixed_stacks::decode`, through the inlined
// `grow`; side c 30 blocks in `take`, through `take_one`, which is inlined there.
//
// A Rust program of its own, without the crate, linked with mixed_stacks.c.

use std::ffi::c_void;
use std::hint::black_box;

unsafe extern "C" {
    fn take(size: usize) -> *mut c_void;
}

#[inline(always)]
fn grow(size: usize) -> Vec<u8> {
    Vec::with_capacity(size) // here: grow
}

#[inline(never)]
fn decode(size: usize) {
    let bytes = grow(size); // here: decode
    std::mem::forget(black_box(bytes));
}

fn main() {
    for _ in 0..20 {
        decode(black_box(3000));
    }
    for _ in 0..30 {
        // SAFETY: `take` is malloc with a check.
        black_box(unsafe { take(black_box(700)) });
    }
}
