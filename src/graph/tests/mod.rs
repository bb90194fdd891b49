//! Snapshots, fed commits by hand.

mod model;

use std::collections::BTreeSet;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::*;
use crate::api::{FieldSelector, LabelSelector, Object, Spec};
use crate::storage::{CommitError, Identity, State, Write};
use futures::future::BoxFuture;

/// A storage that has one state, and is asked for nothing else.
struct Still(State);

impl Storage for Still {
    fn commit(&self, _: Write) -> BoxFuture<'_, Result<Commit, CommitError>> {
        unreachable!("the graph writes nothing")
    }

    fn get(&self, _: Key) -> BoxFuture<'_, Result<Option<Commit>, ReadError>> {
        unreachable!("the graph reads states")
    }

    fn current(&self) -> BoxFuture<'_, Result<Revision, ReadError>> {
        Box::pin(async { Ok(self.0.revision) })
    }

    fn state(&self) -> BoxFuture<'_, Result<State, ReadError>> {
        Box::pin(async { Ok(self.0.clone()) })
    }

    fn watch(&self, _: Revision) -> BoxStream<'static, Result<Vec<Commit>, ReadError>> {
        futures::stream::pending().boxed()
    }

    fn identity(&self) -> Identity {
        unreachable!("the graph doesn't ask whose it is")
    }

    fn stopped(&self) -> BoxFuture<'static, String> {
        Box::pin(std::future::pending())
    }
}

/// A graph to which a test commits, and the revisions that it gives out.
struct Feed {
    graph: Arc<Graph>,
    writer: Writer,
    sender: futures::channel::mpsc::UnboundedSender<Result<Vec<Commit>, ReadError>>,
    revision: u64,
    at_ms: i64,
}

impl Feed {
    fn new(window: Window) -> Self {
        let graph = Arc::new(Graph {
            current: ArcSwap::default(),
            published: watch::Sender::new(Revision(0)),
            changed: std::array::from_fn(|_| watch::Sender::new(Revision(0))),
            named: Default::default(),
            sight: watch::Sender::new(Revision(0)),
        });
        let (sender, receiver) = futures::channel::mpsc::unbounded();
        let storage = Arc::new(Still(State { revision: Revision(0), commits: Vec::new() }));
        let writer = Writer { graph: Arc::clone(&graph), window, storage, commits: receiver.boxed(), decoders: None };
        Self { graph, writer, sender, revision: 0, at_ms: 0 }
    }

    /// One whose window holds what the test commits.
    fn wide() -> Self {
        Self::new(Window { age: Duration::from_hours(1), bytes: usize::MAX })
    }

    /// What a process that starts now has: the newest versions, filled in at once.
    fn filled(&self, window: Window) -> Self {
        let all = self.see(Sight::Everything);
        let again = |record: &Arc<Record>| {
            let stored = encode(&record.envelope(), &record.object());
            Arc::new(Record::decode(record.key.clone(), record.revision, &stored).unwrap())
        };
        let records = Kind::ALL.iter().flat_map(|kind| all.newest(*kind)).map(again).collect();
        let snapshot = Snapshot::fill(Revision(self.revision), self.at_ms, records);
        let filled = Self { revision: self.revision, at_ms: self.at_ms, ..Self::new(window) };
        filled.graph.current.store(Arc::new(snapshot));
        filled
    }

    fn commit(&mut self, key: Key, value: Option<bytes::Bytes>) -> Revision {
        self.revision += 1;
        self.at_ms += 1000;
        let commit = Commit { revision: Revision(self.revision), at_ms: self.at_ms, key, value };
        self.sender.unbounded_send(Ok(vec![commit])).unwrap();
        futures::executor::block_on(self.writer.step()).unwrap();
        Revision(self.revision)
    }

    fn put(&mut self, kind: Kind, metadata: Value, spec: Value) -> Revision {
        let (key, bytes) = stored(kind, metadata, spec);
        self.commit(key, Some(bytes))
    }

    fn delete(&mut self, kind: Kind, name: &str) -> Revision {
        self.commit(Key::new(kind, name), None)
    }

