//! What is read: one snapshot, one answer.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use super::answers::{
    Comparison, Facet, Facets, ImagePage, OrganizationPage, RepositoryPage, Suggestion, Suggestions, Whoami,
};
use super::contract::{Endpoint, FACETS};
use super::input::{self, Form};
use super::problem::Problem;
use super::query::Params;
use super::serve::Call;
use super::show::{DataPack, Entry, Image, Organization, Repository, Resolved};
use super::{feed, respond, serve};
use crate::api::Kind;
use crate::auth::Verb;
use crate::gateway::{
    self, FacetField, ImageFilter, ImageQuery, LONGEST_PAGE, Order, OrderField, PageArgs, RepositoryFilter,
    RepositoryQuery, Suggested, View,
};
use crate::graph::Record;
use crate::model::{ErrorCode, Fault, ImageView, docs_diff, image_changes};

/// The largest answer, in bytes, about.
pub const ANSWER_LIMIT: usize = 32 * 1024 * 1024;
/// The most of their groups that somebody is told.
const OWN_GROUPS: usize = 1000;

/// A body, and the Link header that goes with it.
pub(super) struct Made {
    pub(super) body: Bytes,
    pub(super) link: Option<HeaderValue>,
}

pub(super) fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("what is shown has only string keys").into()
}

fn plain(value: &impl Serialize) -> Made {
    Made { body: json(value), link: None }
}

/// The body that shows one object whole, as a GET of its own path does.
pub(super) fn object(view: &View, record: &Record) -> Option<Bytes> {
    match record.kind() {
        Kind::Image => Image::of(view.visible(), record, true).map(|image| json(&image)),
        Kind::Repository => Repository::of(view, record, None).map(|repository| json(&repository)),
        Kind::Organization => Organization::of(view, record).map(|organization| json(&organization)),
        Kind::DataPack => DataPack::of(view, record, ANSWER_LIMIT).map(|pack| json(&pack)),
    }
}

/// The answer to a GET, read from `view`.
pub(super) fn read(call: &Call, view: &View) -> Result<Made, Problem> {
    let found = |kind: Kind, record: Option<&std::sync::Arc<Record>>| {
        let body = record.and_then(|record| object(view, record));
        body.map(|body| Made { body, link: None }).ok_or_else(|| Problem::absent(kind))
    };
    match call.endpoint {
        Endpoint::Organizations => organizations(call, view),
        Endpoint::Organization => found(Kind::Organization, view.find_organization(call.first_name())),
        Endpoint::Repositories => repositories(call, view),
        Endpoint::Repository => found(Kind::Repository, view.find_repository(&call.repository_name())),
        Endpoint::Tags => tags(call, view),
        Endpoint::Feed => feed::feed(call, view),
        Endpoint::Badge => feed::badge(call, view),
        Endpoint::Images => images(call, view),
        Endpoint::Image => found(Kind::Image, view.find_image(&call.image_name())),
        Endpoint::Docs => {
            let record = view.find_image(&call.image_name()).ok_or_else(|| Problem::absent(Kind::Image))?;
            let docs = ImageView::of(record).and_then(|image| image.docs()).unwrap_or_default();
            Ok(Made { body: docs.into(), link: None })
        }
        Endpoint::Compare => compare(call, view),
        Endpoint::Suggest => suggest(call, view),
        Endpoint::Pack => found(Kind::DataPack, view.find_pack(call.first_name())),
        Endpoint::Whoami => whoami(call, view),
        // These have answers of their own.
        Endpoint::Events | Endpoint::OpenApi | Endpoint::Resolve | Endpoint::Packs => {
            Err(Problem::new(StatusCode::NOT_FOUND, ErrorCode::NotFound, "there is nothing to read here"))
        }
    }
}

fn page_of(params: &Params) -> PageArgs {
    let first = params.number("limit").or_else(|| i32::try_from(gateway::PAGE).ok());
    PageArgs { first, after: params.get("cursor").map(str::to_owned), ..PageArgs::default() }
}

/// A fault of a list's query, in the words of its parameters.
fn refused(fault: Fault) -> Problem {
    if fault.code == ErrorCode::Unavailable {
        return Problem::unavailable(fault);
    }
    let name = match fault.code {
        ErrorCode::CursorInvalid => "cursor",
        _ => "sort",
    };
    Problem::parameter(StatusCode::BAD_REQUEST, name, fault)
}

/// The next page's address, in a Link header (RFC 8288).
fn link(call: &Call, next: Option<&str>) -> Option<HeaderValue> {
    let next = next?;
    let query = call.uri.query().unwrap_or_default();
    let mut kept: Vec<&str> =
        query.split('&').filter(|pair| !pair.is_empty() && pair.split('=').next() != Some("cursor")).collect();
    let cursor = format!("cursor={next}");
    kept.push(&cursor);
    HeaderValue::from_str(&format!("<{}?{}>; rel=\"next\"", call.uri.path(), kept.join("&"))).ok()
}

