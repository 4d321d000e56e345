//! `Idempotency-Key` (B14): the same request sent twice is one.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use support::fake_ollama::{Model, Scenario};

use crate::{
    harness::{Call, MODEL, Options, Reply, Session, TestApp, both_stores},
    turn::{Streamed, answer, prompt, service, service_with, unstored},
};

const TOKENS: u64 = 40;

impl TestApp {
    fn keyed(&self, path: &str, session: &Session, key: &str, body: &Value) -> Call {
        self.post(path, body).bearer(&session.access).header("idempotency-key", key)
    }
}

fn is_replay(reply: &Reply) -> bool {
    reply.header("idempotent-replay") == Some("true")
}

/// What two replies to one turn have in common: all but the times of day.
fn same(reply: &Value) -> Value {
    json!([
        reply["id"],
        reply["message"],
        reply["usage"],
        reply["message_id"],
        reply["conversation_id"],
        reply["finish_reason"]
    ])
}

both_stores! {
    async fn b14_fifty_requests_with_one_key_are_one_turn_and_fifty_equal_answers(store) {
        let app = service(store, [Model::new(MODEL).tokens(TOKENS).tokens_per_s(200.0)]).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let body = prompt(MODEL, "once");
        let asks = (0..50).map(|n| {
            let (app, ada, body) = (&app, &ada, &body);
            async move {
                if n % 2 == 0 {
                    let reply = app.keyed("/v1/chat", ada, "k", body).send().await.expect_status(200);
                    let (is_replay, reply) = (is_replay(&reply), reply.json());
                    (is_replay, reply["id"].clone(), reply["message"]["content"].as_str().unwrap().to_owned())
                } else {
                    let call = app.keyed("/v1/chat/stream", ada, "k", body);
                    let mut stream = Streamed::new(call.open().await.expect_status(200));
                    let done = stream.last().await;
                    (stream.header("idempotent-replay") == Some("true"), done.data["id"].clone(), stream.text())
                }
            }
        });
        let answers = join_all(asks).await;
        assert_eq!(answers.iter().filter(|(is_replay, ..)| !is_replay).count(), 1);
        assert!(answers.iter().all(|(_, turn, text)| *turn == answers[0].1 && *text == answer("once", TOKENS)));
        assert_eq!(app.asked().len(), 1);
        let conversation = app.only_conversation(&ada).await;
        assert_eq!(app.conversation(&ada, &conversation).await["messages"].as_array().unwrap().len(), 2);
        app.finish().await;
    }
}

both_stores! {
    async fn b14_a_finished_turn_is_replayed_from_memory_and_from_the_store_by_either_route(store) {
        for kept in [Duration::from_secs(60), Duration::ZERO] {
            let app = service_with(store, [Model::new(MODEL).tokens(TOKENS)], move |config| {
                config.system.model.reply_kept = kept;
            })
            .await;
            let (ada, eve) = (app.sign_up_and_in("ada@example.org").await, app.sign_up_and_in("eve@example.org").await);
            let body = prompt(MODEL, "once");
            let first = app.keyed("/v1/chat", &ada, "k", &body).send().await.expect_status(200);
            assert!(!is_replay(&first));
            let again = app.keyed("/v1/chat", &ada, "k", &body).send().await.expect_status(200);
            assert!(is_replay(&again));
            assert_eq!(same(&again.json()), same(&first.json()));
            let call = app.keyed("/v1/chat/stream", &ada, "k", &body);
            let mut stream = Streamed::new(call.open().await.expect_status(200));
            assert_eq!(stream.last().await.data["id"], first.json()["id"]);
            assert_eq!(stream.text(), answer("once", TOKENS));
            assert_eq!(app.asked().len(), 1);

            let other = app.keyed("/v1/chat", &ada, "k", &prompt(MODEL, "something else")).send().await;
            assert_eq!(other.expect_error(422, "conflict").json()["error"]["param"], "Idempotency-Key");
            let hers = app.keyed("/v1/chat", &eve, "k", &body).send().await.expect_status(200);
            assert!(!is_replay(&hers), "another user's key is another key");
            let unkeyed = app.chat(&ada, &body).send().await.expect_status(200);
            assert!(!is_replay(&unkeyed));
            assert_eq!(app.asked().len(), 3);
            for bad in ["", "two words", &"k".repeat(256)] {
                app.keyed("/v1/chat", &ada, bad, &body).send().await.expect_error(400, "invalid_request");
            }
            app.finish().await;
        }
    }
}

