//! Lists of the catalogue: filters, orders and what a text finds. The one place that knows how things are found
//! under clean names; all of it is judged by one snapshot, as whoever asks sees it.
//!
//! What is in an organization, or has a name that is given, is few, and found by the graph. All else is the search's,
//! which has looked at all repositories before. Where there is none, or none yet, the graph is looked through; so only a
//! text needs it, and lists, their order and their cursors are the same by either.

use std::sync::Arc;

use jiff::Timestamp;

use super::page::{Cut, Key, LONGEST_PAGE, Placed, Span};
use super::view::{self, View};
use crate::api::{
    FieldSelector, ImageType, KEYWORD_LABEL_PREFIX, Kind, LabelSelector, SUPPORTED_KEYWORDS, supported_keyword,
};
use crate::error::Error;
use crate::graph::{Query, Record, RepositoryHead, organization_of};
use crate::model::{ErrorCode, Fault, ImageView};
use crate::search::{self, Hits, Suggestion, Text, updated_ms};

type Result<T> = std::result::Result<T, Fault>;

/// The most values of one field of a filter.
pub const FILTER_VALUES: usize = 1000;

/// So many repositories that the search goes through count as one that is looked at.
const SEARCHED_A_LOOK: usize = 8;
/// Comparing an object with so many values of a filter counts as looking at it once more.
const VALUES_A_LOOK: usize = 32;

/// What a list is in the order of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OrderField {
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
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// By what.
    pub field: OrderField,
    /// Whether the last is the first.
    pub descending: bool,
}

/// Which repositories. Within a field: any of the values; keywords: all of them. null among the values stands for those
/// without one.
#[derive(Debug, Clone, Default)]
pub struct RepositoryFilter {
    /// By name.
    pub names: Option<Vec<Arc<str>>>,
    /// In one of these organizations.
    pub organizations: Option<Vec<String>>,
    /// With all of these keywords, whatever their case.
    pub keywords: Option<Vec<String>>,
    /// The latest image is of one of these kinds.
    pub types: Option<Vec<Option<ImageType>>>,
    /// The latest image is built for one of these.
    pub architectures: Option<Vec<Option<String>>>,
    /// Private ones, or public ones.
    pub is_private: Option<bool>,
    /// Those of organizations that you are a manager of, or all others.
    pub managed_by_me: Option<bool>,
    /// Made, or one of their images written, since.
    pub updated_since: Option<Timestamp>,
}

/// Which images. Within a field: any of the values; keywords: all of them. null among the values stands for those without
/// one.
#[derive(Debug, Clone, Default)]
pub struct ImageFilter {
    /// By name.
    pub names: Option<Vec<Arc<str>>>,
    /// In one of these repositories.
    pub repositories: Option<Vec<Arc<str>>>,
    /// In one of these organizations.
    pub organizations: Option<Vec<String>>,
    /// With all of these keywords, whatever their case.
    pub keywords: Option<Vec<String>>,
    /// Of one of these kinds.
    pub types: Option<Vec<Option<ImageType>>>,
    /// Built for one of these.
    pub architectures: Option<Vec<Option<String>>>,
    /// Written since.
    pub updated_since: Option<Timestamp>,
}

/// What a list of repositories asks for.
#[derive(Debug, Clone)]
pub struct RepositoryQuery {
    text: Option<Text>,
    pub(super) filter: RepositoryFilter,
    order: Order,
}

/// What a list of images asks for.
#[derive(Debug, Clone)]
pub struct ImageQuery {
    filter: ImageFilter,
    /// What it is in the order of.
    pub order: Order,
}

/// A repository that a list has.
#[derive(Debug, Clone)]
pub struct Found {
    /// It.
    pub record: Arc<Record>,
    /// The image that the text named.
    pub matched: Option<Arc<Record>>,
}

/// What a text may be the beginning of.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Suggested {
    Image(Arc<Record>),
    Repository(Arc<Record>),
    Organization(Arc<Record>),
}

