//! `heapledger report`.

use std::path::PathBuf;

use clap::Args;

use crate::recording::Recording;

/// Show what a recording holds.
#[derive(Args)]
pub(super) struct Arguments {
    /// Recording, directory of ledgers, or ledger
    file: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    use std::io::Write;
    let recording = Recording::open_any(&arguments.file)?;
    Ok(writeln!(std::io::stdout(), "{recording:#?}")?)
}
