//! The operations: one a path and method.

use http::Method;
use serde_json::json;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::header::Header;
use utoipa::openapi::path::{
    Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem, Paths, PathsBuilder,
};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{
    ArrayBuilder, ComponentsBuilder, KnownFormat, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, Type,
};
use utoipa::openapi::tag::{Tag, TagBuilder};
use utoipa::openapi::{Content, ContentBuilder, Ref, RefOr, Required, Response, ResponseBuilder};

use super::super::contract::{Endpoint, LONGEST_HEADER, ROUTES, Sort, query};
use super::super::problem::MEDIA;
use super::bearer;
use crate::api::name::MAX_LABEL_VALUE;

/// What an answer that is text has at most, in characters.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

const READING: &str = "Reading";
const WRITING: &str = "Writing";
const PACKS: &str = "Packs";
const FOLLOWING: &str = "Following";

pub(super) fn tags() -> [Tag; 4] {
    let tag = |name, about| TagBuilder::new().name(name).description(Some(about)).build();
    [
        tag(READING, "What is in the catalogue, as you see it."),
        tag(WRITING, "What is put into it, changed and taken out."),
        tag(PACKS, "Lists of names, and what is known of each."),
        tag(FOLLOWING, "What happens."),
    ]
}

/// The name, the sentence and the group of an operation.
fn said(endpoint: Endpoint, method: &Method) -> (&'static str, &'static str, &'static str) {
    match (endpoint, method.as_str()) {
        (Endpoint::Organizations, _) => ("listOrganizations", "Organizations, in order of name.", READING),
        (Endpoint::Organization, "GET") => ("getOrganization", "An organization.", READING),
        (Endpoint::Organization, "PUT") => ("putOrganization", "Makes or replaces an organization.", WRITING),
        (Endpoint::Organization, "PATCH") => ("patchOrganization", "Changes a part of an organization.", WRITING),
        (Endpoint::Organization, _) => {
            ("deleteOrganization", "Deletes an organization, and after it what is in it.", WRITING)
        }
        (Endpoint::Repositories, _) => ("listRepositories", "Repositories: searched, filtered, counted.", READING),
        (Endpoint::Repository, "GET") => ("getRepository", "A repository.", READING),
        (Endpoint::Repository, "PUT") => ("putRepository", "Makes or replaces a repository.", WRITING),
        (Endpoint::Repository, "PATCH") => ("patchRepository", "Changes a part of a repository.", WRITING),
        (Endpoint::Repository, _) => ("deleteRepository", "Deletes a repository, and after it its images.", WRITING),
        (Endpoint::Tags, _) => ("listTags", "A repository's images, the newest first.", READING),
        (Endpoint::Feed, _) => ("getFeed", "A repository's newest images, for feed readers.", READING),
        (Endpoint::Badge, _) => ("getBadge", "A repository's newest tag, for pages.", READING),
        (Endpoint::Images, "GET") => ("listImages", "Images.", READING),
        (Endpoint::Images, _) => ("applyImages", "Makes or changes many images, each by itself.", WRITING),
        (Endpoint::Image, "GET") => ("getImage", "An image.", READING),
        (Endpoint::Image, "PUT") => {
            ("putImage", "Makes or replaces an image; its organization and repository are made with it.", WRITING)
        }
        (Endpoint::Image, "PATCH") => ("patchImage", "Changes a part of an image.", WRITING),
        (Endpoint::Image, _) => ("deleteImage", "Deletes an image.", WRITING),
        (Endpoint::Docs, _) => ("getDocs", "An image's documentation.", READING),
        (Endpoint::Resolve, _) => ("resolve", "The images of names: a pack's content without a pack.", PACKS),
        (Endpoint::Compare, _) => ("compare", "Two images side by side.", READING),
        (Endpoint::Suggest, _) => ("suggest", "What a text may be the beginning of.", READING),
        (Endpoint::Packs, _) => {
            ("createDataPack", "Keeps a list of names as a pack; the same list is the same pack.", PACKS)
        }
        (Endpoint::Pack, _) => ("getDataPack", "A pack.", PACKS),
        (Endpoint::Events, _) => ("followEvents", "What happens, as server-sent events.", FOLLOWING),
        (Endpoint::Whoami, _) => ("whoami", "Who you are, as the server takes you.", READING),
        (Endpoint::OpenApi, _) => ("getOpenApi", "This document.", READING),
    }
}

