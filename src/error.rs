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
            #[cfg(all(feature = "cli", heapledger_core))]
            Error::Source(error) => Some(error),
            _ => None,
        }
    }
}
