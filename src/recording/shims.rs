//! Finds the calls that Rust's standard allocator makes.
//!
//! A Rust program under the preload library books everything on side c. Its
//! release build jumps from the allocator's shims to malloc, so the return
//! address is that of the shim's caller, and the call has to be looked at.

use std::collections::HashSet;
use std::ffi::CStr;

use memchr::memmem;
use object::read::elf::{ElfFile64, SectionHeader, Sym};
use object::{File, Object, ObjectSegment, ReadRef, RelocationTarget};

use super::model::Site;

/// A register call's address was loaded at most this far before it.
const LOOK_BACK_BYTES: u64 = 4096;

/// What leads to a shim: its address, or a table slot that holds it.
struct Shims {
    addresses: HashSet<u64>,
    slots: HashSet<u64>,
}

/// One of these is part of every name that [`is_shim`] accepts.
const PARTS_OF_NAMES: [&str; 5] = [
    "__rust_",
    "__rdl_",
    "__rg_",
    "std::sys::alloc",
    "3std3sys5alloc",
];

/// Marks the sites whose call goes to one of Rust's shims. False where there are none.
pub(super) fn mark_shims<'data, R: ReadRef<'data>>(
    elf: &File<'data, R>,
    sites: &mut [Site],
    indices: &[usize],
) -> bool {
    // Programs of 32 bits keep no ledger.
    let File::Elf64(elf) = elf else { return false };
    let addresses = shim_addresses(elf).unwrap_or_default();
    if addresses.is_empty() {
        return false;
    }
    let slots = elf
        .dynamic_relocations()
        .into_iter()
        .flatten()
        .filter(|(_, relocation)| {
            relocation.target() == RelocationTarget::Absolute
                && addresses.contains(&(relocation.addend() as u64))
        });
    let slots = slots.map(|(slot, _)| slot).collect();
    let shims = Shims { addresses, slots };
    for &index in indices {
        let site = &mut sites[index];
        site.rust_shim |= match elf.architecture() {
            object::Architecture::X86_64 => shims.are_called_x86(elf, site.offset).unwrap_or(false),
            object::Architecture::Aarch64 => {
                shims.are_called_arm(elf, site.offset).unwrap_or(false)
            }
            _ => false,
        };
    }
    true
}

/// Gives where the symbols say that shims are. All names are read at once: one by
/// one each would cost two system calls, and most files have no shim at all.
fn shim_addresses<'data, R: ReadRef<'data>>(
    elf: &ElfFile64<'data, object::Endianness, R>,
) -> Option<HashSet<u64>> {
    let endian = elf.endian();
    let symbols = elf.elf_symbol_table();
    let names = elf
        .elf_section_table()
        .section(symbols.string_section())
        .ok()?
        .data(endian, elf.data())
        .ok()?;
    let has = |part: &str| memmem::find(names, part.as_bytes()).is_some();
    if !PARTS_OF_NAMES.into_iter().any(has) {
        return None;
    }
    let name = |offset: u32| {
        let name = CStr::from_bytes_until_nul(names.get(offset as usize..)?).ok()?;
        name.to_str().ok()
    };
    let shims = symbols
        .iter()
        .filter(|symbol| name(symbol.st_name(endian)).is_some_and(is_shim));
    Some(shims.map(|symbol| symbol.st_value(endian)).collect())
}

