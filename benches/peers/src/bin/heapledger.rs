//! The `heapledger` command, for its preload library.

fn main() -> std::process::ExitCode {
    heapledger::cli::main()
}
