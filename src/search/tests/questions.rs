//! Filters, facets, orders, pages, tags and suggestions.

use super::*;
use crate::api::ImageType;
use crate::error::Error;

async fn shelf() -> Shelf {
    let mut shelf = Shelf::open().await;
    let detail = |keywords: &[&str], arch: &str| json!({ "keywords": keywords, "arch": arch });
    shelf.add("db/redis:7.0", detail(&["database", "cache"], "amd64")).await;
    shelf.add("db/redis:7.2", detail(&["database", "cache"], "amd64")).await;
    shelf.add("db/postgres:16", detail(&["Database"], "arm64")).await;
    shelf.add("ops/redis-exporter:1", detail(&["Monitoring"], "Unkonw")).await;
    shelf.add("ops/grafana:12", detail(&["Monitoring", "Dashboard"], "")).await;
    shelf.add("ops/redis-board:2", detail(&["Monitoring", "Database"], "amd64")).await;
    shelf.downloads("ops/redis-board", 9).await;
    shelf.downloads("ops/grafana", 5).await;
    shelf.catch_up();
    shelf
}

#[tokio::test]
async fn the_exact_name_is_first_then_beginnings_then_words_and_popularity_decides_among_equals() {
    let shelf = shelf().await;
    assert_eq!(shelf.found("redis"), ["db/redis", "ops/redis-board", "ops/redis-exporter"]);
    assert_eq!(shelf.found("redis expo"), ["ops/redis-exporter"]);
    assert_eq!(shelf.found("exporter"), ["ops/redis-exporter"]);
    assert_eq!(shelf.found("ops"), ["ops/redis-board", "ops/grafana", "ops/redis-exporter"]);
}

#[tokio::test]
async fn a_typo_is_forgiven_where_nothing_matches_without() {
    let shelf = shelf().await;
    for text in ["grafna", "gafana", "grafanaa", "garfana"] {
        let hits = shelf.find(Sight::Public, &by(text));
        assert_eq!((names(&hits), hits.forgiven), (vec!["ops/grafana".to_owned()], true), "{text}");
    }
    assert!(!shelf.find(Sight::Public, &by("grafana")).forgiven);
    assert_eq!(shelf.found("gfana"), [""; 0], "two are not");
}

#[tokio::test]
async fn a_facet_ignores_its_own_filter_but_for_keywords_and_counts_unset_as_null() {
    let shelf = shelf().await;
    let mut query = all();
    query.filter.organizations = Some(vec!["db".to_owned(), "none".to_owned()]);
    query.filter.architectures = Some(vec![Some("amd64".to_owned())]);
    let hits = shelf.find(Sight::Public, &query);
    assert_eq!(names(&hits), ["db/redis"]);
    assert_eq!(shown(&hits.facets.organizations), [(Some("db"), 1), (Some("ops"), 1), (Some("none"), 0)]);
    let selected: Vec<_> = hits.facets.organizations.iter().map(|facet| facet.selected).collect();
    assert_eq!(selected, [true, false, true]);
    assert_eq!(shown(&hits.facets.architectures), [(Some("amd64"), 1), (Some("arm64"), 1)]);
    assert_eq!(shown(&hits.facets.keywords), [(Some("Database"), 1)]);
    assert_eq!(shown(&hits.facets.types), [(None, 1)]);

    let mut query = all();
    query.filter.keywords = vec!["Monitoring".to_owned()];
    query.filter.architectures = Some(vec![None]);
    let hits = shelf.find(Sight::Public, &query);
    assert_eq!(names(&hits), ["ops/grafana", "ops/redis-exporter"]);
    assert_eq!(shown(&hits.facets.keywords), [(Some("Monitoring"), 2), (Some("Dashboard"), 1)]);
    assert_eq!(shown(&hits.facets.architectures), [(None, 2), (Some("amd64"), 1)]);
    query.filter.keywords.push("NoSuch".to_owned());
    assert_eq!(shelf.find(Sight::Public, &query).total, 0);
}

