//! The schema of a whole object, resolved once from the api types: what [`decode`](super::decode)
//! walks, and what the OpenAPI documents are rendered from. There is one source, the Rust types, so
//! that what is documented and what is accepted can't drift apart.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{
    DEFAULT_CREAT_TIME, DataPackSpec, DataPackStatus, Grain, ImageSpec, Kind, OrganizationSpec, OrganizationStatus,
    RepositorySpec, RepositoryStatus,
};

/// What a value must be. All references are resolved; no schema of ours is recursive.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// An object with these fields and no others.
    Object {
        /// The fields.
        properties: BTreeMap<String, Node>,
        /// The fields that must be there, sorted.
        required: Vec<String>,
    },
    /// An object with any keys, each value of this form.
    Map(Box<Node>),
    /// A list with items of this form.
    Array(Box<Node>),
    /// A string.
    String {
        /// What it must look like.
        format: Option<StringFormat>,
        /// The only values it may have, sorted; empty if it may have any.
        enum_values: Vec<String>,
    },
    /// A whole number.
    Integer {
        /// The smallest that its format holds.
        min: i64,
        /// The largest that its format holds.
        max: i64,
        /// The name of the format: int32 or int64.
        format: &'static str,
    },
    /// Any number.
    Number,
    /// true or false.
    Boolean,
    /// Anything, kept as it is (`fieldsV1` of managed fields).
    Any,
}

/// What a string must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StringFormat {
    /// RFC 3339.
    DateTime,
}

/// The schema of a whole object of this kind: `apiVersion`, `kind`, `metadata`, `spec` and, where
/// the kind has one, `status`. `spec` is required where a field of it is.
#[must_use]
pub fn schema(kind: Kind) -> &'static Node {
    static ALL: OnceLock<[Node; 4]> = OnceLock::new();
    &ALL.get_or_init(|| Kind::ALL.map(whole))[kind as usize]
}

fn whole(kind: Kind) -> Node {
    let string = || Node::String { format: None, enum_values: Vec::new() };
    let spec = resolve(&spec_schema(kind));
    let required = match &spec {
        Node::Object { required, .. } if !required.is_empty() => vec!["spec".to_owned()],
        _ => Vec::new(),
    };
    let mut properties = BTreeMap::from([
        ("apiVersion".to_owned(), string()),
        ("kind".to_owned(), string()),
        ("metadata".to_owned(), resolve(&structural::<ObjectMeta>())),
        ("spec".to_owned(), spec),
    ]);
    if let Some(status) = status_schema(kind) {
        properties.insert("status".to_owned(), resolve(&status));
    }
    Node::Object { properties, required }
}

/// The JSON schema of `spec`, in the structural form that kube wants of a CRD: one type each, no
/// references, lists atomic, defaults documented.
///
/// # Panics
/// Never: every documented default names a field that exists, which a test checks.
#[must_use]
pub fn spec_schema(kind: Kind) -> Value {
    let mut schema = match kind {
        Kind::Image => structural::<ImageSpec>(),
        Kind::Repository => structural::<RepositorySpec>(),
        Kind::Organization => structural::<OrganizationSpec>(),
        Kind::DataPack => structural::<DataPackSpec>(),
    };
    for (pointer, default) in defaults(kind) {
        if let Some(field) = schema.pointer_mut(pointer) {
            field["default"] = default;
        }
    }
    schema
}

/// The JSON schema of `status` in the same form, where the kind has one.
#[must_use]
pub fn status_schema(kind: Kind) -> Option<Value> {
    match kind {
        Kind::Image => None,
        Kind::Repository => Some(structural::<RepositoryStatus>()),
        Kind::Organization => Some(structural::<OrganizationStatus>()),
        Kind::DataPack => Some(structural::<DataPackStatus>()),
    }
}

/// The defaults that are documented, by JSON pointer into [`spec_schema`]. They are the old CRDs' own.
fn defaults(kind: Kind) -> Vec<(&'static str, Value)> {
    match kind {
        Kind::Image => vec![
            ("/properties/detail/properties/size", json!(0)),
            ("/properties/detail/properties/creatTime", json!(DEFAULT_CREAT_TIME)),
        ],
        Kind::Repository => vec![("/properties/isPrivate", json!(false))],
        Kind::Organization => Vec::new(),
        Kind::DataPack => {
            vec![("/properties/type", json!(Grain::default().as_str())), ("/properties/expireTime", json!("2h"))]
        }
    }
}

fn structural<T: JsonSchema>() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.meta_schema = None;
            settings.inline_subschemas = true;
        })
        .into_generator();
    let mut schema = generator.root_schema_for::<T>().to_value();
    normalise(&mut schema);
    schema
}

/// JSON schema as schemars writes it, into the structural form: `null` is not a type (an absent field
/// is absent), an enum is one list, a wrapper around one schema is that schema.
fn normalise(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    for keyword in ["$schema", "title", "default"] {
        map.remove(keyword);
    }
    for wrapper in ["anyOf", "allOf"] {
        let Some(Value::Array(options)) = map.remove(wrapper) else { continue };
        for option in options.into_iter().filter(|o| o["type"] != "null") {
            merge_missing(map, option);
        }
    }
    if let Some(Value::Array(types)) = map.get("type") {
        let kept = types.iter().find(|t| *t != "null").cloned().unwrap_or(Value::Null);
        map.insert("type".to_owned(), kept);
    }
    if let Some(Value::Array(variants)) = map.remove("oneOf") {
        let words = variants.into_iter().flat_map(|mut variant| match variant["enum"].take() {
            Value::Array(words) => words,
            _ => vec![variant["const"].take()],
        });
        map.insert("enum".to_owned(), words.collect());
        map.insert("type".to_owned(), json!("string"));
    }
    if let Some(Value::Array(words)) = map.get_mut("enum") {
        words.retain(|w| !w.is_null());
        words.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    }
    if map.get("type").is_some_and(|t| t == "array") {
        map.insert("x-kubernetes-list-type".to_owned(), json!("atomic"));
    }
    if let Some(Value::Array(required)) = map.get_mut("required") {
        required.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(normalise);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(inner) {
            normalise(inner);
        }
    }
}

