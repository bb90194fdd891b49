//! A record as clients see it: copied out of its bytes, never serialised again.

use super::Record;
use super::stored::prefix;
use crate::storage::Revision;

impl Record {
    /// Appends the object as clients see it at `revision`: with its version, and `status` where it has one.
    pub fn write_object(&self, out: &mut Vec<u8>, revision: Revision, status: Option<&[u8]>) {
        let (prefix, json) = (prefix(self.kind()).as_bytes(), self.json());
        out.reserve(json.len() + status.map_or(0, <[u8]>::len) + 64);
        out.extend_from_slice(prefix);
        write_version(out, revision);
        out.extend_from_slice(&json[prefix.len()..json.len() - 1]);
        if let Some(status) = status {
            out.extend_from_slice(br#","status":"#);
            out.extend_from_slice(status);
        }
        out.push(b'}');
    }

    /// Appends the object's metadata at `revision` as `PartialObjectMetadata`.
    pub fn write_metadata(&self, out: &mut Vec<u8>, revision: Revision) {
        let fields = self.metadata_fields();
        out.reserve(fields.len() + 128);
        out.extend_from_slice(br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"#);
        write_version(out, revision);
        out.extend_from_slice(fields);
        out.extend_from_slice(b"}}");
    }
}

fn write_version(out: &mut Vec<u8>, revision: Revision) {
    // What a dry run would have made has none.
    if revision == Revision::default() {
        return;
    }
    out.extend_from_slice(br#""resourceVersion":""#);
    out.extend_from_slice(revision.to_string().as_bytes());
    out.extend_from_slice(br#"","#);
}
