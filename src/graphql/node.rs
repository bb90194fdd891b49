//! What the catalogue is made of: images, repositories, organizations, packs.

#![expect(clippy::unused_async, reason = "the library has resolvers be async, whether they wait or not")]

use std::sync::Arc;

use async_graphql::{ComplexObject, Context, Enum, ID, Interface, Object, Result, SimpleObject};
use jiff::Timestamp;

use super::catalog::{Order, RepositoryFilter};
use super::page::{ImageConnection, RepositoryConnection, repository_connection, tags};
use super::scalar::{DateTime, ImageName, Int53, RepositoryName, Url};
use super::view::{Nodes as _, View};
use crate::api::{self, ImageType as ApiType};
use crate::gateway::{PageArgs, RepositoryQuery, keywords_of};
use crate::graph::{Record, organization_of};
use crate::model::{ActionView, ImageView};
use crate::search::updated_ms;

/// What kind of image it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Enum)]
#[graphql(remote = "ApiType")]
pub(super) enum ImageType {
    /// Installed on a cloud's desktop.
    CloudImage,
    /// Run by sealos on a cluster.
    ClusterImage,
}

/// How much kube clients are told of each image of a pack. Here the selection says how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Enum)]
#[graphql(remote = "api::Grain")]
pub(super) enum Grain {
    /// Name and type.
    #[default]
    Base,
    /// What a card in a store shows.
    Grid,
    /// Everything.
    Detail,
}

/// Anything with a global id. The id survives export and import; what is hidden and what is absent are both null.
#[derive(Clone, Interface)]
#[graphql(field(name = "id", ty = "ID", desc = "The global id: the kind and the name."))]
pub(super) enum Node {
    /// An image.
    Image(Image),
    /// A repository.
    Repository(Repository),
    /// An organization.
    Organization(Organization),
    /// A pack.
    DataPack(DataPack),
}

/// One version of a cluster image and its details.
#[derive(Clone)]
pub(super) struct Image {
    pub(super) view: View,
    pub(super) record: Arc<Record>,
}

impl Image {
    pub(super) fn full_name(&self) -> &str {
        self.record.image().map_or("", |image| image.name())
    }

    /// A text of it, which goes into the answer.
    fn told<'a>(&'a self, read: impl FnOnce(&ImageView<'a>) -> Option<String>) -> Result<Option<String>> {
        let text = self.read(read);
        self.view.tells(text.as_ref().map_or(0, String::len))?;
        Ok(text)
    }

    fn read<'a, T>(&'a self, read: impl FnOnce(&ImageView<'a>) -> Option<T>) -> Option<T> {
        ImageView::of(&self.record).as_ref().and_then(read)
    }
}

/// What can be done with an image.
#[derive(Debug, Clone, SimpleObject)]
pub(super) struct Action {
    /// The key that it has among the image's actions.
    key: String,
    /// What people see.
    name: Option<String>,
    /// What sort of action it is.
    #[graphql(name = "type")]
    sort: Option<String>,
    /// A template.
    template: Option<String>,
    /// A command.
    command: Option<String>,
}

impl From<ActionView> for Action {
    fn from(view: ActionView) -> Self {
        let ActionView { key, name, action_type, template, command } = view;
        Self { key, name, sort: action_type, template, command }
    }
}

fn image_id(name: &str) -> ID {
    ID(format!("Image:{name}"))
}

/// One version of a cluster image and its details.
#[Object]
impl Image {
    /// The global id.
    pub(super) async fn id(&self) -> ID {
        image_id(self.full_name())
    }

    /// The full name.
    async fn name(&self) -> ImageName {
        ImageName(self.full_name().into())
    }

    /// The tag of the name.
    async fn tag(&self) -> &str {
        self.record.image().map_or("", |image| image.tag())
    }

    /// What kube calls it: metadata.name.
    async fn resource_name(&self) -> &str {
        self.record.name()
    }

