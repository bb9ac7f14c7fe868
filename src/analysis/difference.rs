//! What has changed from one recording to another.
//!
//! Addresses differ from build to build, so call sites and stacks are matched by
//! the names of functions and libraries; those without a name by their address
//! where both builds are the same, and else all of a library together.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::Hash;

use super::catalog::{Catalog, Place};
use super::stacks::{Label, Stacks};
use super::{Measure, Report};
use crate::counts::Side;
use crate::recording::model::{Mode, StackFigures};

/// Two reports, compared.
#[derive(Debug)]
pub struct Difference<'a> {
    /// The figure that counts.
    pub measure: Measure,
    /// All call sites together; exact.
    pub total: Change<()>,
    /// By call site, exact; what has grown most comes first, what has shrunk most last.
    pub sites: Vec<Change<SiteName<'a>>>,
    /// By stack, in the same order; `None` where they cannot be compared.
    pub stacks: Option<Vec<Change<StackName<'a>>>>,
}

/// What something held in the earlier and in the later recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change<N> {
    /// Whose figures they are.
    pub name: N,
    /// Before and after.
    pub figures: [StackFigures; 2],
}

impl<N> Change<N> {
    /// Gives by how much a figure has grown; negative where it has shrunk.
    pub fn growth(&self, measure: Measure) -> i64 {
        let [before, after] = self.figures.map(|figures| measure.of(&figures));
        after.saturating_sub(before)
    }
}

/// Call sites of one function, on one side and in one scope.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteName<'a> {
    /// File name of the library, or a group in parentheses.
    pub library: &'a str,
    /// The function, or the address where it has no name and the builds are the same.
    pub symbol: Option<Cow<'a, str>>,
    /// The side that it belongs to.
    pub side: Side,
    /// Name of the scope.
    pub scope: Option<&'a str>,
}

/// Stacks through the same functions, on one side and in one scope.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackName<'a> {
    /// The functions, innermost first, inlined ones among them.
    pub frames: Vec<Label<'a>>,
    /// The side that it belongs to.
    pub side: Side,
    /// Name of the scope.
    pub scope: Option<&'a str>,
}

impl<'a> Difference<'a> {
    /// Compares two reports, both of which the same filter has narrowed, by their
    /// stacks.
    pub fn new(old: &'a Stacks<'a>, new: &'a Stacks<'a>, measure: Measure) -> Difference<'a> {
        let pair = [old, new];
        let sites = sites(pair.map(|stacks| stacks.report), measure);
        let mut total = Change::default();
        for change in &sites {
            for (sum, figures) in total.figures.iter_mut().zip(change.figures) {
                *sum += figures;
            }
        }
        let is_comparable = modes(old.report) == modes(new.report);
        Difference {
            measure,
            total,
            sites,
            stacks: is_comparable.then(|| self::stacks(pair, measure)),
        }
    }
}

/// Gives the modes that a report's processes were recorded in. Estimates and exact
/// figures, or stacks of different kinds, have no difference.
fn modes(report: &Report) -> [bool; 3] {
    let has = |wanted: fn(Mode) -> bool| {
        let mut modes = report.tracked().map(|process| process.stacks);
        modes.any(wanted)
    };
    [
        has(|mode| mode == Mode::Count),
        has(|mode| matches!(mode, Mode::Sample { .. })),
        has(|mode| mode == Mode::Full),
    ]
}

fn sites<'a>(reports: [&'a Report<'a>; 2], measure: Measure) -> Vec<Change<SiteName<'a>>> {
    let unchanged = unchanged_libraries(reports);
    let renamed = renamed_program(reports);
    let mut changes = Changes::default();
    for (which, report) in reports.into_iter().enumerate() {
        let books = report
            .tracked()
            .filter_map(|process| process.books.as_ref());
        for row in books.flat_map(|books| &books.sites) {
            let place = report.catalog.place(row.site);
            let name = SiteName {
                library: now_called(place.library_name, renamed),
                symbol: symbol(&report.catalog, place, &unchanged),
                side: row.side,
                scope: row.scope.map(|scope| report.catalog.scope(scope)),
            };
            changes.add(which, name, StackFigures::of(&row.counts, row.at_peak));
        }
    }
    sorted(changes.rows, measure)
}

fn symbol<'a>(
    catalog: &Catalog<'a>,
    place: &Place<'a>,
    unchanged: &Unchanged,
) -> Option<Cow<'a, str>> {
    if let Some(symbol) = place.symbol {
        return Some(Cow::Borrowed(symbol));
    }
    let library = catalog.library(place.library);
    let is_same = unchanged.get(library.name) == Some(&library.build_id.as_deref());
    is_same.then(|| Cow::Owned(place.to_string()))
}

/// The names of a program that is called differently in the old report and the new one.
type Renamed<'a> = Option<(&'a str, &'a str)>;

