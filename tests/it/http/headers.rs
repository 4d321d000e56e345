//! B11: what every reply says about itself, whatever it is.

use serde_json::json;

use crate::harness::{Call, MODEL, Reply, Store, TestApp};

fn assert_dressed(reply: &Reply) {
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert_eq!(reply.header(name), Some(value), "{reply:?}");
    }
    let cache_control = reply.header("cache-control").unwrap();
    // Public keys are everybody's, and their age is what rotation waits for.
    let are_keys = reply.text().starts_with("{\"keys\":");
    assert!(cache_control.starts_with(if are_keys { "public, max-age=" } else { "no-store" }), "{reply:?}");
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
