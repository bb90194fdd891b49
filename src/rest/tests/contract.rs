use std::collections::BTreeSet;

use super::super::contract::ROUTES;
use super::super::document;
use super::*;

fn refs(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(to)) = fields.get("$ref") {
                out.insert(to.clone());
            }
            fields.values().for_each(|value| refs(value, out));
        }
        Value::Array(items) => items.iter().for_each(|value| refs(value, out)),
        _ => {}
    }
}

#[test]
fn the_document_is_3_1_and_all_that_it_refers_to_is_there() {
    let document: Value = serde_json::from_str(&document()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut all = BTreeSet::new();
    refs(&document, &mut all);
    for to in all {
        let there = document.pointer(to.trim_start_matches('#'));
        assert!(there.is_some(), "{to}");
    }
}

#[test]
fn each_route_and_method_is_an_operation_with_its_problems() {
    let document: Value = serde_json::from_str(&document()).unwrap();
    let mut ids = BTreeSet::new();
    for route in &ROUTES {
        for method in route.methods {
            let operation = &document["paths"][route.path][method.as_str().to_lowercase()];
            let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {}", route.path));
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
            for status in ["400", "401", "429", "500"] {
                assert!(operation["responses"].get(status).is_some(), "{id} {status}");
            }
            assert!(!operation["summary"].as_str().unwrap().is_empty());
            let takes_body = !matches!(*method, Method::GET | Method::DELETE);
            assert_eq!(operation.get("requestBody").is_some(), takes_body, "the body of {id}");
        }
    }
}

#[test]
fn every_object_text_and_list_of_the_document_has_bounds() {
    fn walk(at: &str, value: &Value, wrong: &mut Vec<String>) {
        let Some(fields) = value.as_object() else {
            if let Value::Array(items) = value {
                items.iter().enumerate().for_each(|(i, one)| walk(&format!("{at}/{i}"), one, wrong));
            }
            return;
        };
        let is = |sort: &str| match fields.get("type") {
            Some(Value::String(one)) => one == sort,
            Some(Value::Array(all)) => all.iter().any(|one| one == sort),
            _ => false,
        };
        let has = |name: &str| fields.contains_key(name);
        if (is("string") && !has("enum") && !has("maxLength"))
            || (is("array") && !has("maxItems"))
            || (is("integer") && !(has("minimum") && has("maximum") && has("format")))
            || (is("object") && has("properties") && !has("additionalProperties"))
        {
            wrong.push(at.to_owned());
        }
        fields.iter().for_each(|(name, one)| walk(&format!("{at}/{name}"), one, wrong));
    }
    let document: Value = serde_json::from_str(&document()).unwrap();
    let mut wrong = Vec::new();
    walk("", &document["components"]["schemas"], &mut wrong);
    walk("", &document["paths"], &mut wrong);
    assert_eq!(wrong, Vec::<String>::new());
}

#[tokio::test]
async fn the_door_serves_the_document_and_a_page_of_its_own() {
    let door = Door::open().await;
    let served = door.get("/openapi.json").await;
    assert_eq!(served.body, document());
    assert_eq!(door.get_with("/openapi.json", &[("if-none-match", served.etag())]).await.status, 304);
    for (path, media) in [
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/docs.js", "text/javascript; charset=utf-8"),
        ("/docs/docs.css", "text/css; charset=utf-8"),
    ] {
        let page = door.send(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!((page.status, page.header("content-type")), (200, media));
        assert!(!page.body.contains("//cdn") && !page.body.contains("https://"), "{path}");
        assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    }
    let none = door.send(Request::get("/docs/nosuch").body(Body::empty()).unwrap()).await;
    assert_eq!(none.status, 404);
}
