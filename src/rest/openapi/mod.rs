//! The OpenAPI document, `openapi/imagehub.json`: schemas from the types that are shown, paths and parameters from the
//! tables that requests are checked by, responses from one place for all.

mod bodies;
mod bounds;
mod operations;

use std::sync::LazyLock;

use axum::response::Response;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContactBuilder, InfoBuilder, LicenseBuilder, OpenApiBuilder, SecurityRequirement, ServerBuilder,
};

use super::contract::BASE;
use super::serve::{self, Call};
use super::{JSON, answers, problem, respond, show};
use crate::gateway::Answer;

/// The name of the one security scheme.
const BEARER: &str = "bearer";

const DESCRIPTION: &str = "\
The imagehub catalogue: cluster images in repositories of organizations, and packs of image names.

A GET has an ETag, the digest of the answer; send it back in If-None-Match for a 304, or with `Prefer: wait=60` to wait \
until the answer changes. With `Accept: text/event-stream` an answer is followed: each new one is a `put` event. Writes \
take If-Match, and If-None-Match: * for what must not be there yet. `imagehub-revision` tells the state that an answer \
was read at, and `imagehub-min-revision` demands one. Errors are problem details (RFC 9457).

What is private and what is absent have the same answer.";

/// What is said of the one server.
const SERVER: &str = "The server that this document comes from, in production as in a test.";

/// That a token is needed.
fn bearer() -> SecurityRequirement {
    SecurityRequirement::new::<_, [&str; 0], &str>(BEARER, [])
}

/// Adds the schema of a type, and those that it refers to.
fn schemas<T: ToSchema>(components: ComponentsBuilder) -> ComponentsBuilder {
    let mut inner = Vec::new();
    T::schemas(&mut inner);
    components.schemas_from_iter(inner).schema_from::<T>()
}

/// What is read and written.
const SCHEMAS: [fn(ComponentsBuilder) -> ComponentsBuilder; 20] = [
    schemas::<problem::ProblemBody>,
    schemas::<bodies::ImageSchema>,
    schemas::<bodies::NamedImageSchema>,
    schemas::<bodies::ManifestSchema>,
    schemas::<bodies::RepositorySchema>,
    schemas::<bodies::RepositoryPatchSchema>,
    schemas::<bodies::OrganizationSchema>,
    schemas::<bodies::DataPackSchema>,
    schemas::<bodies::ResolveSchema>,
    schemas::<answers::ImagePage>,
    schemas::<answers::RepositoryPage>,
    schemas::<answers::OrganizationPage>,
    schemas::<show::DataPack>,
    schemas::<show::Resolved>,
    schemas::<answers::Comparison>,
    schemas::<answers::Suggestions>,
    schemas::<answers::Whoami>,
    schemas::<answers::AppliedMany>,
    schemas::<answers::Change>,
    schemas::<answers::Moment>,
];

/// What a bearer token is.
const TOKENS: &str =
    "A token: of a local user (`imagehub token`), of the cluster, or of the OpenID Connect issuer that is believed.";

/// The document, made and digested once.
static ANSWER: LazyLock<Answer> = LazyLock::new(|| Answer::fixed(document().into()));

/// The document, as it is committed and served.
///
/// # Panics
/// Never: it has only string keys.
#[must_use]
pub fn document() -> String {
    let info = InfoBuilder::new()
        .title("imagehub")
        .version("v1")
        .description(Some(DESCRIPTION))
        .contact(Some(
            ContactBuilder::new().url(Some("https://github.com/labring/imagehub")).name(Some("imagehub")).build(),
        ))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()));
    let mut scheme = Http::new(HttpAuthScheme::Bearer);
    scheme.description = Some(TOKENS.to_owned());
    let components = SCHEMAS.iter().fold(ComponentsBuilder::new(), |components, add| add(components));
    let components = components.security_scheme(BEARER, SecurityScheme::Http(scheme));
    let components = operations::shared(components);
    let document = OpenApiBuilder::new()
        .info(info)
        .servers(Some([ServerBuilder::new().url(BASE).description(Some(SERVER)).build()]))
        .paths(operations::paths())
        .components(Some(components.build()))
        // Whoever has shown nothing reads what is public.
        .security(Some([SecurityRequirement::default(), bearer()]))
        .tags(Some(operations::tags()))
        .build();
    let mut value: Value = serde_json::to_value(document).expect("the document has only string keys");
    bounds::complete(&mut value);
    // What it serves is for everybody who reaches it.
    value["servers"][0]["x-internal"] = false.into();
    let mut text = serde_json::to_string_pretty(&value).expect("the document has only string keys");
    text.push('\n');
    text
}

/// Answers a request for the document: the same for everybody.
pub(super) fn answer(call: &Call) -> Response {
    respond::read(&ANSWER, JSON, call.view().visible().revision(), None, serve::told(call))
}
