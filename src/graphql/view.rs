//! The nodes that a view has.

use std::sync::Arc;

use super::node::{DataPack, Image, Node, Organization, Repository};
use crate::graph::Record;

pub(super) use crate::gateway::View;

/// What a view shows, as nodes of the schema.
pub(super) trait Nodes {
    /// The image of this full name.
    fn image(&self, name: &str) -> Option<Image>;
    fn image_of(&self, record: &Arc<Record>) -> Image;
    /// The repository of this full name.
    fn repository(&self, name: &str) -> Option<Repository>;
    fn repository_of(&self, record: &Arc<Record>) -> Repository;
    /// The organization of this name.
    fn organization(&self, name: &str) -> Option<Organization>;
    fn organization_of(&self, record: &Arc<Record>) -> Organization;
    /// The pack of this name.
    fn pack(&self, name: &str) -> Option<DataPack>;
    fn pack_of(&self, record: &Arc<Record>) -> DataPack;
    /// What has this global id. What is no id has none.
    fn node(&self, id: &str) -> Option<Node>;
}

impl Nodes for View {
    fn image(&self, name: &str) -> Option<Image> {
        self.find_image(name).map(|record| self.image_of(record))
    }

    fn image_of(&self, record: &Arc<Record>) -> Image {
        Image { view: self.clone(), record: Arc::clone(record) }
    }

    fn repository(&self, name: &str) -> Option<Repository> {
        self.find_repository(name).map(|record| self.repository_of(record))
    }

    fn repository_of(&self, record: &Arc<Record>) -> Repository {
        Repository { view: self.clone(), record: Arc::clone(record) }
    }

    fn organization(&self, name: &str) -> Option<Organization> {
        self.find_organization(name).map(|record| self.organization_of(record))
    }

    fn organization_of(&self, record: &Arc<Record>) -> Organization {
        Organization { view: self.clone(), record: Arc::clone(record) }
    }

    fn pack(&self, name: &str) -> Option<DataPack> {
        self.find_pack(name).map(|record| self.pack_of(record))
    }

    fn pack_of(&self, record: &Arc<Record>) -> DataPack {
        DataPack { view: self.clone(), record: Arc::clone(record) }
    }

    fn node(&self, id: &str) -> Option<Node> {
        let (kind, name) = id.split_once(':')?;
        match kind {
            "Image" => self.image(name).map(Node::Image),
            "Repository" => self.repository(name).map(Node::Repository),
            "Organization" => self.organization(name).map(Node::Organization),
            "DataPack" => self.pack(name).map(Node::DataPack),
            _ => None,
        }
    }
}
