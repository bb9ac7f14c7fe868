//! Misuse of the allocator: which of it is real, and the names of its stacks.

use std::borrow::Cow;

use super::catalog::{Catalog, Place};
use crate::recording::model::{Inlined, Misuse, MisuseKind, MisuseStack};
#[cfg(feature = "cli")]
use crate::recording::model::{Module, Site};

/// A function on a stack, at one place within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// The function's name; `None` where no symbol covers the place.
    pub symbol: Option<&'a str>,
    /// Its address in the library's own terms, where no symbol covers it.
    pub offset: Option<u64>,
    /// The same, or the address as `libcodec.so.1+0x1234`.
    pub name: Cow<'a, str>,
    /// File name of the library that it lies in, or a group in parentheses.
    pub library: &'a str,
    /// Source file.
    pub file: Option<&'a str>,
    /// Source line.
    pub line: Option<u32>,
    /// The compiler put it into the next one.
    pub is_inlined: bool,
}

/// Where the standard libraries of Rust and C++ have been built from.
const PLUMBING_FILES: [&str; 5] = [
    "/rustc/",
    "/library/alloc/src/",
    "/library/core/src/",
    "/library/std/src/",
    "/include/c++/",
];
/// What stands between a program in Rust and its allocator.
const PLUMBING_NAMES: [&str; 6] = [
    "__rust",
    "__rdl_",
    "__rg_",
    "<heapledger::alloc::",
    "heapledger::alloc::",
    "heapledger::core::",
];
/// What calls `main`, and the first function of a thread.
const STARTING_NAMES: [&str; 8] = [
    "_start",
    "__libc_start_main",
    "__libc_start_main_impl",
    "__libc_start_call_main",
    "start_thread",
    "clone",
    "clone3",
    "__clone3",
];

impl Call<'_> {
    /// Tells whether this is how a standard library gets memory, and not who asked for it.
    pub fn is_plumbing(&self) -> bool {
        is_plumbing(&self.name, self.file)
    }
}

/// Tells [`Call::is_plumbing`] of a function by its name and source file.
pub(crate) fn is_plumbing(name: &str, file: Option<&str>) -> bool {
    let is_built_in = |part: &&str| file.is_some_and(|file| file.contains(*part));
    let is_between = |part: &&str| name.starts_with(*part);
    PLUMBING_FILES.iter().any(is_built_in) || PLUMBING_NAMES.iter().any(is_between)
}

/// Leaves of a stack what its program wrote: not how a standard library takes memory,
/// but for the call into it, and not how programs and threads are started.
pub fn own_calls<'c, 'a>(calls: &'c [Call<'a>]) -> &'c [Call<'a>] {
    let Some(first) = calls.iter().position(|call| !call.is_plumbing()) else {
        return calls;
    };
    let is_start = |call: &Call| STARTING_NAMES.contains(&&*call.name);
    let mut end = calls.len() - calls.iter().rev().take_while(|call| is_start(call)).count();
    // Rust's `main` is called by its standard library, and that by C's.
    let is_rust = end > 1 && calls[end - 1].name == "main" && calls[end - 2].is_plumbing();
    if end < calls.len() || is_rust {
        let outer = end - usize::from(is_rust);
        end = outer
            - calls[..outer]
                .iter()
                .rev()
                .take_while(|call| call.is_plumbing())
                .count();
    }
    match end > first {
        true => &calls[first.saturating_sub(1)..end],
        false => calls,
    }
}

/// Gives the functions of a stack, innermost first, inlined ones among them.
pub fn calls<'a>(catalog: &'a Catalog<'a>, stack: &MisuseStack) -> Vec<Call<'a>> {
    let place = |&frame: &u32| {
        let site = catalog.site_at(frame).unwrap_or(catalog.missing_site());
        catalog.place(site)
    };
    stack
        .frames
        .iter()
        .map(place)
        .flat_map(calls_of_place)
        .collect()
}

fn calls_of_place<'a>(place: &'a Place<'a>) -> impl Iterator<Item = Call<'a>> {
    let symbol = place.symbol.filter(|_| place.has_address);
    let is_address = symbol.is_none() && place.has_address;
    let outer = Call {
        symbol,
        offset: is_address.then_some(place.offset),
        name: symbol.map_or_else(|| Cow::Owned(place.to_string()), Cow::Borrowed),
        library: place.library_name,
        file: place.file,
        line: place.line,
        is_inlined: false,
    };
    with_inlined(outer, place.inlined)
}

/// Gives the functions at a call site, innermost first, before there is a catalog.
#[cfg(feature = "cli")]
pub(crate) fn calls_of_site<'a>(
    site: &'a Site,
    modules: &'a [Module],
) -> impl Iterator<Item = Call<'a>> {
    let module = site.module.and_then(|index| modules.get(index as usize));
    let library = module.map_or("(no file)", Module::name);
    let address = || Cow::Owned(format!("{library}+{:#x}", site.offset));
    let is_address = site.symbol.is_none() && !site.overflow;
    let outer = Call {
        symbol: site.symbol.as_deref(),
        offset: is_address.then_some(site.offset),
        name: match (&site.symbol, site.overflow) {
            (Some(symbol), _) => Cow::Borrowed(symbol.as_str()),
            (None, true) => Cow::Borrowed("(stacks that found no room)"),
            (None, false) => address(),
        },
        library,
        file: site.file.as_deref(),
        line: site.line,
        is_inlined: false,
    };
    with_inlined(outer, &site.inlined)
}

