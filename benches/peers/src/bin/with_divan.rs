//! divan's AllocProfiler. It counts in every thread at all times, and reports what was counted while a bench ran.

#[global_allocator]
static ALLOC: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() -> std::process::ExitCode {
    heapledger_peers::main()
}
