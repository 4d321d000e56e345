//! What it says, byte by byte where that matters.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::fake_ollama::{Model, Scenario, Tokens};

const MODEL: &str = "qwen3:8b";

async fn fake(scenario: Scenario) -> FakeOpenAi {
    let model = Model::new(MODEL).tokens(3).scenario(scenario);
    FakeOpenAi::start(Config::with([model]), Some("sk-1")).await.unwrap()
}

/// The whole reply to one request.
async fn ask(fake: &FakeOpenAi, line: &str, key: &str, body: &str) -> String {
    let mut socket = TcpStream::connect(fake.addr()).await.unwrap();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {key}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    let read = tokio::time::timeout(Duration::from_secs(10), socket.read_to_string(&mut reply));
    read.await.unwrap().unwrap();
    reply
}

fn chat(more: &str) -> String {
    format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"hi"}}],"stream":true{more}}}"#)
}

#[tokio::test]
async fn an_answer_is_events_a_reason_counts_and_done() {
    let fake = fake(Scenario::Normal).await;
    let reply = ask(&fake, "POST /v1/chat/completions", "sk-1", &chat("")).await;
    assert!(reply.contains("Content-Type: text/event-stream\r\n"), "{reply}");
    for index in 0..3 {
        let said = serde_json::to_string(Tokens::new("hi", -1).token(index)).unwrap();
        assert!(reply.contains(&format!(r#""delta":{{"content":{said}}}"#)), "{said}: {reply}");
    }
    let places = [
        r#""role":"assistant""#,
        r#""finish_reason":"stop""#,
        r#""completion_tokens":3"#,
        "data: [DONE]\n\n",
    ]
    .map(|what| reply.find(what).unwrap_or_else(|| panic!("{what}: {reply}")));
    assert!(places.is_sorted(), "{reply}");
}

#[tokio::test]
async fn a_call_comes_in_pieces() {
    let fake = fake(Scenario::named("tools-two").unwrap()).await;
    let reply = ask(&fake, "POST /v1/chat/completions", "sk-1", &chat("")).await;
    assert_eq!(reply.matches(r#""tool_calls":[{"index":0"#).count(), 3, "{reply}");
    assert_eq!(reply.matches(r#""id":"call_b""#).count(), 1, "{reply}");
}

#[tokio::test]
async fn it_refuses_what_openais_own_service_refuses() {
    let fake = fake(Scenario::Normal).await;
    for (line, key, body, told) in [
        ("GET /v1/models", "sk-wrong", String::new(), "Incorrect API key provided: sk-wrong."),
        ("GET /v1/engines", "sk-1", String::new(), "Invalid URL (GET /v1/engines)"),
        ("POST /v1/chat/completions", "sk-1", chat(r#","keep_alive":0"#), "keep_alive"),
        ("POST /v1/chat/completions", "sk-1", chat("").replace("user", "tool"), "tool_call_id"),
        ("POST /v1/chat/completions", "sk-1", chat("").replace(MODEL, "other"), "model_not_found"),
    ] {
        let reply = ask(&fake, line, key, &body).await;
        assert!(reply.contains(told) && reply.contains(r#"{"error":{"#), "{line}: {reply}");
    }
    let counters = fake.control().counters();
    assert_eq!((counters.requests, counters.tags_calls, counters.chat_calls), (5, 1, 3));
}
