//! The sample catalogue, for a server that is only tried out.

use std::path::Path;

use serde_json::Value;

use crate::api::Kind;
use crate::api::decode::{Reading, read_object};
use crate::auth::Caller;
use crate::error::Error;
use crate::registry::{Registry, WriteOptions};

/// The sample catalogue: objects of the kinds, as `kubectl apply` takes them.
const CATALOG: &str = include_str!("../../examples/catalog.yaml");

/// The file in the data directory that is there while the sample catalogue is being loaded.
pub const MARKER: &str = "demo-loading";

/// Loads the sample catalogue if the store is empty, or what is missing of it if an earlier load was interrupted, which
/// the file `marker` tells. Answers with how many objects were loaded.
///
/// # Errors
/// What a write says.
pub async fn load(registry: &Registry, caller: &Caller, marker: &Path) -> Result<usize, Error> {
    let visible = registry.reader(caller).visible;
    let empty = Kind::ALL.into_iter().all(|kind| visible.stored(kind) == 0);
    if !empty && !marker.exists() {
        return Ok(0);
    }
    std::fs::write(marker, b"").map_err(Error::internal)?;
    let mut loaded = 0;
    for document in documents()? {
        let read = read_object(kind_of(&document)?, document, Reading { yaml: true, ..Reading::default() })?;
        match registry.create(caller, read.object, WriteOptions::default()).await {
            Ok(_) => loaded += 1,
            Err(Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    std::fs::remove_file(marker).map_err(Error::internal)?;
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
    use crate::registry::testing::{Hub, admin};

    #[tokio::test]
    async fn it_is_loaded_into_an_empty_store_once_and_again_after_an_interruption() {
        let dir = tempfile::tempdir().unwrap();
        let marker = dir.path().join(MARKER);
        let hub = Hub::open().await;
        let loaded = load(&hub.registry, &admin(), &marker).await.unwrap();
        assert!(loaded > 0 && !marker.exists());
        let all = hub.names(&admin(), Kind::Image).await;
        // What somebody has deleted stays so.
        hub.delete(Kind::Image, &all[0]).await;
        assert_eq!(load(&hub.registry, &admin(), &marker).await.unwrap(), 0);
        std::fs::write(&marker, b"").unwrap();
        assert_eq!(load(&hub.registry, &admin(), &marker).await.unwrap(), 1);
        assert_eq!(hub.names(&admin(), Kind::Image).await, all);
        assert!(!marker.exists());
    }

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
