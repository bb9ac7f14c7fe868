//! Where every stack is known: what each held at the end and at the peak, and which
//! asked for memory only to give it back.

use super::Page;
use crate::analysis::stacks::{Stacks, TopStack};
use crate::analysis::{By, Filter, Measure};
use crate::recording::model::Mode;
use crate::report::style::Ink;
use crate::report::units::{counted, printable, size, unsigned_size};

impl Page<'_> {
    /// Gives what stacks hold at the end: what was leaked is among it.
    pub(super) fn live_stacks(&self, most: usize) -> String {
        self.stacks("Live at the end, by stack", Measure::Live, most, |stack| {
            let figures = &stack.figures;
            held(figures.live_bytes, figures.live_blocks)
        })
    }

    /// Gives what stacks held at the peak of the process that had the highest.
    pub(super) fn peak_stacks(&self, most: usize) -> String {
        let text = self.stacks("At the peak, by stack", Measure::Peak, most, |stack| {
            let (bytes, blocks) = stack.figures.at_peak;
            held(bytes, blocks)
        });
        let catalog = &self.report.catalog;
        let books = self
            .report
            .heaviest()
            .and_then(|process| process.books.as_ref());
        let mut sites = books.iter().flat_map(|books| &books.sites);
        let has_charges = sites.any(|row| catalog.is_charged(row.site));
        match has_charges && !text.is_empty() {
            true => {
                text + &self
                    .faint("  the peak of blocks alone: what was charged by name has no stack")
            }
            false => text,
        }
    }

    /// Gives the stacks whose blocks the next operation of the same thread freed.
    pub(super) fn temporaries(&self, most: usize) -> String {
        let title = "Temporary allocations, freed by the next operation";
        self.stacks(title, Measure::Temporary, most, |stack| {
            let figures = &stack.figures;
            let (bytes, blocks) = figures.temporary;
            let share = blocks as f64 / figures.allocated_blocks.max(1) as f64 * 100.0;
            format!(
                "{} with {}, {share:.0} % of what was allocated there",
                counted(blocks, "block", "blocks"),
                unsigned_size(bytes),
            )
        })
    }

    fn stacks(
        &self,
        title: &str,
        measure: Measure,
        most: usize,
        figures: impl Fn(&TopStack) -> String,
    ) -> String {
        let filter = Filter {
            measure,
            ..self.report.filter.clone()
        };
        let processes = self.fully_recorded(measure);
        // What a filter names, the report was narrowed to already.
        let Ok(stacks) = Stacks::named(self.report, &filter, By::Site) else {
            return String::new();
        };
        let all = stacks.largest(&processes, measure);
        if all.is_empty() {
            return String::new();
        }
        let shown = &all[..all.len().min(most)];
        let mut text = self.title_of(title, shown.len(), all.len());
        for stack in shown {
            let scope = stack.scope.map(|scope| self.report.catalog.scope(scope));
            let scope = scope.map_or_else(String::new, |scope| format!("  [{}]", printable(scope)));
            let side = self
                .style
                .paint(Ink::Faint, &format!("  {}{scope}", stack.side.name()));
            text += &format!("  {}{side}\n", figures(stack));
            text += &self.calls(&stacks.calls(&stack.path), false);
        }
        text
    }

    /// Gives the processes of mode full; where peaks are asked for, the one that had the highest.
    fn fully_recorded(&self, measure: Measure) -> Vec<usize> {
        let heaviest = self.report.heaviest();
        let is_heaviest = |report| heaviest.is_some_and(|heaviest| std::ptr::eq(heaviest, report));
        let processes = self.report.processes.iter().enumerate();
        processes
            .filter(|(_, report)| report.books.is_some() && report.process.mode == Mode::Full)
            .filter(|&(_, report)| measure != Measure::Peak || is_heaviest(report))
            .map(|(index, _)| index)
            .collect()
    }
}

fn held(bytes: i64, blocks: i64) -> String {
    let blocks = counted(blocks.max(0) as u64, "block", "blocks");
    format!("{} in {blocks}", size(bytes))
}
