//! The form in which a whole store is sent: all records present at one revision.
//!
//! | what | bytes |
//! |---|---|
//! | magic | `IMAGEHUB-BACKUP-1` and a line feed |
//! | head | JSON of [`Head`] and a line feed |
//! | each record, in order of revision | length of what follows, u32; revision, u64; its row, as the log has it |
//! | end | 0, u32; the number of records, u64 |
//!
//! Integers are little-endian. A row carries its checksum. Without the end it is not whole.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::row;
use crate::storage::{Commit, Revision};

const MAGIC: &[u8] = b"IMAGEHUB-BACKUP-1\n";
/// The longest head, in bytes.
const LONGEST_HEAD: usize = 4096;
/// The longest row that is taken, in bytes: a record and its name are far below.
const LONGEST_ROW: usize = 64 << 20;
const REVISION_BYTES: usize = 8;

/// What store it is, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// The id of the store.
    pub store_id: Uuid,
    /// Its epoch.
    pub epoch: u64,
    /// The revision that the copy is of.
    #[serde(with = "number")]
    pub revision: Revision,
    /// The store's time of that revision, milliseconds since 1970.
    pub at_ms: i64,
}

mod number {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Revision;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(super) fn serialize<S: Serializer>(revision: &Revision, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(revision.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Revision, D::Error> {
        u64::deserialize(deserializer).map(Revision)
    }
}

impl Head {
    /// The magic and the head.
    ///
    /// # Panics
    /// Never: all keys are strings.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        serde_json::to_writer(&mut out, self).expect("a head has only string keys, and a Vec takes all");
        out.push(b'\n');
        out
    }
}

/// Appends a record.
///
/// # Panics
/// Never: the store has no record as large as that.
pub fn write_commit(out: &mut Vec<u8>, commit: &Commit) {
    let len = row::len(commit);
    let all = u32::try_from(REVISION_BYTES + len).expect("the queue takes no write as large as that");
    out.extend_from_slice(&all.to_le_bytes());
    out.extend_from_slice(&commit.revision.0.to_le_bytes());
    let at = out.len();
    out.resize(at + len, 0);
    row::encode(commit, &mut out[at..]);
}

/// Appends the end.
pub fn write_end(out: &mut Vec<u8>, records: u64) {
    out.extend_from_slice(&0_u32.to_le_bytes());
    out.extend_from_slice(&records.to_le_bytes());
}

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    Head(Head),
    Record(u64, Vec<u8>),
    End,
}

/// Reads the form from pieces of any size.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    buffer: Vec<u8>,
    at: usize,
    head: bool,
    records: u64,
    last: u64,
    ended: bool,
}

impl Decoder {
    /// Adds what has come.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether the end has come, and nothing after it.
    pub(super) fn is_whole(&self) -> bool {
        self.ended && self.at == self.buffer.len()
    }

    /// The next thing, if it is there already; the error says what is wrong.
    pub(super) fn next(&mut self) -> Result<Option<Item>, String> {
        let rest = &self.buffer[self.at..];
        if !self.head {
            if !rest.starts_with(&MAGIC[..MAGIC.len().min(rest.len())]) {
                return Err("it is no backup: it does not begin as one".to_owned());
            }
            let Some(line) = rest.get(MAGIC.len()..) else { return Ok(None) };
            let Some(end) = line.iter().position(|b| *b == b'\n') else {
                return if line.len() > LONGEST_HEAD { Err("its head has no end".to_owned()) } else { Ok(None) };
            };
            let head = serde_json::from_slice(&line[..end]).map_err(|e| format!("its head can't be read: {e}"))?;
            self.at += MAGIC.len() + end + 1;
            self.head = true;
            return Ok(Some(Item::Head(head)));
        }
        if self.ended {
            return if rest.is_empty() { Ok(None) } else { Err("there is something behind its end".to_owned()) };
        }
        let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let len = u32::from_le_bytes(*len) as usize;
        let Some((number, _)) = rest.split_first_chunk() else { return Ok(None) };
        let number = u64::from_le_bytes(*number);
        if len == 0 {
            if number != self.records {
                return Err(format!("it has {} records, and says that it has {number}", self.records));
            }
            self.at += 4 + REVISION_BYTES;
            self.ended = true;
            return Ok(Some(Item::End));
        }
        if !(REVISION_BYTES..=LONGEST_ROW).contains(&len) {
            return Err(format!("a record is {len} bytes long"));
        }
        let Some(row) = rest.get(REVISION_BYTES..len) else { return Ok(None) };
        if number <= self.last {
            return Err(format!("record {number} is out of order"));
        }
        row::decode(number, row)?;
        let item = Item::Record(number, row.to_vec());
        self.at += 4 + len;
        self.last = number;
        self.records += 1;
        Ok(Some(item))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::api::Kind;
    use crate::storage::Key;

    fn sent() -> Vec<u8> {
        let head = Head { store_id: Uuid::from_bytes([7; 16]), epoch: 3, revision: Revision(9), at_ms: 5 };
        let mut out = head.encode();
        for revision in [4, 8] {
            let value = Some(Bytes::from_static(b"{}\n{}"));
            let key = Key::new(Kind::Image, format!("a.b.{revision}"));
            write_commit(&mut out, &Commit { revision: Revision(revision), at_ms: 5, key, value });
        }
        write_end(&mut out, 2);
        out
    }

    fn read(bytes: &[u8], step: usize) -> Result<(Vec<Item>, bool), String> {
        let mut decoder = Decoder::default();
        let mut items = Vec::new();
        for piece in bytes.chunks(step) {
            decoder.push(piece);
            while let Some(item) = decoder.next()? {
                items.push(item);
            }
        }
        Ok((items, decoder.is_whole()))
    }

    #[test]
    fn it_reads_the_same_whatever_pieces_it_comes_in() {
        let sent = sent();
        let (items, whole) = read(&sent, sent.len()).unwrap();
        assert!(whole);
        assert_eq!(items.len(), 4);
        for step in 1..40 {
            assert_eq!(read(&sent, step).unwrap(), (read(&sent, sent.len()).unwrap().0, true), "{step}");
        }
    }

    #[test]
    fn what_is_cut_off_is_not_whole_and_what_is_changed_is_refused_or_another_head() {
        let sent = sent();
        for len in 0..sent.len() {
            if len > 0 {
                assert!(!read(&sent[..len], 7).unwrap().1, "{len}");
            }
        }
        let head = sent.windows(2).rposition(|w| w == b"}\n").unwrap();
        let rows = sent.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(1).unwrap().0 + 1;
        assert!(rows <= head + 2);
        for at in rows..sent.len() {
            let mut changed = sent.clone();
            changed[at] ^= 1;
            assert!(!read(&changed, 64).is_ok_and(|(_, whole)| whole), "byte {at}");
        }
    }
}
