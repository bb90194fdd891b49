//! What can be written. Everything goes through the registry, as every door's writes do.

use std::collections::HashSet;
use std::sync::Arc;

use async_graphql::{Context, ID, Object, Result};
use futures::StreamExt as _;

use super::Shared;
use super::error::{fail, refuse, user_errors};
use super::input::{DataPackInput, ImageInput};
use super::payload::{
    ApplyImagesPayload, ApplyResult, DataPackPayload, DeletePayload, OrganizationPayload, Outcome, RepositoryPayload,
};
use super::scalar::{ImageName, RepositoryName, Revision};
use super::view::{Nodes as _, View};
use crate::api::{self, Kind, OrganizationSpec, RepositorySpec, Spec};
use crate::error::Error;
use crate::gateway::{Applied, Plan, Tally, Writing, packs_of_image, packs_of_repository};
use crate::graph::Record;
use crate::model::{ErrorCode, Fault, ImageChange, faults, image_changes};
use crate::registry::{DeleteOptions, Written};

/// The most images of one applyImages.
pub const APPLIED_IMAGES: usize = 100;
/// How many of them are written at a time: commits that wait together are made together.
const AT_A_TIME: usize = 16;
/// How often a write without ifVersion is decided anew when others come first.
const ATTEMPTS: usize = 4;
/// The most managers that are added or removed at a time.
pub const CHANGED_MANAGERS: usize = 1000;

/// What can be written.
pub(super) struct MutationRoot;

fn writing<'a>(ctx: &Context<'a>) -> Writing<'a> {
    let app = &ctx.data_unchecked::<Arc<Shared>>().app;
    let caller = ctx.data_unchecked::<View>().caller();
    Writing { registry: &app.registry, authorizer: &app.authorizer, caller }
}

async fn apply(
    write: &Writing<'_>,
    change: &ImageChange,
    if_version: Option<&str>,
    dry_run: bool,
) -> Result<Applied, Error> {
    let expects = |_: &View, there: Option<&Record>| {
        // "0" says that it must not be there.
        let there = there.map_or_else(|| "0".to_owned(), |record| record.revision.to_string());
        if_version.is_none_or(|version| version == there)
    };
    let plan = Plan {
        kind: Kind::Image,
        name: change.name.meta_name(),
        find: &|visible| visible.image(change.name.as_str()).cloned(),
        expects: if if_version.is_some() { Some(&expects) } else { None },
        patch: &|before| change.to_patch(before),
        create: Some(&|| Spec::Image(change.to_spec())),
        dry_run,
    };
    write.put(&plan).await
}

