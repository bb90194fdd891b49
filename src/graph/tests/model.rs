//! Random histories, compared with a model that keeps every state whole and looks at all of it each time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::api::{Grain, seeded, version_order};
use crate::datapack::Packs;

#[derive(Debug, Clone)]
enum Step {
    Image { name: u8, full: (u8, u8), size: u8, built: u8, label: u8 },
    Repository { name: u8, full: u8, private: bool },
    Pack { name: u8, grain: Grain, names: Vec<(u8, u8)> },
    Delete { kind: u8, name: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let full = (0_u8..3, 0_u8..4);
    prop_oneof![
        4 => (0_u8..5, full.clone(), 0_u8..3, 0_u8..3, 0_u8..4)
            .prop_map(|(name, full, size, built, label)| Step::Image { name, full, size, built, label }),
        2 => (0_u8..3, 0_u8..3, any::<bool>()).prop_map(|(name, full, private)| Step::Repository { name, full, private }),
        2 => (0_u8..3, 0_usize..3, prop::collection::vec(full, 0..3)).prop_map(|(name, grain, names)| {
            Step::Pack { name, grain: [Grain::Base, Grain::Grid, Grain::Detail][grain], names }
        }),
        3 => (0_u8..3, 0_u8..5).prop_map(|(kind, name)| Step::Delete { kind, name }),
    ]
}

/// All objects at one revision, with their revisions.
type State = BTreeMap<(Kind, String), (Revision, Value, Value)>;

fn apply(feed: &mut Feed, state: &mut State, step: &Step) {
    let full = |(repository, tag): (u8, u8)| format!("o/r{repository}:{tag}");
    let put = |feed: &mut Feed, state: &mut State, kind, mut metadata: Value, spec: Value| {
        let name = metadata["name"].as_str().unwrap().to_owned();
        match state.get(&(kind, name.clone())) {
            // spec.name is immutable: another one is another object.
            Some((_, _, old)) if old["name"] != spec["name"] => {
                state.remove(&(kind, name.clone()));
                feed.delete(kind, &name);
                return;
            }
            Some((_, old, _)) => {
                metadata["creationTimestamp"] = old["creationTimestamp"].clone();
                metadata["uid"] = old["uid"].clone();
            }
            None => {}
        }
        let revision = feed.put(kind, metadata.clone(), spec.clone());
        state.insert((kind, name), (revision, metadata, spec));
    };
    // Made in order of revision, so that the older one of two is the one that was there first.
    let made = |feed: &Feed, name: &str| {
        let revision = feed.revision;
        let (minute, second) = (revision / 60, revision % 60);
        json!({
            "name": name, "uid": format!("{revision:05}"),
            "creationTimestamp": format!("2024-01-01T00:{minute:02}:{second:02}Z"),
        })
    };
    match step {
        Step::Image { name, full: of, size, built, label } => {
            let mut metadata = made(feed, &format!("i{name}"));
            if *label > 0 {
                metadata["labels"] = json!({ "l": label.to_string() });
            }
            let built = ["1970-01-01T00:00:00Z", "2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"][usize::from(*built)];
            let spec = json!({ "name": full(*of), "detail": { "size": size, "creatTime": built } });
            put(feed, state, Kind::Image, metadata, spec);
        }
        Step::Repository { name, full, private } => {
            let metadata = made(feed, &format!("r{name}"));
            put(feed, state, Kind::Repository, metadata, json!({ "name": format!("o/r{full}"), "isPrivate": private }));
        }
        Step::Pack { name, grain, names } => {
            let metadata = made(feed, &format!("p{name}"));
            let names: Vec<_> = names.iter().map(|of| full(*of)).collect();
            put(feed, state, Kind::DataPack, metadata, json!({ "type": grain.as_str(), "names": names }));
        }
        Step::Delete { kind, name } => {
            let (kind, letter) =
                [(Kind::Image, 'i'), (Kind::Repository, 'r'), (Kind::DataPack, 'p')][usize::from(*kind)];
            let name = format!("{letter}{name}");
            if state.remove(&(kind, name.clone())).is_some() {
                feed.delete(kind, &name);
            }
        }
    }
}

/// The oldest of those of `kind` that claim `full`.
fn claimant<'a>(state: &'a State, kind: Kind, full: &str) -> Option<(&'a str, &'a Value)> {
    let claims = state.iter().filter(|((k, _), (_, _, spec))| *k == kind && spec["name"] == full);
    let oldest = claims.min_by_key(|(_, (_, metadata, _))| {
        (metadata["creationTimestamp"].as_str().unwrap(), metadata["uid"].as_str().unwrap())
    });
    oldest.map(|((_, name), (_, _, spec))| (name.as_str(), spec))
}

