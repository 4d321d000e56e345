//! The database goes away and comes back, while answers are being streamed.

use std::time::Duration;

use serde_json::json;
use support::fake_ollama::Model;
use tokio::time::{Instant, timeout};

use crate::{
    harness::{Call, MODEL, PASSWORD, PATIENCE, Session, Store, TestApp, until},
    turn::{answer, options, prompt},
};

/// How long any call of the database may take here.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// What is on the disk for the database is tried again every second, and each try may take a call's time.
const WRITTEN_WITHIN: Duration = Duration::from_secs(5);

const TOKENS: u64 = 60;

/// More than a stop takes that waits for no database, and less than the grace.
const AT_REST: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Packets vanish: nothing answers, nothing is refused.
    Frozen,
    /// Connections end, and new ones are refused.
    Cut,
}

impl Fault {
    async fn happens(self, app: &TestApp) {
        match self {
            Self::Frozen => app.postgres_proxy().freeze(),
            Self::Cut => app.postgres_proxy().cut().await,
        }
    }
}

/// A service whose answers take a second and a half.
async fn service() -> (TestApp, Session) {
    let model = Model::new(MODEL).tokens(TOKENS).tokens_per_s(40.0);
    let options = options(Store::Postgres, [model]).postgres_through_a_proxy().tune(|config| {
        (config.system.db.call_timeout, config.system.db.acquire_timeout) = (CALL_TIMEOUT, CALL_TIMEOUT / 2);
    });
    let app = TestApp::start(options).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    (app, ada)
}

fn log_in(app: &TestApp) -> Call {
    app.post("/v1/auth/login", &json!({ "email": "ada@example.org", "password": PASSWORD }))
}

/// The answer goes on, its end says that it is stored, on the disk, and the database has it when it is back.
async fn streams_through(fault: Fault) {
    let (app, ada) = service().await;
    let mut events = app.ask(&ada, &prompt(MODEL, "go on")).await;
    events.until("chunk").await;
    fault.happens(&app).await;
    let refused = log_in(&app).send().await.expect_error(503, "overloaded");
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    app.get("/v1/conversations").bearer(&ada.access).send().await.expect_error(503, "overloaded");
    app.chat(&ada, &prompt(MODEL, "not now")).send().await.expect_error(503, "overloaded");
    app.get("/healthz").send().await.expect_status(200);

    let done = events.last().await;
    assert_eq!([&json!(done.event), &done.data["stored"]], [&json!("done"), &json!(true)], "{fault:?}");
    assert_eq!(events.text(), answer("go on", TOKENS), "{fault:?}");

    app.postgres_proxy().heal().await.unwrap();
    let healed = Instant::now();
    let recovered = async || log_in(&app).send().await.status == 200;
    until("the service to recover", recovered).await;
    let conversation = events.start()["conversation_id"].clone();
    let mut kept = serde_json::Value::Null;
    until("the answer to be written after all", async || {
        let path = format!("/v1/conversations/{}", conversation.as_str().unwrap());
        let reply = app.get(&path).bearer(&ada.access).send().await;
        kept = if reply.status == 200 { reply.json()["messages"][1].clone() } else { kept.clone() };
        kept["status"] == "complete"
    })
    .await;
    assert!(healed.elapsed() < WRITTEN_WITHIN, "written {:?} after the healing", healed.elapsed());
    assert_eq!(kept["content"], answer("go on", TOKENS), "{fault:?}");
    app.chat(&ada, &prompt(MODEL, "and again")).send().await.expect_status(200);
    app.finish().await;
}

#[tokio::test]
async fn e04_a_frozen_database_stops_no_stream_and_gets_its_answer_when_it_thaws() {
    streams_through(Fault::Frozen).await;
}

#[tokio::test]
async fn e04_a_database_that_is_gone_stops_no_stream_and_gets_its_answer_when_it_is_back() {
    streams_through(Fault::Cut).await;
}

/// A short outage is not noticed: the end waits for it.
#[tokio::test]
async fn connections_cut_once_mid_stream_cost_nothing() {
    let (app, ada) = service().await;
    let mut events = app.ask(&ada, &prompt(MODEL, "hold on")).await;
    events.until("chunk").await;
    app.postgres_proxy().cut_connections();
    let done = events.last().await;
    assert_eq!([&json!(done.event), &done.data["stored"]], [&json!("done"), &json!(true)]);
    let kept = app.settled(&ada, &events.start()["conversation_id"]).await;
    assert_eq!([&kept["status"], &kept["content"]], [&json!("complete"), &json!(answer("hold on", TOKENS))]);
    log_in(&app).send().await.expect_status(200);
    app.finish().await;
}

#[tokio::test]
async fn d07_a_database_that_is_away_holds_up_no_stop_that_has_nothing_to_store() {
    for fault in [Fault::Frozen, Fault::Cut] {
        let (mut app, ada) = service().await;
        app.chat(&ada, &prompt(MODEL, "hello")).send().await.expect_status(200);
        app.quiet().await;
        // So that only the stop itself can be short.
        app.restart(|config| config.http.drain_grace = PATIENCE).await;
        fault.happens(&app).await;
        timeout(AT_REST, app.stop()).await.expect("nobody waits for the database");
        app.postgres_proxy().heal().await.unwrap();
        app.finish().await;
    }
}
