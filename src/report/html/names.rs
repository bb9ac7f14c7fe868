//! Every name of the page, once.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Serialize, Serializer};

use super::pack::Column;
use crate::analysis::is_plumbing;
use crate::analysis::stacks::{Frame, LocationId, Stacks};
use crate::report::units::printable;

/// Texts, each once. They come from a recording that may be hostile, so they are
/// made harmless to look at on their way out.
#[derive(Default)]
pub(super) struct Texts<'a> {
    list: Vec<Cow<'a, str>>,
    index: HashMap<Cow<'a, str>, u32>,
}

impl<'a> Texts<'a> {
    /// Gives the place of a text.
    pub(super) fn place(&mut self, text: impl Into<Cow<'a, str>>) -> u32 {
        let text = text.into();
        let next = self.list.len() as u32;
        *self.index.entry(text).or_insert_with_key(|text| {
            self.list.push(text.clone());
            next
        })
    }

    /// Gives the place of a text, counted from 1; 0 is none.
    pub(super) fn place_from_1(&mut self, text: Option<&'a str>) -> u32 {
        text.map_or(0, |text| self.place(text) + 1)
    }
}

impl Serialize for Texts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.list.iter().map(|text| printable(text)))
    }
}

/// What nodes are made of: functions at a place within them.
#[derive(Serialize, Default)]
pub(super) struct Frames {
    /// The function.
    function: Column,
    /// Text of its source file, from 1.
    file: Column,
    line: Column,
    inlined: Column,
    /// How a standard library gets memory, and not who asked for it.
    plumbing: Column,
    #[serde(skip)]
    count: u32,
}

/// Functions.
#[derive(Serialize, Default)]
pub(super) struct Functions {
    /// Text of its name.
    name: Column,
    /// Its library, from 1.
    library: Column,
    #[serde(skip)]
    count: u32,
}

/// Every caller above every callee, as far as rows go through them.
#[derive(Serialize, Default)]
pub(super) struct Nodes {
    /// How many nodes before this one its caller lies; the root's is 0.
    up: Column,
    /// What it is called.
    frame: Column,
    /// How many nodes before this one another place in the same function lies, where
    /// it is called by the same; 0 where there is none.
    same: Column,
    #[serde(skip)]
    pub(super) count: u32,
}

/// Functions, frames and nodes under construction.
pub(super) struct Paths<'a> {
    stacks: &'a Stacks<'a>,
    pub(super) functions: Functions,
    pub(super) frames: Frames,
    pub(super) nodes: Nodes,
    /// By place in the view's tables; [`UNUSED`] until a row needs it.
    function_ids: Vec<u32>,
    frame_ids: Vec<u32>,
    equal_frames: HashMap<(u32, u32, Option<u32>, bool), u32>,
    children: HashMap<(u32, u32), u32>,
    /// Of each node the first of the same function, called by the same functions.
    first_of: Vec<u32>,
    /// By the first node of a caller, and a function.
    functions_below: HashMap<(u32, u32), u32>,
    /// By frame.
    function_of: Vec<u32>,
}

const UNUSED: u32 = u32::MAX;

impl<'a> Paths<'a> {
    pub(super) fn new(stacks: &'a Stacks<'a>) -> Paths<'a> {
        let mut paths = Paths {
            stacks,
            functions: Functions::default(),
            frames: Frames::default(),
            nodes: Nodes::default(),
            function_ids: vec![UNUSED; stacks.functions.len()],
            frame_ids: vec![UNUSED; stacks.frames.len()],
            equal_frames: HashMap::new(),
            children: HashMap::new(),
            first_of: vec![0],
            functions_below: HashMap::new(),
            function_of: Vec::new(),
        };
        // The root, which is no function.
        paths.nodes.up.push(0);
        paths.nodes.frame.push(0);
        paths.nodes.same.push(0);
        paths.nodes.count = 1;
        paths
    }

    /// Gives the node of a path, innermost first, below the root.
    pub(super) fn node(&mut self, texts: &mut Texts<'a>, path: &[LocationId]) -> u32 {
        let stacks = self.stacks;
        let mut node = 0;
        for &location in path.iter().rev() {
            let range = stacks.locations[location as usize].frames.clone();
            for frame in range {
                let frame = self.frame(texts, frame);
                node = self.child(node, frame);
            }
        }
        node
    }

    /// Gives the node of a name that is no function, below the root.
    pub(super) fn plain(&mut self, texts: &mut Texts<'a>, name: &'a str) -> u32 {
        let function = self.functions.count;
        self.functions.count += 1;
        self.functions.name.push(texts.place(name));
        self.functions.library.push(0);
        let frame = self.new_frame(texts, function, (None, None, false), false);
        self.child(0, frame)
    }

    fn child(&mut self, parent: u32, frame: u32) -> u32 {
        let next = self.nodes.count;
        let node = *self.children.entry((parent, frame)).or_insert(next);
        if node == next {
            let below = self.first_of[parent as usize];
            let function = self.function_of[frame as usize];
            let first = *self
                .functions_below
                .entry((below, function))
                .or_insert(next);
            self.first_of.push(first);
            self.nodes.count += 1;
            self.nodes.up.push(next - parent);
            self.nodes.frame.push(frame);
            self.nodes.same.push(next - first);
        }
        node
    }

    fn frame(&mut self, texts: &mut Texts<'a>, index: u32) -> u32 {
        let known = self.frame_ids[index as usize];
        if known != UNUSED {
            return known;
        }
        let frame: &'a Frame<'a> = &self.stacks.frames[index as usize];
        let function = self.function(texts, frame.function);
        let source = (frame.file, frame.line, frame.is_inlined);
        let name = &self.stacks.function_of(frame).name;
        let is_plumbing = is_plumbing(name, frame.file);
        let id = self.new_frame(texts, function, source, is_plumbing);
        self.frame_ids[index as usize] = id;
        id
    }

    fn new_frame(
        &mut self,
        texts: &mut Texts<'a>,
        function: u32,
        (file, line, is_inlined): (Option<&'a str>, Option<u32>, bool),
        is_plumbing: bool,
    ) -> u32 {
        let file = texts.place_from_1(file);
        let next = self.frames.count;
        let key = (function, file, line, is_inlined);
        let id = *self.equal_frames.entry(key).or_insert(next);
        if id == next {
            self.frames.count += 1;
            self.function_of.push(function);
            self.frames.function.push(function);
            self.frames.file.push(file);
            self.frames.line.push(line.unwrap_or(0));
            self.frames.inlined.push(u32::from(is_inlined));
            self.frames.plumbing.push(u32::from(is_plumbing));
        }
        id
    }

    fn function(&mut self, texts: &mut Texts<'a>, index: u32) -> u32 {
        let known = self.function_ids[index as usize];
        if known != UNUSED {
            return known;
        }
        let function = &self.stacks.functions[index as usize];
        let id = self.functions.count;
        self.functions.count += 1;
        self.functions.name.push(texts.place(&*function.name));
        let library = function
            .library
            .map_or(0, |library| library.index() as u32 + 1);
        self.functions.library.push(library);
        self.function_ids[index as usize] = id;
        id
    }
}
