//! Streams that are cut off and go on: `/v1/turns/{id}` and `/v1/turns/{id}/stream`.

use std::time::Duration;

use serde_json::{Value, json};
use support::fake_ollama::{Model, Scenario};

use crate::{
    harness::{MODEL, Reply, Session, Store, TestApp, both_stores, until},
    turn::{Streamed, answer, prompt, service, service_with, unstored},
};

const TOKENS: u64 = 60;

/// What a client has of an answer that it read in pieces.
#[derive(Default)]
struct Pieces {
    text: String,
    position: String,
}

impl Pieces {
    /// Takes what a stream has said; its ids go on where the last one ended.
    fn take(&mut self, stream: &Streamed) {
        for frame in stream.frames.iter().filter(|frame| frame.event == "chunk") {
            self.text.push_str(frame.data["content"].as_str().unwrap());
            assert_eq!(frame.id, self.text.len().to_string(), "{frame:?}");
        }
        self.position = stream.position().to_owned();
    }
}

/// A stored turn that goes on without its client.
fn continued(text: &str) -> Value {
    let mut body = prompt(MODEL, text);
    body["on_disconnect"] = json!("continue");
    body
}

/// Numbers that look random and are the same each time (the sequence of SplitMix64).
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % bound
    }
}

/// Reads a turn to its end, hanging up after a few events each time; returns how often that was.
pub(crate) async fn read_in_pieces(
    app: &TestApp,
    session: &Session,
    mut stream: Streamed,
    expected: &str,
    seed: u64,
) -> u32 {
    let (mut draw, mut pieces, mut cuts) = (Draw(seed), Pieces::default(), 0);
    let turn = {
        stream.next().await.unwrap();
        stream.turn_id().clone()
    };
    loop {
        let mut last = None;
        for _ in 0..draw.below(4) {
            last = stream.next().await;
            if last.is_none() {
                break;
            }
        }
        let has_ended = last.is_some_and(|frame| ["done", "error"].contains(&frame.event.as_str()));
        if !stream.frames.is_empty() {
            pieces.take(&stream);
        }
        if has_ended {
            assert_eq!(stream.frames.last().unwrap().event, "done");
            assert_eq!(pieces.text, expected);
            return cuts;
        }
        drop(stream);
        stream = app.resume(session, &turn, &pieces.position).await;
        cuts += 1;
    }
}

both_stores! {
    async fn b16_a_stream_that_is_cut_again_and_again_is_read_whole(store) {
        let app = service(store, [Model::new(MODEL).tokens(TOKENS).tokens_per_s(400.0)]).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let mut cuts = 0;
        for seed in 0..10 {
            let question = format!("story {seed}");
            let stream = app.ask(&ada, &continued(&question)).await;
            cuts += read_in_pieces(&app, &ada, stream, &answer(&question, TOKENS), seed).await;
        }
        assert!(cuts > 50, "{cuts}");
        let counters = app.ollama.control().counters();
        assert_eq!((app.asked().len(), counters.cancellations), (10, 0));
        app.finish().await;
    }
}

/// Reads a turn that has ended from every place its events had and some between, and from where it has none.
async fn read_from_everywhere(app: &TestApp, session: &Session, turn: &Value, whole: &str) {
    for at in (0..=whole.len()).filter(|at| whole.is_char_boundary(*at)) {
        let mut stream = app.resume(session, turn, &at.to_string()).await;
        let done = stream.last().await;
        assert_eq!((done.event.as_str(), done.id.as_str()), ("done", whole.len().to_string().as_str()));
        assert_eq!(stream.text(), &whole[at..]);
        assert_eq!(stream.frames[0].id, at.to_string(), "what comes before any text takes nothing back");
    }
    let path = format!("/v1/turns/{}/stream", turn.as_str().unwrap());
    for never in [format!("{}", whole.len() + 1), "0.1.0".into(), "0.0.1".into(), "-1".into(), "x".into()] {
        let refused = app.get(&path).bearer(&session.access).header("last-event-id", &never).send().await;
        refused.expect_error(400, "invalid_request");
    }
    let by_header = app.get(&path).bearer(&session.access).header("last-event-id", "x").send().await;
    let by_query = app.get(&format!("{path}?last_event_id=x")).bearer(&session.access).send().await;
    let message =
        |refused: Reply| refused.expect_error(400, "invalid_request").json()["error"]["message"].clone();
    assert_eq!(message(by_header), message(by_query));
    let by_query = app.get(&format!("{path}?last_event_id={}", whole.len())).bearer(&session.access);
    let mut by_query = Streamed::new(by_query.open().await.expect_status(200));
    assert_eq!(by_query.last().await.event, "done");
    assert_eq!(by_query.text(), "");
}

both_stores! {
    async fn b16_an_answer_that_has_ended_is_read_on_from_any_place_in_memory_and_in_the_store(store) {
        for kept in [Duration::from_secs(60), Duration::ZERO] {
            let app = service_with(store, [Model::new(MODEL).tokens(TOKENS)], move |config| {
                config.system.model.reply_kept = kept;
            })
            .await;
            let ada = app.sign_up_and_in("ada@example.org").await;
            let reply = app.chat(&ada, &prompt(MODEL, "tell me all")).send().await.expect_status(200).json();
            read_from_everywhere(&app, &ada, &reply["id"], &answer("tell me all", TOKENS)).await;
            app.finish().await;
        }
    }
}

