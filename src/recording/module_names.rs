//! Names from the files of one module, which can stay open for those that are asked
//! for later: to read their symbols and their debug information takes most of the time.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, InlinedFn, Input, Sym, Symbolizer};
use object::{Object, ReadCache};

use super::demangle::demangled;
use super::model::{Inlined, Module, Site};
use super::shims::{is_shim, mark_shims};
use super::symbols::Detail;

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

/// Sites looked up between two looks at the clock.
const SITES_A_STEP: usize = 512;

/// Files of all modules that stay open, beyond which another is read for itself. What
/// was read of them takes about as much memory, where all of it was asked for.
const MOST_OPEN_BYTES: u64 = 64 << 20;

/// Modules whose files stay open. Not for threads: the symbolizer is of one alone.
#[derive(Default)]
pub(crate) struct OpenModules {
    open: HashMap<Module, OpenModule>,
    open_bytes: u64,
}

impl OpenModules {
    /// Gives sites of one module their names. False where its file could not be read.
    pub(crate) fn name(&mut self, module: &Module, sites: &mut [Site], detail: Detail) -> bool {
        let kept = self.open.remove(module);
        let kept_bytes = kept.as_ref().map_or(0, |kept| kept.file_bytes);
        self.open_bytes -= kept_bytes;
        let opened = names_or_nothing(|| {
            let mut opened = kept.or_else(|| OpenModule::open(module))?;
            opened.name(sites, detail, &|_| {});
            Some(opened)
        });
        let is_read = opened.is_some();
        let room = MOST_OPEN_BYTES - self.open_bytes;
        if let Some(opened) = opened.filter(|opened| opened.file_bytes <= room) {
            self.open_bytes += opened.file_bytes;
            self.open.insert(module.clone(), opened);
        }
        is_read
    }
}

/// Gives what the work gives. A damaged object file must not cost the recording.
pub(super) fn names_or_nothing<T>(work: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_default()
}

/// A module, and what was read of it.
pub(super) struct OpenModule {
    path: PathBuf,
    build_id: Vec<u8>,
    file: ReadCache<File>,
    file_bytes: u64,
    /// What the file was like when it was opened.
    version: Version,
    /// Lines are worth their price.
    wants_lines: bool,
    /// Where debuggers look first for what its debug link names.
    beside: Option<PathBuf>,
    /// No call leads to a shim of Rust's.
    has_no_shims: bool,
    /// By whether lines were asked for.
    itself: [Option<Names>; 2],
    /// What was stripped off, where it was looked for and is there.
    apart: Option<Option<PathBuf>>,
    of_apart: [Option<Names>; 2],
}

/// Device, inode, length, and when it was last written.
type Version = (u64, u64, u64, i64, i64);

fn version_of(file: &File) -> Option<Version> {
    let is = file.metadata().ok()?;
    Some((is.dev(), is.ino(), is.len(), is.mtime(), is.mtime_nsec()))
}

impl OpenModule {
    /// Opens the file of a module, if it is still the one that was mapped.
    pub(super) fn open(module: &Module) -> Option<OpenModule> {
        let path = PathBuf::from(&module.path);
        let file = open_regular(&path)?;
        let file_bytes = file.metadata().ok()?.len();
        let version = version_of(&file)?;
        let file = ReadCache::new(file);
        let elf = object::File::parse(&file).ok()?;
        if elf.build_id().ok()?.unwrap_or_default() != module.build_id {
            return None;
        }
        let wants_lines = wants_lines(&path, &elf);
        let beside = debug_directory(&path, &elf);
        Some(OpenModule {
            beside,
            path,
            build_id: module.build_id.clone(),
            file,
            file_bytes,
            version,
            wants_lines,
            has_no_shims: false,
            itself: [None, None],
            apart: None,
            of_apart: [None, None],
        })
    }

    /// Gives sites what the module's symbols and line tables know of them; `tell` hears
    /// of each number of sites that was looked up.
    pub(super) fn name(&mut self, sites: &mut [Site], detail: Detail, tell: &dyn Fn(usize)) {
        let lines = detail == Detail::Full || self.wants_lines;
        let every: Vec<usize> = (0..sites.len()).collect();
        self.give_own(sites, &every, lines, tell);
        let lacks = |site: &Site| site.symbol.is_none() || (lines && site.file.is_none());
        let lacking: Vec<usize> = every
            .iter()
            .copied()
            .filter(|&index| lacks(&sites[index]))
            .collect();
        if !lacking.is_empty() {
            let apart = self
                .apart
                .get_or_insert_with(|| file_apart(&self.build_id, self.beside.as_deref()));
            if let Some(path) = apart {
                let names =
                    self.of_apart[usize::from(lines)].get_or_insert_with(|| Names::of(path, lines));
                names.give(sites, &lacking, &|_| {});
            }
        }
        if !self.has_no_shims
            && let Ok(elf) = object::File::parse(&self.file)
        {
            self.has_no_shims = !mark_shims(&elf, sites, &every);
        }
    }
}