    /// The version, for ifVersion: it changes with each write of the image.
    async fn version(&self) -> String {
        self.record.revision.to_string()
    }

    /// The repository that it is in.
    async fn repository(&self) -> Option<Repository> {
        self.view.repository(self.record.image().map_or("", |image| image.repository()))
    }

    /// What kind of image it is.
    #[graphql(name = "type")]
    async fn image_type(&self) -> Option<ImageType> {
        self.read(ImageView::image_type).map(Into::into)
    }

    /// Words to find it by.
    async fn keywords(&self) -> Result<Vec<String>> {
        let keywords = self.read(|image| Some(image.keywords())).unwrap_or_default();
        self.view.tells(keywords.iter().map(String::len).sum())?;
        Ok(keywords)
    }

    /// A sentence or two.
    async fn description(&self) -> Result<Option<String>> {
        self.told(ImageView::description)
    }

    /// The project's home page, as written: judge it before you link to it.
    async fn url(&self) -> Result<Option<String>> {
        self.told(ImageView::url)
    }

    /// The image's ID, a digest.
    async fn image_id(&self) -> Result<Option<String>> {
        self.told(ImageView::image_id)
    }

    /// What it is built for; null where that isn't known (the `Unkonw` of old data, too).
    async fn architecture(&self) -> Result<Option<String>> {
        self.told(ImageView::architecture)
    }

    /// Its size in bytes; null where that isn't known.
    async fn size(&self) -> Option<Int53> {
        self.read(ImageView::size).map(Int53)
    }

    /// The address of an icon, as written.
    async fn icon(&self) -> Result<Option<String>> {
        self.told(ImageView::icon)
    }

    /// The same where it is fit to be loaded: an absolute address of http or https.
    async fn icon_url(&self) -> Option<Url> {
        self.read(ImageView::icon_url).map(Url)
    }

    /// The documentation, Markdown as written: clean it before you show it. Costs 20 in complexity.
    async fn docs(&self) -> Result<Option<String>> {
        self.told(ImageView::docs)
    }

    /// How long the documentation is, in bytes.
    async fn docs_bytes(&self) -> Result<i32> {
        self.view.reads_text(self.record.json().len())?;
        let docs = self.read(ImageView::docs);
        Ok(i32::try_from(docs.map_or(0, |docs| docs.len())).unwrap_or(i32::MAX))
    }

    /// When it was built; null where that isn't known (the 1970 of old data).
    async fn created_at(&self) -> Option<DateTime> {
        self.read(ImageView::created_at).map(DateTime)
    }

