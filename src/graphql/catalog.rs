//! Lists of the catalogue: filters, orders, facets and what a text finds. The one place of this door that knows how
//! things are found; all of it is read from one snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::{Enum, InputObject, Result};
use jiff::Timestamp;

use super::error::fail;
use super::node::{ImageType, Node};
use super::page::{Facet, Key, Placed};
use super::scalar::{DateTime, ImageName, RepositoryName};
use super::view::View;
use crate::api::{FieldSelector, KEYWORD_LABEL_PREFIX, Kind, LabelSelector, SUPPORTED_KEYWORDS, supported_keyword};
use crate::graph::{Query, Record, RepositoryHead, Visible, organization_of};
use crate::model::{ErrorCode, ImageView};

/// The most values of one field of a filter.
pub const FILTER_VALUES: usize = 1000;
/// The longest text that is searched for, in bytes.
pub const TEXT_BYTES: usize = 512;

/// What a list is in the order of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(super) enum OrderField {
    /// How well it fits the text, the best first. Repositories with a text only; forward only.
    Relevance,
    /// The name.
    Name,
    /// When it was last written; of a repository, when one of its images was.
    Updated,
    /// How often it was downloaded; of an image, its repository.
    Downloads,
}

/// The order of a list.
#[derive(Debug, Clone, Copy, InputObject)]
pub(super) struct Order {
    /// By what.
    field: OrderField,
    /// Whether the last is the first.
    #[graphql(default = false)]
    pub(super) descending: bool,
}

/// Which repositories. Within a field: any of the values; keywords: all of them. null among the values stands for those
/// without one.
#[derive(Debug, Clone, Default, InputObject)]
pub(super) struct RepositoryFilter {
    /// By name.
    names: Option<Vec<RepositoryName>>,
    /// In one of these organizations.
    organizations: Option<Vec<String>>,
    /// With all of these keywords, whatever their case.
    keywords: Option<Vec<String>>,
    /// The latest image is of one of these kinds.
    types: Option<Vec<Option<ImageType>>>,
    /// The latest image is built for one of these.
    architectures: Option<Vec<Option<String>>>,
    /// Private ones, or public ones.
    is_private: Option<bool>,
    /// Those of organizations that you are a manager of, or all others.
    managed_by_me: Option<bool>,
    /// Made, or one of their images written, since.
    updated_since: Option<DateTime>,
}

/// Which images. Within a field: any of the values; keywords: all of them. null among the values stands for those without
/// one.
#[derive(Debug, Clone, Default, InputObject)]
pub(super) struct ImageFilter {
    /// By name.
    names: Option<Vec<ImageName>>,
    /// In one of these repositories.
    repositories: Option<Vec<RepositoryName>>,
    /// In one of these organizations.
    organizations: Option<Vec<String>>,
    /// With all of these keywords, whatever their case.
    keywords: Option<Vec<String>>,
    /// Of one of these kinds.
    types: Option<Vec<Option<ImageType>>>,
    /// Built for one of these.
    architectures: Option<Vec<Option<String>>>,
    /// Written since.
    updated_since: Option<DateTime>,
}

/// What a list of repositories asks for.
#[derive(Debug, Clone)]
pub(super) struct RepositoryQuery {
    text: Option<String>,
    filter: RepositoryFilter,
    pub(super) order: Order,
}

/// What a list of images asks for.
#[derive(Debug, Clone)]
pub(super) struct ImageQuery {
    filter: ImageFilter,
    pub(super) order: Order,
}

/// A repository that a list has.
pub(super) struct Found {
    pub(super) record: Arc<Record>,
    /// The image that the text named.
    pub(super) matched: Option<Arc<Record>>,
}

/// What a facet is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FacetField {
    Organization,
    Keyword,
    Type,
    Architecture,
}

const ORGANIZATION: u8 = 1;
const KEYWORD: u8 = 2;
const TYPE: u8 = 4;
const ARCHITECTURE: u8 = 8;

impl FacetField {
    /// The filter that its counts leave aside.
    fn aside(self) -> u8 {
        match self {
            Self::Organization => ORGANIZATION,
            Self::Keyword => 0,
            Self::Type => TYPE,
            Self::Architecture => ARCHITECTURE,
        }
    }
}

