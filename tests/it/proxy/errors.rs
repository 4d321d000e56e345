//! What nginx says itself is said as the service says it.

use std::net::Ipv4Addr;

use serde_json::json;
use support::nginx::Proxy;
use tokio::net::TcpListener;

use super::{CLIENT, Ground};
use crate::harness::{Options, Raw, Reply, Store};

/// The security headers, once each, beside an error in our shape.
fn assert_ours(reply: Reply, status: u16, code: &str) -> Reply {
    let reply = reply.expect_error(status, code);
    assert_eq!(reply.json()["error"]["param"], json!(null));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("server", "nginx"),
    ] {
        assert_eq!(reply.headers.get_all(name).iter().collect::<Vec<_>>(), [value], "{reply:?}");
    }
    reply
}

async fn said(proxy: &Proxy, bytes: impl AsRef<[u8]>) -> Reply {
    let mut raw = Raw::connect(proxy.addr()).await;
    raw.send(bytes).await;
    raw.reply().await
}

#[tokio::test]
async fn b12_nginx_refuses_in_our_words_with_the_id_of_the_request() {
    // Nobody listens on a port that was bound a moment ago.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = Proxy::start(&[gone]).await.unwrap();
    let head = |start: &str, lines: &str| format!("{start} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
    let large = |bytes: usize| "a".repeat(bytes);
    for (bytes, status, code) in [
        ("nonsense\r\n\r\n".to_owned(), 400, "invalid_request"),
        ("GET /healthz HTTP/1.1\r\n\r\n".to_owned(), 400, "invalid_request"),
        (head("GET /healthz", "Host: other\r\n"), 400, "invalid_request"),
        (head("TRACE /healthz", ""), 405, "invalid_request"),
        (head("POST /v1/chat", "Content-Length: 2097153\r\n"), 413, "invalid_request"),
        (head(&format!("GET /{}", large(20 << 10)), ""), 414, "invalid_request"),
        (head("GET /healthz", &format!("X: {}\r\n", large(20 << 10))), 431, "invalid_request"),
        (head("GET /healthz", ""), 502, "upstream_error"),
        (head("POST /v1/chat", "Content-Length: 2097152\r\n") + &large(2 << 20), 502, "upstream_error"),
    ] {
        let reply = assert_ours(said(&proxy, bytes).await, status, code);
        assert_eq!(reply.header("retry-after"), (status == 502).then_some("5"), "{reply:?}");
        assert_eq!(reply.header("allow").is_some(), status == 405, "{reply:?}");
    }
    let mut raw = Raw::connect(proxy.tls_addr()).await;
    raw.send(head("GET /healthz", "")).await;
    assert_ours(raw.reply().await, 400, "invalid_request");
}

#[tokio::test]
async fn b04_what_is_within_the_services_bounds_reaches_it_and_its_own_refusals_pass_as_they_are() {
    let ground = Ground::lay(Options::on(Store::Postgres)).await;
    let head = |lines: &str| format!("GET /nothing HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
    let many: String = (0..120).map(|n| format!("X-{n}: 1\r\n")).collect();
    for (lines, status, code) in [
        (format!("X: {}\r\n", "a".repeat(15 << 10)), 404, "not_found"),
        (format!("X: {0}\r\nY: {0}\r\n", "a".repeat(12 << 10)), 431, "invalid_request"),
        (many, 431, "invalid_request"),
        (String::new(), 404, "not_found"),
    ] {
        let reply = assert_ours(said(&ground.proxy, head(&lines)).await, status, code);
        assert_eq!(reply.headers.get_all("x-request-id").iter().count(), 1, "{reply:?}");
    }
    ground.finish().await;
}

/// The burst and what flows back meanwhile, and again as much.
const FLOOD: usize = 3_000;

#[tokio::test]
async fn a_flood_of_one_network_is_refused_before_the_service_and_others_do_not_notice() {
    let ground = Ground::lay(Options::on(Store::Postgres)).await;
    let mut refused = Vec::new();
    let mut raw = Raw::connect_over(CLIENT, ground.addr()).await;
    for batch in 0..FLOOD / 100 {
        // nginx ends a connection after a thousand requests.
        if batch % 10 == 0 {
            raw = Raw::connect_over(CLIENT, ground.addr()).await;
        }
        raw.send("GET /no HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100)).await;
        for _ in 0..100 {
            let reply = raw.reply().await;
            match reply.status {
                404 => {}
                _ => refused.push(reply),
            }
        }
    }
    assert!(!refused.is_empty() && refused.len() < FLOOD - 1_000, "{} were refused", refused.len());
    for reply in refused {
        let reply = assert_ours(reply, 429, "rate_limited");
        assert_eq!(reply.header("retry-after"), Some("1"));
    }
    let neighbour = Ipv4Addr::from_bits(CLIENT.to_bits() + 1);
    ground.call("GET", "/healthz").over(neighbour).send().await.expect_status(200);
    ground.finish().await;
}