/// The filters that facets are of, a bit each.
pub(super) const ORGANIZATION: u8 = 1;
pub(super) const KEYWORD: u8 = 2;
pub(super) const TYPE: u8 = 4;
pub(super) const ARCHITECTURE: u8 = 8;

fn bounded<T>(field: &str, values: Option<&Vec<T>>) -> Result<()> {
    match values.map_or(0, Vec::len) {
        count if count > FILTER_VALUES => {
            let message = format!("{field} has {count} values; {FILTER_VALUES} is the most (limit: filter values)");
            Err(Fault::new(ErrorCode::LimitExceeded, message))
        }
        _ => Ok(()),
    }
}

impl RepositoryFilter {
    /// All of one organization.
    #[must_use]
    pub fn of_organization(name: &str) -> Self {
        Self { organizations: Some(vec![name.to_owned()]), ..Self::default() }
    }
}

impl RepositoryQuery {
    /// What a list of repositories asks for.
    ///
    /// # Errors
    /// A text or a filter that is too large; an order that isn't one of such a list.
    pub fn new(text: Option<String>, filter: Option<RepositoryFilter>, order: Option<Order>) -> Result<Self> {
        let filter = filter.unwrap_or_default();
        bounded("names", filter.names.as_ref())?;
        bounded("organizations", filter.organizations.as_ref())?;
        bounded("keywords", filter.keywords.as_ref())?;
        bounded("types", filter.types.as_ref())?;
        bounded("architectures", filter.architectures.as_ref())?;
        let text = text.map_or(Ok(None), |text| read_text(&text))?;
        let by_default = if text.is_some() { OrderField::Relevance } else { OrderField::Name };
        let order = order.unwrap_or(Order { field: by_default, descending: false });
        if order.field == OrderField::Relevance && (text.is_none() || order.descending) {
            let message = "RELEVANCE is the order of a list with a query, the best first";
            return Err(Fault::new(ErrorCode::Invalid, message));
        }
        Ok(Self { text, filter, order })
    }

    /// Whether the best come first.
    #[must_use]
    pub fn by_relevance(&self) -> bool {
        self.order.field == OrderField::Relevance
    }

    /// Whether a text is searched for.
    #[must_use]
    pub fn has_text(&self) -> bool {
        self.text.is_some()
    }

    /// Whether its keys are to be read backwards. Numbers have their direction in them: the name, which decides among
    /// equals, has always the same.
    pub(super) fn is_backwards(&self) -> bool {
        self.order.field == OrderField::Name && self.order.descending
    }

    /// Whether only a look at everything finds it, the filters of `aside` left aside.
    pub(super) fn is_wide(&self, aside: u8) -> bool {
        let inside = self.filter.organizations.is_some() && aside & ORGANIZATION == 0;
        self.text.is_some() || !(self.filter.names.is_some() || inside)
    }

    /// How many repositories it looks at.
    #[must_use]
    pub fn breadth(&self, view: &View) -> usize {
        self.breadth_without(view, 0)
    }

    /// The same, the filters of `aside` left aside.
    pub(super) fn breadth_without(&self, view: &View, aside: u8) -> usize {
        let filter = &self.filter;
        match (&filter.names, &filter.organizations) {
            _ if self.is_wide(aside) => {
                let all = view.visible().stored(Kind::Repository);
                if view.searcher().is_some() { all / SEARCHED_A_LOOK } else { all }
            }
            (Some(names), _) => names.len() * compared(&[names.len(), count(filter.organizations.as_ref())]),
            (None, Some(names)) => {
                let all: usize = names.iter().map(|name| view.visible().repositories(name).count()).sum();
                all * compared(&[names.len(), count(filter.architectures.as_ref())])
            }
            (None, None) => 0,
        }
    }

