//! Rust's own allocator, which is glibc's: what the others are compared with.

#[global_allocator]
static ALLOC: std::alloc::System = std::alloc::System;

fn main() -> std::process::ExitCode {
    heapledger_peers::main()
}
