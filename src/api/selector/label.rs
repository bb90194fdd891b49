//! Label selectors: the whole string syntax of `k8s.io/apimachinery/pkg/labels`.

use std::fmt;
use std::str::FromStr;

use super::lexer::{Kind, Lexer, Token};
use super::{MAX_SELECTOR_VALUES, SelectorError, check_length, check_requirements};
use crate::api::name::{label_key_faults, label_value_faults};
use crate::api::quote::Quoted;

/// One condition on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// `key=value`, `key==value`: the label is there with this value.
    Eq {
        /// The label.
        key: String,
        /// Its value.
        value: String,
    },
    /// `key!=value`: the label has another value or is absent.
    NotEq {
        /// The label.
        key: String,
        /// The value that it must not have.
        value: String,
    },
    /// `key in (a,b)`: the label is there with one of these values.
    In {
        /// The label.
        key: String,
        /// Its values, sorted, without doubles, at least one.
        values: Vec<String>,
    },
    /// `key notin (a,b)`: the label has none of these values or is absent.
    NotIn {
        /// The label.
        key: String,
        /// The values that it must not have, sorted, without doubles, at least one.
        values: Vec<String>,
    },
    /// `key`: the label is there.
    Exists {
        /// The label.
        key: String,
    },
    /// `!key`: the label is absent.
    NotExists {
        /// The label.
        key: String,
    },
    /// `key>1`: the label is an integer above this one.
    Greater {
        /// The label.
        key: String,
        /// The bound, itself excluded.
        value: i64,
    },
    /// `key<1`: the label is an integer below this one.
    Less {
        /// The label.
        key: String,
        /// The bound, itself excluded.
        value: i64,
    },
}

impl Requirement {
    /// The label that it is about.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Eq { key, .. }
            | Self::NotEq { key, .. }
            | Self::In { key, .. }
            | Self::NotIn { key, .. }
            | Self::Exists { key }
            | Self::NotExists { key }
            | Self::Greater { key, .. }
            | Self::Less { key, .. } => key,
        }
    }

    /// Whether an object matches whose label has this value, or hasn't got the label.
    #[must_use]
    pub fn matches(&self, actual: Option<&str>) -> bool {
        let one_of = |values: &[String], actual: &str| values.binary_search_by(|v| v.as_str().cmp(actual)).is_ok();
        let integer = || actual.and_then(|a| a.parse::<i64>().ok());
        match self {
            Self::Eq { value, .. } => actual == Some(value),
            Self::NotEq { value, .. } => actual != Some(value),
            Self::In { values, .. } => actual.is_some_and(|a| one_of(values, a)),
            Self::NotIn { values, .. } => !actual.is_some_and(|a| one_of(values, a)),
            Self::Exists { .. } => actual.is_some(),
            Self::NotExists { .. } => actual.is_none(),
            Self::Greater { value, .. } => integer().is_some_and(|a| a > *value),
            Self::Less { value, .. } => integer().is_some_and(|a| a < *value),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eq { key, value } => write!(f, "{key}={value}"),
            Self::NotEq { key, value } => write!(f, "{key}!={value}"),
            Self::In { key, values } => write!(f, "{key} in ({})", values.join(",")),
            Self::NotIn { key, values } => write!(f, "{key} notin ({})", values.join(",")),
            Self::Exists { key } => f.write_str(key),
            Self::NotExists { key } => write!(f, "!{key}"),
            Self::Greater { key, value } => write!(f, "{key}>{value}"),
            Self::Less { key, value } => write!(f, "{key}<{value}"),
        }
    }
}

/// A label selector: all its requirements must match. The empty one matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

impl LabelSelector {
    /// Parses a selector: requirements separated by commas, `key=value`, `key==value`, `key!=value`,
    /// `key in (a,b)`, `key notin (a,b)`, `key`, `!key`, `key>1`, `key<1`. Values may be empty.
    ///
    /// # Errors
    /// What kube says of it, or that it is over a limit of this module.
    pub fn parse(selector: &str) -> Result<Self, SelectorError> {
        check_length(selector)?;
        let mut parser = Parser { lexer: Lexer::new(selector), values_left: MAX_SELECTOR_VALUES };
        let mut requirements = parser.requirements()?;
        requirements.sort_by(|a, b| a.key().cmp(b.key()));
        Ok(Self(requirements))
    }

