//! heapledger over the system's allocator, its books in anonymous memory.

#[global_allocator]
static ALLOC: heapledger::Alloc = heapledger::Alloc::system();

fn main() -> std::process::ExitCode {
    heapledger_peers::main()
}
