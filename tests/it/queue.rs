//! The fair queue as callers meet it.

use futures_util::future::join_all;
use support::fake_ollama::Model;

use crate::{
    harness::{Call, MODEL, Session, Store, TestApp, both_stores},
    turn::{Streamed, prompt, service, service_with, unstored},
};

/// A model whose turns take a twentieth of a second, one at a time.
fn model() -> Model {
    Model::new(MODEL).tokens(2).tokens_per_s(40.0)
}

fn endless() -> Model {
    Model::new(MODEL).tokens(100_000).tokens_per_s(100.0)
}

/// Fills the one slot for as long as the stream is kept.
async fn occupy(app: &TestApp, session: &Session) -> Streamed {
    let mut running = app.ask(session, &unstored(MODEL, "in the slot")).await;
    running.until("chunk").await;
    running
}

both_stores! {
    async fn somebody_who_asks_little_is_served_between_the_turns_of_somebody_who_asks_much(store) {
        let app = service(store, [model()]).await;
        let (ada, bob) = (app.sign_up_and_in("ada@example.org").await, app.sign_up_and_in("bob@example.org").await);
        app.ollama.control().change_model(MODEL, |model| model.tokens = 100_000);
        let running = occupy(&app, &ada).await;
        app.ollama.control().change_model(MODEL, |model| model.tokens = 2);
        let mut waiting = Vec::new();
        for turn in 0..20 {
            waiting.push(app.ask(&ada, &unstored(MODEL, &format!("ada {turn}"))).await);
        }
        for turn in 0..5 {
            waiting.push(app.ask(&bob, &unstored(MODEL, &format!("bob {turn}"))).await);
        }
        let ahead = app.prompts().len();
        drop(running);
        for end in join_all(waiting.iter_mut().map(Streamed::last)).await {
            assert_eq!(end.event, "done");
        }
        let served = app.prompts().split_off(ahead);
        let places: Vec<usize> = (0..served.len()).filter(|place| served[*place].starts_with("bob")).collect();
        assert_eq!(places.len(), 5, "{served:?}");
        for (turn, place) in places.into_iter().enumerate() {
            assert!(place < 2 * (turn + 1), "bob's turn {turn} was number {place} of {served:?}");
        }
        app.finish().await;
    }
}

#[tokio::test]
async fn whoever_waits_is_told_its_position_and_every_change_of_it() {
    let app = service(Store::Sqlite, [model()]).await;
    let (ada, bob) =
        (app.sign_up_and_in("ada@example.org").await, app.sign_up_and_in("bob@example.org").await);
    app.ollama.control().change_model(MODEL, |model| model.tokens = 100_000);
    let running = occupy(&app, &ada).await;
    app.ollama.control().change_model(MODEL, |model| model.tokens = 2);
    let mut first = app.ask(&ada, &prompt(MODEL, "first")).await;
    let mut second = app.ask(&ada, &prompt(MODEL, "second")).await;
    let mut third = app.ask(&bob, &prompt(MODEL, "third")).await;
    for (events, position) in [(&mut first, 1), (&mut second, 2), (&mut third, 1)] {
        let told = events.until("queue").await;
        assert_eq!((&told.data["position"], &told.data["state"]), (&position.into(), &"waiting".into()));
    }
    drop(running);
    join_all([&mut first, &mut second, &mut third].map(Streamed::last)).await;
    for events in [&first, &second, &third] {
        let queue: Vec<_> = events.frames.iter().filter(|frame| frame.event == "queue").collect();
        assert!(
            queue.iter().all(|frame| frame.data["turn_id"] == events.start()["turn_id"] && frame.id == "0")
        );
        let places: Vec<u64> = queue.iter().map(|frame| frame.data["position"].as_u64().unwrap()).collect();
        assert_eq!(places.last(), Some(&1), "{places:?}");
        assert!(places.windows(2).all(|pair| pair[0] != pair[1]), "a place that did not change: {places:?}");
    }
    app.finish().await;
}

#[tokio::test]
async fn one_user_may_fill_only_its_share_of_the_queue() {
    let app = service_with(Store::Sqlite, [endless()], |config| {
        config.system.model.queue_per_user = 3;
    })
    .await;
    let (ada, bob) =
        (app.sign_up_and_in("ada@example.org").await, app.sign_up_and_in("bob@example.org").await);
    let running = occupy(&app, &ada).await;
    let mut waiting = Vec::new();
    for turn in 0..3 {
        waiting.push(app.ask(&ada, &prompt(MODEL, &format!("turn {turn}"))).await);
    }
    for path in ["/v1/chat", "/v1/chat/stream"] {
        let refused = app.post(path, &prompt(MODEL, "one too many")).bearer(&ada.access).send().await;
        let refused = refused.expect_error(429, "rate_limited");
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!(wait >= 1);
    }
    let mut other = app.ask(&bob, &prompt(MODEL, "mine")).await;
    assert_eq!(other.until("queue").await.data["position"], 1, "the others' backlog is theirs");
    assert_eq!(
        app.get("/v1/conversations").bearer(&ada.access).send().await.json()["data"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    drop((running, waiting, other));
    app.finish().await;
}

#[tokio::test]
async fn when_the_queue_is_full_the_longest_backlog_pays_and_equals_are_refused() {
    let app = service_with(Store::Sqlite, [endless()], |config| {
        (config.system.model.queue_limit, config.system.model.queue_per_user) = (4, 4);
    })
    .await;
    let (ada, bob) =
        (app.sign_up_and_in("ada@example.org").await, app.sign_up_and_in("bob@example.org").await);
    let running = occupy(&app, &ada).await;
    let mut adas = Vec::new();
    for turn in 0..4 {
        adas.push(app.ask(&ada, &prompt(MODEL, &format!("ada {turn}"))).await);
    }
    let bobs = [app.ask(&bob, &prompt(MODEL, "bob 0")).await, app.ask(&bob, &prompt(MODEL, "bob 1")).await];
    for newest in [3, 2] {
        assert_eq!(adas[newest].failure().await, "overloaded");
    }
    for user in [&ada, &bob] {
        let refused = app.chat(user, &prompt(MODEL, "no room")).send().await.expect_error(503, "overloaded");
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!(wait >= 1);
    }
    assert_eq!(app.prompts(), ["in the slot"]);
    drop((running, adas, bobs));
    app.finish().await;
}

#[tokio::test]
async fn d04_a_turn_that_waits_longer_than_its_caller_does_ends_and_frees_its_place() {
    let app = service(Store::Sqlite, [endless()]).await;
    let (ada, bob) =
        (app.sign_up_and_in("ada@example.org").await, app.sign_up_and_in("bob@example.org").await);
    let running = occupy(&app, &ada).await;
    let impatient = |call: Call| call.header("x-request-timeout", "1");
    let whole = impatient(app.chat(&bob, &unstored(MODEL, "at once"))).send();
    let streamed = async {
        let opened = impatient(app.stream(&bob, &prompt(MODEL, "as it comes"))).open().await;
        Streamed::new(opened.expect_status(200)).failure().await
    };
    let (whole, streamed) = tokio::join!(whole, streamed);
    whole.expect_error(504, "deadline_exceeded");
    assert_eq!(streamed, "deadline_exceeded");
    assert_eq!(app.queue(&bob, MODEL).await["waiting"], 0);
    let conversation = app.only_conversation(&bob).await;
    assert_eq!(app.settled(&bob, &conversation).await["status"], "cancelled");
    assert_eq!(app.prompts(), ["in the slot"]);
    drop(running);
    app.finish().await;
}