fn hidden(state: &State, sight: &Sight, repository: &str) -> bool {
    let private = claimant(state, Kind::Repository, repository).is_none_or(|(_, spec)| spec["isPrivate"] == true);
    *sight == Sight::Public && private
}

/// The tags of a repository, the newest first, each with the name of its object.
fn tags(state: &State, sight: &Sight, repository: &str) -> Vec<String> {
    if hidden(state, sight, repository) {
        return Vec::new();
    }
    let mut tags: Vec<_> = (0..4)
        .filter_map(|tag| {
            let full = format!("{repository}:{tag}");
            let (name, spec) = claimant(state, Kind::Image, &full)?;
            let built = spec["detail"]["creatTime"].as_str().unwrap().to_owned();
            Some((built, tag.to_string(), name.to_owned()))
        })
        .collect();
    tags.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| version_order(&b.1, &a.1)));
    tags.into_iter().map(|(_, _, name)| name).collect()
}

fn sees(state: &State, sight: &Sight, kind: Kind, spec: &Value) -> bool {
    match kind {
        Kind::Image => !hidden(state, sight, spec["name"].as_str().unwrap().rsplit_once(':').unwrap().0),
        Kind::Repository => *sight == Sight::Everything || spec["isPrivate"] != true,
        _ => true,
    }
}

/// Compares all that can be read of the graph with the states.
fn compare(feed: &Feed, packs: &Packs, states: &BTreeMap<Revision, State>) {
    let now = &states[&Revision(feed.revision)];
    for sight in &[Sight::Everything, Sight::Public] {
        let visible = feed.see(sight.clone());
        for repository in 0..3 {
            let full = format!("o/r{repository}");
            let found: Vec<_> = visible.tags(&full).iter().map(|r| r.name().to_owned()).collect();
            assert_eq!(found, tags(now, sight, &full), "{full} {sight:?}");
        }
        let members: Vec<_> = visible.repositories("o").map(ToString::to_string).collect();
        let expected: Vec<_> = (0..3)
            .map(|r| format!("o/r{r}"))
            .filter(|r| {
                claimant(now, Kind::Repository, r).is_some_and(|(_, spec)| sees(now, sight, Kind::Repository, spec))
            })
            .collect();
        assert_eq!(members, expected);
        for name in ["p0", "p1", "p2"] {
            if let Some(record) = visible.get(Kind::DataPack, name) {
                let cached = packs.content(&visible, record);
                let computed = crate::datapack::resolve(&visible, record.pack().unwrap());
                assert_eq!(cached.members, computed.members, "{name} {sight:?} is not what it was computed from");
            }
        }
        for (at, then) in states.range(visible.floor()..) {
            for kind in [Kind::Image, Kind::Repository, Kind::DataPack] {
                for selector in ["", "l", "!l", "l=1", "l!=1", "l in (1,2)", "l notin (1,2)", "l=9"] {
                    let (labels, fields) = (LabelSelector::parse(selector).unwrap(), FieldSelector::default());
                    let query = Query { kind, after: None, at: *at, labels: &labels, fields: &fields };
                    let found: Vec<_> = visible.list(query).map(|r| (r.name().to_owned(), r.revision)).collect();
                    let expected: Vec<_> = then
                        .iter()
                        .filter(|((k, _), (_, metadata, spec))| {
                            // Sight is that of now; but images are shown only of what has been public ever since.
                            let since = if kind == Kind::Image { *at } else { Revision(feed.revision) };
                            let seen = || states.range(since..).all(|(_, state)| sees(state, sight, kind, spec));
                            let label = |key: &str| metadata["labels"][key].as_str();
                            *k == kind && labels.matches(label) && seen()
                        })
                        .map(|((_, name), (revision, _, _))| (name.clone(), *revision))
                        .collect();
                    assert_eq!(found, expected, "{kind} {selector} at {at} {sight:?}");
                    assert_eq!(visible.count(query), expected.len());
                }
            }
        }
    }
}

