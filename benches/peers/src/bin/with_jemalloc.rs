//! jemalloc. `_RJEM_MALLOC_CONF=prof:true` turns its profiler on.

#[global_allocator]
static ALLOC: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    heapledger_peers::main()
}
