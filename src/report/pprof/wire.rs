//! The few parts of protocol buffers that profile.proto needs.

/// A message under construction. Fields that are 0 are left out, as the format's
/// readers assume.
#[derive(Default)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

const VARINT: u64 = 0;
const LENGTH_DELIMITED: u64 = 2;

impl Message {
    /// Appends a number.
    pub(super) fn number(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.varint(field << 3 | VARINT);
            self.varint(value);
        }
    }

    /// Appends text, empty or not.
    pub(super) fn text(&mut self, field: u64, text: &str) {
        self.delimited(field, text.as_bytes());
    }

    /// Appends a message.
    pub(super) fn message(&mut self, field: u64, message: &Message) {
        self.delimited(field, &message.bytes);
    }

    /// Appends numbers, packed.
    pub(super) fn numbers(&mut self, field: u64, values: impl Iterator<Item = u64>) {
        let mut packed = Message::default();
        values.for_each(|value| packed.varint(value));
        self.delimited(field, &packed.bytes);
    }

    /// Makes room for another message.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Gives what was appended.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn delimited(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | LENGTH_DELIMITED);
        self.varint(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_as_the_format_says() {
        let mut inner = Message::default();
        inner.number(1, 150);
        assert_eq!(inner.bytes(), [0x08, 0x96, 0x01]);
        let mut outer = Message::default();
        outer.number(2, 0);
        outer.message(3, &inner);
        outer.text(4, "ab");
        outer.numbers(5, [3, 270].into_iter());
        assert_eq!(
            outer.bytes(),
            [
                0x1a, 3, 0x08, 0x96, 0x01, 0x22, 2, b'a', b'b', 0x2a, 3, 3, 0x8e, 0x02
            ]
        );
        inner.clear();
        inner.number(1, -1i64 as u64);
        assert_eq!(inner.bytes(), [&[0x08][..], &[0xff; 9], &[1]].concat());
    }
}
