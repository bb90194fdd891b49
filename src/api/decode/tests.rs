use proptest::prelude::*;
use serde_json::json;

use super::*;

fn image() -> Value {
    json!({
        "apiVersion": "imagehub.sealos.io/v1",
        "kind": "Image",
        "metadata": { "name": "a.b.c", "labels": { "x": "y" }, "creationTimestamp": "2024-01-02T03:04:05Z",
            "ownerReferences": [{ "apiVersion": "v1", "kind": "K", "name": "n", "uid": "u" }],
            "managedFields": [{ "manager": "m", "fieldsV1": { "f:spec": { ".": {}, "f:x": null } } }] },
        "spec": { "name": "a/b:c", "type": "cluster-image",
            "detail": { "keywords": ["k"], "size": 5, "creatTime": "2024-01-02T03:04:05.5+01:00",
                "actions": { "go": { "name": "Go", "cmd": "run" } } } }
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut whole = image();
    if let Some(place) = whole.pointer_mut(pointer) {
        *place = value;
        return whole;
    }
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    whole.pointer_mut(parent).expect("the parent")[key] = value;
    whole
}

/// The errors of an Image with this at this place, as kube shows them.
fn wrong(pointer: &str, value: Value) -> Vec<String> {
    conform(Kind::Image, &mut with(pointer, value)).errors.iter().map(ToString::to_string).collect()
}

#[test]
fn a_right_object_passes_unchanged_and_becomes_typed() {
    let mut value = image();
    assert_eq!(conform(Kind::Image, &mut value), Conformed::default());
    assert_eq!(value, image());
    let (object, status) = into_object(Kind::Image, value).expect("it conforms");
    assert_eq!(object.metadata.name.as_deref(), Some("a.b.c"));
    assert_eq!(object.spec.name(), Some("a/b:c"));
    assert_eq!(status, None);
    assert_eq!(serde_json::to_value(&object).expect("it is JSON")["spec"], image()["spec"]);
}

#[test]
fn unknown_fields_are_dropped_and_told_with_their_paths() {
    let mut value = with("/spec/detail/actions/go/q", json!(1));
    value["top"] = json!({ "deep": [1] });
    value["status"] = json!({});
    value["metadata"]["ownerReferences"][0]["zz"] = json!(null);
    value["spec"]["foo"] = json!(1);
    let found = conform(Kind::Image, &mut value);
    let mut unknown = found.unknown;
    unknown.sort();
    assert_eq!(unknown, ["metadata.ownerReferences[0].zz", "spec.detail.actions.go.q", "spec.foo", "status", "top"]);
    assert_eq!(found.errors, []);
    assert_eq!(value, image());
}

#[test]
fn wrong_types_are_told_in_the_words_of_a_crd() {
    let line = |path: &str, wanted: &str, found: &str| {
        vec![format!("{path}: Invalid value: {found:?}: {path} in body must be of type {wanted}: {found:?}")]
    };
    assert_eq!(wrong("/spec/detail/keywords", json!("s")), line("spec.detail.keywords", "array", "string"));
    assert_eq!(wrong("/spec/detail/keywords", json!([null])), line("spec.detail.keywords[0]", "string", "null"));
    assert_eq!(wrong("/spec/detail/actions", json!([])), line("spec.detail.actions", "object", "array"));
    assert_eq!(wrong("/spec/detail/actions/go", json!(true)), line("spec.detail.actions.go", "object", "boolean"));
    assert_eq!(wrong("/spec/detail/size", json!("5")), line("spec.detail.size", "integer", "string"));
    assert_eq!(wrong("/spec/detail/size", json!(1.5)), line("spec.detail.size", "int64", "float64"));
    assert_eq!(wrong("/spec/detail/size", json!(u64::MAX)), line("spec.detail.size", "int64", "float64"));
    assert_eq!(wrong("/spec/detail/size", json!(1e300)), line("spec.detail.size", "int64", "float64"));
    assert_eq!(wrong("/spec/detail/creatTime", json!("zz")), line("spec.detail.creatTime", "date-time", "zz"));
    assert_eq!(wrong("/spec", json!([])), line("spec", "object", "array"));
    assert_eq!(wrong("/metadata", json!(7)), line("metadata", "object", "integer"));
    assert_eq!(wrong("/metadata/labels/x", json!(1)), line("metadata.labels.x", "string", "integer"));
    assert_eq!(conform(Kind::Image, &mut json!([])).errors.len(), 1);
}

#[test]
fn an_enum_names_its_values_and_a_required_field_is_missed() {
    let mut pack = json!({ "spec": { "type": "x", "names": "s" } });
    let errors: Vec<String> = conform(Kind::DataPack, &mut pack).errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "spec.names: Invalid value: \"string\": spec.names in body must be of type array: \"string\"",
            "spec.type: Unsupported value: \"x\": supported values: \"base\", \"detail\", \"grid\"",
        ]
    );
    assert_eq!(wrong("/spec/name", Value::Null), ["spec.name: Required value"]);
    assert_eq!(wrong("/spec", Value::Null), ["spec: Required value"]);
    assert_eq!(
        wrong("/metadata/ownerReferences/0", json!({ "apiVersion": "v1", "kind": "K", "name": "n" })),
        ["metadata.ownerReferences[0].uid: Required value: must not be empty"]
    );
    assert_eq!(conform(Kind::DataPack, &mut json!({})).errors, []);
    assert!(into_object(Kind::DataPack, json!({})).is_ok());
}

