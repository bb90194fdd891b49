//! What can be read.

#![expect(clippy::unused_async, reason = "the library has resolvers be async, whether they wait or not")]

use std::sync::Arc;

use async_graphql::{Context, ID, Object, Result, SimpleObject};

use super::Shared;
use super::catalog::{ImageFilter, Order, RepositoryFilter};
use super::error::{fail, refuse};
use super::node::{DataPack, Entry, Image, Node, Organization, Repository, Viewer, entries};
use super::page::{
    ImageConnection, OrganizationConnection, RepositoryConnection, image_connection, organization_connection,
    repository_connection,
};
use super::scalar::{ImageName, RepositoryName};
use super::view::{Nodes as _, View};
use crate::api::validate::MAX_PACK_NAMES;
use crate::api::{Kind, SUPPORTED_KEYWORDS};
use crate::auth::Verb;
use crate::gateway::{self, ImageQuery, LONGEST_PAGE, PageArgs, RepositoryQuery, Suggested};
use crate::model::{self, ErrorCode, ImageView, docs_diff, image_changes};
use crate::search::MAX_SUGGESTIONS;

/// The most names that are resolved at a time: as many as a pack has.
pub const RESOLVED_NAMES: usize = MAX_PACK_NAMES;

/// The catalogue, as you see it at one moment: one request reads one state of it.
pub(super) struct QueryRoot;

/// What a text may be the beginning of.
#[derive(Clone, SimpleObject)]
pub(super) struct Suggestion {
    /// The whole text.
    text: String,
    /// What it names.
    node: Node,
}

/// A field that differs between two images, or is changed by a write.
#[derive(Debug, Clone, SimpleObject)]
pub(super) struct FieldChange {
    /// The field.
    field: &'static str,
    /// What it was; null for nothing. What is long is cut, and says how long it is.
    before: Option<String>,
    /// What it is; null for nothing.
    after: Option<String>,
}

impl From<model::FieldChange> for FieldChange {
    fn from(change: model::FieldChange) -> Self {
        Self { field: change.field, before: change.before, after: change.after }
    }
}

/// Two images side by side.
#[derive(Clone)]
pub(super) struct Comparison {
    from: Image,
    to: Image,
}

impl Comparison {
    /// Counts what comparing them reads.
    fn look(&self) -> Result<()> {
        Ok(self.from.view.reads_text(self.from.record.json().len() + self.to.record.json().len())?)
    }
}

/// Two images side by side.
#[Object]
impl Comparison {
    /// The one that it was.
    async fn from(&self) -> &Image {
        &self.from
    }

    /// The one that it is.
    async fn to(&self) -> &Image {
        &self.to
    }

    /// The fields that differ.
    async fn changes(&self) -> Result<Vec<FieldChange>> {
        self.look()?;
        Ok(image_changes(Some(&self.from.record), Some(&self.to.record)).into_iter().map(Into::into).collect())
    }

    /// How the documentation differs: a unified diff without its head, empty where it doesn't. Costs 50 in complexity.
    async fn docs_diff(&self) -> Result<String> {
        self.look()?;
        let docs = |image: &Image| ImageView::of(&image.record).and_then(|image| image.docs()).unwrap_or_default();
        let diff = docs_diff(&docs(&self.from), &docs(&self.to));
        self.from.view.tells(diff.len())?;
        Ok(diff)
    }
}

fn view<'a>(ctx: &Context<'a>) -> &'a View {
    ctx.data_unchecked::<View>()
}

fn at_most(what: &str, count: usize, limit: usize) -> Result<()> {
    if count <= limit {
        return Ok(());
    }
    Err(fail(ErrorCode::LimitExceeded, format!("{count} {what} are asked for; {limit} is the most (limit: {what})")))
}

/// What can be read. Lists tell only of what you see; what is hidden and what is absent are the same.
#[Object(name = "Query")]
impl QueryRoot {
    /// What has this global id; null also for what is not yours to see.
    async fn node(&self, ctx: &Context<'_>, #[graphql(desc = "The global id.")] id: ID) -> Option<Node> {
        view(ctx).node(&id)
    }