    fn see(&self, sight: Sight) -> Visible {
        self.graph.visible(sight)
    }
}

pub(super) fn stored(kind: Kind, metadata: Value, spec: Value) -> (Key, bytes::Bytes) {
    let spec = Spec::from_value(kind, spec).unwrap();
    let object = Object { metadata: serde_json::from_value(metadata).unwrap(), spec };
    let key = Key::new(kind, object.metadata.name.clone().unwrap());
    (key, encode(&Envelope::default(), &object))
}

fn metadata(name: &str, uid: &str) -> Value {
    json!({ "name": name, "uid": uid, "creationTimestamp": "2024-01-01T00:00:00Z" })
}

fn image(feed: &mut Feed, name: &str, full: &str) -> Revision {
    feed.put(Kind::Image, metadata(name, name), json!({ "name": full }))
}

fn repository(feed: &mut Feed, name: &str, full: &str, private: bool) -> Revision {
    feed.put(Kind::Repository, metadata(name, name), json!({ "name": full, "isPrivate": private }))
}

fn names(visible: &Visible, kind: Kind, at: Revision) -> Vec<String> {
    let (labels, fields) = (LabelSelector::default(), FieldSelector::default());
    let query = Query { kind, after: None, at, labels: &labels, fields: &fields };
    visible.list(query).map(|r| r.name().to_owned()).collect()
}

#[test]
fn a_list_at_a_revision_of_the_window_is_what_was_there_then() {
    let mut feed = Feed::wide();
    let one = image(&mut feed, "a", "o/r:1");
    let two = image(&mut feed, "b", "o/r:2");
    let three = feed.delete(Kind::Image, "a");
    let all = feed.see(Sight::Everything);
    assert_eq!(names(&all, Kind::Image, one), ["a"]);
    assert_eq!(names(&all, Kind::Image, two), ["a", "b"]);
    assert_eq!(names(&all, Kind::Image, three), ["b"]);
}

#[test]
fn the_window_forgets_by_age_and_by_bytes_and_says_so() {
    let windows = [
        Window { age: Duration::from_secs(2), bytes: usize::MAX },
        Window { age: Duration::from_hours(1), bytes: 2000 },
    ];
    for window in windows {
        let mut feed = Feed::new(window);
        for i in 0..20 {
            image(&mut feed, "a", "o/r:1");
            image(&mut feed, &format!("b{i}"), &format!("o/s:{i}"));
            feed.delete(Kind::Image, &format!("b{i}"));
        }
        let all = feed.see(Sight::Everything);
        assert!(all.floor() > Revision(50), "{window:?}");
        assert!(all.window_size().0 < 8, "{window:?}");
        assert!(all.events(Kind::Image, Revision(1), 10).is_none());
        assert_eq!(names(&all, Kind::Image, all.floor()).first().map(String::as_str), Some("a"));
    }
}

#[test]
fn a_quiet_kinds_watcher_has_missed_nothing_however_far_the_window_has_moved() {
    let mut feed = Feed::new(Window { age: Duration::from_secs(2), bytes: usize::MAX });
    let pack = |feed: &mut Feed| feed.put(Kind::DataPack, metadata("p", "p"), json!({ "names": [] }));
    let seen = pack(&mut feed);
    for _ in 0..20 {
        image(&mut feed, "a", "o/r:1");
    }
    assert!(feed.see(Sight::Everything).floor() > seen);
    let (events, reached) = feed.see(Sight::Everything).events(Kind::DataPack, seen, 10).unwrap();
    assert_eq!((events.len(), reached), (0, Revision(feed.revision)));
    let next = pack(&mut feed);
    let (events, _) = feed.see(Sight::Everything).events(Kind::DataPack, seen, 10).unwrap();
    assert_eq!(events.iter().map(|e| e.revision).collect::<Vec<_>>(), [next]);
    pack(&mut feed);
    for _ in 0..20 {
        image(&mut feed, "a", "o/r:1");
    }
    assert!(feed.see(Sight::Everything).events(Kind::DataPack, seen, 10).is_none(), "it has missed two");
}