both_stores! {
    async fn b14_a_client_that_left_finds_its_answer_under_its_key(store) {
        let app = service(store, [Model::new(MODEL).tokens(TOKENS).tokens_per_s(200.0)]).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let body = prompt(MODEL, "wait for me");
        let call = app.keyed("/v1/chat/stream", &ada, "k", &body);
        let mut cut = Streamed::new(call.open().await.expect_status(200));
        cut.until("chunk").await;
        drop(cut);
        let reply = app.keyed("/v1/chat", &ada, "k", &body).send().await.expect_status(200);
        assert!(is_replay(&reply));
        assert_eq!(reply.json()["message"]["content"], answer("wait for me", TOKENS));
        assert_eq!((app.asked().len(), app.ollama.control().counters().cancellations), (1, 0));
        app.finish().await;
    }
}

both_stores! {
    async fn b14_a_key_is_free_again_when_its_turn_brought_nothing_and_kept_when_its_answer_is_gone(store) {
        let app = service_with(store, [Model::new(MODEL).scenario(Scenario::Error { status: 500, message: "no" })], |config| {
            config.system.model.reply_kept = Duration::ZERO;
        })
        .await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let body = prompt(MODEL, "try");
        app.keyed("/v1/chat", &ada, "k", &body).send().await.expect_error(502, "upstream_error");
        app.ollama.control().set_scenario(MODEL, Scenario::Normal);
        let reply = app.keyed("/v1/chat", &ada, "k", &body).send().await.expect_status(200);
        assert!(!is_replay(&reply));

        let body = unstored(MODEL, "forget it");
        app.keyed("/v1/chat", &ada, "u", &body).send().await.expect_status(200);
        app.keyed("/v1/chat", &ada, "u", &body).send().await.expect_error(409, "conflict");
        app.keyed("/v1/chat/stream", &ada, "u", &body).send().await.expect_error(409, "conflict");
        app.finish().await;
    }
}

both_stores! {
    async fn a_replay_or_a_refusal_costs_one_request_and_no_tokens(store) {
        let options = Options::on(store)
            .models([Model::new(MODEL).parallel(4).tokens(TOKENS)])
            .set("RATE_LIMIT_TOKENS_PER_MINUTE", 100_000)
            .set("RATE_LIMIT_REQUESTS_PER_MINUTE", 1)
            .set("RATE_LIMIT_BURST", 60);
        let app = TestApp::start(options).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let body = prompt(MODEL, "once");
        let first = app.keyed("/v1/chat", &ada, "k", &body).send().await.expect_status(200);
        let remaining = |reply: &Reply| reply.header("x-ratelimit-remaining-requests").unwrap().parse::<i64>().unwrap();
        let again = app.keyed("/v1/chat", &ada, "k", &body).send().await.expect_status(200);
        assert_eq!(remaining(&first) - remaining(&again), 1);
        assert_eq!(again.header("x-ratelimit-remaining-tokens"), None, "tokens were not even asked for");
        let refused = app.keyed("/v1/chat", &ada, "k", &prompt(MODEL, "something else")).send().await;
        let refused = refused.expect_error(422, "conflict");
        assert_eq!(remaining(&again) - remaining(&refused), 1, "a refusal is no cheaper");
        app.finish().await;
    }
}
