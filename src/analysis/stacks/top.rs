//! The stacks that hold most, whatever thread they were of.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::{LocationId, ProcessStacks, Stacks};
use crate::analysis::misuse::Call;
use crate::analysis::{Measure, ScopeId};
use crate::counts::Side;
use crate::recording::model::StackFigures;

/// A stack on one side and in one scope, all threads together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopStack {
    /// The side that it belongs to.
    pub side: Side,
    /// Its scope.
    pub scope: Option<ScopeId>,
    /// What it holds.
    pub figures: StackFigures,
    /// Its locations, innermost first.
    pub path: Vec<LocationId>,
}

impl<'a> Stacks<'a> {
    /// Gives the stacks of the processes at these indices that have something of the
    /// measure, the largest first. Temporary blocks go by their number: each costs as much.
    pub fn largest(&self, processes: &[usize], measure: Measure) -> Vec<TopStack> {
        let of: Vec<ProcessStacks> = processes.iter().map(|&index| self.of(index)).collect();
        let mut sums: HashMap<(&[LocationId], Side, Option<ScopeId>), StackFigures> =
            HashMap::new();
        for (stacks, row) in of
            .iter()
            .flat_map(|stacks| stacks.rows.iter().map(move |row| (stacks, row)))
        {
            let key = (stacks.path(row), row.side, row.scope);
            *sums.entry(key).or_default() += row.figures;
        }
        let weight = |figures: &StackFigures| match measure {
            Measure::Temporary => {
                let (bytes, blocks) = figures.temporary;
                (i64::try_from(blocks).unwrap_or(i64::MAX), bytes)
            }
            _ => (measure.of(figures), figures.allocated_bytes),
        };
        let mut largest: Vec<TopStack> = sums
            .into_iter()
            .filter(|(_, figures)| weight(figures).0 > 0)
            .map(|((path, side, scope), figures)| TopStack {
                side,
                scope,
                figures,
                path: path.to_vec(),
            })
            .collect();
        let order = |stack: &TopStack| (Reverse(weight(&stack.figures)), stack.path.clone());
        largest.sort_by_cached_key(order);
        largest
    }

    /// Gives the functions of a path, innermost first, inlined ones among them.
    pub fn calls(&self, path: &[LocationId]) -> Vec<Call<'_>> {
        let catalog = &self.report.catalog;
        let mut calls = Vec::new();
        for &location in path {
            let site = self.locations[location as usize].site;
            let nameless = site
                .map(|site| catalog.place(site))
                .filter(|place| place.symbol.is_none());
            for frame in self.frames_of(location).iter().rev() {
                let function = self.function_of(frame);
                let library = function.library.map(|id| catalog.library(id).name);
                let nameless = nameless.filter(|_| !frame.is_inlined);
                calls.push(Call {
                    symbol: nameless.is_none().then_some(&function.name),
                    offset: nameless
                        .filter(|place| place.has_address)
                        .map(|place| place.offset),
                    name: std::borrow::Cow::Borrowed(&function.name),
                    library: library.unwrap_or_default(),
                    file: frame.file,
                    line: frame.line,
                    is_inlined: frame.is_inlined,
                });
            }
        }
        calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{By, Filter, Report, fixture};

    #[test]
    fn threads_are_put_together_and_what_has_nothing_is_left_out() {
        let mut recording = fixture::with_stacks();
        let stacks = &mut recording.processes[0].stacks;
        let mut other = stacks[1].clone();
        other.thread = Some(1);
        other.figures.at_peak = (0, 0);
        stacks.push(other);
        stacks[0].figures.temporary = (9_000_000, 0);
        let report = Report::new(&recording);
        let filter = Filter::default();
        let stacks = Stacks::new(&report, &filter, By::Site).unwrap();
        let held = |measure| -> Vec<(i64, u64)> {
            let largest = stacks.largest(&[0], measure).into_iter();
            largest
                .map(|stack| (measure.of(&stack.figures), stack.figures.temporary.1))
                .collect()
        };
        assert_eq!(held(Measure::Live), [(4_000_000, 0), (400_000, 4)]);
        assert_eq!(held(Measure::Peak), [(4_000_000, 0), (200_000, 4)]);
        assert_eq!(
            held(Measure::Temporary),
            [(40_000, 4)],
            "a block costs, not its bytes"
        );
        let names: Vec<String> = stacks
            .calls(&stacks.largest(&[0], Measure::Live)[0].path)
            .into_iter()
            .map(|call| call.name.into_owned())
            .collect();
        assert_eq!(
            names,
            ["decode_frame", "Vec::grow", "player::parse", "main"]
        );
    }
}