#[test]
fn those_who_wait_for_one_object_are_woken_by_its_changes_and_those_of_sight_and_leave_nothing_behind() {
    let mut feed = Feed::wide();
    let named = |feed: &Feed| feed.graph.named.iter().map(changes::Named::len).sum::<usize>();
    let told = |changes: &mut Changes| futures::FutureExt::now_or_never(changes.changed()).is_some();
    let of = |feed: &Feed, kind, name: &str| feed.graph.changes_of(Key::new(kind, name));
    let (mut a, mut again, mut b) =
        (of(&feed, Kind::Image, "a"), of(&feed, Kind::Image, "a"), of(&feed, Kind::Image, "b"));
    assert_eq!(named(&feed), 2);
    assert_eq!(a.quiet_until(&feed.graph), Some(Revision(0)));
    let at = image(&mut feed, "a", "o/r:1");
    assert_eq!((a.quiet_until(&feed.graph), b.quiet_until(&feed.graph)), (None, Some(at)));
    assert!(a.has_changed() && told(&mut a) && !told(&mut a) && told(&mut again) && !told(&mut b));
    let at = repository(&mut feed, "o.r", "o/r", true);
    assert!(!told(&mut a), "hidden without a repository, and hidden still");
    assert_eq!(a.quiet_until(&feed.graph), Some(at));
    repository(&mut feed, "o.r", "o/r", false);
    assert!(told(&mut a) && told(&mut again) && told(&mut b), "what is seen has changed");
    feed.delete(Kind::Image, "a");
    assert!(told(&mut a) && !told(&mut b));
    drop(a);
    assert_eq!(named(&feed), 2);
    assert!(told(&mut again));
    drop((again, b));
    assert_eq!(named(&feed), 0);
}

#[test]
fn what_a_reader_lists_while_the_window_moves_is_there_until_the_new_floor_is_published() {
    let mut feed = Feed::new(Window { age: Duration::from_secs(2), bytes: usize::MAX });
    let one = image(&mut feed, "a", "o/r:1");
    image(&mut feed, "a", "o/r:1");
    let reader = feed.see(Sight::Everything);
    assert_eq!(reader.get(Kind::Image, "a").unwrap().revision, Revision(2));
    // Trimmed, but not yet published.
    let mut next = Snapshot::clone(&feed.graph.current.load());
    let trimmed = next.trim(0, 0);
    assert_eq!(names(&reader, Kind::Image, one), ["a"]);
    for version in trimmed {
        version.older.cut();
    }
    assert_eq!(names(&reader, Kind::Image, one), [""; 0]);
}

#[test]
fn tags_are_newest_first() {
    let mut feed = Feed::wide();
    let built = |tag: &str, at: Option<&str>| {
        let detail = at.map_or(json!({}), |at| json!({ "creatTime": at }));
        json!({ "name": format!("o/r:{tag}"), "detail": detail })
    };
    for (tag, at) in [
        ("1.9", None),
        ("1.10", None),
        ("old", Some("2020-01-01T00:00:00Z")),
        ("unknown", Some("1970-01-01T00:00:00Z")),
        ("new", Some("2024-01-01T00:00:00+08:00")),
    ] {
        feed.put(Kind::Image, metadata(tag, tag), built(tag, at));
    }
    let tags = |feed: &Feed| {
        let all = feed.see(Sight::Everything);
        all.tags("o/r").iter().map(|r| r.image().unwrap().tag().to_owned()).collect::<Vec<_>>()
    };
    let found = tags(&feed);
    assert_eq!(found[..2], ["new", "old"]);
    let place = |tag| found.iter().position(|t| t == tag).unwrap();
    assert!(place("1.10") < place("1.9"));
    feed.put(Kind::Image, metadata("1.9", "1.9"), built("1.9", Some("2025-01-01T00:00:00Z")));
    assert_eq!(tags(&feed)[0], "1.9");
    feed.delete(Kind::Image, "1.9");
    assert_eq!(tags(&feed)[0], "new");
}

