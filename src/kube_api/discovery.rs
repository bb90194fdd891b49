//! What kubectl and the aggregator ask first: which groups, versions and resources there are. All of it is
//! fixed at build time, so each document is rendered once and has an entity tag that is equal on every
//! replica of one version.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::openapi::Document;
use crate::api::{API_VERSION, GROUP, Kind, VERSION};

/// The category that all kinds are in: `kubectl get imagehub`.
pub const CATEGORY: &str = "imagehub";
/// What can be done with a resource.
const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// What can be done with a `/status` subresource.
const STATUS_VERBS: [&str; 3] = ["get", "patch", "update"];
/// The group of the aggregated form.
const DISCOVERY_GROUP: &str = "apidiscovery.k8s.io";
/// The kind of the aggregated form.
const DISCOVERY_KIND: &str = "APIGroupDiscoveryList";
/// How many clauses of an Accept header are looked at.
const MAX_ACCEPT_CLAUSES: usize = 32;

/// In which form discovery is answered at `/api` and `/apis`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiscoveryForm {
    /// One document for the groups, one for each group version.
    Legacy,
    /// All in one, `apidiscovery.k8s.io/v2`.
    V2,
    /// The same as clients from before 1.30 ask for it, `apidiscovery.k8s.io/v2beta1`.
    V2Beta1,
}

impl DiscoveryForm {
    /// The media type of the answer. The answer also has `Vary: Accept`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Legacy => "application/json",
            Self::V2 => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            Self::V2Beta1 => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        }
    }
}

/// Picks the form as kube-apiserver does: the first clause of the Accept header, by `q` and then as they
/// come, that asks for an aggregated form which can be had as JSON; without one, the legacy form. A plain
/// `application/json` never wins over an aggregated form, wherever it stands.
#[must_use]
pub fn negotiate_discovery(accept: Option<&str>) -> DiscoveryForm {
    let mut best: Option<(f32, DiscoveryForm)> = None;
    for clause in accept.unwrap_or_default().split(',').take(MAX_ACCEPT_CLAUSES) {
        let Some((q, form)) = aggregated(clause) else { continue };
        if best.is_none_or(|(other, _)| q > other) {
            best = Some((q, form));
        }
    }
    best.map_or(DiscoveryForm::Legacy, |(_, form)| form)
}

/// The quality and the aggregated form that a clause asks for, if it does.
fn aggregated(clause: &str) -> Option<(f32, DiscoveryForm)> {
    let mut parts = clause.split(';').map(str::trim);
    if !matches!(parts.next()?, "application/json" | "application/*" | "*/*" | "*") {
        return None;
    }
    let (mut q, mut group, mut version, mut kind) = (1.0, "", "", "");
    for (name, value) in parts.filter_map(|p| p.split_once('=')) {
        let value = value.trim();
        match name.trim() {
            "q" => q = value.parse().unwrap_or(0.0),
            "g" => group = value,
            "v" => version = value,
            "as" => kind = value,
            _ => {}
        }
    }
    let form = match version {
        "v2" => DiscoveryForm::V2,
        "v2beta1" => DiscoveryForm::V2Beta1,
        _ => return None,
    };
    (group == DISCOVERY_GROUP && kind == DISCOVERY_KIND && q > 0.0).then_some((q, form))
}

/// `/api`: the core group, of which nothing is served here. Its version is there all the same: kubectl
/// knows `kind: List` of `v1`, the form of what `kubectl get -o yaml` writes, only where discovery has a `v1`
/// (`NewDiscoveryRESTMapper` of client-go).
#[must_use]
pub fn api(form: DiscoveryForm) -> &'static Document {
    static ALL: OnceLock<[Document; 3]> = OnceLock::new();
    pick(&ALL, form, |form| match form {
        DiscoveryForm::Legacy => {
            json!({ "kind": "APIVersions", "apiVersion": "v1", "versions": ["v1"], "serverAddressByClientCIDRs": [] })
        }
        DiscoveryForm::V2 => aggregated_list("v2", json!([empty_core()])),
        DiscoveryForm::V2Beta1 => aggregated_list("v2beta1", json!([empty_core()])),
    })
}

fn empty_core() -> Value {
    json!({ "metadata": { "name": "" }, "versions": [{ "version": "v1", "resources": [], "freshness": "Current" }] })
}

/// `/api/v1`: the core group's resources, none.
#[must_use]
pub fn core_resources() -> &'static Document {
    static DOCUMENT: OnceLock<Document> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        Document::json(&json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources": [],
        }))
    })
}

/// `/apis`: the groups; in the aggregated forms with all resources.
#[must_use]
pub fn apis(form: DiscoveryForm) -> &'static Document {
    static ALL: OnceLock<[Document; 3]> = OnceLock::new();
    pick(&ALL, form, |form| match form {
        DiscoveryForm::Legacy => {
            json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [group_fields(json!({}))] })
        }
        DiscoveryForm::V2 => aggregated_list("v2", json!([aggregated_group()])),
        DiscoveryForm::V2Beta1 => aggregated_list("v2beta1", json!([aggregated_group()])),
    })
}

