//! Every way in which a model server goes wrong, through the whole service.
//!
//! Each scenario of the fake server is asked for whole and as a stream. Whatever it does there is one answer or one
//! error of ours, what was said is kept, no word of the server's own travels, and the slot is free afterwards.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use support::fake_ollama::{Model, Scenario, ToolCalls};

use crate::{
    harness::{MODEL, Session, Store, TestApp},
    turn::{answer, options, prompt, service, service_with, unstored},
};

/// Long enough for every scenario that is meant to succeed.
const FIRST_BYTE: Duration = Duration::from_secs(12);
const IDLE: Duration = Duration::from_secs(3);

/// An answer in full, and how many tokens of it the fake says on its own.
const TOKENS: u64 = 32;

/// What becomes of a scenario.
enum Fate {
    /// Complete, with this text.
    Says(String),
    /// The status of the whole answer, the code, and the text that was kept.
    Fails(u16, &'static str, String),
}

use Fate::{Fails, Says};

fn fate(scenario: &str, question: &str) -> Fate {
    let said = |tokens| answer(question, tokens);
    let nothing = String::new;
    match scenario {
        "normal" | "slow-headers" | "busy-then-ok" | "half-lines" | "lines-per-chunk" | "byte-chunks"
        | "context-2m" | "last-content" | "no-metrics" | "odd-reason" | "no-reason" | "logprobs" | "crlf"
        | "content-length" | "http10" | "chunk-extensions" | "lower-case" | "informational" => {
            Says(said(TOKENS))
        }
        "blank-line" | "bom" | "double-done" | "after-done" => Says(said(3)),
        "utf8-split" | "escape-split" => Says("face 😀 !".to_owned()),
        "thinking" => Says(said(11)[said(5).len()..].to_owned()),
        "tools-last" | "tools-mid" => Says(said(2)),
        "tools-two" => Says(nothing()),
        "error-400" | "nested-error" => Fails(400, "invalid_request", nothing()),
        "error-500" | "canceled" | "sign-in" | "out-of-memory" | "html-502" | "html-200" | "endless-line" => {
            Fails(502, "upstream_error", nothing())
        }
        "error-503" => Fails(503, "overloaded", nothing()),
        "error-line" | "bad-json" | "stall" => Fails(502, "upstream_error", said(3)),
        // No tools were asked for, so the silence before the call is a stall.
        "tools-silence" => Fails(502, "upstream_error", said(2)),
        "no-done" | "fin" | "fin-half" | "reset" | "reset-half" => Fails(502, "upstream_incomplete", said(3)),
        "line-9m" => Fails(502, "reply_too_large", nothing()),
        "stall-headers" => Fails(504, "deadline_exceeded", nothing()),
        other => panic!("nobody has decided what becomes of {other}"),
    }
}

/// Words of the model server, or of what stands before it, that are none of a client's business.
const FOREIGN: [&str; 9] = [
    "boom",
    "signin",
    "ollama.com",
    "<html",
    "Bad Gateway",
    "GiB",
    "127.0.0.1",
    "unexpectedly stopped",
    "request canceled",
];

async fn is_answered_as_a_whole(app: &TestApp, ada: &Session, scenario: &str) {
    let question = format!("{scenario} as a whole");
    let body = prompt(&format!("fake-{scenario}"), &question);
    let reply = app.chat(ada, &body).send().await;
    match fate(scenario, &question) {
        Says(text) => {
            let reply = reply.expect_status(200).json();
            assert_eq!(reply["message"]["content"], text, "{scenario}");
            assert_eq!(reply["stored"], true, "{scenario}");
        }
        Fails(status, code, _) => {
            let reply = reply.expect_error(status, code);
            assert_speaks_for_itself(scenario, &reply.text());
            assert_eq!(reply.header("retry-after").is_some(), status == 503, "{scenario}");
        }
    }
}

async fn is_streamed(app: &TestApp, ada: &Session, scenario: &str) {
    let question = format!("{scenario} as a stream");
    let mut events = app.ask(ada, &prompt(&format!("fake-{scenario}"), &question)).await;
    let last = events.last().await;
    let (status, text) = match fate(scenario, &question) {
        Says(text) => {
            assert_eq!(last.event, "done", "{scenario}: {last:?}");
            ("complete", text)
        }
        Fails(_, code, text) => {
            assert_eq!(last.data["error"]["code"], code, "{scenario}: {last:?}");
            assert_speaks_for_itself(scenario, events.raw());
            ("failed", text)
        }
    };
    assert_eq!(events.text(), text, "{scenario}");
    let Some(start) = events.frames.iter().find(|frame| frame.event == "start") else { return };
    let stored = app.settled(ada, &start.data["conversation_id"]).await;
    assert_eq!([&stored["status"], &stored["content"]], [&json!(status), &json!(text)], "{scenario}");
}

fn assert_speaks_for_itself(scenario: &str, told: &str) {
    for words in FOREIGN {
        assert!(!told.contains(words), "{scenario}: {words:?} travelled: {told}");
    }
}

#[tokio::test]
async fn every_fault_of_a_model_server_is_one_error_of_ours_and_frees_the_slot() {
    let app = service_with(Store::Sqlite, Model::every_scenario(), |config| {
        config.system.model.timeouts.first_byte = FIRST_BYTE;
        config.system.model.timeouts.idle = IDLE;
        // So many faults at once are not one server that is away.
        config.system.model.breaker_failures = u32::MAX;
        config.http.heartbeat = Duration::from_secs(1);
    })
    .await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let both = Scenario::CATALOGUE.iter().map(|(scenario, _)| {
        let (app, ada) = (&app, &ada);
        async move {
            // Up to twenty seconds of trying again, which only a stream's heartbeats make bearable.
            if *scenario != "error-503" {
                is_answered_as_a_whole(app, ada, scenario).await;
            }
            app.ollama
                .control()
                .set_scenario(&format!("fake-{scenario}"), Scenario::named(scenario).unwrap());
            is_streamed(app, ada, scenario).await;
            let queue = app.queue(ada, &format!("fake-{scenario}")).await;
            assert_eq!([&queue["running"], &queue["waiting"]], [&json!(0), &json!(0)], "{scenario}");
        }
    });
    join_all(both).await;
    app.finish().await;
}

/// Ollama sends nothing while a long tool call is made; a caller with tools is patient.
#[tokio::test]
async fn a_caller_with_tools_outlasts_the_silence_before_a_call() {
    let silence = Scenario::ToolCalls(ToolCalls::AfterSilence(Duration::from_millis(600)));
    let app = service_with(Store::Sqlite, [Model::new(MODEL).scenario(silence)], |config| {
        config.system.model.timeouts.idle = Duration::from_millis(200);
    })
    .await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let mut body = unstored(MODEL, "what is the weather");
    body["tools"] = json!([{
        "type": "function",
        "function": { "name": "get_weather", "parameters": { "type": "object", "properties": {} } }
    }]);
    let reply = app.chat(&ada, &body).send().await.expect_status(200).json();
    assert_eq!(reply["finish_reason"], "tool_calls");
    assert_eq!(reply["message"]["tool_calls"][0]["function"]["name"], "get_weather");

    body["tools"] = Value::Null;
    app.chat(&ada, &body).send().await.expect_error(502, "upstream_error");
    app.finish().await;
}

#[tokio::test]
async fn a_model_server_that_is_gone_is_a_502_and_one_that_comes_back_serves_again() {
    let app = service(Store::Sqlite, [Model::new(MODEL)]).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    app.warm_up(&ada, MODEL).await;
    let fake = app.ollama.control();
    let asks = || app.chat(&ada, &unstored(MODEL, "anybody there")).send();

    fake.close().await;
    asks().await.expect_error(502, "upstream_error");
    fake.accept_and_close().await.unwrap();
    asks().await.expect_error(502, "upstream_error");
    fake.reopen().await.unwrap();
    asks().await.expect_status(200);
    // Connections kept from before are dead; nobody notices.
    fake.close_idle_connections();
    asks().await.expect_status(200);
    app.finish().await;
}

#[tokio::test]
async fn a_network_that_freezes_mid_stream_is_given_up_after_its_silence() {
    let model = Model::new(MODEL).tokens(1_000).tokens_per_s(100.0);
    let options = options(Store::Sqlite, [model]).ollama_through_a_proxy().tune(|config| {
        config.system.model.timeouts.idle = Duration::from_millis(300);
    });
    let app = TestApp::start(options).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let mut events = app.ask(&ada, &prompt(MODEL, "and then")).await;
    events.until("chunk").await;
    app.ollama_proxy().freeze();
    assert_eq!(events.failure().await, "upstream_error");
    app.ollama_proxy().heal().await.unwrap();
    let kept = app.settled(&ada, &events.start()["conversation_id"]).await;
    assert_eq!([&kept["status"], &kept["content"]], [&json!("failed"), &json!(events.text())]);
    app.ollama.control().change_model(MODEL, |model| model.tokens = 2);
    app.chat(&ada, &unstored(MODEL, "again")).send().await.expect_status(200);
    app.finish().await;
}
