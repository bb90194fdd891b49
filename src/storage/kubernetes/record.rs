//! The form of a Record: how a commit is written into one, and what is read out of one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::condition;
use super::crd::{GROUP, VERSION};
use crate::api::Kind;
use crate::api::name::hex;
use crate::storage::{Key, Revision};

/// The longest name that the host gives an object.
const LONGEST_NAME: usize = 253;
/// Bytes that a record may take in the host's store. etcd refuses requests over 1.5 MiB by default, with all that is
/// around the record: names, the host's metadata, the transaction.
pub const VALUE_LIMIT: usize = 1536 * 1024 - 16 * 1024;
/// What the kind of a nonce is called. No kind of the catalogue is.
pub(super) const NONCE: &str = "Nonce";
/// What the name of a nonce begins with. No plural name of a kind is it.
pub(super) const NONCE_PREFIX: &str = "nonce.";

/// The name of the Record of `key`: `<plural>.<name>`, or, where that can't be the name of an object,
/// `<plural>-h.<SHA-256 of the name>`. The part before the first dot tells the two apart, and kinds from each other.
pub(super) fn name_of(key: &Key) -> String {
    let plural = key.kind.plural();
    let plain = format!("{plural}.{}", key.name);
    if plain.len() <= LONGEST_NAME && is_subdomain(&key.name) {
        return plain;
    }
    format!("{plural}-h.{}", hex(&Sha256::digest(key.name.as_bytes())))
}

/// Whether it is a name that the host takes: labels of `[a-z0-9-]` with dots between them.
fn is_subdomain(name: &str) -> bool {
    name.split('.').all(|label| {
        let inner = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    })
}

/// What is written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    api_version: String,
    kind: &'static str,
    metadata: WrittenMetadata<'a>,
    spec: WrittenSpec<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMetadata<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<String>,
}

#[derive(Debug, Serialize)]
struct WrittenSpec<'a> {
    kind: &'a str,
    name: &'a str,
    at: i64,
    mark: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
}

/// The body of a request that creates the Record `object`, or replaces the one at `replaces`.
///
/// # Errors
/// How many bytes the record would take in the host's store, where that is more than [`VALUE_LIMIT`].
pub(super) fn body_of(
    object: &str,
    key: &Key,
    value: &Bytes,
    at: i64,
    mark: Uuid,
    replaces: Option<Revision>,
) -> Result<Vec<u8>, usize> {
    let text = std::str::from_utf8(value).ok().filter(|text| length_as_text(text) <= VALUE_LIMIT);
    let bytes = if text.is_none() { Some(BASE64.encode(value)) } else { None };
    if let Some(bytes) = &bytes
        && bytes.len() > VALUE_LIMIT
    {
        return Err(bytes.len());
    }
    Ok(body(object, replaces, WrittenSpec { kind: key.kind.name(), name: &key.name, at, mark, value: text, bytes }))
}

/// The body of a request that writes the nonce `object` with the number `count` of the process `session`.
pub(super) fn nonce_body(object: &str, count: u64, at: i64, session: Uuid, replaces: Option<Revision>) -> Vec<u8> {
    let count = count.to_string();
    body(
        object,
        replaces,
        WrittenSpec { kind: NONCE, name: object, at, mark: session, value: Some(&count), bytes: None },
    )
}

fn body(name: &str, replaces: Option<Revision>, spec: WrittenSpec<'_>) -> Vec<u8> {
    let metadata = WrittenMetadata { name, resource_version: replaces.map(|revision| revision.to_string()) };
    let written = Written { api_version: format!("{GROUP}/{VERSION}"), kind: "Record", metadata, spec };
    serde_json::to_vec(&written).expect("strings and numbers are JSON")
}

/// How many bytes the host keeps a text in. It writes `<`, `>`, `&` and the line separators of Unicode as escapes, too.
fn length_as_text(text: &str) -> usize {
    text.chars()
        .map(|c| match c {
            '"' | '\\' | '\n' | '\r' | '\t' => 2,
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => 6,
            c => c.len_utf8(),
        })
        .sum()
}

/// An object as the host gives it: what of it concerns us.
#[derive(Debug, Deserialize)]
pub(super) struct Item<'a> {
    pub metadata: Metadata,
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub uid: String,
    #[serde(default)]
    resource_version: String,
}