    /// The same for the search.
    pub(super) fn to_search(&self, view: &View, page: search::Page) -> search::Query {
        let filter = &self.filter;
        let keyword = |keyword: &String| supported_keyword(keyword).map_or_else(|| keyword.clone(), str::to_owned);
        // Nobody is named so who has shown nothing.
        let caller = view.caller();
        let me = || if caller.is_authenticated() { caller.manager_name().to_string() } else { String::new() };
        search::Query {
            text: self.text.clone(),
            filter: search::Filter {
                names: filter.names.as_ref().map(|names| names.iter().map(ToString::to_string).collect()),
                organizations: filter.organizations.clone(),
                keywords: filter.keywords.iter().flatten().map(keyword).collect(),
                types: filter.types.clone(),
                architectures: filter.architectures.clone(),
                is_private: filter.is_private,
                managed_by: filter.managed_by_me.map(|mine| (me(), mine)),
                updated_since_ms: filter.updated_since.map(Timestamp::as_millisecond),
            },
            order: search::Order {
                field: match self.order.field {
                    OrderField::Relevance => search::OrderField::Relevance,
                    OrderField::Name => search::OrderField::Name,
                    OrderField::Updated => search::OrderField::Updated,
                    OrderField::Downloads => search::OrderField::Downloads,
                },
                descending: self.order.descending,
            },
            page,
            facet_values: LONGEST_PAGE,
        }
    }
}

impl ImageQuery {
    /// What a list of images asks for.
    ///
    /// # Errors
    /// A filter that is too large; an order that isn't one of images.
    pub fn new(filter: Option<ImageFilter>, order: Option<Order>) -> Result<Self> {
        let filter = filter.unwrap_or_default();
        bounded("names", filter.names.as_ref())?;
        bounded("repositories", filter.repositories.as_ref())?;
        bounded("organizations", filter.organizations.as_ref())?;
        bounded("keywords", filter.keywords.as_ref())?;
        bounded("types", filter.types.as_ref())?;
        bounded("architectures", filter.architectures.as_ref())?;
        let order = order.unwrap_or(Order { field: OrderField::Name, descending: false });
        if order.field == OrderField::Relevance {
            return Err(Fault::new(ErrorCode::Invalid, "images are in order of NAME, UPDATED or DOWNLOADS"));
        }
        Ok(Self { filter, order })
    }

    /// How many images it looks at.
    #[must_use]
    pub fn breadth(&self, view: &View) -> usize {
        let (visible, filter) = (view.visible(), &self.filter);
        let in_organization =
            |name: &String| visible.repositories(name).map(|name| visible.tags(name).len()).sum::<usize>();
        let all: usize = if let Some(names) = &filter.names {
            names.len()
        } else if let Some(names) = &filter.repositories {
            names.iter().map(|name| visible.tags(name).len()).sum()
        } else if let Some(names) = &filter.organizations {
            names.iter().map(in_organization).sum()
        } else {
            visible.stored(Kind::Image)
        };
        let values = [
            count(filter.names.as_ref()),
            count(filter.repositories.as_ref()),
            count(filter.organizations.as_ref()),
            count(filter.architectures.as_ref()),
        ];
        all * compared(&values)
    }
}

fn count<T>(values: Option<&Vec<T>>) -> usize {
    values.map_or(0, Vec::len)
}

/// How much more it is to look at an object that is compared with so many values.
fn compared(values: &[usize]) -> usize {
    1 + values.iter().sum::<usize>() / VALUES_A_LOOK
}

/// A text that is searched for; `None` for one that says nothing.
fn read_text(text: &str) -> Result<Option<Text>> {
    Text::parse(text).map_err(|error| Fault::new(ErrorCode::LimitExceeded, format!("{error} (limit: text)")))
}

/// The keywords that a repository's labels say.
pub fn keywords_of(repository: &Record) -> impl Iterator<Item = &'static str> {
    SUPPORTED_KEYWORDS
        .into_iter()
        .filter(|keyword| repository.label(&format!("{KEYWORD_LABEL_PREFIX}{keyword}")).is_some())
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

