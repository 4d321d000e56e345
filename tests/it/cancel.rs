//! A client that hangs up: its place, its slot and its request to the model server are gone at once.

use std::time::{Duration, Instant as StdInstant};

use support::fake_ollama::Model;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    harness::{MODEL, Options, PATIENCE, Random, Session, Store, TestApp, asked, both_stores, until},
    turn::{Streamed, answer, prompt, service, unstored},
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

/// Where a client drops its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    /// At some moment after sending the request, whatever came until then.
    Anywhere(Duration),
    Accepted,
    /// It waits for a slot.
    Queued,
    /// It has a slot, and no token.
    Started,
    MidStream,
}

/// Asks and drops the connection there; whether it got so far.
async fn drops(ask: impl Future<Output = Streamed>, point: Point) -> bool {
    if let Point::Anywhere(after) = point {
        let listens = async {
            let mut events = ask.await;
            while events.next().await.is_some() {}
        };
        return timeout(after, listens).await.is_err();
    }
    let mut events = ask.await;
    let wanted = match point {
        Point::Anywhere(_) | Point::Accepted => return true,
        Point::Queued => "queue",
        Point::Started => "start",
        Point::MidStream => "chunk",
    };
    // Whoever gets a slot at once is never told to wait.
    while let Some(frame) = events.next().await {
        if frame.event == wanted || frame.event == "chunk" {
            return frame.event == wanted;
        }
    }
    false
}

both_stores! {
    #[expect(clippy::print_stdout, reason = "how soon the last one was noticed says more than that it was")]
    async fn b17_a_thousand_connects_and_drops_leave_no_upstream_request_and_no_slot(store) {
        const SLOTS: usize = 8;
        const AT_ONCE: usize = 32;
        let drop_count: usize = asked("PROVE_COUNT").unwrap_or(1_000);
        let model = slow().parallel(SLOTS).prefill(Duration::from_millis(10));
        let app = TestApp::start(Options::on(store).models([model]).set("OLLAMA_NUM_PARALLEL", SLOTS)).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let mut random = Random::new(1);
        let (mut clients, mut reached) = (JoinSet::new(), 0);
        for number in 0..drop_count {
            let point = match number % 8 {
                0 => Point::Anywhere(random.between(Duration::ZERO, Duration::from_millis(30))),
                1 => Point::Accepted,
                2 | 3 => Point::Queued,
                4 | 5 => Point::Started,
                _ => Point::MidStream,
            };
            let body = if number % 3 == 0 {
                unstored(MODEL, &format!("question {number}"))
            } else {
                prompt(MODEL, &format!("question {number}"))
            };
            let call = app.stream(&ada, &body);
            clients.spawn(drops(async { Streamed::new(call.open().await.expect_status(200)) }, point));
            while clients.len() >= AT_ONCE {
                reached += usize::from(clients.join_next().await.unwrap().unwrap());
            }
        }
        reached += clients.join_all().await.into_iter().filter(|was_there| *was_there).count();
        let left = Instant::now();
        let seen = app.ollama.control().wait_until(|seen| seen.in_flight == 0, PATIENCE).await.unwrap();
        let noticed = left.elapsed();
        app.quiet().await;
        println!("{store:?}: the last of {drop_count} drops was noticed after {noticed:?}");
        assert!(reached > drop_count / 2, "{reached} of {drop_count} got where they wanted to leave");
        assert!(seen.max_running <= SLOTS as u64, "{seen:#?}");
        assert!(seen.cancellations > 0 && seen.chat_calls < drop_count as u64, "some never reached the model: {seen:#?}");
        // Nobody counts any more: the next one is served at once, in the first slot there is.
        let queue = app.queue(&ada, MODEL).await;
        assert_eq!((&queue["running"], &queue["waiting"]), (&0.into(), &0.into()));
        app.ollama.control().change_model(MODEL, |model| model.tokens = 3);
        let next = app.chat(&ada, &unstored(MODEL, "next please")).send().await.expect_status(200);
        assert_eq!(next.header("x-queue-position"), Some("0"));
        app.finish().await;
    }
}
