//! `/v1/responses`: what OpenAI's clients find here.

use serde_json::{Value, json};
use support::fake_ollama::Model;

use crate::{
    harness::{Frame, MODEL, PATIENCE, Session, Store, TestApp, both_stores},
    turn::{answer, service, told},
};

const PATH: &str = "/v1/responses";

fn asking(model: &str, text: &str) -> Value {
    json!({ "model": model, "input": told(text) })
}

fn streamed(mut body: Value) -> Value {
    body["stream"] = json!(true);
    body
}

async fn start(store: Store, models: impl IntoIterator<Item = Model>) -> (TestApp, Session) {
    let app = service(store, models).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    (app, ada)
}

impl TestApp {
    async fn responded(&self, session: &Session, body: &Value) -> Value {
        self.post(PATH, body).bearer(&session.access).send().await.expect_status(200).json()
    }

    /// All events of a stream: each has its name in its data and the number of its place.
    async fn events(&self, session: &Session, body: Value) -> Vec<Frame> {
        let call = self.post(PATH, &streamed(body)).bearer(&session.access);
        let frames = call.open().await.expect_status(200).rest().await;
        for (nth, frame) in frames.iter().enumerate() {
            assert_eq!(
                (&frame.data["type"], &frame.data["sequence_number"]),
                (&json!(frame.event), &json!(nth))
            );
            assert!(frame.id.is_empty(), "an id would break OpenAI's library at the next comment: {frame:?}");
        }
        frames
    }
}

fn said(frames: &[Frame], event: &str) -> String {
    let of_it = frames.iter().filter(|frame| frame.event == event);
    of_it.filter_map(|frame| frame.data["delta"].as_str()).collect()
}

/// The text of a response's first message.
fn text(response: &Value) -> &str {
    let mut items = response["output"].as_array().unwrap().iter();
    items.find(|item| item["type"] == "message").expect("a message")["content"][0]["text"].as_str().unwrap()
}

#[tokio::test]
async fn what_is_asked_is_answered_whole_or_as_events_and_leaves_nothing_but_its_usage() {
    let (app, ada) = start(Store::Sqlite, [Model::new(MODEL).tokens(7)]).await;
    let reply = app.post(PATH, &asking(MODEL, "hi")).bearer(&ada.access).send().await.expect_status(200);
    for name in ["x-queue-position", "x-queue-wait-ms", "openai-processing-ms", "x-request-id"] {
        assert!(reply.header(name).is_some(), "{name}: {reply:?}");
    }
    let whole = reply.json();
    assert!(whole["id"].as_str().unwrap().starts_with("resp_"), "{whole}");
    assert_eq!((&whole["object"], &whole["status"]), (&json!("response"), &json!("completed")));
    assert_eq!((&whole["model"], text(&whole)), (&json!(MODEL), &*answer("hi", 7)));
    assert_eq!((&whole["usage"]["output_tokens"], &whole["usage"]["total_tokens"]), (&json!(7), &json!(8)));
    assert_eq!((&whole["store"], &whole["error"], whole.get("stored")), (&json!(false), &Value::Null, None));

    let frames = app.events(&ada, asking(MODEL, "hi")).await;
    assert_eq!(said(&frames, "response.output_text.delta"), answer("hi", 7));
    let mut kinds: Vec<_> = frames.iter().map(|frame| frame.event.as_str()).collect();
    kinds.dedup();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    let last = &frames.last().unwrap().data["response"];
    assert_eq!((text(last), &last["id"]), (&*answer("hi", 7), &frames[0].data["response"]["id"]));

    let mut short = asking(MODEL, "hi");
    short["max_output_tokens"] = json!(2);
    let frames = app.events(&ada, short).await;
    let last = frames.last().unwrap();
    assert_eq!(
        (&*last.event, &last.data["response"]["status"]),
        ("response.incomplete", &json!("incomplete"))
    );

    let listed = app.get("/v1/conversations").bearer(&ada.access).send().await.expect_status(200).json();
    assert_eq!(listed["data"], json!([]));
    app.finish().await;
}

