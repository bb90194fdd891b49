//! The APIService by which kube-apiserver finds this server: which CAs it believes its certificate by.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tracing::{debug, info};

/// The APIService's name.
pub const NAME: &str = "v1.imagehub.sealos.io";
/// The annotation with the revision of the CAs in its `caBundle`: who has older ones leaves them alone.
pub const REVISION: &str = "imagehub.sealos.io/ca-revision";
/// Whose change it is, for the managed fields.
pub const FIELD_MANAGER: &str = "imagehub";

/// The APIService of this server.
pub struct ApiServices {
    api: Api<APIService>,
    namespace: String,
    service: String,
}

impl std::fmt::Debug for ApiServices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServices").field("service", &self.service).finish_non_exhaustive()
    }
}

/// What is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// The revision of the CAs; 0 where it says none.
    pub revision: i64,
    /// Their certificates, PEM.
    pub bundle: String,
    version: Option<String>,
    /// Whether it is there, and is that of our Service.
    ours: bool,
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// It is as it should be.
    Current,
    /// It isn't there.
    Absent,
    /// It is of another Service, or kube-apiserver's own.
    Foreign,
    /// Another replica knows newer CAs.
    Newer,
    Write,
}

impl Published {
    fn read(found: &APIService, namespace: &str, service: &str) -> Self {
        let spec = found.spec.as_ref();
        let named = spec.and_then(|spec| spec.service.as_ref());
        let ours = named.is_some_and(|named| {
            named.namespace.as_deref() == Some(namespace) && named.name.as_deref() == Some(service)
        });
        let revision = found.metadata.annotations.as_ref().and_then(|all| all.get(REVISION)?.parse().ok());
        let bundle = spec.and_then(|spec| spec.ca_bundle.as_ref());
        Self {
            revision: revision.unwrap_or_default(),
            bundle: bundle.map(|bundle| String::from_utf8_lossy(&bundle.0).into_owned()).unwrap_or_default(),
            version: found.metadata.resource_version.clone(),
            ours,
        }
    }

    fn decide(&self, revision: i64, bundle: &str) -> Decision {
        if self.version.is_none() {
            Decision::Absent
        } else if !self.ours {
            Decision::Foreign
        } else if self.revision > revision {
            Decision::Newer
        } else if self.revision == revision && self.bundle == bundle {
            Decision::Current
        } else {
            Decision::Write
        }
    }
}

impl ApiServices {
    /// That of `service` in `namespace`.
    #[must_use]
    pub fn new(client: kube::Client, namespace: &str, service: &str) -> Self {
        Self { api: Api::all(client), namespace: namespace.to_owned(), service: service.to_owned() }
    }

    /// What is in it now.
    ///
    /// # Errors
    /// It can't be read.
    pub async fn read(&self) -> Result<Published, String> {
        let found = self.api.get_opt(NAME).await.map_err(|error| format!("APIService {NAME}: {error}"))?;
        let Some(found) = found else { return Ok(Published::default()) };
        Ok(Published::read(&found, &self.namespace, &self.service))
    }

    /// Has `published` become `bundle`, unless it is newer than `revision`. True if it was written.
    ///
    /// # Errors
    /// It is that of another Service, can't be written, or was changed since it was read.
    pub async fn publish(&self, published: &Published, revision: i64, bundle: &str) -> Result<bool, String> {
        match published.decide(revision, bundle) {
            Decision::Current => return Ok(false),
            Decision::Absent => {
                debug!("the APIService {NAME} is not there");
                return Ok(false);
            }
            Decision::Foreign => {
                let Self { namespace, service, .. } = self;
                return Err(format!(
                    "the APIService {NAME} is not that of the Service {namespace}/{service}: its caBundle is left alone"
                ));
            }
            Decision::Newer => {
                debug!(revision, newer = published.revision, "another replica has written newer CAs");
                return Ok(false);
            }
            Decision::Write => {}
        }
        let patch = patch(published, revision, bundle);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let written = self.api.patch(NAME, &params, &Patch::Merge(&patch)).await;
        written.map_err(|error| format!("APIService {NAME}: {error}"))?;
        info!(revision, "the APIService has the CAs by which this server is believed");
        Ok(true)
    }
}

/// What makes the change, if it is still the version that was read.
fn patch(published: &Published, revision: i64, bundle: &str) -> Value {
    json!({
        "metadata": {
            "resourceVersion": published.version,
            "annotations": { REVISION: revision.to_string() },
        },
        "spec": { "caBundle": STANDARD.encode(bundle) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(annotation: Option<&str>, bundle: &str) -> Published {
        let mut object = json!({
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": { "name": NAME, "resourceVersion": "7" },
            "spec": {
                "group": "imagehub.sealos.io", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 100,
                "service": { "name": "imagehub", "namespace": "imagehub-system", "port": 443 },
                "caBundle": STANDARD.encode(bundle),
            },
        });
        if let Some(annotation) = annotation {
            object["metadata"]["annotations"] = json!({ REVISION: annotation });
        }
        Published::read(&serde_json::from_value(object).unwrap(), "imagehub-system", "imagehub")
    }

    #[test]
    fn a_newer_bundle_is_never_replaced_and_an_older_or_edited_one_is() {
        assert_eq!(found(Some("5"), "new").decide(4, "old"), Decision::Newer);
        assert_eq!(found(Some("5"), "new").decide(5, "new"), Decision::Current);
        assert_eq!(found(Some("5"), "edited").decide(5, "new"), Decision::Write);
        assert_eq!(found(Some("5"), "").decide(5, "new"), Decision::Write);
        assert_eq!(found(Some("5"), "new").decide(6, "newer"), Decision::Write);
        for nothing in [None, Some("none"), Some("")] {
            assert_eq!(found(nothing, "by hand").decide(1, "new"), Decision::Write);
        }
    }

    #[test]
    fn what_is_absent_or_of_another_service_is_left_alone() {
        assert_eq!(Published::default().decide(1, "new"), Decision::Absent);
        let object = json!({ "metadata": { "name": NAME, "resourceVersion": "7" }, "spec": { "group": "imagehub.sealos.io", "version": "v1",
            "groupPriorityMinimum": 1, "versionPriority": 1,
            "service": { "name": "other", "namespace": "imagehub-system" } } });
        let of =
            |object: Value| Published::read(&serde_json::from_value(object).unwrap(), "imagehub-system", "imagehub");
        assert_eq!(of(object).decide(1, "new"), Decision::Foreign);
        // kube-apiserver's own, which stands for a CustomResourceDefinition.
        let object = json!({ "metadata": { "name": NAME, "resourceVersion": "7" }, "spec": { "group": "imagehub.sealos.io", "version": "v1",
            "groupPriorityMinimum": 1, "versionPriority": 1 } });
        assert_eq!(of(object).decide(1, "new"), Decision::Foreign);
    }

    #[test]
    fn a_change_is_made_to_the_version_that_was_read_only() {
        let patch = patch(&found(None, ""), 3, "new");
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["metadata"]["annotations"][REVISION], "3");
        assert_eq!(patch["spec"]["caBundle"], STANDARD.encode("new"));
    }
}
