//! `/v1/chat/completions`, `/v1/completions` and `/v1/embeddings`: what OpenAI's clients find here.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use support::fake_ollama::Model;

use crate::{
    harness::{Call, MODEL, PATIENCE, Reply, Session, Store, TestApp},
    turn::{answer, service, told},
};

const CHAT: &str = "/v1/chat/completions";
const EMBEDDER: &str = "nomic-embed-text";

fn asking(model: &str, text: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": told(text) }] })
}

fn streamed(mut body: Value) -> Value {
    body["stream"] = json!(true);
    body["stream_options"] = json!({ "include_usage": true });
    body
}

async fn start(models: impl IntoIterator<Item = Model>) -> (TestApp, Session) {
    let app = service(Store::Sqlite, models).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    (app, ada)
}

impl TestApp {
    fn openai(&self, session: &Session, path: &str, body: &Value) -> Call {
        self.post(path, body).bearer(&session.access)
    }

    async fn completed(&self, session: &Session, body: &Value) -> Value {
        self.openai(session, CHAT, body).send().await.expect_status(200).json()
    }

    /// What the model server was sent last.
    fn sent(&self) -> Value {
        self.asked().pop().expect("a chat").json()
    }
}

/// A whole stream's chunks, and whether it ended with the mark of a whole one. It has no lines that OpenAI's libraries fail at.
fn chunks(reply: &Reply) -> (Vec<Value>, bool) {
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    let text = reply.text();
    assert!(text.ends_with("\n\n"), "{text}");
    let mut frames: Vec<&str> =
        text.trim_end().split("\n\n").filter(|frame| !frame.starts_with(':')).collect();
    let is_done = frames.pop_if(|last| *last == "data: [DONE]").is_some();
    let json = |frame: &str| {
        let data = frame.strip_prefix("data: ").unwrap_or_else(|| panic!("{frame:?}"));
        serde_json::from_str(data).unwrap_or_else(|_| panic!("{frame:?}"))
    };
    (frames.into_iter().map(json).collect(), is_done)
}

fn said(chunks: &[Value], field: &str) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"][field].as_str()).collect()
}

#[tokio::test]
async fn a_chat_is_answered_whole_or_in_chunks_and_leaves_nothing_but_its_usage() {
    let (app, ada) = start([Model::new(MODEL).tokens(7)]).await;
    let reply = app.openai(&ada, CHAT, &asking(MODEL, "hi")).send().await.expect_status(200);
    assert_eq!(reply.header("x-queue-position"), Some("0"));
    for name in [
        "x-queue-wait-ms",
        "openai-processing-ms",
        "x-request-id",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-limit-requests",
    ] {
        assert!(reply.header(name).is_some(), "{name}: {reply:?}");
    }
    let whole = reply.json();
    let id = whole["id"].as_str().unwrap();
    assert!(id.starts_with("chatcmpl-") && id.len() == 41, "{id}");
    assert_eq!(
        whole["choices"],
        json!([{
            "index": 0, "message": { "role": "assistant", "content": answer("hi", 7), "refusal": null },
            "logprobs": null, "finish_reason": "stop",
        }])
    );
    assert_eq!((&whole["object"], &whole["model"]), (&json!("chat.completion"), &json!(MODEL)));
    assert_eq!(whole["usage"]["total_tokens"], 8);
    assert!(whole["created"].is_i64() && whole["timings"]["first_token_ms"].is_u64(), "{whole}");

    let reply = app.openai(&ada, CHAT, &streamed(asking(MODEL, "hi"))).send().await.expect_status(200);
    let (chunks, is_done) = chunks(&reply);
    assert!(is_done && reply.header("openai-processing-ms").is_some());
    assert_eq!(said(&chunks, "content"), answer("hi", 7));
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    assert!(chunks.iter().all(|chunk| {
        chunk["id"] == chunks[0]["id"] && chunk["created"] == chunks[0]["created"] && chunk["model"] == MODEL
    }));
    let [.., finish, usage] = &chunks[..] else { panic!("{chunks:?}") };
    assert_eq!(finish["choices"], json!([{ "index": 0, "delta": {}, "finish_reason": "stop" }]));
    assert_eq!((&usage["choices"], &usage["usage"]["completion_tokens"]), (&json!([]), &json!(7)));

    let listed = app.get("/v1/conversations").bearer(&ada.access).send().await.expect_status(200).json();
    assert_eq!(listed["data"], json!([]));
    app.finish().await;
}

