//! From a document's text to what is to be made: parsing, lists, names that follow from others.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::documents::{Format, has_content};
use crate::api::decode::{DecodeError, parse_json, parse_yaml};
use crate::api::{API_VERSION, ImageName, Kind, RepositoryName};
use crate::registry::RESTORE_ANNOTATION;

/// Up to this line faults in YAML and JSON are told with the line of the file; further on, with that of the document.
const MAX_PADDING: u64 = 10_000_000;

/// What a document says is to be there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Manifest {
    pub kind: Kind,
    /// The whole object.
    pub value: Value,
    /// Whether it comes from an export, and is to be what it was.
    pub restore: bool,
}

impl Manifest {
    /// `metadata.name`, or empty.
    pub(super) fn name(&self) -> &str {
        self.value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
    }
}

/// The kind that a document seems to have, without parsing all of it. It decides the phase, nothing else.
pub(super) fn peek(format: Format, text: &[u8]) -> Option<Kind> {
    #[derive(Deserialize)]
    struct Peek<'a> {
        #[serde(borrow)]
        kind: Cow<'a, str>,
    }
    match format {
        Format::Json => serde_json::from_slice::<Peek>(text).ok().and_then(|peek| Kind::from_name(&peek.kind)),
        Format::Yaml => text.split(|b| *b == b'\n').find_map(|line| {
            let word = std::str::from_utf8(line.strip_prefix(b"kind:")?).ok()?;
            Kind::from_name(word.trim())
        }),
    }
}

/// Parses a document that begins on `line` of its file. A fault names the line of the file.
pub(super) fn parse(format: Format, text: &[u8], line: u64) -> Result<Value, String> {
    let parse = |text: &[u8]| match format {
        Format::Yaml => parse_yaml(text),
        Format::Json => parse_json(text),
    };
    let told = |error: DecodeError| {
        let text = error.to_string();
        text.strip_prefix("the body is ").map_or(text.clone(), |rest| format!("it is {rest}"))
    };
    let (value, duplicates) = parse(text).map_err(|error| {
        if line > MAX_PADDING {
            return told(error);
        }
        // Again, where it is in the file: lines are counted by whoever parses.
        let leading = text.split(|b| *b == b'\n').take_while(|line| !has_content(line)).count() as u64;
        let mut padded = vec![b'\n'; usize::try_from((line - 1).saturating_sub(leading)).unwrap_or(0)];
        padded.extend_from_slice(text);
        parse(&padded).map_or_else(told, |_| told(error))
    })?;
    if duplicates.is_empty() {
        return Ok(value);
    }
    Err(duplicates.iter().map(|path| format!("the field {path} is there twice")).collect::<Vec<_>>().join("; "))
}

/// The objects in a parsed document: those of a list, or it itself.
pub(super) fn items(value: Value) -> Vec<Value> {
    let is_list = |fields: &Map<String, Value>| {
        fields.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"))
    };
    match value {
        Value::Object(mut fields) if is_list(&fields) => match fields.remove("items") {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        },
        other => vec![other],
    }
}

/// What `value` says is to be there: named, and without what only a server says.
pub(super) fn manifest(mut value: Value) -> Result<Manifest, String> {
    let Value::Object(fields) = &mut value else {
        return Err("it is no object: want one with apiVersion, kind, metadata and spec".to_owned());
    };
    let text = |field: &str| fields.get(field).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion").to_owned(), text("kind").to_owned());
    let Some(kind) = Kind::from_name(&kind).filter(|_| version == API_VERSION) else {
        return Err(format!(
            "its apiVersion and kind are {version:?} and {kind:?}: want {API_VERSION} and Image, Repository, \
             Organization or DataPack"
        ));
    };
    fields.remove("status");
    let spec_name = fields.get("spec").and_then(|spec| spec["name"].as_str()).unwrap_or_default().to_owned();
    let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(metadata) = metadata else { return Err("metadata: want an object".to_owned()) };
    for of_a_server in ["resourceVersion", "managedFields", "selfLink", "namespace"] {
        metadata.remove(of_a_server);
    }
    let annotations = metadata.get("annotations").and_then(Value::as_object);
    let restore = annotations.is_some_and(|all| all.contains_key(RESTORE_ANNOTATION));
    if !restore {
        for of_a_server in [
            "uid",
            "creationTimestamp",
            "generation",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "ownerReferences",
        ] {
            metadata.remove(of_a_server);
        }
    }
    let named = |field: &str| metadata.get(field).and_then(Value::as_str).is_some_and(|name| !name.is_empty());
    if !named("name") && !named("generateName") {
        let derived = match kind {
            Kind::Image => ImageName::parse(&spec_name).map(|name| name.meta_name()).ok(),
            Kind::Repository => RepositoryName::parse(&spec_name).map(|name| name.meta_name()).ok(),
            Kind::Organization => Some(spec_name),
            Kind::DataPack => None,
        };
        if let Some(name) = derived {
            metadata.insert("name".to_owned(), name.into());
        }
    }
    Ok(Manifest { kind, value, restore })
}

