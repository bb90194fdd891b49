//! From the bytes of a request's body to an object, in pure steps: [`parse_json`] or [`parse_yaml`],
//! then [`read_object`], which is [`check_type`], [`conform`], [`unknown_fields_outcome`] and [`into_object`]. No input makes any of
//! them panic, or take memory out of proportion to the input. The words are those of kube-apiserver for a
//! CRD of the same schema, as far as clients see them.

mod conform;
mod parse;

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

pub use conform::{Conformed, conform};
pub use parse::{parse_json, parse_yaml};

use super::{API_VERSION, Kind, Object, Spec, VERSION};
use crate::error::{Error, FieldError, FieldReason};

/// How deep lists and maps may be nested. The deepest object of ours has 8 levels (managed fields a few
/// more); `serde_json`'s own limit is 128.
pub const MAX_DEPTH: usize = 64;
/// How many values a body may hold: lists, maps and scalars together.
pub const MAX_NODES: usize = 250_000;
/// How many unknown fields, duplicate fields and wrong fields are told, each; the rest are dropped, or
/// refused, all the same.
pub const MAX_REPORTED: usize = 100;
/// How much of a key or value is repeated in a message, in characters.
pub const MAX_SHOWN: usize = 128;
/// How much text all warnings together may have, in bytes. kube-apiserver cuts at the same
/// (`truncateAtTotalRunes` of its warning recorder): headers have limits everywhere on the way.
pub const MAX_WARNING_TEXT: usize = 4096;

/// A body that is no document: always 400.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError(String);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DecodeError {}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::BadRequest(error.0)
    }
}

/// Checks that `value` is an object that says it is a `kind` of our version, or doesn't say.
///
/// # Errors
/// 400 where it is no object or of another `apiVersion`; 422 where it is of another `kind`, as for a CRD.
pub fn check_type(kind: Kind, value: &Value) -> Result<(), Error> {
    let Value::Object(object) = value else {
        return Err(Error::BadRequest(format!(
            "the object provided is unrecognized (must be of type {kind}): it must be an object, but is of type {}",
            type_name(value)
        )));
    };
    match object.get("apiVersion") {
        None | Some(Value::Null) => {}
        Some(Value::String(version)) if version == API_VERSION => {}
        Some(Value::String(version)) => {
            return Err(Error::BadRequest(format!(
                "the API version in the data ({}) does not match the expected API version ({API_VERSION})",
                shown(version)
            )));
        }
        Some(other) => return Err(not_a_string(kind, "apiVersion", other)),
    }
    match object.get("kind") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(word)) if word == kind.name() => Ok(()),
        Some(Value::String(word)) => {
            let name = object.get("metadata").and_then(|m| m["name"].as_str()).unwrap_or_default();
            let wrong = FieldError::invalid("kind", shown(word), format_args!("must be {kind}"));
            Err(Error::field(kind, shown(name), wrong))
        }
        Some(other) => Err(not_a_string(kind, "kind", other)),
    }
}

fn not_a_string(kind: Kind, field: &str, value: &Value) -> Error {
    Error::BadRequest(format!(
        "the object provided is unrecognized (must be of type {kind}): {field} must be a string, but is of type {}",
        type_name(value)
    ))
}

/// Makes an object of a value that [`conform`] has passed, and hands `status` back apart. The metadata is
/// as it came, `resourceVersion`, `namespace` and managed fields included: the verbs judge them.
///
/// # Errors
/// Those of [`check_type`]; 400 for a value that doesn't conform.
pub fn into_object(kind: Kind, value: Value) -> Result<(Object, Option<Value>), Error> {
    check_type(kind, &value)?;
    let mut fields = match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let mut part = |name: &str| fields.remove(name).filter(|v| !v.is_null());
    let refused = |e: serde_json::Error| {
        Error::BadRequest(format!(
            "{kind} in version \"{VERSION}\" cannot be handled as a {kind}: {}",
            shown(&e.to_string())
        ))
    };
    let metadata: ObjectMeta =
        part("metadata").map(serde_json::from_value).transpose().map_err(refused)?.unwrap_or_default();
    let spec = part("spec").unwrap_or_else(|| Value::Object(Map::new()));
    let spec = Spec::from_value(kind, spec).map_err(refused)?;
    Ok((Object { metadata, spec }, part("status")))
}

/// How a manifest is to be read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading<'a> {
    /// What is done about fields that are unknown, or there twice.
    pub validation: FieldValidation,
    /// The fields that were there twice, as the parser says.
    pub duplicates: &'a [String],
    /// Whether it was YAML.
    pub yaml: bool,
    /// Whether faults of its status count.
    pub with_status: bool,
}

