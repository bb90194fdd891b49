//! The hash of a pack's spec, by which users share packs, and that of its content, which is the cache's key.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::duration::{DurationError, check_expire_time};
use super::name::{ImageName, NameError, hex};
use super::{DataPackSpec, Grain};

/// `spec.expireTime` where a pack has none.
pub const DEFAULT_EXPIRE_TIME: &str = "2h";
/// What the name of a pack begins with that is named by its hash.
pub const PACK_NAME_PREFIX: &str = "dp-";
/// How many hex digits of the hash follow.
pub const PACK_NAME_DIGITS: usize = 40;

/// The SHA-256 of a pack's spec in one form, so that equal specs have one hash however they are written.
///
/// What is hashed is UTF-8 text, the RFC 8785 form (JCS: no white space, keys sorted) of an object with exactly
/// three members, in this order:
///
/// 1. `expireTime`: in the form that Go's `Duration.String()` gives (`2h` and `120m` are `2h0m0s`; `1.5s`);
///    `2h0m0s` where it is absent.
/// 2. `names`: without doubles, sorted as JavaScript's `sort()` does, by UTF-16 code unit. Names are legal, hence
///    ASCII, so that is the order of the bytes, and no character needs an escape. Empty where absent.
/// 3. `type`: `base`, `grid` or `detail`; `base` where it is absent.
///
/// For a spec with nothing in it, that is `{"expireTime":"2h0m0s","names":[],"type":"base"}`.
///
/// In a browser (the duration has a fraction of at most 15 digits and is legal: 1 s to 720 h):
///
/// ```js
/// async function specHash({ type = "base", names = [], expireTime = "2h" }) {
///   const unit = { h: 3600e9, m: 60e9, s: 1e9, ms: 1e6, us: 1e3, "\u00b5s": 1e3, "\u03bcs": 1e3, ns: 1 };
///   const parts = [...expireTime.matchAll(/(\d*)\.?(\d*)(h|ms|m|s|us|\u00b5s|\u03bcs|ns)/g)];
///   const ns = parts.reduce((t, [, i, f, u]) => t + i * unit[u] + Math.trunc(f * (unit[u] / 10 ** f.length)), 0);
///   const [h, m, s] = [Math.floor(ns / 3600e9), Math.floor(ns / 60e9) % 60, Math.floor(ns / 1e9) % 60];
///   const fraction = `.${String(ns % 1e9).padStart(9, "0")}`.replace(/\.?0+$/, "");
///   const go = `${h ? `${h}h` : ""}${h || m ? `${m}m` : ""}${s}${fraction}s`;
///   const text = JSON.stringify({ expireTime: go, names: [...new Set(names)].sort(), type });
///   const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
///   return [...new Uint8Array(digest)].map((b) => b.toString(16).padStart(2, "0")).join("");
/// }
/// ```
///
/// The pack's name is `dp-` and the first 40 digits. `tests/vectors/spec-hash.json` has examples.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpecHash([u8; 32]);

/// Why a spec has no hash: it is not legal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecHashError {
    /// A name that is none.
    #[error("names[{index}]: {error}")]
    Name {
        /// Its place in the list.
        index: usize,
        /// What is wrong with it.
        error: NameError,
    },
    /// An expire time that is no duration or out of range.
    #[error("expireTime: {0}")]
    ExpireTime(DurationError),
}

/// What is hashed. The fields are in the order of their keys, as RFC 8785 wants them, and of their strings
/// `serde_json` escapes what RFC 8785 says, in the same way.
#[derive(Serialize)]
struct Canonical<'a> {
    #[serde(rename = "expireTime", skip_serializing_if = "Option::is_none")]
    expire_time: Option<String>,
    names: BTreeSet<&'a str>,
    #[serde(rename = "type")]
    grain: Grain,
}

impl<'a> Canonical<'a> {
    fn of(spec: &'a DataPackSpec, expire_time: Option<String>) -> Self {
        let names = spec.names.iter().flatten().map(String::as_str).collect();
        Self { expire_time, names, grain: spec.grain.unwrap_or_default() }
    }

    fn text(&self) -> String {
        serde_json::to_string(self).expect("strings in a list and a map are always JSON")
    }
}

impl SpecHash {
    /// The hash of a spec, with the defaults where it says nothing.
    ///
    /// # Errors
    /// Names or expire time are not legal.
    pub fn of(spec: &DataPackSpec) -> Result<Self, SpecHashError> {
        Ok(Self(Sha256::digest(Self::canonical(spec)?).into()))
    }

    /// The text that is hashed.
    ///
    /// # Errors
    /// Names or expire time are not legal.
    pub fn canonical(spec: &DataPackSpec) -> Result<String, SpecHashError> {
        for (index, name) in spec.names.iter().flatten().enumerate() {
            ImageName::parse(name).map_err(|error| SpecHashError::Name { index, error })?;
        }
        let expire = check_expire_time(spec.expire_time.as_deref().unwrap_or(DEFAULT_EXPIRE_TIME))
            .map_err(SpecHashError::ExpireTime)?;
        Ok(Canonical::of(spec, Some(expire.to_string())).text())
    }

