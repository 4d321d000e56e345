//! B11: what every reply says about itself, whatever it is.

use serde_json::json;

use crate::harness::{Call, MODEL, Reply, Store, TestApp};

fn assert_dressed(reply: &Reply) {
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert_eq!(reply.header(name), Some(value), "{reply:?}");
    }
    // A page to read needs its style, and no more.
    let policy = reply.header("content-security-policy").unwrap();
    let is_page = reply.header("content-type").is_some_and(|kind| kind.starts_with("text/html"));
    assert!(
        policy.starts_with("default-src 'none'; ") && policy.ends_with("frame-ancestors 'none'"),
        "{reply:?}"
    );
    assert_eq!(policy.contains("style-src 'sha256-"), is_page, "{reply:?}");
    let cache_control = reply.header("cache-control").unwrap();
    // Public keys are everybody's, and their age is what rotation waits for.
    let are_keys = reply.text().starts_with("{\"keys\":");
    // What is fixed for a release is asked about again, by its mark.
    let is_fixed = reply.header("etag").is_some();
    let expected = if are_keys {
        "public, max-age="
    } else if is_fixed {
        "no-cache"
    } else {
        "no-store"
    };
    assert!(cache_control.starts_with(expected), "{reply:?}");
    assert!(reply.header("x-request-id").is_some(), "{reply:?}");
    for name in ["server", "x-powered-by", "set-cookie", "via"] {
        assert_eq!(reply.header(name), None, "{reply:?}");
    }
}

#[tokio::test]
async fn b11_every_reply_has_the_security_headers_and_no_banner() {
    let app = TestApp::on(Store::Sqlite).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let hello = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]});
    let document = app.get("/openapi.json").send().await.expect_status(200).json();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let path = path.replace("{id}", "none");
            assert_dressed(&app.call(&method.to_uppercase(), &path).send().await);
            assert_dressed(&app.call(&method.to_uppercase(), &path).bearer(&ada.access).send().await);
        }
    }
    for call in [
        app.chat(&ada, &hello),
        app.stream(&ada, &hello),
        app.get("/nothing"),
        app.call("DELETE", "/v1/chat"),
        app.call("HEAD", "/healthz"),
        Call::new(app.ops_addr(), "GET", "/metrics"),
        Call::new(app.ops_addr(), "GET", "/actors"),
        Call::new(app.ops_addr(), "GET", "/nothing"),
    ] {
        assert_dressed(&call.send().await);
    }
    app.finish().await;
}

#[tokio::test]
async fn b16_a_stream_tells_proxies_to_keep_their_hands_off() {
    let app = TestApp::on(Store::Sqlite).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let hello = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]});
    let reply = app.stream(&ada, &hello).send().await.expect_status(200);
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    assert_eq!(reply.header("cache-control"), Some("no-store, no-transform"));
    assert_eq!(reply.header("x-accel-buffering"), Some("no"));
    app.finish().await;
}

#[tokio::test]
async fn a_head_request_gets_the_head_of_the_get() {
    let app = TestApp::on(Store::Sqlite).await;
    let get = app.get("/healthz").send().await.expect_status(200);
    let head = app.call("HEAD", "/healthz").send().await.expect_status(200);
    assert!(head.body.is_empty());
    assert_eq!(head.header("content-length"), get.header("content-length"));
    assert_eq!(head.header("content-type"), get.header("content-type"));
    app.finish().await;
}

#[tokio::test]
async fn every_turn_says_how_long_it_took_and_every_dialect_names_its_request() {
    let app = TestApp::on(Store::Sqlite).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    for path in ["/v1/chat", "/v1/chat/stream", "/v1/chat/completions", "/v1/messages", "/api/chat"] {
        for model in [MODEL, "nobody-has-it"] {
            let body =
                json!({"model": model, "max_tokens": 3, "messages": [{"role": "user", "content": "hi"}]});
            let reply = app.post(path, &body).bearer(&ada.access).send().await;
            let took = reply.header("openai-processing-ms").and_then(|text| text.parse::<u64>().ok());
            // How long a refusal took might tell what was looked for.
            assert_eq!(took.is_some(), model == MODEL, "{path}: {reply:?}");
            let named = reply.header("request-id");
            let expected = reply.header("x-request-id").filter(|_| path == "/v1/messages");
            assert_eq!(named, expected, "{path}: {reply:?}");
            for name in ["limit", "remaining", "reset"] {
                let told = reply.header(&format!("x-ratelimit-{name}-requests"));
                assert_eq!(told.is_some(), path.starts_with("/v1/"), "{path} {name}: {reply:?}");
            }
        }
    }
    assert_eq!(app.get("/healthz").send().await.header("openai-processing-ms"), None);
    app.finish().await;
}

#[tokio::test]
async fn the_page_of_documentation_is_sent_once_and_then_only_asked_about() {
    let app = TestApp::on(Store::Sqlite).await;
    for path in ["/docs", "/openapi.json"] {
        let whole = app.get(path).send().await.expect_status(200);
        let mark = whole.header("etag").unwrap();
        let head = app.call("HEAD", path).send().await.expect_status(200);
        assert!(head.body.is_empty() && head.header("etag") == Some(mark));
        assert_eq!(head.header("content-length"), whole.header("content-length"));
        let again = app.get(path).header("if-none-match", mark).send().await.expect_status(304);
        assert!(again.body.is_empty() && again.header("etag") == Some(mark));
        let weak = format!("W/{mark}");
        app.get(path).header("if-none-match", &weak).send().await.expect_status(304);
        app.get(path).header("if-none-match", "\"another\"").send().await.expect_status(200);
    }
    let page = app.get("/docs").send().await.text();
    assert!(page.starts_with("<!doctype html>") && page.contains("/v1/chat/completions"));
    app.finish().await;
}
