//! `heapledger preload`.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use clap::Args;

use crate::embedded::PRELOAD;

/// Print the path of the preload library, for LD_PRELOAD.
#[derive(Args)]
#[command(before_help = "Examples:\n  LD_PRELOAD=$(heapledger preload) ./server\n")]
pub(super) struct Arguments {}

pub(super) fn run(_: &Arguments) -> anyhow::Result<()> {
    let path = PRELOAD.extract()?;
    let mut out = io::stdout().lock();
    out.write_all(path.as_os_str().as_bytes())?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}
