//! What a client writes of an image under clean names, and what that is for kube.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::image::{ActionView, ImageView};
use crate::api::{Action, ImageDetail, ImageName, ImageSpec, ImageType};
use crate::graph::Record;

/// What becomes of a field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Set<T> {
    /// It stays.
    #[default]
    Keep,
    /// It is cleared.
    Clear,
    /// It becomes this.
    To(T),
}

impl<T> Set<T> {
    fn value(&self) -> Option<&T> {
        if let Self::To(value) = self { Some(value) } else { None }
    }
}

/// What is to become of an image, whether it is there or not.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "they are described in the schema")]
pub struct ImageChange {
    pub name: ImageName,
    pub image_type: Set<ImageType>,
    pub keywords: Set<Vec<String>>,
    pub description: Set<String>,
    pub icon: Set<String>,
    pub docs: Set<String>,
    pub url: Set<String>,
    pub image_id: Set<String>,
    pub architecture: Set<String>,
    pub size: Set<i64>,
    pub created_at: Set<String>,
    pub actions: Set<Vec<ActionView>>,
}

fn action(view: &ActionView) -> Action {
    Action {
        name: view.name.clone(),
        action_type: view.action_type.clone(),
        actions: view.template.clone(),
        cmd: view.command.clone(),
    }
}

impl ImageChange {
    /// The image that it makes where there is none.
    #[must_use]
    pub fn to_spec(&self) -> ImageSpec {
        let actions = self.actions.value().map(|all| all.iter().map(|one| (one.key.clone(), action(one))).collect());
        let detail = ImageDetail {
            keywords: self.keywords.value().cloned(),
            description: self.description.value().cloned(),
            icon: self.icon.value().cloned(),
            docs: self.docs.value().cloned(),
            url: self.url.value().cloned(),
            id: self.image_id.value().cloned(),
            arch: self.architecture.value().cloned(),
            size: self.size.value().copied(),
            creat_time: self.created_at.value().cloned(),
            actions,
        };
        ImageSpec {
            name: self.name.as_str().to_owned(),
            image_type: self.image_type.value().copied(),
            detail: (detail != ImageDetail::default()).then_some(detail),
        }
    }

    /// What it changes of `current`, at just this version, as a merge patch (RFC 7386).
    #[must_use]
    pub fn to_patch(&self, current: &Record) -> Value {
        let mut detail = Map::new();
        put(&mut detail, "keywords", &self.keywords);
        put(&mut detail, "description", &self.description);
        put(&mut detail, "icon", &self.icon);
        put(&mut detail, "docs", &self.docs);
        put(&mut detail, "url", &self.url);
        put(&mut detail, "ID", &self.image_id);
        put(&mut detail, "arch", &self.architecture);
        put(&mut detail, "size", &self.size);
        put(&mut detail, "creatTime", &self.created_at);
        match &self.actions {
            Set::Keep => {}
            Set::Clear => drop(detail.insert("actions".to_owned(), Value::Null)),
            Set::To(actions) => {
                // A merge leaves keys that it doesn't name, and fields of those that it does.
                let before = ImageView::of(current).map(|image| image.actions()).unwrap_or_default();
                let mut all: BTreeMap<String, Value> = before.into_iter().map(|one| (one.key, Value::Null)).collect();
                for one in actions {
                    let whole = json!({
                        "name": one.name, "actionType": one.action_type, "actions": one.template, "cmd": one.command,
                    });
                    all.insert(one.key.clone(), whole);
                }
                detail.insert("actions".to_owned(), all.into_iter().collect());
            }
        }
        let mut spec = Map::new();
        put(&mut spec, "type", &self.image_type);
        if !detail.is_empty() {
            spec.insert("detail".to_owned(), detail.into());
        }
        json!({ "metadata": { "resourceVersion": current.revision.to_string() }, "spec": spec })
    }
}

fn put<T: serde::Serialize>(fields: &mut Map<String, Value>, name: &str, set: &Set<T>) {
    match set {
        Set::Keep => {}
        Set::Clear => drop(fields.insert(name.to_owned(), Value::Null)),
        Set::To(value) => drop(fields.insert(name.to_owned(), json!(value))),
    }
}
