//! The order of tags as versions.

use std::cmp::Ordering;

/// Words that mark a version as not yet released, the earliest first.
const PRE_RELEASES: [&str; 11] =
    ["dev", "snapshot", "nightly", "canary", "unstable", "alpha", "beta", "milestone", "pre", "preview", "rc"];

/// The tag that people move to the newest version by hand.
const LATEST: &str = "latest";

/// What a tag consists of. The order of the variants is the order of versions: `1.0-rc.1` before `1.0`
/// before `1.0-alpine` before `1.0.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Token<'a> {
    /// The place of its word among [`PRE_RELEASES`].
    PreRelease(usize),
    /// After the last one.
    End,
    /// Any other word, compared without case.
    Word(Folded<'a>),
    /// Length and digits, without leading zeros: a number of any size.
    Number(usize, &'a str),
}

/// A word compared without (ASCII) case.
#[derive(Debug, Clone, Copy)]
struct Folded<'a>(&'a str);

impl Ord for Folded<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let lower = |s: &Self| s.0.as_bytes().iter().map(u8::to_ascii_lowercase).collect::<Vec<_>>();
        lower(self).cmp(&lower(other))
    }
}

impl PartialOrd for Folded<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Folded<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(other.0)
    }
}

impl Eq for Folded<'_> {}

/// Which tags come after which whatever their tokens are: words, then numbers, then `latest`.
fn class(tag: &str) -> u8 {
    if tag.eq_ignore_ascii_case(LATEST) { 2 } else { u8::from(tag.starts_with(|c: char| c.is_ascii_digit())) }
}

fn without_v(tag: &str) -> &str {
    match tag.as_bytes() {
        [b'v' | b'V', digit, ..] if digit.is_ascii_digit() => &tag[1..],
        _ => tag,
    }
}

fn tokens(tag: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = tag;
    // Trailing zeros of the numbers that a tag starts with say nothing: 1.0.0-rc.1 comes before 1.0.
    let mut in_release = true;
    let end_release = |tokens: &mut Vec<Token<'_>>| {
        while matches!(tokens.last(), Some(Token::Number(0, _))) {
            tokens.pop();
        }
    };
    while let Some(first) = rest.chars().next() {
        let kind = |c: char| if c.is_ascii_digit() { 0 } else { 1 + u8::from(matches!(c, '.' | '_' | '-' | '+')) };
        let of = kind(first);
        let (run, tail) = rest.split_at(rest.find(|c| kind(c) != of).unwrap_or(rest.len()));
        rest = tail;
        match of {
            0 => {
                let digits = run.trim_start_matches('0');
                tokens.push(Token::Number(digits.len(), digits));
            }
            1 => {
                if std::mem::take(&mut in_release) {
                    end_release(&mut tokens);
                }
                tokens.push(match PRE_RELEASES.iter().position(|p| run.eq_ignore_ascii_case(p)) {
                    Some(place) => Token::PreRelease(place),
                    None => Token::Word(Folded(run)),
                });
            }
            _ => {}
        }
    }
    if in_release {
        end_release(&mut tokens);
    }
    tokens.push(Token::End);
    tokens
}

/// Compares two tags as versions; the greater one is the newer.
///
/// - Numbers compare as numbers, of any length: `1.9` before `1.10`. More numbers are newer: `8.0.23-14`
///   before `8.0.23-14.1`. Which of `.`, `_`, `-`, `+` separates them doesn't matter, nor do trailing zeros
///   of the numbers that a tag starts with, nor a `v` before a number.
/// - A pre-release comes before its release: `-dev`, `-snapshot`, `-nightly`, `-canary`, `-unstable`,
///   `-alpha`, `-beta`, `-milestone`, `-pre`, `-preview`, `-rc`, in this order. Any other word is a variant
///   and comes after it: `1.0`, `1.0-alpine`, `1.0.1`.
/// - `latest` is above all numbers: who has such a tag moves it to the newest. Every other tag that doesn't
///   begin with a number (`main`, `stable`) is below all numbers.
/// - Different strings are never equal: `1.0` and `v1.0` are the same version and compare as strings.
///
/// It is a total order on all strings, legal tags or not.
#[must_use]
pub fn version_order(a: &str, b: &str) -> Ordering {
    let (x, y) = (without_v(a), without_v(b));
    class(x).cmp(&class(y)).then_with(|| tokens(x).cmp(&tokens(y))).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_sort_as_people_read_versions() {
        let sorted = [
            "main",
            "stable",
            "0.18.4",
            "v1.0-alpha",
            "1.0.0-beta.2",
            "v1.0.0-rc.1",
            "1.0-rc2",
            "1.0.0-rc10",
            "1.0",
            "1.0.0",
            "v1.0",
            "1.0-alpine",
            "1.0.1",
            "v1.9.0",
            "1.10",
            "8.0.23-14",
            "8.0.23-14.1",
            "20230101",
            "99999999999999999999999999999999999999999999999",
            "100000000000000000000000000000000000000000000000",
            "latest",
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(version_order(a, b), i.cmp(&j), "{a} {b}");
            }
        }
    }

    fn tag() -> impl Strategy<Value = String> {
        prop_oneof![
            "v?[0-9]{1,2}(\\.[0-9]{1,2}){0,2}(-(rc|alpha|Beta|x)\\.?[0-2]?)?",
            "[v0-1a.-]{0,6}",
            "latest|LATEST|main|dev",
            "\\PC{0,6}",
        ]
    }

    proptest! {
        #![proptest_config(crate::api::seeded())]

        #[test]
        fn the_order_is_total(a in tag(), b in tag(), c in tag()) {
            prop_assert_eq!(version_order(&a, &b), version_order(&b, &a).reverse());
            prop_assert_eq!(version_order(&a, &b) == Ordering::Equal, a == b);
            if version_order(&a, &b) != Ordering::Greater && version_order(&b, &c) != Ordering::Greater {
                prop_assert_ne!(version_order(&a, &c), Ordering::Greater);
            }
        }
    }
}
