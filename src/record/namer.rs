//! Names call sites while the program still runs, so that little is left to be
//! named after its end.
//!
//! A thread reads from live ledgers which sites there are. It looks seldom, and keeps
//! open what it has read: what it has not named by the end of the program takes little
//! then. It has the priority of everybody: one that runs only where a processor would
//! idle is starved on a busy machine, and this process cannot end before it does.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::ledger::books::Books;
use crate::ledger::pages::FilePages;
use crate::recording::model::{Module, Site};
use crate::recording::module_names::OpenModules;
use crate::recording::resolve::Tables;
use crate::recording::symbols::{self, Detail};

/// Programs that end sooner are not worth a thread. Each look comes after one and a
/// half times the time of the one before.
const FIRST_LOOK: Duration = Duration::from_millis(200);
/// Ledgers read at one look.
const LEDGERS_A_LOOK: usize = 8;
/// Sites named ahead; the others wait for the end.
const MOST_SITES: usize = 1 << 16;

/// Sites of one module, with their names.
#[derive(Debug)]
pub(super) struct Named {
    pub module: Module,
    pub sites: Vec<Site>,
    /// What was asked for: what a site lacks of it, nobody knows.
    pub detail: Detail,
}

/// When to look, and what was found.
pub(super) struct Namer {
    began: Instant,
    next_look: Instant,
    thread: Option<Thread>,
}

struct Thread {
    work: Sender<Work>,
    named: Receiver<Named>,
    /// The program has ended: a look need not go on.
    has_ended: Arc<AtomicBool>,
    /// What the thread reads at this moment.
    reading: Arc<Mutex<Option<Module>>>,
}

/// What the thread is asked for.
enum Work {
    /// What live ledgers have of sites.
    Look(Vec<File>),
    /// These, and nothing more.
    Rest(Detail, Vec<(Module, Vec<Site>)>),
}

impl Namer {
    pub(super) fn new(now: Instant) -> Namer {
        Namer {
            began: now,
            next_look: now + FIRST_LOOK,
            thread: None,
        }
    }

    /// Has the call sites of these ledgers named, if it is time to look again.
    pub(super) fn look<'a>(&mut self, now: Instant, ledgers: impl Iterator<Item = &'a File>) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + (now - self.began) / 2;
        if self.thread.is_none() {
            self.thread = Thread::begin().ok();
        }
        let Some(thread) = self.thread.as_ref().filter(|thread| thread.work.is_empty()) else {
            return;
        };
        let copies = ledgers
            .take(LEDGERS_A_LOOK)
            .filter_map(|file| file.try_clone().ok());
        // Busy, or gone: what is not named now is named at the end.
        let _ = thread.work.try_send(Work::Look(copies.collect()));
    }

    /// Says that the program has ended: nothing more is looked for.
    pub(super) fn stop(&self) {
        if let Some(thread) = &self.thread {
            thread.has_ended.store(true, Ordering::Relaxed);
        }
    }

    /// Gives every site a name that has one to be had.
    pub(super) fn finish(self, tables: &mut Tables, detail: Detail) {
        self.stop();
        let mut known = HashSet::new();
        if let Some(thread) = self.thread {
            thread.finish(tables, detail, &mut known);
        }
        symbols::resolve_others(&tables.modules, &mut tables.sites, detail, &known);
    }
}

impl Thread {
    fn begin() -> io::Result<Thread> {
        let (work, inbox) = bounded(1);
        let (outbox, named) = unbounded();
        let has_ended = Arc::new(AtomicBool::new(false));
        let reading = Arc::new(Mutex::new(None));
        let (is_over, reads) = (Arc::clone(&has_ended), Arc::clone(&reading));
        std::thread::Builder::new()
            .name("namer".into())
            .spawn(move || do_all(&inbox, &outbox, &is_over, &reads))?;
        Ok(Thread {
            work,
            named,
            has_ended,
            reading,
        })
    }

