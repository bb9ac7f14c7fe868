//! Names of call sites, from the object files, outside the recorded program.
//!
//! One module at a time and each on its own: a file that is gone, was replaced
//! or cannot be read costs its own symbols and nothing else.

use std::collections::{HashMap, HashSet};
use std::io::IsTerminal;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::model::{Module, Site};
use super::module_names::{OpenModule, names_or_nothing};

/// A wait worth telling about.
const PATIENCE: Duration = Duration::from_millis(500);
/// Modules read at a time: each takes as much memory as its debug information.
const MAX_THREADS: usize = 4;
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
    let by_module = lacking(sites, detail, known);
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

/// Gives the places of sites that lack what the detail wants and are not known, by module.
pub(crate) fn lacking(
    sites: &[Site],
    detail: Detail,
    known: &HashSet<u32>,
) -> HashMap<u32, Vec<usize>> {
    let lacks =
        |site: &Site| site.symbol.is_none() || (detail == Detail::Full && site.file.is_none());
    let mut by_module: HashMap<u32, Vec<usize>> = HashMap::new();
    for (index, site) in sites.iter().enumerate() {
        let is_wanted = lacks(site) && !known.contains(&(index as u32));
        if let Some(module) = site.module.filter(|_| is_wanted) {
            by_module.entry(module).or_default().push(index);
        }
    }
    by_module
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

fn resolve_all(module: &Module, sites: &mut [Site], detail: Detail, progress: &Progress) {
    names_or_nothing(|| {
        let mut opened = OpenModule::open(module)?;
        opened.name(sites, detail, &|done| progress.add(done));
        Some(())
    });
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use object::{Object, ObjectSymbol, ReadCache};

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
