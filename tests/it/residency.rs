//! A model server that may hold one model at a time, and users who want different ones.

use std::time::Duration;

use serde_json::{Value, json};
use support::fake_ollama::Model;
use tokio::time::Instant;

use crate::{
    harness::{Options, Session, Store, TestApp, until},
    turn::{answer, options, prompt, unstored},
};

const SMALL: &str = "gemma3:4b";
const LARGE: &str = "qwen3:32b";

/// The fake itself would hold three.
fn one_at_a_time(models: [Model; 2], min_residence: Duration) -> Options {
    options(Store::Sqlite, models)
        .set("OLLAMA_MAX_LOADED_MODELS", 1)
        .tune(move |config| config.system.model.min_residence = min_residence)
}

async fn card(app: &TestApp, session: &Session, model: &str) -> Value {
    app.get(&format!("/v1/models/{model}")).bearer(&session.access).send().await.expect_status(200).json()
}

async fn standing(app: &TestApp, session: &Session, model: &str) -> (Value, Value) {
    let card = card(app, session, model).await;
    (card["state"].clone(), card["loaded"].clone())
}

#[tokio::test]
async fn two_users_of_two_models_share_a_server_that_holds_one() {
    let model = |name| Model::new(name).tokens(4).tokens_per_s(200.0).load(Duration::from_millis(30));
    let min_residence = Duration::from_millis(300);
    let app = TestApp::start(one_at_a_time([model(SMALL), model(LARGE)], min_residence)).await;
    let (ada, bob) =
        (app.sign_up_and_in("ada@example.org").await, app.sign_up_and_in("bob@example.org").await);
    let begun = Instant::now();
    let asks = async |session: &Session, model: &str| {
        for turn in 0..30 {
            let question = format!("turn {turn} of {model}");
            let reply = app.chat(session, &unstored(model, &question)).send().await.expect_status(200).json();
            assert_eq!(reply["message"]["content"], answer(&question, 4));
        }
    };
    tokio::join!(asks(&ada, SMALL), asks(&bob, LARGE));
    let most = begun.elapsed().as_millis() / min_residence.as_millis() + 1;
    let counters = app.ollama.control().counters();
    assert_eq!(counters.max_loaded, 1, "two models were in memory at once");
    assert!((2..=most).contains(&counters.loads.into()), "{} loads, {most} at most", counters.loads);
    assert_eq!((counters.unloads, counters.busy), (counters.loads - 1, 0));
    for sent in app.asked() {
        assert!(sent.json().get("keep_alive").is_none(), "only the gateway's own calls decide what stays");
    }
    app.finish().await;
}

#[tokio::test]
async fn whoever_waits_for_a_model_to_be_loaded_is_told_and_so_is_the_list() {
    let endless = |name| Model::new(name).tokens(100_000).tokens_per_s(100.0).load(Duration::from_millis(40));
    let app = TestApp::start(one_at_a_time([endless(SMALL), endless(LARGE)], Duration::ZERO)).await;
    let (ada, bob) =
        (app.sign_up_and_in("ada@example.org").await, app.sign_up_and_in("bob@example.org").await);
    assert_eq!(standing(&app, &ada, SMALL).await, (json!("available"), json!(false)));
    let mut small = app.ask(&ada, &prompt(SMALL, "first")).await;
    small.until("chunk").await;
    assert_eq!(standing(&app, &ada, SMALL).await, (json!("available"), json!(true)));

    let mut large = app.ask(&bob, &prompt(LARGE, "second")).await;
    let told = large.until("queue").await.data;
    assert_eq!((&told["state"], &told["eta_ms"]), (&json!("loading"), &Value::Null));
    assert_eq!(
        standing(&app, &bob, LARGE).await,
        (json!("loading"), json!(false)),
        "the other has to go first"
    );
    drop(small);
    large.until("chunk").await;
    assert_eq!(standing(&app, &bob, LARGE).await, (json!("available"), json!(true)));
    assert_eq!(standing(&app, &bob, SMALL).await, (json!("available"), json!(false)));

    // How long it takes is known by now.
    let mut again = app.ask(&ada, &prompt(SMALL, "third")).await;
    again.until("queue").await;
    drop(large);
    again.until("start").await;
    let loading = again.frames.iter().filter(|frame| frame.event == "queue");
    let etas: Vec<u64> = loading.filter_map(|frame| frame.data["eta_ms"].as_u64()).collect();
    assert!(etas.iter().any(|eta| *eta >= 40), "{:#?}", again.frames);
    drop(again);
    app.finish().await;
}

#[tokio::test]
async fn whoever_hangs_up_while_another_model_is_drained_keeps_nobody_from_it() {
    let endless = |name| Model::new(name).tokens(100_000).tokens_per_s(100.0);
    let app = TestApp::start(
        one_at_a_time([endless(SMALL), endless(LARGE)], Duration::ZERO)
            .tune(|config| config.system.model.slots = 2),
    )
    .await;
    app.ollama.control().change_model(SMALL, |model| model.parallel = 2);
    let (ada, bob) =
        (app.sign_up_and_in("ada@example.org").await, app.sign_up_and_in("bob@example.org").await);
    let mut running = app.ask(&ada, &prompt(SMALL, "first")).await;
    running.until("chunk").await;
    let mut other = app.ask(&bob, &prompt(LARGE, "second")).await;
    other.until("queue").await;
    let mut newcomer = app.ask(&ada, &prompt(SMALL, "third")).await;
    drop(other);
    newcomer.until("chunk").await;
    until("the slot to be free", async || app.queue(&bob, LARGE).await["running"] == 0).await;
    assert_eq!(app.ollama.control().counters().unloads, 0);
    drop((running, newcomer));
    app.finish().await;
}
