//! The service ends while it is at work.

use std::{net::SocketAddr, time::Duration};

use serde_json::json;
use support::fake_ollama::Model;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    harness::{Call, MODEL, PATIENCE, Raw, Reply, Store, TestApp, both_stores, until},
    logs::Logs,
    turn::{answer, options, prompt, service, service_with},
};

const OTHER: &str = "llama3.2:latest";

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";

both_stores! {
    async fn a_shutdown_tells_running_and_waiting_turns_and_keeps_their_text(store) {
        let model = Model::new(MODEL).tokens(100_000).tokens_per_s(100.0);
        let mut app = service(store, [model]).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let mut running = app.ask(&ada, &prompt(MODEL, "a long story")).await;
        running.until("chunk").await;
        let mut waiting = app.ask(&ada, &prompt(MODEL, "next in line")).await;
        waiting.until("queue").await;
        let mut idle = Raw::connect(app.addr()).await;
        idle.send(HEALTH).await;
        assert_eq!(idle.reply().await.status, 200);

        let ends = async {
            let ends = tokio::join!(running.failure(), waiting.failure());
            assert_eq!(ends, ("server_shutting_down".to_owned(), "server_shutting_down".to_owned()));
            assert_eq!(idle.until_closed().await, b"", "a connection with nothing to do is just closed");
        };
        tokio::join!(app.stop(), ends);

        let text = running.text();
        assert!(!text.is_empty() && answer("a long story", 10_000).starts_with(&text));
        let kept = app.database.texts("SELECT content FROM messages WHERE status = 'interrupted' ORDER BY id").await;
        assert_eq!(kept.len(), 2, "{kept:?}");
        assert!(kept[0].starts_with(&text), "{:?} does not hold {text:?}", kept[0]);
        assert_eq!(kept[1], "");
        let statuses = app.database.texts("SELECT status FROM turns").await;
        assert_eq!(statuses, ["interrupted", "interrupted"]);
        app.finish().await;
    }
}

/// A short answer under way is not cut: it has the grace.
#[tokio::test]
async fn a_turn_that_ends_within_the_grace_ends_as_if_nothing_happened() {
    let model = Model::new(MODEL).tokens(20).tokens_per_s(50.0);
    let mut app = service_with(Store::Sqlite, [model], |config| config.http.drain_grace = PATIENCE).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let mut events = app.ask(&ada, &prompt(MODEL, "quickly")).await;
    events.until("chunk").await;
    let ((), done) = tokio::join!(app.stop(), events.last());
    assert_eq!([&json!(done.event), &done.data["stored"]], [&json!("done"), &json!(true)]);
    assert_eq!(events.text(), answer("quickly", 20));
    app.finish().await;
}

/// A connection that has not said anything is no reason to wait.
#[tokio::test]
async fn a_silent_connection_does_not_hold_a_shutdown_up() {
    let mut app = service_with(Store::Sqlite, [], |config| config.http.drain_grace = PATIENCE).await;
    let mut silent = Raw::connect(app.addr()).await;
    app.get("/healthz").send().await.expect_status(200);
    timeout(Duration::from_secs(5), app.stop()).await.expect("nobody is waited for");
    assert_eq!(silent.until_closed().await, b"");
    app.finish().await;
}

/// Waits until load balancers are told to go elsewhere, which is when a shutdown begins.
async fn unready(addr: SocketAddr) -> Reply {
    let mut last = None;
    until("the service to be unready", async || {
        last = Some(Call::new(addr, "GET", "/readyz").send().await);
        last.as_ref().is_some_and(|reply| reply.status == 503)
    })
    .await;
    last.unwrap()
}

/// Asserts a refusal that says when to come back, on a connection's last reply.
fn assert_sent_elsewhere(reply: Reply) {
    let reply = reply.expect_error(503, "server_shutting_down");
    let wait: u64 = reply.header("retry-after").expect("when to come back").parse().unwrap();
    assert!(wait >= 1 && reply.header("connection") == Some("close"), "{reply:?}");
}