pub(super) fn paths() -> Paths {
    let mut paths = PathsBuilder::new();
    for route in &ROUTES {
        let mut item = PathItem::default();
        for method in route.methods {
            let operation = Some(operation(route.path, route.endpoint, method));
            match method.as_str() {
                "GET" => item.get = operation,
                "PUT" => item.put = operation,
                "PATCH" => item.patch = operation,
                "DELETE" => item.delete = operation,
                _ => item.post = operation,
            }
        }
        paths = paths.path(route.path, item);
    }
    paths.build()
}

fn schema(name: &str) -> Ref {
    Ref::from_schema_name(name)
}

fn text(longest: usize) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).max_length(Some(longest))
}

fn word(words: &[&str]) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words.iter().copied()))
}

fn query_parameter(parameter: &super::super::contract::Parameter) -> Parameter {
    let shape: RefOr<Schema> = match parameter.sort {
        Sort::Text(longest) => text(longest).min_length(parameter.required.then_some(1)).into(),
        Sort::Texts(longest) => ArrayBuilder::new().items(text(longest)).max_items(Some(1000)).into(),
        Sort::Word(words) => word(words).into(),
        Sort::Words(words) => ArrayBuilder::new().items(word(words)).max_items(Some(1000)).into(),
        Sort::Number(least, most, default) => ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(least))
            .maximum(Some(most))
            .default(Some(json!(default)))
            .into(),
        Sort::Revision => text(19).pattern(Some("^[0-9]{1,19}$")).into(),
        Sort::Flag => ObjectBuilder::new().schema_type(Type::Boolean).into(),
        Sort::Time => {
            let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
            ObjectBuilder::new().schema_type(Type::String).format(Some(format)).into()
        }
    };
    ParameterBuilder::new()
        .name(parameter.name)
        .parameter_in(ParameterIn::Query)
        .required(if parameter.required { Required::True } else { Required::False })
        .description(Some(parameter.about))
        .schema(Some(shape))
        .build()
}

/// A part of a path. What is written has a name by today's rules; what is read or deleted may have an older one.
fn path_parameter(name: &str, writes: bool) -> Parameter {
    let (about, example, pattern) = match name {
        "org" => ("The organization's name.", "labring", "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"),
        "repo" => ("The repository's name without its organization.", "nginx", "^[a-z0-9]([._a-z0-9-]*[a-z0-9])?$"),
        "tag" => (
            "The image's tag. It may have upper case and `_`, and can't begin with a dot.",
            "1.23",
            "^[A-Za-z0-9]([._A-Za-z0-9-]*[A-Za-z0-9])?$",
        ),
        _ => ("The pack's name.", "dp-0123456789abcdef", "."),
    };
    let shape = if writes { text(MAX_LABEL_VALUE).pattern(Some(pattern)) } else { text(256) };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(about))
        .schema(Some(shape.min_length(Some(1))))
        .example(Some(json!(example)))
        .build()
}

/// A header of requests.
struct RequestHeader {
    /// What the component is called.
    component: &'static str,
    name: &'static str,
    about: &'static str,
    /// What it is like, and an example.
    like: Option<(&'static str, &'static str)>,
}

const fn request_header(
    component: &'static str,
    name: &'static str,
    about: &'static str,
    like: Option<(&'static str, &'static str)>,
) -> RequestHeader {
    RequestHeader { component, name, about, like }
}

const HEADERS: [RequestHeader; 7] = [
    request_header(
        "imagehub-min-revision",
        "imagehub-min-revision",
        "A revision that the answer has, or a later one does.",
        Some(("^[0-9]{1,19}$", "1")),
    ),
    request_header("If-None-Match", "If-None-Match", "The ETag that you have.", None),
    request_header(
        "If-Match",
        "If-Match",
        "The ETag of what is to be changed; `*` for what must be there.",
        Some((TAGS, "*")),
    ),
    request_header("Absent", "If-None-Match", "`*` for what must not be there yet.", Some((TAGS, "*"))),
    request_header("Prefer", "Prefer", "`wait=60`: wait so many seconds until the answer is another.", None),
    request_header("Last-Event-ID", "Last-Event-ID", "The id of the last event that was told.", None),
    request_header(
        "Last-Position",
        "Last-Event-ID",
        "The id of the last event that was told, or a revision.",
        Some((POSITIONS, "IMAGE=1,REPOSITORY=1")),
    ),
];

/// A revision, or one a kind.
const POSITIONS: &str = "^([0-9]{1,19}|(IMAGE|REPOSITORY|ORGANIZATION|DATA_PACK)=[0-9]{1,19}(,(IMAGE|REPOSITORY|ORGANIZATION|DATA_PACK)=[0-9]{1,19}){0,3})$";
/// `*`, or entity tags (RFC 9110 section 8.8.3) without a comma, which none of ours has.
const TAGS: &str = r#"^(\*|(W/)?"[!#-+\--~]{0,64}"([ \t]*,[ \t]*(W/)?"[!#-+\--~]{0,64}"){0,31})$"#;