/// What an object that is there becomes by a plain manifest: its spec is that of the manifest, as by `kubectl apply`;
/// labels and annotations of others stay, finalizers and owners unless the manifest has its own.
pub(super) fn merged(existing: &Value, manifest: &Value) -> Value {
    let mut object = manifest.clone();
    let old = &existing["metadata"];
    let new = &mut object["metadata"];
    for map in ["labels", "annotations"] {
        let Some(old) = old[map].as_object() else { continue };
        let mut all = old.clone();
        all.extend(new[map].as_object().cloned().unwrap_or_default());
        new[map] = Value::Object(all);
    }
    for list in ["finalizers", "ownerReferences"] {
        if new.get(list).is_none_or(Value::is_null) && !old[list].is_null() {
            new[list] = old[list].clone();
        }
    }
    new["resourceVersion"] = old["resourceVersion"].clone();
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_phase_is_seen_without_parsing() {
        for (format, text, kind) in [
            (Format::Yaml, "apiVersion: x\nkind: Image\nspec: {}\n", Some(Kind::Image)),
            (Format::Yaml, "kind: Organization\r\n", Some(Kind::Organization)),
            (Format::Yaml, "kind: List\nitems:\n- kind: Image\n", None),
            (Format::Yaml, "{kind: Image}", None),
            (Format::Json, "{\"a\":[1,{\"kind\":\"x\"}],\"kind\":\"DataPack\"}", Some(Kind::DataPack)),
            (Format::Json, "{\"kind\":", None),
        ] {
            assert_eq!(peek(format, text.as_bytes()), kind, "{text}");
        }
    }

    #[test]
    fn a_fault_names_the_line_of_the_file() {
        let error = parse(Format::Yaml, b"---\na: 1\nb: c: d\n", 100).unwrap_err();
        assert!(error.starts_with("it is not valid YAML: ") && error.contains("line 101"), "{error}");
        let error = parse(Format::Json, b"{\n\"a\": x\n}", 100).unwrap_err();
        assert!(error.contains("line 101"), "{error}");
        assert_eq!(parse(Format::Yaml, b"a: 1\na: 2", 1).unwrap_err(), "the field a is there twice");
        assert!(parse(Format::Yaml, b"a: \tb\n\tc: 1", 7).is_err());
    }

    #[test]
    fn names_follow_from_names_and_what_a_server_says_is_left_out() {
        let value = json!({
            "apiVersion": API_VERSION, "kind": "Image", "status": {},
            "metadata": { "uid": "u", "resourceVersion": "7", "namespace": "default", "labels": { "a": "b" } },
            "spec": { "name": "labring/nginx:1.29.1" },
        });
        let made = manifest(value.clone()).unwrap();
        assert!(!made.restore);
        assert_eq!(made.value["metadata"], json!({ "name": "labring.nginx.1.29.1", "labels": { "a": "b" } }));
        assert_eq!(made.value.get("status"), None);
        let mut value = value;
        value["metadata"]["annotations"] = json!({ RESTORE_ANNOTATION: "{}" });
        let made = manifest(value).unwrap();
        assert!(made.restore);
        assert_eq!(made.value["metadata"]["uid"], "u");
        for other in [json!(1), json!({}), json!({ "apiVersion": "v1", "kind": "Image" })] {
            assert!(manifest(other).is_err());
        }
    }

    #[test]
    fn an_update_keeps_what_others_have_put_beside_it() {
        let existing = json!({ "metadata": {
            "name": "a", "resourceVersion": "5", "labels": { "a": "1", "b": "1" }, "finalizers": ["x/y"], "uid": "u",
        }, "spec": { "old": 1 }, "status": {} });
        let manifest = json!({ "metadata": { "name": "a", "labels": { "b": "2" } }, "spec": { "new": 1 } });
        assert_eq!(
            merged(&existing, &manifest),
            json!({
                "metadata": {
                    "name": "a", "resourceVersion": "5", "labels": { "a": "1", "b": "2" }, "finalizers": ["x/y"],
                },
                "spec": { "new": 1 },
            })
        );
    }
}
