//! Random histories of what is private and who manages what, watched by informers of different callers: none
//! is ever shown what it may not see, none misses what it may, and all come to what a list shows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::FutureExt as _;
use imagehub::api::{FieldSelector, ImageSpec, Kind, LabelSelector, Object, OrganizationSpec, RepositorySpec, Spec};
use imagehub::auth::Caller;
use imagehub::clock::{ManualClock, SharedClock};
use imagehub::controller;
use imagehub::datapack::Packs;
use imagehub::error::Error;
use imagehub::graph::{Graph, Revision, Window};
use imagehub::registry::{
    DeleteOptions, EventType, ListOptions, Registry, Watch, WatchItem, WatchOptions, WatchStart, WriteOptions,
};
use imagehub::storage::embedded::{Embedded, Options};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

const ORGANIZATIONS: [&str; 2] = ["acme", "umbrella"];
const REPOSITORIES: [&str; 2] = ["one", "two"];
const TAGS: [&str; 3] = ["v1", "v2", "v3"];
const USERS: [&str; 3] = ["alice", "bob", "carol"];
const STEPS: usize = 150;
const HISTORIES: u64 = 12;

/// What there is, by the test's own account.
#[derive(Default, Clone)]
struct Model {
    managers: BTreeMap<&'static str, BTreeSet<&'static str>>,
    /// Repositories by full name, and whether they are private.
    repositories: BTreeMap<String, bool>,
    images: BTreeSet<String>,
}

impl Model {
    fn visible(&self, user: Option<&str>, kind: Kind) -> BTreeSet<String> {
        let manages = |name: &str| {
            let organization = name.split('/').next().unwrap();
            user.is_some_and(|user| {
                user == "admin" || self.managers.get(organization).is_some_and(|m| m.contains(user))
            })
        };
        let meta = |name: &String| name.replace(['/', ':'], ".");
        if kind == Kind::Repository {
            let seen = self.repositories.iter().filter(|(name, private)| !**private || manages(name));
            return seen.map(|(name, _)| meta(name)).collect();
        }
        let seen = self.images.iter().filter(|name| {
            let repository = name.split(':').next().unwrap();
            // Of a repository that is gone nobody else knows whether it was private.
            manages(name) || self.repositories.get(repository) == Some(&false)
        });
        seen.map(meta).collect()
    }
}

/// What client-go's informers do: list, watch from the list's version, list again after a 410.
struct Informer {
    user: Option<&'static str>,
    caller: Caller,
    kind: Kind,
    known: BTreeSet<String>,
    watch: Option<Watch>,
}

impl Informer {
    fn new(user: Option<&'static str>, kind: Kind) -> Self {
        let caller = match user {
            None => Caller::anonymous(),
            Some("admin") => Caller::system(),
            Some(name) => Caller::authenticated(name, []),
        };
        Self { user, caller, kind, known: BTreeSet::new(), watch: None }
    }