both_stores! {
    async fn thoughts_and_tool_calls_are_read_on_as_well(store) {
        for kept in [60, 0] {
            let model = Model::new(MODEL).scenario(Scenario::Thinking);
            let app = service_with(store, [model], move |config| {
                config.system.model.reply_kept = Duration::from_secs(kept);
            })
            .await;
            let ada = app.sign_up_and_in("ada@example.org").await;
            let mut uncut = app.ask(&ada, &continued("think")).await;
            let done = uncut.last().await;
            let (thoughts, text) = (uncut.said("thinking"), uncut.text());
            assert!(!thoughts.is_empty() && !text.is_empty());
            for frame in &uncut.frames {
                let mut rest = app.resume(&ada, &done.data["id"], &frame.id).await;
                assert_eq!(rest.last().await.id, done.id);
                let mut parts = frame.id.split('.').map(|part| part.parse::<usize>().unwrap());
                let content = parts.next().unwrap();
                let thinking = parts.next().unwrap_or_default();
                assert_eq!((rest.said("thinking"), rest.text()), (thoughts[thinking..].to_owned(), text[content..].to_owned()));
            }
            app.finish().await;
        }
    }
}

both_stores! {
    async fn a_turn_says_how_it_stands_and_ends_by_its_name_wherever_it_is(store) {
        let app = service(store, [Model::new(MODEL).tokens(100_000).tokens_per_s(100.0)]).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let mut running = app.ask(&ada, &continued("for ever")).await;
        running.until("chunk").await;
        let mut waiting = app.ask(&ada, &continued("and ever")).await;
        waiting.until("queue").await;
        for stream in [&mut waiting, &mut running] {
            let turn = stream.turn_id().clone();
            let state = app.turn(&ada, &turn).await;
            assert_eq!((&state["object"], &state["status"], &state["ended_at"]), (&json!("turn"), &json!("streaming"), &Value::Null));
            let path = format!("/v1/turns/{}", turn.as_str().unwrap());
            let cancel = || app.call("DELETE", &path).bearer(&ada.access).send();
            cancel().await.expect_status(202);
            assert_eq!(stream.failure().await, "cancelled");
            let ended = cancel().await.expect_status(200).json();
            assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("cancelled"), &json!("cancelled")));
            assert_eq!(app.turn(&ada, &turn).await, ended);
            let message = app.conversation(&ada, &ended["conversation_id"]).await["messages"][1].clone();
            assert_eq!((&message["id"], &message["status"]), (&ended["message_id"], &json!("cancelled")));
            assert!(message["content"].as_str().unwrap().starts_with(&stream.text()));
        }
        until("the slot to be free", async || app.queue(&ada, MODEL).await["running"] == 0).await;
        assert_eq!(app.asked().len(), 1);
        app.finish().await;
    }
}

both_stores! {
    async fn a_turn_whose_answer_was_not_kept_says_so(store) {
        let app = service_with(store, [Model::new(MODEL).tokens(3)], |config| {
            config.system.model.reply_kept = Duration::ZERO;
        })
        .await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let reply = app.chat(&ada, &unstored(MODEL, "forget it")).send().await.expect_status(200).json();
        let path = format!("/v1/turns/{}", reply["id"].as_str().unwrap());
        let mut state = Value::Null;
        // Its row may wait a moment for company.
        until("its row", async || {
            state = app.get(&path).bearer(&ada.access).send().await.json();
            state["status"] == "complete"
        })
        .await;
        assert_eq!((&state["conversation_id"], &state["usage"]), (&Value::Null, &reply["usage"]));
        let gone = app.get(&format!("{path}/stream")).bearer(&ada.access).send().await;
        gone.expect_error(409, "conflict");
        app.finish().await;
    }
}

#[tokio::test]
async fn b17_a_thousand_connects_and_drops_leave_nothing_at_the_model_server() {
    let model = Model::new(MODEL).parallel(4).tokens(100_000).tokens_per_s(100.0);
    let options = crate::harness::Options::on(Store::Sqlite)
        .models([model])
        .tune(|config| config.http.drain_grace = Duration::from_millis(200));
    let app = TestApp::start(options).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    for round in 0..40 {
        let asks = (0..25).map(|n| {
            let body = unstored(MODEL, &format!("{round} {n}"));
            let (app, ada) = (&app, &ada);
            async move {
                let mut stream = app.ask(ada, &body).await;
                // Some leave in the queue, some at the start, some mid-stream.
                if n % 3 != 0 {
                    stream.next().await;
                }
                if n % 12 == 1 {
                    stream.until("chunk").await;
                }
            }
        });
        futures_util::future::join_all(asks).await;
    }
    app.quiet().await;
    assert_eq!(app.ollama.control().counters().in_flight, 0);
    assert_eq!(app.queue(&ada, MODEL).await["waiting"], 0);
    app.finish().await;
}
