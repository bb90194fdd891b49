//! What clients write, as the document has it. Bodies are read field by field (`rest/input`), so that each fault is told.
//!
//! What a schema has no words for is checked all the same: that a name is the path's, that no two actions have one key,
//! how long a duration is.

use std::borrow::Cow;

use serde_json::Value;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::super::show::{Action, Grain, ImageType};
use crate::api::validate::MAX_MANAGER_LEN;
use crate::api::{API_VERSION, Kind};

/// An image's full name by today's rules, `org/repo:tag`: each part has at most 63 characters.
#[derive(ToSchema)]
#[schema(
    as = ImageName,
    pattern = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[a-z0-9]([._a-z0-9-]{0,61}[a-z0-9])?:[A-Za-z0-9]([._A-Za-z0-9-]{0,61}[A-Za-z0-9])?$"
)]
#[expect(dead_code, reason = "it is the contract")]
pub(super) struct FullName(String);

/// Control characters, in a class of a pattern.
const CONTROL: &str = r"\u0000-\u001f\u007f-\u009f";
/// White space that isn't a control character, the same.
const SPACE: &str = r"\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";

/// A manager of an organization.
pub(super) struct Manager;

impl PartialSchema for Manager {
    fn schema() -> RefOr<Schema> {
        let name = |without: &str| {
            let (inner, edge) = (format!("[^{without}{CONTROL}]"), format!("[^{without}{CONTROL}{SPACE}]"));
            format!("{edge}({inner}*{edge})?")
        };
        let about = "A ServiceAccount's or a local user's name, or `user:` and any other user's full name.";
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(about))
            .pattern(Some(format!("^(user:{}|{})$", name(""), name(":"))))
            .max_length(Some(MAX_MANAGER_LEN))
            .into()
    }
}

impl ToSchema for Manager {}

/// What an image is to be. With PUT what is left out is cleared, with PATCH it stays, and null clears it.
#[derive(ToSchema)]
#[schema(as = ImageInput, rename_all = "camelCase")]
#[expect(dead_code, reason = "it is the contract")]
pub(super) struct ImageSchema {
    /// The full name: the path's, if it is said.
    #[schema(required = false)]
    name: Option<String>,
    /// What kind of image it is.
    #[schema(rename = "type")]
    image_type: Option<ImageType>,
    /// Words to find it by.
    #[schema(max_items = 256, max_length = 256)]
    keywords: Option<Vec<String>>,
    /// A sentence or two.
    description: Option<String>,
    /// The address of an icon.
    icon: Option<String>,
    /// The documentation, Markdown.
    docs: Option<String>,
    /// The project's home page.
    url: Option<String>,
    /// The image's ID, a digest.
    image_id: Option<String>,
    /// What it is built for.
    architecture: Option<String>,
    /// Its size in bytes.
    #[schema(minimum = 0)]
    size: Option<i64>,
    /// When it was built.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<String>,
    /// What can be done with it: all of it. No two have one key.
    #[schema(max_items = 65_536)]
    actions: Option<Vec<Action>>,
}

/// One of many images: with its name.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "it is the contract")]
struct Named {
    /// The full name, org/repo:tag.
    name: FullName,
    /// The version that it must be at; "0": it must not exist.
    if_version: Option<String>,
}

/// One of many images: all that one has whose name is the path's, with its name.
pub(super) struct NamedImageSchema;

impl PartialSchema for NamedImageSchema {
    fn schema() -> RefOr<Schema> {
        let mut named = Named::schema();
        if let (RefOr::T(Schema::Object(named)), RefOr::T(Schema::Object(image))) = (&mut named, ImageSchema::schema())
        {
            for (name, field) in image.properties {
                named.properties.entry(name).or_insert(field);
            }
        }
        named
    }
}

impl ToSchema for NamedImageSchema {
    fn name() -> Cow<'static, str> {
        "NamedImageInput".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        ImageSchema::schemas(schemas);
    }
}

/// An image as kubectl takes it.
pub(super) struct ManifestSchema;

impl PartialSchema for ManifestSchema {
    fn schema() -> RefOr<Schema> {
        let kind = ObjectBuilder::new().schema_type(Type::String).enum_values(Some([Kind::Image.name()]));
        // As everywhere in kube's objects null is as good as nothing.
        let version = ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
            .enum_values(Some([Value::from(API_VERSION), Value::Null]));
        let open = || ObjectBuilder::new().additional_properties(Some(AdditionalProperties::FreeForm(true)));
        let spec = open()
            .description(Some("As kube has it."))
            .property("name", Ref::from_schema_name("ImageName"))
            .required("name");
        let about =
            "An image as kubectl takes it. What is not told here is kube's, and what kube doesn't know is warned of.";
        open()
            .description(Some(about))
            .property("apiVersion", version)
            .property("kind", kind)
            .property("spec", spec)
            .required("kind")
            .required("spec")
            .into()
    }
}

impl ToSchema for ManifestSchema {
    fn name() -> Cow<'static, str> {
        "ImageManifest".into()
    }
}

/// What a repository is to be.
#[derive(ToSchema)]
#[schema(as = RepositoryInput, rename_all = "camelCase")]
#[expect(dead_code, reason = "it is the contract")]
pub(super) struct RepositorySchema {
    /// The full name: the path's, if it is said.
    #[schema(required = false)]
    name: Option<String>,
    /// Whether only the organization's managers and administrators see it.
    is_private: bool,
}

/// What is to change of a repository.
#[derive(ToSchema)]
#[schema(as = RepositoryPatch, rename_all = "camelCase")]
#[expect(dead_code, reason = "it is the contract")]
pub(super) struct RepositoryPatchSchema {
    /// The full name: the path's, if it is said.
    #[schema(required = false)]
    name: Option<String>,
    /// Whether only the organization's managers and administrators see it.
    #[schema(required = false)]
    is_private: bool,
}

/// What an organization is to be.
#[derive(ToSchema)]
#[schema(as = OrganizationInput, rename_all = "camelCase")]
#[expect(dead_code, reason = "it is the contract")]
pub(super) struct OrganizationSchema {
    /// The name: the path's, if it is said.
    #[schema(required = false)]
    name: Option<String>,
    /// Who may change it and what is in it. Its creator always is among them.
    #[schema(max_items = 1000)]
    managers: Option<Vec<Manager>>,
}

/// What a pack is to have.
#[derive(ToSchema)]
#[schema(as = DataPackInput, rename_all = "camelCase")]
#[expect(dead_code, reason = "it is the contract")]
pub(super) struct DataPackSchema {
    /// The images' full names.
    #[schema(max_items = 1000)]
    names: Vec<FullName>,
    /// How much kube clients are told of each.
    grain: Option<Grain>,
    /// How long it is kept, a Go duration from 1s to 720h.
    #[schema(default = "2h", pattern = "^\\+?(([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|\\u00b5s|\\u03bcs|ms|s|m|h))+$")]
    expire_time: Option<String>,
}

/// The names to look up.
#[derive(ToSchema)]
#[schema(as = ResolveInput, rename_all = "camelCase")]
#[expect(dead_code, reason = "it is the contract")]
pub(super) struct ResolveSchema {
    /// The images' full names, org/repo:tag. Those that could be given once are looked up, too.
    #[schema(max_items = 1000, max_length = 1024, pattern = "/[\\s\\S]*:")]
    names: Vec<String>,
}
