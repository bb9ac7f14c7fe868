//! dhat, with its profiler if on.

#[global_allocator]
static ALLOC: dhat::Alloc = dhat::Alloc;

fn main() -> std::process::ExitCode {
    let _profiler = heapledger_peers::is_on().then(dhat::Profiler::new_heap);
    heapledger_peers::main()
}