fn bounded<T>(field: &str, values: Option<&Vec<T>>) -> Result<()> {
    match values.map_or(0, Vec::len) {
        count if count > FILTER_VALUES => {
            let message = format!("{field} has {count} values; {FILTER_VALUES} is the most (limit: filter values)");
            Err(fail(ErrorCode::LimitExceeded, message))
        }
        _ => Ok(()),
    }
}

impl RepositoryFilter {
    /// All of one organization.
    pub(super) fn of_organization(name: &str) -> Self {
        Self { organizations: Some(vec![name.to_owned()]), ..Self::default() }
    }
}

impl RepositoryQuery {
    pub(super) fn new(text: Option<String>, filter: Option<RepositoryFilter>, order: Option<Order>) -> Result<Self> {
        let filter = filter.unwrap_or_default();
        bounded("names", filter.names.as_ref())?;
        bounded("organizations", filter.organizations.as_ref())?;
        bounded("keywords", filter.keywords.as_ref())?;
        bounded("types", filter.types.as_ref())?;
        bounded("architectures", filter.architectures.as_ref())?;
        let text = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        check_text(text.as_deref().unwrap_or_default())?;
        let by_default = if text.is_some() { OrderField::Relevance } else { OrderField::Name };
        let order = order.unwrap_or(Order { field: by_default, descending: false });
        if order.field == OrderField::Relevance && (text.is_none() || order.descending) {
            let message = "RELEVANCE is the order of a list with a query, the best first";
            return Err(fail(ErrorCode::Invalid, message));
        }
        Ok(Self { text, filter, order })
    }

    pub(super) fn by_relevance(&self) -> bool {
        self.order.field == OrderField::Relevance
    }
}

impl ImageQuery {
    pub(super) fn new(filter: Option<ImageFilter>, order: Option<Order>) -> Result<Self> {
        let filter = filter.unwrap_or_default();
        bounded("names", filter.names.as_ref())?;
        bounded("repositories", filter.repositories.as_ref())?;
        bounded("organizations", filter.organizations.as_ref())?;
        bounded("keywords", filter.keywords.as_ref())?;
        bounded("types", filter.types.as_ref())?;
        bounded("architectures", filter.architectures.as_ref())?;
        let order = order.unwrap_or(Order { field: OrderField::Name, descending: false });
        if order.field == OrderField::Relevance {
            return Err(fail(ErrorCode::Invalid, "images are in order of NAME, UPDATED or DOWNLOADS"));
        }
        Ok(Self { filter, order })
    }
}

fn check_text(text: &str) -> Result<()> {
    if text.len() <= TEXT_BYTES {
        return Ok(());
    }
    let message = format!("the text has {} bytes; {TEXT_BYTES} is the most (limit: text)", text.len());
    Err(fail(ErrorCode::LimitExceeded, message))
}

/// The keywords that a repository's labels say.
pub(super) fn keywords_of(repository: &Record) -> impl Iterator<Item = &'static str> {
    SUPPORTED_KEYWORDS
        .into_iter()
        .filter(|keyword| repository.label(&format!("{KEYWORD_LABEL_PREFIX}{keyword}")).is_some())
}

/// When a repository was made, or one of its images last written, milliseconds since 1970. That it is written itself says
/// nothing: its labels and what is announced of it follow from the images, and its downloads are counted in it.
pub(super) fn updated_ms(visible: &Visible, repository: &Record) -> i64 {
    let made = repository.created().parse().map_or(0, Timestamp::as_millisecond);
    let name = repository.repository().map_or("", |head| head.name());
    visible.tags(name).iter().map(|image| image.at_ms).fold(made, i64::max)
}

/// How often a repository's images were downloaded.
fn downloads(repository: &Record) -> i64 {
    repository.repository().map_or(0, |head| head.downloads)
}

/// All objects of a kind that have a label.
fn listed(view: &View, kind: Kind, labels: &LabelSelector) -> Vec<Arc<Record>> {
    let at = view.visible().revision();
    let query = Query { kind, after: None, at, labels, fields: &FieldSelector::default() };
    view.visible().list(query).collect()
}

