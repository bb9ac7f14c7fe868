//! Allocations in [criterion](https://docs.rs/criterion) benches: beside the time, or measured in its place.
//!
//! Needs feature `criterion`, and a program that sees what it is to measure:
//! side `rust` with [`Alloc`](crate::Alloc) as the global allocator, side `c`
//! with feature `interpose` or the preload library. What is not seen is said to
//! be so, never shown as zero.
//!
//! # Beside the time
//!
//! [`BenchBooks::bench_books`] takes the place of `bench_function`: criterion
//! times the work, then one iteration is measured and printed below its times.
//!
//! ```
//! use criterion::Criterion;
//! use heapledger::criterion::BenchBooks;
//!
//! #[global_allocator]
//! static ALLOC: heapledger::Alloc = heapledger::Alloc::system();
//!
//! fn benches(criterion: &mut Criterion) {
//!     let mut group = criterion.benchmark_group("decode");
//!     group.bench_books("frame", || vec![0u8; 4096]);
//!     group.bench_books_with("rows", || vec![1u8; 100], |bytes| bytes.iter().map(|byte| byte.to_string()).count());
//!     group.finish();
//! }
//! # benches(&mut Criterion::default().sample_size(10).warm_up_time(std::time::Duration::from_millis(1))
//! #     .measurement_time(std::time::Duration::from_millis(10)).without_plots()
//! #     .output_directory(&std::env::temp_dir().join("heapledger-doctest-beside")));
//! ```
//!
//! ```text
//! decode/frame            time:   [61.290 ns 61.711 ns 62.271 ns]
//!                  books: c      nothing                                                   | rust      1 block      4,096 B, peak     4,096 B, left          0 B
//! ```
//!
//! [`print_books`] prints the same line for any work, without criterion's times.
//!
//! # In the time's place
//!
//! [`Quantity`] is a `Measurement`: criterion then compares bytes, blocks, peaks
//! or what is left behind from run to run, with baselines, filters and plots.
//!
//! ```
//! use criterion::{Criterion, criterion_group};
//! use heapledger::Side;
//! use heapledger::criterion::{IterBooked, Quantity};
//!
//! #[global_allocator]
//! static ALLOC: heapledger::Alloc = heapledger::Alloc::system();
//!
//! fn join(criterion: &mut Criterion<Quantity>) {
//!     criterion.bench_function("join", |bencher| bencher.iter_booked(|| ["a", "b"].join(", ")));
//! }
//!
//! criterion_group! {
//!     name = benches;
//!     config = Quantity::allocated_bytes().on(Side::Rust).criterion();
//!     targets = join
//! }
//! # fn main() {}
//! ```
//!
//! # How exact it is
//!
//! - **Bytes, blocks, left behind:** to the byte and the block. Nothing that
//!   criterion does is between the two readings.
//! - **Peak, of this thread's work:** to the byte. While a peak is taken the
//!   thread books off the fast path, so peaks are never taken while criterion times.
//!   A realloc counts as its free and then its allocation.
//! - **Peak, where other threads took part:** within 64 KiB a thread. The line
//!   of [`Books`] then says `peak ~`.
//! - **Other threads:** [`Books`] counts the whole process; so does
//!   [`Quantity::in_process`]. A [`Quantity`] counts this thread otherwise. What
//!   threads do that are not part of the work is counted with the process too.
//! - **What criterion shows:** its statistics cannot take values that never vary,
//!   so a [`Quantity`] varies in the ninth digit, and with
//!   [`IterBooked::iter_booked`] each iteration has a millionth of a byte or block
//!   more. A zero is thus shown as zero and not lost.

mod bench;
mod books;
mod line;
mod quantity;

pub use bench::{BenchBooks, Id, Iterates, print_books};
pub use books::{Books, SideBooks};
pub use quantity::{Amount, IterBooked, Quantity};
