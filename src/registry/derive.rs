//! What follows from the rest: labels, owner references and managers. A function of the object and a
//! snapshot, applied on every write and again when what it depends on changes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::api::{
    API_VERSION, KEYWORD_LABEL_PREFIX, Kind, ORGANIZATION_LABEL, Object, REPOSITORY_LABEL, Spec, TAG_LABEL,
    split_image_name, supported_keyword,
};
use crate::graph::{Field, Record, Visible, organization_of};

/// Sets what follows from `object` and what `all` (a view of everything) has.
pub(super) fn derive(all: &Visible, object: &mut Object) {
    match &object.spec {
        Spec::Image(spec) => {
            let Some((organization, repo, tag)) = split_image_name(&spec.name) else { return };
            let full = &spec.name[..organization.len() + 1 + repo.len()];
            set_labels(
                &mut object.metadata,
                &[(ORGANIZATION_LABEL, organization), (REPOSITORY_LABEL, repo), (TAG_LABEL, tag)],
            );
            set_owner(&mut object.metadata, all.repository(full).filter(|r| !r.deleting));
        }
        Spec::Repository(spec) => {
            let Some((organization, repo)) = spec.name.split_once('/') else { return };
            set_labels(&mut object.metadata, &[(ORGANIZATION_LABEL, organization), (REPOSITORY_LABEL, repo)]);
            set_keywords(&mut object.metadata, all.tags(&spec.name).first().map(|latest| &**latest));
            let organization = all.organization(organization_of(&spec.name)).filter(|o| !o.deleting);
            set_owner(&mut object.metadata, organization);
        }
        Spec::Organization(_) | Spec::DataPack(_) => {}
    }
}

/// Whether `record` is an Image of which [`derive`] would change nothing, and which has nothing to announce.
/// At a start all are looked at, so this parses none of them; false where it can't tell.
pub(super) fn image_in_step(all: &Visible, record: &Record) -> bool {
    let Some(image) = record.image() else { return false };
    let Some((organization, repo, tag)) = split_image_name(image.name()) else { return false };
    let labels = [(ORGANIZATION_LABEL, organization), (REPOSITORY_LABEL, repo), (TAG_LABEL, tag)];
    let owner = all.repository(image.repository()).filter(|r| !r.deleting);
    record.envelope().announced.is_none()
        && labels.iter().all(|(label, value)| record.label(label) == Some(value))
        && owner.is_none_or(|owner| record.owners().map(|o| o.uid).eq([owner.uid()]))
}

fn set_labels(metadata: &mut ObjectMeta, labels: &[(&str, &str)]) {
    let all = metadata.labels.get_or_insert_default();
    for (label, value) in labels {
        all.insert((*label).to_owned(), (*value).to_owned());
    }
}

/// The supported ones among the keywords of the repository's latest image, and no others.
fn set_keywords(metadata: &mut ObjectMeta, latest: Option<&Record>) {
    let raw = latest.and_then(|image| image.field(Field::Keywords));
    let keywords: Vec<String> = raw.and_then(|raw| serde_json::from_slice(raw).ok()).unwrap_or_default();
    let labels = metadata.labels.get_or_insert_default();
    labels.retain(|label, _| !label.starts_with(KEYWORD_LABEL_PREFIX));
    for keyword in keywords.iter().filter_map(|word| supported_keyword(word.trim())) {
        labels.insert(format!("{KEYWORD_LABEL_PREFIX}{keyword}"), String::new());
    }
}

/// Makes `owner` the one owner of its kind. Where it isn't there, what was is left: the garbage collector
/// decides about owners that are gone.
fn set_owner(metadata: &mut ObjectMeta, owner: Option<&std::sync::Arc<Record>>) {
    let Some(owner) = owner else { return };
    let references = metadata.owner_references.get_or_insert_default();
    let kind = owner.kind().name();
    let ours = |r: &OwnerReference| r.api_version == API_VERSION && r.kind == kind;
    if references.iter().filter(|r| ours(r)).map(|r| r.uid.as_str()).eq([owner.uid()]) {
        return;
    }
    references.retain(|r| !ours(r));
    let controlled = references.iter().any(|r| r.controller == Some(true));
    references.push(OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: kind.to_owned(),
        name: owner.name().to_owned(),
        uid: owner.uid().to_owned(),
        // Kube allows one controller an object.
        controller: (!controlled).then_some(true),
        block_owner_deletion: Some(true),
    });
}

/// Organization: managers hold the creator, no doubles, and are never nobody.
pub(super) fn complete_managers(spec: &mut crate::api::OrganizationSpec) {
    let mut managers = spec.manager.take().unwrap_or_default();
    if let Some(creator) = &spec.creator
        && !managers.contains(creator)
    {
        managers.push(creator.clone());
    }
    let mut seen = std::collections::HashSet::new();
    managers.retain(|manager| seen.insert(manager.clone()));
    spec.manager = Some(managers);
}

/// Image, on a re-apply: docs, icon, description and keywords that are left empty stay what they were.
pub(super) fn keep_what_is_left_empty(old: &Spec, new: &mut Spec) {
    let (Spec::Image(old), Spec::Image(new)) = (old, new) else { return };
    let Some(old) = &old.detail else { return };
    let detail = new.detail.get_or_insert_default();
    let text = |new: &mut Option<String>, old: &Option<String>| {
        if new.as_ref().is_none_or(String::is_empty) {
            new.clone_from(old);
        }
    };
    text(&mut detail.docs, &old.docs);
    text(&mut detail.icon, &old.icon);
    text(&mut detail.description, &old.description);
    if detail.keywords.as_ref().is_none_or(Vec::is_empty) {
        detail.keywords.clone_from(&old.keywords);
    }
}

/// The kind that owns objects of `kind`, and its `spec.name` for one whose own is `name`.
pub(super) fn owner_name(kind: Kind, name: &str) -> Option<(Kind, &str)> {
    match kind {
        Kind::Image => {
            let (organization, repo, _) = split_image_name(name)?;
            Some((Kind::Repository, &name[..organization.len() + 1 + repo.len()]))
        }
        Kind::Repository => Some((Kind::Organization, organization_of(name))),
        Kind::Organization | Kind::DataPack => None,
    }
}
