//! B10: which pages may call us.

use crate::harness::{Call, Options, Reply, Store, TestApp};

const ALLOWED: &str = "https://app.example.org";

async fn start() -> TestApp {
    TestApp::start(
        Options::on(Store::Sqlite).set("ALLOWED_ORIGINS", format!("{ALLOWED}, http://localhost:3000")),
    )
    .await
}

fn preflight(app: &TestApp, origin: &str) -> Call {
    app.call("OPTIONS", "/v1/chat")
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type")
}

fn assert_not_allowed(reply: &Reply, origin: &str) {
    let allowed = reply.header("access-control-allow-origin");
    assert!(allowed.is_none(), "{origin} got {allowed:?}");
    assert_eq!(reply.header("access-control-allow-credentials"), None);
}

#[tokio::test]
async fn b10_a_listed_origin_is_echoed_and_may_preflight() {
    let app = start().await;
    for origin in [ALLOWED, "http://localhost:3000"] {
        let reply = preflight(&app, origin).send().await.expect_status(200);
        assert_eq!(reply.header("access-control-allow-origin"), Some(origin));
        assert_eq!(reply.header("access-control-max-age"), Some("600"));
        assert_eq!(reply.header("access-control-allow-credentials"), None);
        let headers = reply.header("access-control-allow-headers").unwrap();
        for name in ["authorization", "content-type", "idempotency-key", "last-event-id"] {
            assert!(headers.contains(name), "{headers}");
        }

        let reply = app.get("/healthz").header("origin", origin).send().await.expect_status(200);
        assert_eq!(reply.header("access-control-allow-origin"), Some(origin));
        assert!(reply.header("vary").unwrap().to_lowercase().contains("origin"));
        let readable = reply.header("access-control-expose-headers").unwrap();
        for name in [
            "retry-after",
            "idempotent-replay",
            "x-request-id",
            "request-id",
            "openai-processing-ms",
            "x-queue-position",
            "x-ratelimit-limit-requests",
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-requests",
            "x-ratelimit-remaining-tokens",
        ] {
            assert!(readable.split(',').any(|one| one.trim() == name), "{name}: {readable}");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn b10_origins_that_only_look_like_a_listed_one_are_not_allowed() {
    let app = start().await;
    for origin in [
        "https://app.example.org.evil.example",
        "https://evil-app.example.org",
        "https://example.org",
        "https://sub.app.example.org",
        "http://app.example.org",
        "https://app.example.org:8443",
        "https://app.example.org/",
        "HTTPS://APP.EXAMPLE.ORG",
        "null",
        "*",
        "",
    ] {
        assert_not_allowed(&preflight(&app, origin).send().await, origin);
        assert_not_allowed(&app.get("/healthz").header("origin", origin).send().await, origin);
    }
    app.finish().await;
}

#[tokio::test]
async fn b10_a_page_reads_refusals_too() {
    let app = start().await;
    let reply =
        app.get("/v1/auth/me").header("origin", ALLOWED).send().await.expect_error(401, "unauthenticated");
    assert_eq!(reply.header("access-control-allow-origin"), Some(ALLOWED));
    app.finish().await;
}

#[tokio::test]
async fn b10_without_a_list_no_origin_is_allowed() {
    let app = TestApp::on(Store::Sqlite).await;
    assert_not_allowed(&app.get("/healthz").header("origin", ALLOWED).send().await, ALLOWED);
    preflight(&app, ALLOWED).send().await.expect_error(405, "invalid_request");
    app.finish().await;
}
