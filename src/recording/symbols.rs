//! Names of call sites, from the object files, outside the recorded program.
//!
//! One module at a time and each on its own: a file that is gone, was replaced
//! or cannot be read costs its own symbols and nothing else.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::IsTerminal;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, InlinedFn, Input, Sym, Symbolizer};
use indicatif::{ProgressBar, ProgressStyle};
use object::{Object, ReadCache};

use super::demangle::demangled;
use super::model::{Inlined, Module, Site};
use super::shims::{is_shim, mark_shims};

/// Where what nobody here has built lies.
const SYSTEM_DIRECTORIES: [&str; 9] = [
    "/usr/lib",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/bin",
    "/usr/sbin",
    "/lib",
    "/lib64",
    "/bin",
    "/sbin",
];

/// A wait worth telling about.
const PATIENCE: Duration = Duration::from_millis(500);
/// Sites looked up between two looks at the clock.
const SITES_A_STEP: usize = 512;

/// How much is asked of symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// No lines of system libraries, which take a tenth of a second to read where
    /// their debug files are installed: for call sites alone too dear.
    Quick,
    /// All that there is: for stacks, whose readers want to know where they lead.
    Full,
}

impl Detail {
    /// Gives what is to be asked for a recording with stacks, or without.
    pub(crate) fn of(has_stacks: bool) -> Detail {
        if has_stacks {
            Detail::Full
        } else {
            Detail::Quick
        }
    }
}

/// Gives every site that has no name yet, or lacks what the detail wants, what its
/// module's symbols and line tables know of it.
pub(crate) fn resolve(modules: &[Module], sites: &mut [Site], detail: Detail) {
    let lacks =
        |site: &Site| site.symbol.is_none() || (detail == Detail::Full && site.file.is_none());
    let mut by_module: HashMap<u32, Vec<usize>> = HashMap::new();
    for (index, site) in sites.iter().enumerate() {
        if let Some(module) = site.module.filter(|_| lacks(site)) {
            by_module.entry(module).or_default().push(index);
        }
    }
    let mut progress = Progress::of(by_module.values().map(Vec::len).sum());
    for (&module, indices) in &by_module {
        if let Some(module) = modules.get(module as usize) {
            resolve_indices(module, sites, indices, detail, &mut progress);
        }
    }
    progress.finish();
}

/// How many sites have been looked up, told to a terminal when it takes long.
struct Progress {
    began: Instant,
    is_shown: bool,
    sites: usize,
    done: usize,
    bar: Option<ProgressBar>,
}

impl Progress {
    fn of(sites: usize) -> Progress {
        Progress {
            began: Instant::now(),
            is_shown: std::io::stderr().is_terminal(),
            sites,
            done: 0,
            bar: None,
        }
    }

    fn silent() -> Progress {
        Progress {
            is_shown: false,
            ..Progress::of(0)
        }
    }

    fn add(&mut self, sites: usize) {
        self.done += sites;
        if self.bar.is_none() && self.is_shown && self.began.elapsed() > PATIENCE {
            let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}");
            let bar = ProgressBar::new(self.sites as u64).with_message("reading symbols");
            self.bar = Some(match style {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            });
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.done as u64);
        }
    }

    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Gives sites of one module their names, and shows nobody how far it got.
pub(crate) fn resolve_module(module: &Module, sites: &mut [Site]) {
    let indices: Vec<usize> = (0..sites.len()).collect();
    let progress = &mut Progress::silent();
    resolve_indices(module, sites, &indices, Detail::Quick, progress);
}

fn resolve_indices(
    module: &Module,
    sites: &mut [Site],
    indices: &[usize],
    detail: Detail,
    progress: &mut Progress,
) {
    // A damaged object file must not cost the recording.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        read_names(module, sites, indices, detail, progress)
    }));
}

fn read_names(
    module: &Module,
    sites: &mut [Site],
    indices: &[usize],
    detail: Detail,
    progress: &mut Progress,
) -> Option<()> {
    let path = Path::new(&module.path);
    let cache = ReadCache::new(open_regular(path)?);
    let elf = object::File::parse(&cache).ok()?;
    if elf.build_id().ok()?.unwrap_or_default() != module.build_id {
        return None;
    }
    let lines = detail == Detail::Full || wants_lines(path, &elf);
    name_from(path, lines, sites, indices, progress);
    let lacks = |site: &Site| site.symbol.is_none() || (lines && site.file.is_none());
    let lacking: Vec<usize> = indices
        .iter()
        .copied()
        .filter(|&index| lacks(&sites[index]))
        .collect();
    if let Some(apart) = file_apart(&module.build_id).filter(|_| !lacking.is_empty()) {
        name_from(&apart, lines, sites, &lacking, &mut Progress::silent());
    }
    mark_shims(&elf, sites, indices);
    Some(())
}

/// Opens a file that cannot block us: no device, no pipe.
pub(super) fn open_regular(path: &Path) -> Option<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .ok()?;
    file.metadata().ok()?.is_file().then_some(file)
}

/// Tells whether lines are worth their price: they lie in the file itself, or the
/// file is not the system's.
fn wants_lines<'data>(path: &Path, elf: &impl Object<'data>) -> bool {
    let is_systems = SYSTEM_DIRECTORIES.iter().any(|part| path.starts_with(part));
    !is_systems || elf.section_by_name(".debug_info").is_some()
}

