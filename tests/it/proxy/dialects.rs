//! Other dialects than our own through nginx: their paths take prompts, their streams come as they are made, what nginx says itself
//! has their shape, and a key in front of a path stays out of the log.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use support::{fake_ollama::Model, nginx::Proxy};
use tokio::net::TcpListener;

use super::{CLIENT, Ground, recorder::Recorder};
use crate::{
    harness::{Call, MODEL, Options, PATIENCE, Raw, Store, until},
    turn::told,
};

const KEY: &str = "dsk_flDIBkGwcRKRL9GXCgaFM3UNu2jQTC_4TH5e1";

/// Where models are asked.
const ASKED: [&str; 12] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/embeddings",
    "/k/dsk_flDIBkGwcRKRL9GXCgaFM3UNu2jQTC_4TH5e1/api/chat",
    "/k/dsk_flDIBkGwcRKRL9GXCgaFM3UNu2jQTC_4TH5e1/api/embed",
];

/// Nobody listens on a port that was bound a moment ago.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn b16_every_dialects_stream_comes_as_it_is_made() {
    let model = Model::new(MODEL).parallel(4).tokens(80).tokens_per_s(20.0);
    let options = Options::on(Store::Postgres).models([model]).set("API_KEY_IN_PATH", true);
    let ground = Ground::lay(options).await;
    let ada = ground.app.sign_up_and_in("ada@example.org").await;
    let (_, key) = ground.app.create_key(&ada, "chat").await;
    let messages = json!([{ "role": "user", "content": told("a long story") }]);
    let chat = json!({ "model": MODEL, "stream": true, "max_tokens": 80, "messages": messages });
    let text = json!({ "model": MODEL, "stream": true, "prompt": told("a long story") });
    let items = json!({ "model": MODEL, "stream": true, "input": told("a long story") });
    for (path, body, content_type, said) in [
        ("/v1/chat/completions", &chat, "text/event-stream", "\"content\":\" "),
        ("/v1/completions", &text, "text/event-stream", "\"text\":\" "),
        ("/v1/responses", &items, "text/event-stream", "\"delta\":\" "),
        ("/v1/messages", &chat, "text/event-stream", "\"text\":\" "),
        ("/api/chat", &chat, "application/x-ndjson", "\"content\":\" "),
        ("/api/generate", &text, "application/x-ndjson", "\"response\":\" "),
        (&format!("/k/{key}/api/chat"), &chat, "application/x-ndjson", "\"content\":\" "),
    ] {
        let call = ground.call("POST", path).json(body).header("accept-encoding", "gzip");
        let call = if path.starts_with("/k/") { call } else { call.bearer(&ada.access) };
        let mut opened = call.open().await.expect_status(200);
        assert_eq!(opened.headers["content-type"].to_str().unwrap(), content_type, "{path}");
        assert!(!opened.headers.contains_key("content-encoding"), "{path}");
        // What comes along with the head would be passed on by any proxy.
        opened.until(3, said).await;
        assert_eq!(ground.app.ollama.control().counters().running, 1, "{path}: before its end");
        drop(opened);
        ground.app.ollama.control().wait_until(|now| now.in_flight == 0, PATIENCE).await.unwrap();
    }
    ground.finish().await;
}

#[tokio::test]
async fn b04_prompts_of_every_dialect_may_be_as_large_as_the_service_takes_and_no_larger() {
    let proxy = Proxy::start(&[nobody().await]).await.unwrap();
    let post = async |path: &str, bytes: usize, body: &str| {
        let mut raw = Raw::connect(proxy.addr()).await;
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {bytes}\r\n\r\n");
        raw.send(head + body).await;
        raw.reply().await
    };
    let most = "a".repeat(2 << 20);
    for path in ASKED {
        post(path, most.len(), &most).await.expect_status(502);
        let refused = post(path, most.len() + 1, "").await.expect_status(413);
        assert!(!refused.text().contains("dsk_"), "{refused:?}");
    }
    for path in
        ["/api/show", "/v1/messages/batches", "/v1/chat/completions/x", "/api/pull", "/k/a/b/api/chat"]
    {
        post(path, (16 << 10) + 1, "").await.expect_status(413);
    }
}