#[test]
fn nulls_are_absent_and_whole_floats_are_integers() {
    let mut value = with("/spec/detail/size", json!(1e3));
    value["spec"]["detail"]["description"] = Value::Null;
    value["metadata"]["labels"]["gone"] = Value::Null;
    assert_eq!(conform(Kind::Image, &mut value), Conformed::default());
    let mut expected = image();
    expected["spec"]["detail"]["size"] = json!(1000);
    assert_eq!(value, expected);
    assert!(wrong("/spec/detail/size", json!(i64::MIN)).is_empty());
}

#[test]
fn times_are_rfc_3339_and_nothing_else() {
    for good in ["1970-01-01T00:00:00Z", "2024-02-29T23:59:59.999999999-11:30"] {
        assert!(wrong("/spec/detail/creatTime", json!(good)).is_empty(), "{good}");
    }
    for bad in [
        "",
        "2024-01-02",
        "2024-01-02 03:04:05Z",
        "2024-01-02t03:04:05Z",
        "2024-01-02T03:04:05",
        "2024-01-02T03:04:05.Z",
        "2024-13-02T03:04:05Z",
        "2023-02-29T03:04:05Z",
        "2024-01-02T03:04:05+0100",
        "2024-01-02T03:04:05Zé",
        "é",
    ] {
        assert_eq!(wrong("/spec/detail/creatTime", json!(bad)).len(), 1, "{bad}");
        assert_eq!(wrong("/metadata/creationTimestamp", json!(bad)).len(), 1, "{bad}");
    }
}

#[test]
fn what_is_wrong_in_status_is_told_apart() {
    let mut pack = json!({ "spec": {}, "status": { "codes": "x", "datas": { "a/b:c": { "size": "big" } } } });
    let found = conform(Kind::DataPack, &mut pack);
    assert_eq!(found.errors, []);
    assert_eq!(found.status_errors.len(), 2);
    let (_, status) = into_object(Kind::DataPack, pack).expect("status is not looked at");
    assert_eq!(status.expect("it is handed back")["codes"], "x");
}

#[test]
fn another_version_or_kind_is_refused_and_an_absent_one_is_ours() {
    let refused = |field: &str, value: Value| {
        let mut body = image();
        body[field] = value;
        let error = into_object(Kind::Image, body).expect_err("it is refused");
        (error.code(), error.to_string())
    };
    assert_eq!(
        refused("apiVersion", json!("v2")),
        (
            400,
            "the API version in the data (v2) does not match the expected API version (imagehub.sealos.io/v1)"
                .to_owned()
        )
    );
    assert_eq!(
        refused("kind", json!("Foo")),
        (422, "Image.imagehub.sealos.io \"a.b.c\" is invalid: kind: Invalid value: \"Foo\": must be Image".to_owned())
    );
    assert_eq!(refused("kind", json!(1)).0, 400);
    assert_eq!(refused("apiVersion", json!([])).0, 400);
    assert_eq!(into_object(Kind::Image, json!([])).expect_err("no object").code(), 400);
    assert!(into_object(Kind::Image, json!({ "spec": { "name": "a/b:c" } })).is_ok());
}