/// `/apis/imagehub.sealos.io`: `APIGroup`.
#[must_use]
pub fn group() -> &'static Document {
    static DOCUMENT: OnceLock<Document> = OnceLock::new();
    DOCUMENT.get_or_init(|| Document::json(&group_fields(json!({ "kind": "APIGroup", "apiVersion": "v1" }))))
}

/// `/apis/imagehub.sealos.io/v1`: `APIResourceList`.
#[must_use]
pub fn resources() -> &'static Document {
    static DOCUMENT: OnceLock<Document> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let mut resources = Vec::new();
        for kind in by_plural() {
            resources.push(json!({
                "name": kind.plural(),
                "singularName": kind.singular(),
                "namespaced": false,
                "kind": kind.name(),
                "verbs": VERBS,
                "shortNames": [kind.short()],
                "categories": [CATEGORY],
                "storageVersionHash": storage_version_hash(kind),
            }));
            if kind.has_status_subresource() {
                resources.push(json!({
                    "name": format!("{}/status", kind.plural()),
                    "singularName": "",
                    "namespaced": false,
                    "kind": kind.name(),
                    "verbs": STATUS_VERBS,
                }));
            }
        }
        Document::json(&json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": API_VERSION,
            "resources": resources,
        }))
    })
}

/// `/version`. The version named is that of the Kubernetes API whose manners are kept, since kubectl compares
/// it with its own and warns of a skew of more than one minor version; ours is in the build metadata, which
/// comparisons leave out. Nothing of the build's place or time is told: replicas must agree, and it is none
/// of an anonymous caller's business.
#[must_use]
pub fn version() -> &'static Document {
    static DOCUMENT: OnceLock<Document> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        Document::json(&json!({
            "major": "1",
            "minor": "37",
            "gitVersion": concat!("v1.37.0+imagehub-", env!("CARGO_PKG_VERSION")),
            "gitCommit": "",
            "gitTreeState": "",
            "buildDate": "1970-01-01T00:00:00Z",
            // kube's fields for the build of a Go program; clients expect them to be there
            "goVersion": "",
            "compiler": "rustc",
            "platform": "",
        }))
    })
}

fn pick(
    all: &'static OnceLock<[Document; 3]>,
    form: DiscoveryForm,
    render: impl Fn(DiscoveryForm) -> Value,
) -> &'static Document {
    let forms = [DiscoveryForm::Legacy, DiscoveryForm::V2, DiscoveryForm::V2Beta1];
    &all.get_or_init(|| forms.map(|form| Document::json(&render(form))))[form as usize]
}

fn by_plural() -> [Kind; 4] {
    let mut kinds = Kind::ALL;
    kinds.sort_by_key(|kind| kind.plural());
    kinds
}

fn group_fields(mut group: Value) -> Value {
    let version = json!({ "groupVersion": API_VERSION, "version": VERSION });
    group["name"] = json!(GROUP);
    group["versions"] = json!([version]);
    group["preferredVersion"] = version;
    group
}

fn aggregated_list(version: &str, items: Value) -> Value {
    let mut list = json!({
        "kind": DISCOVERY_KIND,
        "apiVersion": format!("{DISCOVERY_GROUP}/{version}"),
        "metadata": {},
    });
    list["items"] = items;
    list
}

fn aggregated_group() -> Value {
    let resources = by_plural().map(|kind| {
        // the namespace and garbage collector controllers fail on a resource without it
        let response = json!({ "group": GROUP, "version": VERSION, "kind": kind.name() });
        let mut resource = json!({
            "resource": kind.plural(),
            "responseKind": response,
            "scope": "Cluster",
            "singularResource": kind.singular(),
            "verbs": VERBS,
            "shortNames": [kind.short()],
            "categories": [CATEGORY],
        });
        if kind.has_status_subresource() {
            resource["subresources"] =
                json!([{ "subresource": "status", "responseKind": response, "verbs": STATUS_VERBS }]);
        }
        resource
    });
    json!({
        "metadata": { "name": GROUP },
        "versions": [{ "version": VERSION, "resources": resources, "freshness": "Current" }],
    })
}

