//! Changing a part of an object.

use json_patch::jsonptr::PointerBuf;
use json_patch::{PatchOperation, merge};
use serde_json::Value;

use super::update::Proposed;
use super::{Registry, WriteOptions, Written};
use crate::api::{FieldValidation, Kind, conform, into_object, unknown_fields_outcome};
use crate::auth::{Caller, Verb};
use crate::error::{Error, FieldError};

/// The most operations of a JSON patch, as kube-apiserver has it.
pub const PATCH_OPERATIONS: usize = 10_000;

/// What the `copy` operations of a JSON patch may copy altogether, in bytes of JSON: doubling a value
/// thirty times makes a gigabyte of it.
pub const PATCH_COPIES: usize = 3 * 1024 * 1024;

/// How many elements of arrays a JSON patch may move altogether. Each that is put in or taken out at the front moves
/// all behind it: ten thousand such operations on an array as long as an object can have take half a minute.
pub const PATCH_MOVES: usize = 10_000_000;

/// A change of a part of an object.
#[derive(Debug, Clone)]
pub enum Patch {
    /// RFC 6902.
    Json(json_patch::Patch),
    /// RFC 7386.
    Merge(Value),
}

impl Registry {
    /// Changes a part of an object as the caller sees it. What the patch does to the status is not kept.
    ///
    /// # Errors
    /// As an update's; Invalid where a JSON patch can't be applied.
    pub async fn patch(
        &self,
        caller: &Caller,
        kind: Kind,
        name: &str,
        patch: &Patch,
        validation: FieldValidation,
        options: WriteOptions,
    ) -> Result<Written, Error> {
        self.authorize(caller, Verb::Patch, kind, "", name)?;
        self.change(caller, kind, name, options, |reader, record| {
            let mut value: Value = serde_json::from_slice(&reader.object(record)).map_err(Error::internal)?;
            patch.apply(kind, name, &mut value)?;
            let conformed = conform(kind, &mut value);
            let warnings = unknown_fields_outcome(kind, validation, &conformed.unknown, &[])?;
            if !conformed.errors.is_empty() {
                return Err(Error::Invalid { kind, name: name.to_owned(), fields: conformed.errors });
            }
            let (object, _status) = into_object(kind, value)?;
            Ok(Proposed { object, keep_empty: options.reapplies, version_required: false, warnings })
        })
        .await
    }
}

impl Patch {
    /// Applies the patch to `value`, the object `name`.
    ///
    /// # Errors
    /// Invalid where an operation can't be applied; `TooLarge` where it copies too much.
    pub fn apply(&self, kind: Kind, name: &str, value: &mut Value) -> Result<(), Error> {
        match self {
            Self::Merge(patch) => merge(value, patch),
            Self::Json(patch) => {
                let (mut copied, mut moved) = (0, 0_usize);
                for (i, operation) in patch.0.iter().enumerate() {
                    if let PatchOperation::Copy(copy) = operation
                        && let Ok(source) = copy.from.resolve(value)
                    {
                        copied += serde_json::to_string(source).map_or(0, |text| text.len());
                        if copied > PATCH_COPIES {
                            return Err(Error::TooLarge(format!(
                                "the patch's copy operations copy more than {PATCH_COPIES} bytes"
                            )));
                        }
                    }
                    moved = moved.saturating_add(moves(value, operation));
                    if moved > PATCH_MOVES {
                        return Err(Error::TooLarge(format!(
                            "the patch's operations up to {i} move more than {PATCH_MOVES} elements of arrays: put \
                             elements in at the end, or replace the array as a whole"
                        )));
                    }
                    json_patch::patch(value, std::slice::from_ref(operation)).map_err(|error| {
                        let field = FieldError::invalid("patch", i, format_args!("operation {i}: {}", error.kind));
                        Error::field(kind, name, field)
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// How many elements of an array `operation` moves.
fn moves(value: &Value, operation: &PatchOperation) -> usize {
    let behind = |path: &PointerBuf| {
        let Some((parent, last)) = path.split_back() else { return 0 };
        match parent.resolve(value) {
            Ok(Value::Array(items)) => last.decoded().parse().map_or(0, |at| items.len().saturating_sub(at)),
            _ => 0,
        }
    };
    match operation {
        PatchOperation::Add(add) => behind(&add.path),
        PatchOperation::Remove(remove) => behind(&remove.path),
        PatchOperation::Move(moved) => behind(&moved.from) + behind(&moved.path),
        PatchOperation::Copy(copy) => behind(&copy.path),
        PatchOperation::Replace(_) | PatchOperation::Test(_) => 0,
    }
}
