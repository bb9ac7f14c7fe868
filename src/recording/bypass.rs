//! Programs whose malloc is somebody else's: what their ledgers hold is next to
//! nothing, and must not be taken for what they allocated.

use std::path::{Path, PathBuf};

use object::{Object, ObjectSymbol, ReadCache};

use super::module_names::open_regular;
use crate::counts::Side;
use crate::ledger::books::Books;
use crate::ledger::layout;

/// Says why the books are not the program's; `None` when they are.
///
/// `mapped` are the files that were seen mapped into the process, if it was seen.
pub(super) fn reason(books: &Books, mapped: &[PathBuf]) -> Option<String> {
    let is_bypassed = books.header.flags & layout::FLAG_BYPASSED != 0;
    // The crate comes to the ledger by another way.
    let books_rust = !books.side(Side::Rust).is_untouched();
    (is_bypassed && !books_rust).then(|| format!("bypassed: {}", whose(&books.exe, mapped)))
}

fn whose(exe: &str, mapped: &[PathBuf]) -> String {
    if defines_malloc(Path::new(exe)) {
        return "the program has a malloc of its own".to_owned();
    }
    let library = mapped
        .iter()
        .filter(|path| path.as_os_str() != exe && !is_expected(path))
        .find(|path| defines_malloc(path))
        .and_then(|path| path.file_name());
    match library {
        Some(name) => format!(
            "{} has a malloc that stands before ours",
            name.to_string_lossy()
        ),
        None => "another library's malloc stands before ours".to_owned(),
    }
}

/// The loader and libc define malloc in every program, and so do we.
fn is_expected(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    ["libc.so", "libc-", "ld-", "ld.so", "libheapledger"]
        .iter()
        .any(|start| name.starts_with(start))
}

fn defines_malloc(path: &Path) -> bool {
    let Some(file) = open_regular(path) else {
        return false;
    };
    let cache = ReadCache::new(file);
    object::File::parse(&cache).is_ok_and(|elf| {
        elf.dynamic_symbols()
            .any(|symbol| !symbol.is_undefined() && symbol.name_bytes() == Ok(b"malloc"))
    })
}