fn with_inlined<'a>(outer: Call<'a>, inlined: &'a [Inlined]) -> impl Iterator<Item = Call<'a>> {
    let library = outer.library;
    let inner = inlined.iter().rev().map(move |inlined| Call {
        symbol: Some(&inlined.symbol),
        offset: None,
        name: Cow::Borrowed(inlined.symbol.as_str()),
        library,
        file: inlined.file.as_deref(),
        line: inlined.line,
        is_inlined: true,
    });
    inner.chain(std::iter::once(outer))
}

/// Tells whether misuse is what it looks like. Rust's standard allocator calls malloc
/// and free for Rust, and only the names of its calls give that away: what a library
/// with an allocator of its own books on side c may be Rust's all the same.
pub(crate) fn is_real(misuse: &Misuse, is_shim: impl Fn(u32) -> bool) -> bool {
    let is_rust = |end: &Option<MisuseStack>| {
        let innermost = end.as_ref().and_then(|stack| stack.frames.first());
        innermost.is_some_and(|&site| is_shim(site))
    };
    match misuse.kind {
        MisuseKind::RustFreedByC => !is_rust(&misuse.freed),
        MisuseKind::CFreedByRust => !is_rust(&misuse.allocated),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Report, fixture};

    fn kinds(report: &Report) -> Vec<MisuseKind> {
        let misuses = report.processes[0].misuses.iter();
        misuses.map(|misuse| misuse.kind).collect()
    }

    #[test]
    fn what_rusts_own_allocator_frees_is_no_misuse() {
        let mut recording = fixture::with_misuse();
        assert_eq!(kinds(&Report::new(&recording)), MisuseKind::ALL);
        // The codec gave out what Rust freed, and freed what Rust gave out: now it is Rust's.
        recording.sites[0].rust_shim = true;
        let left: Vec<_> = MisuseKind::ALL
            .into_iter()
            .filter(|kind| !matches!(kind, MisuseKind::RustFreedByC | MisuseKind::CFreedByRust))
            .collect();
        assert_eq!(kinds(&Report::new(&recording)), left);
    }

    #[test]
    fn stacks_have_their_inlined_functions_innermost_first() {
        let recording = fixture::with_misuse();
        let report = Report::new(&recording);
        let stack = recording.processes[0].misuses[0].freed.as_ref().unwrap();
        let calls = calls(&report.catalog, stack);
        let names: Vec<_> = calls
            .iter()
            .map(|call| (&*call.name, call.is_inlined))
            .collect();
        assert_eq!(
            names,
            [
                ("Vec::grow", true),
                ("player::parse", false),
                ("main", false)
            ]
        );
        assert_eq!((calls[0].library, calls[1].line), ("player", Some(42)));
    }

    #[test]
    fn standard_libraries_are_plumbing() {
        let call = |name: &'static str, file| Call {
            symbol: Some(name),
            offset: None,
            name: name.into(),
            library: "x",
            file,
            line: None,
            is_inlined: false,
        };
        assert!(
            call(
                "alloc::alloc::dealloc",
                Some("/rustc/1/library/alloc/src/alloc.rs")
            )
            .is_plumbing()
        );
        assert!(call("__rustc::__rust_dealloc", None).is_plumbing());
        assert!(!call("player::parse", Some("/src/player/parse.rs")).is_plumbing());
    }

    #[test]
    fn stacks_are_shown_from_the_call_into_the_library_to_main() {
        let stack = |names: &[&'static str]| -> Vec<Call<'static>> {
            let call = |&name: &&'static str| {
                let (name, is_std) = match name.strip_prefix("std:") {
                    Some(name) => (name, true),
                    None => (name, false),
                };
                Call {
                    symbol: Some(name),
                    offset: None,
                    name: name.into(),
                    library: "x",
                    file: is_std.then_some("/rustc/1/library/std/src/rt.rs"),
                    line: None,
                    is_inlined: false,
                }
            };
            names.iter().map(call).collect()
        };
        let shown = |names: &[&'static str]| -> Vec<String> {
            let stack = stack(names);
            own_calls(&stack)
                .iter()
                .map(|call| call.name.to_string())
                .collect()
        };
        let rust = [
            "__rust_alloc",
            "std:finish_grow",
            "std:push",
            "parse",
            "x::main",
            "std:call_once",
            "std:lang_start",
            "main",
            "__libc_start_call_main",
            "_start",
        ];
        assert_eq!(shown(&rust), ["push", "parse", "x::main"]);
        assert_eq!(
            shown(&["make", "main", "__libc_start_main", "_start"]),
            ["make", "main"]
        );
        assert_eq!(
            shown(&["make", "work", "start_thread", "clone3"]),
            ["make", "work"]
        );
        assert_eq!(
            shown(&["std:lang_start", "main", "_start"]).len(),
            3,
            "nothing is left to show"
        );
        assert_eq!(shown(&["_start"]), ["_start"]);
        assert_eq!(shown(&[]), [] as [&str; 0]);
    }
}