impl Metadata {
    /// The revision. The host's versions are integers that can be compared, as of Kubernetes 1.35 by promise.
    pub(super) fn revision(&self) -> Result<Revision, String> {
        match self.resource_version.parse() {
            Ok(revision @ 1..) => Ok(Revision(revision)),
            _ => Err(format!("resourceVersion {:?} is no positive integer", self.resource_version)),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Spec {
    kind: String,
    name: String,
    at: i64,
    mark: Option<Uuid>,
    value: Option<String>,
    bytes: Option<String>,
}

/// What is in a Record.
#[derive(Debug)]
pub(super) enum Content {
    /// A record of the catalogue.
    Record { key: Key, at: i64, mark: Option<Uuid>, value: Bytes },
    /// A nonce of the process `session`.
    Nonce { at: i64, session: Option<Uuid>, count: u64 },
    /// Nothing that we have written, and why.
    Damaged(String),
}

/// Says why a record can't be what we have written, where it can't.
pub type Check = std::sync::Arc<dyn Fn(&Key, &Bytes) -> Result<(), String> + Send + Sync>;

impl Item<'_> {
    /// What is in it. Whatever it is, the rest of the store is read on.
    pub(super) fn content(&self, check: &Check) -> Content {
        self.read(check).unwrap_or_else(Content::Damaged)
    }

    /// What it is told to be damaged by, if it is.
    pub(super) fn told(&self) -> Option<String> {
        condition::told(self.status?.get())
    }

    fn read(&self, check: &Check) -> Result<Content, String> {
        let raw = self.spec.ok_or("it has no spec")?;
        let spec: Spec = serde_json::from_str(raw.get()).map_err(|error| format!("its spec can't be read: {error}"))?;
        if spec.kind == NONCE {
            if !self.metadata.name.starts_with(NONCE_PREFIX) {
                return Err(format!("it is a nonce whose name doesn't begin with {NONCE_PREFIX:?}"));
            }
            let count = spec.value.and_then(|value| value.parse().ok()).unwrap_or(0);
            return Ok(Content::Nonce { at: spec.at, session: spec.mark, count });
        }
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == spec.kind);
        let kind = kind.ok_or_else(|| format!("spec.kind {:?} is none of ours", spec.kind))?;
        let key = Key::new(kind, spec.name);
        let name = name_of(&key);
        if name != self.metadata.name {
            return Err(format!("the Record of the {kind} {:?} must have the name {name:?}", key.name));
        }
        let value = match (spec.value, spec.bytes) {
            (Some(text), None) => Bytes::from(text),
            (None, Some(encoded)) => {
                Bytes::from(BASE64.decode(encoded).map_err(|error| format!("spec.bytes is no base64: {error}"))?)
            }
            _ => return Err("it must have one of spec.value and spec.bytes".to_owned()),
        };
        check(&key, &value)?;
        Ok(Content::Record { key, at: spec.at, mark: spec.mark, value })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn anything() -> Check {
        Arc::new(|_, _| Ok(()))
    }

    fn as_the_host_gives(body: &[u8]) -> String {
        let mut object: Value = serde_json::from_slice(body).unwrap();
        object["metadata"]["uid"] = json!("u");
        object["metadata"]["resourceVersion"] = json!("7");
        object.to_string()
    }

    fn content(text: &str) -> Content {
        serde_json::from_str::<Item<'_>>(text).unwrap().content(&anything())
    }

    #[test]
    fn a_name_is_kept_where_it_can_be_and_hashed_where_not() {
        assert_eq!(name_of(&Key::new(Kind::Image, "a.b.v1")), "images.a.b.v1");
        let longest = "a".repeat(253 - "images.".len());
        assert_eq!(name_of(&Key::new(Kind::Image, &*longest)).len(), 253);
        for other in [format!("{longest}a"), "A".to_owned(), "a..b".to_owned(), "-a".to_owned(), String::new()] {
            let name = name_of(&Key::new(Kind::Image, other));
            assert!(name.starts_with("images-h.") && name.len() == 9 + 64, "{name}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read(name in "[a-z0-9.-]{0,300}|\\PC{0,30}", value: Vec<u8>, at: i64, kind in 0..4_usize) {
            let key = Key::new(Kind::ALL[kind], name);
            let (object, mark) = (name_of(&key), Uuid::new_v4());
            prop_assert!(object.len() <= LONGEST_NAME && is_subdomain(&object.replace("-h.", ".")));
            let body = body_of(&object, &key, &value.clone().into(), at, mark, None).unwrap();
            match content(&as_the_host_gives(&body)) {
                Content::Record { key: k, at: t, mark: m, value: v } => {
                    prop_assert_eq!((k, t, m, v), (key, at, Some(mark), Bytes::from(value)));
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn text_that_would_be_too_long_escaped_is_kept_in_base64_and_what_still_is_is_refused() {
        let key = Key::new(Kind::Image, "a");
        let write = |value: Vec<u8>| body_of("images.a", &key, &value.into(), 0, Uuid::nil(), None);
        let spec = |body: Vec<u8>| serde_json::from_slice::<Value>(&body).unwrap()["spec"].clone();
        assert!(spec(write(vec![b'a'; 1 << 20]).unwrap())["value"].is_string());
        assert!(spec(write(vec![b'<'; 1 << 20]).unwrap())["bytes"].is_string());
        let refused = write(vec![b'a'; VALUE_LIMIT + 1]).unwrap_err();
        assert!(refused > VALUE_LIMIT);
    }

    #[test]
    fn nonsense_is_told_by_what_is_wrong_with_it() {
        let record = |name: &str, spec: Value| json!({ "metadata": { "name": name }, "spec": spec }).to_string();
        for (text, why) in [
            (json!({ "metadata": { "name": "images.a" } }).to_string(), "no spec"),
            (record("images.a", json!({ "kind": "Image" })), "can't be read"),
            (record("images.a", json!({ "kind": "Pod", "name": "a", "at": 1, "value": "" })), "none of ours"),
            (record("images.b", json!({ "kind": "Image", "name": "a", "at": 1, "value": "" })), "images.a"),
            (record("images.a", json!({ "kind": "Image", "name": "a", "at": 1 })), "one of"),
            (record("images.a", json!({ "kind": "Image", "name": "a", "at": 1, "bytes": "*" })), "base64"),
            (record("images.a", json!({ "kind": "Nonce", "name": "a", "at": 1, "value": "1" })), "nonce"),
        ] {
            match content(&text) {
                Content::Damaged(said) => assert!(said.contains(why), "{said:?} should say {why:?}"),
                other => panic!("{other:?} from {text}"),
            }
        }
    }
}