/// What the search finds; `None` where there is none that has an answer, and none is needed.
pub(super) fn searched(view: &View, query: &RepositoryQuery, span: &Span) -> Result<Option<Hits>> {
    if !query.is_wide(0) {
        return Ok(None);
    }
    let Some(search) = view.searcher() else {
        return if query.has_text() { Err(Fault::of(&view::no_search())) } else { Ok(None) };
    };
    let visible = view.visible();
    let (limit, last) = match span.cut {
        Cut::First(size) => (size, false),
        Cut::Last(size) => (size, true),
    };
    let mut asked = query.to_search(view, search::Page { limit, last, ..search::Page::default() });
    let place = |key: &Key| match key {
        Key::Ranked(first, second, name) => Some(asked.cursor(visible.sight(), (*first, *second, Arc::clone(name)))),
        Key::Tag(..) => None,
    };
    let (after, before) = (span.after.as_ref().and_then(place), span.before.as_ref().and_then(place));
    (asked.page.after, asked.page.before) = (after, before);
    match search.find(visible, &asked) {
        Ok(hits) => {
            read_all(view, query);
            if query.has_text() {
                view.searched_at(hits.indexed);
            }
            Ok(Some(hits))
        }
        Err(Error::Unavailable(_)) if !query.has_text() => Ok(None),
        Err(error) => Err(Fault::of(&error)),
    }
}

/// Notes that the answer depends on all repositories.
pub(super) fn read_all(view: &View, query: &RepositoryQuery) {
    view.reads_kind(Kind::Repository);
    view.reads_kind(Kind::Image);
    if query.filter.managed_by_me.is_some() {
        view.reads_kind(Kind::Organization);
    }
}