#[tokio::test]
async fn facets_are_bounded_but_what_is_filtered_by_is_among_them() {
    let shelf = shelf().await;
    let mut query = all();
    query.facet_values = 1;
    query.filter.organizations = Some(vec!["db".to_owned()]);
    let hits = shelf.find(Sight::Public, &query);
    assert_eq!(shown(&hits.facets.organizations), [(Some("ops"), 3), (Some("db"), 2)]);
    assert_eq!(shown(&hits.facets.keywords), [(Some("Database"), 2)]);
}

#[tokio::test]
async fn the_other_filters_leave_what_they_say() {
    let shelf = shelf().await;
    shelf.hide("db/postgres", true).await;
    let found = |sight: Sight, change: &dyn Fn(&mut Filter)| {
        let mut query = all();
        change(&mut query.filter);
        names(&shelf.find(sight, &query))
    };
    let everything = || Sight::Everything;
    assert_eq!(found(everything(), &|f| f.is_private = Some(true)), ["db/postgres"]);
    assert_eq!(found(Sight::Public, &|f| f.is_private = Some(true)), [""; 0]);
    let named = vec!["db/redis".to_owned(), "db/postgres".to_owned()];
    assert_eq!(found(Sight::Public, &|f| f.names = Some(named.clone())), ["db/redis"]);
    assert_eq!(found(Sight::Public, &|f| f.types = Some(vec![Some(ImageType::CloudImage)])), [""; 0]);
    assert_eq!(found(Sight::Public, &|f| f.types = Some(vec![None])).len(), 4);
    assert_eq!(found(Sight::Public, &|f| f.managed_by = Some(("m".to_owned(), true))), [""; 0]);
    assert_eq!(found(Sight::Public, &|f| f.managed_by = Some(("m".to_owned(), false))).len(), 4);
    assert_eq!(found(everything(), &|f| f.updated_since_ms = Some(i64::MAX)), [""; 0]);
    assert_eq!(found(everything(), &|f| f.updated_since_ms = Some(1_700_000_000_000)).len(), 5);
    let many = vec![String::new(); MAX_FILTER_VALUES + 1];
    let query = Query { filter: Filter { names: Some(many), ..Filter::default() }, ..all() };
    assert!(matches!(shelf.search.find(&shelf.see(Sight::Public), &query), Err(Error::BadRequest(_))));
}

#[tokio::test]
async fn pages_of_every_order_are_the_whole_cut_in_pieces_from_both_ends() {
    let shelf = shelf().await;
    let fields = [OrderField::Relevance, OrderField::Name, OrderField::Updated, OrderField::Downloads];
    for (field, descending) in fields.into_iter().flat_map(|field| [(field, false), (field, true)]) {
        let order = Order { field, descending };
        for text in [None, Text::parse("redis").unwrap()] {
            let query = Query { text, order, ..all() };
            let whole = names(&shelf.find(Sight::Public, &query));
            let mut paged = Vec::new();
            let mut page = Page { limit: 2, ..Page::default() };
            loop {
                let hits = shelf.find(Sight::Public, &Query { page: page.clone(), ..query.clone() });
                assert_eq!(hits.has_previous, !paged.is_empty());
                assert_eq!(hits.total, whole.len());
                paged.extend(names(&hits));
                page.after = hits.hits.last().map(|hit| Cursor::parse(&hit.cursor.encode()).unwrap());
                if !hits.has_next {
                    break;
                }
            }
            assert_eq!(paged, whole, "{order:?}");
            let mut paged = Vec::new();
            let mut page = Page { limit: 2, last: true, ..Page::default() };
            loop {
                let hits = shelf.find(Sight::Public, &Query { page: page.clone(), ..query.clone() });
                assert_eq!(hits.has_next, !paged.is_empty());
                paged.splice(..0, names(&hits));
                page.before = hits.hits.first().map(|hit| hit.cursor.clone());
                if !hits.has_previous {
                    break;
                }
            }
            assert_eq!(paged, whole, "{order:?} from the end");
        }
    }
}

#[tokio::test]
async fn orders_are_what_they_say() {
    let shelf = shelf().await;
    let sorted =
        |field, descending| names(&shelf.find(Sight::Public, &Query { order: Order { field, descending }, ..all() }));
    let by_name = ["db/postgres", "db/redis", "ops/grafana", "ops/redis-board", "ops/redis-exporter"];
    assert_eq!(sorted(OrderField::Name, false), by_name);
    assert_eq!(sorted(OrderField::Name, true), by_name.iter().rev().copied().collect::<Vec<_>>());
    assert_eq!(sorted(OrderField::Downloads, true)[..3], ["ops/redis-board", "ops/grafana", "db/postgres"]);
    assert_eq!(sorted(OrderField::Downloads, false)[3..], ["ops/grafana", "ops/redis-board"]);
}

