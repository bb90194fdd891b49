//! Names: what is legal, what they consist of, and which `metadata.name` follows from them.
//!
//! A name is parsed once, where it comes in; inside, it is an [`ImageName`] or a [`RepositoryName`].

mod parse;
mod syntax;
mod version;

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest, Sha256};

pub use syntax::{
    MAX_DNS_LABEL, MAX_DNS_SUBDOMAIN, MAX_LABEL_VALUE, check_dns_subdomain, check_label_key, check_label_value,
    check_organization_name,
};
pub(crate) use syntax::{dns_label_faults, dns_subdomain_faults, label_key_faults, label_value_faults};
pub use version::version_order;

/// How many hex digits of the SHA-256 of `spec.name` a derived `metadata.name` ends with when it can't be
/// `org.repo.tag`.
pub const META_NAME_HASH_DIGITS: usize = 10;

// Organization, repository and tag have at most 63 bytes each, so a derived name never needs cutting.
const _: () = assert!(MAX_DNS_LABEL + 2 * MAX_LABEL_VALUE + 2 + 1 + META_NAME_HASH_DIGITS <= MAX_DNS_SUBDOMAIN);

/// Which part of a name is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamePart {
    /// The form as a whole.
    Whole,
    /// What stands before the `/`.
    Organization,
    /// What stands between `/` and `:`.
    Repository,
    /// What stands after the `:`.
    Tag,
}

/// What is wrong with a name and what would be right. The message doesn't repeat the whole name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NameError {
    part: NamePart,
    message: String,
}

impl NameError {
    fn new(part: NamePart, message: impl Into<String>) -> Self {
        Self { part, message: message.into() }
    }

    /// The part that is wrong.
    #[must_use]
    pub fn part(&self) -> NamePart {
        self.part
    }
}

/// A legal image name, `org/repo:tag`.
///
/// - The organization is a DNS-1123 label.
/// - The repository is `[a-z0-9]+([._-]+[a-z0-9]+)*` (OCI), without `/`.
/// - The tag is `[A-Za-z0-9][A-Za-z0-9._-]*` (OCI) and ends with a letter or digit.
/// - Each has at most 63 bytes, since each becomes the value of a label.
///
/// Cheap to clone. Equality, order and hash are those of the string.
#[derive(Clone)]
pub struct ImageName {
    text: Arc<str>,
    /// Where the `/` is. The parts are short enough for a byte.
    slash: u8,
    /// Where the `:` is.
    colon: u8,
}

impl ImageName {
    /// Parses `org/repo:tag`.
    ///
    /// # Errors
    /// Which part is wrong and what would be right.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        let (slash, colon) = parse::image(name)?;
        Ok(Self { text: name.into(), slash, colon })
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The organization.
    #[must_use]
    pub fn org(&self) -> &str {
        &self.text[..usize::from(self.slash)]
    }

    /// The repository, without its organization.
    #[must_use]
    pub fn repo(&self) -> &str {
        &self.text[usize::from(self.slash) + 1..usize::from(self.colon)]
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.text[usize::from(self.colon) + 1..]
    }

    /// The repository's full name, `org/repo`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.text[..usize::from(self.colon)]
    }

    /// The repository's full name, as a name of its own.
    #[must_use]
    pub fn repository_name(&self) -> RepositoryName {
        RepositoryName { text: self.repository().into(), slash: self.slash }
    }

    /// The `metadata.name` that follows from this name, a pure function of it: `org.repo.tag` where the
    /// repository has no dot and that is a DNS subdomain. Otherwise that made legal (lower case, other
    /// characters as `-`), `-`, and the first 10 hex digits of the SHA-256 of the name. Always a DNS
    /// subdomain that begins with `org.`.
    ///
    /// Without a dot in the repository, two different names never give one `org.repo.tag`.
    #[must_use]
    pub fn meta_name(&self) -> String {
        meta_name(&self.text, self.repo(), format!("{}.{}.{}", self.org(), self.repo(), self.tag()))
    }
}

/// A legal repository name, `org/repo`, by the rules of [`ImageName`].
///
/// Cheap to clone. Equality, order and hash are those of the string.
#[derive(Clone)]
pub struct RepositoryName {
    text: Arc<str>,
    slash: u8,
}

impl RepositoryName {
    /// Parses `org/repo`.
    ///
    /// # Errors
    /// Which part is wrong and what would be right.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        Ok(Self { slash: parse::repository(name)?, text: name.into() })
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The organization.
    #[must_use]
    pub fn org(&self) -> &str {
        &self.text[..usize::from(self.slash)]
    }

    /// The repository, without its organization.
    #[must_use]
    pub fn repo(&self) -> &str {
        &self.text[usize::from(self.slash) + 1..]
    }

    /// The `metadata.name` that follows from this name: `org.repo`, made as [`ImageName::meta_name`] is.
    #[must_use]
    pub fn meta_name(&self) -> String {
        meta_name(&self.text, self.repo(), format!("{}.{}", self.org(), self.repo()))
    }
}