    /// Takes over what has been named, and has the thread name what is left of the
    /// modules that it has read, while this one names what is left of others. What was
    /// looked for in vain is known as well.
    fn finish(self, tables: &mut Tables, detail: Detail, known: &mut HashSet<u32>) {
        let mut read: HashSet<Module> = lock(&self.reading).iter().cloned().collect();
        for named in self.named.try_iter() {
            read.insert(named.module.clone());
            adopt(tables, detail, known, named);
        }
        let left = symbols::lacking(&tables.sites, detail, known);
        let mut for_thread = Vec::new();
        let mut for_us = known.clone();
        let mut all: HashSet<u32> = HashSet::new();
        for (index, places) in left {
            all.extend(places.iter().map(|&place| place as u32));
            let module = tables.modules.get(index as usize);
            if let Some(module) = module.filter(|module| read.contains(module)) {
                for_us.extend(places.iter().map(|&place| place as u32));
                let sites = places.iter().map(|&place| tables.sites[place].clone());
                for_thread.push((module.clone(), sites.collect()));
            }
        }
        let is_asked =
            !for_thread.is_empty() && self.work.send(Work::Rest(detail, for_thread)).is_ok();
        drop(self.work);
        symbols::resolve_others(&tables.modules, &mut tables.sites, detail, &for_us);
        known.extend(all.difference(&for_us));
        if is_asked {
            // Until the thread has done all of it, or failed.
            for named in &self.named {
                adopt(tables, detail, known, named);
            }
        }
    }
}

/// Takes names over. What has been looked for in no less detail is known then.
fn adopt(tables: &mut Tables, detail: Detail, known: &mut HashSet<u32>, named: Named) {
    let adopted = tables.adopt_names(&named.module, named.sites);
    if named.detail >= detail {
        known.extend(adopted);
    }
}

fn lock(reading: &Mutex<Option<Module>>) -> MutexGuard<'_, Option<Module>> {
    reading.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names what each look finds, until the rest is done or nobody wants it any more.
fn do_all(
    inbox: &Receiver<Work>,
    outbox: &Sender<Named>,
    is_over: &AtomicBool,
    reading: &Mutex<Option<Module>>,
) {
    let mut open = OpenModules::default();
    let mut tables = Tables::default();
    let mut detail = Detail::of(false);
    for work in inbox {
        let parts = match work {
            Work::Look(_) if is_over.load(Ordering::Relaxed) => continue,
            Work::Look(ledgers) => {
                let known = note(&mut tables, &ledgers, &mut detail);
                new_by_module(&tables, known)
            }
            Work::Rest(wanted, parts) => {
                detail = wanted;
                is_over.store(false, Ordering::Relaxed);
                parts
            }
        };
        for (module, mut sites) in parts {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            *lock(reading) = Some(module.clone());
            if open.name(&module, &mut sites, detail) {
                let named = Named {
                    module,
                    sites,
                    detail,
                };
                if outbox.send(named).is_err() {
                    return;
                }
            }
            *lock(reading) = None;
        }
    }
    // The process ends now, and with it the memory.
    std::mem::forget(open);
}

/// Takes the sites of ledgers into the tables; gives how many were known, all of them
/// anew where more is wanted.
fn note(tables: &mut Tables, ledgers: &[File], detail: &mut Detail) -> usize {
    let mut known = tables.sites.len();
    for ledger in ledgers {
        // A ledger holds not many times as many, so the tables stay small too.
        if tables.sites.len() < MOST_SITES
            && let Ok(books) = Books::read_places(&FilePages(ledger))
        {
            tables.note_sites(&books);
            let wanted = Detail::of(books.exact.is_some());
            if wanted > *detail {
                (*detail, known) = (wanted, 0);
            }
        }
    }
    known
}

