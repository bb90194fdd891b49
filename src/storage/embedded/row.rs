//! The bytes of one row of the table `log`. The table's key is the revision; its value is
//!
//! | bytes | what |
//! |---|---|
//! | 0 | version of the row's form: 1 |
//! | 1 | the number of the [`Kind`] |
//! | 2 | 1 for a tombstone, 0 for a record |
//! | 3..7 | length of the name, u32 |
//! | 7..15 | the store's time of the commit, milliseconds since 1970, i64 |
//! | 15..19 | CRC-32 (IEEE) of the revision as u64, then bytes 0..15, the name and the record |
//! | 19.. | the name (UTF-8), then the record up to the end; a tombstone has none |
//!
//! All integers are little-endian. The same commit gives the same bytes. redb does not verify what it
//! reads in ordinary use, so each row carries a checksum of its own, and one over its revision, too: a
//! row that turns up in another's place is damage.

use flate2::Crc;

use crate::api::Kind;
use crate::storage::{Commit, Key, Revision};

/// The version of the form that is written.
const VERSION: u8 = 1;
const CRC_AT: usize = 15;
/// Bytes before the name.
const HEADER: usize = 19;

/// A row, borrowed from the table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub kind: Kind,
    pub name: &'a str,
    pub at_ms: i64,
    pub value: Option<&'a [u8]>,
}

impl Row<'_> {
    /// The commit that the row at `revision` records.
    pub(super) fn to_commit(&self, revision: u64) -> Commit {
        Commit { value: self.value.map(bytes::Bytes::copy_from_slice), ..self.without_value(revision) }
    }

    /// The same without what was written.
    pub(super) fn without_value(&self, revision: u64) -> Commit {
        Commit { revision: Revision(revision), at_ms: self.at_ms, key: Key::new(self.kind, self.name), value: None }
    }
}

/// The length of the row of `commit`.
pub(super) fn len(commit: &Commit) -> usize {
    HEADER + commit.key.name.len() + commit.value.as_ref().map_or(0, bytes::Bytes::len)
}

/// Writes the row of `commit` to `out`, which has its [`len`].
pub(super) fn encode(commit: &Commit, out: &mut [u8]) {
    let name = commit.key.name.as_bytes();
    let name_len = u32::try_from(name.len()).expect("the queue takes no write as large as that");
    out[0] = VERSION;
    out[1] = commit.key.kind as u8;
    out[2] = u8::from(commit.value.is_none());
    out[3..7].copy_from_slice(&name_len.to_le_bytes());
    out[7..CRC_AT].copy_from_slice(&commit.at_ms.to_le_bytes());
    out[HEADER..HEADER + name.len()].copy_from_slice(name);
    if let Some(value) = &commit.value {
        out[HEADER + name.len()..].copy_from_slice(value);
    }
    let sum = checksum(commit.revision.0, out);
    out[CRC_AT..HEADER].copy_from_slice(&sum.to_le_bytes());
}

/// Reads the row at `revision`; the error says what is wrong with it.
pub(super) fn decode(revision: u64, bytes: &[u8]) -> Result<Row<'_>, String> {
    if bytes.len() < HEADER {
        return Err(format!("row {revision} has {} bytes, at least {HEADER} are needed", bytes.len()));
    }
    if bytes[0] != VERSION {
        return Err(format!("row {revision} has form {}, this imagehub knows form {VERSION}", bytes[0]));
    }
    let stored = u32::from_le_bytes(array(&bytes[CRC_AT..]));
    if stored != checksum(revision, bytes) {
        return Err(format!("row {revision} does not match its checksum"));
    }
    let kind =
        Kind::from_number(bytes[1]).ok_or_else(|| format!("row {revision} has the unknown kind {}", bytes[1]))?;
    let name_len = u32::from_le_bytes(array(&bytes[3..])) as usize;
    let (name, value) =
        bytes[HEADER..].split_at_checked(name_len).ok_or_else(|| format!("row {revision} is shorter than its name"))?;
    let name = std::str::from_utf8(name).map_err(|_| format!("row {revision} has a name that is not UTF-8"))?;
    let value = match (bytes[2], value.is_empty()) {
        (0, _) => Some(value),
        (1, true) => None,
        _ => return Err(format!("row {revision} is neither a record nor a tombstone")),
    };
    Ok(Row { kind, name, at_ms: i64::from_le_bytes(array(&bytes[7..])), value })
}

fn checksum(revision: u64, row: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(&revision.to_le_bytes());
    crc.update(&row[..CRC_AT]);
    crc.update(&row[HEADER..]);
    crc.sum()
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("the row is longer than its header")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn commit(value: Option<&'static [u8]>) -> Commit {
        Commit {
            revision: Revision(7),
            at_ms: 1_700_000_000_123,
            key: Key::new(Kind::Repository, "labring.nginx"),
            value: value.map(Bytes::from_static),
        }
    }

    fn encoded(commit: &Commit) -> Vec<u8> {
        let mut out = vec![0; len(commit)];
        encode(commit, &mut out);
        out
    }

    #[test]
    fn a_row_reads_back_as_the_commit_it_records() {
        for value in [Some(&b"{}"[..]), Some(&b""[..]), None] {
            let commit = commit(value);
            assert_eq!(decode(7, &encoded(&commit)).unwrap().to_commit(7), commit);
        }
    }

    #[test]
    fn the_bytes_of_a_row_are_fixed() {
        let mut expected = vec![1, 1, 0, 13, 0, 0, 0];
        expected.extend_from_slice(&1_700_000_000_123_i64.to_le_bytes());
        let row = encoded(&commit(Some(b"{}")));
        assert_eq!(row[..CRC_AT], expected);
        assert_eq!(row[CRC_AT..HEADER], 0x0F31_68BC_u32.to_le_bytes());
        assert_eq!(&row[HEADER..], b"labring.nginx{}");
    }

    #[test]
    fn any_flipped_bit_truncation_or_swap_of_rows_is_noticed() {
        let row = encoded(&commit(Some(b"{\"a\":1}")));
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(7, &flipped).is_err(), "bit {bit}");
        }
        for len in 0..row.len() {
            assert!(decode(7, &row[..len]).is_err(), "length {len}");
        }
        assert!(decode(8, &row).is_err());
    }
}
