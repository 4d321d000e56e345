//! `/api/…`: what Ollama's clients find here.

use std::time::Duration;

use serde_json::{Value, json};
use support::fake_ollama::{Model, Scenario};

use crate::{
    harness::{Call, MODEL, Reply, Session, Store, TestApp},
    turn::{answer, options, service, told},
};

const EMBEDDER: &str = "nomic-embed-text";

const ACCESS_COOKIE: &str = "__Host-deepersensor";

fn chat(text: &str) -> Value {
    json!({ "model": MODEL, "messages": [{ "role": "user", "content": told(text) }] })
}

fn whole(mut body: Value) -> Value {
    body["stream"] = json!(false);
    body
}

async fn one(model: Model) -> (TestApp, Session) {
    let app = service(Store::Sqlite, [model, Model::embedding(EMBEDDER)]).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    (app, ada)
}

impl TestApp {
    fn api(&self, session: &Session, path: &str, body: &Value) -> Call {
        self.post(path, body).bearer(&session.access)
    }
}

/// The lines of a stream.
fn lines(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    let text = reply.text();
    assert!(text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn said(lines: &[Value], path: &str) -> String {
    lines.iter().filter_map(|line| line.pointer(path)?.as_str()).collect()
}

#[tokio::test]
async fn a_chat_comes_line_by_line_unless_it_is_wanted_whole() {
    let (app, ada) = one(Model::new(MODEL).tokens(7).capabilities(&["completion", "insert"])).await;
    let reply = app.api(&ada, "/api/chat", &chat("hi")).send().await.expect_status(200);
    let streamed = lines(&reply);
    assert_eq!(said(&streamed, "/message/content"), answer("hi", 7));
    let last = streamed.last().unwrap();
    assert_eq!(
        (&last["done"], &last["done_reason"], &last["eval_count"]),
        (&json!(true), &json!("stop"), &json!(7))
    );
    assert!(last["total_duration"].as_u64().unwrap() > 0, "{last}");
    assert!(streamed[..streamed.len() - 1].iter().all(|line| line["done"] == false), "{streamed:#?}");

    let reply = app.api(&ada, "/api/chat", &whole(chat("hi"))).send().await.expect_status(200).json();
    assert_eq!(reply["message"], json!({ "role": "assistant", "content": answer("hi", 7) }));
    assert_eq!((&reply["done"], &reply["model"]), (&json!(true), &json!(MODEL)));
    assert_eq!(app.get("/v1/conversations").bearer(&ada.access).send().await.json()["data"], json!([]));
    app.finish().await;
}

#[tokio::test]
async fn a_text_is_continued_as_it_was_sent() {
    let (app, ada) = one(Model::new(MODEL).tokens(7).capabilities(&["completion", "insert"])).await;
    let body = json!({ "model": MODEL, "prompt": told("fn"), "suffix": "}", "raw": true });
    let streamed = lines(&app.api(&ada, "/api/generate", &body).send().await.expect_status(200));
    assert!(!said(&streamed, "/response").is_empty());
    let sent =
        app.ollama.control().requests().into_iter().rfind(|request| request.path == "/api/generate").unwrap();
    let sent = sent.json();
    assert_eq!(
        (&sent["prompt"], &sent["suffix"], &sent["raw"]),
        (&json!(told("fn")), &json!("}"), &json!(true))
    );
    let reply = app.api(&ada, "/api/generate", &whole(body)).send().await.expect_status(200).json();
    assert_eq!(reply["response"], said(&streamed, "/response"));
    app.finish().await;
}

#[tokio::test]
async fn g02_nothing_a_caller_sends_moves_a_model_or_names_another_one() {
    let (app, ada) = one(Model::new(MODEL).tokens(1)).await;
    app.warm_up(&ada, MODEL).await;
    let text = told("hi");
    let attack = format!(
        r#"{{"model":"{MODEL}","Model":"{EMBEDDER}","\u212aeep_alive":0,"keep_alive":0,"Keep_Alive":-1,"stream":false,"shift":true,
            "options":{{"num_ctx":1,"Num_Ctx":2,"num_gpu":0,"temperature":0.5}},"_debug_render_only":true,
            "messages":[{{"role":"user","content":"{text}","Content":"other"}}]}}"#
    );
    // As curl sends it unless told otherwise.
    let call = app.call("POST", "/api/chat").bearer(&ada.access);
    call.body("application/x-www-form-urlencoded", attack).send().await.expect_status(200);
    let sent = app.asked().pop().unwrap().json();
    let expected = json!({
        "model": MODEL, "messages": [{ "role": "user", "content": text }], "stream": true, "options": { "temperature": 0.5 },
    });
    assert_eq!(sent, expected);
    for (path, body) in [
        ("/api/chat", json!({ "model": MODEL, "keep_alive": 0 })),
        ("/api/generate", json!({ "model": MODEL, "prompt": "", "keep_alive": 0 })),
    ] {
        let reply = app.api(&ada, path, &body).send().await.expect_status(200).json();
        assert_eq!((&reply["done"], &reply["done_reason"]), (&json!(true), &json!("unload")));
    }
    assert_eq!(app.ollama.control().loaded(), [MODEL]);
    app.finish().await;
}

