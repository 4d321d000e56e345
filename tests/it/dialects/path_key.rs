//! `/k/<key>/…`: who is asking, said in front of the path. That no log, metric, trace or refusal repeats it is seen at the end of each
//! test, which looks for keys everywhere.

use serde_json::{Value, json};
use support::fake_ollama::Model;

use crate::{
    harness::{Call, MODEL, Options, Session, Store, TestApp},
    turn::{answer, options, told},
};

const EMBEDDER: &str = "nomic-embed-text";

fn models() -> [Model; 2] {
    [Model::new(MODEL).tokens(3), Model::embedding(EMBEDDER)]
}

async fn start(options: Options) -> (TestApp, Session) {
    let app = TestApp::start(options).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    (app, ada)
}

/// What Ollama's command line asks, and what belongs to it.
fn asked(app: &TestApp, prefix: &str) -> Vec<Call> {
    let get = |method: &str, path: &str| app.call(method, &format!("{prefix}{path}"));
    let post = |path: &str, body: Value| app.post(&format!("{prefix}{path}"), &body);
    let messages = json!([{ "role": "user", "content": told("hi") }]);
    vec![
        get("HEAD", "/"),
        get("GET", "/api/version"),
        get("GET", "/api/tags"),
        get("HEAD", "/api/tags"),
        get("GET", "/api/ps"),
        post("/api/show", json!({ "model": MODEL })),
        post("/api/chat", json!({ "model": MODEL, "messages": messages })),
        post("/api/generate", json!({ "model": MODEL, "prompt": told("hi"), "stream": false })),
        post("/api/embed", json!({ "model": EMBEDDER, "input": told("hi") })),
        post("/api/embeddings", json!({ "model": EMBEDDER, "prompt": told("hi") })),
    ]
}

#[tokio::test]
async fn a16_f04_a_key_in_front_opens_the_paths_of_ollama_until_it_is_revoked() {
    let (app, ada) = start(options(Store::Sqlite, models()).set("API_KEY_IN_PATH", true)).await;
    let (id, key) = app.create_key(&ada, "chat models embeddings").await;
    let prefix = format!("/k/{key}");
    for call in asked(&app, &prefix) {
        call.send().await.expect_status(200);
    }
    let body =
        json!({ "model": MODEL, "stream": false, "messages": [{ "role": "user", "content": told("hi") }] });
    let path = format!("{prefix}/api/chat");
    let reply = app.post(&path, &body).send().await.expect_status(200).json();
    assert_eq!(reply["message"]["content"], answer("hi", 3));
    app.post(&path, &body).header("x-api-key", &key).send().await.expect_status(200);
    app.post(&path, &body).bearer(&ada.access).send().await.expect_error(400, "invalid_request");
    for path in ["/v1/models", "/v1/auth/me", "/v1/chat/completions", "/healthz", "/openapi.json"] {
        app.get(&format!("{prefix}{path}")).send().await.expect_error(404, "not_found");
    }
    app.get(&format!("/k/{}/api/tags", ada.access)).send().await.expect_error(401, "unauthenticated");
    app.post(&format!("{prefix}/api/pull"), &json!({})).send().await.expect_error(404, "not_found");
    assert!(app.metrics().await.contains("route=\"/api/chat\""));

    let narrow = format!("/k/{}", app.create_key(&ada, "models").await.1);
    app.get(&format!("{narrow}/api/tags")).send().await.expect_status(200);
    app.post(&format!("{narrow}/api/chat"), &body).send().await.expect_error(403, "forbidden");

    app.call("DELETE", &format!("/v1/api-keys/{id}")).bearer(&ada.access).send().await.expect_status(204);
    app.post(&path, &body).send().await.expect_error(401, "unauthenticated");
    app.finish().await;
}

#[tokio::test]
async fn a16_unless_it_is_switched_on_a_key_in_front_leads_nowhere() {
    let (app, ada) = start(options(Store::Sqlite, models())).await;
    let (_, key) = app.create_key(&ada, "chat models embeddings").await;
    for call in asked(&app, &format!("/k/{key}")) {
        let reply = call.bearer(&key).send().await.expect_status(404);
        assert!(reply.body.is_empty() || reply.json()["error"].is_string(), "{reply:?}");
    }
    app.finish().await;
}
