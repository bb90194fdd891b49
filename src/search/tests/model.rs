//! Small random catalogues, against a model that looks at every repository word by word, and against a catalogue
//! that never had what a caller doesn't see.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const ORGANIZATIONS: [&str; 3] = ["ab", "cd", "labring"];
const NAMES: [&str; 6] = ["redis", "redis-operator", "mysql", "metrics-server", "re", "server"];
const WORDS: [&str; 8] = ["storage", "redis", "server", "quick", "database", "ab", "mysql", "small"];
const TEXTS: [&str; 14] = [
    "redis",
    "re",
    "server",
    "storage",
    "redis server",
    "ab",
    "mysql quick",
    "data",
    "metricsserver",
    "ab/redis",
    "s",
    "small the database",
    "rediss",
    "storag",
];

#[derive(Debug, Clone)]
struct Item {
    organization: usize,
    name: usize,
    private: bool,
    keyword: usize,
    description: usize,
    docs: usize,
    downloads: i64,
}

impl Item {
    fn full(&self) -> String {
        format!("{}/{}", ORGANIZATIONS[self.organization], NAMES[self.name])
    }
}

fn item() -> impl Strategy<Value = Item> {
    let words = 0..WORDS.len();
    (0..ORGANIZATIONS.len(), 0..NAMES.len(), any::<bool>(), words.clone(), words.clone(), words, 0_i64..3).prop_map(
        |(organization, name, private, keyword, description, docs, downloads)| Item {
            organization,
            name,
            private,
            keyword,
            description,
            docs,
            downloads,
        },
    )
}

async fn fill(items: &BTreeMap<String, Item>) -> Shelf {
    let mut shelf = Shelf::open().await;
    for organization in ORGANIZATIONS {
        let manager = format!("m-{organization}");
        shelf
            .hub
            .create(json!({ "kind": "Organization", "metadata": { "name": organization },
                "spec": { "name": organization, "manager": [manager] } }))
            .await;
    }
    for (full, item) in items {
        shelf.hub.create(repository(full, item.private)).await;
        let detail = json!({
            "keywords": [WORDS[item.keyword]], "description": WORDS[item.description], "docs": WORDS[item.docs],
        });
        shelf.add(&format!("{full}:1"), detail).await;
        if item.downloads > 0 {
            shelf.downloads(full, item.downloads).await;
        }
    }
    shelf.catch_up();
    shelf
}

/// Whether every word of the text is somewhere in the item.
fn matches(item: &Item, text: &str) -> bool {
    let words = text.split([' ', '/']).filter(|word| *word != "the");
    let joined = NAMES[item.name].replace('-', "");
    words.into_iter().all(|word| {
        NAMES[item.name].split('-').any(|part| part.starts_with(word))
            || joined.starts_with(word)
            || ORGANIZATIONS[item.organization].starts_with(word)
            || WORDS[item.keyword].starts_with(word)
            || WORDS[item.description] == word
            || WORDS[item.docs] == word
    })
}

fn sees(sight: &Sight, item: &Item) -> bool {
    match sight {
        Sight::Everything => true,
        Sight::Public => !item.private,
        Sight::Manager(name) => !item.private || **name == *format!("m-{}", ORGANIZATIONS[item.organization]),
    }
}

fn answer(hits: &Hits) -> (Vec<String>, usize, bool, Facets) {
    (names(hits), hits.total, hits.forgiven, hits.facets.clone())
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 24, ..crate::api::seeded() })]

    #[test]
    fn what_is_found_is_what_a_look_at_everything_finds_and_what_is_hidden_changes_nothing(
        items in prop::collection::vec(item(), 0..14),
        filtered in 0..ORGANIZATIONS.len(),
    ) {
        let items: BTreeMap<String, Item> = items.into_iter().map(|item| (item.full(), item)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let shelf = fill(&items).await;
            for sight in [Sight::Public, Sight::Everything, manager("m-ab"), manager("m-nobody")] {
                let seen: BTreeMap<String, Item> =
                    items.iter().filter(|(_, item)| sees(&sight, item)).map(|(k, v)| (k.clone(), v.clone())).collect();
                let without = fill(&seen).await;
                for text in TEXTS {
                    let mut query = by(text);
                    let hits = shelf.find(sight.clone(), &query);
                    prop_assert_eq!(answer(&hits), answer(&without.find(sight.clone(), &query)), "{} {:?}", text, sight);
                    let wanted: Vec<&String> =
                        seen.iter().filter(|(_, item)| matches(item, text)).map(|(name, _)| name).collect();
                    if wanted.is_empty() {
                        prop_assert!(hits.forgiven || hits.total == 0);
                    } else {
                        let mut found = names(&hits);
                        found.sort();
                        prop_assert_eq!(found.iter().collect::<Vec<_>>(), wanted.clone(), "{}", text);
                        prop_assert_eq!(hits.total, wanted.len());
                    }
                    let suggested = |shelf: &Shelf| {
                        let text = Text::parse(text).unwrap().unwrap();
                        let all = shelf.search.suggest(&shelf.see(sight.clone()), &text, 5).unwrap();
                        all.into_iter().map(|one| one.text.to_string()).collect::<Vec<_>>()
                    };
                    prop_assert_eq!(suggested(&shelf), suggested(&without));
                    query.filter.organizations = Some(vec![ORGANIZATIONS[filtered].to_owned()]);
                    let narrow = shelf.find(sight.clone(), &query);
                    prop_assert_eq!(answer(&narrow), answer(&without.find(sight.clone(), &query)));
                    let inside = names(&hits).into_iter().filter(|n| n.starts_with(&format!("{}/", ORGANIZATIONS[filtered])));
                    prop_assert_eq!(names(&narrow), inside.collect::<Vec<_>>());
                    let facet = |hits: &Hits| -> BTreeMap<Option<Arc<str>>, usize> {
                        let counted = hits.facets.organizations.iter().filter(|facet| facet.count > 0);
                        counted.map(|facet| (facet.value.clone(), facet.count)).collect()
                    };
                    prop_assert_eq!(facet(&narrow), facet(&hits), "a facet ignores its own filter");
                }
            }
            Ok(())
        })?;
    }
}
