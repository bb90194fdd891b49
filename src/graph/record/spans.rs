//! Where in a record's bytes its strings are: a table of numbers behind them, in the same allocation. A number has
//! two bytes where the bytes and the table fit into 64 KiB together, as nearly all do; otherwise four.
//!
//! The numbers are, in this order: start and length of each of the kind's own strings (see the constants); start,
//! length and flag of each owner; start and length of the key, then of the value, of each label. Strings that the
//! JSON has with escapes are between the JSON and the table, without.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::api::Kind;

/// `metadata.uid`.
pub(super) const UID: usize = 0;
/// `metadata.creationTimestamp`.
pub(super) const CREATED: usize = 1;
/// `spec.name` of an image or a repository.
pub(super) const NAME: usize = 2;
/// The first of an image's [fields](super::Field).
pub(super) const FIELDS: usize = 3;
/// How many fields an image has.
pub(super) const FIELD_COUNT: usize = 9;
/// Numbers of an owner.
pub(super) const OWNER: usize = 3;
/// Numbers of a label.
pub(super) const LABEL: usize = 4;

/// How many strings every record of the kind has, an absent one as an empty one.
pub(super) const fn own(kind: Kind) -> usize {
    match kind {
        Kind::Image => FIELDS + FIELD_COUNT,
        Kind::Repository => NAME + 1,
        Kind::Organization | Kind::DataPack => CREATED + 1,
    }
}

/// Bytes of a number in a record of `len` bytes with its table.
const fn width(len: usize) -> usize {
    if len <= u16::MAX as usize { 2 } else { 4 }
}

/// Number `at` of the `count` in the table at the end of `bytes`.
pub(super) fn number(bytes: &[u8], count: usize, at: usize) -> usize {
    let width = width(bytes.len());
    let start = bytes.len() - (count - at) * width;
    match bytes[start..start + width] {
        [a, b] => usize::from(u16::from_le_bytes([a, b])),
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]) as usize,
        _ => 0,
    }
}

/// The table of a record that is being read.
pub(super) struct Spans<'a> {
    stored: &'a str,
    unescaped: Vec<u8>,
    numbers: Vec<u32>,
}

impl<'a> Spans<'a> {
    pub(super) fn new(stored: &'a str) -> Self {
        Self { stored, unescaped: Vec::new(), numbers: Vec::with_capacity(64) }
    }

    /// Adds a number.
    pub(super) fn add(&mut self, number: usize) {
        // Objects are limited to a few MiB before they are stored.
        self.numbers.push(u32::try_from(number).expect("a record is smaller than 4 GiB"));
    }

    /// Adds `part`, a slice of what is stored, or an empty string from elsewhere.
    pub(super) fn part(&mut self, part: &str) {
        let start = if part.is_empty() { 0 } else { part.as_ptr() as usize - self.stored.as_ptr() as usize };
        self.add(start);
        self.add(part.len());
    }

    /// Adds a value as it is written, if it is there.
    pub(super) fn raw(&mut self, raw: Option<&'a RawValue>) {
        self.part(raw.map_or("", RawValue::get));
    }

    /// Adds a string.
    #[expect(clippy::ptr_arg, reason = "whether it is borrowed says whether it is in the stored bytes")]
    pub(super) fn text(&mut self, text: &Cow<'a, str>) {
        match text {
            Cow::Borrowed(part) => self.part(part),
            Cow::Owned(text) => {
                self.add(self.stored.len() + self.unescaped.len());
                self.add(text.len());
                self.unescaped.extend_from_slice(text.as_bytes());
            }
        }
    }

    /// All bytes of the record, in one allocation that is just as long as they are.
    pub(super) fn finish(self) -> Box<[u8]> {
        let texts = self.stored.len() + self.unescaped.len();
        let width = width(texts + self.numbers.len() * 2);
        let mut bytes = Vec::with_capacity(texts + self.numbers.len() * width);
        bytes.extend_from_slice(self.stored.as_bytes());
        bytes.extend_from_slice(&self.unescaped);
        for number in self.numbers {
            bytes.extend_from_slice(&number.to_le_bytes()[..width]);
        }
        bytes.into_boxed_slice()
    }
}
