//! Bytes that no client library would send: each gets one reply, and never a closed socket in its place.

use crate::harness::{Options, PATIENCE, Raw, Reply, Store, TestApp};

/// Sends the bytes on a connection of their own and reads one reply.
async fn exchange(app: &TestApp, bytes: impl AsRef<[u8]>) -> Reply {
    let mut raw = Raw::connect(app.addr()).await;
    raw.send(bytes).await;
    raw.reply().await
}

const CREDENTIALS: &str = r#"{"email":"ada@example.org","password":"seven quiet herons"}"#;

#[tokio::test]
async fn b06_a_request_needs_exactly_one_host() {
    let app = TestApp::on(Store::Sqlite).await;
    for hosts in ["", "Host: localhost\r\nHost: localhost\r\n", "Host: localhost\r\nHost: other\r\n"] {
        let reply = exchange(&app, format!("GET /healthz HTTP/1.1\r\n{hosts}\r\n")).await;
        reply.expect_error(400, "invalid_request");
    }
    exchange(&app, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect_status(200);
    app.finish().await;
}

#[tokio::test]
async fn g10_a_loopback_listener_answers_loopback_names_only() {
    let app = TestApp::start(Options::on(Store::Sqlite).set("TRUSTED_PROXY_IPS", "")).await;
    for host in ["evil.example", "localhost.evil.example", "10.0.0.1"] {
        let reply = exchange(&app, format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        reply.expect_error(403, "forbidden");
    }
    app.finish().await;
}

#[tokio::test]
async fn b04_a_head_above_its_bounds_is_refused_in_our_own_words() {
    let app = TestApp::on(Store::Sqlite).await;
    let head = |start: &str, lines: &str| format!("{start} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
    let many: String = (0..120).map(|n| format!("X-{n}: 1\r\n")).collect();
    for (bytes, status) in [
        (head("GET /healthz", &format!("X-Big: {}\r\n", "a".repeat(15 << 10))), 200),
        (head("GET /healthz", &format!("X-Big: {}\r\n", "a".repeat(17 << 10))), 431),
        (head("GET /healthz", &format!("X-Big: {}\r\n", "a".repeat(300 << 10))), 431),
        (head("GET /healthz", &many), 431),
        (head(&format!("GET /healthz?{}", "a".repeat(8 << 10)), ""), 414),
        // Longer than a whole head may be.
        (head(&format!("GET /{}", "a".repeat(70 << 10)), ""), 431),
    ] {
        let reply = exchange(&app, &bytes).await;
        if status == 200 {
            reply.expect_status(200);
        } else {
            reply.expect_error(status, "invalid_request");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn b06_what_is_no_http_is_400() {
    let app = TestApp::on(Store::Sqlite).await;
    for bytes in [
        "hello\r\n\r\n",
        "GET /healthz HTTP/9.9\r\nHost: localhost\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost : localhost\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
        "GET /heal thz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}{}{}",
        "POST /v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/auth/login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
    ] {
        exchange(&app, bytes).await.expect_error(400, "invalid_request");
    }
    app.finish().await;
}

#[tokio::test]
async fn b12_what_cannot_be_read_is_refused_in_our_own_words_on_a_connection_in_use_too() {
    let app = TestApp::on(Store::Sqlite).await;
    let good = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut raw = Raw::connect(app.addr()).await;
    for _ in 0..3 {
        raw.send(good).await;
        raw.reply().await.expect_status(200);
    }
    raw.send("nonsense\r\n\r\n").await;
    let reply = raw.reply().await.expect_error(400, "invalid_request");
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(raw.until_closed().await.is_empty());
    app.finish().await;
}

#[tokio::test]
async fn b06_a_body_with_two_lengths_is_never_read_as_a_second_request() {
    let app = TestApp::on(Store::Sqlite).await;
    let smuggled = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let bytes = format!(
        "POST /v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
        5 + smuggled.len()
    );
    let mut raw = Raw::connect(app.addr()).await;
    raw.send(bytes).await;
    raw.reply().await.expect_error(400, "invalid_request");
    assert_eq!(String::from_utf8_lossy(&raw.until_closed().await), "", "one request, one reply");
    app.finish().await;
}

#[tokio::test]
async fn b04_an_enormous_body_is_refused_before_any_of_it_is_sent() {
    let app = TestApp::on(Store::Sqlite).await;
    let mut raw = Raw::connect(app.addr()).await;
    raw.send(
        "POST /v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 10737418240\r\nExpect: 100-continue\r\n\r\n",
    )
    .await;
    let reply = raw.reply().await.expect_error(413, "invalid_request");
    assert_eq!(reply.header("connection"), Some("close"));
    app.finish().await;
}

#[tokio::test]
async fn b04_a_client_that_sends_on_reads_the_refusal_and_not_a_reset() {
    let app = TestApp::on(Store::Sqlite).await;
    let body = vec![b'x'; 8 << 20];
    for framing in [format!("Content-Length: {}", body.len()), "Transfer-Encoding: chunked".to_owned()] {
        let mut raw = Raw::connect(app.addr()).await;
        let head = format!(
            "POST /v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{framing}\r\n\r\n"
        );
        raw.send(head).await;
        if framing.starts_with("Transfer") {
            raw.send(format!("{:x}\r\n", body.len())).await;
        }
        // More than the kernel's buffers hold: it goes through only if somebody reads it.
        raw.send(&body).await;
        let reply = raw.reply().await.expect_error(413, "invalid_request");
        assert_eq!(reply.header("connection"), Some("close"));
    }
    app.finish().await;
}

#[tokio::test]
async fn b04_a_refused_request_with_a_small_body_keeps_its_connection() {
    let app = TestApp::on(Store::Sqlite).await;
    let mut raw = Raw::connect(app.addr()).await;
    let post = |path: &str, body: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    for (path, status) in [
        ("/v1/chat", 401),
        ("/v1/nothing", 404),
        ("/healthz", 405),
        ("/v1/auth/login", 401),
        ("/v1/auth/signup", 201),
    ] {
        raw.send(post(path, CREDENTIALS)).await;
        raw.reply().await.expect_status(status);
    }
    // All of it at once, as a pipelining client does.
    raw.send(post("/v1/auth/login", CREDENTIALS) + &post("/v1/auth/signup", CREDENTIALS)).await;
    raw.reply().await.expect_status(200);
    raw.reply().await.expect_error(409, "conflict");
    app.finish().await;
}

#[tokio::test]
async fn b01_silent_and_slow_connections_are_closed_in_time() {
    let options = crate::harness::Options::on(Store::Sqlite).tune(|config| {
        config.http.header_read_timeout = std::time::Duration::from_millis(200);
        config.http.body_progress_timeout = std::time::Duration::from_millis(200);
    });
    let app = TestApp::start(options).await;
    for bytes in ["", "G", "GET /healthz HTTP/1.1\r\nHost: local", "PRI * HTTP/2.0\r\n\r\nSM"] {
        let mut raw = Raw::connect(app.addr()).await;
        raw.send(bytes).await;
        let said = tokio::time::timeout(PATIENCE, raw.until_closed()).await.expect("it is closed");
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 4"), "{:?}", String::from_utf8_lossy(&said));
    }
    let mut idle = Raw::connect(app.addr()).await;
    idle.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    idle.reply().await.expect_status(200);
    assert!(idle.until_closed().await.is_empty());

    let mut slow_body = Raw::connect(app.addr()).await;
    slow_body
        .send(
            "POST /v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: 59\r\n\r\n{\"email\":",
        )
        .await;
    slow_body.reply().await.expect_error(408, "deadline_exceeded");
    app.finish().await;
}
