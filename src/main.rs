//! The `heapledger` command.

#[global_allocator]
static ALLOC: heapledger::cli::Allocator = heapledger::cli::Allocator::new();

fn main() -> std::process::ExitCode {
    heapledger::cli::main()
}