/// Names the form that objects are stored in, as kube-apiserver makes it: the storage version migrator
/// acts when it changes.
fn storage_version_hash(kind: Kind) -> String {
    let digest = Sha256::digest(format!("{API_VERSION}/{kind}"));
    STANDARD.encode(&digest[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(document: &Document) -> Value {
        serde_json::from_slice(&document.bytes).expect("it is JSON")
    }

    #[test]
    fn an_aggregated_form_is_served_to_whom_asks_for_it_and_legacy_to_all_others() {
        let v2 = DiscoveryForm::V2.content_type();
        let beta = DiscoveryForm::V2Beta1.content_type();
        let form = |accept: &str| negotiate_discovery(Some(accept));
        assert_eq!(negotiate_discovery(None), DiscoveryForm::Legacy);
        for legacy in [
            "",
            "application/json",
            "*/*",
            "text/html",
            "application/json;g=apidiscovery.k8s.io;v=v3;as=APIGroupDiscoveryList",
            "application/json;g=meta.k8s.io;v=v2;as=APIGroupDiscoveryList",
            "application/json;g=apidiscovery.k8s.io;v=v2;as=Table",
            "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            &format!("{v2};q=0"),
            ";;;,,=,q=",
        ] {
            assert_eq!(form(legacy), DiscoveryForm::Legacy, "{legacy}");
        }
        // what kubectl 1.37, kubectl 1.27 and the aggregator send
        assert_eq!(form(&format!("{v2};profile=nopeer,{v2},application/json")), DiscoveryForm::V2);
        assert_eq!(form(&format!("{beta},application/json")), DiscoveryForm::V2Beta1);
        assert_eq!(form(v2), DiscoveryForm::V2);
        assert_eq!(form(&format!("application/json, {v2}")), DiscoveryForm::V2);
        assert_eq!(form(&format!("{v2};q=0.5,{beta};q=0.9")), DiscoveryForm::V2Beta1);
        assert_eq!(form("application/json; as=APIGroupDiscoveryList; v=v2; g=apidiscovery.k8s.io"), DiscoveryForm::V2);
        let protobuf_first = format!("{},{v2}", v2.replace("json", "vnd.kubernetes.protobuf"));
        assert_eq!(form(&protobuf_first), DiscoveryForm::V2);
    }

    #[test]
    fn the_storage_version_hash_is_the_one_kube_makes_of_the_same_crd() {
        assert_eq!(storage_version_hash(Kind::Image), "unhE6NIiHsc=");
        assert_eq!(storage_version_hash(Kind::Repository), "PfMFKDrmis4=");
        assert_eq!(storage_version_hash(Kind::DataPack), "ULNzU6QjT8U=");
    }

    #[test]
    fn the_legacy_and_the_aggregated_form_tell_the_same() {
        let legacy = read(resources());
        let aggregated = read(apis(DiscoveryForm::V2));
        let version = &aggregated["items"][0]["versions"][0];
        assert_eq!(version["freshness"], "Current");
        let mut names = Vec::new();
        for resource in version["resources"].as_array().expect("a list") {
            let plural = resource["resource"].as_str().expect("a name");
            names.push(plural.to_owned());
            assert_eq!(resource["responseKind"]["group"], GROUP);
            for sub in resource["subresources"].as_array().into_iter().flatten() {
                assert_eq!(sub["responseKind"], resource["responseKind"]);
                names.push(format!("{plural}/{}", sub["subresource"].as_str().expect("a name")));
            }
            let same = legacy["resources"].as_array().expect("a list").iter().find(|r| r["name"] == plural);
            let same = same.expect("it is in both");
            for (here, there) in
                [("verbs", "verbs"), ("shortNames", "shortNames"), ("singularResource", "singularName")]
            {
                assert_eq!(resource[here], same[there], "{plural}");
            }
            assert_eq!(resource["responseKind"]["kind"], same["kind"]);
        }
        let all: Vec<&str> =
            legacy["resources"].as_array().into_iter().flatten().filter_map(|r| r["name"].as_str()).collect();
        assert_eq!(names, all);
        assert_eq!(
            all,
            ["datapacks", "images", "organizations", "organizations/status", "repositories", "repositories/status"]
        );
    }

    #[test]
    fn the_documents_are_of_the_kinds_that_clients_expect() {
        let mut beta = read(apis(DiscoveryForm::V2Beta1));
        assert_eq!(beta["apiVersion"], "apidiscovery.k8s.io/v2beta1");
        beta["apiVersion"] = json!("apidiscovery.k8s.io/v2");
        assert_eq!(beta, read(apis(DiscoveryForm::V2)));
        assert_eq!(read(api(DiscoveryForm::V2))["items"], json!([empty_core()]));
        assert_eq!(read(api(DiscoveryForm::Legacy))["kind"], "APIVersions");
        assert_eq!(read(group())["preferredVersion"]["groupVersion"], API_VERSION);
        assert_eq!(read(apis(DiscoveryForm::Legacy))["groups"][0]["name"], GROUP);
        assert_eq!(read(version())["minor"], "37");
    }

    #[test]
    fn each_form_has_an_entity_tag_of_its_own() {
        let all = [DiscoveryForm::Legacy, DiscoveryForm::V2, DiscoveryForm::V2Beta1];
        let mut tags: Vec<&str> = all.iter().flat_map(|f| [&*api(*f).etag, &*apis(*f).etag]).collect();
        tags.extend([&*group().etag, &*resources().etag, &*version().etag]);
        assert!(tags.iter().all(|t| t.len() == 66 && t.starts_with('"') && t.ends_with('"')));
        let count = tags.len();
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), count);
    }
}
