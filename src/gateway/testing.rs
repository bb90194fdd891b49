//! A small catalogue for the tests of the doors, with its users and its search, and no door yet.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{Answers, App, Origins, Quota, REQUESTS, Rates};
use crate::auth::users::{Tokens, Users};
use crate::auth::{Authenticator, Authorizer};
use crate::registry::Registry;
use crate::registry::testing::{Hub, image, repository};
use crate::search::{Indexer, Search};

/// The catalogue, with users: root, an administrator; alice, who manages `acme`; bob.
pub(crate) struct Scene {
    pub(crate) hub: Hub,
    pub(crate) dir: TempDir,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) search: Arc<Search>,
    indexer: Mutex<Indexer>,
}

/// What a door to `registry` stands on, with nothing kept.
pub(crate) fn app(registry: &Arc<Registry>, authenticator: Authenticator, search: Option<Arc<Search>>) -> App {
    App {
        registry: Arc::clone(registry),
        authenticator,
        authorizer: Authorizer::Rules,
        search,
        anonymous: true,
        rates: Arc::new(Rates::new(registry.clock().clone(), REQUESTS)),
        quota: Arc::new(Quota::default()),
        origins: Origins::None,
        relay: None,
        answers: Answers::default(),
        stop: CancellationToken::new(),
    }
}

impl Scene {
    pub(crate) async fn open() -> Self {
        let hub = Hub::open().await;
        let dir = TempDir::new().unwrap();
        let now = crate::clock::Clock::now(&*hub.clock);
        Users::change(dir.path(), |users| {
            users.add("root", vec!["system:masters".to_owned()], now)?;
            users.add("alice", vec![], now)?;
            users.add("bob", vec![], now)
        })
        .unwrap();
        let tokens = Arc::new(Tokens::new(dir.path()));
        let (search, indexer) = Search::open(Arc::clone(hub.registry.graph())).unwrap();
        let scene = Self { hub, dir, tokens, search, indexer: Mutex::new(indexer) };
        scene.fill().await;
        scene
    }

    pub(crate) fn authenticator(&self) -> Authenticator {
        Authenticator::local(Some(Arc::clone(&self.tokens)), None, self.hub.clock.clone())
    }

    /// What a door to it stands on.
    pub(crate) fn app(&self) -> App {
        app(&self.hub.registry, self.authenticator(), Some(Arc::clone(&self.search)))
    }

    async fn fill(&self) {
        let organization = json!({
            "kind": "Organization", "metadata": { "name": "acme" },
            "spec": { "name": "acme", "manager": ["alice"] },
        });
        self.hub.create(organization).await;
        self.hub.create(repository("acme/secret", true)).await;
        let detail = |description: &str, arch: &str, keywords: Value| {
            json!({
                "description": description, "arch": arch, "keywords": keywords, "size": 5_000_000_000_i64,
                "creatTime": "2024-05-01T12:00:00Z", "docs": format!("# {description}\n"),
            })
        };
        for (name, detail) in [
            ("acme/secret:1", detail("not for everybody", "amd64", json!(["Storage"]))),
            ("labring/nginx:1.23", detail("a web server", "amd64", json!(["Network"]))),
            ("labring/nginx:1.24", detail("a newer web server", "amd64", json!(["Network"]))),
            ("labring/mysql:8.0", detail("a database", "arm64", json!(["Database", "Storage"]))),
            ("other/redis:7", detail("a cache", "Unkonw", json!(["database"]))),
        ] {
            let mut object = image(name, detail);
            object["spec"]["type"] = "cluster-image".into();
            self.hub.create(object).await;
        }
        // Labels of repositories follow by the controller, which doesn't run here.
        for (name, keywords) in [
            ("labring.nginx", &["Network"][..]),
            ("labring.mysql", &["Database", "Storage"]),
            ("other.redis", &["Database"]),
        ] {
            let label = |value: &mut Value| {
                for keyword in keywords {
                    value["metadata"]["labels"][format!("keyword.imagehub.sealos.io/{keyword}")] = "".into();
                }
            };
            self.hub.try_put(crate::api::Kind::Repository, name, label).await.unwrap();
        }
    }

    /// A token of a user.
    pub(crate) fn token(&self, user: &str) -> String {
        let now = crate::clock::Clock::now(&*self.hub.clock);
        let token = Users::change(self.dir.path(), |users| users.issue(user, now)).unwrap();
        self.tokens.refresh();
        token
    }

    /// Brings the search to where the catalogue is.
    pub(crate) fn settle(&self) {
        self.indexer.lock().catch_up().unwrap();
    }
}
