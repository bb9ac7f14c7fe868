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
        }
    }
}

impl std::error::Error for Error {}
