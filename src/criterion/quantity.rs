//! Allocations as a quantity that criterion measures.

use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

use ::criterion::measurement::{Measurement, ValueFormatter};
use ::criterion::{Bencher, Criterion, Throughput};

use super::books::{Reading, Taken};
use crate::counts::Side;

/// What an iteration has more than it allocated, so that zero is not lost.
const PER_ITERATION: f64 = 1e-6;
/// How far samples lie apart, relatively: criterion divides by their variance.
const SPREAD: f64 = 1e-8;

/// A quantity for [`Criterion::with_measurement`], of both sides together unless said otherwise.
///
/// Use it with [`IterBooked::iter_booked`]. `Bencher::iter` and its kin give the
/// same figures, but for peaks, which they refuse, and zeros, which they let
/// vary so widely that criterion sees no change between two of them.
///
/// Panics when it is asked for a side that the program does not see.
#[derive(Clone, Debug)]
pub struct Quantity {
    figure: Figure,
    side: Option<Side>,
    in_process: bool,
    random: Cell<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    Bytes,
    Blocks,
    Peak,
    Left,
}

impl Quantity {
    const fn new(figure: Figure) -> Quantity {
        Quantity {
            figure,
            side: None,
            in_process: false,
            random: Cell::new(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// Bytes allocated: usable bytes on side `c`, requested bytes on side `rust`.
    pub const fn allocated_bytes() -> Quantity {
        Quantity::new(Figure::Bytes)
    }

    /// Blocks allocated. A realloc is a block freed and one allocated.
    pub const fn allocated_blocks() -> Quantity {
        Quantity::new(Figure::Blocks)
    }

    /// The highest live bytes above those at the start of an iteration.
    pub const fn peak_live_bytes() -> Quantity {
        Quantity::new(Figure::Peak)
    }

    /// Bytes allocated and not freed by the end; negative when older blocks were freed.
    pub const fn left_bytes() -> Quantity {
        Quantity::new(Figure::Left)
    }

    /// Takes one side alone.
    pub const fn on(mut self, side: Side) -> Quantity {
        self.side = Some(side);
        self
    }

    /// Takes all threads, where it would be the one that iterates. Peaks of iterations in which
    /// others took part are then within 64 KiB a thread.
    pub const fn in_process(mut self) -> Quantity {
        self.in_process = true;
        self
    }

    /// Makes a `Criterion` for quantities that hardly vary: few samples, and any change of a
    /// millionth counts as one, where criterion would overlook a hundredth.
    pub fn criterion(self) -> Criterion<Quantity> {
        Criterion::default()
            .sample_size(10)
            .warm_up_time(Duration::from_millis(100))
            .measurement_time(Duration::from_millis(300))
            .nresamples(2000)
            .noise_threshold(1e-6)
            .with_measurement(self)
    }

    /// Gives the next number of a fixed series, from 0 to 1.
    fn next_random(&self) -> f64 {
        let mut state = self.random.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.random.set(state);
        (state >> 11) as f64 / (1u64 << 53) as f64
    }

    fn sides(&self) -> &'static [Side] {
        match self.side {
            None => &Side::ALL,
            Some(Side::C) => &[Side::C],
            Some(Side::Rust) => &[Side::Rust],
        }
    }

    /// Gives what was measured, to the byte or block.
    fn exactly(&self, amount: &Amount) -> i64 {
        for side in self.sides() {
            assert!(
                amount.sees[side.index()],
                "side {} is not seen by this program: {}",
                side.name(),
                match side {
                    Side::C =>
                        "build it with heapledger's feature `interpose` or run it under the preload library",
                    Side::Rust => "make heapledger::Alloc its global allocator",
                }
            );
        }
        let reach = &amount.reach[usize::from(self.in_process)];
        if self.figure == Figure::Peak {
            assert!(
                amount.iterations > 0,
                "a peak is measured iteration by iteration: use Bencher::iter_booked"
            );
            return reach.peaks[self.side.map_or(2, Side::index)];
        }
        let of = |side: &Side| {
            let sums = &reach.sides[side.index()];
            match self.figure {
                Figure::Bytes => sums.bytes,
                Figure::Blocks => sums.blocks,
                Figure::Peak | Figure::Left => sums.left,
            }
        };
        self.sides().iter().map(of).sum()
    }
}

/// What some iterations did: every figure, since only [`Quantity`] knows which one is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Amount {
    /// This thread, and all.
    reach: [Reach; 2],
    sees: [bool; 2],
    /// 0 = criterion has not told.
    iterations: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Reach {
    sides: [Sums; 2],
    peaks: [i64; 3],
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    bytes: i64,
    blocks: i64,
    left: i64,
}

impl Amount {
    fn add_booked(&mut self, booked: &Reading) {
        self.sees = booked.sees;
        for (reach, counts) in self.reach.iter_mut().zip([booked.thread, booked.process]) {
            for (sums, counts) in reach.sides.iter_mut().zip(counts) {
                sums.bytes += counts.allocated_bytes as i64;
                sums.blocks += counts.allocated_blocks as i64;
                sums.left += counts.live_bytes;
            }
        }
    }

    fn add_iteration(&mut self, taken: &Taken) {
        self.add_booked(&taken.booked);
        let peaks = [taken.thread_peaks, taken.process_peaks];
        for (reach, peaks) in self.reach.iter_mut().zip(peaks) {
            for (sum, peak) in reach.peaks.iter_mut().zip(peaks) {
                *sum += peak;
            }
        }
        self.iterations += 1;
    }
}

/// The readings at a start, for criterion to hand back.
#[derive(Clone, Copy, Debug)]
pub struct Start(Reading);

impl Measurement for Quantity {
    type Intermediate = Start;
    type Value = Amount;

    fn start(&self) -> Start {
        Start(Reading::now())
    }

    fn end(&self, start: Start) -> Amount {
        let mut amount = Amount::default();
        amount.add_booked(&(Reading::now() - start.0));
        amount
    }

    fn add(&self, left: &Amount, right: &Amount) -> Amount {
        let mut sum = *left;
        for (reach, more) in sum.reach.iter_mut().zip(right.reach) {
            for (sums, more) in reach.sides.iter_mut().zip(more.sides) {
                sums.bytes += more.bytes;
                sums.blocks += more.blocks;
                sums.left += more.left;
            }
            for (peak, more) in reach.peaks.iter_mut().zip(more.peaks) {
                *peak += more;
            }
        }
        for (seen, more) in sum.sees.iter_mut().zip(right.sees) {
            *seen |= more;
        }
        sum.iterations += right.iterations;
        sum
    }

    fn zero(&self) -> Amount {
        Amount::default()
    }

    fn to_f64(&self, amount: &Amount) -> f64 {
        let exactly = self.exactly(amount);
        if exactly == 0 && amount.iterations == 0 {
            // Without the number of iterations nothing in proportion to it can be added. Over so
            // many decades no two series differ significantly.
            return 1e-9 * 10f64.powf(-10.0 * self.next_random());
        }
        let raised = exactly as f64 + PER_ITERATION * amount.iterations as f64;
        raised * (1.0 + SPREAD * self.next_random())
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        match self.figure {
            Figure::Blocks => &BLOCKS,
            Figure::Bytes | Figure::Peak | Figure::Left => &BYTES,
        }
    }
}

/// Iterates so that every [`Quantity`] can be measured.
pub trait IterBooked {
    /// Measures `routine` iteration by iteration; what it returns is dropped as part of it.
    fn iter_booked<O>(&mut self, routine: impl FnMut() -> O);

    /// As `iter_booked`, with something made for each iteration that is not measured itself.
    fn iter_booked_with<I, O>(&mut self, setup: impl FnMut() -> I, routine: impl FnMut(I) -> O);
}

impl IterBooked for Bencher<'_, Quantity> {
    fn iter_booked<O>(&mut self, mut routine: impl FnMut() -> O) {
        self.iter_booked_with(|| (), |()| routine());
    }

    fn iter_booked_with<I, O>(
        &mut self,
        mut setup: impl FnMut() -> I,
        mut routine: impl FnMut(I) -> O,
    ) {
        self.iter_custom(|iterations| {
            let mut amount = Amount::default();
            for _ in 0..iterations {
                let input = black_box(setup());
                let ((), taken) = Taken::by(|| drop(black_box(routine(input))));
                amount.add_iteration(&taken);
            }
            amount
        });
    }
}

/// Figures with the prefixes of their unit.
struct Units {
    step: f64,
    names: [&'static str; 5],
    per_element: &'static str,
    per_byte: &'static str,
    machine: &'static str,
}

static BYTES: Units = Units {
    step: 1024.0,
    names: ["B", "KiB", "MiB", "GiB", "TiB"],
    per_element: "B/elem",
    per_byte: "B/B",
    machine: "bytes",
};

static BLOCKS: Units = Units {
    step: 1000.0,
    names: ["blocks", "k blocks", "M blocks", "G blocks", "T blocks"],
    per_element: "blocks/elem",
    per_byte: "blocks/B",
    machine: "blocks",
};

impl ValueFormatter for Units {
    fn format_value(&self, value: f64) -> String {
        let mut values = [value];
        let unit = self.scale_values(value, &mut values);
        format!("{:>6} {unit}", digits(values[0]))
    }

