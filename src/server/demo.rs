//! The sample catalogue, for a server that is only tried out.

use serde_json::Value;

use crate::api::decode::check_type;
use crate::api::{Kind, conform, into_object};
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
        let mut value = document;
        let kind = kind_of(&value)?;
        check_type(kind, &value)?;
        let conformed = conform(kind, &mut value);
        if let Some(fault) = conformed.errors.into_iter().next() {
            return Err(Error::field(kind, "", fault));
        }
        let (object, _) = into_object(kind, value)?;
        registry.create(caller, object, WriteOptions::default()).await?;
        loaded += 1;
    }
    Ok(loaded)
}

fn documents() -> Result<Vec<Value>, Error> {
    serde_saphyr::from_multiple(CATALOG).map_err(Error::internal)
}

fn kind_of(value: &Value) -> Result<Kind, Error> {
    let name = value.get("kind").and_then(Value::as_str).unwrap_or_default();
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    kind.ok_or_else(|| Error::BadRequest(format!("{name:?} is no kind of this group")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{validate_metadata, validate_spec};

    #[test]
    fn the_sample_catalogue_is_legal() {
        for mut value in documents().unwrap() {
            let kind = kind_of(&value).unwrap();
            let conformed = conform(kind, &mut value);
            assert_eq!((conformed.unknown, conformed.errors), (vec![], vec![]), "{value}");
            let (object, _) = into_object(kind, value).unwrap();
            let name = object.metadata.name.clone().unwrap();
            assert_eq!(validate_metadata(&object.metadata), vec![], "{name}");
            assert_eq!(validate_spec(&name, &object.spec), vec![], "{name}");
        }
    }
}
