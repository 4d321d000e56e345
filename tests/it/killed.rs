//! Actors killed on purpose: what it costs, whom, and what the log says of it.

use std::time::Duration;

use serde_json::{Value, json};
use support::fake_ollama::Model;
use tokio::time::Instant;
use tracing::Level;

use crate::{
    harness::{Call, MODEL, PASSWORD, PATIENCE, Store, TestApp, both_stores, until},
    logs::Logs,
    turn::{Actors, answer, options, prompt, service, unstored},
};

const OTHER: &str = "llama3.2:latest";
const WORKER: &str = "models_sup/qwen3:8b/worker-0";

/// The longest a leaf that fell once may be away: its first backoff, and a busy machine.
const BACK_WITHIN: Duration = Duration::from_secs(2);

/// Two models whose answers no test sees the end of.
fn endless() -> [Model; 2] {
    [MODEL, OTHER].map(|name| Model::new(name).tokens(100_000).tokens_per_s(100.0))
}

/// One line says who, why and what follows. Who is only stopped because it leans on the dead has a quieter one.
fn assert_told_once(logs: &Logs, path: &str) {
    let exits = logs.exits_of(path);
    let deaths: Vec<_> = exits.iter().filter(|line| line.level == Level::ERROR).collect();
    assert_eq!(deaths.len(), 1, "{path}: {exits:#?}");
    assert_eq!([deaths[0].field("cause"), deaths[0].field("decision")], ["killed", "restart"], "{path}");
}

/// Asks until it is answered: at once, or after refusals that say when to come back.
async fn answered(path: &str, ask: impl Fn() -> Call) {
    let give_up = Instant::now() + BACK_WITHIN;
    loop {
        let reply = ask().send().await;
        if reply.status == 200 {
            return;
        }
        let refused = reply.expect_error(503, "overloaded");
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!(wait >= 1, "{path}: {refused:?}");
        assert!(Instant::now() < give_up, "{path} is not back after {BACK_WITHIN:?}");
    }
}

/// Waits until a message is on its way through the gate of this name.
async fn gate_in_use(app: &TestApp, name: &str) {
    let is_it = |gate: &Value| gate["name"] == name && gate["in_use"] != 0;
    until("a message in the gate", async || {
        app.actors().await["gates"].as_array().unwrap().iter().any(is_it)
    })
    .await;
}

both_stores! {
    async fn a_worker_killed_mid_stream_costs_its_own_client_one_error_and_nobody_else_anything(store) {
        let logs = Logs::listen();
        let app = service(store, endless()).await;
        let actors = Actors::of(&app).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let bob = app.sign_up_and_in("bob@example.org").await;
        let mut hit = app.ask(&ada, &prompt(MODEL, "unlucky")).await;
        let mut spared = app.ask(&bob, &prompt(OTHER, "lucky")).await;
        hit.until("chunk").await;
        spared.until("chunk").await;

        actors.kill(WORKER).await;
        assert_eq!(hit.failure().await, "internal");
        let text = hit.text();
        assert!(!text.is_empty() && answer("unlucky", 10_000).starts_with(&text), "{text:?}");
        assert_eq!(hit.frames.last().unwrap().id, text.len().to_string());
        let message = app.settled(&ada, &hit.start()["conversation_id"]).await;
        assert_eq!([&message["status"], &message["content"]], [&json!("interrupted"), &json!(text)]);
        let fake = app.ollama.control();
        fake.wait_until(|counters| counters.models[MODEL].in_flight == 0, PATIENCE).await.unwrap();

        // Asked at once: the turn waits in the queue until the next worker comes.
        fake.change_model(MODEL, |model| model.tokens = 5);
        let next = app.chat(&ada, &prompt(MODEL, "again")).send().await.expect_status(200);
        assert_eq!(next.json()["message"]["content"], answer("again", 5));
        assert_told_once(&logs, WORKER);
        spared.until("chunk").await;
        drop(spared);
        app.finish().await;
    }

    async fn a_turn_that_ends_while_its_writer_is_dead_is_stored_when_the_next_one_comes(store) {
        let app = service(store, [Model::new(MODEL).tokens(20).tokens_per_s(40.0)]).await;
        let actors = Actors::of(&app).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let mut events = app.ask(&ada, &prompt(MODEL, "almost there")).await;
        while events.text().len() < answer("almost there", 18).len() {
            events.until("chunk").await;
        }
        let writers = if store == Store::Sqlite { 1 } else { 4 };
        for writer in 0..writers {
            actors.kill(&format!("db_sup/writer-{writer}")).await;
        }
        let done = events.last().await;
        assert_eq!([&json!(done.event), &done.data["stored"]], [&json!("done"), &json!(true)]);
        let message = app.settled(&ada, &events.start()["conversation_id"]).await;
        let whole = answer("almost there", 20);
        assert_eq!([&message["status"], &message["content"]], [&json!("complete"), &json!(whole)]);
        app.finish().await;
    }
}

