//! The service ends while it is at work.

use std::time::Duration;

use serde_json::json;
use support::fake_ollama::Model;
use tokio::time::timeout;

use crate::{
    harness::{MODEL, PATIENCE, Raw, Store, both_stores},
    turn::{answer, prompt, service, service_with},
};

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
