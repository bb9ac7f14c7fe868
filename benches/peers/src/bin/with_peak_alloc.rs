//! peak_alloc: live bytes and their peak.

#[global_allocator]
static ALLOC: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

fn main() -> std::process::ExitCode {
    heapledger_peers::main()
}
