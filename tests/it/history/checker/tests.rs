//! Histories made by hand: good ones that must pass, and each sort of bad one, that must not.

use std::sync::Arc;

use super::super::model::{Action, Change, History, Key, Observer, Outcome, Read, Refusal, Seen, Step, Write};
use super::check;

const KIND: &str = "datapacks";

fn key(name: &str) -> Key {
    Key { kind: KIND, name: name.into() }
}

/// A version that write `id` made at `revision`.
fn made(id: u64, revision: u64) -> Seen {
    Seen { revision, marker: Some(id), content: id }
}

fn write(id: u64, name: &str, action: Action, time: (u64, u64), outcome: Outcome) -> Write {
    Write { id, key: key(name), action, invoked: time.0, returned: time.1, outcome }
}

fn done(id: u64, name: &str, action: Action, time: (u64, u64), revision: u64) -> Write {
    write(id, name, action, time, Outcome::Done(Some(made(id, revision))))
}

fn deleted(id: u64, name: &str, action: Action, time: (u64, u64)) -> Write {
    write(id, name, action, time, Outcome::Done(None))
}

fn listed(time: (u64, u64), revision: u64, items: &[(&str, Seen)]) -> Step {
    let items = items.iter().map(|&(name, seen)| (Arc::from(name), seen)).collect();
    Step::Listed { invoked: time.0, returned: time.1, revision, items }
}

fn event(at: u64, change: Change, name: &str, seen: Seen) -> Step {
    Step::Event { at, change, name: name.into(), seen }
}

fn observer(steps: Vec<Step>) -> Observer {
    Observer { name: "an observer".to_owned(), kind: KIND, steps, finished: true }
}

/// The writes of a quiet run on two keys: a is created, patched, replaced and deleted, b is created.
fn writes() -> Vec<Write> {
    vec![
        done(10, "a", Action::Create, (10, 12), 1),
        done(20, "a", Action::Patch, (20, 22), 2),
        done(30, "b", Action::Create, (30, 32), 3),
        done(40, "a", Action::Replace(2), (40, 42), 4),
        deleted(50, "a", Action::Delete(None), (50, 52)),
    ]
}

/// What a watch from the beginning sees of it.
fn events() -> Vec<Step> {
    vec![
        listed((1, 2), 0, &[]),
        event(13, Change::Added, "a", made(10, 1)),
        event(23, Change::Modified, "a", made(20, 2)),
        event(33, Change::Added, "b", made(30, 3)),
        event(43, Change::Modified, "a", made(40, 4)),
        event(53, Change::Deleted, "a", made(40, 5)),
    ]
}

fn good() -> History {
    let last = observer(vec![listed((90, 91), 5, &[("b", made(30, 3))])]);
    History { writes: writes(), reads: Vec::new(), observers: vec![observer(events()), last] }
}

#[track_caller]
fn refused(history: &History, why: &str) {
    let violations = check(history).expect_err("the history is bad");
    assert!(violations.iter().any(|v| v.contains(why)), "no {why:?} in {violations:#?}");
}

#[track_caller]
fn passes(history: &History) {
    if let Err(violations) = check(history) {
        panic!("the history is good, but: {violations:#?}");
    }
}

#[test]
fn a_history_without_fault_passes() {
    let summary = check(&good()).unwrap_or_else(|v| panic!("{v:#?}"));
    assert_eq!((summary.acknowledged, summary.revisions, summary.events), (5, 5, 5));
}

#[test]
fn an_acknowledged_write_that_no_observer_saw_is_lost() {
    let mut history = good();
    history.observers[0].steps.remove(3);
    history.observers[1] = observer(vec![listed((90, 91), 5, &[])]);
    refused(&history, "missed revision 3");
}

#[test]
fn what_was_seen_and_is_not_in_the_final_state_is_lost() {
    let mut history = good();
    history.observers[1] = observer(vec![listed((90, 91), 5, &[])]);
    refused(&history, "listed datapacks/b as None at revision 5");
}

#[test]
fn what_was_seen_after_the_last_watched_revision_may_not_go_either() {
    let mut history = good();
    history.observers[1] = observer(vec![listed((90, 91), 9, &[])]);
    refused(&history, "listed datapacks/b as None at revision 9");
}

#[test]
fn a_deleted_object_in_the_final_state_has_come_back() {
    let mut history = good();
    history.observers[1] = observer(vec![listed((90, 91), 5, &[("a", made(40, 4)), ("b", made(30, 3))])]);
    refused(&history, "listed datapacks/a as Some(4) at revision 5");
}

#[test]
fn a_revision_that_is_given_out_twice_is_refused() {
    let mut history = good();
    history.writes.push(done(60, "c", Action::Create, (60, 62), 3));
    refused(&history, "revision 3 is");
}