#[test]
fn of_two_that_claim_one_name_the_older_is_served_and_the_other_when_it_goes() {
    let mut feed = Feed::wide();
    repository(&mut feed, "o.r", "o/r", false);
    let claim = |name: &str, second: u8| json!({ "name": name, "uid": name, "creationTimestamp": format!("2024-01-01T00:00:0{second}Z") });
    let spec = || json!({ "name": "o/r:1" });
    feed.put(Kind::DataPack, metadata("p", "p"), json!({ "type": "detail", "names": ["o/r:1"] }));
    let content = |feed: &Feed| {
        let public = feed.see(Sight::Public);
        let pack = public.get(Kind::DataPack, "p").unwrap();
        let content = crate::datapack::resolve(&public, pack.pack().unwrap());
        (String::from_utf8(content.members.to_vec()).unwrap(), public.pack_changed("p"))
    };
    let young = feed.put(Kind::Image, claim("young", 2), spec());
    assert_eq!(content(&feed).1, young);
    let old = feed.put(Kind::Image, claim("old", 1), spec());
    let (text, changed) = content(&feed);
    assert!(text.contains(r#""metaName":"old""#) && !text.contains("young"), "{text}");
    assert_eq!(changed, old, "another one is served");
    feed.put(Kind::Image, claim("young", 2), json!({ "name": "o/r:1", "detail": { "size": 5 } }));
    assert_eq!(content(&feed).1, old, "that one is not served");
    let gone = feed.delete(Kind::Image, "old");
    let (text, changed) = content(&feed);
    assert!(text.contains(r#""metaName":"young""#), "{text}");
    assert_eq!(changed, gone);
}

#[test]
fn names_of_no_legal_form_are_kept_and_belong_together() {
    let mut feed = Feed::wide();
    for (i, name) in ["a:b/c", "a/b", "a", ":", "a/b:c:d", ""].into_iter().enumerate() {
        image(&mut feed, &format!("i{i}"), name);
        let names = json!({ "type": "detail", "names": [name] });
        let pack = format!("p{i}");
        feed.put(Kind::DataPack, metadata(&pack, &pack), names);
        let of = feed.see(Sight::Everything).image(name).unwrap().image().unwrap().repository().to_owned();
        let packs: Vec<_> = feed.see(Sight::Everything).packs_of_repository(&of).map(ToString::to_string).collect();
        assert!(packs.contains(&pack), "{name:?} {packs:?}");
    }
}

#[test]
fn a_damaged_commit_ends_the_writer_with_the_name_of_the_record() {
    let mut feed = Feed::wide();
    let key = Key::new(Kind::Image, "a");
    let commit = Commit { revision: Revision(1), at_ms: 0, key, value: Some(bytes::Bytes::from_static(b"{}")) };
    feed.sender.unbounded_send(Ok(vec![commit])).unwrap();
    let error = futures::executor::block_on(feed.writer.step()).unwrap_err().to_string();
    assert!(error.contains("\"a\""), "{error}");
    assert_eq!(feed.graph.revision(), Revision(0));
}

#[test]
fn encodings_of_events_are_made_once_and_stay_within_their_budget() {
    let mut feed = Feed::wide();
    feed.put(Kind::DataPack, metadata("p", "p"), json!({ "names": [] }));
    feed.put(Kind::DataPack, metadata("q", "q"), json!({ "names": [] }));
    let visible = feed.see(Sight::Public);
    let events = visible.events(Kind::DataPack, Revision(0), 10).unwrap().0;
    let mut made = 0;
    for _ in 0..2 {
        events[0].encoded(0, visible.revision(), || {
            made += 1;
            vec![0; event::ENCODED_BYTES].into()
        });
    }
    assert_eq!(made, 1);
    for _ in 0..2 {
        events[1].encoded(0, visible.revision(), || {
            made += 1;
            vec![0; 10].into()
        });
    }
    assert_eq!(made, 3, "there is no room to keep it");
}

#[test]
fn what_is_hidden_is_counted_without_being_looked_at() {
    let mut feed = Feed::wide();
    let (labels, fields) = (LabelSelector::default(), FieldSelector::default());
    let spec = json!({ "name": "acme", "manager": ["alice"] });
    feed.put(Kind::Organization, metadata("acme", "o"), spec);
    repository(&mut feed, "acme.secret", "acme/secret", true);
    repository(&mut feed, "acme.open", "acme/open", false);
    for tag in ["v1", "v2"] {
        image(&mut feed, &format!("acme.secret.{tag}"), &format!("acme/secret:{tag}"));
        image(&mut feed, &format!("acme.open.{tag}"), &format!("acme/open:{tag}"));
    }
    // Of a repository that isn't there.
    image(&mut feed, "none.tool.v1", "none/tool:v1");
    let count = |feed: &Feed, sight: Sight, kind| {
        let visible = feed.see(sight);
        let query = Query { kind, after: None, at: visible.revision(), labels: &labels, fields: &fields };
        assert_eq!(visible.count(query), visible.list(query).count(), "{kind}");
        visible.count(query)
    };
    let all = |feed: &Feed| {
        [Sight::Everything, Sight::Manager("alice".into()), Sight::Manager("bob".into()), Sight::Public]
            .map(|sight| (count(feed, sight.clone(), Kind::Image), count(feed, sight, Kind::Repository)))
    };
    assert_eq!(all(&feed), [(5, 2), (4, 2), (2, 1), (2, 1)]);
    repository(&mut feed, "acme.open", "acme/open", true);
    feed.delete(Kind::Image, "acme.secret.v1");
    assert_eq!(all(&feed), [(4, 2), (3, 2), (0, 0), (0, 0)]);
    feed.put(Kind::Organization, metadata("acme", "o"), json!({ "name": "acme", "manager": ["bob"] }));
    feed.delete(Kind::Repository, "acme.open");
    assert_eq!(all(&feed), [(4, 1), (0, 0), (3, 1), (0, 0)]);
}

#[test]
fn what_is_held_does_not_age_while_nobody_holds_it() {
    let mut feed = Feed::new(Window { age: Duration::from_mins(1), bytes: usize::MAX });
    let first = image(&mut feed, "a.b.v1", "a/b:v1");
    image(&mut feed, "a.b.v2", "a/b:v2");
    feed.at_ms += 3_600_000;
    feed.writer.resume_at(feed.at_ms);
    image(&mut feed, "a.b.v3", "a/b:v3");
    let visible = feed.see(Sight::Everything);
    assert!(visible.events(Kind::Image, first, 10).is_some_and(|(events, _)| events.len() == 2));
    feed.at_ms += 61_000;
    image(&mut feed, "a.b.v4", "a/b:v4");
    assert!(feed.see(Sight::Everything).events(Kind::Image, first, 10).is_none());
}

#[test]
fn a_graph_that_is_filled_at_once_knows_owners_and_labels_as_one_that_saw_the_commits() {
    let mut feed = Feed::wide();
    let spec = json!({ "name": "acme", "manager": ["alice"] });
    feed.put(Kind::Organization, metadata("acme", "o"), spec);
    for i in 0..200 {
        let mut metadata = metadata(&format!("i{i}"), &format!("i{i}"));
        metadata["labels"] = json!({ "l": (i % 2).to_string(), "m": i.to_string() });
        // One of them has an uid that is written with escapes.
        let owner = |uid: &str| json!({ "apiVersion": "v1", "kind": "K", "name": "n", "uid": uid });
        metadata["ownerReferences"] = json!([owner("o"), owner(&format!("\"{}", i % 3)), owner("o")]);
        feed.put(Kind::Image, metadata, json!({ "name": format!("acme/r:{i}"), "detail": { "size": i } }));
    }
    repository(&mut feed, "acme.r", "acme/r", true);
    let filled = feed.filled(Window::default());
    let known = |feed: &Feed| {
        let all = feed.see(Sight::Everything);
        let dependents = ["o", "\"0", "\"1", "\"2", "none"].map(|uid| all.dependents(uid).cloned().collect::<Vec<_>>());
        let labelled = ["l=0", "l in (0,1)", "m=7", "m", "m=0,l=0"].map(|selector| {
            let (labels, fields) = (LabelSelector::parse(selector).unwrap(), FieldSelector::default());
            let query = Query { kind: Kind::Image, after: None, at: all.revision(), labels: &labels, fields: &fields };
            all.list(query).map(|record| record.revision).collect::<Vec<_>>()
        });
        let managers = feed.see(Sight::Manager("alice".into()));
        (dependents, labelled, managers.tags("acme/r").len(), managers.repositories("acme").count())
    };
    assert_eq!(known(&feed), known(&filled));
    assert_eq!(known(&filled).0.map(|keys| keys.len()), [200, 67, 67, 66, 0]);
}

/// What has, or had within the window, the label `l` with `value`, as the index tells.
fn labelled(feed: &Feed, value: &str) -> Vec<String> {
    let snapshot = feed.graph.current.load();
    let names = snapshot.labelled(Kind::Image, "l", value);
    names.map(|names| names.iter().map(ToString::to_string).collect()).unwrap_or_default()
}

#[test]
fn the_index_of_labels_has_what_the_window_has_and_no_more() {
    let mut random = SmallRng::seed_from_u64(7);
    // Commits come once a second.
    let mut feed = Feed::new(Window { age: Duration::from_secs(20), bytes: usize::MAX });
    let mut versions: Vec<(u64, String, Option<u8>)> = Vec::new();
    for _ in 0..3000 {
        let name = format!("i{}", random.random_range(0..3));
        let label = random.random_range(0..4_u8);
        let there = versions.iter().rev().find(|(_, n, _)| *n == name).is_some_and(|(.., label)| label.is_some());
        let (revision, label) = if label == 3 && there {
            (feed.delete(Kind::Image, &name), None)
        } else {
            let mut metadata = metadata(&name, &name);
            metadata["labels"] = json!({ "l": label.to_string() });
            let spec = json!({ "name": format!("o/r:{name}") });
            (feed.put(Kind::Image, metadata, spec), Some(label))
        };
        versions.push((revision.0, name, label));
        let floor = feed.see(Sight::Everything).floor().0;
        for value in 0..4 {
            let mut wanted = BTreeSet::new();
            for (at, (_, name, label)) in versions.iter().enumerate() {
                let next = versions[at + 1..].iter().find(|(_, n, _)| n == name);
                if *label == Some(value) && next.is_none_or(|(revision, ..)| *revision > floor) {
                    wanted.insert(name.clone());
                }
            }
            assert_eq!(labelled(&feed, &value.to_string()), Vec::from_iter(wanted), "l={value} at {revision}");
        }
        // Only the last versions can matter.
        let kept = versions.len().saturating_sub(60);
        versions.drain(..kept);
    }
}

#[test]
fn what_the_storage_has_forgotten_is_read_anew_at_whatever_revision_that_is() {
    let mut feed = Feed::wide();
    feed.put(Kind::Organization, json!({ "name": "o", "uid": "1" }), json!({ "name": "o", "creator": "c" }));
    let last = feed.put(Kind::Organization, json!({ "name": "p", "uid": "2" }), json!({ "name": "p", "creator": "c" }));
    let mut changes = feed.graph.changes(Kind::Image);
    changes.mark_unchanged();
    // A store that was set back: it has only the first, and stands below what was seen.
    let state = feed.graph.visible(Sight::Everything).get(Kind::Organization, "o").cloned().unwrap();
    let value = encode(&state.envelope(), &state.object());
    let commit = Commit { revision: Revision(1), at_ms: 1, key: state.key.clone(), value: Some(value) };
    feed.writer.storage = Arc::new(Still(State { revision: Revision(1), commits: vec![commit] }));
    feed.sender.unbounded_send(Err(ReadError::Compacted { asked: last, floor: Revision(1) })).unwrap();
    futures::executor::block_on(feed.writer.step()).unwrap();
    let all = feed.graph.visible(Sight::Everything);
    assert_eq!((all.revision(), all.floor(), all.generation()), (Revision(1), Revision(1), 1));
    assert!(all.get(Kind::Organization, "o").is_some() && all.get(Kind::Organization, "p").is_none());
    assert!(changes.has_changed().unwrap(), "watchers of every kind look");
}