/// A repository among those that may be on the list, with what the text says of it.
struct Candidate {
    found: Found,
    score: i64,
}

/// The repositories among which all are that the filters leave, those of `aside` left aside: by an index where one
/// applies.
fn candidates(view: &View, query: &RepositoryQuery, aside: u8) -> Vec<Candidate> {
    let plain = |record: Arc<Record>| Candidate { found: Found { record, matched: None }, score: 0 };
    let visible = view.visible();
    let by_organization = query.filter.organizations.as_ref().filter(|_| aside & ORGANIZATION == 0);
    let everything = || {
        view.reads_kind(Kind::Repository);
        view.reads_kind(Kind::Image);
    };
    if let Some(text) = &query.text {
        everything();
        return find(view, text);
    }
    if let Some(names) = &query.filter.names {
        let mut names: Vec<_> = names.iter().map(|name| &name.0).collect();
        names.sort_unstable();
        names.dedup();
        let found = names.into_iter().filter_map(|name| {
            view.reads_organization(organization_of(name));
            visible.repository(name).cloned()
        });
        return found.map(plain).collect();
    }
    if let Some(organizations) = by_organization {
        let mut organizations: Vec<_> = organizations.iter().collect();
        organizations.sort_unstable();
        organizations.dedup();
        let of = |organization: &String| {
            view.reads_organization(organization);
            visible.repositories(organization).filter_map(|name| visible.repository(name).cloned()).collect::<Vec<_>>()
        };
        return organizations.into_iter().flat_map(of).map(plain).collect();
    }
    everything();
    let keyword = query.filter.keywords.iter().flatten().find_map(|keyword| supported_keyword(keyword));
    let labels = keyword.and_then(|keyword| LabelSelector::parse(&format!("{KEYWORD_LABEL_PREFIX}{keyword}")).ok());
    let all = listed(view, Kind::Repository, &labels.unwrap_or_default());
    all.into_iter().filter(|record| is_first(view, record)).map(plain).collect()
}

/// Whether it is the one that has its name: of old data there may be others.
fn is_first(view: &View, record: &Arc<Record>) -> bool {
    let visible = view.visible();
    let first = match record.kind() {
        Kind::Image => record.image().and_then(|image| visible.image(image.name())),
        _ => record.repository().and_then(|repository| visible.repository(repository.name())),
    };
    first.is_some_and(|first| first.revision == record.revision)
}

/// Which of the filters that facets are of a repository does not pass; `None` where it does not pass another.
fn fails(view: &View, filter: &RepositoryFilter, record: &Record, head: RepositoryHead<'_>) -> Option<u8> {
    let latest = view.visible().tags(head.name()).first();
    if filter.is_private.is_some_and(|private| private != head.private)
        || filter.names.as_ref().is_some_and(|names| !names.iter().any(|name| *name.0 == *head.name()))
        || filter.managed_by_me.is_some_and(|mine| {
            view.reads_kind(Kind::Organization);
            mine != view.is_manager(head.organization())
        })
        || filter.updated_since.is_some_and(|since| updated_ms(view.visible(), record) < since.0.as_millisecond())
    {
        return None;
    }
    let image = latest.and_then(|record| ImageView::of(record));
    let mut failed = 0;
    if filter.organizations.as_ref().is_some_and(|all| !all.iter().any(|name| name == head.organization())) {
        failed |= ORGANIZATION;
    }
    if let Some(keywords) = &filter.keywords {
        let has = |keyword: &String| {
            let label = supported_keyword(keyword).map(|keyword| format!("{KEYWORD_LABEL_PREFIX}{keyword}"));
            label.is_some_and(|label| record.label(&label).is_some())
        };
        if !keywords.iter().all(has) {
            failed |= KEYWORD;
        }
    }
    if filter.types.as_ref().is_some_and(|types| !types.contains(&type_of(image.as_ref()))) {
        failed |= TYPE;
    }
    if filter.architectures.as_ref().is_some_and(|all| !has_architecture(all, image.as_ref())) {
        failed |= ARCHITECTURE;
    }
    Some(failed)
}