#[test]
fn a_revision_below_a_known_one_is_refused() {
    let mut history = good();
    // As after a restart that forgot the highest revision.
    history.writes[3] = done(40, "a", Action::Replace(2), (40, 42), 9);
    history.observers[0].steps[4] = event(43, Change::Modified, "a", made(40, 9));
    history.observers[0].steps[5] = event(53, Change::Deleted, "a", made(40, 5));
    refused(&history, "saw revision 5 of a after 9");
    let mut history = good();
    history.writes[2].invoked = 54;
    history.writes[2].returned = 55;
    refused(&history, "became revision 3, though revision 5 was known before it began");
}

#[test]
fn an_event_that_comes_twice_is_refused() {
    let mut history = good();
    let again = history.observers[0].steps[2].clone();
    history.observers[0].steps.insert(3, again);
    refused(&history, "saw revision 2 of a after 2");
}

#[test]
fn events_out_of_order_are_refused() {
    let mut history = good();
    history.observers[0].steps.swap(2, 3);
    refused(&history, "saw revision 2 of a after 3");
}

#[test]
fn an_event_that_only_one_observer_saw_was_missed_by_the_other() {
    let mut history = good();
    let mut other = observer(events());
    other.name = "the other".to_owned();
    other.steps.remove(2);
    history.observers.push(other);
    refused(&history, "the other missed revision 2 of datapacks/a");
}

#[test]
fn two_contents_for_one_revision_are_refused() {
    let mut history = good();
    let mut other = observer(events());
    other.steps[2] = event(23, Change::Modified, "a", Seen { content: 77, ..made(20, 2) });
    history.observers.push(other);
    refused(&history, "revision 2 of datapacks/a has two contents");
}

#[test]
fn a_bookmark_ahead_of_an_event_is_refused() {
    let mut history = good();
    history.observers[0].steps.insert(3, Step::Bookmark { at: 24, revision: 3 });
    refused(&history, "missed revision 3");
}

#[test]
fn a_bookmark_of_what_was_seen_passes() {
    let mut history = good();
    history.observers[0].steps.insert(3, Step::Bookmark { at: 24, revision: 2 });
    passes(&history);
}

#[test]
fn a_replacement_of_another_version_than_the_one_named_is_a_lost_update() {
    let mut history = good();
    history.writes[3].action = Action::Replace(1);
    refused(
        &history,
        "write 40 (Replace(1) of datapacks/a at 40 to 42) became revision 4, but the object was at revision 2",
    );
}

#[test]
fn a_second_creation_of_what_exists_is_refused() {
    let mut history = good();
    history.writes[1].action = Action::Create;
    refused(&history, "became revision 2, but the object was at revision 1");
}

#[test]
fn a_patch_of_what_was_deleted_is_refused() {
    let mut history = good();
    history.writes.push(done(60, "a", Action::Patch, (60, 62), 6));
    history.observers[0].steps.push(event(63, Change::Added, "a", made(60, 6)));
    history.observers[1] = observer(vec![listed((90, 91), 6, &[("a", made(60, 6)), ("b", made(30, 3))])]);
    refused(&history, "but the object was at revision 5, deleted");
}

#[test]
fn a_refused_write_that_shows_is_refused() {
    let mut history = good();
    history.writes[1].outcome = Outcome::Refused(Refusal::Conflict);
    refused(&history, "was refused (Conflict) but made revision 2");
}

#[test]
fn content_that_nobody_wrote_is_refused() {
    let mut history = good();
    history.writes.remove(1);
    refused(&history, "revision 2 of datapacks/a has content that nobody wrote");
}

#[test]
fn a_write_without_an_answer_may_have_happened_or_not_but_not_twice() {
    let mut history = good();
    history.writes[2].outcome = Outcome::Unknown;
    history.writes.push(write(60, "c", Action::Create, (60, 62), Outcome::Unknown));
    passes(&history);
    let again = Seen { revision: 6, ..made(30, 3) };
    history.observers[0].steps.push(event(63, Change::Modified, "b", again));
    history.observers[1] = observer(vec![listed((90, 91), 6, &[("b", again)])]);
    refused(&history, "happened twice, as revision 3 and 6");
}

#[test]
fn an_acknowledged_delete_that_did_not_happen_is_refused() {
    let mut history = good();
    history.observers[0].steps.pop();
    history.observers[0].steps.push(Step::Bookmark { at: 60, revision: 5 });
    history.observers[1] = observer(vec![listed((90, 91), 5, &[("a", made(40, 4)), ("b", made(30, 3))])]);
    refused(&history, "was acknowledged, but the object was not deleted then");
}

#[test]
fn two_deletes_can_not_both_have_ended_one_object() {
    let mut history = good();
    history.writes.push(deleted(51, "a", Action::Delete(None), (51, 53)));
    refused(&history, "was acknowledged, but the object was not deleted then");
    history.writes.last_mut().unwrap().outcome = Outcome::Refused(Refusal::Missing);
    passes(&history);
}

