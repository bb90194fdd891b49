//! The walk of a value along its schema: what is unknown is dropped and told, what is wrong is told.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Number, Value};

use super::{MAX_REPORTED, Path, shown, type_name};
use crate::api::Kind;
use crate::api::schema::{Node, StringFormat, schema};
use crate::error::{FieldError, FieldReason};

/// Why a float is a whole number up to here and no further: 2^53.
const MAX_EXACT_FLOAT: f64 = 9_007_199_254_740_992.0;

/// What a walk found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conformed {
    /// The paths of fields that the schema does not know, which are gone from the value; at most
    /// [`MAX_REPORTED`].
    pub unknown: Vec<String>,
    /// What is wrong in all but `status`; at most [`MAX_REPORTED`]. If this is empty, the value can be made
    /// an object.
    pub errors: Vec<FieldError>,
    /// What is wrong in `status`, which matters only where status is written.
    pub status_errors: Vec<FieldError>,
}

impl Conformed {
    /// The same for a body that was YAML: where a string was wanted and another scalar was there, the
    /// message says that quotes make it a string.
    #[must_use]
    pub fn for_yaml(mut self) -> Self {
        for error in self.errors.iter_mut().chain(&mut self.status_errors) {
            let scalar = ["integer", "number", "boolean", "null"]
                .iter()
                .any(|t| error.message.ends_with(&format!("must be of type string: \"{t}\"")));
            if error.reason == FieldReason::TypeInvalid && scalar {
                error.message.push_str(" (YAML reads it so; put it in quotes to make it a string)");
            }
        }
        self
    }
}

/// Walks `value` along the schema of a whole object of `kind`: removes unknown fields and nulls (which
/// count as absent), makes whole numbers of floats that are whole, and tells what is wrong in the words
/// that kube has for a CRD.
pub fn conform(kind: Kind, value: &mut Value) -> Conformed {
    let mut walk = Walk { path: Path::default(), found: Conformed::default(), in_status: false, in_metadata: false };
    walk.node(schema(kind), value);
    walk.found
}

struct Walk {
    path: Path,
    found: Conformed,
    in_status: bool,
    in_metadata: bool,
}

impl Walk {
    fn node(&mut self, node: &Node, value: &mut Value) {
        match (node, value) {
            (Node::Any, _) | (Node::Boolean, Value::Bool(_)) | (Node::Number, Value::Number(_)) => {}
            (Node::Object { properties, required }, Value::Object(fields)) => self.object(properties, required, fields),
            (Node::Map(inner), Value::Object(fields)) => {
                fields.retain(|_, value| !value.is_null());
                for (key, value) in fields {
                    let before = self.path.field(key);
                    self.node(inner, value);
                    self.path.back(before);
                }
            }
            (Node::Array(inner), Value::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    let before = self.path.item(index);
                    self.node(inner, item);
                    self.path.back(before);
                }
            }
            (Node::String { format, enum_values }, Value::String(text)) => self.string(*format, enum_values, text),
            (Node::Integer { min, max, format }, Value::Number(number)) => match whole(number) {
                Some(n) if (*min..=*max).contains(&n) => *number = n.into(),
                _ => self.wrong_type(format, "float64"),
            },
            (node, value) => self.wrong_type(wanted(node), type_name(value)),
        }
    }

    fn object(&mut self, properties: &BTreeMap<String, Node>, required: &[String], fields: &mut Map<String, Value>) {
        let top = self.path.0.is_empty();
        fields.retain(|name, value| {
            let known = properties.contains_key(name);
            if !known && self.found.unknown.len() < MAX_REPORTED {
                let before = self.path.field(name);
                self.found.unknown.push(self.path.0.clone());
                self.path.back(before);
            }
            known && !value.is_null()
        });
        for (name, value) in fields.iter_mut() {
            let Some(node) = properties.get(name) else { continue };
            if top {
                self.in_status = name == "status";
                self.in_metadata = name == "metadata";
            }
            let before = self.path.field(name);
            self.node(node, value);
            self.path.back(before);
        }
        if top {
            self.in_status = false;
            self.in_metadata = false;
        }
        for name in required.iter().filter(|name| !fields.contains_key(*name)) {
            let before = self.path.field(name);
            // kube checks metadata by hand, and says more
            let message = if self.in_metadata { "Required value: must not be empty" } else { "Required value" };
            self.error(FieldReason::Required, message.to_owned());
            self.path.back(before);
        }
    }

    fn string(&mut self, format: Option<StringFormat>, enum_values: &[String], text: &str) {
        if format == Some(StringFormat::DateTime) && !is_date_time(text) {
            let text = shown(text);
            let message =
                format!("Invalid value: {text:?}: {} in body must be of type date-time: {text:?}", self.path.0);
            self.error(FieldReason::TypeInvalid, message);
        }
        if !enum_values.is_empty() && !enum_values.iter().any(|v| v == text) {
            let supported: Vec<String> = enum_values.iter().map(|v| format!("{v:?}")).collect();
            let message = format!("Unsupported value: {:?}: supported values: {}", shown(text), supported.join(", "));
            self.error(FieldReason::NotSupported, message);
        }
    }

    fn wrong_type(&mut self, wanted: &str, found: &str) {
        let message = format!("Invalid value: {found:?}: {} in body must be of type {wanted}: {found:?}", self.path.0);
        self.error(FieldReason::TypeInvalid, message);
    }

    fn error(&mut self, reason: FieldReason, message: String) {
        let errors = if self.in_status { &mut self.found.status_errors } else { &mut self.found.errors };
        if errors.len() < MAX_REPORTED {
            // kube's word for the whole object
            let field = if self.path.0.is_empty() { "<nil>" } else { &self.path.0 };
            errors.push(FieldError::new(field, reason, message));
        }
    }
}

fn wanted(node: &Node) -> &'static str {
    match node {
        Node::Object { .. } | Node::Map(_) => "object",
        Node::Array(_) => "array",
        Node::String { .. } => "string",
        Node::Integer { .. } => "integer",
        Node::Number => "number",
        Node::Boolean => "boolean",
        Node::Any => "any",
    }
}

/// The number as a whole one, if it is: `5.0` and `1e3` are, as for kube.
fn whole(number: &Number) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "it is whole, and smaller than i64 can hold")]
    number.as_i64().or_else(|| {
        number.as_f64().filter(|f| number.is_f64() && f.fract() == 0.0 && f.abs() <= MAX_EXACT_FLOAT).map(|f| f as i64)
    })
}

/// RFC 3339 exactly: jiff alone would accept much that other readers of the object do not.
fn is_date_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits =
        |range: std::ops::Range<usize>| bytes.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    let start = digits(0..4) && digits(5..7) && digits(8..10) && digits(11..13) && digits(14..16) && digits(17..19);
    if !start || marks.iter().any(|&(at, mark)| bytes[at] != mark) {
        return false;
    }
    let mut rest = &bytes[19..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        // a nanosecond is the finest that is kept
        if !(1..=9).contains(&length) {
            return false;
        }
        rest = &fraction[length..];
    }
    let zone = match rest {
        b"Z" => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()),
        _ => false,
    };
    zone && text.parse::<Timestamp>().is_ok()
}