/// Deletes what has `id`; `name` is its metadata.name, or what that would be.
async fn delete(
    write: &Writing<'_>,
    (kind, name): (Kind, &str),
    id: ID,
    if_version: Option<String>,
    dry_run: bool,
    packs: HashSet<Arc<str>>,
) -> Result<DeletePayload> {
    let options = DeleteOptions { resource_version: if_version, dry_run, ..DeleteOptions::default() };
    match write.delete(kind, name, &options).await {
        Ok(_) => Ok(DeletePayload {
            deleted_ids: vec![id],
            affected_data_packs: count(packs.len()),
            user_errors: Vec::new(),
            revision: (!dry_run).then(|| Revision(write.now())),
        }),
        Err(error) => Ok(DeletePayload {
            deleted_ids: Vec::new(),
            affected_data_packs: 0,
            user_errors: user_errors(&error, &[])?,
            revision: None,
        }),
    }
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// What can be written. Who may is told before what is there.
#[Object(name = "Mutation")]
impl MutationRoot {
    /// Makes or changes images, each by itself; at most 100. Costs 10 in complexity for each.
    async fn apply_images(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The images.")] images: Vec<ImageInput>,
        #[graphql(desc = "Whether only to tell what would become of it.", default = false)] dry_run: bool,
    ) -> Result<ApplyImagesPayload> {
        if images.len() > APPLIED_IMAGES {
            let message =
                format!("{} images are given; {APPLIED_IMAGES} is the most at a time (limit: images)", images.len());
            return Err(fail(ErrorCode::LimitExceeded, message));
        }
        let write = writing(ctx);
        let mut named = HashSet::new();
        let again: Vec<bool> = images.iter().map(|image| !named.insert(Arc::clone(&image.name.0))).collect();
        let one = |(image, again): (&ImageInput, bool)| {
            let (write, image) = (&write, image.clone());
            async move {
                if again {
                    return Err(vec![Fault::new(ErrorCode::Invalid, "this image is given twice").at(["name"])]);
                }
                let change = image.change().map_err(|fault| vec![fault])?;
                let applied = Box::pin(apply(write, &change, image.if_version.as_deref(), dry_run)).await;
                applied.map_err(|error| {
                    if let Error::Internal(cause) = &error {
                        tracing::error!(%cause, "an image can't be applied");
                    }
                    faults(&error)
                })
            }
        };
        let work: Vec<_> = images.iter().zip(again).map(one).collect();
        let done: Vec<_> = futures::stream::iter(work).buffered(AT_A_TIME).collect().await;

        let view = write.view();
        let mut tally = Tally::default();
        let mut results = Vec::with_capacity(images.len());
        for (i, (input, done)) in images.iter().zip(done).enumerate() {
            let name = input.name.clone();
            results.push(match done {
                Ok(applied) => {
                    let outcome = tally.add(view.visible(), &input.name.0, &applied, dry_run).into();
                    let changes = image_changes(applied.before.as_deref(), Some(&applied.after));
                    ApplyResult {
                        name,
                        outcome,
                        image: Some(view.image_of(&applied.after)),
                        current: None,
                        changes: changes.into_iter().map(Into::into).collect(),
                        user_errors: Vec::new(),
                    }
                }
                Err(faults) => {
                    let prefixed = |mut fault: Fault| {
                        drop(fault.path.splice(0..0, ["images".to_owned(), i.to_string()]));
                        fault.into()
                    };
                    let current = view.image(&input.name.0);
                    let user_errors = faults.into_iter().map(prefixed).collect();
                    ApplyResult {
                        name,
                        outcome: Outcome::Refused,
                        image: None,
                        current,
                        changes: Vec::new(),
                        user_errors,
                    }
                }
            });
        }
        Ok(ApplyImagesPayload {
            results,
            affected_data_packs: count(tally.packs()),
            revision: tally.revision(&write).map(Revision),
        })
    }

    /// Deletes an image.
    async fn delete_image(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The full name, org/repo:tag.")] name: ImageName,
        #[graphql(desc = "The version that it must be at.")] if_version: Option<String>,
        #[graphql(desc = "Whether only to tell what would become of it.", default = false)] dry_run: bool,
    ) -> Result<DeletePayload> {
        let write = writing(ctx);
        let view = write.view();
        let there = view.visible().image(&name.0).map(|record| record.name().to_owned());
        let meta = there.or_else(|| api::ImageName::parse(&name.0).ok().map(|name| name.meta_name()));
        let packs = packs_of_image(view.visible(), &name.0).collect();
        let id = ID(format!("Image:{}", name.0));
        let meta = meta.unwrap_or_else(|| name.0.to_string());
        delete(&write, (Kind::Image, &meta), id, if_version, dry_run, packs).await
    }

    /// Makes a repository, and its organization where that is absent.
    async fn create_repository(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The full name, org/repo.")] name: RepositoryName,
        #[graphql(desc = "Whether only the organization's managers and administrators see it.")] is_private: bool,
    ) -> Result<RepositoryPayload> {
        let write = writing(ctx);
        let done = match api::RepositoryName::parse(&name.0) {
            Ok(parsed) => {
                let spec = RepositorySpec { name: name.0.to_string(), is_private: Some(is_private) };
                write.create(parsed.meta_name(), Spec::Repository(spec), false).await
            }
            Err(error) => Err(Error::BadRequest(error.to_string())),
        };
        repository_payload(&write, &name, done)
    }

    /// Makes a repository private, or public.
    async fn update_repository(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The full name, org/repo.")] name: RepositoryName,
        #[graphql(desc = "Whether only the organization's managers and administrators see it.")] is_private: bool,
        #[graphql(desc = "The version that it must be at.")] if_version: Option<String>,
    ) -> Result<RepositoryPayload> {
        let write = writing(ctx);
        let meta = repository_meta_name(&write.view(), &name);
        let mut patch = serde_json::json!({ "spec": { "isPrivate": is_private } });
        if let Some(asked) = if_version {
            // Kube takes an empty one and 0 for none; nothing is at these, nor at what is no version.
            let version = asked.parse::<u64>().ok().filter(|version| *version > 0 && version.to_string() == asked);
            let version = version.unwrap_or(u64::MAX).to_string();
            patch["metadata"] = serde_json::json!({ "resourceVersion": version });
        }
        let done = write.patch(Kind::Repository, &meta, patch, false).await;
        repository_payload(&write, &name, done)
    }

    /// Deletes a repository, and after it its images.
    async fn delete_repository(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The full name, org/repo.")] name: RepositoryName,
        #[graphql(desc = "The version that it must be at.")] if_version: Option<String>,
        #[graphql(desc = "Whether only to tell what would become of it.", default = false)] dry_run: bool,
    ) -> Result<DeletePayload> {
        let write = writing(ctx);
        let view = write.view();
        let meta = repository_meta_name(&view, &name);
        let packs = packs_of_repository(view.visible(), &name.0).collect();
        let id = ID(format!("Repository:{}", name.0));
        delete(&write, (Kind::Repository, &meta), id, if_version, dry_run, packs).await
    }

    /// Makes an organization, whose manager you become.
    async fn create_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The name.")] name: String,
    ) -> Result<OrganizationPayload> {
        let write = writing(ctx);
        let spec = OrganizationSpec { name: name.clone(), creator: None, manager: None };
        let done = write.create(name.clone(), Spec::Organization(spec), false).await;
        organization_payload(&write, &name, done.map(|written| written.record))
    }

    /// Adds and removes managers of an organization. Its creator always is one.
    async fn update_managers(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The organization's name.")] organization: String,
        #[graphql(desc = "Those who become managers.")] add: Option<Vec<String>>,
        #[graphql(desc = "Those who are no longer to be.")] remove: Option<Vec<String>>,
    ) -> Result<OrganizationPayload> {
        let (add, remove) = (add.unwrap_or_default(), remove.unwrap_or_default());
        if add.len().max(remove.len()) > CHANGED_MANAGERS {
            let message =
                format!("{CHANGED_MANAGERS} managers are the most that are changed at a time (limit: managers)");
            return Err(fail(ErrorCode::LimitExceeded, message));
        }
        let write = writing(ctx);
        let mut done = Err(Error::internal("nothing was tried"));
        for _ in 0..ATTEMPTS {
            done = match write.view().visible().organization(&organization) {
                Some(record) => {
                    let before = record.organization().map(|of| of.managers.to_vec()).unwrap_or_default();
                    let mut managers: Vec<String> = before.iter().map(ToString::to_string).collect();
                    managers.retain(|manager| !remove.contains(manager));
                    let new: Vec<_> = add.iter().filter(|manager| !managers.contains(manager)).cloned().collect();
                    managers.extend(new);
                    let patch = serde_json::json!({
                        "metadata": { "resourceVersion": record.revision.to_string() },
                        "spec": { "manager": managers },
                    });
                    write.patch(Kind::Organization, record.name(), patch, false).await
                }
                None => write.patch(Kind::Organization, &organization, serde_json::json!({}), false).await,
            };
            if !matches!(done, Err(Error::Conflict { .. })) {
                break;
            }
        }
        organization_payload(&write, &organization, done.map(|written| written.record))
    }

    /// Deletes an organization, and after it its repositories and their images.
    async fn delete_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The name.")] name: String,
        #[graphql(desc = "The version that it must be at.")] if_version: Option<String>,
        #[graphql(desc = "Whether only to tell what would become of it.", default = false)] dry_run: bool,
    ) -> Result<DeletePayload> {
        let write = writing(ctx);
        let view = write.view();
        let repositories: Vec<_> = view.visible().repositories(&name).cloned().collect();
        let packs = repositories.iter().flat_map(|name| packs_of_repository(view.visible(), name)).collect();
        let id = ID(format!("Organization:{name}"));
        delete(&write, (Kind::Organization, &name), id, if_version, dry_run, packs).await
    }

    /// Keeps a list of names as a pack, for kube clients to share. The same list is the same pack. To read the images
    /// here, use resolve.
    async fn create_data_pack(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What it is to have.")] spec: DataPackInput,
    ) -> Result<DataPackPayload> {
        let write = writing(ctx);
        let quota = &ctx.data_unchecked::<Arc<Shared>>().app.quota;
        let done = write.create_pack(spec.to_spec(), quota).await;
        let refused = |user_errors| DataPackPayload { data_pack: None, existed: false, user_errors, revision: None };
        match done {
            Ok(written) => Ok(DataPackPayload {
                existed: !written.created,
                data_pack: Some(write.view().pack_of(&written.record)),
                user_errors: Vec::new(),
                revision: Some(Revision(write.with(&written.record))),
            }),
            Err(error @ Error::TooManyRequests(_)) => {
                ctx.data_unchecked::<super::Answered>().limited();
                Err(refuse(&error))
            }
            Err(error) => Ok(refused(user_errors(&error, &["spec"])?)),
        }
    }
}