#[tokio::test]
async fn texts_become_vectors_in_their_order_and_are_paid_for() {
    let (app, ada) = one(Model::new(MODEL)).await;
    let texts: Vec<_> = (0..40).map(|nth| told(&format!("text {nth}"))).collect();
    let body = json!({ "model": EMBEDDER, "input": texts, "dimensions": 4, "keep_alive": 0 });
    let reply = app.api(&ada, "/api/embed", &body).send().await.expect_status(200).json();
    let vectors = reply["embeddings"].as_array().unwrap();
    assert_eq!((vectors.len(), vectors[0].as_array().unwrap().len()), (40, 4));
    let one = json!({ "model": EMBEDDER, "input": texts[17], "dimensions": 4 });
    let alone = app.api(&ada, "/api/embed", &one).send().await.expect_status(200).json();
    assert_eq!(alone["embeddings"][0], vectors[17]);
    let sent = app.ollama.control().requests();
    let batches = sent.iter().filter(|request| request.path == "/api/embed").filter_map(|request| {
        let body = request.json();
        assert!(body.get("keep_alive").is_none(), "{body}");
        Some(body["input"].as_array()?.len()).filter(|length| *length > 0)
    });
    assert_eq!(batches.collect::<Vec<_>>(), [16, 16, 8, 1]);

    let old = json!({ "model": EMBEDDER, "prompt": texts[17] });
    let old = app.api(&ada, "/api/embeddings", &old).send().await.expect_status(200).json();
    assert!(old["embedding"].as_array().unwrap().len() > 4, "{old}");
    let none = json!({ "model": EMBEDDER, "input": [] });
    let none = app.api(&ada, "/api/embed", &none).send().await.expect_status(200).json();
    assert_eq!(none["embeddings"], json!([]));
    app.quiet().await;
    let turns = app.get("/v1/turns").bearer(&ada.access).send().await.expect_status(200).json();
    let turns = turns["data"].as_array().unwrap();
    assert_eq!(turns.len(), 3);
    assert!(
        turns.iter().all(|turn| turn["status"] == "complete" && turn["usage"]["prompt_tokens"] != 0),
        "{turns:#?}"
    );
    app.finish().await;
}

#[tokio::test]
async fn models_are_listed_and_described_without_what_is_the_operators() {
    let (app, ada) = one(Model::new(MODEL)).await;
    let get = async |path: &str| app.get(path).bearer(&ada.access).send().await.expect_status(200).json();
    let tags = get("/api/tags").await;
    let tag = tags["models"].as_array().unwrap().iter().find(|tag| tag["name"] == MODEL).unwrap().clone();
    assert_eq!((&tag["model"], &tag["details"]["family"]), (&json!(MODEL), &json!("qwen3")));
    assert_eq!(tag["details"]["format"], "gguf");
    assert!(!tag["digest"].as_str().unwrap().is_empty() && tag["size"].as_u64().unwrap() > 0, "{tag}");
    assert_eq!(get("/api/ps").await["models"], json!([]));
    app.warm_up(&ada, MODEL).await;
    assert_eq!(get("/api/ps").await["models"][0]["name"], MODEL);
    for field in ["model", "name"] {
        let shown =
            app.api(&ada, "/api/show", &json!({ field: "QWEN3:8B" })).send().await.expect_status(200).json();
        assert_eq!((&shown["modelfile"], &shown["capabilities"]), (&json!(""), &tag["capabilities"]));
        assert!(shown["model_info"]["qwen3.context_length"].is_u64(), "{shown}");
    }
    let version = app.get("/api/version").send().await.expect_status(200).json();
    let parts: Vec<u32> =
        version["version"].as_str().unwrap().split('.').map(|part| part.parse().unwrap()).collect();
    assert_eq!(parts.len(), 3);
    assert_eq!(app.get("/").send().await.expect_status(200).text(), "Ollama is running");
    for path in ["/", "/api/version"] {
        assert!(app.call("HEAD", path).send().await.expect_status(200).text().is_empty());
    }
    app.finish().await;
}

