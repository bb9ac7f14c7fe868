//! Names call sites while the program still runs, so that little is left to be
//! named after its end.
//!
//! A thread that only gets time nobody else wants reads from live ledgers which
//! sites there are. It looks seldom, and what it has not named by the end of the
//! program is named then.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::ledger::books::Books;
use crate::ledger::pages::FilePages;
use crate::recording::model::{Module, Site};
use crate::recording::resolve::Tables;
use crate::recording::symbols::{self, Detail};

/// Programs that end sooner are not worth a thread. Each look comes after twice
/// the time of the one before.
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
    looks: Sender<Vec<File>>,
    named: Receiver<Named>,
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
        self.next_look = now + (now - self.began);
        if self.thread.is_none() {
            self.thread = Thread::begin().ok();
        }
        let Some(thread) = self
            .thread
            .as_ref()
            .filter(|thread| thread.looks.is_empty())
        else {
            return;
        };
        let copies = ledgers
            .take(LEDGERS_A_LOOK)
            .filter_map(|file| file.try_clone().ok());
        // Busy, or gone: what is not named now is named at the end.
        let _ = thread.looks.try_send(copies.collect());
    }

    /// Gives what has been named so far. What is being read at this moment is not
    /// waited for: the thread may be starved, and cannot be given more time again.
    pub(super) fn finish(self) -> Vec<Named> {
        self.thread
            .map_or(Vec::new(), |thread| thread.named.try_iter().collect())
    }
}

impl Thread {
    fn begin() -> io::Result<Thread> {
        let (looks, inbox) = bounded(1);
        let (outbox, named) = unbounded();
        std::thread::Builder::new()
            .name("namer".into())
            .spawn(move || {
                if yield_to_everybody() {
                    work(&inbox, &outbox);
                }
            })?;
        Ok(Thread { looks, named })
    }
}

/// Lets this thread run only where a processor would idle.
fn yield_to_everybody() -> bool {
    // SAFETY: sched_param is made of integers, and 0 is the priority that
    // SCHED_IDLE wants; 0 names the calling thread.
    unsafe {
        let parameters: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) == 0
    }
}

/// Names what each look finds, until nobody wants it any more.
fn work(inbox: &Receiver<Vec<File>>, outbox: &Sender<Named>) {
    let mut tables = Tables::default();
    let mut detail = Detail::of(false);
    for ledgers in inbox {
        let mut known = tables.sites.len();
        for ledger in &ledgers {
            // A ledger holds not many times as many, so the tables stay small too.
            if tables.sites.len() < MOST_SITES
                && let Ok(books) = Books::read_places(&FilePages(ledger))
            {
                tables.note_sites(&books);
                let wanted = Detail::of(books.exact.is_some());
                if wanted > detail {
                    (detail, known) = (wanted, 0);
                }
            }
        }
        drop(ledgers);
        for named in name_new(&tables, known, detail) {
            if outbox.send(named).is_err() {
                return;
            }
        }
    }
}

/// Names the sites from `known` on, a module at a time.
fn name_new(tables: &Tables, known: usize, detail: Detail) -> impl Iterator<Item = Named> {
    let mut by_module: BTreeMap<u32, Vec<Site>> = BTreeMap::new();
    for site in &tables.sites[known..] {
        if let Some(module) = site.module {
            by_module.entry(module).or_default().push(site.clone());
        }
    }
    by_module
        .into_iter()
        .filter_map(move |(module, mut sites)| {
            let module = tables.modules.get(module as usize)?;
            symbols::resolve_module(module, &mut sites, detail).then(|| Named {
                module: module.clone(),
                sites,
                detail,
            })
        })
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
        let named: Vec<Named> = name_new(&seen, 1, Detail::Quick).collect();
        let [of] = &named[..] else {
            panic!("{named:?}");
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
        let adopt = |of: Named| ahead.adopt_names(&of.module, of.sites);
        let known: HashSet<u32> = named.into_iter().flat_map(adopt).collect();
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
    fn a_short_program_gets_no_thread() {
        let now = Instant::now();
        let mut namer = Namer::new(now);
        namer.look(now + FIRST_LOOK / 2, std::iter::empty());
        assert!(namer.thread.is_none());
        namer.look(now + FIRST_LOOK, std::iter::empty());
        assert!(namer.thread.is_some());
        assert_eq!(namer.next_look, now + FIRST_LOOK * 2);
        assert!(namer.finish().is_empty());
    }
}
