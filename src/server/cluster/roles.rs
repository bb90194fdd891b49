//! The ClusterRole and the ClusterRoleBinding of each organization, which let its managers do everything with it.
//!
//! Level-triggered: what is wanted follows from the graph, what is there from a list and a watch of what has our label;
//! where they differ, what is there is put right. What has no such label, or another name, is never touched. For the
//! active replica only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchEvent, WatchParams,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::{info, warn};

use super::api_service::FIELD_MANAGER;
use crate::api::name::{dns_subdomain_faults, label_value_faults};
use crate::api::{FieldSelector, GROUP, Kind, LabelSelector};
use crate::auth::{Caller, Namespaces};
use crate::graph::{Query, Record};
use crate::registry::Registry;

/// What the name of a role begins with; that of its organization follows.
pub const ROLE: &str = "OrgManagerClusterRole-";
/// What that of a binding begins with.
pub const BINDING: &str = "OrgManagerClusterRoleBinding-";
/// The label of what is ours, and its value.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "imagehub");
/// The label with the organization's name.
const ORGANIZATION: &str = "organization.imagehub.sealos.io";
/// The group of roles and bindings.
const RBAC: &str = "rbac.authorization.k8s.io";
/// What a manager's name begins with who is no ServiceAccount of the users' namespace.
const USER: &str = "user:";
/// How many objects a page of a list has.
const PAGE: u32 = 500;
/// How long a watch is left open, in seconds; all is looked at anew after it.
const WATCH_SECONDS: u32 = 290;
/// The pause after something could not be read or written; twice as long each time, up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// A role or a binding.
trait Form: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What its name begins with.
    const PREFIX: &'static str;

    /// What is to be done so that `self`, which is there, is as `wanted` says.
    fn differs(&self, wanted: &Self) -> Option<Repair>;

    /// What makes another one be as this is, as a merge patch.
    fn patch(&self) -> Value;
}

/// How something is put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repair {
    Patch,
    /// Deleted, and made anew: what is wrong can't be changed.
    Remake,
}

impl Form for ClusterRole {
    const PREFIX: &'static str = ROLE;

    fn differs(&self, wanted: &Self) -> Option<Repair> {
        let same = self.rules == wanted.rules
            && self.aggregation_rule.is_none()
            && has_labels(&self.metadata, &wanted.metadata);
        (!same).then_some(Repair::Patch)
    }

    fn patch(&self) -> Value {
        json!({ "metadata": { "labels": self.metadata.labels }, "rules": self.rules, "aggregationRule": null })
    }
}

impl Form for ClusterRoleBinding {
    const PREFIX: &'static str = BINDING;

    fn differs(&self, wanted: &Self) -> Option<Repair> {
        if self.role_ref != wanted.role_ref {
            return Some(Repair::Remake);
        }
        let subjects = |binding: &Self| binding.subjects.clone().unwrap_or_default();
        let same = subjects(self) == subjects(wanted) && has_labels(&self.metadata, &wanted.metadata);
        (!same).then_some(Repair::Patch)
    }

    fn patch(&self) -> Value {
        json!({ "metadata": { "labels": self.metadata.labels }, "subjects": self.subjects })
    }
}

/// Others may add labels of their own.
fn has_labels(found: &ObjectMeta, wanted: &ObjectMeta) -> bool {
    let found = found.labels.as_ref();
    wanted.labels.iter().flatten().all(|(key, value)| found.and_then(|labels| labels.get(key)) == Some(value))
}

/// What the organization `name` with these managers asks for.
fn wanted(name: &str, managers: &[Box<str>], namespaces: &Namespaces) -> (ClusterRole, ClusterRoleBinding) {
    let mut labels = BTreeMap::from([(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned())]);
    // Names of old data may be no labels.
    if label_value_faults(name).is_empty() {
        labels.insert(ORGANIZATION.to_owned(), name.to_owned());
    }
    let metadata = |prefix: &str| ObjectMeta {
        name: Some(format!("{prefix}{name}")),
        labels: Some(labels.clone()),
        ..ObjectMeta::default()
    };
    let rule = PolicyRule {
        api_groups: Some(vec![GROUP.to_owned()]),
        resources: Some(vec![Kind::Organization.plural().to_owned()]),
        resource_names: Some(vec![name.to_owned()]),
        verbs: vec!["*".to_owned()],
        ..PolicyRule::default()
    };
    let role = ClusterRole { metadata: metadata(ROLE), rules: Some(vec![rule]), aggregation_rule: None };
    let subjects = managers.iter().filter_map(|manager| subject(manager, namespaces)).collect();
    let binding = ClusterRoleBinding {
        metadata: metadata(BINDING),
        role_ref: RoleRef {
            api_group: Some(RBAC.to_owned()),
            kind: "ClusterRole".to_owned(),
            name: format!("{ROLE}{name}"),
        },
        subjects: Some(subjects),
    };
    (role, binding)
}