fn merge_missing(map: &mut Map<String, Value>, other: Value) {
    if let Value::Object(other) = other {
        for (key, value) in other {
            map.entry(key).or_insert(value);
        }
    }
}

fn resolve(schema: &Value) -> Node {
    match schema["type"].as_str() {
        Some("string") => Node::String {
            format: (schema["format"] == "date-time").then_some(StringFormat::DateTime),
            enum_values: words(&schema["enum"]),
        },
        Some("integer") if schema["format"] == "int32" => {
            Node::Integer { min: i32::MIN.into(), max: i32::MAX.into(), format: "int32" }
        }
        Some("integer") => Node::Integer { min: i64::MIN, max: i64::MAX, format: "int64" },
        Some("number") => Node::Number,
        Some("boolean") => Node::Boolean,
        Some("array") => Node::Array(Box::new(resolve(&schema["items"]))),
        Some("object") => match (&schema["properties"], &schema["additionalProperties"]) {
            (Value::Object(properties), _) => Node::Object {
                properties: properties.iter().map(|(name, field)| (name.clone(), resolve(field))).collect(),
                required: words(&schema["required"]),
            },
            (_, values @ Value::Object(_)) => Node::Map(Box::new(resolve(values))),
            _ => Node::Any,
        },
        _ => Node::Any,
    }
}

fn words(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(kind: Kind, path: &[&str]) -> &'static Node {
        path.iter().fold(schema(kind), |node, step| match node {
            Node::Object { properties, .. } => &properties[*step],
            Node::Map(inner) | Node::Array(inner) => inner,
            other => panic!("{step} of {other:?}"),
        })
    }

    #[test]
    fn every_field_of_every_kind_has_a_type() {
        fn look(node: &Node, path: &str) {
            match node {
                Node::Object { properties, required } => {
                    assert!(required.iter().all(|r| properties.contains_key(r)), "{path}");
                    for (name, node) in properties {
                        look(node, &format!("{path}.{name}"));
                    }
                }
                Node::Map(inner) | Node::Array(inner) => look(inner, path),
                Node::Any => assert!(path.ends_with(".metadata.managedFields.fieldsV1"), "{path} could be anything"),
                _ => {}
            }
        }
        for kind in Kind::ALL {
            look(schema(kind), kind.name());
        }
    }

    #[test]
    fn the_resolved_schema_says_what_the_types_say() {
        let grain = Node::String { format: None, enum_values: ["base", "detail", "grid"].map(str::to_owned).to_vec() };
        assert_eq!(at(Kind::DataPack, &["spec", "type"]), &grain);
        assert!(matches!(at(Kind::Image, &["spec", "detail", "size"]), Node::Integer { format: "int64", .. }));
        assert!(matches!(at(Kind::DataPack, &["status", "codes"]), Node::Integer { max: 2_147_483_647, .. }));
        assert_eq!(
            at(Kind::Image, &["spec", "detail", "creatTime"]),
            &Node::String { format: Some(StringFormat::DateTime), enum_values: Vec::new() }
        );
        assert!(matches!(at(Kind::Image, &["spec", "detail", "actions", "k", "cmd"]), Node::String { .. }));
        assert!(matches!(at(Kind::Image, &["metadata", "ownerReferences", "0", "controller"]), Node::Boolean));
        let Node::Object { required, properties } = schema(Kind::Image) else { panic!() };
        assert_eq!(required, &["spec"]);
        assert!(!properties.contains_key("status"));
        let Node::Object { required, .. } = schema(Kind::DataPack) else { panic!() };
        assert!(required.is_empty());
    }

    #[test]
    fn every_documented_default_is_that_of_a_field() {
        for kind in Kind::ALL {
            for (pointer, default) in defaults(kind) {
                assert_eq!(spec_schema(kind).pointer(pointer).map(|f| &f["default"]), Some(&default), "{pointer}");
            }
        }
    }

    #[test]
    fn the_json_form_is_structural() {
        fn look(schema: &Value) {
            let map = schema.as_object().expect("a schema is an object");
            assert!(map["type"].is_string(), "{schema}");
            for keyword in map.keys() {
                let known = [
                    "type",
                    "description",
                    "format",
                    "enum",
                    "default",
                    "properties",
                    "required",
                    "items",
                    "additionalProperties",
                    "x-kubernetes-list-type",
                ];
                assert!(known.contains(&keyword.as_str()), "{keyword} in {schema}");
            }
            map.get("properties").and_then(Value::as_object).into_iter().flatten().for_each(|(_, s)| look(s));
            ["items", "additionalProperties"].iter().filter_map(|k| map.get(*k)).for_each(look);
        }
        for kind in Kind::ALL {
            look(&spec_schema(kind));
            status_schema(kind).iter().for_each(look);
        }
    }
}
