//! `POST /v1/messages` and `/v1/messages/count_tokens`.

use std::time::Duration;

use serde_json::{Value, json};
use support::fake_ollama::{Model, Scenario};

use crate::{
    harness::{Call, Frame, MODEL, Session, Store, TestApp},
    turn::{answer, service, told},
};

fn body(text: &str) -> Value {
    json!({ "model": MODEL, "max_tokens": 64, "messages": [{ "role": "user", "content": told(text) }] })
}

fn streamed(text: &str) -> Value {
    let mut body = body(text);
    body["stream"] = json!(true);
    body
}

impl TestApp {
    fn messages(&self, session: &Session, body: &Value) -> Call {
        self.post("/v1/messages", body).bearer(&session.access)
    }
}

async fn one(model: Model) -> (TestApp, Session) {
    let app = service(Store::Sqlite, [model]).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    (app, ada)
}

/// What the events of this type hold, at a path.
fn said(frames: &[Frame], event: &str, path: &str) -> String {
    let of_it = frames.iter().filter(|frame| frame.event == event);
    of_it.filter_map(|frame| frame.data.pointer(path)?.as_str()).collect()
}

#[tokio::test]
async fn a_message_is_answered_whole_to_a_key_in_the_header_its_libraries_use() {
    let (app, ada) = one(Model::new(MODEL).tokens(5)).await;
    let (_, key) = app.create_key(&ada, "chat").await;
    let reply =
        app.post("/v1/messages", &body("hi")).header("x-api-key", &key).send().await.expect_status(200);
    let message = reply.json();
    assert_eq!(message["content"], json!([{ "type": "text", "text": answer("hi", 5) }]));
    assert_eq!((&message["type"], &message["role"]), (&json!("message"), &json!("assistant")));
    assert_eq!((&message["stop_reason"], &message["model"]), (&json!("end_turn"), &json!(MODEL)));
    assert_eq!(message["usage"]["output_tokens"], 5);
    assert!(message["id"].as_str().unwrap().starts_with("msg_"), "{message}");
    assert_eq!(reply.header("request-id"), reply.header("x-request-id"));
    assert!(app.get("/v1/conversations").bearer(&ada.access).send().await.json()["data"] == json!([]));
    app.finish().await;
}

#[tokio::test]
async fn b16_a_stream_is_blocks_within_a_message_and_ends_with_its_stop() {
    let (app, ada) = one(Model::new(MODEL).tokens(9)).await;
    let mut opened = app.messages(&ada, &streamed("hi")).open().await.expect_status(200);
    let frames = opened.rest().await;
    assert_eq!(said(&frames, "content_block_delta", "/delta/text"), answer("hi", 9));
    let mut kinds: Vec<_> = frames.iter().map(|frame| frame.event.as_str()).collect();
    kinds.dedup();
    let expected = [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(kinds, expected);
    assert!(frames.iter().all(|frame| frame.data["type"] == frame.event.as_str() && frame.id.is_empty()));
    app.finish().await;
}

#[tokio::test]
async fn a_tool_is_called_and_its_result_is_read() {
    let (app, ada) = one(Model::new(MODEL).scenario(Scenario::named("tools-last").unwrap())).await;
    let mut first = streamed("what time is it?");
    first["tools"] =
        json!([{ "name": "get_weather", "description": "d", "input_schema": { "type": "object" } }]);
    let frames = app.messages(&ada, &first).open().await.expect_status(200).rest().await;
    let start = frames.iter().find(|frame| frame.data["content_block"]["type"] == "tool_use").unwrap();
    let call = &start.data["content_block"];
    let input: Value =
        serde_json::from_str(&said(&frames, "content_block_delta", "/delta/partial_json")).unwrap();
    assert!(input.is_object(), "{input}");
    assert_eq!(said(&frames, "message_delta", "/delta/stop_reason"), "tool_use");
    let asked = app.asked()[0].json();
    assert_eq!(asked["tools"][0]["function"]["parameters"], json!({ "type": "object" }));

    let mut second = body("what time is it?");
    second["messages"] = json!([
        { "role": "user", "content": "what time is it?" },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": call["id"], "name": call["name"], "input": input }] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": call["id"], "content": "noon" }] },
    ]);
    app.messages(&ada, &second).send().await.expect_status(200);
    let asked = app.asked()[1].json();
    assert_eq!(asked["messages"][1]["tool_calls"][0]["function"]["arguments"], input);
    let result = &asked["messages"][2];
    assert_eq!((&result["role"], &result["content"]), (&json!("tool"), &json!("noon")));
    assert_eq!((&result["tool_name"], &result["tool_call_id"]), (&call["name"], &call["id"]));
    app.finish().await;
}

#[tokio::test]
async fn b12_errors_have_anthropics_shape_and_a_status_as_long_as_nothing_was_said() {
    let (app, ada) = one(Model::new(MODEL)).await;
    let error = |reply: crate::harness::Reply, status: u16, class: &str| {
        let reply = reply.expect_status(status);
        let said = reply.json();
        assert_eq!((&said["type"], &said["error"]["type"]), (&json!("error"), &json!(class)), "{reply:?}");
        assert_eq!(said["request_id"], reply.header("x-request-id").unwrap(), "{reply:?}");
    };
    error(app.post("/v1/messages", &body("hi")).send().await, 401, "authentication_error");
    let mut missing = body("hi");
    missing["model"] = json!("nothing");
    error(app.messages(&ada, &missing).send().await, 404, "not_found_error");
    let mut wrong = body("hi");
    wrong["max_tokens"] = json!("many");
    error(app.messages(&ada, &wrong).send().await, 400, "invalid_request_error");
    error(app.get("/v1/messages").bearer(&ada.access).send().await, 405, "invalid_request_error");
    app.ollama.control().set_scenario(MODEL, Scenario::named("error-500").unwrap());
    error(app.messages(&ada, &streamed("hi")).send().await, 502, "api_error");
    app.ollama.control().set_scenario(MODEL, Scenario::named("no-done").unwrap());
    let frames = app.messages(&ada, &streamed("hi")).open().await.expect_status(200).rest().await;
    let last = frames.last().unwrap();
    assert_eq!((last.event.as_str(), &last.data["error"]["type"]), ("error", &json!("api_error")));
    assert!(frames.iter().all(|frame| frame.event != "message_stop"), "{frames:#?}");
    app.finish().await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_turn_along() {
    let (app, ada) = one(Model::new(MODEL).tokens(10_000).tokens_per_s(50.0)).await;
    let mut opened = app.messages(&ada, &streamed("hi")).open().await.expect_status(200);
    while opened.next().await.unwrap().event != "content_block_delta" {}
    drop(opened);
    let left = |counters: &support::fake_ollama::Counters| counters.in_flight == 0;
    app.ollama.control().wait_until(left, Duration::from_secs(10)).await.unwrap();
    app.finish().await;
}

#[tokio::test]
async fn tokens_are_estimated_without_asking_a_model() {
    let (app, ada) = one(Model::new(MODEL)).await;
    let mut counted = body(&"x".repeat(4_000));
    counted.as_object_mut().unwrap().remove("max_tokens");
    let path = "/v1/messages/count_tokens";
    let reply = app.post(path, &counted).bearer(&ada.access).send().await.expect_status(200).json();
    assert!(reply["input_tokens"].as_u64().unwrap() >= 1_000, "{reply}");
    counted["model"] = json!("nothing");
    app.post(path, &counted).bearer(&ada.access).send().await.expect_status(404);
    assert!(app.asked().is_empty());
    app.finish().await;
}
