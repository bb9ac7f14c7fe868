// Blocks that cross between the allocators of Rust and C.
//
//     misuse_crossed vec        a Vec over what malloc gave out, which Rust then frees
//     misuse_crossed cstring    a CString handed to C's free
//     misuse_crossed realloc    a Box handed to C's realloc, and what it gives freed by C
//     misuse_crossed right      the same, each given back to whom it came from
//
// expect: with `vec` a block of C's freed by Rust, with `cstring` and `realloc` one of Rust's
// freed by C, each with the functions of both ends; with `right` nothing. With HEAPLEDGER_MODE
// unset, all of it is one block counted as crossed.

use std::ffi::{CString, c_char, c_void};
use std::hint::black_box;

#[global_allocator]
static ALLOC: heapledger::Alloc = heapledger::Alloc::system();

#[inline(never)]
fn taken_from_c() -> *mut u8 {
    // SAFETY: malloc takes any size.
    let block = unsafe { libc::malloc(black_box(640)) }; // here: taken_from_c
    assert!(!block.is_null());
    black_box(block).cast()
}

#[inline(never)]
fn made_a_vec_of(block: *mut u8) {
    // SAFETY: wrong, and what this program is for: the block is malloc's.
    let bytes = unsafe { Vec::from_raw_parts(block, 0, 640) };
    drop(black_box(bytes)); // here: made_a_vec_of
}

#[inline(never)]
fn given_to_c() -> *mut c_char {
    let text = CString::new(black_box(vec![b'x'; 99])).expect("no NUL"); // here: given_to_c
    black_box(text.into_raw())
}

#[inline(never)]
fn freed_by_c(block: *mut c_void) {
    // SAFETY: wrong for a block of Rust's, and what this program is for.
    unsafe { libc::free(black_box(block)) }; // here: freed_by_c
    black_box(());
}

#[inline(never)]
fn resized_by_c(block: *mut c_void) -> *mut c_void {
    // SAFETY: wrong for a block of Rust's, and what this program is for.
    let block = unsafe { libc::realloc(black_box(block), 2000) }; // here: resized_by_c
    black_box(block)
}

#[inline(never)]
fn boxed() -> *mut c_void {
    Box::into_raw(black_box(Box::new([7u8; 320]))).cast() // here: boxed
}

fn main() {
    let word = std::env::args().nth(1).unwrap_or_default();
    match word.as_str() {
        "vec" => made_a_vec_of(taken_from_c()),
        "cstring" => freed_by_c(given_to_c().cast()),
        "realloc" => freed_by_c(resized_by_c(boxed())),
        "right" => {
            freed_by_c(taken_from_c().cast());
            // SAFETY: both are given back to whom they came from, as what they were.
            unsafe {
                drop(CString::from_raw(given_to_c()));
                drop(Box::from_raw(boxed().cast::<[u8; 320]>()));
            }
        }
        word => panic!("{word}: no such mistake"),
    }
    println!("done");
}
