//! The ledger as its readers see it: layout, bytes, books.

#![cfg_attr(
    not(feature = "cli"),
    allow(
        dead_code,
        reason = "the command reads more of a ledger than the library"
    )
)]

pub(crate) mod books;
#[cfg(feature = "profile")]
pub(crate) mod cleanups;
pub(crate) mod layout;
#[cfg(feature = "profile")]
pub(crate) mod lifetimes;
pub(crate) mod pages;
#[cfg(all(feature = "cli", heapledger_core))]
pub(crate) mod pressure_words;
#[cfg(feature = "profile")]
pub(crate) mod samples;