/// Everything but model workers, each with calls that need it. One stream lives through all of it.
#[tokio::test]
async fn any_other_actor_killed_costs_at_most_a_503_and_no_stream() {
    let logs = Logs::listen();
    let app = service(Store::Sqlite, endless()).await;
    let actors = Actors::of(&app).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let credentials = json!({ "email": ada.email, "password": PASSWORD });
    let mut stream = app.ask(&ada, &prompt(OTHER, "goes on")).await;
    stream.until("chunk").await;

    app.ollama.control().change_model(MODEL, |model| model.tokens = 2);
    let chat = unstored(MODEL, "short");
    let shards: Vec<String> = (0..16).map(|shard| format!("limits_sup/shard-{shard}")).collect();
    let rooms = [
        "auth_sup/session_cache",
        "auth_sup/auth_actor",
        "auth_sup/key_set",
        "auth_sup/purge",
        "models_sup/router",
        "models_sup/leases",
        "relay/cancels",
        "limits_sup/leases",
        "db_sup/store",
        "db_sup/writer-0",
        "db_sup/readers",
        "db_sup/spill",
        "password/password_actor",
        "upkeep_sup/index",
        "upkeep_sup/purge",
        "ops/actor",
    ];
    let all: Vec<&str> = rooms.into_iter().chain(shards.iter().map(String::as_str)).collect();
    for path in &all {
        actors.kill(path).await;
        answered(path, || app.get("/v1/conversations").bearer(&ada.access)).await;
        answered(path, || app.get("/v1/auth/me").bearer(&ada.access)).await;
        answered(path, || app.chat(&ada, &chat)).await;
        answered(path, || app.post("/v1/auth/login", &credentials)).await;
        answered(path, || Call::new(app.ops_addr(), "GET", "/actors")).await;
        stream.until("chunk").await;
        actors.back(path).await;
        assert_told_once(&logs, path);
    }
    let complaints: Vec<_> = logs.lines().into_iter().filter(|line| line.level <= Level::WARN).collect();
    assert_eq!(complaints.len(), all.len(), "one line for each exit and none else: {complaints:#?}");

    let conversation = stream.start()["conversation_id"].clone();
    drop(stream);
    assert_eq!(app.settled(&ada, &conversation).await["status"], "cancelled");
    app.finish().await;
}

/// Calls that are with the dead when they die. A frozen database keeps them there.
#[tokio::test]
async fn calls_in_the_hands_of_a_killed_actor_get_a_503_at_once() {
    for path in ["db_sup/readers", "auth_sup/auth_actor"] {
        let app = TestApp::start(options(Store::Postgres, endless()).postgres_through_a_proxy()).await;
        let actors = Actors::of(&app).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        // What is not remembered has to be looked up.
        actors.kill("auth_sup/session_cache").await;
        actors.back("auth_sup/session_cache").await;
        actors.back("auth_sup/auth_actor").await;
        app.postgres_proxy().freeze();
        let me = || app.get("/v1/auth/me").bearer(&ada.access);
        let call = async { (me().send().await, Instant::now()) };
        let killed = async {
            gate_in_use(&app, "auth").await;
            actors.kill(path).await;
            Instant::now()
        };
        let ((reply, answered_at), killed_at) = tokio::join!(call, killed);
        reply.expect_error(503, "overloaded");
        let took = answered_at.saturating_duration_since(killed_at);
        assert!(took < Duration::from_secs(1), "{path}: {took:?}");
        app.postgres_proxy().heal().await.unwrap();
        until("the service to recover", async || me().send().await.status == 200).await;
        app.finish().await;
    }
}

/// A change that may not run twice: its outcome is unknown, and its caller hears so.
#[tokio::test]
async fn a_change_in_the_hands_of_a_killed_writer_is_a_503_at_once_and_no_turn_is_left_open() {
    let app = TestApp::start(options(Store::Postgres, endless()).postgres_through_a_proxy()).await;
    let actors = Actors::of(&app).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    app.postgres_proxy().freeze();
    let call = async { (app.chat(&ada, &prompt(MODEL, "hello")).send().await, Instant::now()) };
    let killed = async {
        gate_in_use(&app, "db_write").await;
        for writer in 0..4 {
            actors.kill(&format!("db_sup/writer-{writer}")).await;
        }
        Instant::now()
    };
    let ((reply, answered_at), killed_at) = tokio::join!(call, killed);
    reply.expect_error(503, "overloaded");
    let took = answered_at.saturating_duration_since(killed_at);
    assert!(took < Duration::from_secs(1), "{took:?}");
    app.postgres_proxy().heal().await.unwrap();
    app.ollama.control().change_model(MODEL, |model| model.tokens = 2);
    let again = || app.chat(&ada, &prompt(MODEL, "hello again")).send();
    until("the service to recover", async || again().await.status == 200).await;
    // Asserts that no turn streams, whatever became of the one without an answer.
    app.finish().await;
}

#[tokio::test]
async fn d08_a_model_whose_worker_falls_too_often_is_refused_at_once_and_the_others_are_not() {
    let app = service(Store::Sqlite, endless()).await;
    let actors = Actors::of(&app).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    app.ollama.control().change_model(OTHER, |model| model.tokens = 2);
    for _ in 0..6 {
        actors.back(WORKER).await;
        actors.kill(WORKER).await;
    }
    let ask = |model| app.chat(&ada, &unstored(model, "hello")).send();
    until("the model to be degraded", async || {
        app.get("/v1/models/qwen3:8b").bearer(&ada.access).send().await.json()["state"] == "degraded"
    })
    .await;
    ask(MODEL).await.expect_error(503, "overloaded");
    ask(OTHER).await.expect_status(200);
    app.finish().await;
}

/// A single reader of the pool: the others answer meanwhile.
#[tokio::test]
async fn one_killed_reader_is_replaced_without_anybody_noticing() {
    let app = service(Store::Sqlite, endless()).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let readers = Actors::of(&app).await.at("db_sup/readers");
    let before = readers.get_children();
    assert_eq!(before.len(), 4);
    before[0].kill_and_wait(Some(PATIENCE)).await.unwrap();
    for _ in 0..8 {
        app.get("/v1/conversations").bearer(&ada.access).send().await.expect_status(200);
    }
    let is_new = |reader: &ractor::ActorCell| reader.get_id() != before[0].get_id();
    until("the reader to be replaced", async || {
        readers.get_children().iter().filter(|r| is_new(r)).count() == 4
    })
    .await;
    app.finish().await;
}
