//! The ledger as its readers see it: layout, bytes, books.

pub(crate) mod books;
pub(crate) mod layout;
pub(crate) mod pages;
