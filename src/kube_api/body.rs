//! Reading a request's body.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::api::decode::{Decoded, MAX_SHOWN, Reading, check_type, parse_json, parse_yaml, read_object};
use crate::api::{API_VERSION, FieldValidation, Kind};
use crate::error::{Error, FieldError};
use crate::registry::{BodyDigest, PATCH_OPERATIONS, Patch};

/// The largest body that is read, in bytes: kube-apiserver's own limit.
pub const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// How long a client may take to send a body, from its first byte.
const BODY_TIME: Duration = Duration::from_mins(1);

/// Reads the whole body.
pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Error> {
    let too_large = || Error::TooLarge(format!("the request's body is larger than {BODY_LIMIT} bytes"));
    let announced = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if announced.is_some_and(|length| length > BODY_LIMIT as u64) {
        return Err(too_large());
    }
    let read = tokio::time::timeout(BODY_TIME, Limited::new(body, BODY_LIMIT).collect()).await;
    match read {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Error::BadRequest("the request's body ended before it was complete".to_owned())),
        Err(_) => Err(Error::BadRequest(format!("the request's body was not complete after {BODY_TIME:?}"))),
    }
}

/// What tells a body from all that are read otherwise.
pub(super) fn digest(headers: &HeaderMap, bytes: &[u8], validation: FieldValidation) -> BodyDigest {
    let media = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let validation = match validation {
        FieldValidation::Ignore => 0,
        FieldValidation::Warn => 1,
        FieldValidation::Strict => 2_u8,
    };
    let mut hash = Sha256::new();
    hash.update([validation]);
    hash.update((media.len() as u64).to_le_bytes());
    hash.update(media);
    hash.update(bytes);
    hash.finalize().into()
}

/// The media type of a body, without parameters; JSON where it isn't said, as for kube.
fn media_type(headers: &HeaderMap, wanted: &[&str]) -> Result<mime::Mime, Error> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(mime::APPLICATION_JSON) };
    let text = value.to_str().unwrap_or_default();
    text.parse().map_err(|_| unsupported(wanted))
}

fn unsupported(wanted: &[&str]) -> Error {
    Error::UnsupportedMediaType(format!(
        "the body of the request was in an unknown format - accepted media types include: {}",
        wanted.join(", "),
    ))
}

/// Parses a body, and says which of its fields are there twice, and whether it was YAML.
fn parse(headers: &HeaderMap, bytes: &[u8]) -> Result<(Value, Vec<String>, bool), Error> {
    const WANTED: [&str; 2] = ["application/json", "application/yaml"];
    let media = media_type(headers, &WANTED)?;
    let yaml = match media.essence_str() {
        "application/json" => false,
        "application/yaml" => true,
        _ => return Err(unsupported(&WANTED)),
    };
    let (value, duplicates) = if yaml { parse_yaml(bytes)? } else { parse_json(bytes)? };
    Ok((value, duplicates, yaml))
}

/// Reads an object of `kind`. Its status counts only where `with_status` says so.
pub(super) fn object(
    kind: Kind,
    headers: &HeaderMap,
    bytes: &[u8],
    validation: FieldValidation,
    with_status: bool,
) -> Result<Decoded, Error> {
    let (value, duplicates, yaml) = parse(headers, bytes)?;
    check_type(kind, &value)?;
    check_type_is_said(kind, &value)?;
    read_object(kind, value, Reading { validation, duplicates: &duplicates, yaml, with_status })
}

/// Whether `value` says what it is: what is sent to be stored must, as for kube.
fn check_type_is_said(kind: Kind, value: &Value) -> Result<(), Error> {
    let said = |field: &str| value.get(field).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    if !said("kind") {
        let message = format!("the object provided is unrecognized (must be of type {kind}): Object 'Kind' is missing");
        return Err(Error::BadRequest(message));
    }
    if !said("apiVersion") {
        return Err(Error::BadRequest(format!(
            "the API version in the data () does not match the expected API version ({API_VERSION})"
        )));
    }
    Ok(())
}

/// Reads a patch. A strategic merge patch is 415, as for a CRD: kube's garbage collector then falls back.
pub(super) fn patch(kind: Kind, name: &str, headers: &HeaderMap, bytes: &[u8]) -> Result<Patch, Error> {
    const WANTED: [&str; 2] = ["application/json-patch+json", "application/merge-patch+json"];
    let media = media_type(headers, &WANTED)?;
    match media.essence_str() {
        "application/json-patch+json" => {
            let (value, _) = parse_json(bytes)?;
            let count = value.as_array().map_or(0, Vec::len);
            if count > PATCH_OPERATIONS {
                return Err(Error::TooLarge(format!(
                    "The allowed maximum operations in a JSON patch is {PATCH_OPERATIONS}, got {count}"
                )));
            }
            if !value.is_array() {
                return Err(Error::BadRequest("the body is no JSON patch (RFC 6902): it must be an array".to_owned()));
            }
            let patch = serde_json::from_value(value).map_err(|e| {
                let shown = String::from_utf8_lossy(bytes).chars().take(MAX_SHOWN).collect::<String>();
                let detail = format!("it is no JSON patch (RFC 6902): {e}");
                Error::field(kind, name, FieldError::invalid("patch", shown, detail))
            })?;
            Ok(Patch::Json(patch))
        }
        "application/merge-patch+json" => {
            let (value, _) = parse_json(bytes)?;
            if !value.is_object() {
                return Err(Error::BadRequest("a merge patch of an object is a JSON object".to_owned()));
            }
            Ok(Patch::Merge(value))
        }
        _ => Err(unsupported(&WANTED)),
    }
}

/// Parses the options of a deletion that come as a body. Kube takes those of any group.
pub(super) fn parse_options(headers: &HeaderMap, bytes: &[u8]) -> Result<Value, Error> {
    const WANTED: &str = "DeleteOptions";
    let (value, _, _) = parse(headers, bytes)?;
    match value.get("kind").and_then(Value::as_str) {
        None | Some("" | WANTED) => Ok(value),
        Some(other) => {
            let other: String = other.chars().take(MAX_SHOWN).collect();
            Err(Error::BadRequest(format!("the body is of the kind {other:?}; it must be {WANTED}")))
        }
    }
}