impl OpenModule {
    /// Gives what the file itself knows. It may have been replaced since it was opened: then
    /// what was read of it before is all there is, with less detail than is asked for.
    fn give_own(
        &mut self,
        sites: &mut [Site],
        indices: &[usize],
        lines: bool,
        tell: &dyn Fn(usize),
    ) {
        let which = usize::from(lines);
        if self.itself[which].is_none() && self.is_still_there() {
            let mut names = Names::of(&self.path, lines);
            let mut named = sites.to_vec();
            names.give(&mut named, indices, tell);
            // It is read when it is first asked.
            if self.is_still_there() {
                sites.clone_from_slice(&named);
                self.itself[which] = Some(names);
                return;
            }
        }
        let [quick, full] = &mut self.itself;
        let known = if lines {
            full.as_mut().or(quick.as_mut())
        } else {
            quick.as_mut().or(full.as_mut())
        };
        if let Some(names) = known {
            names.give(sites, indices, tell);
        }
    }

    /// Tells whether the module's path leads to what was opened, or to another copy of it.
    fn is_still_there(&self) -> bool {
        let now = open_regular(&self.path);
        let is_same = |file: &File| version_of(file) == Some(self.version);
        now.as_ref().is_some_and(is_same)
            || (!self.build_id.is_empty() && has_build_id(&self.path, &self.build_id).is_some())
    }
}

/// What one file knows. One whose debug information cannot be read, or whose debug
/// link leads to another build's, still has its symbol table.
struct Names {
    source: Elf,
    symbolizer: Symbolizer,
}

impl Names {
    fn of(path: &Path, lines: bool) -> Names {
        let mut source = Elf::new(path);
        source.debug_syms = lines;
        // Its demangling takes C names for C++ types: `t` would become `unsigned short`.
        let symbolizer = Symbolizer::builder()
            .enable_auto_reload(false)
            .enable_demangling(false)
            .build();
        Names { source, symbolizer }
    }

    fn give(&mut self, sites: &mut [Site], indices: &[usize], tell: &dyn Fn(usize)) {
        if self.look_up(sites, indices, tell).is_none() && self.source.debug_syms {
            self.source.debug_syms = false;
            self.look_up(sites, indices, tell);
        }
    }

    fn look_up(&self, sites: &mut [Site], indices: &[usize], tell: &dyn Fn(usize)) -> Option<()> {
        let source = Source::Elf(self.source.clone());
        for indices in indices.chunks(SITES_A_STEP) {
            // The return address may already belong to the next line, or the next function.
            let calls: Vec<u64> = indices
                .iter()
                .map(|&index| sites[index].offset.saturating_sub(1))
                .collect();
            let found = self
                .symbolizer
                .symbolize(&source, Input::VirtOffset(&calls))
                .ok()?;
            for (&index, found) in indices.iter().zip(found) {
                if let Some(symbol) = found.as_sym() {
                    name_site(&mut sites[index], symbol);
                }
            }
            tell(indices.len());
        }
        Some(())
    }
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

/// Gives the file that a debug link names in the directory `.debug` beside its object,
/// which is the one place where the symbolizer does not look.
fn debug_directory<'data>(path: &Path, elf: &impl Object<'data>) -> Option<PathBuf> {
    let (name, _) = elf.gnu_debuglink().ok()??;
    let name = Path::new(OsStr::from_bytes(name)).file_name()?;
    Some(path.with_file_name(".debug").join(name))
}

/// Gives the file in which what was stripped off is kept apart: beside the object, where
/// distributions install it, or where debuginfod's clients have left it. Nothing is fetched.
fn file_apart(build_id: &[u8], beside: Option<&Path>) -> Option<PathBuf> {
    let digits: String = build_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let (directory, name) = digits
        .split_at_checked(2)
        .filter(|(_, rest)| !rest.is_empty())?;
    let installed = format!("/usr/lib/debug/.build-id/{directory}/{name}.debug");
    let fetched = debuginfod_cache().map(|cache| cache.join(&digits).join("debuginfo"));
    let beside = beside.map(Path::to_path_buf);
    let mut candidates = beside
        .into_iter()
        .chain([PathBuf::from(installed)])
        .chain(fetched);
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
    use super::*;
    use object::{ObjectSymbol, SymbolKind};

    /// Gives where a function of a file begins.
    fn some_function(path: &Path) -> u64 {
        let bytes = std::fs::read(path).expect("a file");
        let elf = object::File::parse(&*bytes).expect("an object");
        let mut symbols = elf.symbols();
        let function = symbols.find(|it| it.kind() == SymbolKind::Text && it.size() > 64);
        function.expect("a function").address()
    }

    fn names(opened: &mut OpenModule, offset: u64, detail: Detail) -> Option<String> {
        let mut sites = [Site {
            offset: offset + 8,
            ..Site::default()
        }];
        opened.name(&mut sites, detail, &|_| {});
        sites[0].symbol.take()
    }

    #[test]
    fn a_file_that_was_replaced_gives_no_names_of_what_came_in_its_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("module");
        let here = std::env::current_exe().expect("this program");
        std::fs::copy(&here, &path).expect("a copy");
        let offset = some_function(&path);
        let bytes = std::fs::read(&path).expect("a file");
        let build_id = object::File::parse(&*bytes).expect("an object").build_id();
        let module = Module {
            path: path.to_str().expect("text").to_owned(),
            build_id: build_id.expect("readable").unwrap_or_default().to_vec(),
        };
        let mut opened = OpenModule::open(&module).expect("it is there");
        opened.wants_lines = false; // as of the system's
        let before = names(&mut opened, offset, Detail::Quick);
        assert!(before.is_some());
        std::fs::remove_file(&path).expect("it can be");
        std::fs::copy("/bin/true", &path).expect("another");
        assert_eq!(names(&mut opened, offset, Detail::Full), before);
    }
}