    /// `past` has what there was after each step, with the revision that was reached then.
    async fn catch_up(&mut self, registry: &Registry, past: &[(Revision, Model)]) {
        let seen = past.last().unwrap().1.visible(self.user, self.kind);
        // What the caller might see before or after the step that made the event.
        let might_see = |name: &String, at: Revision| {
            let step = past.partition_point(|(reached, _)| *reached < at);
            past[step.saturating_sub(1)..].iter().take(2).any(|(_, m)| m.visible(self.user, self.kind).contains(name))
        };
        loop {
            if self.watch.is_none() {
                let list = registry.list(&self.caller, self.kind, &ListOptions::default()).await.unwrap();
                self.known = list.items.iter().map(|record| record.name().to_owned()).collect();
                let options = WatchOptions {
                    labels: LabelSelector::default(),
                    fields: FieldSelector::default(),
                    start: WatchStart::After(list.revision),
                    bookmarks: false,
                    initial_end: false,
                    lasts: std::time::Duration::from_hours(1),
                };
                match registry.watch(&self.caller, self.kind, options).await {
                    Ok(watch) => self.watch = Some(watch),
                    // A change of sight came in between.
                    Err(Error::Expired { .. }) => continue,
                    Err(error) => panic!("{error}"),
                }
            }
            let Some((_, items)) = self.watch.as_mut().and_then(|watch| watch.next().now_or_never()).flatten() else {
                break;
            };
            for item in items {
                match item {
                    WatchItem::Event(change, event) => {
                        let name = event.key.name.to_string();
                        if change == EventType::Deleted {
                            assert!(self.known.remove(&name), "{:?} is told that {name} is gone: unknown", self.user);
                        } else {
                            assert!(might_see(&name, event.revision), "{:?} is shown {name}", self.user);
                            let new = self.known.insert(name.clone());
                            assert_eq!(new, change == EventType::Added, "{:?}: {name} {change:?}", self.user);
                        }
                    }
                    WatchItem::Failed(Error::Expired { .. }) => self.watch = None,
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(self.known, seen, "{:?} of {:?}", self.kind, self.user);
    }
}

fn object(name: &str, spec: Spec) -> Object {
    let name = name.replace(['/', ':'], ".");
    Object { metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() }, spec }
}

/// One step, of the administrator's.
async fn step(registry: &Registry, model: &mut Model, rng: &mut StdRng) {
    let admin = Caller::system();
    let organization = ORGANIZATIONS[rng.random_range(0..ORGANIZATIONS.len())];
    let repository = format!("{organization}/{}", REPOSITORIES[rng.random_range(0..REPOSITORIES.len())]);
    let image = format!("{repository}:{}", TAGS[rng.random_range(0..TAGS.len())]);
    let meta = |name: &str| name.replace(['/', ':'], ".");
    match rng.random_range(0..10) {
        0 | 1 => {
            let chosen: BTreeSet<_> = USERS.into_iter().filter(|_| rng.random_bool(0.4)).collect();
            let managers = chosen.iter().map(|user| (*user).to_owned()).chain(["admin".to_owned()]).collect();
            let spec = OrganizationSpec { name: organization.to_owned(), creator: None, manager: Some(managers) };
            put(registry, &object(organization, Spec::Organization(spec))).await;
            model.managers.insert(organization, chosen);
        }
        2..=4 => {
            let private = rng.random_bool(0.5);
            let spec = RepositorySpec { name: repository.clone(), is_private: Some(private) };
            put(registry, &object(&repository, Spec::Repository(spec))).await;
            model.repositories.insert(repository, private);
        }
        5..=7 => {
            let spec = ImageSpec { name: image.clone(), image_type: None, detail: None };
            put(registry, &object(&image, Spec::Image(spec))).await;
            model.repositories.entry(repository).or_insert(false);
            model.images.insert(image);
        }
        8 => {
            let options = DeleteOptions::default();
            if registry.delete(&admin, Kind::Image, &meta(&image), &options).await.is_ok() {
                model.images.remove(&image);
            }
        }
        _ => {
            // With its images: without the controllers the orphans would stay, so take them first.
            for tag in TAGS {
                let image = format!("{repository}:{tag}");
                if registry.delete(&admin, Kind::Image, &meta(&image), &DeleteOptions::default()).await.is_ok() {
                    model.images.remove(&image);
                }
            }
            if registry.delete(&admin, Kind::Repository, &meta(&repository), &DeleteOptions::default()).await.is_ok() {
                model.repositories.remove(&repository);
            }
        }
    }
}

async fn put(registry: &Registry, object: &Object) {
    let (admin, kind, name) = (Caller::system(), object.spec.kind(), object.metadata.name.as_deref().unwrap());
    loop {
        let done = match registry.get(&admin, kind, name, None).await {
            Ok((_, record)) => {
                let mut object = object.clone();
                object.metadata.resource_version = Some(record.revision.to_string());
                registry.update(&admin, kind, name, &object, WriteOptions::default()).await
            }
            Err(_) => registry.create(&admin, object.clone(), WriteOptions::default()).await,
        };
        match done {
            Ok(_) => return,
            // The controllers announced something in between.
            Err(Error::Conflict { .. } | Error::AlreadyExists { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn no_informer_is_shown_what_it_may_not_see_and_all_converge() {
    for seed in 0..HISTORIES {
        let mut rng = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let clock: SharedClock = ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap());
        let storage = Embedded::open(dir.path(), Options::default(), clock.clone()).unwrap();
        let (graph, writer) = Graph::open(storage.clone(), Window::default()).await.unwrap();
        let packs = Arc::new(Packs::default());
        let registry = Arc::new(Registry::new(storage.clone(), graph, packs, clock));
        let writer = tokio::spawn(writer.run());
        let controllers = tokio::spawn(controller::run(Arc::clone(&registry)));
        let mut model = Model::default();
        let mut informers: Vec<Informer> = [None, Some("alice"), Some("bob"), Some("admin")]
            .into_iter()
            .flat_map(|user| [Kind::Image, Kind::Repository].map(|kind| Informer::new(user, kind)))
            .collect();
        let mut past = vec![(registry.graph().revision(), model.clone())];
        for _ in 0..STEPS {
            step(&registry, &mut model, &mut rng).await;
            past.push((registry.graph().revision(), model.clone()));
            for informer in &mut informers {
                // Some lag behind, and see several steps at once.
                if rng.random_bool(0.6) {
                    informer.catch_up(&registry, &past).await;
                }
            }
        }
        for informer in &mut informers {
            informer.catch_up(&registry, &past).await;
        }
        controllers.abort();
        writer.abort();
        storage.close();
    }
}
