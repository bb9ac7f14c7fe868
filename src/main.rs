//! The `heapledger` command.

fn main() -> std::process::ExitCode {
    heapledger::cli::main()
}