    /// What has these global ids, in their order; at most 100.
    async fn nodes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The global ids.")] ids: Vec<ID>,
    ) -> Result<Vec<Option<Node>>> {
        at_most("ids", ids.len(), LONGEST_PAGE)?;
        Ok(ids.iter().map(|id| view(ctx).node(id)).collect())
    }

    /// Who you are, as the server takes you.
    async fn viewer(&self, ctx: &Context<'_>) -> Viewer {
        let caller = view(ctx).caller();
        let registry = &ctx.data_unchecked::<Arc<Shared>>().app.registry;
        Viewer {
            name: caller.is_authenticated().then(|| caller.user().to_owned()),
            groups: caller.groups().to_vec(),
            anonymous: !caller.is_authenticated(),
            administrator: caller.is_administrator(),
            can_create_organizations: registry.authorize(caller, Verb::Create, Kind::Organization, "", "").is_ok(),
        }
    }

    /// The image of this name.
    async fn image(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The full name, org/repo:tag.")] name: ImageName,
    ) -> Option<Image> {
        view(ctx).image(&name.0)
    }

    /// The repository of this name.
    async fn repository(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The full name, org/repo.")] name: RepositoryName,
    ) -> Option<Repository> {
        view(ctx).repository(&name.0)
    }

    /// The organization of this name.
    async fn organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The name.")] name: String,
    ) -> Option<Organization> {
        view(ctx).organization(&name)
    }

    /// Images.
    #[expect(clippy::too_many_arguments, reason = "a connection has these")]
    async fn images(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which.")] filter: Option<ImageFilter>,
        #[graphql(desc = "The order; by name where it isn't said.")] order_by: Option<Order>,
        #[graphql(desc = "So many from the beginning: 20 if neither is said, at most 100.")] first: Option<i32>,
        #[graphql(desc = "Only those after this cursor.")] after: Option<String>,
        #[graphql(desc = "So many from the end.")] last: Option<i32>,
        #[graphql(desc = "Only those before this cursor.")] before: Option<String>,
    ) -> Result<ImageConnection> {
        let query = ImageQuery::new(filter.map(Into::into), order_by.map(Into::into))?;
        image_connection(view(ctx), &query, &PageArgs { first, after, last, before }).await
    }

    /// Repositories.
    #[expect(clippy::too_many_arguments, reason = "a connection has these")]
    async fn repositories(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "A text to search for: names, words, or a whole org/repo:tag. One typo is forgiven.")]
        query: Option<String>,
        #[graphql(desc = "Which.")] filter: Option<RepositoryFilter>,
        #[graphql(desc = "The order: by RELEVANCE with a query, else by NAME, where it isn't said.")] order_by: Option<
            Order,
        >,
        #[graphql(desc = "So many from the beginning: 20 if neither is said, at most 100.")] first: Option<i32>,
        #[graphql(desc = "Only those after this cursor.")] after: Option<String>,
        #[graphql(desc = "So many from the end. Not by RELEVANCE.")] last: Option<i32>,
        #[graphql(desc = "Only those before this cursor. Not by RELEVANCE.")] before: Option<String>,
    ) -> Result<RepositoryConnection> {
        let query = RepositoryQuery::new(query, filter.map(Into::into), order_by.map(Into::into))?;
        let view = view(ctx);
        if query.has_text() {
            view.reach_search().await.map_err(|error| refuse(&error))?;
        }
        repository_connection(view, query, &PageArgs { first, after, last, before }).await
    }

    /// Organizations, in order of name.
    async fn organizations(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only those that you are a manager of.", default = false)] managed_by_me: bool,
        #[graphql(desc = "So many from the beginning: 20 if neither is said, at most 100.")] first: Option<i32>,
        #[graphql(desc = "Only those after this cursor.")] after: Option<String>,
        #[graphql(desc = "So many from the end.")] last: Option<i32>,
        #[graphql(desc = "Only those before this cursor.")] before: Option<String>,
    ) -> Result<OrganizationConnection> {
        organization_connection(view(ctx), managed_by_me, &PageArgs { first, after, last, before }).await
    }

    /// What a text may be the beginning of, the best first.
    async fn suggest(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The text, as far as it is typed.")] text: String,
        #[graphql(desc = "So many, at most 20.", default = 8)] first: i32,
    ) -> Result<Vec<Suggestion>> {
        let first = usize::try_from(first).map_err(|_| fail(ErrorCode::Invalid, "first can't be negative"))?;
        at_most("suggestions", first, MAX_SUGGESTIONS)?;
        let view = view(ctx);
        let node = |found| match found {
            Suggested::Image(record) => Node::Image(view.image_of(&record)),
            Suggested::Repository(record) => Node::Repository(view.repository_of(&record)),
            Suggested::Organization(record) => Node::Organization(view.organization_of(&record)),
        };
        if !text.trim().is_empty() {
            view.reach_search().await.map_err(|error| refuse(&error))?;
        }
        view.looks_at(|| view.visible().stored(Kind::Repository)).await?;
        let found = view.apart(|| gateway::suggest(view, &text, first))?;
        Ok(found.into_iter().map(|(text, found)| Suggestion { text, node: node(found) }).collect())
    }

    /// The images of these names, one entry a name in the order asked, at most 1000: a pack's content without a pack.
    async fn resolve(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The full names.")] names: Vec<ImageName>,
    ) -> Result<Vec<Entry>> {
        at_most("names", names.len(), RESOLVED_NAMES)?;
        let names: Vec<Arc<str>> = names.into_iter().map(|name| name.0).collect();
        Ok(entries(view(ctx), &names))
    }

    /// The pack of this name.
    async fn data_pack(&self, ctx: &Context<'_>, #[graphql(desc = "The name.")] name: String) -> Option<DataPack> {
        view(ctx).pack(&name)
    }

    /// Two images side by side; null where one of them is not there.
    async fn compare(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The one that it was.")] from: ImageName,
        #[graphql(desc = "The one that it is.")] to: ImageName,
    ) -> Option<Comparison> {
        Some(Comparison { from: view(ctx).image(&from.0)?, to: view(ctx).image(&to.0)? })
    }

    /// The keywords that repositories can be found by.
    async fn keywords(&self) -> Vec<&'static str> {
        SUPPORTED_KEYWORDS.to_vec()
    }
}
