//! What can be followed. A subscription is a watch of the registry: a cursor into the one log of events, without a queue.

#![expect(clippy::unused_async, reason = "the library has resolvers be async, whether they wait or not")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::{Context, Enum, ID, OneofObject, Result, SimpleObject, Subscription};
use futures::stream::{BoxStream, unfold};
use futures::{FutureExt as _, StreamExt as _};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::catalog::{ImageFilter, RepositoryFilter};
use super::error::{fail, refuse};
use super::input::DataPackInput;
use super::node::{DataPack, Entry, Image, Repository};
use super::scalar::{ImageName, Revision};
use super::view::{Nodes as _, View};
use crate::api::{self, FieldSelector, Kind, LabelSelector, Spec};
use crate::auth::Caller;
use crate::error::Error;
use crate::gateway::App;
use crate::gateway::{self, image_passes, repository_passes};
use crate::graph::{Record, Revision as At, Visible};
use crate::model::ErrorCode;
use crate::registry::{EventType, Reader, Registry, Watch, WatchItem, WatchOptions, WatchStart};

/// How long a subscription lasts at most; whoever follows goes on at the last revision.
pub const LONGEST_SUBSCRIPTION: Duration = Duration::from_hours(24);

/// What can be followed.
pub(super) struct SubscriptionRoot;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(super) enum ChangeKind {
    /// It was there at the start, or was made or changed, or came to pass the filter.
    Put,
    /// It is gone, or no longer passes the filter; it may be one that you were never told of.
    Removed,
    /// All up to this revision has been told: what was there at the start, or what has happened since.
    Sync,
}

/// Something happened to a repository.
#[derive(Clone, SimpleObject)]
pub(super) struct RepositoryChange {
    /// What.
    kind: ChangeKind,
    /// The state that has it: go on with since at the last one that you have seen.
    revision: Revision,
    /// The repository's id; null with SYNC.
    id: Option<ID>,
    /// The repository; null with REMOVED and SYNC.
    node: Option<Repository>,
}

/// Something happened to an image.
#[derive(Clone, SimpleObject)]
pub(super) struct ImageChange {
    /// What.
    kind: ChangeKind,
    /// The state that has it: go on with since at the last one that you have seen.
    revision: Revision,
    /// The image's id; null with SYNC.
    id: Option<ID>,
    /// The image; null with REMOVED and SYNC.
    node: Option<Image>,
}

/// The content of a pack, or of a list of names, changed.
#[derive(Clone, SimpleObject)]
pub(super) struct DataPackChange {
    /// The state that has it.
    revision: Revision,
    /// Whether the pack is gone. Then it is the last one.
    expired: bool,
    /// The pack; null where only names are followed, and where it is gone.
    data_pack: Option<DataPack>,
    /// The names whose images are others now, were changed, came or went: all of them at the start.
    changed_names: Vec<ImageName>,
    /// The images of the names that changed.
    entries: Vec<Entry>,
}

/// Which pack to follow.
#[derive(Debug, Clone, OneofObject)]
pub(super) enum DataPackRef {
    /// The one of this name.
    Name(String),
    /// The one that would have this spec. None is made.
    Spec(DataPackInput),
}

enum Told {
    Put(Arc<Record>),
    Removed(String),
    Sync,
}

/// What a watch tells of, as a change.
struct Change {
    view: View,
    at: At,
    told: Told,
}

/// A watch with a filter of its own.
struct Followed<F> {
    watch: Watch,
    caller: Caller,
    keep: F,
    waiting: std::vec::IntoIter<Change>,
    stop: CancellationToken,
    over: bool,
}

async fn follow<F>(
    ctx: &Context<'_>,
    kind: Kind,
    since: Option<Revision>,
    initial: bool,
    keep: F,
) -> Result<BoxStream<'static, Result<Change>>>
where
    F: Fn(&View, &Record) -> bool + Send + 'static,
{
    let view = ctx.data_unchecked::<View>().clone();
    let caller = view.caller().clone();
    let App { registry, stop, .. } = &ctx.data_unchecked::<Arc<Shared>>().app;
    let after = since.map(|since| since.0).or_else(|| (!initial).then(|| view.visible().revision()));
    let start = after.map_or_else(|| WatchStart::Existing(At::default()), WatchStart::After);
    let options = WatchOptions {
        labels: LabelSelector::default(),
        fields: FieldSelector::default(),
        start,
        bookmarks: true,
        initial_end: after.is_none(),
        lasts: LONGEST_SUBSCRIPTION,
    };
    let watch = registry.watch(&caller, kind, options).await.map_err(|error| refuse(&error))?;
    // First, where nothing else comes first: the client knows where it is before anything happens.
    let sync: Vec<Change> = after.map(|at| Change { view, at, told: Told::Sync }).into_iter().collect();
    let followed = Followed { watch, caller, keep, waiting: sync.into_iter(), stop: stop.clone(), over: false };
    Ok(unfold(followed, |mut followed| async move { Some((followed.next().await?, followed)) }).boxed())
}

