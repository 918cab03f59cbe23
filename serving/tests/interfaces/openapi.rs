//! The document at `/openapi.json` describes exactly the server's routes, and its examples get the answers that it
//! describes.

use crate::common::{Running, World, small};
use serde_json::{Map, Value};

fn document(server: &Running) -> Value {
    let (status, document) = server.get("/openapi.json");
    assert_eq!(status, 200);
    document
}

fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of = |(path, item): (&String, &'_ Value)| {
        let methods: Vec<String> = item.as_object().unwrap().keys().cloned().collect();
        methods.into_iter().map(|method| (path.clone(), method)).collect::<Vec<_>>()
    };
    let with = |(path, method): (String, String)| {
        let operation = &document["paths"][&path][&method];
        (path, method, operation)
    };
    paths.iter().flat_map(of).map(with).collect()
}

/// The value that a `$ref` refers to.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(place) => document.pointer(place.trim_start_matches('#')).unwrap_or_else(|| panic!("there is no {place}")),
        None => value,
    }
}

/// The first violation of `schema` by `value`, for the keywords that the document uses.
fn wrong(document: &Value, schema: &Value, value: &Value, place: &str) -> Option<String> {
    let schema = resolve(document, schema);
    let types = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
    let is = |kind: &Value| match kind.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        other => panic!("{place}: schema of type {other:?}"),
    };
    if !types.iter().any(is) || schema["minimum"].as_f64().is_some_and(|least| value.as_f64().unwrap() < least) {
        return Some(format!("{place} is {value}, not {schema}"));
    }
    if schema["enum"].as_array().is_some_and(|known| !known.contains(value)) {
        return Some(format!("{place} is {value}, none of {}", schema["enum"]));
    }
    if let Some(items) = value.as_array() {
        return items
            .iter()
            .enumerate()
            .find_map(|(i, item)| wrong(document, &schema["items"], item, &format!("{place}[{i}]")));
    }
    let fields = value.as_object()?;
    let none = Map::new();
    let known = schema["properties"].as_object().unwrap_or(&none);
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(missing) = required.into_iter().find(|name| !fields.contains_key(*name)) {
        return Some(format!("{place} has no `{missing}`"));
    }
    fields.iter().find_map(|(name, field)| match known.get(name) {
        Some(schema) => wrong(document, schema, field, &format!("{place}.{name}")),
        None if schema["additionalProperties"] == false => Some(format!("{place}.{name} is not in the document")),
        None => None,
    })
}

/// An operation's path with its example parameters filled in, and `VERSION` replaced by the served version.
fn example_path(document: &Value, path: &str, operation: &Value, version: &str) -> String {
    let mut filled = path.to_string();
    let mut query = Vec::new();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let parameter = resolve(document, parameter);
        let example = match &parameter["example"] {
            Value::Null => continue,
            Value::String(text) => text.replace("VERSION", version),
            other => other.to_string(),
        };
        match parameter["in"].as_str().unwrap() {
            "path" => filled = filled.replace(&format!("{{{}}}", parameter["name"].as_str().unwrap()), &example),
            "query" => query.push(format!("{}={example}", parameter["name"].as_str().unwrap())),
            _ => {}
        }
    }
    if query.is_empty() { filled } else { format!("{filled}?{}", query.join("&")) }
}

#[test]
fn every_example_is_answered_as_the_document_says() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    let document = document(&server);
    let (_, model) = server.get("/v1/model");
    for (path, method, operation) in operations(&document) {
        let target = example_path(&document, &path, operation, model["model"].as_str().unwrap());
        let content = operation["requestBody"]["content"].as_object().and_then(|content| content.iter().next());
        let body = content.map_or(String::new(), |(kind, body)| match &body["example"] {
            Value::String(lines) => lines.clone(),
            json => {
                assert_eq!(kind, "application/json");
                assert_eq!(wrong(&document, &body["schema"], json, "the example"), None, "{path}");
                json.to_string()
            }
        });
        let (status, text) = server.send_text(&method.to_uppercase(), &target, &body);
        let submitted = &operation["responses"][status.to_string()];
        assert!(submitted.is_object(), "{method} {target} answers {status}, which the document does not know: {text}");
        // Without tokens, admin routes are closed.
        let expected = if operation["x-role"] == "admin" { 401 } else { 200 };
        assert_eq!(status, expected, "{method} {target}: {text}");
        let submitted = resolve(&document, submitted);
        let schema = &submitted["content"]["application/json"]["schema"];
        if !schema.is_null() {
            let answer = serde_json::from_str(&text).unwrap();
            assert_eq!(wrong(&document, schema, &answer, "the answer"), None, "{method} {target}");
        }
    }
}

#[test]
fn every_route_of_the_document_is_there_and_takes_no_other_method() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    let document = document(&server);
    for (path, method, operation) in operations(&document) {
        let open = operation["security"].as_array().unwrap().is_empty();
        assert_eq!(open, operation["x-role"].is_null(), "{path}");
        let other = if method == "get" { "POST" } else { "GET" };
        let (status, text) = server.send_text(other, &example_path(&document, &path, operation, "x"), "");
        let expected = if operation["x-role"] == "admin" { 401 } else { 405 };
        assert_eq!(status, expected, "{other} {path}: {text}");
    }
}
