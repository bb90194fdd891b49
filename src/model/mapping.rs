//! Which kube field is which clean one.

use crate::api::Kind;

/// What a kube field is called where names are clean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clean {
    /// This path. `[]` is each item of a list; the value of a map's key is an item, too.
    Path(&'static str),
    /// It isn't shown, for this reason.
    Left(&'static str),
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Mapping {
    /// The kind.
    pub kind: Kind,
    /// The path in kube's object. `[]` is each item of a list, `{}` each value of a map.
    pub kube: &'static str,
    /// Its name in GraphQL and REST.
    pub clean: Clean,
}

const fn at(kind: Kind, kube: &'static str, clean: &'static str) -> Mapping {
    Mapping { kind, kube, clean: Clean::Path(clean) }
}

const fn left(kind: Kind, kube: &'static str, why: &'static str) -> Mapping {
    Mapping { kind, kube, clean: Clean::Left(why) }
}

/// All fields of spec and status, and those of metadata that are shown.
pub const MAPPING: [Mapping; 64] = [
    at(Kind::Image, "metadata.name", "resourceName"),
    at(Kind::Image, "metadata.resourceVersion", "version"),
    at(Kind::Image, "metadata.creationTimestamp", "publishedAt"),
    at(Kind::Image, "spec.name", "name"),
    at(Kind::Image, "spec.type", "type"),
    at(Kind::Image, "spec.detail.keywords[]", "keywords[]"),
    at(Kind::Image, "spec.detail.description", "description"),
    at(Kind::Image, "spec.detail.icon", "icon"),
    at(Kind::Image, "spec.detail.docs", "docs"),
    at(Kind::Image, "spec.detail.url", "url"),
    at(Kind::Image, "spec.detail.ID", "imageId"),
    at(Kind::Image, "spec.detail.arch", "architecture"),
    at(Kind::Image, "spec.detail.size", "size"),
    at(Kind::Image, "spec.detail.creatTime", "createdAt"),
    at(Kind::Image, "spec.detail.actions{}.name", "actions[].name"),
    at(Kind::Image, "spec.detail.actions{}.actionType", "actions[].type"),
    at(Kind::Image, "spec.detail.actions{}.actions", "actions[].template"),
    at(Kind::Image, "spec.detail.actions{}.cmd", "actions[].command"),
    at(Kind::Repository, "metadata.resourceVersion", "version"),
    at(Kind::Repository, "spec.name", "name"),
    at(Kind::Repository, "spec.isPrivate", "isPrivate"),
    at(Kind::Repository, "status.name", "name"),
    at(Kind::Repository, "status.downloadCount", "downloadCount"),
    at(Kind::Repository, "status.tags[].name", "tags[].tag"),
    at(Kind::Repository, "status.tags[].metaName", "tags[].resourceName"),
    at(Kind::Repository, "status.tags[].size", "tags[].size"),
    at(Kind::Repository, "status.tags[].creatTime", "tags[].createdAt"),
    at(Kind::Repository, "status.latestTag.name", "latestImage.tag"),
    at(Kind::Repository, "status.latestTag.metaName", "latestImage.resourceName"),
    at(Kind::Repository, "status.latestTag.size", "latestImage.size"),
    at(Kind::Repository, "status.latestTag.creatTime", "latestImage.createdAt"),
    at(Kind::Organization, "metadata.resourceVersion", "version"),
    at(Kind::Organization, "spec.name", "name"),
    at(Kind::Organization, "spec.creator", "creator"),
    at(Kind::Organization, "spec.manager[]", "managers[]"),
    at(Kind::Organization, "status.name", "name"),
    at(Kind::Organization, "status.repos[]", "repositories[].name"),
    at(Kind::DataPack, "metadata.name", "name"),
    at(Kind::DataPack, "spec.type", "grain"),
    at(Kind::DataPack, "spec.names[]", "entries[].name"),
    left(Kind::DataPack, "spec.expireTime", "what clients see is when it goes, expiresAt; it is written as expireTime"),
    left(Kind::DataPack, "status.codes", "the doors answer with the entries, or with an error"),
    left(Kind::DataPack, "status.message", "it is the error's message"),
    at(Kind::DataPack, "status.contentDigest", "contentDigest"),
    at(Kind::DataPack, "status.expiresAt", "expiresAt"),
    at(Kind::DataPack, "status.datas{}.name", "entries[].image.name"),
    at(Kind::DataPack, "status.datas{}.type", "entries[].image.type"),
    at(Kind::DataPack, "status.datas{}.repoName", "entries[].image.repository.name"),
    at(Kind::DataPack, "status.datas{}.icon", "entries[].image.icon"),
    at(Kind::DataPack, "status.datas{}.keywords[]", "entries[].image.keywords[]"),
    left(Kind::DataPack, "status.datas{}.rating", "it is always 0"),
    at(Kind::DataPack, "status.datas{}.downloadCount", "entries[].image.repository.downloadCount"),
    at(Kind::DataPack, "status.datas{}.size", "entries[].image.size"),
    at(Kind::DataPack, "status.datas{}.description", "entries[].image.description"),
    at(Kind::DataPack, "status.datas{}.docs", "entries[].image.docs"),
    at(Kind::DataPack, "status.datas{}.ID", "entries[].image.imageId"),
    at(Kind::DataPack, "status.datas{}.arch", "entries[].image.architecture"),
    at(Kind::DataPack, "status.datas{}.tags[].name", "entries[].image.repository.tags[].tag"),
    at(Kind::DataPack, "status.datas{}.tags[].metaName", "entries[].image.repository.tags[].resourceName"),
    at(Kind::DataPack, "status.datas{}.tags[].size", "entries[].image.repository.tags[].size"),
    at(Kind::DataPack, "status.datas{}.tags[].creatTime", "entries[].image.repository.tags[].createdAt"),
    left(Kind::Image, "metadata.labels", "they follow from the name"),
    left(Kind::Image, "metadata.managedFields", "it is for kube's server-side apply"),
    left(Kind::Repository, "metadata.name", "it follows from the name"),
];

/// The clean path of what is wrong at `kube`, in the words of what clients write: `spec.detail.keywords[3]` of an Image
/// is keywords, 3. What is in no table stays as it is.
#[must_use]
pub fn clean_path(kind: Kind, kube: &str) -> Vec<String> {
    if kind == Kind::DataPack {
        // A pack is written as names and expireTime, and read as entries.
        return segments(kube.strip_prefix("spec.").unwrap_or(kube).replace("type", "grain").as_str());
    }
    if kube == "metadata.name" {
        return vec!["name".to_owned()];
    }
    let (field, index) = kube.split_once('[').map_or((kube, ""), |(field, rest)| (field, rest));
    let found = MAPPING.iter().filter(|line| line.kind == kind).find_map(|line| match line.clean {
        Clean::Path(clean) if line.kube == field || line.kube.strip_suffix("[]") == Some(field) => Some(clean),
        _ => None,
    });
    let Some(clean) = found else { return segments(kube) };
    let mut path = segments(clean.strip_suffix("[]").unwrap_or(clean));
    if let Some((index, _)) = index.split_once(']') {
        path.push(index.trim_matches('"').to_owned());
    }
    path
}

fn segments(path: &str) -> Vec<String> {
    path.split(['.', '[', ']']).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::schema::{Node, schema};

    fn leaves(node: &Node, path: &str, out: &mut BTreeSet<String>) {
        match node {
            Node::Object { properties, .. } => {
                for (name, node) in properties {
                    leaves(node, &if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, out);
                }
            }
            Node::Map(node) => leaves(node, &format!("{path}{{}}"), out),
            Node::Array(node) => leaves(node, &format!("{path}[]"), out),
            _ => {
                out.insert(path.to_owned());
            }
        }
    }

    #[test]
    fn every_field_of_every_kind_has_a_clean_name_or_a_reason() {
        for kind in Kind::ALL {
            let mut there = BTreeSet::new();
            leaves(schema(kind), "", &mut there);
            there.retain(|path| path.starts_with("spec") || path.starts_with("status"));
            let lines = MAPPING.iter().filter(|line| line.kind == kind && !line.kube.starts_with("metadata"));
            let mapped: BTreeSet<String> = lines.map(|line| line.kube.to_owned()).collect();
            assert_eq!(mapped, there, "{kind}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_as_clients_wrote_it() {
        assert_eq!(clean_path(Kind::Image, "spec.detail.creatTime"), ["createdAt"]);
        assert_eq!(clean_path(Kind::Image, "spec.detail.keywords[3]"), ["keywords", "3"]);
        assert_eq!(clean_path(Kind::Image, "metadata.name"), ["name"]);
        assert_eq!(clean_path(Kind::Organization, "spec.manager[0]"), ["managers", "0"]);
        assert_eq!(clean_path(Kind::DataPack, "spec.names[12]"), ["names", "12"]);
        assert_eq!(clean_path(Kind::DataPack, "spec.expireTime"), ["expireTime"]);
    }
}