both_stores! {
    async fn a_response_that_was_stored_is_gone_on_from_and_no_other_is(store) {
        let (app, ada) = start(store, [Model::new(MODEL).tokens(3)]).await;
        let eve = app.sign_up_and_in("eve@example.org").await;
        let mut first = asking(MODEL, "one");
        first["store"] = json!(true);
        first["instructions"] = json!(told("be brief"));
        let first = app.responded(&ada, &first).await;
        assert_eq!(first["stored"], true);

        let mut second = asking(MODEL, "two");
        second["previous_response_id"] = first["id"].clone();
        let third = app.responded(&ada, &second).await;
        assert_eq!((&third["previous_response_id"], &third["store"]), (&first["id"], &json!(true)));
        let sent = app.asked().pop().unwrap().json();
        let said: Vec<_> = sent["messages"].as_array().unwrap().iter().map(|message| &message["content"]).collect();
        assert_eq!(said, [&json!(told("be brief")), &json!(told("one")), &json!(text(&first)), &json!(told("two"))]);
        // From the same place once more, as a branch; and on from what was made last.
        app.responded(&ada, &second).await;
        second["previous_response_id"] = third["id"].clone();
        app.responded(&ada, &second).await;
        assert_eq!(app.asked().pop().unwrap().json()["messages"].as_array().unwrap().len(), 6);
        app.only_conversation(&ada).await;

        let param = |refused: Value| refused["error"]["param"].clone();
        let ask = async |session: &Session, body: &Value, status, code: &str| {
            let call = app.post(PATH, body).bearer(&session.access);
            param(call.send().await.expect_error(status, code).json())
        };
        assert_eq!(ask(&eve, &second, 404, "not_found").await, "previous_response_id");
        second["previous_response_id"] = app.responded(&ada, &asking(MODEL, "not kept")).await["id"].clone();
        assert_eq!(ask(&ada, &second, 404, "not_found").await, "previous_response_id");
        app.finish().await;
    }
}

#[tokio::test]
async fn what_is_asked_reaches_the_model_server_in_its_words_and_nothing_else_does() {
    let (app, ada) = start(Store::Sqlite, [Model::new(MODEL)]).await;
    let body = json!({
        "model": MODEL, "max_output_tokens": 3, "temperature": 0.5, "keep_alive": 0, "Model": "secret",
        "\u{212a}eep_alive": 0, "options": { "num_ctx": 1 }, "metadata": { "a": "b" },
        // The model does not think.
        "reasoning": { "effort": "high" },
        "text": { "format": { "type": "json_schema", "name": "x", "schema": { "type": "object" } } },
        "input": [{ "role": "user", "content": [
            { "type": "input_text", "text": told("what is this") },
            { "type": "input_image", "image_url": "data:image/png;base64,AAAA" },
        ] }],
    });
    assert_eq!(app.responded(&ada, &body).await["metadata"], json!({ "a": "b" }));
    assert_eq!(
        app.asked().pop().unwrap().json(),
        json!({
            "model": MODEL,
            "messages": [{ "role": "user", "content": told("what is this"), "images": ["AAAA"] }],
            "stream": true,
            "options": { "num_predict": 3, "temperature": 0.5 },
            "format": { "type": "object" },
        })
    );
    app.finish().await;
}