#[tokio::test]
async fn b03_large_prompts_of_all_dialects_are_counted_together() {
    /// What one network may have under way.
    const LARGE: usize = 16;
    let recorder = Recorder::start().await;
    let proxy = Proxy::start(&[recorder.addr()]).await.unwrap();
    let begin = async |path: &str, from: Ipv4Addr| {
        let mut raw = Raw::connect_over(from, proxy.addr()).await;
        let lines = "Host: localhost\r\nExpect: 100-continue\r\nContent-Length: 2000000";
        raw.send(format!("POST {path} HTTP/1.1\r\n{lines}\r\n\r\n")).await;
        let reply = raw.reply().await;
        (raw, reply)
    };
    let mut open = Vec::new();
    for path in ASKED.iter().cycle().take(LARGE) {
        let (raw, reply) = begin(path, CLIENT).await;
        reply.expect_status(100);
        open.push(raw);
    }
    for path in ASKED {
        begin(path, CLIENT).await.1.expect_status(429);
    }
    begin(ASKED[0], Ipv4Addr::from_bits(CLIENT.to_bits() + 1)).await.1.expect_status(100);
}

#[tokio::test]
async fn b12_nginx_refuses_in_the_shape_of_each_dialect() {
    let proxy = Proxy::start(&[nobody().await]).await.unwrap();
    let message = "the service cannot be reached or broke off; it may have begun what was asked";
    for path in
        ASKED.into_iter().chain(["/api/tags", "/api/nothing?a=/v1/messages", "/v1/messages?beta=true"])
    {
        let reply = Call::new(proxy.addr(), "POST", path).send().await.expect_error(502, "upstream_error");
        let said = reply.json();
        let id = reply.header("x-request-id").unwrap();
        let expected = if path.starts_with("/v1/messages") {
            json!({ "type": "error", "error": { "type": "api_error", "message": message }, "request_id": id })
        } else if path.starts_with("/v1/") {
            json!({ "error": { "code": "upstream_error", "message": message, "type": "api_error", "param": null, "request_id": id } })
        } else {
            json!({ "error": message })
        };
        assert_eq!(said, expected, "{path}");
    }
}

#[tokio::test]
async fn f04_a_key_in_front_of_a_path_is_left_out_of_the_log_however_the_path_is_written() {
    let recorder = Recorder::start().await;
    let proxy = Proxy::start(&[recorder.addr()]).await.unwrap();
    let logged = || {
        let log = proxy.access_log();
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["path"].clone())
            .collect::<Vec<_>>()
    };
    let cases = [
        (format!("/k/{KEY}/"), "/k/-/"),
        (format!("/k/{KEY}/api/chat"), "/k/-/api/chat"),
        (format!("/k/{KEY}/api/tags?x={KEY}"), "/k/-/api/tags"),
        (format!("/k/{KEY}"), "/k/-"),
        (format!("/k/{KEY}/v1/models"), "/k/-"),
        (format!("/k/{KEY}/api/{KEY}"), "/k/-"),
        (format!("/k//{KEY}/api/tags"), "/k/-"),
        (format!("//k/{KEY}/api/tags"), "/k/-"),
        (format!("/%6B/{KEY}/api/tags"), "/k/-"),
        (format!("/K%2f{KEY}/api/tags"), "/k/-"),
        (format!("/ollama/k/{KEY}/api/tags"), "/k/-"),
        (format!("/key/{KEY}/api/tags"), "-"),
        (format!("http://localhost/k/{KEY}/api/tags"), "/k/-/api/tags"),
        ("/k/not-a-key-but-meant-as-one/api/show".to_owned(), "/k/-/api/show"),
        ("/v1/models/hf.co/a/b.gguf:Q4_K".to_owned(), "/v1/models/hf.co/a/b.gguf:Q4_K"),
        ("/api/tags".to_owned(), "/api/tags"),
    ];
    for (nth, (path, expected)) in cases.into_iter().enumerate() {
        let mut raw = Raw::connect(proxy.addr()).await;
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        raw.reply().await;
        until("nginx to log the request", async || logged().len() == nth + 1).await;
        assert_eq!(logged()[nth], expected, "{path}");
    }
    for log in [proxy.access_log(), proxy.error_log()] {
        assert!(!log.contains("dsk_") && !log.contains("meant-as-one"), "{log}");
    }
}