fn type_of(image: Option<&ImageView<'_>>) -> Option<ImageType> {
    image.and_then(ImageView::image_type).map(Into::into)
}

fn has_architecture(wanted: &[Option<String>], image: Option<&ImageView<'_>>) -> bool {
    let is = image.and_then(ImageView::architecture);
    wanted.iter().any(|wanted| match (wanted, &is) {
        (Some(wanted), Some(is)) => wanted.eq_ignore_ascii_case(is),
        (None, None) => true,
        _ => false,
    })
}

/// The repositories of a list, in no order.
pub(super) fn repositories(view: &View, query: &RepositoryQuery) -> Vec<Placed<Found>> {
    let mut all = Vec::new();
    for Candidate { found, score } in candidates(view, query, 0) {
        let Some(head) = found.record.repository() else { continue };
        if fails(view, &query.filter, &found.record, head) != Some(0) {
            continue;
        }
        let downloads = head.downloads;
        let name: Arc<str> = head.name().into();
        let key = match query.order.field {
            OrderField::Relevance => Key::Ranked(-score, -downloads, name),
            OrderField::Name => Key::Ranked(0, 0, name),
            OrderField::Updated => Key::Ranked(updated_ms(view.visible(), &found.record), 0, name),
            OrderField::Downloads => Key::Ranked(downloads, 0, name),
        };
        all.push(Placed { key, what: found });
    }
    all
}

/// What there is of a field among the repositories of a list, the most frequent first; what is chosen is always there.
pub(super) fn facet(view: &View, query: &RepositoryQuery, field: FacetField, first: usize) -> Vec<Facet> {
    let mut counts: HashMap<Option<String>, i32> = HashMap::new();
    let mut count = |value: Option<String>| *counts.entry(value).or_default() += 1;
    for Candidate { found, .. } in candidates(view, query, field.aside()) {
        let Some(head) = found.record.repository() else { continue };
        if fails(view, &query.filter, &found.record, head).is_none_or(|failed| failed & !field.aside() != 0) {
            continue;
        }
        let latest = view.visible().tags(head.name()).first();
        let image = latest.and_then(|record| ImageView::of(record));
        match field {
            FacetField::Organization => count(Some(head.organization().to_owned())),
            FacetField::Keyword => keywords_of(&found.record).for_each(|keyword| count(Some(keyword.to_owned()))),
            FacetField::Type => count(type_of(image.as_ref()).map(type_name)),
            FacetField::Architecture => count(image.as_ref().and_then(ImageView::architecture)),
        }
    }
    let chosen: Vec<Option<String>> = match field {
        FacetField::Organization => {
            query.filter.organizations.iter().flatten().map(|name| Some(name.clone())).collect()
        }
        FacetField::Keyword => {
            let supported = query.filter.keywords.iter().flatten().filter_map(|keyword| supported_keyword(keyword));
            supported.map(|keyword| Some(keyword.to_owned())).collect()
        }
        FacetField::Type => query.filter.types.iter().flatten().map(|one| one.map(type_name)).collect(),
        FacetField::Architecture => query.filter.architectures.iter().flatten().cloned().collect(),
    };
    for value in &chosen {
        counts.entry(value.clone()).or_default();
    }
    let mut facets: Vec<Facet> =
        counts.into_iter().map(|(value, count)| Facet { selected: chosen.contains(&value), value, count }).collect();
    facets.sort_by(|a, b| (!a.selected, -a.count, &a.value).cmp(&(!b.selected, -b.count, &b.value)));
    facets.truncate(first.max(chosen.len().min(super::page::LONGEST_PAGE)));
    facets.sort_by(|a, b| (-a.count, &a.value).cmp(&(-b.count, &b.value)));
    facets
}

fn type_name(of: ImageType) -> String {
    match of {
        ImageType::CloudImage => "CLOUD_IMAGE",
        ImageType::ClusterImage => "CLUSTER_IMAGE",
    }
    .to_owned()
}

