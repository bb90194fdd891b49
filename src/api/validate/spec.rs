//! The rules of each kind's spec.

use std::fmt;

use super::time::parse_rfc3339;
use crate::api::duration::check_expire_time;
use crate::api::name::{ImageName, RepositoryName, dns_label_faults};
use crate::api::quote::Quoted;
use crate::api::spec_hash::{SpecHash, is_reserved_pack_name};
use crate::api::{DataPackSpec, ImageDetail, ImageSpec, OrganizationSpec, RepositorySpec, Spec};
use crate::error::{FieldError, FieldReason};

/// Most names of one pack, doubles counted.
pub const MAX_PACK_NAMES: usize = 1000;
/// Most illegal names of one pack that are told of.
pub const MAX_NAME_ERRORS: usize = 50;
/// Most keywords of one image.
pub const MAX_KEYWORDS: usize = 256;
/// Longest keyword, in characters.
pub const MAX_KEYWORD_LEN: usize = 256;
/// Most managers of one organization.
pub const MAX_MANAGERS: usize = 1000;
/// Longest manager, in characters: a user's name as certificates and tokens carry it, with room.
pub const MAX_MANAGER_LEN: usize = 1024;
/// What a manager begins with who is neither a `ServiceAccount` of the users' namespace nor a local user; the full user
/// name follows.
pub const USER_PREFIX: &str = "user:";

const IMMUTABLE: &str = "field is immutable";

/// What is wrong with a spec that is about to be created or updated, as far as it can be told without looking at other
/// objects. An empty `meta_name` (none is given yet) is not judged.
#[must_use]
pub fn validate_spec(meta_name: &str, spec: &Spec) -> Vec<FieldError> {
    match spec {
        Spec::Image(spec) => image(meta_name, spec),
        Spec::Repository(spec) => repository(meta_name, spec),
        Spec::Organization(spec) => organization(meta_name, spec),
        Spec::DataPack(spec) => pack(meta_name, spec),
    }
}

/// What may not change about a spec: `spec.name`, and an Organization's creator. Who fills in what an update leaves out
/// does so first.
#[must_use]
pub fn validate_update(old: &Spec, new: &Spec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if old.name() != new.name() {
        errors.push(FieldError::invalid("spec.name", Quoted(new.name().unwrap_or_default()), IMMUTABLE));
    }
    if let (Spec::Organization(old), Spec::Organization(new)) = (old, new)
        && old.creator != new.creator
    {
        let creator = new.creator.as_deref().unwrap_or_default();
        errors.push(FieldError::invalid("spec.creator", Quoted(creator), IMMUTABLE));
    }
    errors
}

fn name_error(name: &str, form: &str, error: impl fmt::Display) -> FieldError {
    if name.is_empty() {
        FieldError::required("spec.name", form)
    } else {
        FieldError::invalid("spec.name", Quoted(name), error)
    }
}

/// So that nobody squats a name of another organization, or learns of a private one by a conflict.
fn begins_with_organization(meta_name: &str, org: &str, derived: &str) -> Option<FieldError> {
    let fits = meta_name.is_empty() || meta_name.strip_prefix(org).is_some_and(|rest| rest.starts_with('.'));
    (!fits).then(|| {
        let want = format_args!("must begin with \"{org}.\", the organization of spec.name, as in {derived}");
        FieldError::invalid("metadata.name", Quoted(meta_name), want)
    })
}

fn image(meta_name: &str, spec: &ImageSpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match ImageName::parse(&spec.name) {
        Ok(name) => errors.extend(begins_with_organization(meta_name, name.org(), &name.meta_name())),
        Err(e) => errors.push(name_error(&spec.name, "want org/repo:tag, as in labring/nginx:1.23", e)),
    }
    if let Some(detail) = &spec.detail {
        image_detail(detail, &mut errors);
    }
    errors
}