impl Shims {
    /// Looks at the call that ends at `offset`.
    fn are_called_x86<'data>(&self, elf: &impl Object<'data>, offset: u64) -> Option<bool> {
        let code = code_before(elf, offset, 6)?;
        let distance = i64::from(i32::from_le_bytes(code[2..6].try_into().ok()?));
        let target = offset.wrapping_add_signed(distance);
        // call target; call *slot(%rip)
        if code[1] == 0xe8 && self.addresses.contains(&target)
            || code[..2] == [0xff, 0x15] && self.slots.contains(&target)
        {
            return Some(true);
        }
        // call *%register, with or without the prefix of the upper eight
        if code[4] != 0xff || !(0xd0..=0xd7).contains(&code[5]) {
            return Some(false);
        }
        let upper = code[3] == 0x41;
        Some(self.were_loaded_x86(elf, offset, (code[5] & 7, upper)))
    }

    /// Looks for the last `mov slot(%rip), %register` before a call of the register.
    fn were_loaded_x86<'data>(
        &self,
        elf: &impl Object<'data>,
        offset: u64,
        (register, upper): (u8, bool),
    ) -> bool {
        let load = [if upper { 0x4c } else { 0x48 }, 0x8b, register << 3 | 5];
        let most = offset.min(LOOK_BACK_BYTES);
        let Some(code) = (0..8).find_map(|halvings| code_before(elf, offset, most >> halvings))
        else {
            return false;
        };
        let start = offset - code.len() as u64;
        let slot = |at: usize| {
            let distance = i32::from_le_bytes(code.get(at + 3..at + 7)?.try_into().ok()?);
            Some((start + at as u64 + 7).wrapping_add_signed(i64::from(distance)))
        };
        let last = (0..code.len())
            .rev()
            .find(|&at| code[at..].starts_with(&load));
        last.and_then(slot)
            .is_some_and(|slot| self.slots.contains(&slot))
    }

    fn are_called_arm<'data>(&self, elf: &impl Object<'data>, offset: u64) -> Option<bool> {
        let word = u32::from_le_bytes(code_before(elf, offset, 4)?.try_into().ok()?);
        let distance = i64::from((word << 6) as i32 >> 4);
        let target = offset.wrapping_sub(4).wrapping_add_signed(distance);
        Some(word >> 26 == 0b10_0101 && self.addresses.contains(&target))
    }
}

fn code_before<'data>(elf: &impl Object<'data>, offset: u64, length: u64) -> Option<&'data [u8]> {
    let start = offset.checked_sub(length)?;
    elf.segments()
        .find_map(|segment| segment.data_range(start, length).ok().flatten())
}

/// Tells whether a function, mangled or not, is a shim between Rust and its allocator.
pub(super) fn is_shim(name: &str) -> bool {
    const SHIMS: [&str; 9] = [
        "__rust_alloc",
        "__rust_alloc_zeroed",
        "__rust_realloc",
        "__rdl_alloc",
        "__rdl_alloc_zeroed",
        "__rdl_realloc",
        "__rg_alloc",
        "__rg_alloc_zeroed",
        "__rg_realloc",
    ];
    const METHODS: [&str; 3] = ["alloc", "alloc_zeroed", "realloc"];
    let plain = name
        .strip_prefix("__rustc::")
        .or_else(|| v0_rustc_name(name))
        .unwrap_or(name);
    if SHIMS.contains(&plain) {
        return true;
    }
    let method = name.rsplit("::").next().unwrap_or(name);
    name.contains("std::sys::alloc") && (METHODS.contains(&method) || method == "realloc_fallback")
        || name.contains("3std3sys5alloc")
            && name.contains("GlobalAlloc")
            && !name.contains("7dealloc")
}

/// Gives the last part of a mangled `__rustc::NAME`: `_RNvCsHASH_7___rustc12___rust_alloc`.
fn v0_rustc_name(name: &str) -> Option<&str> {
    let (_, last) = name.split_once("_7___rustc")?;
    let digits = last.bytes().take_while(u8::is_ascii_digit).count();
    let length: usize = last[..digits].parse().ok()?;
    let last = last.get(digits..)?;
    // An underscore stands between the length and a name that begins with one.
    let last = if last.len() > length {
        last.strip_prefix('_')?
    } else {
        last
    };
    last.get(..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shims_are_known_by_every_name() {
        for name in [
            "__rust_alloc",
            "__rustc::__rust_alloc_zeroed",
            "__rdl_realloc",
            "_RNvCs1qcYMPOFVcK_7___rustc12___rust_alloc",
            "_RNvCs1qcYMPOFVcK_7___rustc11___rdl_alloc",
            "std::sys::alloc::unix::<impl core::alloc::global::GlobalAlloc for std::alloc::System>::alloc",
        ] {
            assert!(is_shim(name), "{name}");
            let parts = PARTS_OF_NAMES;
            assert!(parts.iter().any(|part| name.contains(part)), "{name}");
        }
    }

    #[test]
    fn what_frees_or_only_sounds_alike_is_no_shim() {
        for name in [
            "malloc",
            "__rust_dealloc",
            "__rust_alloc_error_handler",
            "__rustc::__rdl_dealloc",
            "my::__rust_alloc_like",
            "_RNvCs1_7___rustc14___rust_dealloc",
            "_7___rustc",
            "_7___rustc999_x",
            "std::sys::alloc::unix::<impl core::alloc::global::GlobalAlloc for std::alloc::System>::dealloc",
        ] {
            assert!(!is_shim(name), "{name}");
        }
    }
}
