//! Boxes on a page.

use std::io::{self, BufWriter, Write};

use super::Colour;
use crate::analysis::stacks::{CallTree, NodeId};
use crate::report::units::printable;

const WIDTH: f64 = 1200.0;
const MARGIN: f64 = 10.0;
const LINE_HEIGHT: f64 = 18.0;
const BOX_HEIGHT: f64 = 17.0;
/// Of the letters in boxes, of 12 pixels.
const LETTER_WIDTH: f64 = 7.25;
/// Boxes narrower than this are left out, with all above them.
const NARROWEST: f64 = 0.1;
/// The fewest letters of a name that still say something.
const FEWEST_LETTERS: usize = 3;

/// What makes the picture follow clicks and keys. Without scripts it stays as it is.
const SCRIPT: &str = include_str!("flamegraph.js");

/// What a colour stands for.
pub(super) struct Legend {
    colour: Colour,
    text: String,
}

impl Legend {
    pub(super) fn new(colour: Colour, text: String) -> Legend {
        Legend { colour, text }
    }
}

/// A tree to be drawn.
pub(super) struct Picture<'a> {
    pub heading: String,
    pub notes: Vec<String>,
    pub legend: Vec<Legend>,
    pub tree: &'a CallTree<'a>,
    /// Width of each node, in units of its measure.
    pub weights: Vec<u64>,
    /// What is told of a node under its name.
    pub title_of: &'a dyn Fn(NodeId) -> String,
    pub fill_of: &'a dyn Fn(NodeId) -> Colour,
}

struct Placed {
    node: NodeId,
    x: f64,
    width: f64,
}

impl Picture<'_> {
    pub(super) fn write(&self, out: impl Write) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 16, out);
        let boxes = self.place();
        let depth = |placed: &Placed| self.tree.nodes[placed.node as usize].depth;
        let levels = boxes.iter().map(depth).max().unwrap_or(0) + 1;
        let top = MARGIN + LINE_HEIGHT * (2 + self.notes.len()) as f64 + MARGIN;
        let bottom = top + f64::from(levels) * BOX_HEIGHT;
        self.head(&mut out, bottom + MARGIN)?;
        for placed in &boxes {
            let y = bottom - f64::from(depth(placed) + 1) * BOX_HEIGHT;
            self.draw(&mut out, placed, y)?;
        }
        writeln!(out, "<script><![CDATA[\n{SCRIPT}]]></script>\n</svg>")?;
        out.flush()
    }

    /// Gives the boxes that are wide enough to be seen, callers first.
    fn place(&self) -> Vec<Placed> {
        let room = WIDTH - 2.0 * MARGIN;
        let scale = room / self.weights[0].max(1) as f64;
        let callees = self.tree.callees();
        let mut placed = vec![Placed {
            node: 0,
            x: MARGIN,
            width: room,
        }];
        let mut next = 0;
        while next < placed.len() {
            let (node, mut x) = (placed[next].node, placed[next].x);
            for &callee in &callees[node as usize] {
                let width = self.weights[callee as usize] as f64 * scale;
                if width >= NARROWEST {
                    let node = callee;
                    placed.push(Placed { node, x, width });
                }
                x += width;
            }
            next += 1;
        }
        placed
    }

    fn head(&self, out: &mut impl Write, height: f64) -> io::Result<()> {
        let heading = escaped(&self.heading);
        writeln!(
            out,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n\
             <title>{heading}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"page\" width=\"100%\" height=\"100%\"/>"
        )?;
        let mut y = MARGIN + LINE_HEIGHT - 5.0;
        writeln!(
            out,
            "<text class=\"h\" x=\"{MARGIN}\" y=\"{y}\">{heading}</text>"
        )?;
        for note in &self.notes {
            y += LINE_HEIGHT;
            let note = escaped(note);
            writeln!(out, "<text x=\"{MARGIN}\" y=\"{y}\">{note}</text>")?;
        }
        y += LINE_HEIGHT;
        let mut x = MARGIN;
        for Legend { colour, text } in &self.legend {
            let (fill, top, after) = (hex(*colour), y - 10.0, x + 16.0);
            let text = escaped(text);
            writeln!(
                out,
                "<rect x=\"{x}\" y=\"{top}\" width=\"12\" height=\"12\" fill=\"{fill}\"/>\
                 <text x=\"{after}\" y=\"{y}\">{text}</text>"
            )?;
            x = after + (text.chars().count() + 3) as f64 * LETTER_WIDTH;
        }
        let end = WIDTH - MARGIN;
        writeln!(
            out,
            "<text id=\"said\" x=\"{end}\" y=\"{y}\" text-anchor=\"end\"></text>"
        )
    }

    fn draw(&self, out: &mut impl Write, placed: &Placed, y: f64) -> io::Result<()> {
        let Placed { node, x, width } = *placed;
        let label = self.tree.label(node);
        let title = match label.library {
            Some(library) => format!("{} ({library})", label.name),
            None => label.name.to_owned(),
        };
        let title = escaped(&title);
        let told = (self.title_of)(node);
        let told = told.lines().map(escaped).collect::<Vec<_>>().join("\n");
        let fill = hex((self.fill_of)(node));
        let level = self.tree.nodes[node as usize].depth;
        // Half a pixel of page between neighbours, where they can spare it.
        let drawn = if width > 2.0 { width - 0.5 } else { width };
        write!(
            out,
            "<g class=\"f\" tabindex=\"0\" data-l=\"{level}\"><title>{title}\n{told}</title>\
             <rect x=\"{x:.2}\" y=\"{y}\" width=\"{drawn:.2}\" height=\"{:.0}\" fill=\"{fill}\"/>",
            BOX_HEIGHT - 1.0
        )?;
        let letters = ((width - 6.0) / LETTER_WIDTH).max(0.0) as usize;
        if letters >= FEWEST_LETTERS {
            let (x, y) = (x + 3.0, y + 12.5);
            let name = escaped(&cut(label.name, letters));
            write!(out, "<text x=\"{x:.2}\" y=\"{y}\">{name}</text>")?;
        }
        writeln!(out, "</g>")
    }
}

const STYLE: &str = "text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#111}\
.h{font-weight:bold}.page{fill:#fff}.f{cursor:pointer;outline:none}.f text{pointer-events:none;fill:#111}\
.f:hover rect,.f:focus rect{stroke:#000;stroke-width:1}.f.found rect{fill:#d58cf0}.f.above{opacity:.55}\
@media(prefers-color-scheme:dark){.page{fill:#181a1d}text{fill:#e6e6e6}\
.f:hover rect,.f:focus rect{stroke:#fff}}";

fn cut(name: &str, letters: usize) -> String {
    if name.chars().count() <= letters {
        return name.to_owned();
    }
    name.chars().take(letters - 1).chain(['…']).collect()
}

fn hex([red, green, blue]: Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// Makes text from a recording safe to stand in XML, which has no way to write
/// control characters.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in printable(text).chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            _ => safe.push(letter),
        }
    }
    safe
}
