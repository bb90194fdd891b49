//! The sample catalogue, for a server that is only tried out.

use serde_json::Value;

use crate::api::Kind;
use crate::api::decode::{Reading, read_object};
use crate::auth::Caller;
use crate::error::Error;
use crate::registry::{Registry, WriteOptions};

/// The sample catalogue: objects of the kinds, as `kubectl apply` takes them.
const CATALOG: &str = include_str!("../../examples/catalog.yaml");

/// Loads the sample catalogue if the store is empty. Answers with how many objects were loaded.
///
/// # Errors
/// What a write says.
pub async fn load(registry: &Registry, caller: &Caller) -> Result<usize, Error> {
    let visible = registry.reader(caller).visible;
    if Kind::ALL.into_iter().any(|kind| visible.stored(kind) > 0) {
        return Ok(0);
    }
    let mut loaded = 0;
    for document in documents()? {
        let read = read_object(kind_of(&document)?, document, Reading { yaml: true, ..Reading::default() })?;
        registry.create(caller, read.object, WriteOptions::default()).await?;
        loaded += 1;
    }
    Ok(loaded)
}

fn documents() -> Result<Vec<Value>, Error> {
    serde_saphyr::from_multiple(CATALOG).map_err(Error::internal)
}

fn kind_of(value: &Value) -> Result<Kind, Error> {
    let name = value.get("kind").and_then(Value::as_str).unwrap_or_default();
    Kind::from_name(name).ok_or_else(|| Error::BadRequest(format!("{name:?} is no kind of this group")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{FieldValidation, validate_metadata, validate_spec};

    #[test]
    fn the_sample_catalogue_is_legal() {
        let strictly = Reading { validation: FieldValidation::Strict, ..Reading::default() };
        for value in documents().unwrap() {
            let object = read_object(kind_of(&value).unwrap(), value, strictly).unwrap().object;
            let name = object.metadata.name.clone().unwrap();
            assert_eq!(validate_metadata(&object.metadata), vec![], "{name}");
            assert_eq!(validate_spec(&name, &object.spec), vec![], "{name}");
        }
    }
}