/// What a watcher that began at `start` and never had to begin anew knows, against what is there.
fn follow(feed: &Feed, states: &BTreeMap<Revision, State>, sight: &Sight, start: Revision) {
    let visible = feed.see(sight.clone());
    let now = &states[&Revision(feed.revision)];
    for kind in [Kind::Image, Kind::Repository, Kind::DataPack] {
        if visible.sight_changed(kind, start).is_some() {
            continue;
        }
        let Some((events, _)) = visible.events(kind, start, usize::MAX) else {
            assert!(start < visible.floor(), "the window has them");
            continue;
        };
        for name in (0..5).flat_map(|i| ["i", "r", "p"].map(|letter| format!("{letter}{i}"))) {
            let own: Vec<_> = events.iter().filter(|event| *event.key.name == *name).map(|e| e.revision).collect();
            let told = |limit| {
                let (events, reached) = visible.events_of(kind, &name, start, limit)?;
                Some((events.iter().map(|event| event.revision).collect::<Vec<_>>(), reached))
            };
            let now = Revision(feed.revision);
            // Below the floor it may not know that nothing was missed; then it must not say so.
            assert!(told(usize::MAX).is_none_or(|told| told == (own.clone(), now)), "{kind} {name} from {start}");
            assert!(told(usize::MAX).is_some() || start < visible.floor(), "the window has them");
            for limit in 1..3 {
                if let Some((few, reached)) = told(limit) {
                    let whole = own.len() < limit || reached == now;
                    assert!(if whole { few == own } else { few == own[..limit] && few.last() == Some(&reached) });
                }
            }
        }
        let then = &states[&start];
        let seen = |state: &State| {
            let all = state.iter().filter(|((k, _), (_, _, spec))| *k == kind && sees(state, sight, kind, spec));
            all.map(|((_, name), (revision, _, _))| (name.clone(), *revision)).collect::<BTreeMap<_, _>>()
        };
        let mut known = seen(then);
        let mut last = start;
        for event in events {
            assert!(event.revision > last && event.previous <= last, "nothing between them");
            last = event.revision;
            let saw = |record: Option<&Arc<Record>>| record.is_some_and(|record| visible.sees_in(&event, record));
            let name = event.key.name.to_string();
            match (saw(event.old.as_ref()), saw(event.new_record())) {
                (false, true) => assert_eq!(known.insert(name, event.revision), None),
                (true, true) => assert!(known.insert(name, event.revision).is_some()),
                (true, false) => assert!(known.remove(&name).is_some()),
                (false, false) => {}
            }
        }
        assert_eq!(known, seen(now), "{kind} from {start} {sight:?}");
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 48, ..seeded() })]

    #[test]
    fn the_graph_is_what_its_history_makes_it(
        steps in prop::collection::vec(step(), 1..50),
        window_secs in prop_oneof![Just(3_u64), Just(12), Just(3600)],
    ) {
        let window = Window { age: Duration::from_secs(window_secs), bytes: usize::MAX };
        let mut feed = Feed::new(window);
        let packs = Packs::default();
        let mut states = BTreeMap::from([(Revision(0), State::new())]);
        for step in &steps {
            let mut state = states[&Revision(feed.revision)].clone();
            apply(&mut feed, &mut state, step);
            states.insert(Revision(feed.revision), state);
            compare(&feed, &packs, &states);
        }
        for start in 0..=feed.revision {
            for sight in &[Sight::Everything, Sight::Public] {
                follow(&feed, &states, sight, Revision(start));
            }
        }
        // A process that starts now has the same, and goes on as this one would.
        let mut feed = feed.filled(window);
        for step in steps.iter().rev() {
            compare(&feed, &packs, &states);
            let mut state = states[&Revision(feed.revision)].clone();
            apply(&mut feed, &mut state, step);
            states.insert(Revision(feed.revision), state);
        }
        compare(&feed, &packs, &states);
    }
}
