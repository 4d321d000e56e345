//! What is closed from outside (G12): administration, and what is meant for operators.

use std::net::Ipv4Addr;

use support::nginx::Proxy;

use super::{
    CLIENT,
    recorder::{Recorder, values},
};
use crate::harness::{Call, Raw};

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const CLOSED: [&str; 9] = [
    "/v1/admin/users",
    "/v1/admin",
    "/v1/admin?x=/v1/models",
    "//v1/admin/users",
    "/v1//admin/users",
    "/v1/%61dmin/users",
    "/v1/admin%2fusers",
    "/metrics",
    "/actors",
];

#[tokio::test]
async fn g12_administration_metrics_and_the_tree_are_closed_from_outside_however_the_path_is_written() {
    let recorder = Recorder::start().await;
    // Outsiders cannot call from outside here: a balancer that is trusted says who they are.
    let proxy = Proxy::behind_balancer(&[recorder.addr()], Ipv4Addr::LOCALHOST).await.unwrap();
    let call = |path: &str, from: Ipv4Addr| {
        Call::new(proxy.addr(), "GET", path).from(from).over(Ipv4Addr::LOCALHOST).send()
    };
    for path in CLOSED {
        call(path, OUTSIDE).await.expect_error(403, "forbidden");
    }
    // What nginx would resolve to one path and the service to another is no path at all.
    for path in [
        "/v1/models/../admin/users",
        "/v1/admin/x/..",
        "/v1/%2e%2e/metrics",
        "/./metrics",
        "/v1/.%2E",
        "/v1/admin/users/../../../.error%20",
        "/v1/admin/users/../../../.error%0a",
        "/v1/admin/users/../../../.ERROR",
        "/v1/admin/users/../../../.error/x",
        "/v1/admin/users/a%2f..%2f..%2f..%2f..%2fx",
        "/v1/admin/users/a%2F%2E%2E%2F../../../x",
        "/v1/models/..?/x",
    ] {
        call(path, OUTSIDE).await.expect_error(400, "invalid_request");
    }
    for path in ["/.error", "/v1/admin/../../.error"] {
        call(path, OUTSIDE).await.expect_error(404, "not_found");
    }
    let mut raw = Raw::connect(proxy.addr()).await;
    raw.send("GET /v1/admin/users/..#/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    raw.reply().await.expect_error(400, "invalid_request");
    assert!(recorder.heads().is_empty(), "{:?}", recorder.heads());
    for path in CLOSED {
        call(path, Ipv4Addr::new(10, 1, 2, 3)).await.expect_status(200);
    }
    for path in ["/v1/models/qwen3:8b", "/v1/models/hf.co/a/b.gguf:Q4..K", "/v1/chat/stream", "/readyz"] {
        call(path, OUTSIDE).await.expect_status(200);
    }
    let told = recorder.heads();
    let last = told.last().unwrap();
    assert_eq!(values(last, "x-forwarded-for"), ["198.51.100.7"], "the balancer's word counts: {last}");
}

#[tokio::test]
async fn g12_who_is_no_balancer_does_not_get_in_by_saying_that_it_calls_for_somebody_inside() {
    let recorder = Recorder::start().await;
    let proxy = Proxy::behind_balancer(&[recorder.addr()], Ipv4Addr::LOCALHOST).await.unwrap();
    let call = Call::new(proxy.addr(), "GET", "/healthz").from(OUTSIDE).over(CLIENT);
    call.send().await.expect_status(200);
    assert_eq!(values(&recorder.heads()[0], "x-forwarded-for"), ["127.0.0.9"]);
}
