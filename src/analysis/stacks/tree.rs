//! Stacks that begin alike, put together: what flame graphs and folded lines are
//! drawn from.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::{ProcessStacks, StackRow, Stacks};
use crate::analysis::Measure;
use crate::analysis::books::KeyHasher;

/// Names a node: its place in [`CallTree::nodes`].
pub type NodeId = u32;

/// Every function below each of its callers, with two figures: of side c and side
/// rust, or of an earlier and a later recording.
#[derive(Debug)]
pub struct CallTree<'a> {
    /// The first is the root, which has no name; callers come before whom they call.
    pub nodes: Vec<Node>,
    labels: Vec<Label<'a>>,
    label_index: HashMap<Label<'a>, u32>,
    children: HashMap<u64, NodeId, BuildHasherDefault<KeyHasher>>,
    /// Rows that held less than nothing, as books that were read while they were
    /// written may have it, and which no picture can show.
    pub negative_rows: u64,
}

/// What a node is called: a function, and the library that it lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label<'a> {
    /// The function.
    pub name: &'a str,
    /// The library's file name; `None` for scopes and threads.
    pub library: Option<&'a str>,
}

/// A function below one of its callers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The caller; the root is its own.
    pub parent: NodeId,
    /// Callers above it, the root included.
    pub depth: u32,
    /// What was booked at stacks that end here.
    pub own: [u64; 2],
    /// That, and what was booked at stacks that go on.
    pub total: [u64; 2],
    label: u32,
}

impl Node {
    /// Gives both totals together.
    pub fn sum(&self) -> u64 {
        self.total[0].saturating_add(self.total[1])
    }
}

impl Default for CallTree<'_> {
    fn default() -> Self {
        CallTree {
            nodes: vec![Node::default()],
            labels: vec![Label {
                name: "all",
                library: None,
            }],
            label_index: HashMap::new(),
            children: HashMap::default(),
            negative_rows: 0,
        }
    }
}

impl<'a> CallTree<'a> {
    /// Puts the stacks of a report together, by side.
    pub fn by_side(stacks: &'a Stacks<'a>, measure: Measure) -> CallTree<'a> {
        let mut tree = CallTree::default();
        tree.add(stacks, measure, |row| row.side.index());
        tree.sum_up();
        tree
    }

    /// Puts the stacks of two reports together: index 0 is the earlier one.
    pub fn of_two(old: &'a Stacks<'a>, new: &'a Stacks<'a>, measure: Measure) -> CallTree<'a> {
        let mut tree = CallTree::default();
        tree.add(old, measure, |_| 0);
        tree.add(new, measure, |_| 1);
        tree.sum_up();
        tree
    }

    /// Gives a node's name.
    pub fn label(&self, node: NodeId) -> Label<'a> {
        self.labels[self.nodes[node as usize].label as usize]
    }

    /// Gives for each node those that it calls, by name.
    pub fn callees(&self) -> Vec<Vec<NodeId>> {
        let mut callees = vec![Vec::new(); self.nodes.len()];
        for (id, node) in (0u32..).zip(&self.nodes).skip(1) {
            callees[node.parent as usize].push(id);
        }
        let name = |&node: &NodeId| {
            let label = self.label(node);
            (label.name, label.library)
        };
        for list in &mut callees {
            list.sort_unstable_by_key(name);
        }
        callees
    }

    fn add(
        &mut self,
        stacks: &'a Stacks<'a>,
        measure: Measure,
        which: impl Fn(&StackRow) -> usize,
    ) {
        let labels = self.labels_of(stacks);
        for process in 0..stacks.report.processes.len() {
            let rows = stacks.of(process);
            for row in &rows.rows {
                match u64::try_from(measure.of(&row.figures)) {
                    Ok(0) => {}
                    Ok(value) => {
                        let node = self.node_of(stacks, &rows, row, &labels);
                        let own = &mut self.nodes[node as usize].own[which(row)];
                        *own = own.saturating_add(value);
                    }
                    Err(_) => self.negative_rows += 1,
                }
            }
        }
    }

    /// Gives the label of each function of [`Stacks::functions`].
    fn labels_of(&mut self, stacks: &'a Stacks<'a>) -> Vec<u32> {
        let catalog = &stacks.report.catalog;
        let functions = stacks.functions.iter();
        functions
            .map(|function| {
                let label = Label {
                    name: &function.name,
                    library: function
                        .library
                        .map(|library| catalog.library(library).name),
                };
                let next = self.labels.len() as u32;
                *self.label_index.entry(label).or_insert_with(|| {
                    self.labels.push(label);
                    next
                })
            })
            .collect()
    }

    fn node_of(
        &mut self,
        stacks: &Stacks,
        rows: &ProcessStacks,
        row: &StackRow,
        labels: &[u32],
    ) -> NodeId {
        let mut node = 0;
        for &location in rows.path(row).iter().rev() {
            for frame in stacks.frames_of(location) {
                node = self.child(node, labels[frame.function as usize]);
            }
        }
        node
    }

    fn child(&mut self, parent: NodeId, label: u32) -> NodeId {
        let next = self.nodes.len() as u32;
        let key = u64::from(parent) << 32 | u64::from(label);
        let node = *self.children.entry(key).or_insert(next);
        if node == next {
            let depth = self.nodes[parent as usize].depth + 1;
            self.nodes.push(Node {
                parent,
                depth,
                label,
                ..Node::default()
            });
        }
        node
    }

    fn sum_up(&mut self) {
        for node in (0..self.nodes.len()).rev() {
            let own = self.nodes[node].own;
            add(&mut self.nodes[node].total, own);
            if node > 0 {
                let (total, parent) = (self.nodes[node].total, self.nodes[node].parent);
                add(&mut self.nodes[parent as usize].total, total);
            }
        }
    }
}

fn add(sum: &mut [u64; 2], values: [u64; 2]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum = sum.saturating_add(value);
    }
}