#[tokio::test]
async fn a_chat_that_is_to_be_stored_becomes_a_conversation() {
    let (app, ada) = start([Model::new(MODEL).tokens(3)]).await;
    let mut body = asking(MODEL, "keep this");
    body["store"] = json!(true);
    assert_eq!(app.completed(&ada, &body).await["stored"], true);
    let (chunks, is_done) = chunks(&app.openai(&ada, CHAT, &streamed(body)).send().await);
    assert!(is_done);
    assert_eq!(chunks[chunks.len() - 2]["stored"], true);
    let listed = app.get("/v1/conversations").bearer(&ada.access).send().await.expect_status(200).json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 2, "{listed}");
    app.finish().await;
}

#[tokio::test]
async fn what_is_asked_reaches_the_model_server_in_its_words_and_nothing_else_does() {
    let (app, ada) = start([Model::new(MODEL)]).await;
    let mut body = asking(MODEL, "hi");
    for (name, value) in [
        ("max_completion_tokens", json!(3)),
        ("max_tokens", json!(9)),
        ("temperature", json!(0.5)),
        ("seed", json!(7)),
        ("stop", json!("END")),
        (
            "response_format",
            json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": { "type": "object" } } }),
        ),
        // The model does not think.
        ("reasoning_effort", json!("high")),
        ("keep_alive", json!(0)),
        ("Model", json!("secret")),
        ("\u{212a}eep_alive", json!(0)),
        ("options", json!({ "num_ctx": 1 })),
        ("metadata", json!({ "a": "b" })),
    ] {
        body[name] = value;
    }
    body["messages"][0]["content"] = json!([
        { "type": "text", "text": told("what is this") },
        { "type": "image_url", "image_url": { "url": "data:image/png;base64,AAAA" } },
    ]);
    app.completed(&ada, &body).await;
    assert_eq!(
        app.sent(),
        json!({
            "model": MODEL,
            "messages": [{ "role": "user", "content": told("what is this"), "images": ["AAAA"] }],
            "stream": true,
            "options": { "num_predict": 3, "seed": 7, "temperature": 0.5, "stop": ["END"] },
            "format": { "type": "object" },
        })
    );

    body["messages"][0]["content"][1]["image_url"]["url"] = json!("http://127.0.0.1:1/cat.png");
    let refused = app.openai(&ada, CHAT, &body).send().await.expect_error(400, "invalid_request").json();
    assert_eq!(refused["error"]["param"], "messages[0].content[1].image_url.url");
    assert_eq!(app.asked().len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn a_tool_is_called_and_its_result_goes_back_by_its_name() {
    let (app, ada) = start(Model::every_scenario()).await;
    let tool = json!({ "type": "function", "function": { "name": "get_weather", "parameters": { "type": "object" } } });
    let mut body = asking("fake-tools-two", "call");
    body["tools"] = json!([tool]);
    let whole = app.completed(&ada, &body).await;
    let choice = &whole["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), 2);
    let arguments: Value = serde_json::from_str(calls[0]["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({ "city": "Oslo", "days": 2 }));

    let (chunks, is_done) = chunks(&app.openai(&ada, CHAT, &streamed(body.clone())).send().await);
    assert!(is_done);
    let deltas: Vec<&Value> = chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["delta"]["tool_calls"][0])
        .filter(|call| !call.is_null())
        .collect();
    assert_eq!(deltas.iter().map(|call| &call["index"]).collect::<Vec<_>>(), [&json!(0), &json!(1)]);
    assert_eq!(deltas[0]["function"], calls[0]["function"]);
    assert_eq!(chunks[chunks.len() - 2]["choices"][0]["finish_reason"], "tool_calls");

    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(choice["message"].clone());
    messages.push(json!({ "role": "tool", "tool_call_id": calls[0]["id"], "content": told("rain") }));
    body["tool_choice"] = json!("none");
    app.completed(&ada, &body).await;
    let sent = app.sent();
    assert!(sent.get("tools").is_none(), "{sent}");
    assert_eq!(sent["messages"][1]["tool_calls"][0]["function"]["arguments"], arguments);
    assert_eq!(
        sent["messages"][2],
        json!({ "role": "tool", "content": told("rain"), "tool_name": "get_weather", "tool_call_id": calls[0]["id"] })
    );
    app.finish().await;
}

#[tokio::test]
async fn thoughts_have_both_names_and_probabilities_come_where_they_are_asked_for() {
    let (app, ada) = start(Model::every_scenario()).await;
    let mut body = asking("fake-thinking", "think");
    body["reasoning_effort"] = json!("none");
    let message = app.completed(&ada, &body).await["choices"][0]["message"].clone();
    assert_eq!(app.sent()["think"], false);
    assert_eq!(message["reasoning"], message["reasoning_content"]);
    assert!(!message["reasoning"].as_str().unwrap().is_empty());
    let (thinking, _) = chunks(&app.openai(&ada, CHAT, &streamed(body)).send().await);
    for field in ["reasoning", "reasoning_content", "content"] {
        let whole = message[if field == "content" { field } else { "reasoning" }].as_str().unwrap();
        assert_eq!(said(&thinking, field), whole, "{field}");
    }

    let mut body = asking("fake-logprobs", "how sure");
    body["logprobs"] = json!(true);
    let whole = app.completed(&ada, &body).await;
    let tokens = whole["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert!(!tokens.is_empty() && tokens.iter().all(|token| token["logprob"] == -0.25), "{tokens:?}");
    let (chunks, _) = chunks(&app.openai(&ada, CHAT, &streamed(body)).send().await);
    let told: Vec<&Value> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array())
        .flatten()
        .collect();
    assert_eq!(told, tokens.iter().collect::<Vec<_>>());
    app.finish().await;
}

#[tokio::test]
async fn what_goes_wrong_before_the_first_word_keeps_its_status_in_a_stream_too() {
    let (app, ada) = start(Model::every_scenario()).await;
    for (model, status, code) in [
        ("no-such-model", 404, "model_not_found"),
        ("fake-error-400", 400, "invalid_request"),
        ("fake-error-500", 502, "upstream_error"),
        ("fake-error-503", 503, "overloaded"),
        ("fake-html-502", 502, "upstream_error"),
    ] {
        let (whole, stream) = (asking(model, "hi"), streamed(asking(model, "hi")));
        // A busy server is asked again for longer than a stream waits for its first word.
        let bodies = if status == 503 { vec![whole] } else { vec![whole, stream] };
        for body in bodies {
            let refused = app.openai(&ada, CHAT, &body).send().await.expect_error(status, code);
            let seconds = refused.header("retry-after").map(|seconds| seconds.parse::<u64>().unwrap());
            assert_eq!(seconds.is_some_and(|seconds| seconds > 0), status == 503, "{refused:?}");
            assert!(refused.json()["error"]["type"].as_str().unwrap().ends_with("_error"), "{refused:?}");
        }
    }
    let mut many = asking("fake-normal", "hi");
    many["n"] = json!(2);
    app.openai(&ada, CHAT, &many).send().await.expect_error(400, "invalid_request");
    app.finish().await;
}

#[tokio::test]
async fn b16_what_goes_wrong_in_a_stream_is_told_in_it_and_never_looks_like_an_end() {
    let (app, ada) = start(Model::every_scenario()).await;
    for (model, code) in [
        ("fake-error-line", "upstream_error"),
        ("fake-no-done", "upstream_incomplete"),
        ("fake-fin", "upstream_incomplete"),
        ("fake-bad-json", "upstream_error"),
    ] {
        let reply = app.openai(&ada, CHAT, &streamed(asking(model, "hi"))).send().await.expect_status(200);
        let (chunks, is_done) = chunks(&reply);
        assert!(!is_done, "{model}: {reply:?}");
        assert!(!said(&chunks, "content").is_empty(), "{model}: {reply:?}");
        let (last, before) = chunks.split_last().unwrap();
        assert_eq!(last["error"]["code"], code, "{model}: {last}");
        assert_eq!(last["error"]["request_id"], reply.header("x-request-id").unwrap());
        assert!(before.iter().all(|chunk| chunk["choices"][0]["finish_reason"].is_null()), "{model}");
        app.openai(&ada, CHAT, &asking(model, "hi")).send().await.expect_error(502, code);
    }
    app.finish().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_the_turn_at_the_model_server() {
    let (app, ada) = start([Model::new(MODEL).tokens(100_000).tokens_per_s(100.0)]).await;
    let mut opened =
        app.openai(&ada, CHAT, &streamed(asking(MODEL, "a long story"))).open().await.expect_status(200);
    while opened.next().await.expect("more").data["choices"][0]["delta"]["content"] == "" {}
    drop(opened);
    app.ollama.control().wait_until(|counters| counters.cancellations == 1, PATIENCE).await.unwrap();
    app.finish().await;
}

#[tokio::test]
async fn a_stream_that_has_to_wait_long_begins_with_its_place_in_line() {
    let (app, ada) = start([Model::new(MODEL).tokens(100_000).tokens_per_s(100.0)]).await;
    let mut running =
        app.openai(&ada, CHAT, &streamed(asking(MODEL, "first"))).open().await.expect_status(200);
    running.next().await.expect("a chunk");
    let mut waiting =
        app.openai(&ada, CHAT, &streamed(asking(MODEL, "second"))).open().await.expect_status(200);
    assert_eq!(waiting.headers["x-queue-position"], "1");
    app.ollama.control().change_model(MODEL, |model| model.tokens = 3);
    drop(running);
    let first = waiting.next().await.expect("a chunk");
    assert_eq!(first.data["choices"][0]["delta"]["role"], "assistant");
    let before = String::from_utf8_lossy(&waiting.raw).into_owned();
    assert!(before.starts_with(": queue state=waiting position=1"), "{before}");
    let reply = waiting.whole().await;
    assert!(chunks(&reply).1, "{reply:?}");
    app.finish().await;
}

#[tokio::test]
async fn a_text_is_gone_on_with_whole_or_in_chunks() {
    let (app, ada) = start([Model::new(MODEL).tokens(5).capabilities(&["completion", "insert"])]).await;
    let body = json!({ "model": MODEL, "prompt": [told("once upon")], "suffix": "the end", "max_tokens": 4 });
    let whole = app.openai(&ada, "/v1/completions", &body).send().await.expect_status(200).json();
    let choice = &whole["choices"][0];
    assert!(
        whole["id"].as_str().unwrap().starts_with("cmpl-") && whole["object"] == "text_completion",
        "{whole}"
    );
    assert_eq!((&choice["finish_reason"], &choice["logprobs"]), (&json!("length"), &Value::Null));
    let requests = app.ollama.control().requests();
    let sent =
        requests.iter().rfind(|request| request.path == "/api/generate" && request.json()["prompt"] != "");
    let sent = sent.expect("a text").json();
    assert_eq!((&sent["prompt"], &sent["suffix"]), (&json!(told("once upon")), &json!("the end")));

    let reply = app.openai(&ada, "/v1/completions", &streamed(body)).send().await.expect_status(200);
    let (chunks, is_done) = chunks(&reply);
    assert!(is_done, "{reply:?}");
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, choice["text"].as_str().unwrap());
    app.finish().await;
}

#[tokio::test]
async fn texts_become_vectors_as_numbers_or_as_their_bytes() {
    let (app, ada) = start([Model::new(MODEL), Model::embedding(EMBEDDER)]).await;
    let mut body = json!({ "model": EMBEDDER, "input": [told("a"), told("b")], "dimensions": 4 });
    let reply = app.openai(&ada, "/v1/embeddings", &body).send().await.expect_status(200);
    assert!(reply.header("openai-processing-ms").is_some() && reply.header("x-queue-position").is_some());
    let numbers = reply.json();
    assert_eq!((&numbers["object"], &numbers["model"]), (&json!("list"), &json!(EMBEDDER)));
    assert_eq!(numbers["usage"]["prompt_tokens"], numbers["usage"]["total_tokens"]);
    body["encoding_format"] = json!("base64");
    let bytes = app.openai(&ada, "/v1/embeddings", &body).send().await.expect_status(200).json();
    for at in 0..2 {
        let vector = numbers["data"][at]["embedding"].as_array().unwrap();
        let vector: Vec<f32> = vector.iter().map(|number| number.as_f64().unwrap() as f32).collect();
        let bytes = BASE64_STANDARD.decode(bytes["data"][at]["embedding"].as_str().unwrap()).unwrap();
        let read: Vec<f32> =
            bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        assert_eq!((vector.len(), read), (4, vector));
        assert_eq!(numbers["data"][at]["index"], at);
    }
    body["input"] = json!([[1, 2, 3]]);
    let refused =
        app.openai(&ada, "/v1/embeddings", &body).send().await.expect_error(400, "invalid_request").json();
    assert!(
        refused["error"]["message"].as_str().unwrap().contains("check_embedding_ctx_length"),
        "{refused}"
    );
    app.finish().await;
}

#[tokio::test]
async fn a_key_in_either_header_opens_openais_paths_and_a_wrong_one_is_told_in_their_shape() {
    let (app, ada) = start([Model::new(MODEL).tokens(2)]).await;
    let (_, key) = app.create_key(&ada, "chat").await;
    for (header, value) in [("authorization", format!("Bearer {key}")), ("x-api-key", key.clone())] {
        app.post(CHAT, &asking(MODEL, "hi")).header(header, &value).send().await.expect_status(200);
    }
    let refused = app.post(CHAT, &asking(MODEL, "hi")).bearer("sk-nobody").send().await;
    refused.expect_error(401, "unauthenticated");
    app.post("/v1/embeddings", &json!({ "model": MODEL, "input": "x" }))
        .bearer(&key)
        .send()
        .await
        .expect_error(403, "forbidden");
    app.finish().await;
}