#[test]
fn field_validation_decides_what_becomes_of_unknown_fields() {
    let (unknown, duplicates) = (["top".to_owned(), "spec.foo".to_owned()], ["spec.name".to_owned()]);
    let outcome = |v| unknown_fields_outcome(Kind::Image, v, &unknown, &duplicates);
    assert_eq!(outcome(FieldValidation::Ignore).expect("ignored"), [""; 0]);
    assert_eq!(
        outcome(FieldValidation::Warn).expect("warned"),
        ["duplicate field \"spec.name\"", "unknown field \"spec.foo\"", "unknown field \"top\""]
    );
    assert_eq!(
        outcome(FieldValidation::Strict).expect_err("refused").to_string(),
        "Image in version \"v1\" cannot be handled as a Image: strict decoding error: duplicate field \"spec.name\", \
         unknown field \"spec.foo\", unknown field \"top\""
    );
    assert!(unknown_fields_outcome(Kind::Image, FieldValidation::Strict, &[], &[]).is_ok());
    let many = vec!["x".repeat(200); MAX_REPORTED];
    let told = unknown_fields_outcome(Kind::Image, FieldValidation::Warn, &many, &[]).expect("warned");
    assert!(told.iter().map(String::len).sum::<usize>() <= MAX_WARNING_TEXT);
}

#[test]
fn the_field_validation_parameter_is_read_as_kube_reads_it() {
    assert_eq!(FieldValidation::parse(None), Ok(FieldValidation::Warn));
    assert_eq!(FieldValidation::parse(Some("")), Ok(FieldValidation::Warn));
    assert_eq!(FieldValidation::parse(Some("Strict")), Ok(FieldValidation::Strict));
    assert_eq!(
        FieldValidation::parse(Some("Foo")).expect_err("refused").to_string(),
        "fieldValidation: Unsupported value: \"Foo\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
    );
}

#[test]
fn duplicate_fields_are_told_with_their_paths_and_the_last_one_counts() {
    let json = br#"{"metadata":{"labels":{"a":"b","a":"c","a":"d"}},
        "spec":{"name":"x","names":[{"y":1},{"y":1,"y":2}],"name":"z"}}"#;
    let (value, duplicates) = parse_json(json).expect("it is JSON");
    assert_eq!(duplicates, ["metadata.labels.a", "spec.names[1].y", "spec.name"]);
    assert_eq!(value, json!({"metadata":{"labels":{"a":"d"}},"spec":{"name":"z","names":[{"y":1},{"y":2}]}}));
    assert_eq!(parse_yaml(json).expect("JSON is YAML"), (value, duplicates));
}

#[test]
fn bad_json_is_refused_with_the_place() {
    for (bad, why) in [
        ("", "it is empty"),
        ("  \n", "it is empty"),
        ("{", "EOF while parsing an object at line 1 column 1"),
        ("{} x", "trailing characters at line 1 column 4"),
        ("{'a':1}", "key must be a string"),
        ("[1,]", "trailing comma"),
        ("NaN", "expected value"),
        ("1e999", "number out of range"),
        ("\u{feff}{}", "byte order mark"),
        ("\"\\ud800\"", "hex escape"),
        ("{}\0", "trailing characters"),
    ] {
        let error = parse_json(bad.as_bytes()).expect_err(bad).to_string();
        assert!(error.starts_with("the body is not valid JSON: ") && error.contains(why), "{bad}: {error}");
    }
    assert!(parse_json(b"\"\xff\"").is_err());
}

