//! What there is: the paths, the methods that each takes, and what may stand in a query. The router, the checks of
//! requests and the OpenAPI document are all made from these tables.

use http::Method;

/// Under which all paths lie.
pub const BASE: &str = "/api/v1";

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Endpoint {
    Organizations,
    Organization,
    Repositories,
    Repository,
    Tags,
    Feed,
    Badge,
    Images,
    Image,
    Docs,
    Resolve,
    Compare,
    Suggest,
    Packs,
    Pack,
    Events,
    Whoami,
    OpenApi,
}

/// A path, and what can be done there beside HEAD and OPTIONS, which all have that have GET.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) path: &'static str,
    pub(super) endpoint: Endpoint,
    pub(super) methods: &'static [Method],
}

const READ: &[Method] = &[Method::GET];
const POST: &[Method] = &[Method::POST];
const LIST: &[Method] = &[Method::GET, Method::POST];
const ALL: &[Method] = &[Method::GET, Method::PUT, Method::PATCH, Method::DELETE];

const fn route(path: &'static str, endpoint: Endpoint, methods: &'static [Method]) -> Route {
    Route { path, endpoint, methods }
}

/// All paths. No fixed one is the sibling of a name that a user gives.
pub(super) static ROUTES: [Route; 18] = [
    route("/organizations", Endpoint::Organizations, READ),
    route("/organizations/{org}", Endpoint::Organization, ALL),
    route("/repositories", Endpoint::Repositories, READ),
    route("/repositories/{org}/{repo}", Endpoint::Repository, ALL),
    route("/repositories/{org}/{repo}/tags", Endpoint::Tags, READ),
    route("/repositories/{org}/{repo}/feed.atom", Endpoint::Feed, READ),
    route("/repositories/{org}/{repo}/badge.svg", Endpoint::Badge, READ),
    route("/images", Endpoint::Images, LIST),
    route("/images/{org}/{repo}/{tag}", Endpoint::Image, ALL),
    route("/images/{org}/{repo}/{tag}/docs", Endpoint::Docs, READ),
    route("/resolve", Endpoint::Resolve, POST),
    route("/compare", Endpoint::Compare, READ),
    route("/suggest", Endpoint::Suggest, READ),
    route("/datapacks", Endpoint::Packs, POST),
    route("/datapacks/{name}", Endpoint::Pack, READ),
    route("/events", Endpoint::Events, READ),
    route("/whoami", Endpoint::Whoami, READ),
    route("/openapi.json", Endpoint::OpenApi, READ),
];

impl Endpoint {
    /// The media type of its answers to GET.
    pub(super) fn media(self) -> &'static str {
        match self {
            Self::Feed => "application/atom+xml; charset=utf-8",
            Self::Badge => "image/svg+xml",
            Self::Docs => "text/markdown; charset=utf-8",
            Self::Events => super::EVENT_STREAM,
            _ => super::JSON,
        }
    }
}

/// What sort of value a parameter of a query has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// A text of so many bytes at most.
    Text(usize),
    /// The same, as often as wanted.
    Texts(usize),
    /// One of these words.
    Word(&'static [&'static str]),
    /// The same, as often as wanted.
    Words(&'static [&'static str]),
    /// A whole number from the first to the second; the third where it isn't said.
    Number(usize, usize, usize),
    /// `true` or `false`.
    Flag,
    /// A time, RFC 3339.
    Time,
    /// A revision that an answer gave: at most 19 decimal digits.
    Revision,
}

/// A parameter of a query.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) sort: Sort,
    pub(super) about: &'static str,
    pub(super) required: bool,
}

const fn may(name: &'static str, sort: Sort, about: &'static str) -> Parameter {
    Parameter { name, sort, about, required: false }
}

const fn must(name: &'static str, sort: Sort, about: &'static str) -> Parameter {
    Parameter { name, sort, about, required: true }
}

/// The longest header that is read, in bytes: more than any condition or place in a stream needs.
pub(super) const LONGEST_HEADER: usize = 4096;
/// The longest name that is asked for, in bytes: what is longer is none.
const NAME: usize = 1024;

const LIMIT: Parameter =
    may("limit", Sort::Number(1, crate::gateway::LONGEST_PAGE, crate::gateway::PAGE), "How many there are on a page.");
const CURSOR: Parameter =
    may("cursor", Sort::Text(crate::gateway::LONGEST_CURSOR), "Where the page before ended: its `next`.");