/// Whom RBAC knows a manager as. Nobody, where the name can be no ServiceAccount's: RBAC would refuse the binding
/// for all, and a catalogue from a server on one machine has names of its users.
fn subject(manager: &str, namespaces: &Namespaces) -> Option<Subject> {
    if let Some(user) = manager.strip_prefix(USER) {
        return (!user.is_empty()).then(|| Subject {
            api_group: Some(RBAC.to_owned()),
            kind: "User".to_owned(),
            name: user.to_owned(),
            namespace: None,
        });
    }
    dns_subdomain_faults(manager).is_empty().then(|| Subject {
        api_group: None,
        kind: "ServiceAccount".to_owned(),
        name: manager.to_owned(),
        namespace: Some(namespaces.users.clone()),
    })
}

/// Those of one form: what is wanted, and what is there.
struct Kept<K> {
    api: Api<K>,
    wanted: BTreeMap<String, K>,
    found: BTreeMap<String, K>,
    /// Names that somebody else's object has.
    taken: BTreeSet<String>,
}

impl<K: Form> Kept<K> {
    /// Reads what is there; and its version, to follow from.
    async fn read(client: &kube::Client) -> Result<(Self, String), kube::Error> {
        let api: Api<K> = Api::all(client.clone());
        let mut found = BTreeMap::new();
        let mut page = ListParams::default().labels(&label()).limit(PAGE);
        let version = loop {
            let list = api.list(&page).await?;
            let ours = list.items.into_iter().filter_map(|object| Some((name_of(&object)?, object)));
            found.extend(ours);
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page.continue_token = Some(token),
                None => break list.metadata.resource_version.unwrap_or_default(),
            }
        };
        Ok((Self { api, wanted: BTreeMap::new(), found, taken: BTreeSet::new() }, version))
    }

    /// Takes note of an event; the name that it concerns, if it is one of ours.
    fn take(&mut self, event: WatchEvent<K>) -> Result<Option<String>, String> {
        Ok(match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => name_of(&object).inspect(|name| {
                self.found.insert(name.clone(), object);
            }),
            WatchEvent::Deleted(object) => name_of(&object).inspect(|name| {
                self.found.remove(name);
                self.taken.remove(name);
            }),
            WatchEvent::Bookmark(_) => None,
            WatchEvent::Error(status) => return Err(status.message.clone()),
        })
    }

    /// Puts right what is not as it is wanted, of `names` or of all; what could not be is told at the end.
    async fn put_right(&mut self, names: Option<&BTreeSet<String>>) -> Result<(), String> {
        let all: BTreeSet<String>;
        let names = if let Some(names) = names {
            names
        } else {
            all = self.wanted.keys().chain(self.found.keys()).cloned().collect();
            &all
        };
        let mut failed = None;
        for name in names {
            if let Err(error) = self.put_one_right(name).await {
                failed = Some(format!("{} {name}: {error}", K::kind(&())));
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn put_one_right(&mut self, name: &str) -> Result<(), kube::Error> {
        let kind = K::kind(&());
        match (self.wanted.get(name).cloned(), self.found.get(name).cloned()) {
            (Some(wanted), Some(found)) => match found.differs(&wanted) {
                None => {}
                Some(Repair::Patch) => {
                    let params =
                        PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
                    let patched = self.api.patch(name, &params, &Patch::Merge(wanted.patch())).await?;
                    self.found.insert(name.to_owned(), patched);
                    info!(%kind, name, "an organization's managers have what they should");
                }
                Some(Repair::Remake) => {
                    self.delete(name, &found).await?;
                    self.create(name, &wanted).await?;
                }
            },
            (Some(wanted), None) if !self.taken.contains(name) => self.create(name, &wanted).await?,
            (None, Some(found)) => {
                self.delete(name, &found).await?;
                info!(%kind, name, "deleted with its organization");
            }
            _ => {}
        }
        Ok(())
    }

    async fn create(&mut self, name: &str, wanted: &K) -> Result<(), kube::Error> {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match self.api.create(&params, wanted).await {
            Ok(created) => {
                self.found.insert(name.to_owned(), created);
                info!(kind = %K::kind(&()), name, "made for the managers of an organization");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                warn!(
                    kind = %K::kind(&()), name,
                    "it is there and has no label {}={}, so it is left alone: delete it to have it made anew",
                    MANAGED_BY.0, MANAGED_BY.1
                );
                self.taken.insert(name.to_owned());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Deletes just that one, at that version.
    async fn delete(&mut self, name: &str, found: &K) -> Result<(), kube::Error> {
        let meta = found.meta();
        let preconditions = Preconditions { uid: meta.uid.clone(), resource_version: meta.resource_version.clone() };
        let params = DeleteParams::default().preconditions(preconditions);
        match self.api.delete(name, &params).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
        self.found.remove(name);
        Ok(())
    }
}

/// The selector of what is ours.
fn label() -> String {
    format!("{}={}", MANAGED_BY.0, MANAGED_BY.1)
}

/// The name of an object that is ours by its name; whoever asks has asked for our label.
fn name_of<K: Form>(object: &K) -> Option<String> {
    object.meta().name.clone().filter(|name| name.starts_with(K::PREFIX))
}

/// Keeps the roles and bindings of all organizations of `registry`, for ever. To be ended with the replica's term.
pub async fn run(client: kube::Client, registry: Arc<Registry>, namespaces: Namespaces) {
    let mut pause = PAUSES.0;
    loop {
        match keep(&client, &registry, &namespaces).await {
            Ok(()) => pause = PAUSES.0,
            Err(error) => {
                warn!(error, wait = ?pause, "the roles of organizations' managers can't be kept; all is tried again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

/// One look at all, and what happens after it until a watch ends.
async fn keep(client: &kube::Client, registry: &Registry, namespaces: &Namespaces) -> Result<(), String> {
    let text = |error: kube::Error| error.to_string();
    let (mut roles, version) = Kept::<ClusterRole>::read(client).await.map_err(text)?;
    let params = || WatchParams::default().labels(&label()).timeout(WATCH_SECONDS);
    let (watched, api) = (params(), roles.api.clone());
    let mut of_roles = api.watch(&watched, &version).await.map_err(text)?.boxed();
    let (mut bindings, version) = Kept::<ClusterRoleBinding>::read(client).await.map_err(text)?;
    let (watched, api) = (params(), bindings.api.clone());
    let mut of_bindings = api.watch(&watched, &version).await.map_err(text)?.boxed();
    let mut organizations = registry.graph().changes(Kind::Organization);
    let mut changed = true;
    let (mut touched_roles, mut touched_bindings) = (BTreeSet::new(), BTreeSet::new());
    loop {
        if changed {
            organizations.mark_unchanged();
            (roles.wanted, bindings.wanted) = all_wanted(registry, namespaces);
        }
        let some = |touched| (!changed).then_some(touched);
        // A binding's role comes before it.
        let done = roles.put_right(some(&touched_roles)).await;
        done.and(bindings.put_right(some(&touched_bindings)).await)?;
        changed = false;
        touched_roles.clear();
        touched_bindings.clear();
        tokio::select! {
            // The sender is the graph's, which the registry holds.
            _ = organizations.changed() => changed = true,
            event = of_roles.try_next() => match event.map_err(text)? {
                Some(event) => touched_roles.extend(roles.take(event)?),
                None => return Ok(()),
            },
            event = of_bindings.try_next() => match event.map_err(text)? {
                Some(event) => touched_bindings.extend(bindings.take(event)?),
                None => return Ok(()),
            },
        }
        // What has come meanwhile is done in the same round.
        while let Some(Some(Ok(event))) = of_roles.next().now_or_never() {
            touched_roles.extend(roles.take(event)?);
        }
        while let Some(Some(Ok(event))) = of_bindings.next().now_or_never() {
            touched_bindings.extend(bindings.take(event)?);
        }
    }
}

/// What all organizations ask for, by name.
fn all_wanted(
    registry: &Registry,
    namespaces: &Namespaces,
) -> (BTreeMap<String, ClusterRole>, BTreeMap<String, ClusterRoleBinding>) {
    let all = registry.reader(&Caller::system()).visible;
    let (labels, fields) = (LabelSelector::default(), FieldSelector::default());
    let query = Query { kind: Kind::Organization, after: None, at: all.revision(), labels: &labels, fields: &fields };
    let of = |record: Arc<Record>| {
        let managers = record.organization().map(|organization| &*organization.managers).unwrap_or_default();
        let (role, binding) = wanted(record.name(), managers, namespaces);
        let name = record.name();
        ((format!("{ROLE}{name}"), role), (format!("{BINDING}{name}"), binding))
    };
    all.list(query).map(of).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces() -> Namespaces {
        Namespaces { own: "imagehub-system".to_owned(), users: "user-system".to_owned() }
    }

    fn of(name: &str, managers: &[&str]) -> (ClusterRole, ClusterRoleBinding) {
        let managers: Vec<Box<str>> = managers.iter().map(|&manager| manager.into()).collect();
        wanted(name, &managers, &namespaces())
    }

    #[test]
    fn managers_may_do_everything_with_their_organization_and_nothing_else() {
        let (role, binding) = of("labring", &["admin", "user:bob@example.com"]);
        let role = serde_json::to_value(role).unwrap();
        assert_eq!(role["metadata"]["name"], "OrgManagerClusterRole-labring");
        assert_eq!(role["metadata"]["labels"][MANAGED_BY.0], MANAGED_BY.1);
        let rule = json!([{ "apiGroups": ["imagehub.sealos.io"], "resources": ["organizations"],
            "resourceNames": ["labring"], "verbs": ["*"] }]);
        assert_eq!(role["rules"], rule);
        let binding = serde_json::to_value(binding).unwrap();
        assert_eq!(binding["metadata"]["name"], "OrgManagerClusterRoleBinding-labring");
        assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
        let subjects = json!([
            { "kind": "ServiceAccount", "name": "admin", "namespace": "user-system" },
            { "kind": "User", "name": "bob@example.com", "apiGroup": RBAC },
        ]);
        assert_eq!(binding["subjects"], subjects);
    }

    #[test]
    fn a_service_account_of_another_namespace_is_a_user_to_rbac() {
        let (_, binding) = of("a", &["user:system:serviceaccount:ci:builder"]);
        let subjects = binding.subjects.unwrap();
        assert_eq!((&*subjects[0].kind, &*subjects[0].name), ("User", "system:serviceaccount:ci:builder"));
    }

    #[test]
    fn who_can_be_no_subject_is_left_out_and_the_others_keep_their_rights() {
        let (_, binding) = of("a", &["Alice@Home", "", "user:", "bob"]);
        let subjects = binding.subjects.unwrap();
        assert_eq!(subjects.iter().map(|subject| &*subject.name).collect::<Vec<_>>(), ["bob"]);
    }

    #[test]
    fn what_was_edited_differs_and_what_others_add_does_not() {
        let (role, binding) = of("a", &["bob"]);
        assert_eq!((role.differs(&role), binding.differs(&binding)), (None, None));
        let mut labelled = role.clone();
        labelled.metadata.labels.as_mut().unwrap().insert("theirs".to_owned(), "x".to_owned());
        assert_eq!(labelled.differs(&role), None);
        let mut edited = role.clone();
        edited.rules = None;
        assert_eq!(edited.differs(&role), Some(Repair::Patch));
        let mut edited = binding.clone();
        edited.subjects = None;
        assert_eq!(edited.differs(&binding), Some(Repair::Patch));
        edited.role_ref.name = "cluster-admin".to_owned();
        assert_eq!(edited.differs(&binding), Some(Repair::Remake));
        // RBAC answers without the field where there is nobody.
        let (_, nobody) = of("a", &[]);
        let mut answered = nobody.clone();
        answered.subjects = None;
        assert_eq!(answered.differs(&nobody), None);
    }

    #[test]
    fn what_has_another_name_is_not_ours_whatever_its_label() {
        let (mut role, _) = of("a", &[]);
        assert_eq!(name_of(&role).as_deref(), Some("OrgManagerClusterRole-a"));
        role.metadata.name = Some("cluster-admin".to_owned());
        assert_eq!(name_of(&role), None);
    }
}