    fn format_throughput(&self, throughput: &Throughput, value: f64) -> String {
        let mut values = [value];
        let unit = self.scale_throughputs(value, throughput, &mut values);
        format!("{:>6} {unit}", digits(values[0]))
    }

    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        let (mut scale, mut index) = (1.0, 0);
        // What is a ten-thousandth short of the next unit is shown in it.
        while typical.abs() >= scale * self.step * 0.9999 && index + 1 < self.names.len() {
            scale *= self.step;
            index += 1;
        }
        for value in values {
            *value /= scale;
        }
        self.names[index]
    }

    /// Gives what is allocated for each element or byte that is worked through.
    fn scale_throughputs(
        &self,
        _typical: f64,
        throughput: &Throughput,
        values: &mut [f64],
    ) -> &'static str {
        let (worked_through, unit) = match *throughput {
            Throughput::Bits(bits) => (bits as f64 / 8.0, self.per_byte),
            Throughput::Bytes(bytes) | Throughput::BytesDecimal(bytes) => {
                (bytes as f64, self.per_byte)
            }
            Throughput::Elements(elements) | Throughput::ElementsAndBytes { elements, .. } => {
                (elements as f64, self.per_element)
            }
        };
        for value in values {
            *value /= worked_through;
        }
        unit
    }

