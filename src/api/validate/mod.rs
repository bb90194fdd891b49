//! The rules of the kinds that need nothing but the object itself, and the defaults.

mod metadata;
mod spec;
mod time;

pub use metadata::{MAX_ANNOTATIONS_SIZE, validate_metadata};
pub use spec::{
    MAX_KEYWORD_LEN, MAX_KEYWORDS, MAX_MANAGER_LEN, MAX_MANAGERS, MAX_NAME_ERRORS, MAX_PACK_NAMES, USER_PREFIX,
    check_manager, validate_spec, validate_update,
};
pub use time::parse_rfc3339;

use super::image::DEFAULT_CREAT_TIME;
use super::spec_hash::DEFAULT_EXPIRE_TIME;
use super::{Grain, SUPPORTED_KEYWORDS, Spec};

/// Sets what a spec leaves out, as the schema says: size 0 and an unknown `creatTime` in an Image's detail (where
/// there is one), a Repository that is public, a pack of grain base, no names and 2h.
pub fn default_spec(spec: &mut Spec) {
    match spec {
        Spec::Image(image) => {
            if let Some(detail) = &mut image.detail {
                detail.size.get_or_insert(0);
                detail.creat_time.get_or_insert_with(|| DEFAULT_CREAT_TIME.to_owned());
            }
        }
        Spec::Repository(repository) => {
            repository.is_private.get_or_insert(false);
        }
        Spec::Organization(_) => {}
        Spec::DataPack(pack) => {
            pack.grain.get_or_insert(Grain::default());
            pack.names.get_or_insert_default();
            pack.expire_time.get_or_insert_with(|| DEFAULT_EXPIRE_TIME.to_owned());
        }
    }
}

/// The keyword in the form of [`SUPPORTED_KEYWORDS`], whatever its case, if it is one that becomes a label.
#[must_use]
pub fn supported_keyword(keyword: &str) -> Option<&'static str> {
    SUPPORTED_KEYWORDS.into_iter().find(|k| k.eq_ignore_ascii_case(keyword))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::Kind;

    #[test]
    fn defaults_fill_what_is_absent_and_nothing_else() {
        for (kind, given, defaulted) in [
            (Kind::Image, json!({"name": "a/b:c"}), json!({"name": "a/b:c"})),
            (
                Kind::Image,
                json!({"name": "a/b:c", "detail": {"size": 1}}),
                json!({"name": "a/b:c", "detail": {"size": 1, "creatTime": "1970-01-01T00:00:00Z"}}),
            ),
            (
                Kind::Image,
                json!({"name": "a/b:c", "detail": {"creatTime": "2024-01-01T00:00:00Z"}}),
                json!({"name": "a/b:c", "detail": {"size": 0, "creatTime": "2024-01-01T00:00:00Z"}}),
            ),
            (Kind::Repository, json!({"name": "a/b"}), json!({"name": "a/b", "isPrivate": false})),
            (Kind::Repository, json!({"name": "a/b", "isPrivate": true}), json!({"name": "a/b", "isPrivate": true})),
            (Kind::Organization, json!({"name": "a"}), json!({"name": "a"})),
            (Kind::DataPack, json!({}), json!({"type": "base", "names": [], "expireTime": "2h"})),
            (
                Kind::DataPack,
                json!({"type": "grid", "names": ["x"], "expireTime": "3h"}),
                json!({"type": "grid", "names": ["x"], "expireTime": "3h"}),
            ),
        ] {
            let mut spec = Spec::from_value(kind, given).unwrap();
            default_spec(&mut spec);
            assert_eq!(serde_json::to_value(spec).unwrap(), defaulted);
        }
    }

    #[test]
    fn keywords_are_found_whatever_their_case() {
        assert_eq!(supported_keyword("gitops"), Some("GitOps"));
        assert_eq!(supported_keyword("STORAGE"), Some("Storage"));
        assert_eq!(supported_keyword("ci"), None);
    }
}