/// Tells whether it is the program itself that has another name, as two builds may
/// have that are kept side by side.
fn renamed_program<'a>(reports: [&'a Report<'a>; 2]) -> Renamed<'a> {
    let [old, new] = reports.map(|report| {
        let first = report.tracked().next()?;
        let libraries = report.catalog.library_ids();
        let mut libraries = libraries.map(|id| report.catalog.library(id));
        let program = libraries.find(|library| library.path == Some(&first.process.exe));
        program.map(|library| library.name)
    });
    let has = |report: &Report, name| {
        let mut libraries = report.catalog.library_ids();
        libraries.any(|id| report.catalog.library(id).name == name)
    };
    let (old, new) = (old?, new?);
    let is_apart = !has(reports[0], new) && !has(reports[1], old);
    is_apart.then_some((old, new))
}

fn now_called<'a>(library: &'a str, renamed: Renamed<'a>) -> &'a str {
    match renamed {
        Some((old, new)) if old == library => new,
        _ => library,
    }
}

/// The one build-id of each library that has the same in both reports.
type Unchanged<'a> = HashMap<&'a str, Option<&'a str>>;

fn unchanged_libraries<'a>([old, new]: [&'a Report<'a>; 2]) -> Unchanged<'a> {
    let libraries = |report: &'a Report<'a>| {
        let catalog = &report.catalog;
        let named = catalog.library_ids().map(|id| catalog.library(id));
        let with_id = named.filter(|library| library.path.is_some() && library.build_id.is_some());
        with_id.map(|library| (library.name, library.build_id.as_deref()))
    };
    let old: HashMap<_, _> = libraries(old).collect();
    libraries(new)
        .filter(|(name, build_id)| old.get(name) == Some(build_id))
        .collect()
}

fn stacks<'a>(pair: [&'a Stacks<'a>; 2], measure: Measure) -> Vec<Change<StackName<'a>>> {
    let reports = pair.map(|stacks| stacks.report);
    let unchanged = unchanged_libraries(reports);
    let renamed = renamed_program(reports);
    let mut labels = Labels::default();
    let mut changes = Changes::default();
    for (which, stacks) in pair.into_iter().enumerate() {
        let catalog = &stacks.report.catalog;
        let of_locations = labels.of_locations(stacks, &unchanged, renamed);
        for process in 0..stacks.report.processes.len() {
            let rows = stacks.of(process);
            for row in &rows.rows {
                let path = rows.path(row).iter();
                let frames = path.flat_map(|&location| &of_locations[location as usize]);
                let frames: Vec<u32> = frames.copied().collect();
                let scope = row.scope.map(|scope| catalog.scope(scope));
                changes.add(which, (frames, row.side, scope), row.figures);
            }
        }
    }
    let named = |change: Change<(Vec<u32>, Side, Option<&'a str>)>| {
        let (frames, side, scope) = change.name;
        let frames = frames.into_iter().map(|id| labels.all[id as usize]);
        let frames = frames.collect();
        Change {
            name: StackName {
                frames,
                side,
                scope,
            },
            figures: change.figures,
        }
    };
    let changes = changes.rows.into_iter().map(named).collect();
    sorted(changes, measure)
}

/// The labels of both reports, each once.
#[derive(Default)]
struct Labels<'a> {
    all: Vec<Label<'a>>,
    index: HashMap<Label<'a>, u32>,
}

impl<'a> Labels<'a> {
    /// Gives the names of each location's frames, the innermost first.
    fn of_locations(
        &mut self,
        stacks: &'a Stacks<'a>,
        unchanged: &Unchanged,
        renamed: Renamed<'a>,
    ) -> Vec<Vec<u32>> {
        let catalog = &stacks.report.catalog;
        let locations = 0..stacks.locations.len() as u32;
        locations
            .map(|location| {
                let site = stacks.locations[location as usize].site;
                let place = site.map(|site| catalog.place(site));
                let has_name =
                    place.is_none_or(|place| symbol(catalog, place, unchanged).is_some());
                let frames = stacks.frames_of(location).iter().rev();
                frames
                    .map(|frame| {
                        let function = stacks.function_of(frame);
                        self.id(Label {
                            name: match has_name || frame.is_inlined {
                                true => &function.name,
                                false => "(no symbol)",
                            },
                            library: function
                                .library
                                .map(|library| now_called(catalog.library(library).name, renamed)),
                        })
                    })
                    .collect()
            })
            .collect()
    }

    fn id(&mut self, label: Label<'a>) -> u32 {
        let next = self.all.len() as u32;
        *self.index.entry(label).or_insert_with(|| {
            self.all.push(label);
            next
        })
    }
}

/// Figures by name, in the order in which names came.
struct Changes<N> {
    rows: Vec<Change<N>>,
    index: HashMap<N, usize>,
}

impl<N> Default for Changes<N> {
    fn default() -> Self {
        Changes {
            rows: Vec::new(),
            index: HashMap::new(),
        }
    }
}

impl<N: Clone + Eq + Hash> Changes<N> {
    fn add(&mut self, which: usize, name: N, figures: StackFigures) {
        let next = self.rows.len();
        let at = *self.index.entry(name).or_insert_with_key(|name| {
            self.rows.push(Change {
                name: name.clone(),
                figures: Default::default(),
            });
            next
        });
        self.rows[at].figures[which] += figures;
    }
}