/// The cursor that the next page begins after.
fn next<T>(page: &gateway::Page<T>) -> Option<String> {
    page.items.last().filter(|_| page.after).map(|(cursor, _)| cursor.clone())
}

/// Refuses what would be more than an answer holds, before it is made.
fn bounded<'a>(records: impl Iterator<Item = &'a Record>) -> Result<(), Problem> {
    let weight: usize = records.map(|record| Image::weight(record, false)).sum();
    if weight <= ANSWER_LIMIT {
        return Ok(());
    }
    let detail =
        format!("the answer would have {weight} bytes; {ANSWER_LIMIT} is the most (limit: answer): ask for less");
    Err(Problem::limit(detail))
}

fn strings(values: Option<Vec<&str>>) -> Option<Vec<String>> {
    values.map(|values| values.into_iter().map(str::to_owned).collect())
}

/// Values of which the empty one stands for none.
fn some(values: Option<Vec<&str>>) -> Option<Vec<Option<String>>> {
    let of = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    values.map(|values| values.into_iter().map(of).collect())
}

fn order(params: &Params) -> Option<Order> {
    let word = params.get("sort")?;
    let (field, descending) = word.strip_prefix('-').map_or((word, false), |field| (field, true));
    let field = match field {
        "relevance" => OrderField::Relevance,
        "updated" => OrderField::Updated,
        "downloads" => OrderField::Downloads,
        _ => OrderField::Name,
    };
    Some(Order { field, descending })
}

fn organizations(call: &Call, view: &View) -> Result<Made, Problem> {
    let mine = call.params.flag("managed") == Some(true);
    let page = gateway::organizations(view, mine, &page_of(&call.params)).map_err(refused)?;
    let next = next(&page);
    let items = page.items.iter().filter_map(|(_, record)| Organization::of(view, record)).collect();
    let link = link(call, next.as_deref());
    Ok(Made { body: json(&OrganizationPage { items, total: page.total, next }), link })
}

fn repositories(call: &Call, view: &View) -> Result<Made, Problem> {
    let params = &call.params;
    let filter = RepositoryFilter {
        names: params.all("name").map(|names| names.into_iter().map(Into::into).collect()),
        organizations: strings(params.all("organization")),
        keywords: strings(params.all("keyword")),
        types: params.all("type").map(|words| words.into_iter().map(input::image_type).collect()),
        architectures: some(params.all("architecture")),
        is_private: params.flag("private"),
        managed_by_me: params.flag("managed"),
        updated_since: params.time("updatedSince"),
    };
    let query =
        RepositoryQuery::new(params.get("q").map(str::to_owned), Some(filter), order(params)).map_err(refused)?;
    let (page, facets) = gateway::repositories(view, query, &page_of(params)).map_err(refused)?;
    let latest = |found: &gateway::Found| {
        let head = found.record.repository()?;
        view.visible().tags(head.name()).first().cloned()
    };
    let shown: Vec<_> = page.items.iter().filter_map(|(_, found)| latest(found)).collect();
    bounded(shown.iter().map(|record| &**record))?;
    let next = next(&page);
    let items = page
        .items
        .iter()
        .filter_map(|(_, found)| Repository::of(view, &found.record, found.matched.as_deref()))
        .collect();
    let facets = params.all("facets").map(|wanted| shown_facets(&facets, &wanted));
    let link = link(call, next.as_deref());
    Ok(Made { body: json(&RepositoryPage { items, total: page.total, next, facets }), link })
}

fn shown_facets(facets: &gateway::Facets, wanted: &[&str]) -> Facets {
    let of = |name: &str, field: FacetField, most: usize| {
        let counted = || facets.of(field, most).into_iter().map(Facet::from).collect();
        wanted.contains(&name).then(counted)
    };
    let [organization, keyword, sort, architecture] = FACETS;
    Facets {
        organization: of(organization, FacetField::Organization, gateway::PAGE),
        keyword: of(keyword, FacetField::Keyword, gateway::PAGE),
        sort: of(sort, FacetField::Type, LONGEST_PAGE),
        architecture: of(architecture, FacetField::Architecture, LONGEST_PAGE),
    }
}

fn image_page(call: &Call, view: &View, page: &gateway::Page<std::sync::Arc<Record>>) -> Result<Made, Problem> {
    bounded(page.items.iter().map(|(_, record)| &**record))?;
    let next = next(page);
    let items = page.items.iter().filter_map(|(_, record)| Image::of(view.visible(), record, false)).collect();
    let link = link(call, next.as_deref());
    Ok(Made { body: json(&ImagePage { items, total: page.total, next }), link })
}