/// The images of a list, in no order.
pub(super) fn images(view: &View, query: &ImageQuery) -> Vec<Placed<Arc<Record>>> {
    let visible = view.visible();
    let filter = &query.filter;
    let of_repository = |name: &str| visible.tags(name).to_vec();
    let candidates: Vec<Arc<Record>> = if let Some(names) = &filter.names {
        let mut names: Vec<_> = names.iter().map(|name| &name.0).collect();
        names.sort_unstable();
        names.dedup();
        let found = names.into_iter().filter_map(|name| {
            view.reads_organization(organization_of(name));
            visible.image(name).cloned()
        });
        found.collect()
    } else if let Some(repositories) = &filter.repositories {
        let mut names: Vec<_> = repositories.iter().map(|name| &name.0).collect();
        names.sort_unstable();
        names.dedup();
        let found = names.into_iter().flat_map(|name| {
            view.reads_organization(organization_of(name));
            of_repository(name)
        });
        found.collect()
    } else if let Some(organizations) = &filter.organizations {
        let mut names: Vec<_> = organizations.iter().collect();
        names.sort_unstable();
        names.dedup();
        let found = names.into_iter().flat_map(|name| {
            view.reads_organization(name);
            visible.repositories(name).flat_map(|name| of_repository(name)).collect::<Vec<_>>()
        });
        found.collect()
    } else {
        view.reads_kind(Kind::Image);
        listed(view, Kind::Image, &LabelSelector::default()).into_iter().filter(|one| is_first(view, one)).collect()
    };
    if query.order.field == OrderField::Downloads {
        view.reads_kind(Kind::Repository);
    }
    let mut all = Vec::new();
    for record in candidates {
        let Some(head) = record.image() else { continue };
        if !passes(filter, &record) {
            continue;
        }
        let name: Arc<str> = head.name().into();
        let key = match query.order.field {
            OrderField::Name | OrderField::Relevance => Key::Ranked(0, 0, name),
            OrderField::Updated => Key::Ranked(record.at_ms, 0, name),
            OrderField::Downloads => {
                let downloads = visible.repository(head.repository()).map_or(0, |of| downloads(of));
                Key::Ranked(downloads, 0, name)
            }
        };
        all.push(Placed { key, what: record });
    }
    all
}

/// Whether an image passes a filter.
pub(super) fn passes(filter: &ImageFilter, record: &Record) -> bool {
    let (Some(head), Some(image)) = (record.image(), ImageView::of(record)) else { return false };
    let organization = organization_of(head.name());
    if filter.names.as_ref().is_some_and(|all| !all.iter().any(|name| *name.0 == *head.name()))
        || filter.repositories.as_ref().is_some_and(|all| !all.iter().any(|name| *name.0 == *head.repository()))
        || filter.organizations.as_ref().is_some_and(|all| !all.iter().any(|name| name == organization))
        || filter.updated_since.is_some_and(|since| record.at_ms < since.0.as_millisecond())
        || filter.types.as_ref().is_some_and(|types| !types.contains(&type_of(Some(&image))))
        || filter.architectures.as_ref().is_some_and(|all| !has_architecture(all, Some(&image)))
    {
        return false;
    }
    let Some(wanted) = &filter.keywords else { return true };
    let keywords = image.keywords();
    wanted.iter().all(|wanted| keywords.iter().any(|keyword| keyword.to_lowercase() == wanted.to_lowercase()))
}

/// Whether a repository passes a filter.
pub(super) fn repository_passes(view: &View, filter: &RepositoryFilter, record: &Record) -> bool {
    record.repository().is_some_and(|head| fails(view, filter, record, head) == Some(0))
}

/// The organizations, in no order.
pub(super) fn organizations(view: &View, mine: bool) -> Vec<Placed<Arc<Record>>> {
    let all = listed(view, Kind::Organization, &LabelSelector::default()).into_iter();
    let named = all.filter_map(|record| Some((Arc::from(&*record.organization()?.name), record)));
    let wanted = named.filter(|(name, record): &(Arc<str>, Arc<Record>)| {
        let first = view.visible().organization(name).is_some_and(|first| first.revision == record.revision);
        first && (!mine || view.is_manager(name))
    });
    wanted.map(|(name, record)| Placed { key: Key::Ranked(0, 0, name), what: record }).collect()
}

