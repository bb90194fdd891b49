//! Who sees what at all doors: what is hidden from somebody is for them as what isn't there, byte for byte and header for
//! header, wherever its name can stand and whatever is done with it; it is in no list, count, facet or suggestion; and who
//! may see it sees it.

mod kube;
mod packs;
mod reads;
mod writes;

use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::harness::{Client, Response, Server, image, object, path};

/// A private repository and one that isn't there. No typo makes one of the other.
const SECRET: &str = "secret";
const ABSENT: &str = "absent";
/// What only the private repository's image says.
const HIDDEN: [&str; 3] = [SECRET, "classified", "Storage"];
/// The organization with the repository, and one that is gone and has left one like it.
const ORGANIZATIONS: [&str; 2] = ["acme", "ghost"];
const NOTHING: &[(&str, &str)] = &[];
const JSON: &str = "application/json";

/// Somebody who asks.
struct Who {
    name: &'static str,
    /// The gateway, and kube's door.
    http: Client,
    kube: Client,
    /// Whether they see what is private in `acme`, and in `ghost`.
    sees: [bool; 2],
    signed_in: bool,
    /// Whether their credentials are good.
    good: bool,
}

impl Who {
    fn sees(&self, organization: &str) -> bool {
        ORGANIZATIONS.iter().zip(self.sees).any(|(name, sees)| *name == organization && sees)
    }
}

/// A server and all who ask it.
struct Scene {
    server: Server,
    callers: Vec<Who>,
}

/// What an image says.
fn detail(text: &str, keyword: &str) -> Value {
    json!({ "description": format!("an image, {text}"), "keywords": [keyword], "docs": text })
}

impl Scene {
    async fn open() -> Self {
        let server = Server::start().await;
        server.imagehub("user add root --group system:masters").await;
        for user in ["alice", "erin", "bob", "carol"] {
            server.imagehub(&format!("user add {user}")).await;
        }
        let bearer = async |user: &str| format!("Bearer {}", server.imagehub(&format!("token {user}")).await.trim());
        let admin = server.admin();
        for (name, manager) in [("acme", "alice"), ("umbrella", "erin"), ("ghost", "alice")] {
            let organization = object("Organization", name, json!({ "name": name, "manager": [manager] }));
            admin.post(&path("organizations", ""), &organization).await.expect(201);
        }
        for organization in ORGANIZATIONS {
            let secret = json!({ "name": format!("{organization}/secret"), "isPrivate": true });
            let secret = object("Repository", &format!("{organization}.secret"), secret);
            admin.post(&path("repositories", ""), &secret).await.expect(201);
            let hidden = image(&format!("{organization}/secret:v1"), detail("classified", "Storage"));
            admin.post(&path("images", ""), &hidden).await.expect(201);
        }
        let names = json!({ "type": "detail", "names": ["acme/secret:v1", "acme/absent:v1", "acme/open:v1"] });
        admin.post(&path("datapacks", ""), &object("DataPack", "three", names)).await.expect(201);
        // The organization goes, and leaves its repository.
        let mut watch = admin.watch(&path("organizations", "")).await;
        admin.delete(&format!("{}?propagationPolicy=Orphan", path("organizations", "ghost"))).await.expect(200);
        while watch.next().await.change != "DELETED" {}
        let open =
            admin.post(&path("images", ""), &image("acme/open:v1", detail("shown", "Network"))).await.expect(201);

        // From here on the search has it all, too.
        let revision = open["metadata"]["resourceVersion"].as_str().expect("a version");
        let now = server.http().with_header("imagehub-min-revision", revision);
        let nobody = server.anonymous();
        let mut callers = Vec::new();
        for (name, user, sees) in [
            ("administrator", "root", [true, true]),
            ("manager", "alice", [true, false]),
            ("manager of another", "erin", [false, false]),
            ("stranger", "bob", [false, false]),
            ("revoked", "carol", [false, false]),
        ] {
            let bearer = bearer(user).await;
            let (http, kube) =
                (now.with_header("authorization", &bearer), nobody.with_header("authorization", &bearer));
            callers.push(Who { name, http, kube, sees, signed_in: true, good: user != "carol" });
        }
        let root = (callers[0].http.clone(), admin.clone());
        for (name, user, sees) in
            [("impersonated manager", "alice", [true, false]), ("impersonated stranger", "bob", [false, false])]
        {
            let (http, kube) =
                (root.0.with_header("impersonate-user", user), root.1.with_header("impersonate-user", user));
            callers.push(Who { name, http, kube, sees, signed_in: true, good: true });
        }
        callers.push(Who {
            name: "anonymous",
            http: now,
            kube: nobody,
            sees: [false; 2],
            signed_in: false,
            good: true,
        });
        server.imagehub("user remove carol").await;
        Self { server, callers }
    }

    /// Whoever asks by this name.
    fn who(&self, name: &str) -> &Who {
        self.callers.iter().find(|who| who.name == name).expect("they are in the scene")
    }
}

/// What was answered, for comparison: the status, the headers, the body. What is random, what counts, and how far the whole
/// store has come are left out.
fn shown(response: &Response, name: &str) -> String {
    const LEFT_OUT: [&str; 6] =
        ["date", "audit-id", "ratelimit", "ratelimit-policy", "imagehub-revision", "imagehub-search-revision"];
    const VERSION: &str = r#""resourceVersion":""#;
    let body = response.text();
    let versioned = body.contains(VERSION);
    let header = |name: &str| !(LEFT_OUT.contains(&name) || versioned && name == "content-length");
    let headers = response.headers.iter().filter(|(name, _)| header(name.as_str()));
    let mut lines: Vec<String> = headers.map(|(name, value)| format!("{name}: {value:?}")).collect();
    lines.sort();
    let mut parts = body.split(VERSION);
    let first = parts.next().unwrap_or_default().to_owned();
    let rest = parts.map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()));
    let body = rest.fold(first, |body, part| body + VERSION + part);
    format!("{}\n{}\n\n{body}", response.status, lines.join("\n")).replace(name, SECRET)
}

/// Asks for the hidden one and for the absent one: whether the answers are the same.
async fn alike(ask: impl AsyncFn(&str) -> Response) -> (bool, [Response; 2]) {
    let answers = [ask(SECRET).await, ask(ABSENT).await];
    (shown(&answers[0], SECRET) == shown(&answers[1], ABSENT), answers)
}

fn percent_encoded(text: &str) -> String {
    let kept = |b: u8| b.is_ascii_alphanumeric();
    text.bytes().map(|b| if kept(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
