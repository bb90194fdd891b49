//! What a cluster says of who may speak for whom: the ConfigMap `extension-apiserver-authentication` in
//! kube-system, and the headers in which a front proxy (kube-apiserver's aggregator) says who asks.

use std::collections::BTreeMap;

use http::HeaderMap;
use k8s_openapi::api::core::v1::ConfigMap;

use crate::auth::caller::Named;
use crate::auth::certificate::{Authorities, Trust};

/// The ConfigMap's namespace.
pub const NAMESPACE: &str = "kube-system";
/// The ConfigMap's name.
pub const NAME: &str = "extension-apiserver-authentication";
/// The common name of the certificate that a replica shows another.
pub const REPLICA: &str = "imagehub-replica";
/// The header in which a replica names the user for whom it asks.
pub const REMOTE_USER: &str = "x-remote-user";
/// That of the user's uid.
pub const REMOTE_UID: &str = "x-remote-uid";
/// That of a group, once for each.
pub const REMOTE_GROUP: &str = "x-remote-group";
/// What begins that of an extra value; the key follows, percent-encoded.
pub const REMOTE_EXTRA: &str = "x-remote-extra-";
/// The most groups, and the most values of extra keys, that are read of one request.
const VALUES: usize = 1024;

/// The ConfigMap, read.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) trust: Trust,
    user_headers: Vec<String>,
    uid_headers: Vec<String>,
    group_headers: Vec<String>,
    extra_prefixes: Vec<String>,
}

impl Settings {
    /// Reads the ConfigMap.
    ///
    /// # Errors
    /// Which of its keys is wrong, and how.
    pub(super) fn read(map: &ConfigMap, generation: u64) -> Result<Self, String> {
        let empty = BTreeMap::new();
        let data = map.data.as_ref().unwrap_or(&empty);
        let names = |key: &str| -> Result<Vec<String>, String> {
            match data.get(key).map(String::as_str) {
                None | Some("") => Ok(Vec::new()),
                Some(text) => {
                    serde_json::from_str(text).map_err(|error| format!("{key} is not a JSON list of strings: {error}"))
                }
            }
        };
        let authorities = |key: &str| {
            let bundle = data.get(key).filter(|bundle| !bundle.trim().is_empty());
            bundle.map(|bundle| Authorities::from_pem(bundle).map_err(|error| format!("{key}: {error}"))).transpose()
        };
        let lower = |names: Vec<String>| names.into_iter().map(|name| name.to_ascii_lowercase()).collect();
        let allowed = names("requestheader-allowed-names")?;
        Ok(Self {
            trust: Trust {
                generation,
                clients: authorities("client-ca-file")?,
                proxies: authorities("requestheader-client-ca-file")?.map(|authorities| (authorities, allowed)),
            },
            user_headers: lower(names("requestheader-username-headers")?),
            uid_headers: lower(names("requestheader-uid-headers")?),
            group_headers: lower(names("requestheader-group-headers")?),
            extra_prefixes: lower(names("requestheader-extra-headers-prefix")?),
        })
    }

    /// Those by which another replica of this server says for whom it asks: as a front proxy does.
    pub(super) fn of_replicas(authorities: Authorities, generation: u64) -> Self {
        let one = |name: &str| vec![name.to_owned()];
        Self {
            trust: Trust { generation, clients: None, proxies: Some((authorities, one(REPLICA))) },
            user_headers: one(REMOTE_USER),
            uid_headers: one(REMOTE_UID),
            group_headers: one(REMOTE_GROUP),
            extra_prefixes: one(REMOTE_EXTRA),
        }
    }

