//! A client that hangs up: its place, its slot and its request to the model server are gone at once.

use std::time::{Duration, Instant as StdInstant};

use support::fake_ollama::Model;
use tokio::time::Instant;

use crate::{
    harness::{MODEL, PATIENCE, Session, Store, TestApp, both_stores},
    turn::{answer, prompt, service, unstored, until},
};

/// How long a hang-up may go unnoticed.
const NOTICED_WITHIN: Duration = Duration::from_millis(100);

/// A model that says so little so slowly that no test sees its end.
fn slow() -> Model {
    Model::new(MODEL).tokens(100_000).tokens_per_s(100.0)
}

async fn start(store: Store, model: Model) -> (TestApp, Session) {
    let app = service(store, [model]).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    (app, ada)
}

/// The model server saw its one peer leave, soon after `left`; returns the tokens it had sent.
async fn upstream_ended(app: &TestApp, left: StdInstant) -> u64 {
    let seen =
        app.ollama.control().wait_until(|counters| counters.cancellations == 1, PATIENCE).await.unwrap();
    let took = seen.cancelled[0].at - left;
    assert!(took < NOTICED_WITHIN, "the upstream request ended after {took:?}");
    seen.cancelled[0].token_index
}

/// The slot is free: at once by our own word, and then because the next turn gets it.
async fn slot_is_free(app: &TestApp, session: &Session, left: Instant) {
    until("the slot to be free", async || app.queue(session, MODEL).await["running"] == 0).await;
    let took = left.elapsed();
    assert!(took < NOTICED_WITHIN * 2, "the slot was free after {took:?}");
    app.ollama.control().change_model(MODEL, |model| {
        (model.tokens, model.prefill, model.load) = (3, Duration::ZERO, Duration::ZERO);
    });
    app.chat(session, &unstored(MODEL, "next please")).send().await.expect_status(200);
}

both_stores! {
    async fn a_client_that_hangs_up_in_the_queue_frees_its_place_and_never_reaches_the_model(store) {
        let (app, ada) = start(store, slow()).await;
        let bob = app.sign_up_and_in("bob@example.org").await;
        let mut running = app.ask(&ada, &unstored(MODEL, "first")).await;
        running.until("chunk").await;
        let mut queued = app.ask(&bob, &prompt(MODEL, "second")).await;
        let place = queued.until("queue").await;
        assert_eq!((&place.data["position"], &place.data["state"]), (&1.into(), &"waiting".into()));
        assert_eq!(app.queue(&bob, MODEL).await["waiting"], 1);

        drop(queued);
        let left = Instant::now();
        until("the place to be free", async || app.queue(&bob, MODEL).await["waiting"] == 0).await;
        assert!(left.elapsed() < NOTICED_WITHIN, "the place was free after {:?}", left.elapsed());
        let conversation = app.only_conversation(&bob).await;
        let message = app.settled(&bob, &conversation).await;
        assert_eq!((&message["status"], &message["content"]), (&"cancelled".into(), &"".into()));

        running.until("chunk").await;
        drop(running);
        slot_is_free(&app, &ada, Instant::now()).await;
        assert_eq!(app.prompts(), ["first", "next please"]);
        app.finish().await;
    }
}

both_stores! {
    async fn a_client_that_hangs_up_during_the_load_frees_its_slot_and_leaves_the_load_running(store) {
        let (app, ada) = start(store, slow().load(Duration::from_secs(2))).await;
        let mut events = app.ask(&ada, &prompt(MODEL, "too slow")).await;
        let waiting = events.until("queue").await;
        assert_eq!(waiting.data["state"], "loading");
        app.ollama.control().wait_until(|counters| counters.in_flight == 1, PATIENCE).await.unwrap();

        drop(events);
        let left = Instant::now();
        until("the slot to be free", async || app.queue(&ada, MODEL).await["running"] == 0).await;
        assert!(left.elapsed() < NOTICED_WITHIN, "the slot was free after {:?}", left.elapsed());
        let conversation = app.only_conversation(&ada).await;
        assert_eq!(app.settled(&ada, &conversation).await["status"], "cancelled");

        // In Ollama the first waiter owns the load: ended with the turn, it would begin anew for everybody else.
        let loaded = app.ollama.control().wait_until(|counters| counters.loads == 1, PATIENCE).await.unwrap();
        assert_eq!((loaded.cancellations, loaded.chat_calls), (0, 0));
        app.ollama.control().change_model(MODEL, |model| model.tokens = 3);
        app.chat(&ada, &unstored(MODEL, "again")).send().await.expect_status(200);
        assert_eq!(app.ollama.control().counters().loads, 1);
        app.finish().await;
    }
}

