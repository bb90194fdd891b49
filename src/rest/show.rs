//! What clients read: the kinds under clean names. No field depends on who asks, but for what they see of lists and
//! counts, so that equal things have equal bytes and tags.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api;
use crate::gateway::{self, View};
use crate::graph::{Field, Record, Visible, organization_of};
use crate::model::{ActionView, ImageView};

/// The largest number that JSON's readers hold exactly.
const MAX_EXACT: i64 = (1 << 53) - 1;

/// What kind of image it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum ImageType {
    /// Installed on a cloud's desktop.
    CloudImage,
    /// Run by sealos on a cluster.
    ClusterImage,
}

impl From<api::ImageType> for ImageType {
    fn from(of: api::ImageType) -> Self {
        match of {
            api::ImageType::CloudImage => Self::CloudImage,
            api::ImageType::ClusterImage => Self::ClusterImage,
        }
    }
}

/// How much kube clients are told of each image of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Grain {
    /// Name and type.
    Base,
    /// What a card in a store shows.
    Grid,
    /// Everything.
    Detail,
}

impl From<api::Grain> for Grain {
    fn from(of: api::Grain) -> Self {
        match of {
            api::Grain::Base => Self::Base,
            api::Grain::Grid => Self::Grid,
            api::Grain::Detail => Self::Detail,
        }
    }
}

/// Something that can be done with an image.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Action {
    /// The key that it has among the image's actions.
    key: String,
    /// What people see.
    name: Option<String>,
    /// What sort of action it is.
    #[serde(rename = "type")]
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

/// One version of a cluster image.
#[expect(clippy::struct_field_names, reason = "these are the names on the wire")]
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Image {
    /// The full name, org/repo:tag.
    name: String,
    /// The organization of the name.
    organization: String,
    /// The repository's full name, org/repo.
    repository: String,
    /// The tag of the name.
    tag: String,
    /// What kube calls it: metadata.name.
    resource_name: String,
    /// The version: it changes with each write of the image.
    version: String,
    /// What kind of image it is.
    #[serde(rename = "type")]
    #[schema(required = true)]
    image_type: Option<ImageType>,
    /// Words to find it by.
    keywords: Vec<String>,
    /// A sentence or two.
    #[schema(required = true)]
    description: Option<String>,
    /// The address of an icon, as written.
    #[schema(required = true)]
    icon: Option<String>,
    /// The same where it is fit to be loaded: an absolute address of http or https.
    #[schema(required = true)]
    icon_url: Option<String>,
    /// The documentation, Markdown as written: clean it before you show it. Not in lists, and absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    docs: Option<String>,
    /// How long the documentation is, in bytes.
    docs_bytes: usize,
    /// The project's home page, as written: judge it before you link to it.
    #[schema(required = true)]
    url: Option<String>,
    /// The image's ID, a digest.
    #[schema(required = true)]
    image_id: Option<String>,
    /// What it is built for; null where that isn't known.
    #[schema(required = true)]
    architecture: Option<String>,
    /// Its size in bytes; null where that isn't known.
    #[schema(required = true, minimum = 0)]
    size: Option<i64>,
    /// When it was built; null where that isn't known.
    #[schema(required = true, format = DateTime)]
    created_at: Option<String>,
    /// When it came into the catalogue.
    #[schema(format = DateTime)]
    published_at: String,
    /// When its entry was last written.
    #[schema(format = DateTime)]
    updated_at: String,
    /// What can be done with it, in order of the keys.
    #[schema(max_items = 65_536)]
    actions: Vec<Action>,
    /// What a terminal runs it with; null for what isn't run on a cluster.
    #[schema(required = true)]
    run_command: Option<String>,
    /// What a terminal fetches it with.
    #[schema(required = true)]
    pull_command: Option<String>,
}

