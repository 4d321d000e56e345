//! `GET /v1/models`, `GET /v1/models/{id}`

use std::time::Duration;

use serde_json::{Value, json};
use support::fake_ollama::{self, FakeOllama, Model};
use tokio::time::Instant;

use crate::harness::{Options, Session, Store, TestApp, snapshot, until_found};

const SLASHED: &str = "hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M";

/// The catalogue is asked anew so often that a test can watch it.
fn watched() -> Options {
    Options::on(Store::Sqlite)
        .models([Model::new("qwen3:8b"), Model::new(SLASHED), Model::embedding("nomic-embed-text")])
        .tune(|config| config.system.model.catalogue_refresh = Duration::from_millis(50))
}

async fn list(app: &TestApp, session: &Session) -> Vec<Value> {
    let reply = app.get("/v1/models").bearer(&session.access).send().await.expect_status(200).json();
    assert_eq!((&reply["object"], &reply["next_cursor"]), (&json!("list"), &Value::Null));
    reply["data"].as_array().unwrap().clone()
}

/// Waits for a list that is so: the catalogue is refreshed on a clock of its own.
async fn until(app: &TestApp, session: &Session, met: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    until_found("a list that is so", async || {
        let models = list(app, session).await;
        if met(&models) { Ok(models) } else { Err(models) }
    })
    .await
}

fn ids(models: &[Value]) -> Vec<&str> {
    models.iter().map(|model| model["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_list_has_openais_shape_and_our_fields() {
    let app = TestApp::start(Options::on(Store::Sqlite).models([Model::new("qwen3:8b")])).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let card = r#"  "id": "qwen3:8b",
  "object": "model",
  "created": 1787210043,
  "owned_by": "deepersensor",
  "state": "available",
  "loaded": false,
  "capabilities": [
    "completion",
    "tools"
  ],
  "context_length": 40960,
  "family": "qwen3",
  "parameter_size": "8.2B",
  "quantization": "Q4_K_M",
  "size_bytes": 5225388164,
  "queue": {
    "slots": 4,
    "running": 0,
    "waiting": 0,
    "eta_ms": null
  }
}
"#;
    let head = "200\ncontent-type: application/json\nx-request-id: ‹uuid v7›\n";
    let one = app.get("/v1/models/qwen3:8b").bearer(&ada.access).send().await;
    assert_eq!(snapshot(&one), format!("{head}{{\n{card}"));
    assert_eq!(list(&app, &ada).await, [one.json()]);
    app.finish().await;
}

#[tokio::test]
async fn every_spelling_of_a_name_leads_to_its_model() {
    let app = TestApp::start(watched()).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    assert_eq!(ids(&list(&app, &ada).await).len(), 3);
    let percent = SLASHED.replace('/', "%2F").replace(':', "%3A");
    for (spelling, id) in [
        (SLASHED, SLASHED),
        (percent.as_str(), SLASHED),
        ("qwen3:8b", "qwen3:8b"),
        ("QWEN3:8B", "qwen3:8b"),
        ("library/qwen3:8b", "qwen3:8b"),
        ("nomic-embed-text", "nomic-embed-text:latest"),
    ] {
        let path = format!("/v1/models/{spelling}");
        let model = app.get(&path).bearer(&ada.access).send().await.expect_status(200).json();
        assert_eq!(model["id"], id, "{spelling}");
    }
    for spelling in ["no-such-model", "qwen3", "qwen3:9b", "a/b/c/d/e"] {
        let path = format!("/v1/models/{spelling}");
        let reply = app.get(&path).bearer(&ada.access).send().await.expect_status(404);
        assert!(["model_not_found", "not_found"].contains(&reply.json()["error"]["code"].as_str().unwrap()));
    }
    app.finish().await;
}

#[tokio::test]
async fn the_list_follows_its_server() {
    let app = TestApp::start(watched()).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    app.ollama.control().set_model(Model::new("mistral:7b"));
    app.ollama.control().remove_model(SLASHED);
    until(&app, &ada, |models| ids(models) == ["mistral:7b", "nomic-embed-text:latest", "qwen3:8b"]).await;
    app.finish().await;
}

#[tokio::test]
async fn while_its_server_is_away_the_list_is_what_was_known_and_says_so() {
    let app = TestApp::start(watched()).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let before = list(&app, &ada).await;

    app.ollama.control().close().await;
    let away = until(&app, &ada, |models| models.iter().all(|model| model["state"] == "unreachable")).await;
    assert_eq!(ids(&away), ids(&before));
    assert_eq!(away[0]["size_bytes"], before[0]["size_bytes"]);
    let one = app.get("/v1/models/qwen3:8b").bearer(&ada.access).send().await.expect_status(200).json();
    assert_eq!(one["state"], "unreachable");

    app.ollama.control().reopen().await.unwrap();
    let back = until(&app, &ada, |models| models.iter().all(|model| model["state"] == "available")).await;
    assert_eq!(back, before);
    app.finish().await;
}

#[tokio::test]
async fn a_frozen_server_makes_nobody_wait_for_the_list() {
    let app = TestApp::start(watched().ollama_through_a_proxy()).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let before = ids(&list(&app, &ada).await).len();
    app.ollama_proxy().freeze();
    for _ in 0..20 {
        let asked = Instant::now();
        assert_eq!(list(&app, &ada).await.len(), before);
        assert!(asked.elapsed() < Duration::from_secs(1), "a list took {:?}", asked.elapsed());
    }
    app.ollama_proxy().heal().await.unwrap();
    app.finish().await;
}

#[tokio::test]
async fn a_service_starts_without_its_server_and_finds_it_later() {
    let late = FakeOllama::start(fake_ollama::Config::default()).await.unwrap();
    late.control().close().await;
    let app = TestApp::start(watched().set("OLLAMA_BASE_URL", late.url())).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    assert_eq!(ids(&list(&app, &ada).await), [""; 0]);
    app.get("/v1/models/qwen3:8b").bearer(&ada.access).send().await.expect_error(404, "model_not_found");
    late.control().reopen().await.unwrap();
    until(&app, &ada, |models| ids(models) == ["qwen3:8b"]).await;
    app.finish().await;
}

#[tokio::test]
async fn a_server_that_is_away_takes_nothing_from_the_others() {
    let away = FakeOllama::start(fake_ollama::Config::with([Model::new("gemma3:4b")])).await.unwrap();
    away.control().close().await;
    let options = watched().set("OLLAMA_BASE_URL", away.url()).set("DEMO_MODEL", true);
    let app = TestApp::start(options).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let models = list(&app, &ada).await;
    assert_eq!((ids(&models), &models[0]["state"]), (vec!["deepersensor-demo:latest"], &json!("available")));
    app.finish().await;
}