const DRY_RUN: Parameter = may("dryRun", Sort::Flag, "Whether only to tell what would become of it.");
const ORGANIZATION: Parameter = may("organization", Sort::Texts(NAME), "In one of these organizations.");
const KEYWORD: Parameter = may("keyword", Sort::Texts(NAME), "With all of these keywords, whatever their case.");
const TYPE: Parameter =
    may("type", Sort::Words(&["CLOUD_IMAGE", "CLUSTER_IMAGE", ""]), "Of one of these kinds; empty: of none.");
const ARCHITECTURE: Parameter =
    may("architecture", Sort::Texts(NAME), "Built for one of these; empty: those of which it isn't known.");
const UPDATED_SINCE: Parameter =
    may("updatedSince", Sort::Time, "Written since, or, of a repository, one of its images.");

/// The facets of a list of repositories.
pub(super) const FACETS: [&str; 4] = ["organization", "keyword", "type", "architecture"];
/// The kinds whose events can be followed.
pub(super) const KINDS: [&str; 4] = ["IMAGE", "REPOSITORY", "ORGANIZATION", "DATA_PACK"];

static REPOSITORIES: [Parameter; 13] = [
    may("q", Sort::Text(crate::search::MAX_TEXT), "A text to search for: names, words, or a whole org/repo:tag."),
    may("name", Sort::Texts(NAME), "One of these full names, org/repo."),
    ORGANIZATION,
    KEYWORD,
    TYPE,
    ARCHITECTURE,
    may("private", Sort::Flag, "Private ones only, or public ones only."),
    may("managed", Sort::Flag, "Those of organizations that you are a manager of, or all others."),
    UPDATED_SINCE,
    may(
        "sort",
        Sort::Word(&["relevance", "name", "-name", "updated", "-updated", "downloads", "-downloads"]),
        "The order, `-` for the last first: by relevance with `q`, else by name, where it isn't said.",
    ),
    may("facets", Sort::Words(&FACETS), "What to count values of, each leaving its own choice aside."),
    LIMIT,
    CURSOR,
];
static IMAGES: [Parameter; 10] = [
    may("name", Sort::Texts(NAME), "One of these full names, org/repo:tag."),
    may("repository", Sort::Texts(NAME), "In one of these repositories, org/repo."),
    ORGANIZATION,
    KEYWORD,
    TYPE,
    ARCHITECTURE,
    UPDATED_SINCE,
    may(
        "sort",
        Sort::Word(&["name", "-name", "updated", "-updated", "downloads", "-downloads"]),
        "The order, `-` for the last first; by name where it isn't said.",
    ),
    LIMIT,
    CURSOR,
];
static ORGANIZATIONS: [Parameter; 3] =
    [may("managed", Sort::Flag, "Only those that you are a manager of."), LIMIT, CURSOR];
static PAGED: [Parameter; 2] = [LIMIT, CURSOR];
static WRITTEN: [Parameter; 1] = [DRY_RUN];
static COMPARE: [Parameter; 2] = [
    must("from", Sort::Text(NAME), "The full name of the one that it was, org/repo:tag."),
    must("to", Sort::Text(NAME), "The full name of the one that it is."),
];
static SUGGEST: [Parameter; 2] = [
    must("q", Sort::Text(crate::search::MAX_TEXT), "The text, as far as it is typed."),
    may("limit", Sort::Number(1, crate::search::MAX_SUGGESTIONS, 8), "How many at most."),
];
static EVENTS: [Parameter; 3] = [
    may("kind", Sort::Words(&KINDS), "What to follow; all of it where it isn't said."),
    may("organization", Sort::Texts(NAME), "Only what is in one of these organizations, or is one."),
    may(
        "since",
        Sort::Revision,
        "What happened after this revision, a decimal number; from now on where it isn't said.",
    ),
];

/// What may stand in the query of a request.
pub(super) fn query(endpoint: Endpoint, method: &Method) -> &'static [Parameter] {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match endpoint {
        Endpoint::Repositories => &REPOSITORIES,
        Endpoint::Images if reads => &IMAGES,
        Endpoint::Organizations => &ORGANIZATIONS,
        Endpoint::Tags => &PAGED,
        Endpoint::Compare => &COMPARE,
        Endpoint::Suggest => &SUGGEST,
        Endpoint::Events => &EVENTS,
        Endpoint::Images | Endpoint::Image | Endpoint::Repository | Endpoint::Organization if !reads => &WRITTEN,
        _ => &[],
    }
}