/// To the second, as kube's times are.
fn at_ms(ms: i64) -> String {
    Timestamp::from_second(ms.div_euclid(1000)).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

impl Image {
    /// The image that `record` is. What would be made is shown as if it were written now.
    pub(super) fn of(visible: &Visible, record: &Record, whole: bool) -> Option<Self> {
        let (head, image) = (record.image()?, ImageView::of(record)?);
        let docs = image.docs();
        Some(Self {
            name: head.name().to_owned(),
            organization: organization_of(head.name()).to_owned(),
            repository: head.repository().to_owned(),
            tag: head.tag().to_owned(),
            resource_name: record.name().to_owned(),
            version: record.revision.to_string(),
            image_type: image.image_type().map(Into::into),
            keywords: image.keywords(),
            description: image.description(),
            icon: image.icon(),
            icon_url: image.icon_url(),
            docs_bytes: docs.as_ref().map_or(0, String::len),
            docs: docs.filter(|_| whole),
            url: image.url(),
            image_id: image.image_id(),
            architecture: image.architecture(),
            size: image.size().map(|size| size.min(MAX_EXACT)),
            created_at: image.created_at().map(|at| at.to_string()),
            published_at: record.created().to_owned(),
            updated_at: at_ms(if record.at_ms == 0 { visible.at_ms() } else { record.at_ms }),
            actions: image.actions().into_iter().map(Into::into).collect(),
            run_command: image.run_command(),
            pull_command: image.pull_command(),
        })
    }

    /// About how much it takes to show a record, in bytes.
    pub(super) fn weight(record: &Record, whole: bool) -> usize {
        let docs = record.field(Field::Docs).map_or(0, <[u8]>::len);
        record.spec_json().len().saturating_sub(if whole { 0 } else { docs })
    }
}

/// All versions of an image.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Repository {
    /// The full name, org/repo.
    name: String,
    /// The organization of the name.
    organization: String,
    /// The version: it changes with each write of the repository, and when its tags do.
    version: String,
    /// Whether only the organization's managers and administrators see it.
    is_private: bool,
    /// How often its images were downloaded.
    #[schema(minimum = 0)]
    download_count: i64,
    /// Those of its latest image's keywords that are supported ones.
    keywords: Vec<&'static str>,
    /// How many images it has.
    tag_count: usize,
    /// When it was made, or one of its images was last written.
    #[schema(format = DateTime)]
    updated_at: String,
    /// The newest of its images.
    #[schema(required = true)]
    latest_image: Option<Image>,
    /// The image that the text of a search named, as in `org/repo:tag`.
    #[serde(skip_serializing_if = "Option::is_none")]
    matched_image: Option<Image>,
}

impl Repository {
    pub(super) fn of(view: &View, record: &Record, matched: Option<&Record>) -> Option<Self> {
        let head = record.repository()?;
        let visible = view.visible();
        view.reads_organization(head.organization());
        let tags = visible.tags(head.name());
        Some(Self {
            name: head.name().to_owned(),
            organization: head.organization().to_owned(),
            version: record.revision.to_string(),
            is_private: head.private,
            download_count: head.downloads.min(MAX_EXACT),
            keywords: gateway::keywords_of(record).collect(),
            tag_count: tags.len(),
            updated_at: at_ms(crate::search::updated_ms(visible, record)),
            latest_image: tags.first().and_then(|image| Image::of(visible, image, false)),
            matched_image: matched.and_then(|image| Image::of(visible, image, false)),
        })
    }
}

/// Owns repositories; its managers write them and see the private ones.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Organization {
    /// The name.
    name: String,
    /// The version: it changes with each write of the organization, and when its repositories do.
    version: String,
    /// Who may change it and what is in it.
    managers: Vec<String>,
    /// Who made it.
    #[schema(required = true)]
    creator: Option<String>,
    /// How many repositories it has.
    repository_count: usize,
}

impl Organization {
    pub(super) fn of(view: &View, record: &Record) -> Option<Self> {
        let head = record.organization()?;
        view.reads_organization(&head.name);
        let creator = match record.object().spec {
            api::Spec::Organization(spec) => spec.creator.filter(|name| !name.is_empty()),
            _ => None,
        };
        Some(Self {
            name: head.name.to_string(),
            version: record.revision.to_string(),
            managers: head.managers.iter().map(ToString::to_string).collect(),
            creator,
            repository_count: view.visible().repositories(&head.name).count(),
        })
    }
}

/// A name that was asked for, and the image that has it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Entry {
    /// The name.
    pub(super) name: String,
    /// Null where there is none, or it is not yours to see.
    #[schema(required = true)]
    pub(super) image: Option<Image>,
}

/// The images of names.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Resolved {
    /// One a name, in the order asked.
    pub(super) entries: Vec<Entry>,
}

/// A kept list of image names with what is known of each.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DataPack {
    /// The name.
    pub(super) name: String,
    /// How much kube clients are told of each image.
    pub(super) grain: Grain,
    /// One a name, in order of the names; with their documentation where the grain is DETAIL. Null where that would be
    /// more than an answer holds: then resolve some names at a time.
    #[schema(required = true)]
    pub(super) entries: Option<Vec<Entry>>,
    /// A digest of what kube clients are told; null where that is more than one answer holds.
    #[schema(required = true)]
    pub(super) content_digest: Option<String>,
    /// When it goes.
    #[schema(format = DateTime)]
    pub(super) expires_at: String,
}

impl DataPack {
    pub(super) fn of(view: &View, record: &Record, most: usize) -> Option<Self> {
        let head = record.pack()?;
        let whole = head.grain == api::Grain::Detail;
        let mut weight = 0;
        let mut entries = Some(Vec::with_capacity(head.names.len()));
        for (name, image) in head.names.iter().zip(view.find_images(&head.names)) {
            weight += image.map_or(0, |image| Image::weight(image, whole)) + name.len();
            let image = image.filter(|_| weight <= most).and_then(|image| Image::of(view.visible(), image, whole));
            if weight > most {
                entries = None;
            }
            if let Some(entries) = &mut entries {
                entries.push(Entry { name: name.to_string(), image });
            }
        }
        Some(Self {
            name: record.name().to_owned(),
            grain: head.grain.into(),
            entries,
            content_digest: view.reader().pack_digest(record),
            expires_at: at_ms(head.expires_ms),
        })
    }
}