fn repository_meta_name(view: &View, name: &RepositoryName) -> String {
    let there = view.visible().repository(&name.0).map(|record| record.name().to_owned());
    let derived = || api::RepositoryName::parse(&name.0).map_or_else(|_| name.0.to_string(), |name| name.meta_name());
    there.unwrap_or_else(derived)
}

fn repository_payload(
    write: &Writing<'_>,
    name: &RepositoryName,
    done: Result<Written, Error>,
) -> Result<RepositoryPayload> {
    let view = write.view();
    Ok(match done {
        Ok(written) => RepositoryPayload {
            repository: Some(view.repository_of(&written.record)),
            current: None,
            user_errors: Vec::new(),
            revision: Some(Revision(write.with(&written.record))),
        },
        Err(error) => RepositoryPayload {
            repository: None,
            current: view.repository(&name.0),
            user_errors: user_errors(&error, &[])?,
            revision: None,
        },
    })
}

fn organization_payload(
    write: &Writing<'_>,
    name: &str,
    done: Result<Arc<Record>, Error>,
) -> Result<OrganizationPayload> {
    let view = write.view();
    Ok(match done {
        Ok(record) => OrganizationPayload {
            organization: Some(view.organization_of(&record)),
            current: None,
            user_errors: Vec::new(),
            revision: Some(Revision(write.with(&record))),
        },
        Err(error) => OrganizationPayload {
            organization: None,
            current: view.organization(name),
            user_errors: user_errors(&error, &[])?,
            revision: None,
        },
    })
}