#[test]
fn deep_and_wide_documents_are_refused() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    for parse in [parse_json, parse_yaml] {
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        for depth in [MAX_DEPTH + 1, 200, 100_000] {
            parse(nested(depth).as_bytes()).expect_err("too deep");
            parse("[".repeat(depth).as_bytes()).expect_err("too deep");
            parse("{\"a\":".repeat(depth).as_bytes()).expect_err("too deep");
        }
        parse(format!("[{}1]", "1,".repeat(MAX_NODES)).as_bytes()).expect_err("too wide");
    }
    let error = parse_yaml("- ".repeat(100_000).as_bytes()).expect_err("too deep").to_string();
    assert!(error.contains("more than 64 levels deep at line 1"), "{error}");
    let error = parse_json("[".repeat(100).as_bytes()).expect_err("too deep").to_string();
    assert!(error.contains("more than 64 levels deep at line 1"), "{error}");
    parse_yaml("? ".repeat(100_000).as_bytes()).expect_err("too deep");
}

#[test]
fn yaml_scalars_are_typed_as_kube_types_them() {
    let yaml =
        "a: 1.23\nb: 5\nc: yes\nd: ~\ne: '1.23'\nf: 0755\ng: 1_000\nh: 2024-01-02\ni: |\n  x\n  y\n1: one\ntrue: t\n";
    assert_eq!(
        parse_yaml(yaml.as_bytes()).expect("it is YAML").0,
        json!({"a": 1.23, "b": 5, "c": true, "d": null, "e": "1.23", "f": "0755", "g": "1_000", "h": "2024-01-02",
            "i": "x\ny\n", "1": "one", "true": "t"})
    );
    let crlf = "\u{feff}---\r\na: b\r\nlist:\r\n- x # why\r\n...\r\n";
    assert_eq!(parse_yaml(crlf.as_bytes()).expect("it is YAML").0, json!({"a": "b", "list": ["x"]}));
    assert_eq!(
        parse_yaml(b"b: &x {k: v}\nc: *x\nd: {<<: *x, l: w}").expect("aliases are YAML").0["d"],
        json!({"k": "v", "l": "w"})
    );
}

#[test]
fn bad_yaml_is_refused_with_the_reason() {
    for (bad, why) in [
        ("a: 1\n---\nb: 2\n", "more than one document"),
        ("a: \0", "NUL at byte 3"),
        ("a:\n\tb: 1", "tab"),
        ("a: [1", ""),
        ("a: !foo x", "tag"),
        ("a: .nan", ""),
        ("a: *nowhere", ""),
        ("? [a]\n: b", ""),
    ] {
        let error = parse_yaml(bad.as_bytes()).expect_err(bad).to_string();
        assert!(error.starts_with("the body is not valid YAML: "), "{bad}: {error}");
        assert!(error.to_lowercase().contains(&why.to_lowercase()), "{bad}: {error}");
        assert!(!error.contains("from_str"), "{bad}: {error}");
    }
    let error = parse_yaml(b"a: \xff").expect_err("not UTF-8").to_string();
    assert!(error.contains("must be UTF-8"), "{error}");
    assert!(parse_yaml(b"\xff\xfea\0").is_err());
}

#[test]
fn yaml_bombs_do_not_go_off() {
    let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for i in 1..12 {
        let line = format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", "));
        laughs.push_str(&line);
    }
    parse_yaml(laughs.as_bytes()).expect_err("too many values");
    let often = format!("a: &a x\nb: [{}]\n", vec!["*a"; 900].join(", "));
    assert!(parse_yaml(often.as_bytes()).is_ok());
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 900].join(", "));
    parse_yaml(long.as_bytes()).expect_err("too much text");
    let merges = format!("a: &a {{{}}}\nb: [{}]", "k: v, ".repeat(1000), vec!["{<<: *a}"; 900].join(", "));
    parse_yaml(merges.as_bytes()).expect_err("too many values");
}