/// Gives the sites from `known` on, by module.
fn new_by_module(tables: &Tables, known: usize) -> Vec<(Module, Vec<Site>)> {
    let mut by_module: BTreeMap<u32, Vec<Site>> = BTreeMap::new();
    for site in &tables.sites[known..] {
        if let Some(module) = site.module {
            by_module.entry(module).or_default().push(site.clone());
        }
    }
    let module = |index: u32| tables.modules.get(index as usize).cloned();
    by_module
        .into_iter()
        .filter_map(|(index, sites)| Some((module(index)?, sites)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use object::{Object, ObjectSymbol, ReadCache};

    use super::*;

    /// Two functions of this program, and the program.
    fn module_and_sites() -> (Module, [u64; 2]) {
        let exe = std::env::current_exe().unwrap();
        let cache = ReadCache::new(File::open(&exe).unwrap());
        let elf = object::File::parse(&cache).unwrap();
        let module = Module {
            path: exe.to_str().unwrap().to_owned(),
            build_id: elf.build_id().unwrap().unwrap_or_default().to_vec(),
        };
        let address = |part: &str| {
            let mut symbols = elf.symbols();
            let is_it = |name: &str| name.contains("namer") && name.contains(part);
            let symbol = symbols.find(|symbol| symbol.name().is_ok_and(is_it));
            symbol.unwrap().address() + 2
        };
        let sites = [address("one_that_is_named"), address("another_of_them")];
        (module, sites)
    }

    #[inline(never)]
    fn one_that_is_named() -> u64 {
        std::hint::black_box(1) + 1
    }

    #[inline(never)]
    fn another_of_them() -> u64 {
        std::hint::black_box(2) + 1
    }

    fn site(module: u32, offset: u64) -> Site {
        Site {
            module: Some(module),
            offset,
            ..Site::default()
        }
    }

    #[test]
    fn names_given_ahead_are_those_of_the_end() {
        assert_eq!(one_that_is_named() + another_of_them(), 5);
        let (module, [first, second]) = module_and_sites();
        let seen = Tables::with(vec![module.clone()], vec![site(0, first), site(0, second)]);
        let mut open = OpenModules::default();
        let mut parts = new_by_module(&seen, 1);
        let [(of, sites)] = &mut parts[..] else {
            panic!("{parts:?}");
        };
        assert!(open.name(of, sites, Detail::Quick));
        // A second time from what stays open.
        let mut again = vec![site(0, second)];
        assert!(open.name(of, &mut again, Detail::Quick));
        assert_eq!(&again, sites);
        let of = Named {
            module: of.clone(),
            sites: sites.clone(),
            detail: Detail::Quick,
        };
        assert_eq!(
            (&of.module, of.sites.len()),
            (&module, 1),
            "only what is new"
        );

        let another_build = Module {
            build_id: vec![1, 2, 3],
            ..module.clone()
        };
        let modules = vec![another_build, module];
        let sites = vec![site(0, second), site(1, first), site(1, second)];
        let mut ahead = Tables::with(modules.clone(), sites.clone());
        let mut known = HashSet::new();
        adopt(&mut ahead, Detail::Quick, &mut known, of);
        assert_eq!(known, HashSet::from([2]));
        let is_named = |site: &Site| site.symbol.is_some();
        assert_eq!(
            ahead.sites.iter().map(is_named).collect::<Vec<_>>(),
            [false, false, true]
        );
        symbols::resolve_others(&ahead.modules, &mut ahead.sites, Detail::Quick, &known);
        let mut at_the_end = sites;
        symbols::resolve(&modules, &mut at_the_end, Detail::Quick);
        assert_eq!(ahead.sites, at_the_end);
        assert_eq!(
            ahead.sites.iter().map(is_named).collect::<Vec<_>>(),
            [false, true, true]
        );
    }

    #[test]
    fn what_is_left_is_named_by_whoever_has_read_the_module() {
        assert_eq!(one_that_is_named() + another_of_them(), 5);
        let (module, [first, second]) = module_and_sites();
        let elsewhere = Module {
            path: "/nowhere/libgone.so".into(),
            build_id: vec![1],
        };
        let sites = vec![site(0, first), site(1, 64), site(0, second)];
        let mut tables = Tables::with(vec![module.clone(), elsewhere], sites);
        let thread = Thread::begin().unwrap();
        *lock(&thread.reading) = Some(module);
        thread.has_ended.store(true, Ordering::Relaxed);
        let mut known = HashSet::new();
        thread.finish(&mut tables, Detail::Quick, &mut known);
        assert_eq!(known, HashSet::from([0, 1, 2]), "looked for, if in vain");
        let has_name = |site: &Site| site.symbol.is_some();
        assert_eq!(
            tables.sites.iter().map(has_name).collect::<Vec<_>>(),
            [true, false, true]
        );
    }

    #[test]
    fn a_short_program_gets_no_thread() {
        let now = Instant::now();
        let mut namer = Namer::new(now);
        namer.look(now + FIRST_LOOK / 2, std::iter::empty());
        assert!(namer.thread.is_none());
        namer.look(now + FIRST_LOOK, std::iter::empty());
        assert!(namer.thread.is_some());
        assert_eq!(namer.next_look, now + FIRST_LOOK * 3 / 2);
    }
}
