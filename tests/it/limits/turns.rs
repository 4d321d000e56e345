//! Tokens per minute through the whole service: reserved at admission, settled with what the model server counted.

use std::time::Duration;

use domain::quota::Quota;
use futures_util::future::join_all;
use serde_json::{Value, json};
use support::fake_ollama::Model;

use crate::{
    harness::{MODEL, Options, Reply, Store, TestApp, both_stores},
    turn::{Streamed, prompt, unstored},
};

const BUDGET: u32 = 1_000;

/// Too slow to refill while a test runs.
fn budget(tokens: u32) -> Quota {
    Quota { permits: 1, period: Duration::from_secs(3_600), burst: tokens }
}

/// Users have a thousand tokens, none of which flows back.
async fn service(store: Store, models: impl IntoIterator<Item = Model>) -> TestApp {
    let options = Options::on(store).models(models).set("MODEL_QUEUE_PER_USER", 100);
    TestApp::start(options.tune(|config| config.system.rate_limit.tokens = Some(budget(BUDGET)))).await
}

/// A chat whose answer has at most so many tokens.
fn short(mut body: Value, tokens: u32) -> Value {
    body["options"] = json!({ "num_predict": tokens });
    body
}

fn number(reply: &Reply, name: &str) -> u32 {
    reply.header(name).unwrap_or_else(|| panic!("no {name}: {reply:?}")).parse().unwrap()
}

/// What was held back for a turn that began with a full bucket, as its reply tells.
fn reserved(reply: &Reply) -> u32 {
    BUDGET - number(reply, "x-ratelimit-remaining-tokens")
}

both_stores! {
    async fn c06_a_hundred_turns_at_once_spend_no_more_than_the_budget_and_one_of_them(store) {
        let app = service(store, [Model::new(MODEL).parallel(4).tokens(40)]).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let asked = (0..100).map(|number| {
            // Whoever does not say how much it wants is held back a customary amount: more than all there is.
            let body = unstored(MODEL, &format!("question {number}"));
            let body = if number % 2 == 0 { short(body, 40) } else { body };
            app.chat(&ada, &body).send()
        });
        let (mut spent, mut largest) = (0, 0);
        for reply in join_all(asked).await {
            if reply.status == 200 {
                let tokens = reply.json()["usage"]["total_tokens"].as_u64().unwrap();
                spent += tokens;
                largest = largest.max(tokens);
            } else {
                let refused = reply.expect_error(429, "rate_limited");
                assert!(number(&refused, "retry-after") > 1_000, "{refused:?}");
            }
        }
        let budget = u64::from(BUDGET);
        assert!((1..=budget + largest).contains(&spent), "{spent} of {budget}");

        // What was not spent is there again, to the last token that a turn can reserve.
        let mut reply = app.chat(&ada, &short(unstored(MODEL, "and more"), 40)).send().await;
        while reply.status == 200 {
            spent += reply.json()["usage"]["total_tokens"].as_u64().unwrap();
            reply = app.chat(&ada, &short(unstored(MODEL, "and more"), 40)).send().await;
        }
        let refused = reply.expect_error(429, "rate_limited");
        assert_eq!(u64::from(number(&refused, "x-ratelimit-remaining-tokens")), budget - spent);
        assert!(spent > budget - 100, "{spent} of {budget}: more than a turn's reserve is left");
        app.finish().await;
    }
}

#[tokio::test]
async fn c06_a_turn_that_its_model_server_fails_costs_no_tokens() {
    let app = service(Store::Sqlite, Model::every_scenario()).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    for model in ["fake-error-500", "fake-fin", "fake-error-line"] {
        for body in [short(prompt(model, "hello"), 500), prompt(model, "of any length")] {
            let reply = app.chat(&ada, &body).send().await.expect_status(502);
            assert!(reserved(&reply) >= 500, "{reply:?}");
        }
    }
    // One with a model that does not exist is a request, and no turn.
    let unknown = app.chat(&ada, &short(prompt("nobody", "hello"), 500)).send().await.expect_status(404);
    assert_eq!(unknown.header("ratelimit-policy"), Some("\"user\";q=1000000;w=60"));
    assert!(unknown.header("x-ratelimit-remaining-tokens").is_none());
    let reply = app.chat(&ada, &short(prompt("fake-normal", "hello"), 90)).send().await.expect_status(200);
    assert!((90..150).contains(&reserved(&reply)), "{reply:?}");
    app.finish().await;
}