/// Load balancers send requests for a moment longer: those are served, unless they would have to wait.
#[tokio::test]
async fn d07_while_it_still_accepts_a_free_slot_serves_and_a_queue_is_a_503() {
    let endless = Model::new(MODEL).tokens(100_000).tokens_per_s(100.0);
    let mut app = service_with(Store::Sqlite, [endless, Model::new(OTHER).tokens(2)], |config| {
        (config.http.drain_accept, config.http.drain_grace) =
            (Duration::from_secs(2), Duration::from_secs(3));
    })
    .await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let addr = app.addr();
    let mut running = app.ask(&ada, &prompt(MODEL, "a long story")).await;
    running.until("chunk").await;
    let queued = app.chat(&ada, &prompt(MODEL, "next in line"));
    let late = app.chat(&ada, &prompt(MODEL, "too late"));
    let served = app.chat(&ada, &prompt(OTHER, "there is room"));
    let mut idle = Raw::connect(addr).await;
    idle.send(HEALTH).await;
    assert_eq!(idle.reply().await.header("connection"), None);

    let queued = async {
        assert_sent_elsewhere(queued.send().await);
        Instant::now()
    };
    let mut waiting = JoinSet::new();
    waiting.spawn(queued);
    until("a turn to wait", async || app.queue(&ada, MODEL).await["waiting"] == 1).await;
    let meanwhile = async {
        let reply = unready(addr).await;
        assert_eq!(reply.header("connection"), Some("close"));
        let unready_at = Instant::now();
        idle.send(HEALTH).await;
        let reply = idle.reply().await;
        assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
        assert_eq!(idle.until_closed().await, b"");
        let reply = served.send().await.expect_status(200);
        assert_eq!((reply.header("connection"), &reply.json()["stored"]), (Some("close"), &json!(true)));
        assert_sent_elsewhere(late.send().await);
        let told = waiting.join_next().await.unwrap().unwrap().saturating_duration_since(unready_at);
        assert!(told < Duration::from_secs(1), "who waits is told at once, not after {told:?}");
    };
    let ((), (), cut) = tokio::join!(app.stop(), meanwhile, running.failure());
    assert_eq!(cut, "server_shutting_down");
    app.finish().await;
}

/// Nobody watches it any more, but it was promised to be there when its client comes back.
#[tokio::test]
async fn d07_a_turn_that_runs_on_without_its_client_has_the_grace_too() {
    let model = Model::new(MODEL).tokens(40).tokens_per_s(50.0);
    let mut app = service_with(Store::Sqlite, [model], |config| config.http.drain_grace = PATIENCE).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let mut body = prompt(MODEL, "without me");
    body["on_disconnect"] = json!("continue");
    let mut events = app.ask(&ada, &body).await;
    events.until("chunk").await;
    drop(events);
    app.stop().await;
    let kept =
        app.database.texts("SELECT content FROM messages WHERE role = 'assistant' AND status = 'complete'");
    assert_eq!(kept.await, [answer("without me", 40)]);
    app.finish().await;
}

/// A service on Postgres that has an answer under way when it stops.
async fn cut_short(meddle: impl FnOnce(&TestApp)) -> (TestApp, String, Duration) {
    let model = Model::new(MODEL).tokens(100_000).tokens_per_s(100.0);
    let options = options(Store::Postgres, [model]).postgres_through_a_proxy();
    // Short, so that another process soon finds what this one left.
    let options = options.tune(|config| config.system.model.lease = Duration::from_secs(3));
    let mut app = TestApp::start(options).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let mut running = app.ask(&ada, &prompt(MODEL, "a long story")).await;
    running.until("chunk").await;
    meddle(&app);
    let began = Instant::now();
    let ((), cut) = tokio::join!(app.stop(), running.failure());
    assert_eq!(cut, "server_shutting_down");
    (app, running.text(), began.elapsed())
}

/// What a stop may take after the grace.
const AFTER_GRACE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn d07_a_turn_that_ends_last_is_stored_by_a_slow_database() {
    let logs = Logs::listen();
    let (app, text, _) = cut_short(|app| app.postgres_proxy().latency(Duration::from_millis(150))).await;
    let kept = app.database.texts("SELECT content FROM messages WHERE status = 'interrupted'").await;
    assert!(kept.len() == 1 && !text.is_empty() && kept[0].starts_with(&text), "{kept:?} {text:?}");
    let unstored =
        logs.lines().into_iter().find(|line| line.field("message").contains("could not be stored"));
    assert!(unstored.is_none(), "{unstored:?}");
    app.postgres_proxy().heal().await.unwrap();
    app.finish().await;
}

#[tokio::test]
async fn d07_a_frozen_database_does_not_hold_a_shutdown_up_and_the_next_start_stores_what_was_left() {
    let logs = Logs::listen();
    let (mut app, text, took) = cut_short(|app| app.postgres_proxy().freeze()).await;
    assert!(took < AFTER_GRACE, "the grace of a fifth of a second included: {took:?}");
    let lines = logs.lines();
    let told: Vec<_> =
        lines.iter().filter(|line| line.field("message").starts_with("the ends of turns")).collect();
    assert_eq!(told.len(), 1, "{lines:#?}");
    assert!(told[0].field("message").contains("on the disk"), "{told:?}");
    assert_eq!(told[0].field("turns"), "1");

    app.postgres_proxy().heal().await.unwrap();
    app.restart(|_| ()).await;
    app.quiet().await;
    let kept = app.database.texts("SELECT content FROM messages WHERE status = 'interrupted'").await;
    assert!(kept.len() == 1 && !text.is_empty() && kept[0].starts_with(&text), "{kept:?} {text:?}");
    app.finish().await;
}
