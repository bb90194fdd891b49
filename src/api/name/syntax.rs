//! What kube calls legal: labels and subdomains of DNS, label keys and values. The rules and the words
//! are those of `k8s.io/apimachinery/pkg/api/validate/content`.

use super::{NameError, NamePart};

/// Longest DNS-1123 label, in bytes (RFC 1123).
pub const MAX_DNS_LABEL: usize = 63;
/// Longest DNS-1123 subdomain, in bytes (RFC 1123).
pub const MAX_DNS_SUBDOMAIN: usize = 253;
/// Longest label value, and longest name part of a label key, in bytes (kube).
pub const MAX_LABEL_VALUE: usize = 63;

fn alnum(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}

/// `[a-z0-9]([-a-z0-9]*[a-z0-9])?`, of any length.
fn is_dns_label(s: &str) -> bool {
    let b = s.as_bytes();
    let inner = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-';
    matches!(b, [first, .., last] | [first @ last] if *first != b'-' && *last != b'-') && b.iter().all(inner)
}

fn is_dns_subdomain(s: &str) -> bool {
    s.split('.').all(is_dns_label)
}

/// `([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]`, of any length.
fn is_label_name(s: &str) -> bool {
    let b = s.as_bytes();
    matches!(b, [first, .., last] | [first @ last] if alnum(*first) && alnum(*last))
        && b.iter().all(|c| alnum(*c) || matches!(c, b'-' | b'_' | b'.'))
}

fn too_long(limit: usize) -> String {
    format!("must be no more than {limit} bytes")
}

const LABEL_WORDS: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and \
     must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_WORDS: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' \
     or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const KEY_WORDS: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
     alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE_WORDS: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
     '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
     used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// Everything that kube would say about `name` as a DNS-1123 label.
pub(crate) fn dns_label_faults(name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if name.len() > MAX_DNS_LABEL {
        faults.push(too_long(MAX_DNS_LABEL));
    }
    if !is_dns_label(name) {
        faults.push(if is_dns_subdomain(name) { "must not contain dots" } else { LABEL_WORDS }.to_owned());
    }
    faults
}

/// Everything that kube would say about `name` as a DNS-1123 subdomain.
pub(crate) fn dns_subdomain_faults(name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if name.len() > MAX_DNS_SUBDOMAIN {
        faults.push(too_long(MAX_DNS_SUBDOMAIN));
    }
    if !is_dns_subdomain(name) {
        faults.push(SUBDOMAIN_WORDS.to_owned());
    }
    faults
}

/// Everything that kube would say about `value` as the value of a label.
pub(crate) fn label_value_faults(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > MAX_LABEL_VALUE {
        faults.push(too_long(MAX_LABEL_VALUE));
    }
    if !value.is_empty() && !is_label_name(value) {
        faults.push(VALUE_WORDS.to_owned());
    }
    faults
}

/// Everything that kube would say about `key` as a label key ("qualified name").
pub(crate) fn label_key_faults(key: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let name = match key.split_once('/') {
        None => key,
        Some((_, rest)) if rest.contains('/') => {
            return vec![format!(
                "a valid label key {KEY_WORDS} with an optional DNS subdomain prefix and '/' (e.g. \
                 'example.com/MyName')"
            )];
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                faults.push("prefix part must be non-empty".to_owned());
            } else {
                faults.extend(dns_subdomain_faults(prefix).into_iter().map(|f| format!("prefix part {f}")));
            }
            name
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > MAX_LABEL_VALUE {
        faults.push(format!("name part {}", too_long(MAX_LABEL_VALUE)));
    }
    if !is_label_name(name) {
        faults.push(format!("name part {KEY_WORDS}"));
    }
    faults
}

fn verdict(part: NamePart, faults: &[String]) -> Result<(), NameError> {
    if faults.is_empty() { Ok(()) } else { Err(NameError::new(part, faults.join("; "))) }
}

/// Whether `name` is one that an organization may have: a DNS-1123 label (so without a dot).
///
/// # Errors
/// What is wrong, in kube's words.
pub fn check_organization_name(name: &str) -> Result<(), NameError> {
    verdict(NamePart::Organization, &dns_label_faults(name))
}

/// Whether `name` is a DNS-1123 subdomain, as every `metadata.name` must be.
///
/// # Errors
/// What is wrong, in kube's words.
pub fn check_dns_subdomain(name: &str) -> Result<(), NameError> {
    verdict(NamePart::Whole, &dns_subdomain_faults(name))
}

/// Whether `value` can be the value of a label. It may be empty.
///
/// # Errors
/// What is wrong, in kube's words.
pub fn check_label_value(value: &str) -> Result<(), NameError> {
    verdict(NamePart::Whole, &label_value_faults(value))
}

/// Whether `key` can be the key of a label or the name of a finalizer: a name of at most 63 bytes, after
/// an optional DNS subdomain and `/`.
///
/// # Errors
/// What is wrong, in kube's words.
pub fn check_label_key(key: &str) -> Result<(), NameError> {
    verdict(NamePart::Whole, &label_key_faults(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_in_kubes_words() {
        assert_eq!(
            check_dns_subdomain("A_b").unwrap_err().to_string(),
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        );
        assert_eq!(check_organization_name("a.b").unwrap_err().to_string(), "must not contain dots");
        assert_eq!(check_organization_name(&"a".repeat(64)).unwrap_err().to_string(), "must be no more than 63 bytes");
        assert_eq!(check_label_value("-a").unwrap_err().to_string(), VALUE_WORDS);
        assert!(check_label_key("/a").unwrap_err().to_string().starts_with("prefix part must be non-empty"));
        assert!(check_label_key("a/b/c").unwrap_err().to_string().starts_with("a valid label key must consist"));
        assert!(check_label_key("").unwrap_err().to_string().starts_with("name part must be non-empty; name part"));
    }

    #[test]
    fn what_kube_accepts_is_accepted_and_no_more() {
        for name in ["a", "0", "a-b", "a.b-c.d", &"a".repeat(300)[..253]] {
            assert!(check_dns_subdomain(name).is_ok(), "{name}");
        }
        for name in ["", "-", "a-", "a..b", ".a", "a.", "A", "a_b", "a.-b", "ä", "a\n", &"a".repeat(254)] {
            assert!(check_dns_subdomain(name).is_err(), "{name}");
        }
        for value in ["", "A", "a_b.C-d", &"9".repeat(63)] {
            assert!(check_label_value(value).is_ok(), "{value}");
        }
        for value in ["_", "a.", "a b", "a/b", "ä", &"9".repeat(64)] {
            assert!(check_label_value(value).is_err(), "{value}");
        }
        for key in ["a", "A_b.c", "example.com/MyName", "keyword.imagehub.sealos.io/GitOps"] {
            assert!(check_label_key(key).is_ok(), "{key}");
        }
        for key in ["", "/", "a/", "/a", "a/b/c", "Example.com/a", "a b", "-a"] {
            assert!(check_label_key(key).is_err(), "{key}");
        }
    }
}