#[tokio::test]
async fn c06_who_leaves_pays_for_what_was_generated() {
    let endless = Model::new(MODEL).parallel(4).tokens(100_000).tokens_per_s(200.0);
    let app = service(Store::Sqlite, [endless]).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let mut events = app.ask(&ada, &short(unstored(MODEL, "on and on"), 700)).await;
    let told = events.header("ratelimit").unwrap().to_owned();
    assert!(told.starts_with("\"user\";r=") && told.contains(", \"tokens\";r="), "{told}");
    for _ in 0..10 {
        events.until("chunk").await;
    }
    drop(events);
    app.quiet().await;
    // What was held back for the next one, and what the first one spent.
    let mut next: Streamed = app.ask(&ada, &short(unstored(MODEL, "and on"), 600)).await;
    let left: u32 = next.header("x-ratelimit-remaining-tokens").unwrap().parse().unwrap();
    assert!((50..BUDGET - 600 - 10).contains(&left), "{left} left");
    next.until("chunk").await;
    drop(next);
    app.finish().await;
}

#[tokio::test]
async fn c08_a_turn_is_told_all_its_limits_when_it_is_let_in_and_when_it_is_not() {
    let options = Options::on(Store::Sqlite)
        .set("RATE_LIMIT_REQUESTS_PER_MINUTE", 60)
        .set("RATE_LIMIT_BURST", 20)
        .set("RATE_LIMIT_MODEL_REQUESTS_PER_MINUTE", 30)
        .set("RATE_LIMIT_TOKENS_PER_MINUTE", 2_000)
        .set("RATE_LIMIT_RESERVE_TOKENS", 1_500);
    let app = TestApp::start(options.models([Model::new(MODEL).parallel(4).tokens(1_000)])).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let policies = "\"user\";q=60;w=60, \"model\";q=30;w=60, \"tokens\";q=2000;w=60";
    let reply = app.chat(&ada, &unstored(MODEL, "hello")).send().await.expect_status(200);
    assert_eq!(reply.header("ratelimit-policy"), Some(policies));
    let left = number(&reply, "x-ratelimit-remaining-tokens");
    assert!((480..500).contains(&left), "{left}");
    assert_eq!(
        reply.header("ratelimit"),
        Some(&*format!("\"user\";r=19;t=1, \"model\";r=9;t=2, \"tokens\";r={left};t=46"))
    );
    assert_eq!([number(&reply, "x-ratelimit-limit"), number(&reply, "x-ratelimit-remaining")], [2_000, left]);
    assert_eq!(reply.header("x-ratelimit-reset-tokens"), Some("46s"));
    assert_eq!(reply.header("x-ratelimit-limit-requests"), Some("30"));
    assert_eq!(reply.header("x-ratelimit-remaining-requests"), Some("9"));

    // A thousand are spent, so the next has to wait for some hundred.
    let refused =
        app.chat(&ada, &unstored(MODEL, "hello again")).send().await.expect_error(429, "rate_limited");
    assert_eq!(refused.header("ratelimit-policy"), Some(policies));
    let wait = number(&refused, "retry-after");
    assert!(wait >= number(&refused, "x-ratelimit-reset"), "{refused:?}");
    assert!((3..=18).contains(&wait), "{wait}: five hundred of two thousand a minute");
    // Other routes count requests only.
    let me = app.get("/v1/auth/me").bearer(&ada.access).send().await.expect_status(200);
    assert_eq!(me.header("ratelimit-policy"), Some("\"user\";q=60;w=60"));
    assert!(me.header("x-ratelimit-limit-tokens").is_none());
    // What cannot be read is no turn, and costs the address a request only.
    let unread = app.post("/v1/chat", &json!({ "model": MODEL })).bearer(&ada.access).send().await;
    assert_eq!(unread.expect_status(400).header("ratelimit").unwrap().split(';').next(), Some("\"address\""));
    app.finish().await;
}