/// Puts what has grown most first; equal growth in the order of names.
fn sorted<N: Ord>(mut rows: Vec<Change<N>>, measure: Measure) -> Vec<Change<N>> {
    rows.sort_by(|a, b| {
        let growth = b.growth(measure).cmp(&a.growth(measure));
        growth.then_with(|| a.name.cmp(&b.name))
    });
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{By, Filter, fixture};
    use crate::recording::Recording;

    fn compared(old: &Recording, new: &Recording, check: impl FnOnce(&Difference)) {
        let filter = Filter::default();
        let (old, new) = (Report::new(old), Report::new(new));
        let old = Stacks::new(&old, &filter, By::Site).unwrap();
        let new = Stacks::new(&new, &filter, By::Site).unwrap();
        check(&Difference::new(&old, &new, Measure::Live));
    }

    /// The same program built anew: everything lies elsewhere.
    fn rebuilt(mut recording: Recording) -> Recording {
        for site in &mut recording.sites {
            site.offset += 0x40;
            site.line = site.line.map(|line| line + 1);
        }
        for module in &mut recording.modules {
            module.build_id = vec![7];
        }
        recording
    }

    #[test]
    fn two_builds_compare_by_name() {
        let mut new = rebuilt(fixture::with_stacks());
        new.processes[0].owners[1].counts = fixture::counts((500_000, 50), (0, 0));
        new.processes[0].stacks[1].figures.live_bytes = 500_000;
        compared(&fixture::with_stacks(), &new, |difference| {
            assert_eq!(difference.total.growth(Measure::Live), 300_000);
            let growth: Vec<i64> = difference
                .sites
                .iter()
                .map(|change| change.growth(Measure::Live))
                .collect();
            assert_eq!(growth, [300_000, 0]);
            assert_eq!(
                difference.sites[0].name.symbol.as_deref(),
                Some("player::parse")
            );
            let stacks = difference.stacks.as_ref().unwrap();
            assert_eq!(stacks.len(), 2);
            assert_eq!(stacks[0].growth(Measure::Live), 300_000);
            let names: Vec<&str> = stacks[0]
                .name
                .frames
                .iter()
                .map(|label| label.name)
                .collect();
            assert_eq!(names, ["Vec::grow", "player::parse", "main", "(truncated)"]);
        });
    }

    #[test]
    fn a_program_may_have_another_name() {
        let mut new = rebuilt(fixture::with_stacks());
        let exe = new.processes[0].exe.clone();
        let module = new
            .modules
            .iter_mut()
            .find(|module| module.path == exe)
            .unwrap();
        module.path = format!("{exe}-2");
        new.processes[0].exe = module.path.clone();
        compared(&fixture::with_stacks(), &new, |difference| {
            let as_before = |growth: i64| assert_eq!(growth, 0);
            let sites = difference.sites.iter();
            sites.for_each(|change| as_before(change.growth(Measure::Live)));
            let stacks = difference.stacks.as_ref().unwrap();
            assert_eq!((difference.sites.len(), stacks.len()), (2, 2));
            stacks
                .iter()
                .for_each(|change| as_before(change.growth(Measure::Live)));
            let named = difference
                .sites
                .iter()
                .find(|change| change.name.symbol.as_deref() == Some("player::parse"));
            assert_eq!(named.unwrap().name.library, "player-2");
        });
        // Where the old name is there as well, it is another library's.
        new.modules[0].path = exe;
        compared(&fixture::with_stacks(), &new, |difference| {
            let grown = difference
                .sites
                .iter()
                .any(|change| change.growth(Measure::Live) != 0);
            assert!(grown);
        });
    }

    #[test]
    fn what_has_no_name_is_matched_by_library_across_builds() {
        compared(
            &fixture::recording(),
            &rebuilt(fixture::recording()),
            |difference| {
                let nameless = difference
                    .sites
                    .iter()
                    .find(|row| row.name.symbol.is_none());
                let nameless = nameless.unwrap();
                assert_eq!(nameless.name.library, "player");
                assert_eq!(nameless.growth(Measure::Allocated), 0);
                assert_eq!(nameless.figures[0].allocated_bytes, 1_000_000);
                let stacks = difference.stacks.as_ref().unwrap();
                assert!(
                    stacks
                        .iter()
                        .any(|row| row.name.frames[0].name == "(no symbol)")
                );
            },
        );
    }

    #[test]
    fn within_one_build_addresses_are_names() {
        let mut recording = fixture::recording();
        recording.modules[1].build_id = vec![3];
        let mut other = recording.clone();
        other.sites[2].offset = 0x904;
        compared(&recording, &other, |difference| {
            let symbols: Vec<&str> = difference
                .sites
                .iter()
                .filter_map(|row| row.name.symbol.as_deref())
                .collect();
            assert!(symbols.contains(&"player+0x900") && symbols.contains(&"player+0x904"));
        });
    }

    #[test]
    fn estimates_are_not_compared_with_exact_figures() {
        compared(
            &fixture::recording(),
            &fixture::with_stacks(),
            |difference| {
                assert!(difference.stacks.is_none());
                assert_eq!(difference.total.growth(Measure::Live), 0);
            },
        );
    }
}