#[test]
fn an_end_that_nobody_asked_for_is_refused() {
    let mut history = good();
    history.writes.pop();
    refused(&history, "is the end of datapacks/a, but nobody deleted it");
}

#[test]
fn a_delete_without_an_answer_explains_the_end_that_no_other_can() {
    let mut history = good();
    // Two ends of one object: the first is that of the version which the unanswered delete named, so
    // the acknowledged one, under way all the time, must have been the second.
    history.writes[4] = write(50, "a", Action::Delete(Some(4)), (50, 51), Outcome::Unknown);
    history.writes.push(done(55, "a", Action::Create, (55, 56), 6));
    history.writes.push(deleted(49, "a", Action::Delete(None), (49, 60)));
    history.observers[0].steps.push(event(57, Change::Added, "a", made(55, 6)));
    history.observers[0].steps.push(event(58, Change::Deleted, "a", made(55, 7)));
    history.observers[1] = observer(vec![listed((90, 91), 7, &[("b", made(30, 3))])]);
    passes(&history);
    history.writes[4].outcome = Outcome::Refused(Refusal::Conflict);
    refused(&history, "but nobody deleted it");
}

#[test]
fn a_delete_of_a_version_ends_that_version_only() {
    let mut history = good();
    history.writes[4].action = Action::Delete(Some(4));
    passes(&history);
    history.writes[4].action = Action::Delete(Some(2));
    refused(&history, "is the end of datapacks/a, but nobody deleted it");
}

#[test]
fn a_read_that_began_after_a_write_sees_it() {
    let read = |time: (u64, u64), found| Read { key: key("a"), invoked: time.0, returned: time.1, found };
    let mut history = good();
    history.reads = vec![
        read((5, 6), None),
        // Under way while the patch is: both are right.
        read((19, 25), Some(made(10, 1))),
        read((19, 25), Some(made(20, 2))),
        read((44, 45), Some(made(40, 4))),
        read((60, 61), None),
    ];
    passes(&history);
    history.reads = vec![read((44, 45), Some(made(20, 2)))];
    refused(&history, "a read of datapacks/a at 44 to 45 found revision 2");
    history.reads = vec![read((44, 45), None)];
    refused(&history, "a read of datapacks/a at 44 to 45 found nothing");
}

#[test]
fn a_list_that_began_after_a_write_is_not_older() {
    let mut history = good();
    history.observers.push(observer(vec![listed((60, 61), 3, &[("a", made(20, 2)), ("b", made(30, 3))])]));
    refused(&history, "listed revision 3, though 5 was known before");
}

#[test]
fn a_refusal_must_have_been_true() {
    let mut history = good();
    let missing = Outcome::Refused(Refusal::Missing);
    history.writes.push(write(60, "a", Action::Patch, (60, 61), missing.clone()));
    history.writes.push(write(25, "a", Action::Create, (25, 26), Outcome::Refused(Refusal::Exists)));
    history.writes.push(write(26, "a", Action::Replace(1), (26, 27), Outcome::Refused(Refusal::Conflict)));
    passes(&history);
    history.writes.push(write(28, "a", Action::Patch, (28, 29), missing));
    refused(&history, "was refused because the object does not exist");
    history.writes.pop();
    history.writes.push(write(28, "a", Action::Replace(2), (28, 29), Outcome::Refused(Refusal::Conflict)));
    refused(&history, "was refused because the object is not at the version named");
    history.writes.pop();
    history.writes.push(write(61, "a", Action::Create, (61, 62), Outcome::Refused(Refusal::Exists)));
    refused(&history, "was refused because the object exists");
}

#[test]
fn an_observer_that_never_sees_the_last_write_is_reported() {
    let mut history = good();
    history.observers[0].finished = false;
    refused(&history, "never saw the last write");
}

#[test]
fn an_honest_410_loses_nothing() {
    let mut history = good();
    let now = [("a", made(20, 2)), ("b", made(30, 3))];
    history.observers[0].steps.splice(2..4, [Step::Expired, listed((34, 35), 3, &now)]);
    passes(&history);
    assert_eq!(check(&history).unwrap().expired, 1);
}

#[test]
fn objects_that_no_writer_owns_may_change_by_themselves_but_not_unseen() {
    let mut history = good();
    let by_itself = Seen { revision: 6, marker: None, content: 99 };
    let last = |seen| observer(vec![listed((90, 91), 6, &[("b", made(30, 3)), ("z", seen)])]);
    history.observers[0].steps.push(event(63, Change::Added, "z", by_itself));
    history.observers[1] = last(by_itself);
    passes(&history);
    let mut other = observer(events());
    other.steps.push(Step::Bookmark { at: 70, revision: 6 });
    history.observers.push(other);
    refused(&history, "missed revision 6 of datapacks/z");
}
