//! `GET /openapi.json`

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Store, TestApp};

/// The routes for clients, as the README promises them.
const ROUTES: [&str; 73] = [
    "delete /v1/admin/api-keys/{id}",
    "delete /v1/admin/invites/{id}",
    "delete /v1/admin/users/{id}",
    "delete /v1/admin/users/{id}/sessions",
    "delete /v1/api-keys/{id}",
    "delete /v1/auth/me",
    "delete /v1/auth/sessions/{id}",
    "delete /v1/conversations/{id}",
    "delete /v1/turns/{id}",
    "get /",
    "get /.well-known/jwks.json",
    "get /api/ps",
    "get /api/tags",
    "get /api/version",
    "get /docs",
    "get /health",
    "get /healthz",
    "get /openapi.json",
    "get /readyz",
    "get /v1/admin/actors",
    "get /v1/admin/audit",
    "get /v1/admin/invites",
    "get /v1/admin/signing-keys",
    "get /v1/admin/upstreams",
    "get /v1/admin/usage",
    "get /v1/admin/users",
    "get /v1/admin/users/{id}",
    "get /v1/admin/users/{id}/api-keys",
    "get /v1/admin/users/{id}/sessions",
    "get /v1/api-keys",
    "get /v1/auth/me",
    "get /v1/auth/me/export",
    "get /v1/auth/sessions",
    "get /v1/conversations",
    "get /v1/conversations/{id}",
    "get /v1/conversations/{id}/export",
    "get /v1/conversations/{id}/messages",
    "get /v1/models",
    "get /v1/models/{id}",
    "get /v1/turns",
    "get /v1/turns/{id}",
    "get /v1/turns/{id}/stream",
    "get /v1/usage",
    "patch /v1/admin/api-keys/{id}",
    "patch /v1/admin/users/{id}",
    "patch /v1/conversations/{id}",
    "post /api/chat",
    "post /api/embed",
    "post /api/embeddings",
    "post /api/generate",
    "post /api/show",
    "post /v1/admin/actors/restart",
    "post /v1/admin/invites",
    "post /v1/admin/log-filter",
    "post /v1/admin/reload",
    "post /v1/admin/signing-keys",
    "post /v1/admin/upstreams/{name}/drain",
    "post /v1/admin/upstreams/{name}/resume",
    "post /v1/api-keys",
    "post /v1/auth/login",
    "post /v1/auth/logout",
    "post /v1/auth/password",
    "post /v1/auth/refresh",
    "post /v1/auth/signup",
    "post /v1/chat",
    "post /v1/chat/completions",
    "post /v1/chat/stream",
    "post /v1/completions",
    "post /v1/conversations",
    "post /v1/embeddings",
    "post /v1/messages",
    "post /v1/messages/count_tokens",
    "post /v1/responses",
];

/// Every `$ref` within a value.
fn references<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_names_every_route_and_refers_to_nothing_that_is_missing() {
    let app = TestApp::on(Store::Sqlite).await;
    let reply = app.get("/openapi.json").send().await.expect_status(200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let document = reply.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let named: BTreeSet<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
        })
        .collect();
    assert_eq!(named.iter().map(String::as_str).collect::<Vec<_>>(), ROUTES);

    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    app.finish().await;
}

#[tokio::test]
async fn every_operation_tells_what_it_answers_and_whom() {
    let app = TestApp::on(Store::Sqlite).await;
    let document = app.get("/openapi.json").send().await.expect_status(200).json();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let answers = operation["responses"].as_object().unwrap();
            assert!(answers.keys().any(|status| status.starts_with('2')), "{method} {path}");
            let access = operation["x-access"].as_str().unwrap();
            assert_eq!(operation.get("security").is_some(), access != "public", "{method} {path}");
            assert_eq!(
                answers.contains_key("401"),
                (path.starts_with("/v1") && !path.ends_with("signup"))
                    || (path.starts_with("/api") && path != "/api/version"),
                "{path}"
            );
            let is_for_monitors = path.starts_with("/health") || path == "/readyz";
            assert_eq!(answers.contains_key("429"), !is_for_monitors, "{method} {path}");
            // Only that the process is up is said without a place and without anything that may be away.
            assert_eq!(answers.contains_key("503"), path != "/healthz", "{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn every_operation_has_a_name_of_its_own_that_programs_can_use() {
    let app = TestApp::on(Store::Sqlite).await;
    let document = app.get("/openapi.json").send().await.expect_status(200).json();
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(name.bytes().all(|byte| byte.is_ascii_alphabetic()), "{method} {path}: {name}");
            assert!(names.insert(name), "{name} twice");
        }
    }
    assert_eq!(names.len(), ROUTES.len());
    app.finish().await;
}