    /// Who asks, by the headers of a request that came over a front proxy's connection; `None` where they name
    /// nobody.
    ///
    /// # Errors
    /// What can't be read of them.
    pub(super) fn said(&self, headers: &HeaderMap) -> Result<Option<Named>, String> {
        let first = |names: &[String]| -> Result<Option<String>, String> {
            for name in names {
                if let Some(value) = headers.get(name).filter(|value| !value.is_empty()) {
                    return text(name, value).map(Some);
                }
            }
            Ok(None)
        };
        let Some(user) = first(&self.user_headers)? else { return Ok(None) };
        let mut said = Named { user, uid: first(&self.uid_headers)?, ..Named::default() };
        let mut values = 0;
        for name in &self.group_headers {
            for value in headers.get_all(name) {
                values += 1;
                said.groups.push(text(name, value)?);
            }
        }
        for (name, value) in headers {
            let name = name.as_str();
            let key = self.extra_prefixes.iter().find_map(|prefix| name.strip_prefix(prefix.as_str()));
            if let Some(key) = key {
                values += 1;
                said.extra.entry(unescape(key)).or_default().push(text(name, value)?);
            }
        }
        if values > VALUES {
            return Err(format!("{values} groups and extra values: {VALUES} are the most that are read"));
        }
        Ok(Some(said))
    }
}

fn text(name: &str, value: &http::HeaderValue) -> Result<String, String> {
    // HTTP gives no meaning to bytes beyond ASCII; Go sends UTF-8.
    String::from_utf8(value.as_bytes().to_vec()).map_err(|_| format!("the header {name} is not UTF-8"))
}

/// An extra key as kube has it: lower-cased, percent-decoded where it can be, as it is where it can't.
fn unescape(key: &str) -> String {
    let (mut out, bytes) = (Vec::with_capacity(key.len()), key.as_bytes());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'%' {
            let digits = key.get(at + 1..at + 3).filter(|digits| !digits.starts_with('+'));
            let Some(decoded) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
                return key.to_owned();
            };
            out.push(decoded);
            at += 3;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        let data = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Settings::read(&ConfigMap { data: Some(data), ..ConfigMap::default() }, 1)
    }

    fn usual() -> Settings {
        settings(&[
            ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#),
            ("requestheader-uid-headers", r#"["X-Remote-Uid"]"#),
            ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
            ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
        ])
        .unwrap()
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| (name.parse().unwrap(), value.parse().unwrap());
        pairs.iter().map(pair).collect::<Vec<(http::HeaderName, http::HeaderValue)>>().into_iter().collect()
    }

    #[test]
    fn a_proxys_headers_say_who_asks() {
        let said = usual().said(&headers(&[
            ("x-remote-user", "alice"),
            ("x-remote-uid", "7"),
            ("x-remote-group", "dev"),
            ("x-remote-group", "ops"),
            ("x-remote-extra-example.com%2fscope", "a"),
            ("x-remote-extra-example.com%2fscope", "b"),
            ("x-remote-extra-bad%zz", "c"),
        ]));
        let said = said.unwrap().unwrap();
        assert_eq!((said.user.as_str(), said.uid.as_deref()), ("alice", Some("7")));
        assert_eq!(said.groups, ["dev", "ops"]);
        assert_eq!(said.extra["example.com/scope"], ["a", "b"]);
        assert_eq!(said.extra["bad%zz"], ["c"]);
    }

    #[test]
    fn without_a_user_they_say_nothing() {
        assert_eq!(usual().said(&headers(&[("x-remote-group", "system:masters")])).unwrap(), None);
        assert_eq!(usual().said(&headers(&[("x-remote-user", "")])).unwrap(), None);
    }

    #[test]
    fn a_uid_counts_only_where_the_cluster_lists_its_header() {
        let old = settings(&[("requestheader-username-headers", r#"["X-Remote-User"]"#)]).unwrap();
        let said = old.said(&headers(&[("x-remote-user", "alice"), ("x-remote-uid", "7")])).unwrap().unwrap();
        assert_eq!(said.uid, None);
    }

    #[test]
    fn what_is_wrong_with_the_config_map_is_named() {
        let error = settings(&[("requestheader-group-headers", "X-Remote-Group")]).unwrap_err();
        assert!(error.starts_with("requestheader-group-headers is not a JSON list"), "{error}");
        let error = settings(&[("client-ca-file", "nonsense")]).unwrap_err();
        assert!(error.starts_with("client-ca-file: "), "{error}");
        assert!(settings(&[]).unwrap().trust.clients.is_none());
    }
}