    fn scale_for_machines(&self, _values: &mut [f64]) -> &'static str {
        self.machine
    }
}

/// Writes whole numbers without decimals, and five digits of others.
fn digits(value: f64) -> String {
    let whole = value.round();
    if (value - whole).abs() <= 2e-6 + 2.0 * SPREAD * value.abs() {
        // Adding zero takes the sign from a negative one.
        return format!("{:.0}", whole + 0.0);
    }
    let decimals = match value.abs() {
        ..10.0 => 4,
        ..100.0 => 3,
        ..1000.0 => 2,
        _ => 1,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(bytes: i64, iterations: u64) -> Amount {
        let mut amount = Amount {
            sees: [true; 2],
            iterations,
            ..Amount::default()
        };
        amount.reach[0].sides[Side::Rust.index()].bytes = bytes;
        amount
    }

    #[test]
    fn figures_are_written_for_people() {
        let bytes = [
            0.0, 1e-6, 1.0, 999.5, 1023.9999, 3000.00001, -2048.0, 1e6, 5e9,
        ];
        let written = bytes.map(|value| BYTES.format_value(value));
        let expected = [
            "     0 B",
            "     0 B",
            "     1 B",
            "999.50 B",
            "     1 KiB",
            "2.9297 KiB",
            "    -2 KiB",
            "976.56 KiB",
            "4.6566 GiB",
        ];
        assert_eq!(written, expected);
        let blocks = [3.0000001, 2.5, 12_345.0].map(|value| BLOCKS.format_value(value));
        assert_eq!(
            blocks,
            ["     3 blocks", "2.5000 blocks", "12.345 k blocks"]
        );
    }

    #[test]
    fn throughput_is_what_each_element_or_byte_takes() {
        let per = |throughput| BYTES.format_throughput(&throughput, 3000.0);
        assert_eq!(per(Throughput::Elements(1000)), "     3 B/elem");
        assert_eq!(per(Throughput::Bytes(2000)), "1.5000 B/B");
    }

    #[test]
    fn samples_differ_and_stay_within_a_hundred_millionth() {
        let quantity = Quantity::allocated_bytes().on(Side::Rust);
        let samples = [0, 1].map(|_| quantity.to_f64(&amount(3_000_000, 1000)));
        assert!(samples[0] != samples[1]);
        for sample in samples {
            assert!((sample / 3e6 - 1.0).abs() < 2e-8, "{sample}");
        }
    }

    #[test]
    fn zero_is_next_to_nothing_in_proportion_to_the_iterations() {
        let quantity = Quantity::allocated_bytes();
        for iterations in [1, 1000] {
            let each = quantity.to_f64(&amount(0, iterations)) / iterations as f64;
            assert!((each / PER_ITERATION - 1.0).abs() < 2e-8, "{each}");
        }
        let untold = quantity.to_f64(&amount(0, 0));
        assert!(untold > 0.0 && untold < 1e-8, "{untold}");
    }

    #[test]
    #[should_panic(expected = "side c is not seen")]
    fn a_side_that_is_not_seen_is_not_zero() {
        let mut unseen = amount(0, 1);
        unseen.sees = [false, true];
        Quantity::allocated_bytes().on(Side::C).to_f64(&unseen);
    }

    #[test]
    #[should_panic(expected = "iteration by iteration")]
    fn a_peak_over_many_iterations_is_refused() {
        Quantity::peak_live_bytes().to_f64(&amount(0, 0));
    }
}