both_stores! {
    async fn a_client_that_hangs_up_before_the_first_token_ends_the_upstream_request(store) {
        let (app, ada) = start(store, slow().prefill(Duration::from_secs(60))).await;
        let mut events = app.ask(&ada, &prompt(MODEL, "a long prompt")).await;
        events.until("start").await;
        app.ollama.control().wait_until(|counters| counters.running == 1, PATIENCE).await.unwrap();

        drop(events);
        let (left, left_std) = (Instant::now(), StdInstant::now());
        assert_eq!(upstream_ended(&app, left_std).await, 0);
        slot_is_free(&app, &ada, left).await;
        let conversation = app.only_conversation(&ada).await;
        let message = app.settled(&ada, &conversation).await;
        assert_eq!((&message["status"], &message["content"]), (&"cancelled".into(), &"".into()));
        app.finish().await;
    }
}

both_stores! {
    async fn a_client_that_hangs_up_mid_stream_ends_the_upstream_request_and_keeps_the_text(store) {
        let (app, ada) = start(store, slow()).await;
        let mut events = app.ask(&ada, &prompt(MODEL, "a long story")).await;
        events.until("chunk").await;
        events.until("chunk").await;
        let read = events.text();

        drop(events);
        let (left, left_std) = (Instant::now(), StdInstant::now());
        let sent = upstream_ended(&app, left_std).await;
        slot_is_free(&app, &ada, left).await;
        let conversation = app.only_conversation(&ada).await;
        let message = app.settled(&ada, &conversation).await;
        assert_eq!(message["status"], "cancelled");
        let kept = message["content"].as_str().unwrap();
        assert!(kept.starts_with(&read), "{read:?} was read, {kept:?} is kept");
        assert!(answer("a long story", sent).starts_with(kept), "{kept:?} is not what was sent");
        app.finish().await;
    }
}

#[tokio::test]
async fn a_turn_told_to_continue_runs_to_its_end_without_its_client() {
    let (app, ada) = start(Store::Sqlite, Model::new(MODEL).tokens(20).tokens_per_s(100.0)).await;
    let mut body = prompt(MODEL, "go on without me");
    body["on_disconnect"] = "continue".into();
    let mut events = app.ask(&ada, &body).await;
    events.until("chunk").await;
    drop(events);
    let conversation = app.only_conversation(&ada).await;
    let message = app.settled(&ada, &conversation).await;
    assert_eq!(message["status"], "complete");
    assert_eq!(message["content"], answer("go on without me", 20));
    assert_eq!(app.ollama.control().counters().cancellations, 0);
    app.finish().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_on_a_whole_answer_ends_it_too() {
    let (app, ada) = start(Store::Sqlite, slow()).await;
    let waiting = app.chat(&ada, &prompt(MODEL, "never mind")).send();
    let served =
        async { app.ollama.control().wait_until(|counters| counters.tokens > 2, PATIENCE).await.unwrap() };
    tokio::select! {
        reply = waiting => panic!("an answer without an end: {reply:?}"),
        _ = served => {}
    }
    let (left, left_std) = (Instant::now(), StdInstant::now());
    assert!(upstream_ended(&app, left_std).await > 0);
    slot_is_free(&app, &ada, left).await;
    app.finish().await;
}