    /// All 64 digits.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// The name of the pack that users of this spec share.
    #[must_use]
    pub fn pack_name(&self) -> String {
        format!("{PACK_NAME_PREFIX}{}", &self.hex()[..PACK_NAME_DIGITS])
    }

    /// The hash itself.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The SHA-256 of what decides a pack's content: the same form as that of [`SpecHash`] without `expireTime`. Of any
/// spec, legal or not, since packs of older data are kept; names are sorted by their bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// The hash of what decides the content of a pack of this spec.
    #[must_use]
    pub fn of(spec: &DataPackSpec) -> Self {
        Self(Sha256::digest(Canonical::of(spec, None).text()).into())
    }

    /// All 64 digits.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// The hash itself.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Whether a pack may have this name only if it is [`SpecHash::pack_name`] of its spec: `dp-` and exactly 40 lower
/// case hex digits.
#[must_use]
pub fn is_reserved_pack_name(name: &str) -> bool {
    name.strip_prefix(PACK_NAME_PREFIX).is_some_and(|digits| {
        digits.len() == PACK_NAME_DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

impl fmt::Display for SpecHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.hex())
    }
}

impl fmt::Debug for SpecHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpecHash({})", self.hex())
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.hex())
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHash({})", self.hex())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Vector {
        about: String,
        spec: DataPackSpec,
        canonical: String,
        hex: String,
        name: String,
    }

    #[test]
    fn the_published_vectors_hold() {
        let vectors: Vec<Vector> = serde_json::from_str(include_str!("../../tests/vectors/spec-hash.json")).unwrap();
        assert!(vectors.len() >= 10);
        for vector in vectors {
            let hash = SpecHash::of(&vector.spec).unwrap();
            assert_eq!(SpecHash::canonical(&vector.spec).unwrap(), vector.canonical, "{}", vector.about);
            assert_eq!(hash.hex(), vector.hex, "{}", vector.about);
            assert_eq!(hash.pack_name(), vector.name, "{}", vector.about);
            assert!(is_reserved_pack_name(&vector.name));
        }
    }

    fn spec(grain: Option<Grain>, names: &[&str], expire_time: Option<&str>) -> DataPackSpec {
        DataPackSpec {
            grain,
            names: Some(names.iter().map(|n| (*n).to_owned()).collect()),
            expire_time: expire_time.map(str::to_owned),
        }
    }

    #[test]
    fn the_content_does_not_depend_on_the_expire_time() {
        let (short, long) = (spec(None, &["a/b:c"], Some("1h")), spec(Some(Grain::Base), &["a/b:c"], Some("2h")));
        assert_eq!(ContentHash::of(&short), ContentHash::of(&long));
        assert_ne!(SpecHash::of(&short).unwrap(), SpecHash::of(&long).unwrap());
        assert_ne!(ContentHash::of(&short), ContentHash::of(&spec(Some(Grain::Grid), &["a/b:c"], None)));
        assert_ne!(ContentHash::of(&short), ContentHash::of(&spec(None, &["a/b:d"], None)));
        // Of older data too.
        assert_ne!(ContentHash::of(&spec(None, &["\"]\u{1}"], Some("2d"))), ContentHash::of(&short));
    }

    #[test]
    fn a_spec_that_is_not_legal_has_no_hash() {
        let of = |s| SpecHash::of(&s).unwrap_err().to_string();
        assert!(of(spec(None, &["a/b:c", "a/:b"], None)).starts_with("names[1]: the repository is empty"));
        assert!(of(spec(None, &[], Some("2d"))).starts_with("expireTime: \"2d\" is not a Go duration"));
        assert!(of(spec(None, &[], Some("1ms"))).starts_with("expireTime: 1ms is too short"));
    }

    #[test]
    fn only_forty_hex_digits_are_reserved() {
        let digits = "0123456789abcdef0123456789abcdef01234567";
        assert!(is_reserved_pack_name(&format!("dp-{digits}")));
        for name in ["dp-", "dp-abc", digits, &format!("dp-{digits}0"), &format!("dp-{}", digits.to_uppercase())] {
            assert!(!is_reserved_pack_name(name), "{name}");
        }
    }

    proptest! {
        #![proptest_config(crate::api::seeded())]

        #[test]
        fn order_and_doubles_of_names_do_not_matter(
            (names, other) in proptest::collection::vec("[a-c]/[a-c]:[a-c]", 0..6).prop_flat_map(|names| {
                let doubled = [names.clone(), names.iter().take(2).cloned().collect()].concat();
                (Just(names), Just(doubled).prop_shuffle())
            }),
        ) {
            let of = |names| SpecHash::of(&DataPackSpec { grain: None, names: Some(names), expire_time: None }).unwrap();
            prop_assert_eq!(of(names), of(other));
        }
    }
}