#[tokio::test]
async fn a_cursor_is_of_one_query_and_one_viewer() {
    let shelf = shelf().await;
    let query = Query { page: Page { limit: 1, ..Page::default() }, ..by("redis") };
    let cursor = shelf.find(Sight::Public, &query).hits[0].cursor.clone();
    let with =
        |query: Query| Query { page: Page { limit: 1, after: Some(cursor.clone()), ..Page::default() }, ..query };
    assert_eq!(names(&shelf.find(Sight::Public, &with(by("redis")))), ["ops/redis-board"]);
    let refused = [
        (Sight::Public, with(by("grafana"))),
        (Sight::Public, with(all())),
        (manager("m"), with(by("redis"))),
        (Sight::Public, Query { order: Order { field: OrderField::Name, descending: false }, ..with(by("redis")) }),
    ];
    for (sight, query) in refused {
        let refused = shelf.search.find(&shelf.see(sight), &query);
        assert!(matches!(refused, Err(Error::BadRequest(_))));
    }
}

#[tokio::test]
async fn a_tag_behind_a_name_finds_that_tag() {
    let shelf = shelf().await;
    let matched = |text: &str| {
        let hits = shelf.find(Sight::Public, &by(text));
        let image = hits.hits.first().and_then(|hit| hit.matched_image.clone());
        (names(&hits).first().cloned(), image.map(|image| image.image().unwrap().name().to_owned()))
    };
    let some = |repository: &str, image: &str| (Some(repository.to_owned()), Some(image.to_owned()));
    assert_eq!(matched("db/redis:7.0"), some("db/redis", "db/redis:7.0"));
    assert_eq!(matched("redis:7.0"), some("db/redis", "db/redis:7.0"));
    assert_eq!(matched("redis:7"), some("db/redis", "db/redis:7.2"));
    assert_eq!(matched("redis:9"), (Some("db/redis".to_owned()), None));
    assert_eq!(matched("redis-e:1"), some("ops/redis-exporter", "ops/redis-exporter:1"));
    shelf.hide("db/redis", true).await;
    assert_eq!(matched("db/redis:7.0"), (None, None));
}

#[tokio::test]
async fn suggestions_are_names_that_begin_so_else_words_that_do_else_typos() {
    let shelf = shelf().await;
    assert_eq!(shelf.suggested("red"), ["ops/redis-board", "db/redis", "ops/redis-exporter"]);
    assert_eq!(shelf.suggested("db"), ["db", "db/postgres", "db/redis"]);
    assert_eq!(shelf.suggested("expo"), ["ops/redis-exporter"]);
    assert_eq!(shelf.suggested("garfana"), ["ops/grafana"]);
    assert_eq!(shelf.suggested("monitoring"), [""; 0], "no name has it");
}

#[tokio::test]
async fn hostile_text_finds_nothing_and_does_no_harm() {
    let shelf = shelf().await;
    let texts = [
        "*",
        "redis OR 1",
        "\"",
        "name:redis~2",
        "(((",
        "a AND",
        "\0\u{202e}",
        "💾",
        "[a TO z]",
        "+redis -grafana",
        "redis^1000",
        "/.*/",
        "\\",
        "％",
        ":::",
        "ｒｅｄｉｓ：７",
        "ﬀ",
        "İ",
        "e\u{301}\u{301}\u{301}",
        "--",
        "zzzz".repeat(60).as_str(),
    ]
    .map(str::to_owned);
    for text in texts {
        if let Ok(Some(text)) = Text::parse(&text) {
            let visible = shelf.see(Sight::Public);
            shelf.search.find(&visible, &Query { text: Some(text.clone()), ..all() }).unwrap();
            shelf.search.suggest(&visible, &text, 8).unwrap();
        }
    }
    assert_eq!(shelf.found("*"), [""; 0]);
    assert_eq!(shelf.found("+redis -grafana"), [""; 0], "words are words");
}