fn image_detail(detail: &ImageDetail, errors: &mut Vec<FieldError>) {
    if let Some(size) = detail.size.filter(|s| *s < 0) {
        errors.push(FieldError::invalid("spec.detail.size", size, "must be greater than or equal to 0"));
    }
    if let Some(time) = detail.creat_time.as_deref().filter(|t| parse_rfc3339(t).is_none()) {
        let want = "must be a time of RFC 3339, as in 2024-05-01T12:00:00Z";
        errors.push(FieldError::invalid("spec.detail.creatTime", Quoted(time), want));
    }
    let keywords = detail.keywords.as_deref().unwrap_or_default();
    errors.extend(too_many("spec.detail.keywords", keywords.len(), MAX_KEYWORDS));
    for (i, keyword) in keywords.iter().enumerate().take(MAX_KEYWORDS) {
        if keyword.chars().count() > MAX_KEYWORD_LEN {
            let message = format!("Too long: may not be more than {MAX_KEYWORD_LEN} characters");
            errors.push(FieldError::new(format!("spec.detail.keywords[{i}]"), FieldReason::TooLong, message));
        }
    }
}

fn repository(meta_name: &str, spec: &RepositorySpec) -> Vec<FieldError> {
    match RepositoryName::parse(&spec.name) {
        Ok(name) => begins_with_organization(meta_name, name.org(), &name.meta_name()).into_iter().collect(),
        Err(e) => vec![name_error(&spec.name, "want org/repo, as in labring/nginx", e)],
    }
}

fn organization(meta_name: &str, spec: &OrganizationSpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if spec.name.is_empty() {
        errors.push(FieldError::required("spec.name", "want the organization's name, as in labring"));
    } else {
        let faults = dns_label_faults(&spec.name);
        errors.extend(faults.into_iter().map(|f| FieldError::invalid("spec.name", Quoted(&spec.name), f)));
        if !meta_name.is_empty() && meta_name != spec.name {
            let want = format_args!("must equal spec.name, {}", Quoted(&spec.name));
            errors.push(FieldError::invalid("metadata.name", Quoted(meta_name), want));
        }
    }
    if let Some(creator) = spec.creator.as_deref().filter(|c| !c.is_empty())
        && let Err(wrong) = check_manager(creator)
    {
        errors.push(FieldError::invalid("spec.creator", Quoted(creator), wrong));
    }
    let managers = spec.manager.as_deref().unwrap_or_default();
    errors.extend(too_many("spec.manager", managers.len(), MAX_MANAGERS));
    for (i, manager) in managers.iter().enumerate().take(MAX_MANAGERS) {
        if let Err(wrong) = check_manager(manager) {
            errors.push(FieldError::invalid(format!("spec.manager[{i}]"), Quoted(manager), wrong));
        }
    }
    errors
}

/// Whether this can be a manager: `NAME`, a `ServiceAccount` of the users' namespace or a local user, or `user:` and
/// any other user's full name.
///
/// # Errors
/// What is wrong and what would be right.
pub fn check_manager(manager: &str) -> Result<(), String> {
    let form = "want a ServiceAccount's name, or user:NAME";
    let name = manager.strip_prefix(USER_PREFIX);
    if manager.chars().count() > MAX_MANAGER_LEN {
        Err(format!("may not be more than {MAX_MANAGER_LEN} characters"))
    } else if name.unwrap_or(manager).is_empty() {
        Err(format!("the name is empty: {form}"))
    } else if manager.chars().any(char::is_control) || name.unwrap_or(manager).trim() != name.unwrap_or(manager) {
        Err(format!("control characters, and white space around a name, are not allowed: {form}"))
    } else if name.is_none() && manager.contains(':') {
        Err(format!("a name with ':' is that of a user: want {}", Quoted(&format!("{USER_PREFIX}{manager}"))))
    } else {
        Ok(())
    }
}

fn pack(meta_name: &str, spec: &DataPackSpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let names = spec.names.as_deref().unwrap_or_default();
    if let Some(error) = too_many("spec.names", names.len(), MAX_PACK_NAMES) {
        errors.push(error);
    } else {
        let illegal = names.iter().enumerate().filter_map(|(i, name)| {
            let error = ImageName::parse(name).err()?;
            Some(FieldError::invalid(format!("spec.names[{i}]"), Quoted(name), error))
        });
        errors.extend(illegal.take(MAX_NAME_ERRORS));
    }
    if let Some(expire) = spec.expire_time.as_deref()
        && let Err(e) = check_expire_time(expire)
    {
        errors.push(FieldError::invalid("spec.expireTime", Quoted(expire), e));
    }
    if errors.is_empty()
        && is_reserved_pack_name(meta_name)
        && let Some(own) = SpecHash::of(spec).ok().map(|hash| hash.pack_name()).filter(|own| own != meta_name)
    {
        let want = format_args!(
            "dp- and 40 hex digits are reserved for the hash of the spec, here {own}: want that, another name or none"
        );
        errors.push(FieldError::invalid("metadata.name", Quoted(meta_name), want));
    }
    errors
}

