//! The fair queue as callers meet it.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use support::fake_ollama::{Model, Scenario};
use tokio::time::sleep;

use crate::{
    harness::{Call, MODEL, Reply, Session, Store, TestApp, both_stores, until},
    turn::{Streamed, options, prompt, service, service_with, unstored},
};

/// A model whose turns take a twentieth of a second, one at a time.
fn model() -> Model {
    Model::new(MODEL).tokens(2).tokens_per_s(40.0)
}

fn endless() -> Model {
    Model::new(MODEL).tokens(100_000).tokens_per_s(100.0)
}

/// A model whose turns say one word and end when their caller hangs up, so that the test says when.
fn patient() -> Model {
    Model::new(MODEL).tokens(2).scenario(Scenario::Stall { after: 1 })
}

/// A chat that may take until the model has nothing better to do.
fn batch(text: &str) -> Value {
    let mut body = unstored(MODEL, text);
    body["priority"] = json!("batch");
    body
}

fn seconds(reply: &Reply) -> u64 {
    reply.header("retry-after").expect("a time to come back").parse().unwrap()
}

/// One slot and those who wait for it, with a model that is [`patient`].
struct OneSlot<'a> {
    app: &'a TestApp,
    waiting: HashMap<String, Streamed>,
}

impl<'a> OneSlot<'a> {
    fn of(app: &'a TestApp) -> Self {
        Self { app, waiting: HashMap::new() }
    }

    /// Gets a turn in line; it has its place when this returns.
    async fn line_up(&mut self, session: &Session, text: &str, body: Value) {
        self.waiting.insert(text.to_owned(), self.app.ask(session, &body).await);
    }

    /// The turn in the slot, once it has said its word.
    async fn running(&mut self) -> String {
        let text = self.app.prompts().pop().expect("a turn has the slot");
        let turn = self.waiting.get_mut(&text).expect("it has not ended");
        if turn.text().is_empty() {
            turn.until("chunk").await;
        }
        text
    }

    /// Ends the turn in the slot, and returns which one is given it next.
    async fn next(&mut self) -> String {
        let (running, before) = (self.running().await, self.app.prompts().len());
        self.waiting.remove(&running);
        until("the next turn", async || self.app.prompts().len() > before).await;
        self.running().await
    }

