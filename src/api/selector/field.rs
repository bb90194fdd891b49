//! Field selectors: the string syntax of `k8s.io/apimachinery/pkg/fields`, on the fields that all custom
//! resources support.

use std::fmt;
use std::str::FromStr;

use super::{SelectorError, check_length, check_requirements};
use crate::api::quote::QUOTE_LIMIT;

/// The fields that can be selected by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    /// Always empty: all kinds are cluster-scoped.
    Namespace,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    field: Field,
    equal: bool,
    value: String,
}

/// A field selector: all its terms must match. The empty one matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<Term>);

impl FieldSelector {
    /// Parses a selector: terms separated by commas, `field=value`, `field==value`, `field!=value`, with `\,`,
    /// `\=` and `\\` in values. The fields are `metadata.name` and `metadata.namespace`.
    ///
    /// # Errors
    /// What kube says of it, or that it is over a limit of this module.
    pub fn parse(selector: &str) -> Result<Self, SelectorError> {
        check_length(selector)?;
        let mut terms = Vec::new();
        for text in split_terms(selector).filter(|t| !t.is_empty()) {
            let (label, equal, value) = split_term(text).ok_or_else(|| {
                SelectorError(format!("invalid selector: '{}'; can't understand '{}'", cut(selector), cut(text)))
            })?;
            let value = unescape(value)?;
            let field = match label {
                "metadata.name" => Field::Name,
                "metadata.namespace" => Field::Namespace,
                _ => return Err(SelectorError(format!("field label not supported: {}", cut(label)))),
            };
            terms.push(Term { field, equal, value });
            check_requirements(terms.len())?;
        }
        Ok(Self(terms))
    }

    /// Whether the object of this name matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.iter().all(|term| {
            let actual = match term.field {
                Field::Name => name,
                Field::Namespace => "",
            };
            (actual == term.value) == term.equal
        })
    }

    /// The one name that can match, where a term says so.
    #[must_use]
    pub fn exact_name(&self) -> Option<&str> {
        self.0.iter().find(|t| t.field == Field::Name && t.equal).map(|t| t.value.as_str())
    }

    /// Whether it has no term, and so matches everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.0.iter().enumerate() {
            let field = match term.field {
                Field::Name => "metadata.name",
                Field::Namespace => "metadata.namespace",
            };
            write!(f, "{}{field}{}", if i == 0 { "" } else { "," }, if term.equal { "=" } else { "!=" })?;
            for c in term.value.chars() {
                if matches!(c, '\\' | ',' | '=') {
                    f.write_str("\\")?;
                }
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for FieldSelector {
    type Err = SelectorError;

    fn from_str(selector: &str) -> Result<Self, SelectorError> {
        Self::parse(selector)
    }
}

fn cut(text: &str) -> std::str::EscapeDebug<'_> {
    text[..text.floor_char_boundary(QUOTE_LIMIT)].escape_debug()
}

/// What stands between the commas that have no backslash before them.
fn split_terms(selector: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    selector.split(move |c| {
        let ends = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })
}

/// The field, whether it is to be equal, and the value as it is written.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let (at, _) = term.char_indices().find(|&(i, c)| c == '=' || term[i..].starts_with("!="))?;
    let (field, rest) = term.split_at(at);
    if let Some(value) = rest.strip_prefix("!=") {
        return Some((field, false, value));
    }
    rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')).map(|value| (field, true, value))
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => plain.push(c),
                other => {
                    let escaped: String = other.into_iter().flat_map(char::escape_debug).collect();
                    return Err(SelectorError(format!("invalid field selector: invalid escape sequence: \\{escaped}")));
                }
            },
            ',' | '=' => {
                return Err(SelectorError(format!(
                    "invalid field selector: unescaped character in value: \"{c}\": want \\{c} there"
                )));
            }
            c => plain.push(c),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_selected() {
        for (selector, name, matches, exact) in [
            ("", "a", true, None),
            (",", "a", true, None),
            ("metadata.name=a", "a", true, Some("a")),
            ("metadata.name==a", "b", false, Some("a")),
            ("metadata.name!=a", "a", false, None),
            ("metadata.name=a,metadata.name!=b", "a", true, Some("a")),
            ("metadata.namespace=", "a", true, None),
            ("metadata.namespace=default", "a", false, None),
            ("metadata.namespace!=default", "a", true, None),
            ("metadata.name=", "a", false, Some("")),
            (r"metadata.name=a\,b\=c\\", r"a,b=c\", true, Some(r"a,b=c\")),
        ] {
            let parsed = FieldSelector::parse(selector).unwrap();
            assert_eq!((parsed.matches(name), parsed.exact_name()), (matches, exact), "{selector}");
            assert_eq!(FieldSelector::parse(&parsed.to_string()), Ok(parsed));
        }
    }

    #[test]
    fn errors_are_in_kubes_words() {
        for (selector, message) in [
            ("spec.foo=x", "field label not supported: spec.foo"),
            ("=x", "field label not supported: "),
            ("metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
            ("metadata.name!a", "invalid selector: 'metadata.name!a'; can't understand 'metadata.name!a'"),
            ("metadata.name=a=b", "invalid field selector: unescaped character in value: \"=\": want \\= there"),
            (r"metadata.name=\a", r"invalid field selector: invalid escape sequence: \a"),
            (r"metadata.name=\", r"invalid field selector: invalid escape sequence: \"),
        ] {
            assert_eq!(FieldSelector::parse(selector).unwrap_err().to_string(), message, "{selector}");
        }
        assert!(FieldSelector::parse(&"metadata.name!=a,".repeat(257)).is_err());
        assert!(FieldSelector::parse(&"a".repeat(20_000)).is_err());
    }

    proptest! {
        #![proptest_config(crate::api::seeded())]

        #[test]
        fn parsing_never_panics_and_what_is_written_out_parses_to_itself(
            text in "\\PC*|(metadata\\.name|metadata.namespace)(=|!=|==)([a-b=,]|\\\\[,=a]){0,6}",
        ) {
            if let Ok(selector) = FieldSelector::parse(&text) {
                prop_assert_eq!(FieldSelector::parse(&selector.to_string()), Ok(selector));
            }
        }
    }
}
