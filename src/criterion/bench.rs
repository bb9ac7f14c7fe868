//! Books beside criterion's times.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ::criterion::measurement::{Measurement, WallTime};
use ::criterion::{BatchSize, Bencher, BenchmarkGroup, BenchmarkId, Criterion};

use super::books::Books;
use super::quantity::{IterBooked, Quantity};

/// Iterations that are measured, to see whether they are alike.
const ITERATIONS: usize = 10;
/// Work that takes longer is measured fewer times, at least once.
const PATIENCE: Duration = Duration::from_millis(200);

/// Benches that print what an iteration allocates below what criterion has measured.
///
/// Once criterion is done, up to ten more iterations are measured. Where they
/// differ, the one that allocated most is printed, and that they differ. Work
/// that criterion leaves out (a filter, `--list`, `--load-baseline`) is not
/// run, and gives `None`.
pub trait BenchBooks {
    /// Benches `work`; what it returns is dropped as part of it.
    fn bench_books<O>(&mut self, id: impl Into<Id>, work: impl FnMut() -> O) -> Option<Books>;

    /// Benches `work` on what `setup` makes, which is neither timed nor measured.
    ///
    /// Blocks of the input that `work` frees were there before, so they make `left` smaller.
    fn bench_books_with<I, O>(
        &mut self,
        id: impl Into<Id>,
        setup: impl FnMut() -> I,
        work: impl FnMut(I) -> O,
    ) -> Option<Books>;
}

/// The name of a bench: text, or criterion's own with a parameter.
#[derive(Clone)]
pub enum Id {
    /// A name alone.
    Name(String),
    /// A name with a parameter.
    WithParameter(BenchmarkId),
}

impl From<&str> for Id {
    fn from(name: &str) -> Id {
        Id::Name(name.to_owned())
    }
}

impl From<String> for Id {
    fn from(name: String) -> Id {
        Id::Name(name)
    }
}

impl From<BenchmarkId> for Id {
    fn from(id: BenchmarkId) -> Id {
        Id::WithParameter(id)
    }
}

/// Measurements that [`BenchBooks`] can be used with: how each of them iterates.
pub trait Iterates: Measurement + Sized {
    /// Measures `routine` on inputs that are made apart.
    fn iterate<I, O>(
        bencher: &mut Bencher<'_, Self>,
        setup: impl FnMut() -> I,
        routine: impl FnMut(I) -> O,
    );

    /// Measures `routine`.
    fn iterate_alone<O>(bencher: &mut Bencher<'_, Self>, routine: impl FnMut() -> O);
}

impl Iterates for WallTime {
    fn iterate<I, O>(
        bencher: &mut Bencher<'_, Self>,
        setup: impl FnMut() -> I,
        routine: impl FnMut(I) -> O,
    ) {
        bencher.iter_batched(setup, routine, BatchSize::SmallInput);
    }

    fn iterate_alone<O>(bencher: &mut Bencher<'_, Self>, routine: impl FnMut() -> O) {
        bencher.iter(routine);
    }
}

impl Iterates for Quantity {
    fn iterate<I, O>(
        bencher: &mut Bencher<'_, Self>,
        setup: impl FnMut() -> I,
        routine: impl FnMut(I) -> O,
    ) {
        bencher.iter_booked_with(setup, routine);
    }

