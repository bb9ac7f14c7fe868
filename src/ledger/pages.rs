//! Where a ledger's bytes come from: a file of another process, or this process.
//!
//! Everything is copied out before it is looked at. A copy cannot change under
//! the reader, a file cut short gives an error and not SIGBUS, and reading a
//! hole does not make the kernel fill it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::layout::{Mirror, PAGE_BYTES};

/// Random access to the words of a ledger.
pub(crate) trait Pages {
    /// Copies bytes from `reference`; `None` where the ledger has no such bytes.
    ///
    /// `reference` and the length of `out` are multiples of 8.
    fn copy(&self, reference: u64, out: &mut [u64]) -> Option<()>;
}

/// A ledger file, read with `pread`.
pub(crate) struct FilePages<'a>(pub &'a File);

impl Pages for FilePages<'_> {
    fn copy(&self, reference: u64, out: &mut [u64]) -> Option<()> {
        // SAFETY: u64s have no padding and every byte pattern is one; the byte
        // view covers exactly the slice and is dropped before it is read again.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(out.as_mut_ptr().cast::<u8>(), size_of_val(out))
        };
        self.0.read_exact_at(bytes, reference).ok()
    }
}

/// Copies a mirrored type that lies at `reference`.
pub(crate) fn read<T: Mirror>(pages: &dyn Pages, reference: u64) -> Option<T> {
    const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() <= 8) };
    if !reference.is_multiple_of(8) {
        return None;
    }
    let mut words = vec![0u64; size_of::<T>() / 8];
    pages.copy(reference, &mut words)?;
    // SAFETY: `words` holds size_of::<T>() initialised bytes at u64 alignment,
    // and a Mirror is made of integers, for which every pattern is valid.
    Some(unsafe { words.as_ptr().cast::<T>().read() })
}

/// Copies `count` consecutive mirrored values.
pub(crate) fn read_array<T: Mirror>(
    pages: &dyn Pages,
    reference: u64,
    count: usize,
) -> Option<Vec<T>> {
    const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() <= 8) };
    if !reference.is_multiple_of(8) || count * size_of::<T>() > 4 * PAGE_BYTES {
        return None;
    }
    let mut words = vec![0u64; count * size_of::<T>() / 8];
    pages.copy(reference, &mut words)?;
    let first = words.as_ptr().cast::<T>();
    // SAFETY: as in `read`, for each of `count` values that lie one behind the other.
    Some(
        (0..count)
            .map(|index| unsafe { first.add(index).read() })
            .collect(),
    )
}

/// The reference of a page.
pub(crate) fn page_reference(page: u32) -> u64 {
    u64::from(page) * PAGE_BYTES as u64
}