/// An object that was read, and what was said to it.
#[derive(Debug)]
pub struct Decoded {
    /// The object.
    pub object: Object,
    /// Its status, where it had one.
    pub status: Option<Value>,
    /// What was dropped.
    pub warnings: Vec<String>,
}

/// From a parsed manifest to an object of `kind`: all the steps after the parser, whatever door it came through.
///
/// # Errors
/// Those of [`check_type`], [`unknown_fields_outcome`] and [`into_object`]; Invalid with all that doesn't conform.
pub fn read_object(kind: Kind, mut value: Value, reading: Reading<'_>) -> Result<Decoded, Error> {
    check_type(kind, &value)?;
    let mut conformed = conform(kind, &mut value);
    if reading.yaml {
        conformed = conformed.for_yaml();
    }
    let warnings = unknown_fields_outcome(kind, reading.validation, &conformed.unknown, reading.duplicates)?;
    let mut fields = conformed.errors;
    if reading.with_status {
        fields.extend(conformed.status_errors);
    }
    if !fields.is_empty() {
        let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        return Err(Error::Invalid { kind, name: name.to_owned(), fields });
    }
    let (object, status) = into_object(kind, value)?;
    Ok(Decoded { object, status, warnings })
}

/// What a caller wants done about unknown and duplicate fields: the query parameter `fieldValidation`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them and warn.
    #[default]
    Warn,
    /// Refuse them.
    Strict,
}

impl FieldValidation {
    /// Reads the query parameter; absent or empty is [`Warn`](Self::Warn).
    ///
    /// # Errors
    /// The field error that kube puts into a 422 about `CreateOptions`, `UpdateOptions` or `PatchOptions`.
    pub fn parse(parameter: Option<&str>) -> Result<Self, FieldError> {
        match parameter.unwrap_or_default() {
            "" | "Warn" => Ok(Self::Warn),
            "Ignore" => Ok(Self::Ignore),
            "Strict" => Ok(Self::Strict),
            other => Err(FieldError::new(
                "fieldValidation",
                FieldReason::NotSupported,
                format!(
                    "Unsupported value: {:?}: supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
                    shown(other)
                ),
            )),
        }
    }
}

/// The warnings for fields that were dropped, duplicates first as kube has them.
///
/// # Errors
/// 400 where `validation` is strict and there are any.
pub fn unknown_fields_outcome(
    kind: Kind,
    validation: FieldValidation,
    unknown: &[String],
    duplicates: &[String],
) -> Result<Vec<String>, Error> {
    if validation == FieldValidation::Ignore {
        return Ok(Vec::new());
    }
    let mut unknown: Vec<&String> = unknown.iter().collect();
    unknown.sort();
    let all = duplicates
        .iter()
        .map(|path| format!("duplicate field {path:?}"))
        .chain(unknown.into_iter().map(|path| format!("unknown field {path:?}")));
    let mut room = MAX_WARNING_TEXT;
    let told: Vec<String> = all
        .take_while(|text| {
            let fits = text.len() <= room;
            room = room.saturating_sub(text.len());
            fits
        })
        .collect();
    if validation == FieldValidation::Strict && !told.is_empty() {
        return Err(Error::BadRequest(format!(
            "{kind} in version \"{VERSION}\" cannot be handled as a {kind}: strict decoding error: {}",
            told.join(", ")
        )));
    }
    Ok(told)
}

/// The JSON type of a value, in kube's words.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// As much of a text as a message repeats.
fn shown(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// A path as kube writes it: `spec.names[0].x`. It is kept while walking and cut back on the way out.
#[derive(Debug, Default)]
struct Path(String);

impl Path {
    /// Goes into a field; the answer is for [`back`](Self::back).
    fn field(&mut self, name: &str) -> usize {
        let before = self.0.len();
        if before > 0 {
            self.0.push('.');
        }
        match name.char_indices().nth(MAX_SHOWN) {
            Some((end, _)) => {
                self.0.push_str(&name[..end]);
                self.0.push_str("...");
            }
            None => self.0.push_str(name),
        }
        before
    }

    /// Goes into an item; the answer is for [`back`](Self::back).
    fn item(&mut self, index: usize) -> usize {
        let before = self.0.len();
        self.0.push('[');
        self.0.push_str(&index.to_string());
        self.0.push(']');
        before
    }

    fn back(&mut self, before: usize) {
        self.0.truncate(before);
    }
}

#[cfg(test)]
mod tests;
