//! Names of calls in this process, from the files that are loaded into it.

use std::collections::{HashMap, HashSet};
use std::mem::ManuallyDrop;

use crate::core;
use crate::recording::demangle::demangled;
use crate::recording::model::{Inlined, Site};

/// A function at a place in the source, as it is found.
#[derive(Clone)]
struct Found {
    /// As the linker has it.
    name: String,
    file: Option<String>,
    line: Option<u32>,
}

/// Gives every site without a name what this process's symbols and line tables know of
/// it. `biases` has by module where it lies in memory.
pub(super) fn resolve(sites: &mut [Site], biases: &HashMap<u32, u64>) {
    let unnamed = sites.iter_mut().filter(|site| site.symbol.is_none());
    let mut unnamed: Vec<&mut Site> = unnamed.collect();
    // Debug information of a few libraries is kept at a time.
    unnamed.sort_by_key(|site| site.module);
    for site in unnamed {
        let bias = site.module.and_then(|module| biases.get(&module));
        if let Some(bias) = bias.filter(|_| site.offset > 0) {
            // The return address may already belong to the next line, or the next function.
            name(site, look_up(bias.wrapping_add(site.offset - 1)));
        }
    }
}

/// Takes functions found at a site, the innermost first: the last is the one that the
/// compiler emitted, and the others are inlined there.
fn name(site: &mut Site, mut found: Vec<Found>) {
    let Some(emitted) = found.pop() else { return };
    site.symbol = Some(demangled(&emitted.name));
    site.file = emitted.file;
    site.line = emitted.line;
    let inlined = found.into_iter().rev().map(|function| Inlined {
        symbol: demangled(&function.name),
        file: function.file,
        line: function.line,
    });
    site.inlined = inlined.collect();
}

/// Debug information that is kept for the next look-up is not the program's: unbooked.
fn look_up(address: u64) -> Vec<Found> {
    let mut kept = core::unbooked(|| {
        let mut found = Vec::new();
        backtrace::resolve(address as *mut _, |symbol| {
            let name = symbol.name();
            let name = name.as_ref().and_then(|name| name.as_str());
            if let Some(name) = name {
                found.push(Found {
                    name: name.to_owned(),
                    file: symbol
                        .filename()
                        .map(|path| path.to_string_lossy().into_owned()),
                    line: symbol.lineno(),
                });
            }
        });
        ManuallyDrop::new(found)
    });
    let booked = Vec::clone(&kept);
    // SAFETY: `kept` is not used afterwards. It goes the way it came, unbooked.
    core::unbooked(|| unsafe { ManuallyDrop::drop(&mut kept) });
    booked
}

/// Gives what is loaded now, as where it lies and the loader's name for it: at an
/// address of what was unloaded, something else may lie.
#[cfg(heapledger_core)]
pub(super) fn loaded() -> HashSet<(u64, String)> {
    use std::ffi::{CStr, c_int, c_void};

    unsafe extern "C" fn visit(
        info: *mut libc::dl_phdr_info,
        _: libc::size_t,
        all: *mut c_void,
    ) -> c_int {
        // SAFETY: the loader hands over a complete description, whose name ends with a
        // zero, and the pointer that was given to dl_iterate_phdr below.
        let (info, all) = unsafe { (&*info, &mut *all.cast::<HashSet<(u64, String)>>()) };
        let name = match info.dlpi_name.is_null() {
            true => c"",
            // SAFETY: as above.
            false => unsafe { CStr::from_ptr(info.dlpi_name) },
        };
        all.insert((info.dlpi_addr, name.to_string_lossy().into_owned()));
        0
    }
    let mut all = HashSet::new();
    // SAFETY: `visit` is called during this call only, with a pointer to `all`, which
    // nothing else uses meanwhile, and does not unwind but for want of memory, which aborts.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut all).cast()) };
    all
}

/// There is no ledger to ask for.
#[cfg(not(heapledger_core))]
pub(super) fn loaded() -> HashSet<(u64, String)> {
    HashSet::new()
}
