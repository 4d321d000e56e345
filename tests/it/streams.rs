//! Running streams per user, as callers meet the cap.

use futures_util::future::join_all;
use support::{
    fake_ollama::{Counters, Model},
    redis::Redis,
};

use crate::{
    harness::{Call, MODEL, Options, PATIENCE, Session, Store, TestApp, until},
    turn::{Streamed, options, prompt, unstored},
};

const OTHER: &str = "llama3.2:latest";

/// The default, eight slots per model, and answers no test sees the end of unless it says so.
fn capped(store: Store) -> Options {
    let models = [MODEL, OTHER].map(|name| Model::new(name).parallel(16).tokens(100_000).tokens_per_s(100.0));
    options(store, models).set("OLLAMA_NUM_PARALLEL", 8).without("STREAMS_PER_USER")
}

impl TestApp {
    /// Has answers from now on end soon.
    fn be_brief(&self) {
        for model in [MODEL, OTHER] {
            self.ollama.control().change_model(model, |model| model.tokens = 2);
        }
    }

    async fn until_fake(&self, met: impl FnMut(&Counters) -> bool) -> Counters {
        self.ollama.control().wait_until(met, PATIENCE).await.unwrap()
    }

    async fn begin(&self, session: &Session, models: &[&str]) -> Vec<Streamed> {
        let mut running = Vec::new();
        for model in models {
            let mut streamed = self.ask(session, &unstored(model, "runs")).await;
            streamed.until("chunk").await;
            running.push(streamed);
        }
        running
    }
}

#[tokio::test]
async fn c7_six_turns_of_a_user_on_eight_slots_run_four_at_once_and_all_end() {
    let app = TestApp::start(capped(Store::Sqlite)).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    app.ollama.control().change_model(MODEL, |model| (model.tokens, model.tokens_per_s) = (20, 100.0));
    let whole = (0..6).map(|turn| app.chat(&ada, &prompt(MODEL, &format!("turn {turn}"))).send());
    for reply in join_all(whole).await {
        reply.expect_status(200);
    }
    let seen = app.ollama.control().counters();
    assert_eq!((seen.max_in_flight, seen.chat_calls), (4, 6));
    app.finish().await;
}

#[tokio::test]
async fn c7_a_user_at_its_cap_waits_and_lets_others_pass_until_it_hangs_up() {
    let app = TestApp::start(capped(Store::Sqlite)).await;
    let (ada, bob) =
        (app.sign_up_and_in("ada@example.org").await, app.sign_up_and_in("bob@example.org").await);
    let mut running = app.begin(&ada, &[MODEL; 4]).await;
    app.be_brief();
    let mut waiting =
        [app.ask(&ada, &prompt(MODEL, "fifth")).await, app.ask(&ada, &prompt(MODEL, "sixth")).await];
    for events in &mut waiting {
        let told = events.until("queue").await;
        assert_eq!(told.data["state"], "waiting");
    }
    app.chat(&bob, &prompt(MODEL, "mine")).send().await.expect_status(200);
    let seen = app.ollama.control().counters();
    assert_eq!((seen.in_flight, seen.max_in_flight), (4, 5), "four, and meanwhile the other user's one");
    let queue = app.queue(&ada, MODEL).await;
    assert_eq!((&queue["running"], &queue["waiting"]), (&4.into(), &2.into()), "{queue}");
    let metrics = app.metrics().await;
    assert!(metrics.contains("\ndeepersensor_stream_leases 4\n"), "{metrics}");

    drop(running.remove(0));
    for events in &mut waiting {
        assert_eq!(events.last().await.event, "done");
    }
    assert_eq!(app.prompts()[4..], ["mine", "fifth", "sixth"]);
    drop(running);
    app.finish().await;
}

#[tokio::test]
async fn c7_one_cap_is_over_all_models() {
    let app = TestApp::start(capped(Store::Sqlite)).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let mut running = app.begin(&ada, &[MODEL, OTHER, MODEL, OTHER]).await;
    app.be_brief();
    let mut waiting =
        [app.ask(&ada, &prompt(MODEL, "fifth")).await, app.ask(&ada, &prompt(OTHER, "sixth")).await];
    for events in &mut waiting {
        events.until("queue").await;
    }
    // Counted until here: the fake may hear of the new turn before it hears of the old one's end.
    assert_eq!(app.ollama.control().counters().max_in_flight, 4);
    drop(running.remove(0));
    for events in &mut waiting {
        assert_eq!(events.last().await.event, "done");
    }
    drop(running);
    app.finish().await;
}

#[tokio::test]
async fn c7_a_held_turn_that_is_left_never_runs() {
    let app = TestApp::start(capped(Store::Sqlite).set("STREAMS_PER_USER", 1)).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let running = app.begin(&ada, &[MODEL]).await;
    let mut left = app.ask(&ada, &prompt(MODEL, "left")).await;
    left.until("queue").await;
    drop(left);
    until("the queue to be empty", async || app.queue(&ada, MODEL).await["waiting"] == 0).await;
    drop(running);
    app.quiet().await;
    assert_eq!(app.prompts(), ["runs"]);
    app.finish().await;
}

#[tokio::test]
async fn c7_two_instances_on_one_redis_count_together() {
    let redis = Redis::shared().await.unwrap();
    let app = TestApp::start(capped(Store::Postgres).set("REDIS_URL", redis.url())).await;
    let twin = app.start_twin(|_| ()).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let at_twin = async |text: &str| {
        let call = Call::new(twin.addr(), "POST", "/v1/chat/stream").json(&unstored(MODEL, text));
        Streamed::new(call.bearer(&ada.access).open().await.expect_status(200))
    };
    let mut here = app.begin(&ada, &[MODEL; 2]).await;
    let mut there = [at_twin("runs").await, at_twin("runs").await];
    for events in &mut there {
        events.until("chunk").await;
    }
    app.be_brief();
    let mut waiting = [at_twin("fifth").await, app.ask(&ada, &unstored(MODEL, "sixth")).await];
    for events in &mut waiting {
        events.until("queue").await;
    }
    // Counted until here: the fake may hear of the new turn before it hears of the old one's end.
    assert_eq!(app.ollama.control().counters().max_in_flight, 4);
    drop(here.remove(0));
    for events in &mut waiting {
        assert_eq!(events.last().await.event, "done");
    }
    drop((here, there));
    twin.stop().await;
    app.finish().await;
}

#[tokio::test]
async fn c7_limits_that_are_off_leave_the_slots_as_the_only_bound() {
    let app = TestApp::start(capped(Store::Sqlite).set("RATE_LIMIT_ENABLED", false)).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let running = app.begin(&ada, &[MODEL; 6]).await;
    app.until_fake(|counters| counters.in_flight == 6).await;
    drop(running);
    app.finish().await;
}