impl<F: Fn(&View, &Record) -> bool> Followed<F> {
    async fn next(&mut self) -> Option<Result<Change>> {
        loop {
            if let Some(change) = self.waiting.next() {
                return Some(Ok(change));
            }
            if self.over {
                return None;
            }
            let (caller, stop) = (self.caller.clone(), self.stop.clone());
            let items = tokio::select! {
                biased;
                why = caller.ended() => {
                    self.over = true;
                    return Some(Err(fail(ErrorCode::Unauthenticated, why)));
                }
                // What has happened, then how far that is: the client goes on there at the server that comes after.
                () = stop.cancelled() => if let Some(items) = self.watch.next().now_or_never() {
                    items?
                } else {
                    self.over = true;
                    self.watch.end()?
                },
                items = self.watch.next() => items?,
            };
            if let Err(error) = self.take(items) {
                self.over = true;
                return Some(Err(refuse(&error)));
            }
        }
    }

    fn take(&mut self, (reader, items): (Reader, Vec<WatchItem>)) -> Result<(), Error> {
        let view = View::new(reader, self.caller.clone());
        let now = view.visible().revision();
        let mut changes = Vec::with_capacity(items.len());
        let mut failed = None;
        for item in items {
            let (at, told) = match item {
                WatchItem::Existing(record) if (self.keep)(&view, &record) => (now, Told::Put(record)),
                WatchItem::Existing(_) => continue,
                WatchItem::Bookmark(at, _) => (at, Told::Sync),
                WatchItem::Event(kind, event) => {
                    let Some(record) = event.record() else { continue };
                    let keeps = (self.keep)(&view, record);
                    let told = if kind != EventType::Deleted && keeps {
                        Told::Put(Arc::clone(record))
                    } else if kind != EventType::Added && (keeps || kind == EventType::Modified) {
                        Told::Removed(id_of(record))
                    } else {
                        continue;
                    };
                    (event.revision, told)
                }
                WatchItem::Failed(error) => {
                    failed = Some(error);
                    break;
                }
            };
            changes.push(Change { view: view.clone(), at, told });
        }
        match failed {
            // A failure comes alone.
            Some(error) if changes.is_empty() => Err(error),
            _ => {
                self.waiting = changes.into_iter();
                Ok(())
            }
        }
    }
}

fn id_of(record: &Record) -> String {
    match (record.image(), record.repository()) {
        (Some(image), _) => format!("Image:{}", image.name()),
        (_, Some(repository)) => format!("Repository:{}", repository.name()),
        _ => format!("{}:{}", record.kind(), record.name()),
    }
}

/// What can be followed. A stream that can't go on ends with an error that says why: `REVISION_EXPIRED` where it must
/// begin anew (also when what you may see has changed), `UNAUTHENTICATED` where the token is no good any more.
#[Subscription(name = "Subscription")]
impl SubscriptionRoot {
    /// Repositories.
    async fn repositories(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which.")] filter: Option<RepositoryFilter>,
        #[graphql(desc = "What happened after this revision, instead of what is there.")] since: Option<Revision>,
        #[graphql(desc = "Whether it begins with what is there; if not, with a SYNC.", default = true)] initial: bool,
    ) -> Result<BoxStream<'static, Result<RepositoryChange>>> {
        let filter: gateway::RepositoryFilter = filter.unwrap_or_default().into();
        let keep = move |view: &View, record: &Record| repository_passes(view, &filter, record);
        let changes = follow(ctx, Kind::Repository, since, initial, keep).await?;
        let changes = changes.map(|change| {
            let Change { view, at, told } = change?;
            let (kind, id, node) = match told {
                Told::Put(record) => (ChangeKind::Put, Some(id_of(&record)), Some(view.repository_of(&record))),
                Told::Removed(id) => (ChangeKind::Removed, Some(id), None),
                Told::Sync => (ChangeKind::Sync, None, None),
            };
            Ok(RepositoryChange { kind, revision: Revision(at), id: id.map(ID), node })
        });
        Ok(changes.boxed())
    }

    /// Images.
    async fn images(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which.")] filter: Option<ImageFilter>,
        #[graphql(desc = "What happened after this revision, instead of what is there.")] since: Option<Revision>,
        #[graphql(desc = "Whether it begins with what is there; if not, with a SYNC.", default = true)] initial: bool,
    ) -> Result<BoxStream<'static, Result<ImageChange>>> {
        let filter: gateway::ImageFilter = filter.unwrap_or_default().into();
        let keep = move |_: &View, record: &Record| image_passes(&filter, record);
        let changes = follow(ctx, Kind::Image, since, initial, keep).await?;
        let changes = changes.map(|change| {
            let Change { view, at, told } = change?;
            let (kind, id, node) = match told {
                Told::Put(record) => (ChangeKind::Put, Some(id_of(&record)), Some(view.image_of(&record))),
                Told::Removed(id) => (ChangeKind::Removed, Some(id), None),
                Told::Sync => (ChangeKind::Sync, None, None),
            };
            Ok(ImageChange { kind, revision: Revision(at), id: id.map(ID), node })
        });
        Ok(changes.boxed())
    }

    /// The content of a pack, or of names that are in none: each time that it changes, what did.
    async fn data_pack(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which.")] of: DataPackRef,
    ) -> Result<BoxStream<'static, Result<DataPackChange>>> {
        let caller = ctx.data_unchecked::<View>().caller().clone();
        let App { registry, stop, .. } = &ctx.data_unchecked::<Arc<Shared>>().app;
        let (name, names) = match of {
            DataPackRef::Name(name) => (Some(name), Vec::new()),
            DataPackRef::Spec(input) => {
                let mut spec = Spec::DataPack(input.to_spec());
                api::default_spec(&mut spec);
                let fields = api::validate_spec("", &spec);
                if !fields.is_empty() {
                    return Err(refuse(&Error::Invalid { kind: Kind::DataPack, name: String::new(), fields }));
                }
                (None, input.names.into_iter().map(|name| name.0).collect())
            }
        };
        if let Some(name) = &name
            && registry.reader(&caller).visible.get(Kind::DataPack, name).is_none()
        {
            return Err(fail(ErrorCode::NotFound, "there is no such data pack"));
        }
        let changes = registry.graph().all_changes();
        let pack = FollowedPack {
            registry: Arc::clone(registry),
            stop: stop.clone(),
            caller,
            name,
            names,
            changes,
            seen: HashMap::new(),
            begun: false,
            told: false,
            over: false,
        };
        Ok(unfold(pack, |mut pack| async move { Some((pack.next().await?, pack)) }).boxed())
    }
}