fn too_many(field: &str, count: usize, limit: usize) -> Option<FieldError> {
    let message = || format!("Too many: {count}: must have at most {limit} items");
    (count > limit).then(|| FieldError::new(field, FieldReason::TooMany, message()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::Kind;

    fn errors(kind: Kind, meta_name: &str, spec: Value) -> Vec<String> {
        validate_spec(meta_name, &Spec::from_value(kind, spec).unwrap()).iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn refused(kind: Kind, meta_name: &str, spec: Value, beginnings: &[&str]) {
        let errors = errors(kind, meta_name, spec);
        assert_eq!(errors.len(), beginnings.len(), "{errors:#?}");
        for (error, beginning) in errors.iter().zip(beginnings) {
            assert!(error.starts_with(beginning), "{error}\n{beginning}");
        }
    }

    #[test]
    fn legal_objects_of_each_kind_pass() {
        for (kind, meta_name, spec) in [
            (Kind::Image, "labring.nginx.1.23", json!({"name": "labring/nginx:1.23"})),
            (
                Kind::Image,
                "labring.any",
                json!({"name": "labring/nginx:1.23", "detail": {"size": 0, "keywords": ["a"],
                "creatTime": "2024-05-01T12:00:00+08:00"}}),
            ),
            (Kind::Image, "", json!({"name": "labring/nginx:1.23"})),
            (Kind::Repository, "labring.nginx", json!({"name": "labring/nginx"})),
            (
                Kind::Organization,
                "labring",
                json!({"name": "labring", "creator": "user:system:admin",
                "manager": ["alice", "user:alice@example.com", "user:system:serviceaccount:ci:bot"]}),
            ),
            (Kind::DataPack, "any", json!({})),
            (Kind::DataPack, "dp-1", json!({"names": ["a/b:c", "a/b:c"], "expireTime": "1s"})),
        ] {
            assert_eq!(errors(kind, meta_name, spec), Vec::<String>::new());
        }
    }

    #[test]
    fn a_bad_image_is_told_each_field() {
        refused(
            Kind::Image,
            "other.nginx.1.23",
            json!({"name": "labring/nginx:1.23", "detail": {"size": -1, "creatTime": "1.5.2024"}}),
            &[
                "metadata.name: Invalid value: \"other.nginx.1.23\": must begin with \"labring.\", the organization of \
                 spec.name, as in labring.nginx.1.23",
                "spec.detail.size: Invalid value: -1: must be greater than or equal to 0",
                "spec.detail.creatTime: Invalid value: \"1.5.2024\": must be a time of RFC 3339, as in 2024-05-01T12",
            ],
        );
        refused(Kind::Image, "labringx.a", json!({"name": "labring/a:b"}), &["metadata.name: "]);
        refused(Kind::Image, "a", json!({"name": "a/b:c"}), &["metadata.name: "]);
        refused(
            Kind::Image,
            "a",
            json!({"name": "a/:b"}),
            &[
                "spec.name: Invalid value: \"a/:b\": the repository is empty: want org/repo:tag, as in labring/nginx:1.23",
            ],
        );
        refused(Kind::Image, "a", json!({"name": ""}), &["spec.name: Required value: want org/repo:tag"]);
        refused(
            Kind::Image,
            "a.b",
            json!({"name": "a/b:c", "detail": {"keywords": vec!["k"; 257]}}),
            &["spec.detail.keywords: Too many: 257: must have at most 256 items"],
        );
        refused(
            Kind::Image,
            "a.b",
            json!({"name": "a/b:c", "detail": {"keywords": ["中".repeat(256), "k".repeat(257)]}}),
            &["spec.detail.keywords[1]: Too long: may not be more than 256 characters"],
        );
    }

    #[test]
    fn a_bad_repository_or_organization_is_told_each_field() {
        refused(Kind::Repository, "a.b", json!({"name": "a/b:c"}), &["spec.name: Invalid value: \"a/b:c\": a repo"]);
        refused(
            Kind::Repository,
            "b.a",
            json!({"name": "a/b"}),
            &["metadata.name: Invalid value: \"b.a\": must begin"],
        );
        refused(
            Kind::Organization,
            "b",
            json!({"name": "a", "creator": " x", "manager": ["", "user:", "a:b", "a\n", "a ", "ok"]}),
            &[
                "metadata.name: Invalid value: \"b\": must equal spec.name, \"a\"",
                "spec.creator: Invalid value: \" x\": control characters",
                "spec.manager[0]: Invalid value: \"\": the name is empty: want a ServiceAccount's name, or user:NAME",
                "spec.manager[1]: Invalid value: \"user:\": the name is empty",
                "spec.manager[2]: Invalid value: \"a:b\": a name with ':' is that of a user: want \"user:a:b\"",
                "spec.manager[3]: Invalid value: \"a\\n\": control characters",
                "spec.manager[4]: Invalid value: \"a \": control characters",
            ],
        );
        refused(
            Kind::Organization,
            "a.b",
            json!({"name": "a.b"}),
            &["spec.name: Invalid value: \"a.b\": must not contain"],
        );
    }

    #[test]
    fn a_bad_pack_is_told_each_field() {
        refused(
            Kind::DataPack,
            "p",
            json!({"names": ["a/b:c", "a/b", "a/b:c", "B"], "expireTime": "2d"}),
            &[
                "spec.names[1]: Invalid value: \"a/b\": the tag is missing: want org/repo:tag",
                "spec.names[3]: Invalid value: \"B\": the organization is missing",
                "spec.expireTime: Invalid value: \"2d\": \"2d\" is not a Go duration: Go durations have no days, use 48h",
            ],
        );
        refused(
            Kind::DataPack,
            "p",
            json!({"names": vec!["x"; 1001], "expireTime": "721h"}),
            &[
                "spec.names: Too many: 1001: must have at most 1000 items",
                "spec.expireTime: Invalid value: \"721h\": 721h0m0s is too long: want at least 1s and at most 720h0m0s",
            ],
        );
        assert_eq!(errors(Kind::DataPack, "p", json!({"names": vec!["x"; 1000]})).len(), MAX_NAME_ERRORS);
    }

    #[test]
    fn a_pack_named_by_a_hash_has_that_hash() {
        let spec = json!({"names": ["a/b:c"]});
        let Spec::DataPack(pack) = Spec::from_value(Kind::DataPack, spec.clone()).unwrap() else { unreachable!() };
        let own = SpecHash::of(&pack).unwrap().pack_name();
        assert_eq!(errors(Kind::DataPack, &own, spec), Vec::<String>::new());
        refused(
            Kind::DataPack,
            &own,
            json!({}),
            &[&format!("metadata.name: Invalid value: \"{own}\": dp- and 40 hex")],
        );
    }

    #[test]
    fn names_and_creators_do_not_change() {
        let spec = |kind, v| Spec::from_value(kind, v).unwrap();
        let update = |kind, old, new| {
            validate_update(&spec(kind, old), &spec(kind, new)).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for (kind, old, new) in
            [(Kind::Image, "a/b:c", "a/b:d"), (Kind::Repository, "a/b", "a/c"), (Kind::Organization, "a", "b")]
        {
            let error = format!("spec.name: Invalid value: \"{new}\": field is immutable");
            assert_eq!(update(kind, json!({"name": old}), json!({"name": new})), [error]);
            assert!(update(kind, json!({"name": old}), json!({"name": old})).is_empty());
        }
        assert_eq!(
            update(Kind::Organization, json!({"name": "a", "creator": "x"}), json!({"name": "a", "creator": "y"})),
            ["spec.creator: Invalid value: \"y\": field is immutable"]
        );
        assert!(update(Kind::DataPack, json!({}), json!({"type": "grid"})).is_empty());
    }

    proptest! {
        #![proptest_config(crate::api::seeded())]

        #[test]
        fn any_strings_are_judged_without_panic(meta in "\\PC{0,9}", name in "\\PC{0,9}", other in any::<String>()) {
            for spec in [
                json!({"name": name, "detail": {"creatTime": other, "keywords": [other]}}),
                json!({"name": name, "manager": [other], "creator": other}),
                json!({"name": name, "names": [name, other], "expireTime": other}),
            ] {
                for kind in Kind::ALL {
                    let _ = validate_spec(&meta, &Spec::from_value(kind, spec.clone()).unwrap());
                }
            }
        }
    }
}