fn header(header: &RequestHeader) -> Parameter {
    let (pattern, example) = header.like.unzip();
    ParameterBuilder::new()
        .name(header.name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(header.about))
        .schema(Some(text(LONGEST_HEADER).pattern(pattern)))
        .example(example.map(|example| json!(example)))
        .build()
}

/// What all operations refer to.
pub(super) fn shared(mut components: ComponentsBuilder) -> ComponentsBuilder {
    for one in &HEADERS {
        components = components.parameter(one.component, header(one));
    }
    for (status, name, about) in PROBLEMS {
        let mut response = ResponseBuilder::new()
            .description(about)
            .content(MEDIA, ContentBuilder::new().schema(Some(schema("Problem"))).build());
        if matches!(status, 429 | 503) {
            response = response.header_ref("Retry-After", header_ref("Retry-After"));
        }
        if status == 401 {
            response = response.header_ref("WWW-Authenticate", header_ref("WWW-Authenticate"));
        }
        components = components.response(name, limited(response).build());
    }
    let about = "The address and the headers are too long. Nothing has read them: there is no body.";
    components = components.response(TOO_LONG, limited(ResponseBuilder::new().description(about)).build());
    for (name, about) in TOLD {
        let shape: RefOr<Schema> = if name == "Retry-After" {
            ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(86_400)).into()
        } else {
            text(4096).into()
        };
        let mut header = Header::new(shape);
        header.description = Some(about.to_owned());
        components = components.header(name, header);
    }
    components
}

const TOLD: [(&str, &str); 9] = [
    ("ETag", "The digest of the answer, for If-None-Match and If-Match."),
    ("imagehub-revision", "The state that the answer was read at, or that has what was written."),
    ("Link", "The next page (RFC 8288)."),
    ("Location", "Where what was made is."),
    ("RateLimit", "How many requests are left."),
    ("RateLimit-Policy", "How many requests there are."),
    ("Access-Control-Allow-Origin", "The pages of other sites that may read it, where any may."),
    ("Retry-After", "After so many seconds it may be tried again."),
    ("WWW-Authenticate", "How to sign in."),
];

fn header_ref(name: &str) -> Ref {
    Ref::new(format!("#/components/headers/{name}"))
}

fn limited(response: ResponseBuilder) -> ResponseBuilder {
    response
        .header_ref("RateLimit", header_ref("RateLimit"))
        .header_ref("RateLimit-Policy", header_ref("RateLimit-Policy"))
        .header_ref("Access-Control-Allow-Origin", header_ref("Access-Control-Allow-Origin"))
}

/// The answer to what is too long for HTTP to be read, as lists of parameters may be.
const TOO_LONG: &str = "TooLong";

const PROBLEMS: [(u16, &str, &str); 15] = [
    (400, "BadRequest", "The request can't be understood."),
    (401, "Unauthorized", "The token is no good, or one is needed."),
    (403, "Forbidden", "You may not. It is decided by the organization alone."),
    (404, "NotFound", "There is none, or it is not yours to see."),
    (406, "NotAcceptable", "The answer has none of the forms that you take."),
    (408, "RequestTimeout", "The body didn't come in time."),
    (409, "Conflict", "It can't be done as things are."),
    (412, "PreconditionFailed", "What is there is not what If-Match or If-None-Match says."),
    (413, "ContentTooLarge", "The body is too large."),
    (415, "UnsupportedMediaType", "The body has none of the forms that are taken."),
    (422, "UnprocessableContent", "What was sent is readable, and not as it should be."),
    (429, "TooManyRequests", "Too much, too fast."),
    (500, "InternalServerError", "A fault of the server's; its log has the cause."),
    (503, "ServiceUnavailable", "Not now: try again."),
    (504, "GatewayTimeout", "It may have been done, or not."),
];

/// The problems that an operation may answer with.
fn problems(endpoint: Endpoint, method: &Method) -> Vec<u16> {
    let mut all = vec![400, 401, 429, 500, 503];
    let (reads, named) = (*method == Method::GET, names(endpoint));
    if reads {
        all.push(406);
    }
    if named || endpoint == Endpoint::Compare {
        all.push(404);
    }
    if reads && !matches!(endpoint, Endpoint::OpenApi | Endpoint::Events | Endpoint::Whoami) {
        all.push(422);
    }
    if !reads {
        if *method != Method::DELETE {
            all.extend([408, 413, 415, 422]);
        }
        if endpoint != Endpoint::Resolve {
            all.extend([403, 409, 504]);
        }
        if named {
            all.push(412);
        }
    }
    all.sort_unstable();
    all
}