/// A pack whose content is followed.
struct FollowedPack {
    registry: Arc<Registry>,
    stop: CancellationToken,
    caller: Caller,
    name: Option<String>,
    names: Vec<Arc<str>>,
    changes: tokio::sync::watch::Receiver<At>,
    /// The version of each name's image, as it was last told.
    seen: HashMap<Arc<str>, Option<At>>,
    begun: bool,
    told: bool,
    over: bool,
}

impl FollowedPack {
    async fn next(&mut self) -> Option<Result<DataPackChange>> {
        loop {
            if self.over {
                return None;
            }
            if std::mem::replace(&mut self.begun, true) {
                let (caller, stop) = (self.caller.clone(), self.stop.clone());
                tokio::select! {
                    biased;
                    why = caller.ended() => {
                        self.over = true;
                        return Some(Err(fail(ErrorCode::Unauthenticated, why)));
                    }
                    () = stop.cancelled() => return None,
                    changed = self.changes.changed() => changed.ok()?,
                }
            } else {
                self.changes.mark_unchanged();
            }
            if let Some(change) = self.look() {
                return Some(Ok(change));
            }
        }
    }

    /// What has changed since it was last looked at.
    fn look(&mut self) -> Option<DataPackChange> {
        let view = View::new(self.registry.reader(&self.caller), self.caller.clone());
        let revision = Revision(view.visible().revision());
        let record = self.name.as_ref().map(|name| view.visible().get(Kind::DataPack, name).cloned());
        if let Some(None) = record {
            self.over = true;
            let (changed_names, entries) = (Vec::new(), Vec::new());
            return Some(DataPackChange { revision, expired: true, data_pack: None, changed_names, entries });
        }
        let record = record.flatten();
        let names: &[Arc<str>] = match &record {
            Some(record) => record.pack().map_or(&[], |pack| &pack.names),
            None => &self.names,
        };
        let first = !std::mem::replace(&mut self.told, true);
        let changed: Vec<Arc<str>> = names
            .iter()
            .filter(|name| {
                let now = version(view.visible(), name);
                self.seen.insert(Arc::clone(name), now) != Some(now)
            })
            .cloned()
            .collect();
        // Names that the pack no longer has.
        let gone: Vec<Arc<str>> = if self.seen.len() > names.len() {
            let gone: Vec<_> = self.seen.keys().filter(|name| !names.contains(name)).cloned().collect();
            self.seen.retain(|name, _| names.contains(name));
            gone
        } else {
            Vec::new()
        };
        if changed.is_empty() && gone.is_empty() && !first {
            return None;
        }
        let entries = changed.iter().map(|name| Entry { name: ImageName(Arc::clone(name)), image: view.image(name) });
        let entries = entries.collect();
        let changed_names = changed.into_iter().chain(gone).map(ImageName).collect();
        let data_pack = record.map(|record| view.pack_of(&record));
        Some(DataPackChange { revision, expired: false, data_pack, changed_names, entries })
    }
}

fn version(visible: &Visible, name: &str) -> Option<At> {
    visible.image(name).map(|record| record.revision)
}
