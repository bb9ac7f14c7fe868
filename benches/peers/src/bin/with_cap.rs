//! cap: live bytes against a limit, here one that is never met.

#[global_allocator]
static ALLOC: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, usize::MAX);

fn main() -> std::process::ExitCode {
    heapledger_peers::main()
}
