//! Turns that run on one instance and are read on, asked for again, or ended at another: with Redis between them, without, and
//! with one that breaks.
//!
//! Small in the suite; a proof sets `PROVE_COUNT` to the number of cuts.

use std::time::Duration;

use deepersensor::app::App;
use futures_util::{StreamExt as _, stream};
use serde_json::json;
use support::{fake_ollama::Model, process::Scratch, redis::Redis};
use tokio::time::Instant;

use crate::{
    harness::{Call, MODEL, Options, SECRET, Session, Store, TestApp, asked, start_process, until},
    turn::{Streamed, answer, prompt, unstored},
};

/// Tokens of an answer, and how many come in a second.
const TOKENS: u64 = 40;
const PACE: f64 = 200.0;

/// Answers that are cut at once.
const AT_ONCE: usize = 4;

fn options(redis: Option<&Redis>) -> Options {
    let model = Model::new(MODEL).parallel(AT_ONCE).tokens(TOKENS).tokens_per_s(PACE);
    let options = Options::on(Store::Postgres).models([model]);
    match redis {
        Some(redis) => options.set("REDIS_URL", redis.url()),
        None => options,
    }
}

/// Two instances of one service.
struct Pair {
    here: TestApp,
    there: App,
    ada: Session,
}

impl Pair {
    async fn start(options: Options) -> Self {
        let here = TestApp::start(options).await;
        // So that no test waits for a rule that is about patience.
        let there = here.start_twin(|config| config.system.relay.silence = Duration::from_secs(1)).await;
        let ada = here.sign_up_and_in("ada@example.org").await;
        Self { here, there, ada }
    }

    /// Begins a turn here that goes on without us.
    async fn begin(&self, text: &str) -> Streamed {
        let mut body = prompt(MODEL, text);
        body["on_disconnect"] = json!("continue");
        self.here.ask(&self.ada, &body).await
    }

    /// One that goes on because of its key, and of which only the usage is kept.
    async fn begin_unstored(&self, text: &str) -> Streamed {
        let call = self.here.stream(&self.ada, &unstored(MODEL, text)).header("idempotency-key", text);
        Streamed::new(call.open().await.expect_status(200))
    }

    fn at(&self, method: &str, path: &str) -> Call {
        Call::new(self.there.addr(), method, path).bearer(&self.ada.access)
    }

    /// Reads it on at the other instance.
    async fn resume(&self, turn: &str, after: &str) -> Streamed {
        let call = self.at("GET", &format!("/v1/turns/{turn}/stream")).header("last-event-id", after);
        Streamed::new(call.open().await.expect_status(200))
    }

    async fn finish(self) {
        self.there.stop().await;
        self.here.finish().await;
    }
}

fn turn_of(events: &Streamed) -> String {
    events.frames[0].data["turn_id"].as_str().expect("the first event names the turn").to_owned()
}

/// Where a client is that was told this much.
fn reached(events: &Streamed) -> String {
    events.frames.last().map_or("0", |frame| &frame.id).to_owned()
}

/// Reads `events` events, or up to the last.
async fn read(stream: &mut Streamed, events: usize) -> bool {
    for _ in 0..events {
        match stream.next().await {
            None => return true,
            Some(frame) if frame.event == "done" => return true,
            Some(frame) => assert_ne!(frame.event, "error", "{frame:?}"),
        }
    }
    false
}

/// One answer, cut after as many events as the number says, here and, for some numbers, there once more.
async fn cut(pair: &Pair, number: usize) {
    let text = format!("cut {number}");
    let mut first = pair.begin(&text).await;
    // The first event tells the turn's name.
    read(&mut first, 1 + number % (TOKENS as usize + 2)).await;
    let (turn, mut at) = (turn_of(&first), reached(&first));
    let mut said = first.text();
    drop(first);
    if number.is_multiple_of(3) {
        let mut second = pair.resume(&turn, &at).await;
        let is_over = read(&mut second, 1 + number % 5).await;
        said += &second.text();
        at = reached(&second);
        if is_over {
            assert_eq!(said, answer(&text, TOKENS));
        }
    }
    let mut last = pair.resume(&turn, &at).await;
    let done = last.last().await;
    said += &last.text();
    assert_eq!(done.event, "done", "{number}: {done:?}");
    assert_eq!(said, answer(&text, TOKENS), "{number}");
    assert_eq!(done.id, said.len().to_string());
}