/// Whether its path names one object.
fn names(endpoint: Endpoint) -> bool {
    matches!(
        endpoint,
        Endpoint::Organization
            | Endpoint::Repository
            | Endpoint::Tags
            | Endpoint::Feed
            | Endpoint::Badge
            | Endpoint::Image
            | Endpoint::Docs
            | Endpoint::Pack
    )
}

fn problem_ref(status: u16) -> Ref {
    let name = PROBLEMS.iter().find(|(one, ..)| *one == status).map_or("InternalServerError", |(_, name, _)| *name);
    Ref::from_response_name(name)
}

fn json_content(of: impl Into<RefOr<Schema>>) -> Content {
    ContentBuilder::new().schema(Some(of)).build()
}

/// Events, each of them: OpenAPI 3.1 has no words for a stream of them, and tools read it so.
fn events(words: &[&str], data: ObjectBuilder) -> Content {
    let event = ObjectBuilder::new()
        .property("event", word(words).description(Some("What it tells.")))
        .property("id", text(256).description(Some("Where to go on: Last-Event-ID.")))
        .property("data", data)
        .required("event")
        .required("data");
    ContentBuilder::new().schema(Some(event)).build()
}

/// Data of events: JSON of one of these schemas.
fn data(of: &[&str]) -> ObjectBuilder {
    let one_of: Vec<_> = of.iter().map(|name| schema(name)).collect();
    text(MAX_ANSWER)
        .content_media_type("application/json")
        .extensions(Some(Extensions::from_iter([("contentSchema", json!({ "oneOf": one_of }))])))
}

/// What an answer to a GET shows.
fn shown(endpoint: Endpoint) -> Option<&'static str> {
    match endpoint {
        Endpoint::Organizations => Some("OrganizationPage"),
        Endpoint::Organization => Some("Organization"),
        Endpoint::Repositories => Some("RepositoryPage"),
        Endpoint::Repository => Some("Repository"),
        Endpoint::Tags | Endpoint::Images => Some("ImagePage"),
        Endpoint::Image => Some("Image"),
        Endpoint::Resolve => Some("Resolved"),
        Endpoint::Compare => Some("Comparison"),
        Endpoint::Suggest => Some("Suggestions"),
        Endpoint::Packs | Endpoint::Pack => Some("DataPack"),
        Endpoint::Whoami => Some("Whoami"),
        Endpoint::Feed | Endpoint::Badge | Endpoint::Docs | Endpoint::Events | Endpoint::OpenApi => None,
    }
}

fn told(response: ResponseBuilder) -> ResponseBuilder {
    limited(response).header_ref("imagehub-revision", header_ref("imagehub-revision"))
}

fn read_responses(endpoint: Endpoint) -> Vec<(u16, Response)> {
    let mut ok = told(ResponseBuilder::new().description("The answer."));
    if endpoint == Endpoint::Events {
        let about = "Events: `put` and `removed` with a Change, `sync` where all up to its Moment has been told, `reset` where all \
                     is to be read anew, `gone` at the end, with a Problem.";
        let words = ["put", "removed", "sync", "reset", "gone"];
        let happened = events(&words, data(&["Change", "Moment", "Problem"]));
        return vec![(
            200,
            told(ResponseBuilder::new().description(about)).content("text/event-stream", happened).build(),
        )];
    }
    let media = endpoint.media().split(';').next().unwrap_or_default();
    ok = match shown(endpoint) {
        Some(name) => ok.content(media, json_content(schema(name))),
        None if endpoint == Endpoint::OpenApi => {
            ok.content(media, json_content(ObjectBuilder::new().schema_type(Type::Object)))
        }
        None => ok.content(media, json_content(text(MAX_ANSWER))),
    };
    if endpoint != Endpoint::OpenApi {
        // Each answer as it is, or why there is none any more.
        let told = shown(endpoint).map_or_else(|| text(MAX_ANSWER), |name| data(&[name, "Problem"]));
        ok = ok.content("text/event-stream", events(&["put", "gone"], told));
    }
    ok = ok.header_ref("ETag", header_ref("ETag"));
    if matches!(endpoint, Endpoint::Organizations | Endpoint::Repositories | Endpoint::Images | Endpoint::Tags) {
        ok = ok.header_ref("Link", header_ref("Link"));
    }
    let same = told(ResponseBuilder::new().description("It is what you have.")).header_ref("ETag", header_ref("ETag"));
    vec![(200, ok.build()), (304, same.build())]
}