    /// When it came into the catalogue.
    async fn published_at(&self) -> DateTime {
        DateTime(self.record.created().parse().unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// When its entry was last written.
    async fn updated_at(&self) -> DateTime {
        // What a dry run would make would be written now.
        at_ms(if self.record.at_ms == 0 { self.view.visible().at_ms() } else { self.record.at_ms })
    }

    /// What can be done with it, in order of the keys.
    async fn actions(&self) -> Result<Vec<Action>> {
        let actions = self.read(|image| Some(image.actions())).unwrap_or_default();
        self.view.tells(actions.iter().map(ActionView::size).sum())?;
        Ok(actions.into_iter().map(Into::into).collect())
    }

    /// What a terminal runs it with; null for what isn't run on a cluster.
    async fn run_command(&self) -> Option<String> {
        self.read(ImageView::run_command)
    }

    /// What a terminal fetches it with.
    async fn pull_command(&self) -> Option<String> {
        self.read(ImageView::pull_command)
    }
}

fn at_ms(ms: i64) -> DateTime {
    // To the second, as kube's times are.
    DateTime(Timestamp::from_second(ms.div_euclid(1000)).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Owns its images.
#[derive(Clone)]
pub(super) struct Repository {
    pub(super) view: View,
    pub(super) record: Arc<Record>,
}

impl Repository {
    pub(super) fn full_name(&self) -> &str {
        self.record.repository().map_or("", |repository| repository.name())
    }

    fn latest(&self) -> Option<&Arc<Record>> {
        let name = self.full_name();
        self.view.reads_organization(organization_of(name));
        self.view.visible().tags(name).first()
    }
}

/// All versions of an image. A private one is seen by its organization's managers and administrators only.
#[Object]
impl Repository {
    /// The global id.
    pub(super) async fn id(&self) -> ID {
        ID(format!("Repository:{}", self.full_name()))
    }

    /// The full name.
    async fn name(&self) -> RepositoryName {
        RepositoryName(self.full_name().into())
    }

    /// The version, for ifVersion: it changes with each write of the repository, and when its tags do.
    async fn version(&self) -> String {
        self.record.revision.to_string()
    }

    /// Whether only the organization's managers and administrators see it.
    async fn is_private(&self) -> bool {
        self.record.repository().is_some_and(|repository| repository.private)
    }

    /// How often its images were downloaded.
    async fn download_count(&self) -> Int53 {
        Int53(self.record.repository().map_or(0, |repository| repository.downloads))
    }

    /// Those of its latest image's keywords that are supported ones.
    async fn keywords(&self) -> Vec<&'static str> {
        keywords_of(&self.record).collect()
    }

    /// When it was made, or one of its images was last written.
    async fn updated_at(&self) -> DateTime {
        self.view.reads_organization(organization_of(self.full_name()));
        at_ms(updated_ms(self.view.visible(), &self.record))
    }

    /// Whether you may change it and its images.
    async fn viewer_can_manage(&self) -> bool {
        let organization = organization_of(self.full_name());
        self.view.reads_organization(organization);
        self.view.can_manage(organization, true)
    }

    /// The organization that it is in; null for as long as a deleted one leaves it behind.
    async fn organization(&self) -> Option<Organization> {
        self.view.organization(organization_of(self.full_name()))
    }

    /// The newest of its images.
    async fn latest_image(&self) -> Option<Image> {
        self.latest().map(|record| self.view.image_of(record))
    }

    /// Its images, the newest first.
    async fn tags(
        &self,
        #[graphql(desc = "So many from the beginning: 20 if neither is said, at most 100.")] first: Option<i32>,
        #[graphql(desc = "Only those after this cursor.")] after: Option<String>,
        #[graphql(desc = "So many from the end.")] last: Option<i32>,
        #[graphql(desc = "Only those before this cursor.")] before: Option<String>,
    ) -> Result<ImageConnection> {
        let name = self.full_name();
        self.view.reads_organization(organization_of(name));
        tags(&self.view, name, &PageArgs { first, after, last, before })
    }
}

/// Owns repositories; has managers.
#[derive(Clone)]
pub(super) struct Organization {
    pub(super) view: View,
    pub(super) record: Arc<Record>,
}

impl Organization {
    pub(super) fn plain_name(&self) -> &str {
        self.record.organization().map_or("", |organization| &organization.name)
    }
}

/// Owns repositories; its managers write them and see the private ones.
#[Object]
impl Organization {
    /// The global id.
    pub(super) async fn id(&self) -> ID {
        ID(format!("Organization:{}", self.plain_name()))
    }

    /// The name.
    async fn name(&self) -> &str {
        self.plain_name()
    }

    /// The version, for ifVersion.
    async fn version(&self) -> String {
        self.record.revision.to_string()
    }

    /// Whether you may change it and what is in it.
    async fn viewer_can_manage(&self) -> bool {
        self.view.can_manage(self.plain_name(), false)
    }

    /// Its repositories.
    async fn repositories(
        &self,
        #[graphql(desc = "So many from the beginning: 20 if neither is said, at most 100.")] first: Option<i32>,
        #[graphql(desc = "Only those after this cursor.")] after: Option<String>,
        #[graphql(desc = "The order; by name where it isn't said.")] order_by: Option<Order>,
    ) -> Result<RepositoryConnection> {
        let filter = RepositoryFilter::of_organization(self.plain_name());
        let query = RepositoryQuery::new(None, Some(filter.into()), order_by.map(Into::into))?;
        repository_connection(&self.view, query, &PageArgs { first, after, last: None, before: None }).await
    }

    /// Who may change it and what is in it.
    async fn managers(&self) -> Vec<String> {
        let managers = self.record.organization().map(|organization| organization.managers.iter());
        managers.into_iter().flatten().map(ToString::to_string).collect()
    }

    /// Who made it.
    async fn creator(&self) -> Option<String> {
        match self.record.object().spec {
            api::Spec::Organization(spec) => spec.creator.filter(|name| !name.is_empty()),
            _ => None,
        }
    }
}

/// A name that was asked for, and the image that has it.
#[derive(Clone, SimpleObject)]
pub(super) struct Entry {
    /// The name.
    pub(super) name: ImageName,
    /// Null where there is none, or it is not yours to see.
    pub(super) image: Option<Image>,
}

/// What is known of each of these full names.
pub(super) fn entries(view: &View, names: &[Arc<str>]) -> Vec<Entry> {
    let found = names.iter().zip(view.find_images(names));
    found
        .map(|(name, record)| Entry {
            name: ImageName(Arc::clone(name)),
            image: record.map(|record| view.image_of(record)),
        })
        .collect()
}

/// A kept list of image names with what is known of each: kube clients share it by its name.
#[derive(Clone)]
pub(super) struct DataPack {
    pub(super) view: View,
    pub(super) record: Arc<Record>,
}

/// A kept list of image names with what is known of each.
#[Object]
impl DataPack {
    /// The global id.
    pub(super) async fn id(&self) -> ID {
        ID(format!("DataPack:{}", self.record.name()))
    }

    /// The name.
    async fn name(&self) -> &str {
        self.record.name()
    }

    /// How much kube clients are told of each image.
    async fn grain(&self) -> Grain {
        self.record.pack().map(|pack| pack.grain).unwrap_or_default().into()
    }

    /// One a name, in order of the names.
    async fn entries(&self) -> Vec<Entry> {
        entries(&self.view, self.record.pack().map_or(&[], |pack| &pack.names))
    }

    /// A digest of what kube clients are told; null where that is more than one answer holds. Costs 100 in complexity.
    async fn content_digest(&self) -> Option<String> {
        for name in self.record.pack().into_iter().flat_map(|pack| &pack.names) {
            self.view.reads_organization(organization_of(name));
        }
        self.view.reader().pack_digest(&self.record)
    }

    /// When it goes.
    async fn expires_at(&self) -> DateTime {
        at_ms(self.record.pack().map_or(0, |pack| pack.expires_ms))
    }
}

/// Who you are, as the server takes you.
#[derive(Clone, SimpleObject)]
#[graphql(complex)]
pub(super) struct Viewer {
    /// Your user name; null for those who have shown nothing.
    pub(super) name: Option<String>,
    /// The groups that you are in.
    pub(super) groups: Vec<String>,
    /// Whether you have shown nothing.
    pub(super) anonymous: bool,
    /// Whether you may do everything.
    pub(super) administrator: bool,
    /// Whether you may make an organization, and become its manager.
    pub(super) can_create_organizations: bool,
}

#[ComplexObject]
impl Viewer {
    /// The organizations that you are a manager of.
    async fn organizations(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "So many from the beginning: 20 if it isn't said, at most 100.")] first: Option<i32>,
        #[graphql(desc = "Only those after this cursor.")] after: Option<String>,
    ) -> Result<super::page::OrganizationConnection> {
        let args = PageArgs { first, after, last: None, before: None };
        super::page::organization_connection(ctx.data_unchecked::<View>(), true, &args).await
    }
}
