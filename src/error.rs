//! The library's one error type.

use std::fmt;

/// Result of the library's fallible calls.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the library could not do what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not a ledger, or one whose writer died before it was complete.
    NotALedger,
    /// The ledger has a layout that this version does not read.
    Layout {
        /// Layout of the ledger.
        found: u32,
        /// Layout that this version reads.
        expected: u32,
    },
    /// This process keeps no ledger.
    NoLedger,
    /// Clean-ups are driven in this process already.
    PressureRunning,
    /// A thread cannot be started.
    Thread(std::io::Error),
    /// The hard limit has no room for what was to be reserved; a clean-up was asked for.
    NoRoom {
        /// What was to be reserved.
        asked_bytes: u64,
        /// What both sides hold.
        live_bytes: u64,
        /// The hard limit.
        limit_bytes: u64,
    },
    /// The library of the IOContext workload cannot be loaded; says why.
    #[cfg(all(feature = "cli", heapledger_core))]
    NoIoContext(String),
    /// The library of the IOContext workload failed.
    #[cfg(all(feature = "cli", heapledger_core))]
    IoContext(crate::iocontext::Code),
    /// A source that the library of the IOContext workload read from failed.
    #[cfg(all(feature = "cli", heapledger_core))]
    Source(std::io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotALedger => formatter.write_str("not a heapledger ledger"),
            Error::Layout { found, expected } => {
                write!(
                    formatter,
                    "layout {found}, this heapledger reads {expected}"
                )
            }
            Error::NoLedger => formatter.write_str("this process keeps no ledger"),
            Error::PressureRunning => {
                formatter.write_str("clean-ups are driven in this process already")
            }
            Error::Thread(error) => write!(formatter, "cannot start a thread: {error}"),
            Error::NoRoom {
                asked_bytes,
                live_bytes,
                limit_bytes,
            } => write!(
                formatter,
                "no room for {asked_bytes} bytes: {live_bytes} of {limit_bytes} are live"
            ),
            #[cfg(all(feature = "cli", heapledger_core))]
            Error::NoIoContext(why) => write!(formatter, "cannot load libiocontext.so: {why}"),
            #[cfg(all(feature = "cli", heapledger_core))]
            Error::IoContext(code) => code.fmt(formatter),
            #[cfg(all(feature = "cli", heapledger_core))]
            Error::Source(error) => write!(formatter, "the source failed: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Thread(error) => Some(error),
            #[cfg(all(feature = "cli", heapledger_core))]
            Error::Source(error) => Some(error),
            _ => None,
        }
    }
}
