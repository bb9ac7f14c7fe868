//! Names of call sites, from the object files, outside the recorded program.
//!
//! One module at a time and each on its own: a file that is gone, was replaced
//! or cannot be read costs its own symbols and nothing else.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::IsTerminal;
use std::num::NonZero;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
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
/// Modules read at a time: each takes as much memory as its debug information.
const MAX_THREADS: usize = 4;
/// Sites looked up between two looks at the clock.
const SITES_A_STEP: usize = 512;

/// How much is asked of symbols, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Detail {
    /// No lines of system libraries, which take a tenth of a second to read where
    /// their debug files are installed: too dear at the end of every run.
    Quick,
    /// All that there is, for whoever asked for every stack.
    Full,
}

impl Detail {
    /// Gives what is to be asked for a recording with every stack, or without.
    pub(crate) fn of(has_every_stack: bool) -> Detail {
        if has_every_stack {
            Detail::Full
        } else {
            Detail::Quick
        }
    }
}

/// Gives every site that has no name yet, or lacks what the detail wants, what its
/// module's symbols and line tables know of it.
pub(crate) fn resolve(modules: &[Module], sites: &mut [Site], detail: Detail) {
    resolve_others(modules, sites, detail, &HashSet::new());
}

/// The same but for sites that were looked up in such detail before: what they lack,
/// nobody knows.
pub(crate) fn resolve_others(
    modules: &[Module],
    sites: &mut [Site],
    detail: Detail,
    known: &HashSet<u32>,
) {
    let lacks =
        |site: &Site| site.symbol.is_none() || (detail == Detail::Full && site.file.is_none());
    let mut by_module: HashMap<u32, Vec<usize>> = HashMap::new();
    for (index, site) in sites.iter().enumerate() {
        let is_wanted = lacks(site) && !known.contains(&(index as u32));
        if let Some(module) = site.module.filter(|_| is_wanted) {
            by_module.entry(module).or_default().push(index);
        }
    }
    let mut parts: Vec<Part> = by_module
        .into_iter()
        .filter_map(|(module, indices)| {
            let module = modules.get(module as usize)?;
            let wanted = indices.iter().map(|&index| sites[index].clone()).collect();
            Some((module, indices, wanted))
        })
        .collect();
    let progress = Progress::of(parts.iter().map(|(_, indices, _)| indices.len()).sum());
    // The longest work first, so that nobody begins it last.
    parts.sort_by_key(|(_, indices, _)| indices.len());
    for (_, indices, named) in resolve_parts(parts, detail, &progress) {
        for (index, site) in indices.into_iter().zip(named) {
            sites[index] = site;
        }
    }
    progress.finish();
}

/// A module, and sites in it: their places, and themselves.
type Part<'a> = (&'a Module, Vec<usize>, Vec<Site>);

/// Names the sites of modules, the last ones first, on as many threads as can run at once.
fn resolve_parts<'a>(parts: Vec<Part<'a>>, detail: Detail, progress: &Progress) -> Vec<Part<'a>> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let helpers = threads.min(parts.len()).min(MAX_THREADS).saturating_sub(1);
    let left = Mutex::new(parts);
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let work = || {
        let mut done = Vec::new();
        while let Some((module, indices, mut wanted)) = next() {
            resolve_all(module, &mut wanted, detail, progress);
            done.push((module, indices, wanted));
        }
        done
    };
    thread::scope(|scope| {
        // Where no thread can be had, this one does it all.
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
        let helpers: Vec<_> = (0..helpers).map_while(spawn).collect();
        let mut done = work();
        let others = helpers.into_iter().filter_map(|helper| helper.join().ok());
        others.for_each(|others| done.extend(others));
        done
    })
}

/// How many sites have been looked up, told to a terminal when it takes long.
struct Progress {
    began: Instant,
    is_shown: bool,
    sites: usize,
    done: AtomicUsize,
    bar: OnceLock<ProgressBar>,
}

impl Progress {
    fn of(sites: usize) -> Progress {
        Progress {
            began: Instant::now(),
            is_shown: std::io::stderr().is_terminal(),
            sites,
            done: AtomicUsize::new(0),
            bar: OnceLock::new(),
        }
    }

    fn silent() -> Progress {
        Progress {
            is_shown: false,
            ..Progress::of(0)
        }
    }

    fn add(&self, sites: usize) {
        let done = self.done.fetch_add(sites, Ordering::Relaxed) + sites;
        if self.is_shown && self.began.elapsed() > PATIENCE {
            let bar = self.bar.get_or_init(|| self.new_bar());
            bar.set_position(done as u64);
        }
    }

    fn new_bar(&self) -> ProgressBar {
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}");
        let bar = ProgressBar::new(self.sites as u64).with_message("reading symbols");
        match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }

    fn finish(self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

/// Gives sites of one module their names, and shows nobody how far it got. False
/// where the module's file could not be read.
pub(crate) fn resolve_module(module: &Module, sites: &mut [Site], detail: Detail) -> bool {
    resolve_all(module, sites, detail, &Progress::silent()).is_some()
}

fn resolve_all(
    module: &Module,
    sites: &mut [Site],
    detail: Detail,
    progress: &Progress,
) -> Option<()> {
    let indices: Vec<usize> = (0..sites.len()).collect();
    // A damaged object file must not cost the recording.
    catch_unwind(AssertUnwindSafe(|| {
        read_names(module, sites, &indices, detail, progress)
    }))
    .unwrap_or_default()
}

fn read_names(
    module: &Module,
    sites: &mut [Site],
    indices: &[usize],
    detail: Detail,
    progress: &Progress,
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
        name_from(&apart, lines, sites, &lacking, &Progress::silent());
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
fn name_from(path: &Path, lines: bool, sites: &mut [Site], indices: &[usize], progress: &Progress) {
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
    progress: &Progress,
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
        resolve(&[module(build_id.clone())], &mut sites, Detail::Quick);
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

        let mut sites = vec![site.clone(), site.clone()];
        let known = HashSet::from([0]);
        let modules = [module(build_id.clone())];
        resolve_others(&modules, &mut sites, Detail::Full, &known);
        assert_eq!(
            sites[0].symbol, None,
            "what was looked up is not looked up again"
        );
        assert!(sites[1].symbol.is_some());

        let mut sites = vec![site];
        resolve(&[module(vec![1, 2, 3])], &mut sites, Detail::Full);
        assert_eq!(
            sites[0].symbol, None,
            "another build of the file must not lend its names"
        );
    }
}