/// Takes what a file knows. One whose debug information cannot be read, or whose
/// debug link leads to another build's, still has its symbol table.
fn name_from(
    path: &Path,
    lines: bool,
    sites: &mut [Site],
    indices: &[usize],
    progress: &mut Progress,
) {
    let mut source = Elf::new(path);
    source.debug_syms = lines;
    if name_sites(source.clone(), sites, indices, progress).is_none() && lines {
        source.debug_syms = false;
        name_sites(source, sites, indices, progress);
    }
}

/// Gives the file in which what was stripped off is kept apart: where distributions
/// install it, or where debuginfod's clients have left it. Nothing is fetched.
fn file_apart(build_id: &[u8]) -> Option<PathBuf> {
    let digits: String = build_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let (directory, name) = digits
        .split_at_checked(2)
        .filter(|(_, rest)| !rest.is_empty())?;
    let installed = format!("/usr/lib/debug/.build-id/{directory}/{name}.debug");
    let fetched = debuginfod_cache().map(|cache| cache.join(&digits).join("debuginfo"));
    let mut candidates = std::iter::once(PathBuf::from(installed)).chain(fetched);
    candidates.find(|path| has_build_id(path, build_id).is_some())
}

fn has_build_id(path: &Path, build_id: &[u8]) -> Option<()> {
    let cache = ReadCache::new(open_regular(path)?);
    let elf = object::File::parse(&cache).ok()?;
    (elf.build_id().ok()? == Some(build_id)).then_some(())
}

/// Gives the directory that debuginfod's clients share.
fn debuginfod_cache() -> Option<PathBuf> {
    let set = |name: &str| {
        let path = std::env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    set("DEBUGINFOD_CACHE_PATH")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("debuginfod_client")))
        .or_else(|| Some(set("HOME")?.join(".cache/debuginfod_client")))
}

fn name_sites(
    source: Elf,
    sites: &mut [Site],
    indices: &[usize],
    progress: &mut Progress,
) -> Option<()> {
    let source = Source::Elf(source);
    // Its demangling takes C names for C++ types: `t` would become `unsigned short`.
    let symbolizer = Symbolizer::builder()
        .enable_auto_reload(false)
        .enable_demangling(false)
        .build();
    for indices in indices.chunks(SITES_A_STEP) {
        // The return address may already belong to the next line, or the next function.
        let calls: Vec<u64> = indices
            .iter()
            .map(|&index| sites[index].offset.saturating_sub(1))
            .collect();
        let found = symbolizer
            .symbolize(&source, Input::VirtOffset(&calls))
            .ok()?;
        for (&index, found) in indices.iter().zip(found) {
            if let Some(symbol) = found.as_sym() {
                name_site(&mut sites[index], symbol);
            }
        }
        progress.add(indices.len());
    }
    Some(())
}

/// Calls the site by the function that the compiler emitted, not by what it inlined
/// there: `decode` says more than `Vec::with_capacity`.
fn name_site(site: &mut Site, symbol: &Sym<'_>) {
    let name = demangled(&symbol.name);
    if is_shim(&symbol.name) || is_shim(&name) {
        site.rust_shim = true;
    }
    site.symbol = Some(name);
    if let Some(code) = &symbol.code_info {
        (site.file, site.line) = source_of(code);
    }
    site.inlined = symbol.inlined.iter().map(inlined).collect();
}

fn inlined(function: &InlinedFn<'_>) -> Inlined {
    let (file, line) = function.code_info.as_ref().map_or((None, None), source_of);
    Inlined {
        symbol: demangled(&function.name),
        file,
        line,
    }
}

fn source_of(code: &CodeInfo<'_>) -> (Option<String>, Option<u32>) {
    let file = code.to_path().to_string_lossy().into_owned();
    (Some(file), code.line)
}

#[cfg(test)]
mod tests {
    use object::ObjectSymbol;

    use super::*;

    /// Not inlined, so that it has a symbol of its own.
    #[inline(never)]
    fn a_function_with_a_symbol() -> u64 {
        std::hint::black_box(41) + 1
    }

    #[test]
    fn a_call_site_in_this_program_gets_its_function_and_line() {
        let exe = std::env::current_exe().unwrap();
        let cache = ReadCache::new(File::open(&exe).unwrap());
        let elf = object::File::parse(&cache).unwrap();
        let address = elf
            .symbols()
            .find(|symbol| {
                symbol
                    .name()
                    .is_ok_and(|name| name.contains("a_function_with_a_symbol"))
            })
            .map(|symbol| symbol.address())
            .unwrap();
        let module = |build_id: Vec<u8>| Module {
            path: exe.to_str().unwrap().to_owned(),
            build_id,
        };
        let build_id = elf.build_id().unwrap().unwrap_or_default().to_vec();
        let site = Site {
            module: Some(0),
            offset: address + 2,
            ..Site::default()
        };
        let mut sites = vec![site.clone()];
        resolve(&[module(build_id)], &mut sites, Detail::Quick);
        assert!(
            sites[0]
                .symbol
                .as_ref()
                .unwrap()
                .contains("a_function_with_a_symbol"),
            "{:?}",
            sites[0]
        );
        assert!(sites[0].file.as_ref().unwrap().ends_with("symbols.rs"));
        assert_eq!(a_function_with_a_symbol(), 42);

        let mut sites = vec![site];
        resolve(&[module(vec![1, 2, 3])], &mut sites, Detail::Full);
        assert_eq!(
            sites[0].symbol, None,
            "another build of the file must not lend its names"
        );
    }
}