    /// Ends turns until `text` has the slot, and returns which ones had it meanwhile.
    async fn until_running(&mut self, text: &str) -> Vec<String> {
        let mut others = Vec::new();
        loop {
            let next = self.next().await;
            if next == text {
                return others;
            }
            others.push(next);
        }
    }
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

both_stores! {
    async fn somebody_who_asks_once_in_a_while_waits_for_two_service_times_at_most_beside_sixty_waiting_turns(store) {
        let app = service(store, [patient()]).await;
        let (ada, bob) = (app.sign_up_and_in("ada@example.org").await, app.sign_up_and_in("bob@example.org").await);
        let mut slot = OneSlot::of(&app);
        let mut adas = (0..).map(|turn| format!("ada {turn:03}"));
        for text in adas.by_ref().take(61) {
            slot.line_up(&ada, &text, unstored(MODEL, &text)).await;
        }
        for turn in 0..5 {
            assert_eq!(app.queue(&ada, MODEL).await["waiting"], 60);
            let text = format!("bob {turn:03}");
            slot.line_up(&bob, &text, unstored(MODEL, &text)).await;
            let between = slot.until_running(&text).await;
            // One service time is that of the turn in the slot, so only one more may begin.
            assert!(between.len() <= 1, "turn {turn} had to wait for {between:?}");
            let next = slot.next().await;
            assert!(next.starts_with("ada"), "and then it is somebody else's turn");
            for text in adas.by_ref().take(between.len() + 1) {
                slot.line_up(&ada, &text, unstored(MODEL, &text)).await;
            }
        }
        drop(slot);
        app.finish().await;
    }

    async fn sixteen_batch_turns_delay_an_interactive_one_by_the_one_in_the_slot_at_most(store) {
        let app = service(store, [patient()]).await;
        let (ada, bob) = (app.sign_up_and_in("ada@example.org").await, app.sign_up_and_in("bob@example.org").await);
        let mut slot = OneSlot::of(&app);
        for turn in 0..17 {
            let text = format!("ada {turn:03}");
            slot.line_up(&ada, &text, batch(&text)).await;
        }
        assert_eq!(app.queue(&ada, MODEL).await["waiting"], 16);
        for turn in 0..3 {
            let texts = [format!("bob {turn:03}"), format!("also bob {turn:03}")];
            for text in &texts {
                slot.line_up(&bob, text, unstored(MODEL, text)).await;
            }
            for text in &texts {
                assert_eq!(slot.next().await, *text, "no batch turn begins while an interactive one waits");
            }
            let next = slot.next().await;
            assert!(next.starts_with("ada"), "{next}");
        }
        drop(slot);
        app.finish().await;
    }
}

#[tokio::test]
async fn a_full_queue_of_batch_turns_makes_room_for_interactive_ones() {
    let app = service_with(Store::Sqlite, [patient()], |config| {
        (config.system.model.queue_limit, config.system.model.queue_per_user) = (3, 3);
    })
    .await;
    let (ada, bob) =
        (app.sign_up_and_in("ada@example.org").await, app.sign_up_and_in("bob@example.org").await);
    let running = occupy(&app, &ada).await;
    let streamed = app.ask(&ada, &batch("first")).await;
    let mut newest = app.ask(&ada, &batch("second")).await;
    let whole = app.chat(&ada, &batch("third")).send();
    let bobs = async {
        until("the queue to be full", async || app.queue(&bob, MODEL).await["waiting"] == 3).await;
        [app.ask(&bob, &unstored(MODEL, "bob 0")).await, app.ask(&bob, &unstored(MODEL, "bob 1")).await]
    };
    let (refused, bobs) = tokio::join!(whole, bobs);
    assert!(seconds(&refused.expect_error(503, "overloaded")) >= 1);
    let last = newest.last().await;
    assert_eq!(last.data["error"]["code"], "overloaded");
    assert!(last.data["error"]["retry_after"].as_u64().unwrap() >= 1, "{last:?}");
    app.chat(&ada, &batch("no room")).send().await.expect_error(503, "overloaded");
    let metrics = app.metrics().await;
    for (reason, count) in [("evicted", 2), ("full", 1)] {
        let line = format!(
            "deepersensor_model_queue_refused_total{{model=\"{MODEL}\",reason=\"{reason}\"}} {count}"
        );
        assert!(metrics.contains(&line), "no {line} in {metrics}");
    }
    assert!(metrics.contains(&format!("deepersensor_model_concurrency_limit{{model=\"{MODEL}\"}} 1\n")));
    drop((running, streamed, bobs));
    app.finish().await;
}

#[tokio::test]
async fn d04_a_turn_that_cannot_start_in_time_is_refused_on_arrival_and_told_when_it_could() {
    let app = service(Store::Sqlite, [Model::new(MODEL).tokens(20).tokens_per_s(20.0)]).await;
    let (ada, bob) =
        (app.sign_up_and_in("ada@example.org").await, app.sign_up_and_in("bob@example.org").await);
    assert_eq!(app.queue(&ada, MODEL).await["eta_ms"], Value::Null, "nothing was measured yet");
    app.warm_up(&ada, MODEL).await;
    assert_eq!(app.queue(&ada, MODEL).await["eta_ms"], 0, "a slot is free");
    app.ollama.control().change_model(MODEL, |model| model.tokens = 100_000);
    let running = occupy(&app, &ada).await;
    let mut waiting = Vec::new();
    for turn in 0..8 {
        waiting.push(app.ask(&ada, &unstored(MODEL, &format!("turn {turn}"))).await);
    }
    // Each turn takes a second, and the one in the slot longer and longer: the ninth cannot start within three.
    let impatient = |session: &Session| {
        app.chat(session, &unstored(MODEL, "soon or never")).header("x-request-timeout", "3").send()
    };
    let refused = impatient(&ada).await.expect_error(503, "overloaded");
    assert!(seconds(&refused) >= 5, "eight turns of a second, less the three it would wait: {refused:?}");
    assert!(app.queue(&ada, MODEL).await["eta_ms"].as_u64().unwrap() >= 900);
    assert_eq!(app.queue(&ada, MODEL).await["waiting"], 8);
    assert!(app.metrics().await.contains("reason=\"deadline\"} 1\n"));
    // To somebody else only the turn in the slot is ahead, which is in time unless this machine stood still.
    let other = impatient(&bob).await;
    assert!(
        [503, 504].contains(&other.status),
        "it was let in, or the endless turn has taken too long: {other:?}"
    );
    assert_eq!(app.prompts().last().unwrap(), "in the slot");
    let mut lasting = prompt(MODEL, "whenever");
    lasting["on_disconnect"] = json!("continue");
    let lasting = app.stream(&ada, &lasting).header("x-request-timeout", "3").open().await;
    drop(lasting.expect_status(200));
    app.ollama.control().change_model(MODEL, |model| model.tokens = 2);
    drop((running, waiting));
    until("the turn that outlives its caller", async || app.prompts().last().unwrap() == "whenever").await;
    app.finish().await;
}

#[tokio::test]
async fn a_whole_answer_tells_where_it_stood_in_line_and_how_long_it_waited() {
    let app = service(Store::Sqlite, [model()]).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let told = |reply: &Reply, name: &str| reply.header(name).unwrap().parse::<u64>().unwrap();
    let at_once = app.chat(&ada, &unstored(MODEL, "at once")).send().await.expect_status(200);
    assert_eq!(told(&at_once, "x-queue-position"), 0);
    app.ollama.control().change_model(MODEL, |model| model.tokens = 100_000);
    let running = occupy(&app, &ada).await;
    app.ollama.control().change_model(MODEL, |model| model.tokens = 2);
    let first = app.ask(&ada, &unstored(MODEL, "first")).await;
    let leave = async {
        until("both to wait", async || app.queue(&ada, MODEL).await["waiting"] == 2).await;
        drop(running);
    };
    let second = app.chat(&ada, &unstored(MODEL, "second"));
    let (second, ()) = tokio::join!(second.send(), leave);
    let second = second.expect_status(200);
    assert_eq!(told(&second, "x-queue-position"), 2);
    assert_eq!(told(&second, "x-queue-wait-ms"), second.json()["timings"]["queued_ms"].as_u64().unwrap());
    assert!(told(&second, "x-queue-wait-ms") > 0);
    drop(first);
    app.finish().await;
}

#[tokio::test]
async fn a_single_model_may_have_slots_of_its_own() {
    let models = [Model::new(MODEL).parallel(3), Model::new("llama3.2")];
    let app = TestApp::start(options(Store::Sqlite, models).set("MODEL_SLOTS", format!("{MODEL}=3"))).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    assert_eq!(app.queue(&ada, MODEL).await["slots"], 3);
    assert_eq!(app.queue(&ada, "llama3.2").await["slots"], 1);
    app.finish().await;
}

/// Sixty who ask again and again, and do as they are told, before a queue that holds thirty.
#[tokio::test]
async fn whoever_waits_as_long_as_it_was_told_finds_a_place() {
    const USERS: usize = 20;
    const CLIENTS: usize = 60;
    const RETRIES: usize = 60;
    let models = [model().parallel(2)];
    let app = TestApp::start(options(Store::Sqlite, models).set("OLLAMA_NUM_PARALLEL", 2).tune(|config| {
        (config.system.model.queue_limit, config.system.model.queue_per_user) = (30, 30);
    }))
    .await;
    let emails: Vec<String> = (0..USERS).map(|user| format!("user{user}@example.org")).collect();
    let users = join_all(emails.iter().map(|email| app.sign_up_and_in(email))).await;
    // Until a turn was measured nobody can be told the truth.
    app.warm_up(&users[0], MODEL).await;
    let (retries, admitted) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let client = async |number: usize| {
        let ask = || app.chat(&users[number % USERS], &unstored(MODEL, "again")).send();
        let mut reply = ask().await;
        while retries.load(Ordering::Relaxed) < RETRIES {
            if reply.status == 200 {
                reply = ask().await;
                continue;
            }
            let told = seconds(&reply.clone().expect_error(503, "overloaded"));
            sleep(Duration::from_secs(told)).await;
            reply = ask().await;
            retries.fetch_add(1, Ordering::Relaxed);
            admitted.fetch_add(usize::from(reply.status == 200), Ordering::Relaxed);
        }
    };
    join_all((0..CLIENTS).map(client)).await;
    let (retries, admitted) = (retries.into_inner(), admitted.into_inner());
    assert!(admitted * 10 >= retries * 8, "{admitted} of {retries} who came back as told found a place");
    app.finish().await;
}