fn meta_name(spec_name: &str, repo: &str, plain: String) -> String {
    if !repo.contains('.') && check_dns_subdomain(&plain).is_ok() {
        return plain;
    }
    let mut name = String::with_capacity(plain.len() + 1 + META_NAME_HASH_DIGITS);
    for label in plain.split('.') {
        let label: String =
            label.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
        let label = label.trim_matches('-');
        if !label.is_empty() {
            if !name.is_empty() {
                name.push('.');
            }
            name.push_str(label);
        }
    }
    name.push('-');
    name.push_str(&hex(&Sha256::digest(spec_name))[..META_NAME_HASH_DIGITS]);
    name
}

/// Bytes as lower case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).collect()
}

/// Splits a name into organization (before the first `/`), repository and tag (after the last `:`)
/// without judging them: for stored data that is older than the rules.
#[must_use]
pub fn split_image_name(name: &str) -> Option<(&str, &str, &str)> {
    let (org, rest) = name.split_once('/')?;
    let (repo, tag) = rest.rsplit_once(':')?;
    Some((org, repo, tag))
}

macro_rules! behaves_as_its_text {
    ($name:ty) => {
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.text == other.text
            }
        }

        impl Eq for $name {}

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                self.text.cmp(&other.text)
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.text.hash(state);
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.text
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.text
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::parse(name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.text, f)
            }
        }
    };
}

behaves_as_its_text!(ImageName);
behaves_as_its_text!(RepositoryName);

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_knows_its_parts() {
        let name = ImageName::parse("labring/mysql-operator:8.0.23-14.1").unwrap();
        assert_eq!(
            (name.org(), name.repo(), name.tag(), name.repository()),
            ("labring", "mysql-operator", "8.0.23-14.1", "labring/mysql-operator")
        );
        assert_eq!(name.meta_name(), "labring.mysql-operator.8.0.23-14.1");
        assert_eq!(name.repository_name(), RepositoryName::parse("labring/mysql-operator").unwrap());
        assert_eq!(name.repository_name().meta_name(), "labring.mysql-operator");
        assert_eq!(
            format!("{name} {name:?}"),
            "labring/mysql-operator:8.0.23-14.1 \"labring/mysql-operator:8.0.23-14.1\""
        );
        assert_eq!(HashMap::from([(name, 1)]).get("labring/mysql-operator:8.0.23-14.1"), Some(&1));
    }

    #[test]
    fn a_name_that_is_no_legal_metadata_name_gets_a_hash() {
        let meta = |s: &str| ImageName::parse(s).unwrap().meta_name();
        assert_eq!(meta("a/b.c:d"), format!("a.b.c.d-{}", &hex(&Sha256::digest("a/b.c:d"))[..10]));
        assert!(meta("a/b_c:V1").starts_with("a.b-c.v1-"));
        assert!(meta("a/b:1..2").starts_with("a.b.1.2-"));
        assert!(meta("a/b:1._-2").starts_with("a.b.1.2-"));
        assert!(RepositoryName::parse("a/b.c").unwrap().meta_name().starts_with("a.b.c-"));
        // `a.b.c.d` could be either.
        assert_ne!(meta("a/b.c:d"), meta("a/b:c.d"));
    }

    #[test]
    fn old_names_are_split_without_judgement() {
        assert_eq!(split_image_name("A/b/c:x:y"), Some(("A", "b/c:x", "y")));
        assert_eq!(split_image_name("a/b"), None);
        assert_eq!(split_image_name("a:b"), None);
    }

    fn image_name() -> impl Strategy<Value = String> {
        (
            "[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?",
            "[a-z0-9]([a-z0-9._-]{0,6}[a-z0-9])?",
            "[A-Za-c0-9]([a-zA-C0-9._-]{0,6}[a-z0-9])?",
        )
            .prop_map(|(org, repo, tag)| format!("{org}/{repo}:{tag}"))
    }

    proptest! {
        #![proptest_config(crate::api::seeded())]

        #[test]
        fn derived_names_are_legal_and_deterministic(text in image_name()) {
            let name = ImageName::parse(&text).unwrap();
            let meta = name.meta_name();
            prop_assert!(check_dns_subdomain(&meta).is_ok(), "{}", meta);
            prop_assert_eq!(meta.split('.').next(), Some(name.org()));
            prop_assert_eq!(ImageName::parse(&text).unwrap().meta_name(), meta);
            let repo = name.repository_name();
            let meta = repo.meta_name();
            prop_assert!(check_dns_subdomain(&meta).is_ok());
            prop_assert_eq!(meta.split('.').next(), Some(repo.org()));
        }

        #[test]
        fn no_two_names_derive_one(names in proptest::collection::hash_set(image_name(), 200)) {
            let derived: HashSet<_> = names.iter().map(|n| ImageName::parse(n).unwrap().meta_name()).collect();
            prop_assert_eq!(derived.len(), names.len());
        }

        #[test]
        fn parsing_never_panics_and_a_legal_name_is_its_parts(text in "\\PC*|[a-z/:.@A_+-]{0,12}") {
            if let Ok(name) = ImageName::parse(&text) {
                prop_assert_eq!(format!("{}/{}:{}", name.org(), name.repo(), name.tag()), text.as_str());
                prop_assert_eq!(split_image_name(&text), Some((name.org(), name.repo(), name.tag())));
                for part in [name.org(), name.repo(), name.tag()] {
                    prop_assert!(!part.is_empty() && check_label_value(part).is_ok());
                }
            }
            let _ = RepositoryName::parse(&text);
        }
    }
}
