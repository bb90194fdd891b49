//! Parsing of `org/repo:tag` and `org/repo`, and what to tell of what is neither.

use super::{MAX_LABEL_VALUE, NameError, NamePart, check_organization_name};
use crate::api::quote::Quoted;

/// The form of a name and an example of it.
struct Form {
    form: &'static str,
    example: &'static str,
}

const IMAGE: Form = Form { form: "org/repo:tag", example: "labring/nginx:1.23" };
const REPOSITORY: Form = Form { form: "org/repo", example: "labring/nginx" };

impl Form {
    fn want(&self, part: NamePart, wrong: impl std::fmt::Display) -> NameError {
        NameError::new(part, format!("{wrong}: want {}, as in {}", self.form, self.example))
    }
}

/// Where `/` and `:` are in a legal image name.
pub(super) fn image(name: &str) -> Result<(u8, u8), NameError> {
    let (org, rest) = organization(name, &IMAGE)?;
    let Some((repo, tag)) = rest.split_once(':') else {
        return Err(if rest.is_empty() {
            IMAGE.want(NamePart::Repository, "the repository is empty")
        } else {
            IMAGE.want(NamePart::Tag, "the tag is missing")
        });
    };
    if repo.is_empty() {
        return Err(IMAGE.want(NamePart::Repository, "the repository is empty"));
    }
    check_repository(repo)?;
    if tag.is_empty() {
        return Err(IMAGE.want(NamePart::Tag, "the tag is empty"));
    }
    check_tag(tag)?;
    Ok((offset(org.len()), offset(org.len() + 1 + repo.len())))
}

/// Where `/` is in a legal repository name.
pub(super) fn repository(name: &str) -> Result<u8, NameError> {
    let (org, repo) = organization(name, &REPOSITORY)?;
    if repo.is_empty() {
        return Err(REPOSITORY.want(NamePart::Repository, "the repository is empty"));
    }
    if repo.contains(':') {
        return Err(REPOSITORY.want(NamePart::Tag, "a repository's name has no tag"));
    }
    check_repository(repo)?;
    Ok(offset(org.len()))
}

fn offset(at: usize) -> u8 {
    u8::try_from(at).expect("organization and repository were found to have at most 63 bytes each")
}

/// The organization, found legal, and what comes after its `/`, which holds no other.
fn organization<'a>(name: &'a str, form: &Form) -> Result<(&'a str, &'a str), NameError> {
    if name.is_empty() {
        return Err(form.want(NamePart::Whole, "the name is empty"));
    }
    if let Some(c) = name.chars().find(|c| c.is_whitespace() || c.is_control()) {
        return Err(form.want(NamePart::Whole, format_args!("the name holds {c:?}")));
    }
    if name.contains("://") {
        return Err(form.want(NamePart::Whole, "the name is an address, not a name"));
    }
    if name.contains('@') {
        return Err(form.want(NamePart::Tag, "names here have no digest (@sha256:...), only a tag"));
    }
    let Some((org, rest)) = name.split_once('/') else {
        return Err(form.want(NamePart::Organization, "the organization is missing"));
    };
    if org.is_empty() {
        return Err(form.want(NamePart::Organization, "the organization is empty"));
    }
    if org.contains([':', '.']) || (org == "localhost" && rest.contains('/')) {
        let host = format_args!("{} looks like a registry's address, which names here don't have", Quoted(org));
        return Err(form.want(NamePart::Organization, host));
    }
    if rest.contains('/') {
        return Err(form.want(NamePart::Repository, "the repository holds a '/'; a name has one '/'"));
    }
    if org.bytes().any(|b| b.is_ascii_uppercase()) {
        let upper = format_args!("the organization {} has upper case letters", Quoted(org));
        return Err(form.want(NamePart::Organization, upper));
    }
    check_organization_name(org).map_err(|e| {
        NameError::new(NamePart::Organization, format!("the organization {} is not legal: {e}", Quoted(org)))
    })?;
    Ok((org, rest))
}

fn check_length(part: NamePart, word: &str, value: &str) -> Result<(), NameError> {
    if value.len() <= MAX_LABEL_VALUE {
        return Ok(());
    }
    Err(NameError::new(
        part,
        format!("the {word} has {} bytes: want at most {MAX_LABEL_VALUE}, since it becomes a label", value.len()),
    ))
}

