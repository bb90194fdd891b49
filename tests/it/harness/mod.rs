//! What the end-to-end tests stand on: a [`Server`] of their own, a [`Client`] as the administrator or
//! as nobody, a [`Kubectl`], and the manifests of the catalogue. Every wait has a deadline, and every
//! failure says what was asked and what came back.

mod client;
mod kubectl;
mod program;
mod scripts;
mod server;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

pub use client::{Client, Connection, JSON_PATCH, MERGE_PATCH, Response, Watch};
pub use kubectl::{Kubectl, Tries};
pub use program::{run, run_as_nobody};
pub use scripts::{Schemathesis, Scripts};
pub use server::{Launch, Server, other_build};

/// How long a test waits for what should come at once: long enough for a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// Where the group's resources are.
pub const API: &str = "/apis/imagehub.sealos.io/v1";

/// The path of a kind's collection, or with `name` of one object.
pub fn path(plural: &str, name: &str) -> String {
    if name.is_empty() { format!("{API}/{plural}") } else { format!("{API}/{plural}/{name}") }
}

/// Waits for `what`, and fails with its name when it takes longer than [`DEADLINE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(DEADLINE, future).await;
    waited.unwrap_or_else(|_| panic!("{what}: nothing after {DEADLINE:?}"))
}

/// A path that an environment variable holds. Absolute, since what the tests start runs elsewhere.
pub fn path_from(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable)?;
    Some(std::path::absolute(&path).unwrap_or_else(|e| panic!("{variable}={}: {e}", path.display())))
}

/// The catalogue that the tests apply: `IMAGEHUB_CATALOG`, else the sample of the repository.
pub fn catalogue_path() -> PathBuf {
    let sample = || Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/catalog.yaml");
    path_from("IMAGEHUB_CATALOG").unwrap_or_else(sample)
}

/// The catalogue's documents, read by a YAML parser of the tests' own.
pub fn catalogue() -> Vec<Value> {
    let path = catalogue_path();
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|e| panic!("{}: {e}; IMAGEHUB_CATALOG names another catalogue", path.display()));
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    documents.into_iter().filter(|d| !d.is_null()).collect()
}

/// The one object named by `spec.name` `org/repo:tag`, under its conventional `metadata.name`.
pub fn image(name: &str, detail: Value) -> Value {
    let mut object = object("Image", &name.replace(['/', ':'], "."), json!({ "name": name }));
    object["spec"]["detail"] = detail;
    object
}

/// An object of the group.
pub fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "imagehub.sealos.io/v1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

/// A pack without a name: the server names it by its content.
pub fn nameless_pack(grain: &str, names: &[&str]) -> Value {
    let mut pack = object("DataPack", "", json!({ "type": grain, "names": names }));
    pack["metadata"] = json!({});
    pack
}

/// `metadata.resourceVersion`, which is a positive decimal integer.
pub fn revision(object: &Value) -> u64 {
    let version = &object["metadata"]["resourceVersion"];
    match version.as_str().and_then(|v| v.parse().ok()) {
        Some(revision) if revision > 0 => revision,
        _ => panic!("metadata.resourceVersion is {version}, not a positive integer, in {object:#}"),
    }
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_else(|| panic!("no metadata.name in {object:#}"))
}

/// The names of a list's items, in the list's order.
pub fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap_or_else(|| panic!("no items in {list:#}")).iter().map(name).collect()
}