    /// Whether an object matches whose labels `label` looks up.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|r| r.matches(label(r.key())))
    }

    /// Whether it has no requirement, and so matches everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The requirements, sorted by key.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.0
    }
}

impl fmt::Display for LabelSelector {
    /// One string for all spellings of a selector; it parses to an equal one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.0.iter().enumerate() {
            write!(f, "{}{requirement}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for LabelSelector {
    type Err = SelectorError;

    fn from_str(selector: &str) -> Result<Self, SelectorError> {
        Self::parse(selector)
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    values_left: usize,
}

/// `found 'X'` of kube's messages, cut where the input is long.
fn found(token: Token<'_>) -> String {
    let cut = token.text.floor_char_boundary(crate::api::quote::QUOTE_LIMIT);
    format!("found '{}'", token.text[..cut].escape_debug())
}

impl<'a> Parser<'a> {
    fn requirements(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut requirements = Vec::new();
        loop {
            let next = self.lexer.peek();
            match next.as_value() {
                Kind::End => return Ok(requirements),
                Kind::Word | Kind::Not => {}
                _ => {
                    return Err(SelectorError(format!("{}, expected: !, identifier, or 'end of string'", found(next))));
                }
            }
            let requirement =
                self.requirement().map_err(|e| SelectorError(format!("unable to parse requirement: {e}")))?;
            requirements.push(requirement);
            check_requirements(requirements.len())?;
            let after = self.lexer.take();
            match after.kind {
                Kind::End => return Ok(requirements),
                Kind::Comma => {}
                _ => return Err(SelectorError(format!("{}, expected: ',' or 'end of string'", found(after)))),
            }
            let next = self.lexer.peek();
            if !matches!(next.as_value(), Kind::Word | Kind::Not) {
                return Err(SelectorError(format!("{}, expected: identifier after ','", found(next))));
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let mut first = self.lexer.take();
        let absent = first.kind == Kind::Not;
        if absent {
            first = self.lexer.take();
        }
        if first.as_value() != Kind::Word {
            return Err(format!("{}, expected: identifier", found(first)));
        }
        let faults = label_key_faults(first.text);
        if !faults.is_empty() {
            // Kube has no path here and says so.
            return Err(format!("<nil>: Invalid value: {}: {}", Quoted(first.text), faults.join("; ")));
        }
        let key = first.text.to_owned();
        if absent {
            return Ok(Requirement::NotExists { key });
        }
        if matches!(self.lexer.peek().kind, Kind::End | Kind::Comma) {
            return Ok(Requirement::Exists { key });
        }
        let operator = self.lexer.take();
        match operator.kind {
            Kind::Equals | Kind::DoubleEquals => self.exact_value(&key).map(|value| Requirement::Eq { key, value }),
            Kind::NotEquals => self.exact_value(&key).map(|value| Requirement::NotEq { key, value }),
            Kind::In => self.values(&key).map(|values| Requirement::In { key, values }),
            Kind::NotIn => self.values(&key).map(|values| Requirement::NotIn { key, values }),
            Kind::Greater => self.bound(&key).map(|value| Requirement::Greater { key, value }),
            Kind::Less => self.bound(&key).map(|value| Requirement::Less { key, value }),
            _ => Err(format!("{}, expected: in, notin, =, ==, !=, gt, lt", found(operator))),
        }
    }

    fn exact(&mut self) -> Result<&'a str, String> {
        if matches!(self.lexer.peek().kind, Kind::End | Kind::Comma) {
            return Ok("");
        }
        let token = self.lexer.take();
        if token.as_value() == Kind::Word {
            Ok(token.text)
        } else {
            Err(format!("{}, expected: identifier", found(token)))
        }
    }

    fn exact_value(&mut self, key: &str) -> Result<String, String> {
        let value = self.exact()?;
        value_fault(key, 0, value).map_or_else(|| Ok(value.to_owned()), Err)
    }

    fn bound(&mut self, key: &str) -> Result<i64, String> {
        let value = self.exact()?;
        let mut faults = Vec::new();
        let bound = value.parse();
        if bound.is_err() {
            faults.push(format!(
                "values[0]: Invalid value: {}: for 'Gt', 'Lt' operators, the value must be an integer",
                Quoted(value)
            ));
        }
        faults.extend(value_fault(key, 0, value));
        match bound {
            Ok(bound) if faults.is_empty() => Ok(bound),
            _ => Err(aggregate(&faults)),
        }
    }

    /// `(a,b)`, each of them possibly empty, as is what stands between the parentheses.
    fn values(&mut self, key: &str) -> Result<Vec<String>, String> {
        let open = self.lexer.take();
        if open.kind != Kind::Open {
            return Err(format!("{} expected: '('", found(open)));
        }
        let mut values = Vec::new();
        let first = self.lexer.peek();
        if !matches!(first.as_value(), Kind::Word | Kind::Comma | Kind::Close) {
            return Err(format!("{}, expected: ',', ')' or identifier", found(first)));
        }
        loop {
            // One value, which may be empty, and what ends it.
            let mut token = self.lexer.take();
            let mut value = "";
            if token.as_value() == Kind::Word {
                value = token.text;
                token = self.lexer.take();
                if !matches!(token.kind, Kind::Comma | Kind::Close) {
                    return Err(format!("{}, expected: ',' or ')'", found(token)));
                }
            }
            self.values_left = self
                .values_left
                .checked_sub(1)
                .ok_or_else(|| format!("the selector has more than {MAX_SELECTOR_VALUES} values"))?;
            values.push(value);
            match token.kind {
                Kind::Comma => {}
                Kind::Close => break,
                _ => return Err(format!("{}, expected: ',', or identifier", found(token))),
            }
        }
        values.sort_unstable();
        values.dedup();
        let faults: Vec<_> = values.iter().enumerate().filter_map(|(i, v)| value_fault(key, i, v)).collect();
        if !faults.is_empty() {
            return Err(aggregate(&faults));
        }
        Ok(values.into_iter().map(str::to_owned).collect())
    }
}

fn value_fault(key: &str, index: usize, value: &str) -> Option<String> {
    let faults = label_value_faults(value);
    (!faults.is_empty())
        .then(|| format!("values[{index}][{key}]: Invalid value: {}: {}", Quoted(value), faults.join("; ")))
}

/// Most faults of one requirement that an error names.
const MAX_FAULTS: usize = 10;

/// Several faults in one message, as kube's aggregate error writes them.
fn aggregate(faults: &[String]) -> String {
    match faults {
        [one] => one.clone(),
        many => {
            let mut list = many[..many.len().min(MAX_FAULTS)].join(", ");
            if many.len() > MAX_FAULTS {
                list.push_str(", ...");
            }
            format!("[{list}]")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        LabelSelector::parse(selector).unwrap().matches(|key| labels.get(key).copied())
    }

    #[test]
    fn selectors_match_as_in_kube() {
        for (selector, labels, matches) in [
            ("", &[][..], true),
            ("a=b", &[("a", "b")][..], true),
            ("a==b", &[("a", "c")], false),
            ("a=b", &[], false),
            ("a!=b", &[], true),
            ("a!=b", &[("a", "b")], false),
            ("a in (b, c)", &[("a", "c")], true),
            ("a in (b,c)", &[], false),
            ("a notin (b,c)", &[], true),
            ("a notin (b,c)", &[("a", "c")], false),
            ("a", &[("a", "")], true),
            ("!a", &[("a", "")], false),
            ("! a", &[("b", "")], true),
            ("a=", &[("a", "")], true),
            ("a=,b", &[("a", ""), ("b", "")], true),
            ("a in ()", &[("a", "")], true),
            ("a in (,b)", &[("a", "")], true),
            ("a in (b,)", &[("a", "")], true),
            ("a in (b,,c)", &[("a", "")], true),
            ("a in (b,c)", &[("a", "")], false),
            ("a>1", &[("a", "2")], true),
            ("a<1", &[("a", "2")], false),
            ("a>1", &[("a", "x")], false),
            ("a>1", &[], false),
            ("in in (in,notin)", &[("in", "notin")], true),
            (" a \t=\r\n b , c ", &[("a", "b"), ("c", "")], true),
            ("keyword.imagehub.sealos.io/GitOps=", &[("keyword.imagehub.sealos.io/GitOps", "")], true),
        ] {
            assert_eq!(selects(selector, labels), matches, "{selector}");
        }
    }

    #[test]
    fn one_string_stands_for_all_spellings() {
        for (selector, canonical) in [
            ("b,a==c", "a=c,b"),
            ("a in (c, b,c)", "a in (b,c)"),
            ("a in ()", "a in ()"),
            ("a notin (,)", "a notin ()"),
            ("!a , b>007", "!a,b>7"),
        ] {
            assert_eq!(LabelSelector::parse(selector).unwrap().to_string(), canonical);
        }
        assert!(LabelSelector::parse(" ").unwrap().is_empty());
    }

    #[test]
    fn errors_are_in_kubes_words() {
        for (selector, message) in [
            (",", "found ',', expected: !, identifier, or 'end of string'"),
            ("=a", "found '=', expected: !, identifier, or 'end of string'"),
            ("a,", "found '', expected: identifier after ','"),
            ("a,,b", "found ',', expected: identifier after ','"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("!a=b", "found '=', expected: ',' or 'end of string'"),
            ("a=b=c", "found '=', expected: ',' or 'end of string'"),
            ("a=(b)", "unable to parse requirement: found '(', expected: identifier"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a in (b,", "unable to parse requirement: found '', expected: ',', or identifier"),
            ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
            ("a in (=)", "unable to parse requirement: found '=', expected: ',', ')' or identifier"),
            ("a in (b,=)", "unable to parse requirement: found '=', expected: ',', or identifier"),
            ("a in (b),", "found '', expected: identifier after ','"),
        ] {
            assert_eq!(LabelSelector::parse(selector).unwrap_err().to_string(), message, "{selector}");
        }
        for (selector, message) in [
            ("-a", "unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist of alphanumeric"),
            ("a=-", "unable to parse requirement: values[0][a]: Invalid value: \"-\": a valid label must be an empty"),
            (
                "a>x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value \
                 must be an integer",
            ),
            ("a in (_,-)", "unable to parse requirement: [values[0][a]: Invalid value: \"-\": a valid label"),
        ] {
            let error = LabelSelector::parse(selector).unwrap_err().to_string();
            assert!(error.starts_with(message), "{selector}: {error}");
        }
    }

    #[test]
    fn a_selector_beyond_the_limits_is_refused() {
        let long = LabelSelector::parse(&"a".repeat(16 * 1024 + 1)).unwrap_err().to_string();
        assert_eq!(long, "the selector has 16385 bytes: want at most 16384");
        assert!(LabelSelector::parse(&vec!["a"; 256].join(",")).is_ok());
        assert!(LabelSelector::parse(&vec!["a"; 257].join(",")).is_err());
        assert!(LabelSelector::parse(&format!("a in ({})", ",".repeat(4095))).is_ok());
        assert!(LabelSelector::parse(&format!("a in ({})", ",".repeat(4096))).is_err());
    }

    fn requirement() -> impl Strategy<Value = String> {
        let key = "([a-z]{1,3}/)?[A-Za-z]([a-z_.]{0,3}[a-z])?|in|notin";
        let value = "([A-Z0-9]([a-z._-]{0,3}[0-9])?)?|in|notin";
        let set = proptest::collection::vec(value, 1..4).prop_map(|v| format!("({})", v.join(" , ")));
        prop_oneof![
            (key, "=|==|!=| = ", value).prop_map(|(k, o, v)| format!("{k}{o}{v}")),
            (key, " in | notin ", set).prop_map(|(k, o, v)| format!("{k}{o}{v}")),
            (key, "[<>]", any::<u32>()).prop_map(|(k, o, v)| format!("{k}{o}{v}")),
            "!?[a-z]{1,3}",
        ]
    }

    proptest! {
        #![proptest_config(crate::api::seeded())]

        #[test]
        fn a_selector_written_out_parses_to_itself(parts in proptest::collection::vec(requirement(), 0..5)) {
            let selector = LabelSelector::parse(&parts.join(",")).unwrap();
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector));
        }

        #[test]
        fn parsing_never_panics(text in "\\PC*|([a-b]|in|notin|[ =!<>(),0]){0,12}") {
            if let Ok(selector) = LabelSelector::parse(&text) {
                let _ = selector.matches(|_| Some("1"));
                prop_assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector));
            }
        }
    }
}
