//! What is read at kube's door.

use super::*;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";

/// Paths in which the name of a repository stands.
const NAMED: [&str; 7] = [
    "/repositories/ORG.NAME",
    "/repositories/ORG.NAME/status",
    "/images/ORG.NAME.v1",
    "/repositories?fieldSelector=metadata.name%3DORG.NAME",
    "/repositories?labelSelector=organization.imagehub.sealos.io%3DORG,repository.imagehub.sealos.io%3DNAME",
    "/images?fieldSelector=metadata.name%3DORG.NAME.v1",
    "/images?labelSelector=organization.imagehub.sealos.io%3DORG,repository.imagehub.sealos.io%3DNAME&limit=1",
];

#[tokio::test]
async fn what_is_hidden_is_as_what_is_not_there_at_kubes_door() {
    let scene = Scene::open().await;
    for organization in ORGANIZATIONS {
        for template in NAMED {
            for (method, accept) in
                [(Method::GET, JSON), (Method::GET, TABLE), (Method::GET, METADATA), (Method::HEAD, JSON)]
            {
                // A list's HEAD tells nothing of it.
                if method == Method::HEAD && template.contains('?') {
                    continue;
                }
                for who in &scene.callers {
                    let ask = async |name: &str| {
                        let at = path(&template[1..], "").replace("ORG", organization).replace("NAME", name);
                        who.kube.request(method.clone(), &at, &[("accept", accept)], Bytes::new()).await
                    };
                    let (same, [secret, absent]) = alike(ask).await;
                    assert_eq!(same, !who.sees(organization), "{}: {accept} {secret}\n{absent}", who.name);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_page_that_somebody_else_was_given_goes_on_with_what_the_caller_sees() {
    let scene = Scene::open().await;
    let manager = &scene.who("manager").kube;
    for kind in ["images", "repositories"] {
        let first = manager.get(&format!("{}?limit=1", path(kind, ""))).await.expect(200);
        let token = first["metadata"]["continue"].as_str().expect("there is more");
        let at = format!("{}?limit=1&continue={token}", path(kind, ""));
        assert!(manager.get(&at).await.expect(200).to_string().contains(SECRET));
        for who in scene.callers.iter().filter(|who| who.good && !who.sees("acme")) {
            let rest = who.kube.get(&at).await.expect(200);
            assert_eq!(rest["items"], json!([]), "{}: {rest}", who.name);
        }
    }
}