async fn cuts(pair: &Pair, few: usize) {
    let count = asked("PROVE_COUNT").unwrap_or(few);
    let cuts = stream::iter((0..count).map(|number| cut(pair, number)));
    cuts.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b16_a_stream_cut_anywhere_is_read_on_at_another_instance() {
    let redis = Redis::start().await.unwrap();
    let pair = Pair::start(options(Some(&redis))).await;
    cuts(&pair, 44).await;
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b16_and_without_redis_as_far_as_the_store_has_come() {
    let pair = Pair::start(options(None)).await;
    cuts(&pair, 16).await;
    pair.finish().await;
}

/// Follows a turn from elsewhere while Redis breaks: what it is told stays whole.
async fn broken(strike: impl AsyncFnOnce(&Redis), heal: impl AsyncFnOnce(&Redis)) {
    let redis = Redis::start().await.unwrap();
    let pair = Pair::start(options(Some(&redis))).await;
    let fake = pair.here.ollama.control();
    // Long enough for both ways to be gone.
    fake.change_model(MODEL, |model| (model.tokens, model.tokens_per_s) = (200, 50.0));
    let unfollowed = pair.begin("nobody follows").await;
    let mut first = pair.begin("breaks").await;
    first.until("chunk").await;
    let (turn, at, said) = (turn_of(&first), reached(&first), first.text());
    drop(first);
    let mut there = pair.resume(&turn, &at).await;
    there.until("chunk").await;
    strike(&redis).await;
    let done = there.last().await;
    assert_eq!(done.event, "done", "{done:?}");
    assert_eq!(said + &there.text(), answer("breaks", 200));

    // Who is not followed has nothing to do with it.
    let mut unfollowed = unfollowed;
    assert_eq!(unfollowed.last().await.event, "done");
    assert_eq!(unfollowed.text(), answer("nobody follows", 200));
    heal(&redis).await;
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b16_a_redis_that_dies_on_the_way_costs_no_byte() {
    let strike = async |redis: &Redis| redis.kill().unwrap();
    broken(strike, async |_| ()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b16_a_redis_that_freezes_on_the_way_costs_no_byte() {
    let strike = async |redis: &Redis| redis.freeze().unwrap();
    broken(strike, async |redis| redis.unfreeze().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_stored_is_followed_too() {
    let redis = Redis::start().await.unwrap();
    let pair = Pair::start(options(Some(&redis))).await;
    let mut first = pair.begin_unstored("not-stored").await;
    first.until("chunk").await;
    let (turn, at, said) = (turn_of(&first), reached(&first), first.text());
    let names = first.start().clone();
    drop(first);
    // The ledger's row lingers for company.
    until("the turn to be known", async || {
        pair.at("GET", &format!("/v1/turns/{turn}")).send().await.status == 200
    })
    .await;
    let mut there = pair.resume(&turn, &at).await;
    assert_eq!(there.last().await.event, "done");
    assert_eq!(said + &there.text(), answer("not-stored", TOKENS));
    assert_eq!(there.start()["message_id"], names["message_id"]);
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b14_a_key_that_is_sent_to_two_instances_is_one_turn() {
    let redis = Redis::start().await.unwrap();
    let pair = Pair::start(options(Some(&redis))).await;
    let body = prompt(MODEL, "only once");
    let key = |call: Call| call.header("idempotency-key", "k-1");
    let here = key(pair.here.stream(&pair.ada, &body)).open().await.expect_status(200);
    let mut here = Streamed::new(here);
    here.until("start").await;
    let whole = key(pair.at("POST", "/v1/chat").json(&body)).send();
    let streamed = async {
        let opened = key(pair.at("POST", "/v1/chat/stream").json(&body)).open().await.expect_status(200);
        let mut there = Streamed::new(opened);
        assert_eq!(there.last().await.event, "done");
        there.text()
    };
    let (whole, streamed) = tokio::join!(whole, streamed);
    let whole = whole.expect_status(200).json();
    assert_eq!(here.last().await.event, "done");
    let wanted = answer("only once", TOKENS);
    assert_eq!(
        [whole["message"]["content"].as_str(), Some(&streamed), Some(&here.text())],
        [Some(&*wanted); 3]
    );
    assert_eq!(pair.here.asked().len(), 1);
    pair.finish().await;
}

async fn cancelled(redis: Option<&Redis>) {
    let pair = Pair::start(options(redis)).await;
    pair.here
        .ollama
        .control()
        .change_model(MODEL, |model| (model.tokens, model.tokens_per_s) = (100_000, 50.0));
    let mut running = pair.begin("ended elsewhere").await;
    running.until("chunk").await;
    let path = format!("/v1/turns/{}", turn_of(&running));
    for _ in 0..2 {
        // Whether it has ended by the second time is no matter.
        let told = pair.at("DELETE", &path).send().await;
        assert!(matches!(told.status, 200 | 202), "{told:?}");
    }
    assert_eq!(running.failure().await, "cancelled");
    assert_eq!(pair.at("GET", &path).send().await.expect_status(200).json()["status"], "cancelled");
    let bob = pair.here.sign_up_and_in("bob@example.org").await;
    for method in ["GET", "DELETE"] {
        let call = Call::new(pair.there.addr(), method, &path).bearer(&bob.access);
        call.send().await.expect_error(404, "not_found");
    }
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_ended_at_another_instance() {
    let redis = Redis::start().await.unwrap();
    cancelled(Some(&redis)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_ended_at_another_instance_without_redis() {
    cancelled(None).await;
}

/// A process that dies takes its turns with it: whoever follows one is told its text so far, and one error.
#[tokio::test(flavor = "multi_thread")]
async fn e03_the_owner_killed_a_follower_has_the_text_so_far_and_one_error() {
    let redis = Redis::start().await.unwrap();
    let app = TestApp::start(options(Some(&redis)).tune(|config| {
        config.system.model.lease = Duration::from_secs(1);
        config.system.relay.silence = Duration::from_secs(1);
    }))
    .await;
    app.ollama.control().change_model(MODEL, |model| (model.tokens, model.tokens_per_s) = (100_000, 50.0));
    let ada = app.sign_up_and_in("ada@example.org").await;
    let scratch = Scratch::new("owner", None).unwrap();
    let (data, ollama) = (scratch.path().display().to_string(), format!("http://{}", app.ollama.addr()));
    let url = redis.url();
    let settings = [
        ("APP_ENV", "test"),
        ("DATA_DIR", &*data),
        ("JWT_SECRET", SECRET),
        ("OLLAMA_BASE_URL", &*ollama),
        ("REDIS_URL", &*url),
    ];
    let owner = start_process(&scratch, &app.database, &settings).await;
    let mut body = prompt(MODEL, "the owner dies");
    body["on_disconnect"] = json!("continue");
    let call = Call::new(owner.addr, "POST", "/v1/chat/stream").bearer(&ada.access).json(&body);
    let mut first = Streamed::new(call.open().await.expect_status(200));
    first.until("chunk").await;
    let (turn, at, said) = (turn_of(&first), reached(&first), first.text());
    drop(first);
    let call = app.get(&format!("/v1/turns/{turn}/stream")).bearer(&ada.access);
    let mut there = Streamed::new(call.header("last-event-id", &at).open().await.expect_status(200));
    let begun = Instant::now();
    while there.text().len() < 200 {
        there.until("chunk").await;
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not go on");
    }
    owner.kill();
    // Half a minute of a lease that nobody renews any more is no subject of this test.
    let expired = "UPDATE turns SET lease_until = now() - interval '1 hour' WHERE status = 'streaming' RETURNING 1::bigint";
    assert_eq!(app.database.number(expired).await, 1);
    assert_eq!(there.failure().await, "internal");
    let text = said + &there.text();
    assert!(answer("the owner dies", 100_000).starts_with(&text), "{text:?}");
    let status = app.get(&format!("/v1/turns/{turn}")).bearer(&ada.access).send().await.expect_status(200);
    assert_eq!(status.json()["status"], "interrupted");
    app.finish().await;
}

/// A turn of which nothing is stored is followed as far as it was told.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_stored_cannot_be_followed_without_redis() {
    let pair = Pair::start(options(None)).await;
    let mut first = pair.begin_unstored("nowhere").await;
    first.until("chunk").await;
    let turn = turn_of(&first);
    until("the turn to be known", async || {
        pair.at("GET", &format!("/v1/turns/{turn}")).send().await.status == 200
    })
    .await;
    let call = pair.at("GET", &format!("/v1/turns/{turn}/stream"));
    let opened = call.open().await;
    // Over before it was asked for: there is nothing to read. Else one error at its end.
    if opened.status == 200 {
        assert_eq!(Streamed::new(opened).failure().await, "internal");
    } else {
        opened.whole().await.expect_error(409, "conflict");
    }
    assert_eq!(first.last().await.event, "done");
    pair.finish().await;
}
