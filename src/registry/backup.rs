//! A copy of the whole catalogue as it is at one revision.

use std::sync::Arc;

use bytes::Bytes;

use super::Registry;
use crate::api::{FieldSelector, Kind, LabelSelector};
use crate::auth::Caller;
use crate::error::Error;
use crate::graph::{Query, Record, Sight};
use crate::storage::Commit;
use crate::storage::embedded::backup;

/// About how many bytes of a copy are made at a time.
const CHUNK: usize = 256 * 1024;

/// The pieces of a copy, in the form of [`backup`].
#[derive(Debug)]
pub struct Backup {
    head: Option<backup::Head>,
    records: std::vec::IntoIter<Arc<Record>>,
    at_ms: i64,
    count: u64,
    ended: bool,
}

impl Registry {
    /// All that is stored, at the revision that is published now. Whoever writes is not held up. Administrators only.
    ///
    /// # Errors
    /// Forbidden.
    pub async fn backup(&self, caller: &Caller) -> Result<Backup, Error> {
        if !caller.is_administrator() {
            let message = format!("forbidden: User {:?} cannot get path \"/backup\"", caller.user());
            return Err(Error::Forbidden { kind: None, name: String::new(), message });
        }
        let identity = self.storage.identity();
        let visible = self.reader_for(Sight::Everything).visible;
        let collect = move || {
            let at = visible.revision();
            let (labels, fields) = (LabelSelector::default(), FieldSelector::default());
            let mut records = Vec::new();
            for kind in Kind::ALL {
                records.extend(visible.list(Query { kind, after: None, at, labels: &labels, fields: &fields }));
            }
            records.sort_unstable_by_key(|record| record.revision);
            let at_ms = visible.at_ms();
            let head = backup::Head { store_id: identity.store_id, epoch: identity.epoch, revision: at, at_ms };
            Backup { head: Some(head), records: records.into_iter(), at_ms, count: 0, ended: false }
        };
        // A million records are looked through: not where requests are answered.
        tokio::task::spawn_blocking(collect).await.map_err(Error::internal)
    }
}

impl Iterator for Backup {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut out = self.head.take().map(|head| head.encode()).unwrap_or_default();
        while out.len() < CHUNK {
            let Some(record) = self.records.next() else {
                backup::write_end(&mut out, self.count);
                self.ended = true;
                break;
            };
            self.count += 1;
            let commit = Commit {
                revision: record.revision,
                // The time of the whole copy: no history goes with it that would need each one's.
                at_ms: self.at_ms,
                key: record.key.clone(),
                value: Some(stored(&record)),
            };
            backup::write_commit(&mut out, &commit);
        }
        Some(out.into())
    }
}

/// The stored form of a record, as [`encode`](crate::graph::encode) made it.
fn stored(record: &Record) -> Bytes {
    let mut out = serde_json::to_vec(&record.envelope()).expect("an envelope has only string keys");
    out.push(b'\n');
    out.extend_from_slice(record.json());
    out.into()
}