fn images(call: &Call, view: &View) -> Result<Made, Problem> {
    let params = &call.params;
    let filter = ImageFilter {
        names: params.all("name").map(|names| names.into_iter().map(Into::into).collect()),
        repositories: params.all("repository").map(|names| names.into_iter().map(Into::into).collect()),
        organizations: strings(params.all("organization")),
        keywords: strings(params.all("keyword")),
        types: params.all("type").map(|words| words.into_iter().map(input::image_type).collect()),
        architectures: some(params.all("architecture")),
        updated_since: params.time("updatedSince"),
    };
    let query = ImageQuery::new(Some(filter), order(params)).map_err(refused)?;
    image_page(call, view, &gateway::images(view, &query, &page_of(params)).map_err(refused)?)
}

fn tags(call: &Call, view: &View) -> Result<Made, Problem> {
    let name = call.repository_name();
    if view.find_repository(&name).is_none() {
        return Err(Problem::absent(Kind::Repository));
    }
    image_page(call, view, &gateway::tags(view, &name, &page_of(&call.params)).map_err(refused)?)
}

fn compare(call: &Call, view: &View) -> Result<Made, Problem> {
    let of = |name: &str| {
        let record = view.find_image(call.params.get(name).unwrap_or_default());
        record.ok_or_else(|| Problem::absent(Kind::Image))
    };
    let (from, to) = (of("from")?, of("to")?);
    let shown = |record: &Record| Image::of(view.visible(), record, false).ok_or_else(|| Problem::absent(Kind::Image));
    let docs = |record: &Record| ImageView::of(record).and_then(|image| image.docs()).unwrap_or_default();
    Ok(plain(&Comparison {
        from: shown(from)?,
        to: shown(to)?,
        changes: image_changes(Some(from), Some(to)).into_iter().map(Into::into).collect(),
        docs_diff: docs_diff(&docs(from), &docs(to)),
    }))
}

fn suggest(call: &Call, view: &View) -> Result<Made, Problem> {
    let most = call.params.number("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(8);
    let found = gateway::suggest(view, call.params.get("q").unwrap_or_default(), most);
    let found = found.map_err(|fault| match fault.code {
        ErrorCode::Unavailable => Problem::unavailable(fault),
        _ => Problem::parameter(StatusCode::BAD_REQUEST, "q", fault),
    })?;
    let of = |(text, found): (String, Suggested)| {
        let kind = match found {
            Suggested::Image(_) => Kind::Image,
            Suggested::Repository(_) => Kind::Repository,
            Suggested::Organization(_) => Kind::Organization,
        };
        Suggestion { text, kind: kind.into() }
    };
    Ok(plain(&Suggestions { items: found.into_iter().map(of).collect() }))
}

fn whoami(call: &Call, view: &View) -> Result<Made, Problem> {
    let caller = &call.caller;
    let args = PageArgs { first: i32::try_from(LONGEST_PAGE).ok(), ..PageArgs::default() };
    let mine = gateway::organizations(view, true, &args).map_err(refused)?;
    let names = mine.items.iter().filter_map(|(_, record)| Some(record.organization()?.name.to_string()));
    Ok(plain(&Whoami {
        name: caller.is_authenticated().then(|| caller.user().to_owned()),
        groups: caller.groups().iter().take(OWN_GROUPS).cloned().collect(),
        anonymous: !caller.is_authenticated(),
        administrator: caller.is_administrator(),
        can_create_organizations: call
            .shared
            .app
            .registry
            .authorize(caller, Verb::Create, Kind::Organization, "", "")
            .is_ok(),
        organizations: names.collect(),
    }))
}

/// The images of the names in a body: a pack's content without a pack.
pub(super) async fn resolve(call: &Call, body: Body) -> Result<Response, Problem> {
    input::form(&call.headers, &[Form::Json])?;
    let body = serve::body(call, body, None).await?;
    let names = input::resolve(input::json(&body)?).map_err(Problem::unfit)?;
    let view = call.view();
    let images: Vec<_> = names.iter().map(|name| view.visible().image(name)).collect();
    bounded(images.iter().filter_map(|image| image.map(|record| &**record)))?;
    let shown = names.into_iter().zip(images).map(|(name, record)| Entry {
        name,
        image: record.and_then(|record| Image::of(view.visible(), record, false)),
    });
    let body = json(&Resolved { entries: shown.collect() });
    Ok(respond::written(StatusCode::OK, body, None, view.visible().revision()))
}