    fn iterate_alone<O>(bencher: &mut Bencher<'_, Self>, routine: impl FnMut() -> O) {
        bencher.iter_booked(routine);
    }
}

/// Whatever runs a function under a name: a group, or criterion itself.
trait Runs<M: Measurement> {
    fn run(&mut self, id: Id, bench: impl FnMut(&mut Bencher<'_, M>));
}

impl<M: Measurement + 'static> Runs<M> for BenchmarkGroup<'_, M> {
    fn run(&mut self, id: Id, bench: impl FnMut(&mut Bencher<'_, M>)) {
        match id {
            Id::Name(name) => self.bench_function(name, bench),
            Id::WithParameter(id) => self.bench_function(id, bench),
        };
    }
}

impl<M: Measurement + 'static> Runs<M> for Criterion<M> {
    fn run(&mut self, id: Id, mut bench: impl FnMut(&mut Bencher<'_, M>)) {
        match id {
            Id::Name(name) => self.bench_function(&name, bench),
            Id::WithParameter(id) => self.bench_with_input(id, &(), |bencher, ()| bench(bencher)),
        };
    }
}

fn alone<M: Iterates, O>(
    runs: &mut impl Runs<M>,
    id: Id,
    mut work: impl FnMut() -> O,
) -> Option<Books> {
    let mut ran = false;
    runs.run(id, |bencher| {
        ran = true;
        M::iterate_alone(bencher, &mut work);
    });
    ran.then(|| print_below(|| (), |()| work()))
}

fn with_setup<M: Iterates, I, O>(
    runs: &mut impl Runs<M>,
    id: Id,
    mut setup: impl FnMut() -> I,
    mut work: impl FnMut(I) -> O,
) -> Option<Books> {
    let mut ran = false;
    runs.run(id, |bencher| {
        ran = true;
        M::iterate(bencher, &mut setup, &mut work);
    });
    ran.then(|| print_below(setup, work))
}

impl<M: Iterates + 'static> BenchBooks for BenchmarkGroup<'_, M> {
    fn bench_books<O>(&mut self, id: impl Into<Id>, work: impl FnMut() -> O) -> Option<Books> {
        alone(self, id.into(), work)
    }

    fn bench_books_with<I, O>(
        &mut self,
        id: impl Into<Id>,
        setup: impl FnMut() -> I,
        work: impl FnMut(I) -> O,
    ) -> Option<Books> {
        with_setup(self, id.into(), setup, work)
    }
}

impl<M: Iterates + 'static> BenchBooks for Criterion<M> {
    fn bench_books<O>(&mut self, id: impl Into<Id>, work: impl FnMut() -> O) -> Option<Books> {
        alone(self, id.into(), work)
    }

    fn bench_books_with<I, O>(
        &mut self,
        id: impl Into<Id>,
        setup: impl FnMut() -> I,
        work: impl FnMut(I) -> O,
    ) -> Option<Books> {
        with_setup(self, id.into(), setup, work)
    }
}

/// Prints one line that says what an iteration of `work` allocates, with a name in front.
///
/// ```
/// # #[global_allocator]
/// # static ALLOC: heapledger::Alloc = heapledger::Alloc::system();
/// let books = heapledger::criterion::print_books("decode", || vec![0u8; 1000]);
/// # if heapledger::ledger().is_active() {
/// assert_eq!(books.rust.unwrap().counts.allocated_bytes, 1000);
/// # }
/// ```
pub fn print_books<O>(name: &str, mut work: impl FnMut() -> O) -> Books {
    let (books, note) = largest(|| (), |()| work());
    println!("{name:<24}{books}{note}");
    books
}

/// Prints it where criterion has just said what it measured.
fn print_below<I, O>(setup: impl FnMut() -> I, work: impl FnMut(I) -> O) -> Books {
    let (books, note) = largest(setup, work);
    println!("{:>23} {books}{note}", "books:");
    books
}

/// Measures some iterations; gives the one that allocated most, and a note when they differ.
fn largest<I, O>(
    mut setup: impl FnMut() -> I,
    mut work: impl FnMut(I) -> O,
) -> (Books, &'static str) {
    let mut measure = || {
        let input = black_box(setup());
        Books::of(|| drop(black_box(work(input)))).1
    };
    let start = Instant::now();
    let mut largest = measure();
    let mut note = "";
    for _ in 1..ITERATIONS {
        if start.elapsed() > PATIENCE {
            break;
        }
        let books = measure();
        if books != largest {
            note = "  (iterations differ: the largest)";
        }
        if books.allocated_bytes() > largest.allocated_bytes() {
            largest = books;
        }
    }
    (largest, note)
}
