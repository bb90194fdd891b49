//! In which form a client wants its answer.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING};

use crate::error::Error;

/// How many clauses of an Accept header are looked at.
const CLAUSES: usize = 32;

/// What of an object is shown, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The whole object.
    Object,
    /// Its metadata only.
    Metadata,
    /// A row of a table, `meta.k8s.io/v1` or, if true, `v1beta1`.
    Table { beta: bool },
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    Json,
    Yaml,
}

/// What a client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) form: Form,
    pub(super) syntax: Syntax,
    pub(super) gzip: bool,
}

/// Picks, by `q` and then as they come, the first clause that can be served, as kube-apiserver does.
pub(super) fn negotiate(headers: &HeaderMap) -> Result<Accepted, Error> {
    let gzip = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok()).any(accepts_gzip);
    let accepted = |form, syntax| Accepted { form, syntax, gzip };
    let clauses = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let mut clauses = clauses.filter(|clause| !clause.trim().is_empty()).take(CLAUSES).peekable();
    let any = clauses.peek().is_some();
    let mut best: Option<(f32, Form, Syntax)> = None;
    for (q, form, syntax) in clauses.filter_map(clause_form) {
        if best.is_none_or(|(other, ..)| q > other) {
            best = Some((q, form, syntax));
        }
    }
    if let Some((_, form, syntax)) = best {
        return Ok(accepted(form, syntax));
    }
    if any {
        return Err(Error::NotAcceptable(
            "only the following media types are accepted: application/json, application/yaml".to_owned(),
        ));
    }
    Ok(accepted(Form::Object, Syntax::Json))
}

/// The quality, the form and the syntax that a clause asks for, if they can be had.
fn clause_form(clause: &str) -> Option<(f32, Form, Syntax)> {
    let mut parts = clause.split(';').map(str::trim);
    let syntax = match parts.next()? {
        "application/json" | "application/*" | "*/*" => Syntax::Json,
        "application/yaml" => Syntax::Yaml,
        _ => return None,
    };
    let (mut q, mut group, mut version, mut kind) = (1.0, "", "", "");
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match name.trim() {
            "g" => group = value.trim(),
            "v" => version = value.trim(),
            "as" => kind = value.trim(),
            "q" => q = value.trim().parse().unwrap_or(1.0),
            _ => {}
        }
    }
    if q <= 0.0 {
        return None;
    }
    if kind.is_empty() {
        return Some((q, Form::Object, syntax));
    }
    if group != "meta.k8s.io" {
        return None;
    }
    let form = match (kind, version) {
        ("Table", "v1") => Form::Table { beta: false },
        ("Table", "v1beta1") => Form::Table { beta: true },
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "v1" | "v1beta1") => Form::Metadata,
        _ => return None,
    };
    Some((q, form, syntax))
}

fn accepts_gzip(value: &str) -> bool {
    value.split(',').any(|clause| {
        let mut parts = clause.split(';').map(str::trim);
        parts.next().is_some_and(|coding| coding.eq_ignore_ascii_case("gzip"))
            && !parts.any(|p| p.strip_prefix("q=").is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(accept: &str) -> Result<Accepted, Error> {
        negotiate(&[(ACCEPT, accept.parse().unwrap())].into_iter().collect())
    }

    #[test]
    fn kubectls_table_is_a_table() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,\
                       application/json";
        assert_eq!(of(kubectl).unwrap().form, Form::Table { beta: false });
        let old = "application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json";
        assert_eq!(of(old).unwrap().form, Form::Table { beta: true });
    }

    #[test]
    fn the_garbage_collector_lists_protobuf_first_and_gets_json() {
        let collector = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,\
                         application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        assert_eq!(of(collector).unwrap().form, Form::Metadata);
    }

    #[test]
    fn what_cannot_be_served_is_406() {
        assert_eq!(of("application/vnd.kubernetes.protobuf").unwrap_err().code(), 406);
        assert_eq!(of("application/json;as=Table;v=v9;g=meta.k8s.io").unwrap_err().code(), 406);
        assert_eq!(of("*/*").unwrap().form, Form::Object);
        assert_eq!(negotiate(&HeaderMap::new()).unwrap().form, Form::Object);
        assert_eq!(of("").unwrap().form, Form::Object);
        assert_eq!(of("application/yaml").unwrap().syntax, Syntax::Yaml);
        assert_eq!(of("application/yaml;q=0.5,application/json;q=0.9").unwrap().syntax, Syntax::Json);
        assert_eq!(of("application/json;q=0").unwrap_err().code(), 406);
    }

    #[test]
    fn gzip_is_used_only_where_it_is_accepted() {
        assert!(accepts_gzip("gzip, deflate") && accepts_gzip("br;q=1.0, gzip;q=0.8"));
        assert!(!accepts_gzip("gzip;q=0") && !accepts_gzip("identity"));
    }
}