/// How well a text fits: the better, the higher.
mod score {
    pub(super) const EXACT: i64 = 4;
    pub(super) const PREFIX: i64 = 3;
    pub(super) const IN_NAME: i64 = 2;
    pub(super) const IN_TEXT: i64 = 1;
}

/// The repositories that a text finds, each with how well it fits: its whole name or the one of its repository, a
/// beginning of one, a part of one, all words in what its latest image says.
fn find(view: &View, text: &str) -> Vec<Candidate> {
    let visible = view.visible();
    // Tags may have upper case.
    let matched = visible.image(text).cloned();
    let text = text.to_lowercase();
    let named = matched.as_ref().and_then(|record| record.image()).map(|image| image.repository().to_owned());
    let words: Vec<&str> = text.split_whitespace().collect();
    let fit = |record: &Record| {
        let head = record.repository()?;
        let name = head.name().to_lowercase();
        let short = name.split_once('/').map_or(&*name, |(_, short)| short);
        if named.as_deref() == Some(head.name()) || name == text || short == text {
            return Some(score::EXACT);
        }
        if name.starts_with(&text) || short.starts_with(&text) {
            return Some(score::PREFIX);
        }
        if words.iter().all(|word| name.contains(word)) {
            return Some(score::IN_NAME);
        }
        let image = visible.tags(head.name()).first().and_then(|record| ImageView::of(record))?;
        let told = format!("{name} {} {}", image.keywords().join(" "), image.description().unwrap_or_default());
        let told = told.to_lowercase();
        words.iter().all(|word| told.contains(word)).then_some(score::IN_TEXT)
    };
    let all = listed(view, Kind::Repository, &LabelSelector::default()).into_iter();
    let first = all.filter(|record| is_first(view, record));
    first
        .filter_map(|record| {
            let score = fit(&record)?;
            let is_named = named.is_some() && named.as_deref() == record.repository().map(|head| head.name());
            let matched = matched.clone().filter(|_| is_named);
            Some(Candidate { found: Found { record, matched }, score })
        })
        .collect()
}

/// What a text may be the beginning of: a whole `org/repo:tag`, repositories, organizations, the best first.
pub(super) fn suggest(view: &View, text: &str, first: usize) -> Result<Vec<(String, Node)>> {
    let text = text.trim();
    check_text(text)?;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    for kind in [Kind::Image, Kind::Repository, Kind::Organization] {
        view.reads_kind(kind);
    }
    let visible = view.visible();
    let mut found: Vec<(String, Node)> = Vec::new();
    if let Some((repository, tag)) = text.split_once(':') {
        let tags = visible.tags(repository).iter().filter_map(|record| Some((record.image()?, record)));
        let fitting = tags.filter(|(image, _)| image.tag().starts_with(tag)).take(first);
        found.extend(fitting.map(|(image, record)| (image.name().to_owned(), Node::Image(view.image_of(record)))));
    }
    let mut repositories: Vec<_> = find(view, text).into_iter().filter(|one| one.score > score::IN_TEXT).collect();
    let place = |one: &Candidate| {
        let record = &one.found.record;
        (-one.score, -downloads(record), record.repository().map(|head| Arc::<str>::from(head.name())))
    };
    repositories.sort_by_key(place);
    let lower = text.to_lowercase();
    let mut organizations = organizations(view, false);
    organizations.retain(|one| matches!(&one.key, Key::Ranked(_, _, name) if name.starts_with(&lower)));
    // Some room for organizations, which are few.
    let room = first.saturating_sub(found.len() + organizations.len().min(2));
    found.extend(repositories.into_iter().take(room).map(|one| {
        let name = one.found.record.repository().map_or_else(String::new, |head| head.name().to_string());
        (name, Node::Repository(view.repository_of(&one.found.record)))
    }));
    for one in organizations {
        if let Key::Ranked(_, _, name) = one.key {
            found.push((name.to_string(), Node::Organization(view.organization_of(&one.what))));
        }
    }
    found.truncate(first);
    Ok(found)
}