#[tokio::test]
async fn b12_errors_are_a_text_and_keep_their_status_until_something_was_said() {
    let (app, ada) = one(Model::new(MODEL)).await;
    let error = |reply: Reply, status: u16| {
        let reply = reply.expect_status(status);
        let said = reply.json();
        assert!(said["error"].is_string() && said.as_object().unwrap().len() == 1, "{reply:?}");
        assert!(reply.header("x-request-id").is_some());
    };
    error(app.post("/api/chat", &chat("hi")).send().await, 401);
    for path in ["/api/chat", "/api/generate", "/api/embed", "/api/show"] {
        let body = json!({ "model": "nothing", "messages": [{ "role": "user", "content": "hi" }], "prompt": "hi", "input": "hi" });
        error(app.api(&ada, path, &body).send().await, 404);
        error(app.api(&ada, path, &json!({ "model": 7 })).send().await, 400);
    }
    for (method, path) in
        [("POST", "/api/pull"), ("DELETE", "/api/delete"), ("POST", "/api/create"), ("GET", "/api")]
    {
        error(app.call(method, path).bearer(&ada.access).send().await, 404);
    }
    let pulled = app.api(&ada, "/api/pull", &json!({ "model": MODEL })).send().await.json();
    assert!(pulled["error"].as_str().unwrap().contains("at the model server"), "{pulled}");
    app.ollama.control().set_scenario(MODEL, Scenario::named("error-500").unwrap());
    error(app.api(&ada, "/api/chat", &chat("hi")).send().await, 502);
    app.ollama.control().set_scenario(MODEL, Scenario::named("error-line").unwrap());
    let streamed = lines(&app.api(&ada, "/api/chat", &chat("hi")).send().await.expect_status(200));
    assert!(streamed.last().unwrap()["error"].is_string(), "{streamed:#?}");
    assert!(streamed.iter().all(|line| line["done"] != true), "{streamed:#?}");
    app.finish().await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_turn_along() {
    let (app, ada) = one(Model::new(MODEL).tokens(10_000).tokens_per_s(50.0)).await;
    let opened = app.api(&ada, "/api/chat", &chat("hi")).open().await.expect_status(200);
    drop(opened);
    let left = |counters: &support::fake_ollama::Counters| counters.in_flight == 0;
    app.ollama.control().wait_until(left, Duration::from_secs(10)).await.unwrap();
    app.finish().await;
}

#[tokio::test]
async fn a14_a_browser_is_not_made_to_ask_by_a_body_without_a_type() {
    let models = [Model::new(MODEL).tokens(1)];
    let app = TestApp::start(options(Store::Sqlite, models).set("BROWSER_SESSIONS", true)).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let own = format!("https://{}", app.addr());
    let asked = async |origin: &str, content_type: &str| {
        let call = app.call("POST", "/api/chat").header("cookie", &format!("{ACCESS_COOKIE}={}", ada.access));
        let body = whole(chat("hi")).to_string();
        call.header("origin", origin).body(content_type, body).send().await.status
    };
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/json"] {
        assert_eq!(asked("https://evil.example", content_type).await, 403, "{content_type}");
    }
    // A page of ours says what it sends.
    assert_eq!(asked(&own, "text/plain").await, 415);
    assert_eq!(asked(&own, "application/json").await, 200);
    app.finish().await;
}
