//! The data of the images that a pack names, copied out of their records.

use std::collections::BTreeSet;
use std::io::Write as _;

use bytes::Bytes;

use super::Content;
use crate::api::{DEFAULT_CREAT_TIME, Grain, code};
use crate::graph::{Digest, Field, NamedImage, PackHead, Record, Visible};

/// How large `status.datas` may become, in bytes. Beyond it the pack has an error instead.
pub const CONTENT_LIMIT: usize = 32 * 1024 * 1024;

/// What an entry takes at most beside its fields and its names, which are in it three times.
const ENTRY_ROOM: usize = 192;

/// The length of a digest as text.
const DIGEST_DIGITS: usize = 32;

/// What a pack's content is, as `visible` shows it.
pub(super) fn compute(visible: &Visible, pack: &PackHead) -> Content {
    // Nearly all of the time goes into waiting for memory, so it is asked for in rounds: within one nothing depends
    // on the one before, and the processor waits for many at once.
    let mut hidden = BTreeSet::new();
    let all = visible.images(&pack.names);
    let mut size = 0;
    for NamedImage { name, record, .. } in &all {
        // Absent and hidden look alike.
        match record {
            Some(record) => size += size_of_entry(record, pack.grain),
            None => hidden.extend(visible.private_organization(name)),
        }
        size += name.len() * 3 + ENTRY_ROOM;
    }
    let mut out = Vec::with_capacity(size.min(CONTENT_LIMIT));
    out.extend_from_slice(format!(r#""codes":{},"contentDigest":""#, code::OK).as_bytes());
    let digest_at = out.len();
    out.resize(digest_at + DIGEST_DIGITS, b'0');
    out.extend_from_slice(br#"","datas":"#);
    let start = out.len();
    out.push(b'{');
    for (i, found) in all.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(&mut out, found.name);
        out.push(b':');
        match found.record {
            Some(record) => write_entry(&mut out, visible, found, record, pack.grain),
            None => out.extend_from_slice(b"{}"),
        }
        if out.len() - start > CONTENT_LIMIT {
            return too_large(visible, pack, i + 1);
        }
    }
    out.push(b'}');
    let digest = Digest::of(&out[start..]);
    out[digest_at..digest_at + DIGEST_DIGITS].copy_from_slice(digest.to_string().as_bytes());
    Content { members: out.into(), digest, code: code::OK, hidden: hidden.into_iter().map(Box::from).collect() }
}

/// About how much an entry takes of its image's fields. To look at each brings what is copied later.
fn size_of_entry(record: &Record, grain: Grain) -> usize {
    let fields: &[Field] = match grain {
        Grain::Base => &[Field::Type],
        Grain::Grid => &[Field::Type, Field::Icon, Field::Keywords, Field::Description],
        Grain::Detail => {
            &[Field::Type, Field::Icon, Field::Keywords, Field::Description, Field::Docs, Field::Id, Field::Arch]
        }
    };
    fields.iter().filter_map(|field| record.field(*field)).map(|raw| raw.len() + usize::from(raw[0] == 0)).sum()
}

fn too_large(visible: &Visible, pack: &PackHead, reached: usize) -> Content {
    let message = format!(
        "the data of {reached} of {} images is already more than {CONTENT_LIMIT} bytes, the most that a DataPack \
         answers: name fewer images, or ask for a smaller grain than {}",
        pack.names.len(),
        pack.grain.as_str()
    );
    let mut members = format!(r#""codes":{},"message":"#, code::ERROR).into_bytes();
    write_string(&mut members, &message);
    let digest = Digest::of(&members);
    // Some that are not reached may be private: whoever sees more asks for an answer of its own.
    let hidden: BTreeSet<&str> = pack.names.iter().filter_map(|name| visible.private_organization(name)).collect();
    let hidden = hidden.into_iter().map(Box::from).collect();
    Content { members: Bytes::from(members), digest, code: code::ERROR, hidden }
}

fn write_entry(out: &mut Vec<u8>, visible: &Visible, found: &NamedImage<'_>, record: &Record, grain: Grain) {
    out.extend_from_slice(br#"{"name":"#);
    write_string(out, found.name);
    write_field(out, "type", record, Field::Type);
    if grain == Grain::Base {
        out.push(b'}');
        return;
    }
    out.extend_from_slice(br#","repoName":"#);
    write_string(out, found.repository);
    write_field(out, "icon", record, Field::Icon);
    write_field(out, "keywords", record, Field::Keywords);
    let size = record.image().map_or(0, |image| image.size());
    let downloads = found.of.and_then(|of| of.repository()).map_or(0, |of| of.downloads);
    write!(out, r#","rating":0,"downloadCount":{downloads},"size":{size}"#).expect("a Vec takes all");
    write_field(out, "description", record, Field::Description);
    if grain == Grain::Detail {
        write_field(out, "docs", record, Field::Docs);
        write_field(out, "ID", record, Field::Id);
        write_field(out, "arch", record, Field::Arch);
        out.extend_from_slice(br#","tags":"#);
        write_tags(out, visible, found.repository);
    }
    out.push(b'}');
}

fn write_field(out: &mut Vec<u8>, name: &str, record: &Record, field: Field) {
    if let Some(raw) = record.field(field) {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        out.extend_from_slice(raw);
    }
}

fn write_tags(out: &mut Vec<u8>, visible: &Visible, repository: &str) {
    out.push(b'[');
    for (i, tag) in visible.tags(repository).iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_tag(out, tag);
        // One repository with very many tags: the limit is looked at again by the caller.
        if out.len() > CONTENT_LIMIT {
            break;
        }
    }
    out.push(b']');
}

/// Appends what a repository's status and a detailed pack say of an image.
pub fn write_tag(out: &mut Vec<u8>, record: &Record) {
    let Some(image) = record.image() else { return };
    out.extend_from_slice(br#"{"name":"#);
    write_string(out, image.tag());
    out.extend_from_slice(br#","metaName":"#);
    write_string(out, record.name());
    out.extend_from_slice(format!(r#","size":{},"creatTime":"#, image.size()).as_bytes());
    match record.field(Field::CreatTime) {
        Some(raw) => out.extend_from_slice(raw),
        None => write_string(out, DEFAULT_CREAT_TIME),
    }
    out.push(b'}');
}

/// Appends `text` as a JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    // Counted, without a way out in between, so that many bytes are looked at at once.
    let special = text.bytes().map(|b| usize::from(b < 0x20 || b == b'"' || b == b'\\')).sum::<usize>();
    if special == 0 {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text).expect("a Vec takes all");
    }
}