fn write_responses(endpoint: Endpoint, method: &Method) -> Vec<(u16, Response)> {
    let of = |about: &str, name: &str| {
        told(ResponseBuilder::new().description(about)).content("application/json", json_content(schema(name)))
    };
    let tagged = |response: ResponseBuilder| response.header_ref("ETag", header_ref("ETag"));
    match (endpoint, method.as_str()) {
        (Endpoint::Images, _) => vec![(200, of("What became of each.", "AppliedMany").build())],
        (Endpoint::Resolve, _) => vec![(200, of("The images.", "Resolved").build())],
        (_, "DELETE") => vec![
            (202, told(ResponseBuilder::new().description("It goes when what holds it lets go.")).build()),
            (204, told(ResponseBuilder::new().description("It is gone.")).build()),
        ],
        (_, verb) => {
            let name = shown(endpoint).unwrap_or_default();
            let mut all = vec![(200, tagged(of("It is so now.", name)).build())];
            if verb != "PATCH" {
                let made = tagged(of("It was made.", name)).header_ref("Location", header_ref("Location"));
                all.push((201, made.build()));
            }
            all
        }
    }
}

fn body(endpoint: Endpoint, method: &Method) -> Option<RequestBody> {
    if matches!(*method, Method::GET | Method::DELETE) {
        return None;
    }
    let json = |name: &str| json_content(schema(name));
    let body = RequestBodyBuilder::new().required(Some(Required::True));
    let name = match endpoint {
        Endpoint::Images => {
            let many = ArrayBuilder::new().items(schema("NamedImageInput")).max_items(Some(1000));
            let about = "Images as a list or one a line; or the manifests that kubectl takes, one or several, where what is left \
                         out stays.";
            return Some(
                body.description(Some(about))
                    .content(
                        "application/json",
                        json_content(OneOfBuilder::new().item(many).item(schema("NamedImageInput"))),
                    )
                    .content("application/x-ndjson", json_content(text(crate::gateway::BODY_LIMIT)))
                    .content("application/yaml", json_content(schema("ImageManifest")))
                    .build(),
            );
        }
        Endpoint::Image => "ImageInput",
        Endpoint::Repository if *method == Method::PATCH => "RepositoryPatch",
        Endpoint::Repository => "RepositoryInput",
        Endpoint::Organization => "OrganizationInput",
        Endpoint::Packs => "DataPackInput",
        Endpoint::Resolve => "ResolveInput",
        _ => return None,
    };
    let body = if *method == Method::PATCH {
        let about = "What is left out stays, null clears (RFC 7386).";
        body.description(Some(about)).content("application/merge-patch+json", json(name))
    } else {
        body.content("application/json", json(name))
    };
    Some(body.build())
}

fn operation(path: &str, endpoint: Endpoint, method: &Method) -> Operation {
    let (id, about, tag) = said(endpoint, method);
    let mut operation =
        OperationBuilder::new().operation_id(Some(id)).summary(Some(about)).description(Some(about)).tag(tag);
    for name in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        operation = operation.parameter(path_parameter(name, matches!(*method, Method::PUT | Method::PATCH)));
    }
    for parameter in query(endpoint, method) {
        operation = operation.parameter(query_parameter(parameter));
    }
    let reads = *method == Method::GET;
    let headers: &[&str] = match (reads, endpoint) {
        (true, Endpoint::Events) => &["imagehub-min-revision", "Last-Position"],
        (true, Endpoint::OpenApi) => &["imagehub-min-revision", "If-None-Match"],
        (true, _) => &["imagehub-min-revision", "If-None-Match", "Prefer", "Last-Event-ID"],
        (false, _) if names(endpoint) => &["imagehub-min-revision", "If-Match", "Absent"],
        _ => &["imagehub-min-revision"],
    };
    for name in headers {
        operation = operation.parameter_ref(Ref::new(format!("#/components/parameters/{name}")));
    }
    if !reads && !matches!(endpoint, Endpoint::Resolve | Endpoint::Packs) {
        operation = operation.security(bearer());
    }
    operation = operation.request_body(body(endpoint, method));
    let ok = if reads { read_responses(endpoint) } else { write_responses(endpoint, method) };
    for (status, response) in ok {
        operation = operation.response(status.to_string(), response);
    }
    for status in problems(endpoint, method) {
        operation = operation.response(status.to_string(), problem_ref(status));
    }
    if query(endpoint, method).iter().any(|parameter| matches!(parameter.sort, Sort::Texts(_))) {
        for status in ["414", "431"] {
            operation = operation.response(status, Ref::from_response_name(TOO_LONG));
        }
    }
    operation.build()
}