/// The repositories among which all are that the filters leave, those of `aside` left aside: by an index where one
/// applies.
pub(super) fn candidates(view: &View, query: &RepositoryQuery, aside: u8) -> Vec<Arc<Record>> {
    let visible = view.visible();
    let by_organization = query.filter.organizations.as_ref().filter(|_| aside & ORGANIZATION == 0);
    if let Some(names) = &query.filter.names {
        let mut names: Vec<_> = names.iter().collect();
        names.sort_unstable();
        names.dedup();
        let found = names.into_iter().filter_map(|name| {
            view.reads_organization(organization_of(name));
            visible.repository(name).cloned()
        });
        return found.collect();
    }
    if let Some(organizations) = by_organization {
        let mut organizations: Vec<_> = organizations.iter().collect();
        organizations.sort_unstable();
        organizations.dedup();
        let of = |organization: &String| {
            view.reads_organization(organization);
            visible.repositories(organization).filter_map(|name| visible.repository(name).cloned()).collect::<Vec<_>>()
        };
        return organizations.into_iter().flat_map(of).collect();
    }
    read_all(view, query);
    let keyword = query.filter.keywords.iter().flatten().find_map(|keyword| supported_keyword(keyword));
    let labels = keyword.and_then(|keyword| LabelSelector::parse(&format!("{KEYWORD_LABEL_PREFIX}{keyword}")).ok());
    let all = listed(view, Kind::Repository, &labels.unwrap_or_default());
    all.into_iter().filter(|record| is_first(view, record)).collect()
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
pub(super) fn fails(view: &View, filter: &RepositoryFilter, record: &Record, head: RepositoryHead<'_>) -> Option<u8> {
    let latest = view.visible().tags(head.name()).first();
    if filter.is_private.is_some_and(|private| private != head.private)
        || filter.names.as_ref().is_some_and(|names| !names.iter().any(|name| **name == *head.name()))
        || filter.managed_by_me.is_some_and(|mine| {
            view.reads_kind(Kind::Organization);
            mine != view.is_manager(head.organization())
        })
        || filter.updated_since.is_some_and(|since| updated_ms(view.visible(), record) < since.as_millisecond())
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

pub(super) fn type_of(image: Option<&ImageView<'_>>) -> Option<ImageType> {
    image.and_then(ImageView::image_type)
}

fn has_architecture(wanted: &[Option<String>], image: Option<&ImageView<'_>>) -> bool {
    let is = image.and_then(ImageView::architecture);
    wanted.iter().any(|wanted| match (wanted, &is) {
        (Some(wanted), Some(is)) => wanted == is,
        (None, None) => true,
        _ => false,
    })
}

/// The repositories of a list without a text, in no order.
pub(super) fn repositories(view: &View, query: &RepositoryQuery) -> Vec<Placed<Arc<Record>>> {
    // A number's complement is its reverse, at every end of its range: as the search has it.
    let directed = |number: i64| if query.order.descending { !number } else { number };
    let mut all = Vec::new();
    for record in candidates(view, query, 0) {
        let Some(head) = record.repository() else { continue };
        if fails(view, &query.filter, &record, head) != Some(0) {
            continue;
        }
        let first = match query.order.field {
            OrderField::Relevance | OrderField::Name => 0,
            OrderField::Updated => directed(updated_ms(view.visible(), &record)),
            OrderField::Downloads => directed(head.downloads),
        };
        all.push(Placed { key: Key::Ranked(first, 0, head.name().into()), what: record });
    }
    all
}

/// The images of a list, in no order.
pub(super) fn images(view: &View, query: &ImageQuery) -> Vec<Placed<Arc<Record>>> {
    let visible = view.visible();
    let filter = &query.filter;
    let of_repository = |name: &str| visible.tags(name).to_vec();
    let candidates: Vec<Arc<Record>> = if let Some(names) = &filter.names {
        let mut names: Vec<_> = names.iter().collect();
        names.sort_unstable();
        names.dedup();
        let found = names.into_iter().filter_map(|name| {
            view.reads_organization(organization_of(name));
            visible.image(name).cloned()
        });
        found.collect()
    } else if let Some(repositories) = &filter.repositories {
        let mut names: Vec<_> = repositories.iter().collect();
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
        if !image_passes(filter, &record) {
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
#[must_use]
pub fn image_passes(filter: &ImageFilter, record: &Record) -> bool {
    let (Some(head), Some(image)) = (record.image(), ImageView::of(record)) else { return false };
    let organization = organization_of(head.name());
    if filter.names.as_ref().is_some_and(|all| !all.iter().any(|name| **name == *head.name()))
        || filter.repositories.as_ref().is_some_and(|all| !all.iter().any(|name| **name == *head.repository()))
        || filter.organizations.as_ref().is_some_and(|all| !all.iter().any(|name| name == organization))
        || filter.updated_since.is_some_and(|since| record.at_ms < since.as_millisecond())
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
#[must_use]
pub fn repository_passes(view: &View, filter: &RepositoryFilter, record: &Record) -> bool {
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

/// What a text may be the beginning of: images, where it has a tag, organizations, repositories.
///
/// # Errors
/// A text that is too long; no search, or none yet.
pub fn suggest(view: &View, text: &str, first: usize) -> Result<Vec<(String, Suggested)>> {
    let Some(asked) = read_text(text)? else { return Ok(Vec::new()) };
    let search = view.searcher().ok_or_else(|| Fault::of(&view::no_search()))?;
    for kind in [Kind::Image, Kind::Repository, Kind::Organization] {
        view.reads_kind(kind);
    }
    // What is asked now is searched up to there, or further.
    view.searched_at(search.revision().unwrap_or_default());
    let visible = view.visible();
    let mut found: Vec<(String, Suggested)> = Vec::new();
    if let Some((repository, tag)) = text.trim().rsplit_once(':') {
        let tags = visible.tags(repository).iter().filter_map(|record| Some((record.image()?, record)));
        let fitting = tags.filter(|(image, _)| image.tag().starts_with(tag)).take(first);
        found.extend(fitting.map(|(image, record)| (image.name().to_owned(), Suggested::Image(Arc::clone(record)))));
    }
    for Suggestion { text, node } in search.suggest(visible, &asked, first).map_err(|error| Fault::of(&error))? {
        let suggested = match node.kind() {
            Kind::Organization => Suggested::Organization(node),
            _ => Suggested::Repository(node),
        };
        found.push((text.to_string(), suggested));
    }
    found.truncate(first);
    Ok(found)
}
