//! The data of the images that a pack names, copied out of their records.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::Content;
use crate::api::{DEFAULT_CREAT_TIME, Grain, code};
use crate::graph::{Digest, Field, ImageHead, PackHead, Record, Visible};

/// How large `status.datas` may become, in bytes. Beyond it the pack has an error instead.
pub const CONTENT_LIMIT: usize = 32 * 1024 * 1024;

/// What a pack's content is, as `visible` shows it.
pub(super) fn compute(visible: &Visible, pack: &PackHead) -> Content {
    let mut datas = Vec::with_capacity(pack.names.len() * 128 + 2);
    let mut hidden = BTreeSet::new();
    datas.push(b'{');
    for (i, name) in pack.names.iter().enumerate() {
        if i > 0 {
            datas.push(b',');
        }
        write_string(&mut datas, name);
        datas.push(b':');
        if let Some(record) = visible.image(name) {
            write_entry(&mut datas, visible, record, pack.grain);
        } else {
            // Absent and hidden look alike.
            datas.extend_from_slice(b"{}");
            hidden.extend(visible.private_organization(name));
        }
        if datas.len() > CONTENT_LIMIT {
            return too_large(visible, pack, i + 1);
        }
    }
    datas.push(b'}');
    let digest = Digest::of(&datas);
    let mut members = format!(r#""codes":{},"contentDigest":"{digest}","datas":"#, code::OK).into_bytes();
    members.extend_from_slice(&datas);
    Content { members: members.into(), digest, code: code::OK, hidden: hidden.into_iter().map(Box::from).collect() }
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

fn write_entry(out: &mut Vec<u8>, visible: &Visible, record: &Arc<Record>, grain: Grain) {
    let Some(image) = record.image() else { return };
    out.extend_from_slice(br#"{"name":"#);
    write_string(out, &image.name);
    write_field(out, "type", record, Field::Type);
    if grain == Grain::Base {
        out.push(b'}');
        return;
    }
    out.extend_from_slice(br#","repoName":"#);
    write_string(out, &image.repository);
    write_field(out, "icon", record, Field::Icon);
    write_field(out, "keywords", record, Field::Keywords);
    let downloads = visible.repository(&image.repository).map_or(0, |r| r.envelope.download_count);
    let numbers = format!(r#","rating":0,"downloadCount":{downloads},"size":{}"#, image.size);
    out.extend_from_slice(numbers.as_bytes());
    write_field(out, "description", record, Field::Description);
    if grain == Grain::Detail {
        write_field(out, "docs", record, Field::Docs);
        write_field(out, "ID", record, Field::Id);
        write_field(out, "arch", record, Field::Arch);
        out.extend_from_slice(br#","tags":"#);
        write_tags(out, visible, image);
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

fn write_tags(out: &mut Vec<u8>, visible: &Visible, image: &ImageHead) {
    out.push(b'[');
    for (i, tag) in visible.tags(&image.repository).iter().enumerate() {
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
    out.extend_from_slice(format!(r#","size":{},"creatTime":"#, image.size).as_bytes());
    match record.field(Field::CreatTime) {
        Some(raw) => out.extend_from_slice(raw),
        None => write_string(out, DEFAULT_CREAT_TIME),
    }
    out.push(b'}');
}

/// Appends `text` as a JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    let plain = text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\');
    if plain {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text).expect("a Vec takes all");
    }
}
