//! How the index follows the graph, and what requests see meanwhile.

use super::*;
use crate::error::Error;

#[tokio::test]
async fn before_it_is_filled_every_question_is_refused_and_then_none() {
    let mut shelf = Shelf::open().await;
    shelf.add("o/redis:1", json!({})).await;
    assert!(!shelf.search.ready());
    let refused = shelf.search.find(&shelf.see(Sight::Public), &all()).unwrap_err();
    assert!(matches!(refused, Error::Unavailable(_)));
    shelf.catch_up();
    assert_eq!(shelf.search.revision(), Some(shelf.hub.revision()));
    assert_eq!(shelf.found("redis"), ["o/redis"]);
}

#[tokio::test]
async fn lists_and_counts_are_those_of_the_snapshot_however_far_behind_the_index_is() {
    let mut shelf = Shelf::open().await;
    shelf.add("o/gone:1", json!({})).await;
    shelf.add("o/stays:1", json!({ "arch": "amd64" })).await;
    shelf.catch_up();
    let before = shelf.see(Sight::Public);
    shelf.add("p/new:1", json!({ "arch": "arm64" })).await;
    shelf.add("o/stays:2", json!({ "arch": "riscv64", "creatTime": "2025-01-01T00:00:00Z" })).await;
    shelf.hub.delete(Kind::Image, "o.gone.1").await;
    shelf.hub.delete(Kind::Repository, "o.gone").await;
    for _ in 0..2 {
        let hits = shelf.find(Sight::Public, &all());
        assert_eq!((names(&hits), hits.total), (vec!["o/stays".to_owned(), "p/new".to_owned()], 2));
        assert_eq!(shown(&hits.facets.organizations), [(Some("o"), 1), (Some("p"), 1)]);
        assert_eq!(shown(&hits.facets.architectures), [(Some("arm64"), 1), (Some("riscv64"), 1)]);
        // And a request that holds an older snapshot has what was there then.
        let hits = shelf.search.find(&before, &all()).unwrap();
        assert_eq!(names(&hits), ["o/gone", "o/stays"]);
        assert_eq!(shown(&hits.facets.architectures), [(None, 1), (Some("amd64"), 1)]);
        shelf.catch_up();
    }
}

#[tokio::test]
async fn what_becomes_private_is_not_found_from_that_moment_on() {
    let mut shelf = Shelf::open().await;
    shelf.add("o/redis:1", json!({ "keywords": ["Database"] })).await;
    shelf.catch_up();
    shelf.hide("o/redis", true).await;
    for _ in 0..2 {
        let hits = shelf.find(Sight::Public, &by("redis"));
        assert_eq!((hits.total, hits.hits.len(), hits.facets.organizations.len()), (0, 0, 0));
        assert_eq!(shelf.suggested("red"), [""; 0]);
        assert_eq!(names(&shelf.find(Sight::Everything, &by("redis"))), ["o/redis"]);
        shelf.catch_up();
    }
    shelf.hide("o/redis", false).await;
    assert_eq!(shelf.found("redis"), ["o/redis"]);
}

#[tokio::test]
async fn no_word_of_what_was_private_finds_what_is_public_now() {
    let mut shelf = Shelf::open().await;
    shelf.hub.create(repository("o/redis", true)).await;
    shelf.add("o/redis:1", json!({ "description": "classified" })).await;
    shelf.catch_up();
    let write = |value: &mut Value| value["spec"]["detail"]["description"] = "harmless".into();
    shelf.hub.put(Kind::Image, "o.redis.1", write).await;
    shelf.hide("o/redis", false).await;
    for found in [0, 1] {
        assert_eq!(shelf.found("classified"), [""; 0]);
        assert_eq!(shelf.found("redis"), ["o/redis"]);
        assert_eq!(shelf.found("harmless").len(), found);
        shelf.catch_up();
    }
}

#[tokio::test]
async fn the_text_is_that_of_the_latest_image() {
    let mut shelf = Shelf::open().await;
    shelf.add("o/x:1", json!({ "description": "apples" })).await;
    shelf.catch_up();
    shelf.add("o/x:2", json!({ "description": "pears" })).await;
    shelf.catch_up();
    assert_eq!((shelf.found("apples").len(), shelf.found("pears").len()), (0, 1));
    shelf.hub.delete(Kind::Image, "o.x.2").await;
    shelf.catch_up();
    assert_eq!((shelf.found("apples").len(), shelf.found("pears").len()), (1, 0));
}

#[tokio::test]
async fn an_indexer_that_missed_events_looks_at_everything() {
    let mut shelf = Shelf::open().await;
    shelf.add("o/old:1", json!({})).await;
    shelf.catch_up();
    shelf.hub.delete(Kind::Image, "o.old.1").await;
    shelf.hub.delete(Kind::Repository, "o.old").await;
    shelf.hub.clock.step_ms(600_000);
    shelf.add("o/new:1", json!({})).await;
    assert!(shelf.see(Sight::Public).floor() > shelf.search.revision().unwrap());
    let behind = shelf.search.find(&shelf.see(Sight::Public), &all()).unwrap_err();
    assert!(matches!(behind, Error::Unavailable(_)));
    shelf.catch_up();
    assert_eq!(names(&shelf.find(Sight::Public, &all())), ["o/new"]);
    assert_eq!(shelf.found("old"), [""; 0]);
}

#[tokio::test]
async fn rows_of_what_is_gone_are_used_again_and_nothing_of_it_is_left() {
    let mut shelf = Shelf::open().await;
    for round in 0..3 {
        for number in 0..600 {
            shelf.hub.create(repository(&format!("o{round}/r{number}"), false)).await;
        }
        shelf.catch_up();
        if round < 2 {
            for number in 0..600 {
                shelf.hub.delete(Kind::Repository, &format!("o{round}.r{number}")).await;
            }
            shelf.catch_up();
        }
    }
    let hits = shelf.find(Sight::Public, &all());
    assert_eq!(hits.total, 600);
    assert_eq!(shown(&hits.facets.organizations), [(Some("o2"), 600)]);
    assert_eq!(shelf.found("o1"), [""; 0]);
    // One that comes back.
    shelf.hub.create(repository("o1/r1", false)).await;
    shelf.catch_up();
    assert_eq!(shelf.found("o1"), ["o1/r1"]);
}

#[tokio::test]
async fn a_revision_that_is_asked_for_is_waited_for_and_not_for_ever() {
    let shelf = Shelf::open().await;
    let Shelf { hub, search, indexer } = shelf;
    let running = tokio::spawn(indexer.run());
    hub.create(image("o/redis:1", json!({}))).await;
    search.reached(hub.revision()).await.unwrap();
    let hits = search.find(&hub.registry.graph().visible(Sight::Public), &by("redis")).unwrap();
    assert_eq!(hits.total, 1);
    hub.create(image("o/redis:2", json!({}))).await;
    search.reached(hub.revision()).await.unwrap();
    running.abort();
    let far = crate::graph::Revision(hub.revision().0 + 100);
    let refused = search.reached_within(far, Duration::ZERO).await.unwrap_err();
    assert!(matches!(refused, Error::ResourceVersionTooLarge { asked, .. } if asked == far.0));
}