fn check_repository(repo: &str) -> Result<(), NameError> {
    let fault = |wrong: &str| {
        let want = "want lower case letters, digits, '-', '_' and '.', with a letter or digit first and last, as in \
                    my-nginx";
        Err(NameError::new(NamePart::Repository, format!("the repository {} {wrong}: {want}", Quoted(repo))))
    };
    check_length(NamePart::Repository, "repository", repo)?;
    if repo.bytes().any(|b| b.is_ascii_uppercase()) {
        return fault("has upper case letters");
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if let Some(c) = repo.chars().find(|c| !plain(*c) && !matches!(c, '.' | '_' | '-')) {
        return fault(&format!("holds {c:?}"));
    }
    if !repo.starts_with(plain) || !repo.ends_with(plain) {
        return fault("begins or ends with a sign");
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), NameError> {
    let fault = |wrong: &str, want: &str| {
        Err(NameError::new(NamePart::Tag, format!("the tag {} {wrong}: want {want}", Quoted(tag))))
    };
    check_length(NamePart::Tag, "tag", tag)?;
    if tag.contains(':') {
        return fault("holds a ':'", "one ':' in a name, as in labring/nginx:1.23");
    }
    if tag.contains('+') {
        return fault("holds a '+', which no tag can", &format!("'_' in its place, as in {}", tag.replace('+', "_")));
    }
    if let Some(c) = tag.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-')) {
        return fault(&format!("holds {c:?}"), "letters, digits, '-', '_' and '.', as in v1.23");
    }
    let plain = |c: char| c.is_ascii_alphanumeric();
    if !tag.starts_with(plain) || !tag.ends_with(plain) {
        return fault("begins or ends with a sign", "a letter or digit first and last, as in v1.23");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::name::{ImageName, RepositoryName};

    #[test]
    fn a_bad_image_name_is_told_which_part_is_wrong_and_what_would_be_right() {
        use NamePart::{Organization, Repository, Tag, Whole};
        let long = "a".repeat(64);
        for (name, part, message) in [
            ("", Whole, "the name is empty: want org/repo:tag, as in labring/nginx:1.23"),
            ("a/:b", Repository, "the repository is empty: want org/repo:tag, as in labring/nginx:1.23"),
            ("a/", Repository, "the repository is empty: want"),
            ("a/b", Tag, "the tag is missing: want"),
            ("a/b:", Tag, "the tag is empty: want"),
            ("/b:c", Organization, "the organization is empty: want"),
            ("b:c", Organization, "the organization is missing: want"),
            ("a/b:c d", Whole, "the name holds ' ': want"),
            ("https://a/b:c", Whole, "the name is an address"),
            ("a/b@sha256:0123", Tag, "names here have no digest (@sha256:...), only a tag: want"),
            ("localhost:5000/b:c", Organization, "\"localhost:5000\" looks like a registry's address"),
            ("docker.io/labring/b:c", Organization, "\"docker.io\" looks like a registry's address"),
            ("localhost/a/b:c", Organization, "\"localhost\" looks like a registry's address"),
            ("a/b/c:d", Repository, "the repository holds a '/'"),
            ("A/b:c", Organization, "the organization \"A\" has upper case letters: want"),
            ("-a/b:c", Organization, "the organization \"-a\" is not legal: a lowercase RFC 1123 label must"),
            ("a/B:c", Repository, "the repository \"B\" has upper case letters: want lower case letters"),
            ("a/b$:c", Repository, "the repository \"b$\" holds '$': want"),
            ("a/b-:c", Repository, "the repository \"b-\" begins or ends with a sign: want"),
            ("a/b:c:d", Tag, "the tag \"c:d\" holds a ':': want one ':'"),
            ("a/b:1.0+x", Tag, "the tag \"1.0+x\" holds a '+', which no tag can: want '_' in its place, as in 1.0_x"),
            ("a/b:_c", Tag, "the tag \"_c\" begins or ends with a sign: want a letter or digit first and last"),
            ("a/b:ü", Tag, "the tag \"ü\" holds 'ü': want letters"),
            (&format!("{long}/b:c"), Organization, "the organization \"aaa"),
            (&format!("a/{long}:c"), Repository, "the repository has 64 bytes: want at most 63, since it becomes"),
            (&format!("a/b:{long}"), Tag, "the tag has 64 bytes: want at most 63"),
        ] {
            let error = ImageName::parse(name).unwrap_err();
            assert_eq!(error.part(), part, "{name}: {error}");
            assert!(error.to_string().starts_with(message), "{name}: {error}");
        }
        let huge = ImageName::parse(&format!("{}/b:c", "a".repeat(1 << 20))).unwrap_err().to_string();
        assert!(huge.len() < 1024);
    }

    #[test]
    fn a_bad_repository_name_is_told_too() {
        for (name, message) in [
            ("a/b:c", "a repository's name has no tag: want org/repo, as in labring/nginx"),
            ("a", "the organization is missing: want org/repo, as in labring/nginx"),
            ("a/", "the repository is empty: want org/repo"),
        ] {
            let error = RepositoryName::parse(name).unwrap_err().to_string();
            assert!(error.starts_with(message), "{name}: {error}");
        }
    }
}
