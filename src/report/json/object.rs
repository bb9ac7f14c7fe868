//! An object written piece by piece: most through serde, long lists of rows
//! directly, because a large tree has a million of them.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::Formatter;

/// Starts every element of an array on a line of its own: `diff` and `grep` see rows.
struct RowsOnLines;

impl Formatter for RowsOnLines {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"\n" } else { b",\n" })
    }
}

/// Appends a value.
pub(super) fn append(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    let mut serializer = serde_json::Serializer::with_formatter(out, RowsOnLines);
    value
        .serialize(&mut serializer)
        .expect("plain data and a growing buffer cannot fail");
}

/// A JSON object under construction.
pub(super) struct Object {
    text: Vec<u8>,
    is_empty: bool,
}

impl Object {
    /// Begins an object in the memory of `buffer`.
    pub(super) fn new(mut buffer: Vec<u8>) -> Object {
        buffer.clear();
        buffer.push(b'{');
        Object {
            text: buffer,
            is_empty: true,
        }
    }

    /// Appends the fields of a struct.
    pub(super) fn fields(&mut self, fields: &impl Serialize) {
        let brace = self.text.len();
        append(&mut self.text, fields);
        match self.is_empty {
            true => drop(self.text.remove(brace)),
            false => self.text[brace] = b',',
        }
        self.text.pop();
        self.is_empty = false;
    }

    /// Appends a list whose rows `write` appends.
    pub(super) fn rows<T>(
        &mut self,
        key: &str,
        rows: impl ExactSizeIterator<Item = T>,
        mut write: impl FnMut(&mut Vec<u8>, T),
    ) {
        const USUAL_ROW_BYTES: usize = 512;
        self.key(key);
        self.text.reserve(rows.len() * USUAL_ROW_BYTES);
        let mut separator: &[u8] = b"[\n";
        let is_empty = rows.len() == 0;
        for row in rows {
            self.text.extend_from_slice(separator);
            separator = b",\n";
            write(&mut self.text, row);
        }
        self.text
            .extend_from_slice(if is_empty { b"[]" } else { b"]" });
    }

    /// Begins an object within; [`Object::close`] ends it.
    pub(super) fn open(&mut self, key: &str) {
        self.key(key);
        self.text.push(b'{');
        self.is_empty = true;
    }

    pub(super) fn close(&mut self) {
        self.text.push(b'}');
        self.is_empty = false;
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.close();
        self.text
    }

    fn key(&mut self, key: &str) {
        if !self.is_empty {
            self.text.push(b',');
        }
        append(&mut self.text, key);
        self.text.push(b':');
        self.is_empty = false;
    }
}
