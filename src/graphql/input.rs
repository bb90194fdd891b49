//! What mutations take.

use std::collections::HashSet;

use async_graphql::{InputObject, MaybeUndefined};

use super::node::{Grain, ImageType};
use super::scalar::{DateTime, ImageName, Int53};
use crate::api::{self, DataPackSpec};
use crate::model::{ActionView, ErrorCode, Fault, ImageChange, Set};

/// What is to become of an image. A field that is absent keeps what is there; null clears it.
#[derive(Debug, Clone, InputObject)]
pub(super) struct ImageInput {
    /// The full name. Its organization and repository are made where they are absent.
    pub(super) name: ImageName,
    /// The version that it must be at; "0": it must not exist.
    pub(super) if_version: Option<String>,
    /// What kind of image it is.
    #[graphql(name = "type")]
    image_type: MaybeUndefined<ImageType>,
    /// Words to find it by.
    keywords: MaybeUndefined<Vec<String>>,
    /// A sentence or two.
    description: MaybeUndefined<String>,
    /// The address of an icon.
    icon: MaybeUndefined<String>,
    /// The documentation, Markdown.
    docs: MaybeUndefined<String>,
    /// The project's home page.
    url: MaybeUndefined<String>,
    /// The image's ID, a digest.
    image_id: MaybeUndefined<String>,
    /// What it is built for.
    architecture: MaybeUndefined<String>,
    /// Its size in bytes.
    size: MaybeUndefined<Int53>,
    /// When it was built.
    created_at: MaybeUndefined<DateTime>,
    /// What can be done with it: all of it.
    actions: MaybeUndefined<Vec<ActionInput>>,
}

/// Something that can be done with an image.
#[derive(Debug, Clone, InputObject)]
pub(super) struct ActionInput {
    /// The key that it has among the image's actions.
    key: String,
    /// What people see.
    name: Option<String>,
    /// What sort of action it is.
    #[graphql(name = "type")]
    action_type: Option<String>,
    /// A template.
    template: Option<String>,
    /// A command.
    command: Option<String>,
}

/// What a pack is to have.
#[derive(Debug, Clone, InputObject)]
pub(super) struct DataPackInput {
    /// The images' names; at most 1000.
    pub(super) names: Vec<ImageName>,
    /// How much kube clients are told of each.
    #[graphql(default_with = "Grain::Base")]
    grain: Grain,
    /// How long it is kept, a Go duration from 1s to 720h.
    #[graphql(default = "2h")]
    expire_time: String,
}

impl DataPackInput {
    pub(super) fn to_spec(&self) -> DataPackSpec {
        DataPackSpec {
            grain: Some(self.grain.into()),
            names: Some(self.names.iter().map(|name| name.0.to_string()).collect()),
            expire_time: Some(self.expire_time.clone()),
        }
    }
}

impl ImageInput {
    /// What is to become of the image.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub(super) fn change(&self) -> Result<ImageChange, Fault> {
        fn set<T, U>(field: &MaybeUndefined<T>, into: impl FnOnce(&T) -> U) -> Set<U> {
            match field {
                MaybeUndefined::Undefined => Set::Keep,
                MaybeUndefined::Null => Set::Clear,
                MaybeUndefined::Value(value) => Set::To(into(value)),
            }
        }
        let name = api::ImageName::parse(&self.name.0)
            .map_err(|error| Fault::new(ErrorCode::Invalid, error.to_string()).at(["name"]))?;
        if let MaybeUndefined::Value(actions) = &self.actions {
            let mut keys = HashSet::new();
            if let Some(at) = actions.iter().position(|action| !keys.insert(&action.key)) {
                let fault = Fault::new(ErrorCode::Invalid, "two actions have this key");
                return Err(fault.at(["actions".to_owned(), at.to_string(), "key".to_owned()]));
            }
        }
        let action = |one: &ActionInput| ActionView {
            key: one.key.clone(),
            name: one.name.clone(),
            action_type: one.action_type.clone(),
            template: one.template.clone(),
            command: one.command.clone(),
        };
        Ok(ImageChange {
            name,
            image_type: set(&self.image_type, |one| (*one).into()),
            keywords: set(&self.keywords, Clone::clone),
            description: set(&self.description, Clone::clone),
            icon: set(&self.icon, Clone::clone),
            docs: set(&self.docs, Clone::clone),
            url: set(&self.url, Clone::clone),
            image_id: set(&self.image_id, Clone::clone),
            architecture: set(&self.architecture, Clone::clone),
            size: set(&self.size, |size| size.0),
            created_at: set(&self.created_at, |at| at.0.to_string()),
            actions: set(&self.actions, |all| all.iter().map(action).collect()),
        })
    }
}