#[tokio::test]
async fn functions_are_called_and_what_came_of_them_goes_back() {
    let (app, ada) = start(Store::Sqlite, Model::every_scenario()).await;
    let mut body = asking("fake-tools-two", "call");
    body["tools"] = json!([
        { "type": "function", "name": "get_weather", "parameters": { "type": "object" } },
        { "type": "function", "name": "get_tides" },
    ]);
    let whole = app.responded(&ada, &body).await;
    let calls = whole["output"].as_array().unwrap();
    assert_eq!(calls.iter().map(|call| &call["name"]).collect::<Vec<_>>(), ["get_weather", "get_tides"]);
    let frames = app.events(&ada, body.clone()).await;
    let arguments = said(&frames, "response.function_call_arguments.delta");
    assert_eq!(arguments, [&calls[0], &calls[1]].map(|call| call["arguments"].as_str().unwrap()).concat());
    assert_eq!(frames.last().unwrap().data["response"]["output"][1]["call_id"], calls[1]["call_id"]);

    let mut items = vec![json!({ "role": "user", "content": told("call") })];
    items.extend(calls.iter().cloned());
    items.push(
        json!({ "type": "function_call_output", "call_id": calls[0]["call_id"], "output": told("rain") }),
    );
    body["input"] = json!(items);
    body["tool_choice"] = json!("none");
    app.responded(&ada, &body).await;
    let sent = app.asked().pop().unwrap().json();
    assert!(sent.get("tools").is_none(), "{sent}");
    assert_eq!(sent["messages"][1]["tool_calls"].as_array().unwrap().len(), 2);
    assert_eq!(
        sent["messages"][2],
        json!({ "role": "tool", "content": told("rain"), "tool_name": "get_weather", "tool_call_id": calls[0]["call_id"] })
    );
    app.finish().await;
}

#[tokio::test]
async fn thoughts_are_an_item_of_their_own_before_the_message() {
    let (app, ada) = start(Store::Sqlite, Model::every_scenario()).await;
    let whole = app.responded(&ada, &asking("fake-thinking", "think")).await;
    let items = whole["output"].as_array().unwrap();
    assert_eq!(items.iter().map(|item| &item["type"]).collect::<Vec<_>>(), ["reasoning", "message"]);
    let frames = app.events(&ada, asking("fake-thinking", "think")).await;
    assert_eq!(said(&frames, "response.reasoning_summary_text.delta"), items[0]["summary"][0]["text"]);
    assert_eq!(said(&frames, "response.output_text.delta"), text(&whole));
    app.finish().await;
}

#[tokio::test]
async fn b16_what_goes_wrong_in_a_stream_is_told_in_it_and_never_looks_like_an_end() {
    let (app, ada) = start(Store::Sqlite, Model::every_scenario()).await;
    for (model, code) in [
        ("fake-error-line", "upstream_error"),
        ("fake-no-done", "upstream_incomplete"),
        ("fake-fin", "upstream_incomplete"),
        ("fake-bad-json", "upstream_error"),
    ] {
        let frames = app.events(&ada, asking(model, "hi")).await;
        let [.., failed, error] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!((&*failed.event, &*error.event), ("response.failed", "error"), "{model}");
        assert_eq!(failed.data["response"]["error"]["code"], code, "{model}");
        assert_eq!((&error.data["code"], &error.data["error"]["code"]), (&json!(code), &json!(code)));
        assert_eq!(text(&failed.data["response"]), said(&frames, "response.output_text.delta"), "{model}");
        assert!(frames.iter().all(|frame| frame.event != "response.completed"), "{model}");
        let whole = app.post(PATH, &asking(model, "hi")).bearer(&ada.access).send().await;
        whole.expect_error(502, code);
    }
    for (model, status, code) in
        [("no-such-model", 404, "model_not_found"), ("fake-error-400", 400, "invalid_request")]
    {
        let call = app.post(PATH, &streamed(asking(model, "hi"))).bearer(&ada.access);
        call.send().await.expect_error(status, code);
    }
    app.finish().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_the_turn_at_the_model_server() {
    let (app, ada) = start(Store::Sqlite, [Model::new(MODEL).tokens(100_000).tokens_per_s(100.0)]).await;
    let call = app.post(PATH, &streamed(asking(MODEL, "a long story"))).bearer(&ada.access);
    let mut opened = call.open().await.expect_status(200);
    opened.until(1, "response.output_text.delta").await;
    drop(opened);
    app.ollama.control().wait_until(|counters| counters.cancellations == 1, PATIENCE).await.unwrap();
    app.finish().await;
}