#[test]
fn a_number_where_a_string_is_wanted_in_yaml_hints_at_quotes() {
    let (mut value, _) = parse_yaml(b"spec: {name: 1.23, detail: {keywords: x}}").expect("it is YAML");
    let errors: Vec<String> =
        conform(Kind::Image, &mut value).for_yaml().errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "spec.detail.keywords: Invalid value: \"string\": spec.detail.keywords in body must be of type array: \
             \"string\"",
            "spec.name: Invalid value: \"number\": spec.name in body must be of type string: \"number\" \
             (YAML reads it so; put it in quotes to make it a string)",
        ]
    );
}

#[test]
fn what_is_told_is_bounded_however_much_is_wrong() {
    let names: Vec<Value> = (0..10_000).map(|n| json!(n)).collect();
    let mut value = json!({ "spec": { "names": names, "y".repeat(100_000): 1, "type": "x".repeat(100_000) } });
    for n in 0..10_000 {
        value["spec"][format!("x{n}")] = json!(n);
    }
    let found = conform(Kind::DataPack, &mut value);
    assert_eq!((found.unknown.len(), found.errors.len()), (MAX_REPORTED, MAX_REPORTED));
    assert!(found.unknown.iter().all(|path| path.len() < 2 * MAX_SHOWN));
    assert!(found.errors.iter().all(|error| error.message.len() < 4 * MAX_SHOWN));
    assert_eq!(value["spec"].as_object().expect("an object").len(), 2);
}

fn any_json() -> impl Strategy<Value = Value> {
    let keys = prop_oneof![
        2 => "[a-zé.]{0,3}",
        3 => prop::sample::select(vec![
            "apiVersion", "kind", "metadata", "spec", "status", "name", "names", "detail", "keywords", "size",
            "creatTime",
            "actions", "type", "labels", "ownerReferences", "managedFields", "fieldsV1", "uid", "codes", "datas",
        ]).prop_map(str::to_owned),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        prop::sample::select(vec!["Image", "imagehub.sealos.io/v1", "base", "2024-01-02T03:04:05Z"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(keys.clone(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A right object with something at a random place in it.
fn mutated() -> impl Strategy<Value = Value> {
    fn places(value: &Value, at: &str, out: &mut Vec<String>) {
        out.push(at.to_owned());
        match value {
            Value::Object(fields) => fields.iter().for_each(|(k, v)| places(v, &format!("{at}/{k}"), out)),
            Value::Array(items) => items.iter().enumerate().for_each(|(i, v)| places(v, &format!("{at}/{i}"), out)),
            _ => {}
        }
    }
    let mut all = Vec::new();
    places(&image(), "", &mut all);
    (prop::sample::select(all), any_json()).prop_map(|(at, new)| {
        let mut value = image();
        *value.pointer_mut(&at).expect("the place is there") = new;
        value
    })
}

proptest! {
    #[test]
    fn what_conforms_becomes_an_object_whatever_it_was(value in prop_oneof![any_json(), mutated()]) {
        for kind in Kind::ALL {
            let mut value = value.clone();
            if check_type(kind, &value).is_err() {
                prop_assert!(into_object(kind, value).is_err());
                continue;
            }
            let found = conform(kind, &mut value);
            let again = conform(kind, &mut value);
            prop_assert_eq!(&again.unknown, &Vec::<String>::new());
            prop_assert_eq!(&again.errors, &found.errors);
            let object = into_object(kind, value);
            if found.errors.is_empty() {
                prop_assert!(object.is_ok(), "{:?}", object);
            }
        }
    }

    #[test]
    fn json_is_read_as_serde_json_reads_it(value in any_json()) {
        let bytes = serde_json::to_vec(&value).expect("it is JSON");
        let whole: Value = serde_json::from_slice(&bytes).expect("it is JSON");
        prop_assert_eq!(parse_json(&bytes).expect("it is JSON"), (whole, vec![]));
    }

    #[test]
    fn no_bytes_make_the_readers_panic(bytes in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        "[-\\[\\]{},:\\?&*!|>'\"%@`#~ \\n\\t\\ra01.<]{0,60}".prop_map(String::into_bytes),
    ]) {
        let _ = parse_json(&bytes);
        let _ = parse_yaml(&bytes);
    }
}
