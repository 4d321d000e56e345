//! The log as a collector of lines reads it: who asked for what, and what became of it.

use serde_json::Value;

use super::{BROKEN, Ground};
use crate::{
    harness::{MODEL, Reply, until},
    turn::{Streamed, prompt},
};

/// No collector: what follows does not need one.
const UNTRACED: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "");

fn request_id(reply: &Reply) -> String {
    reply.header("x-request-id").unwrap().to_owned()
}

/// The lines about requests.
fn told(ground: &Ground) -> Vec<Value> {
    ground.log().into_iter().filter(|line| line["target"] == "access").collect()
}

#[tokio::test]
async fn b13_a_turn_leaves_one_line_that_says_who_asked_for_what_and_what_it_cost() {
    let ground = Ground::small(&[UNTRACED]).await;
    let call = ground.chat("/v1/chat/stream", &prompt(MODEL, "hi")).from([192, 0, 2, 77]);
    let mut events = Streamed::new(call.open().await);
    let id = events.header("x-request-id").unwrap().to_owned();
    let done = events.last().await;
    let line = ground.line(&id, "request").await;
    for (name, wanted) in [
        ("level", "INFO"),
        ("target", "access"),
        ("ip", "192.0.2.77"),
        ("user_id", ground.ada.user.as_str()),
        ("event", "request"),
        ("outcome", "success"),
        ("method", "POST"),
        ("route", "/v1/chat/stream"),
        ("model", MODEL),
    ] {
        assert_eq!(line[name], wanted, "{name} of {line}");
    }
    assert_eq!(
        (&line["status"], line.get("kind"), line.get("trace_id")),
        (&200.into(), None, None),
        "{line}"
    );
    let usage = &done.data["usage"];
    assert_eq!(
        (&line["prompt_tokens"], &line["completion_tokens"]),
        (&usage["prompt_tokens"], &usage["completion_tokens"]),
        "{line}"
    );
    for name in ["duration_ms", "queued_ms", "first_token_ms"] {
        assert!(line[name].is_u64(), "{name} of {line}");
    }
    assert!(chrono::DateTime::parse_from_rfc3339(line["timestamp"].as_str().unwrap()).is_ok(), "{line}");
    let about_it = told(&ground).into_iter().filter(|line| line["request_id"] == *id);
    assert_eq!(about_it.count(), 1);
    ground.finish().await;
}

#[tokio::test]
async fn b13_whatever_is_logged_for_a_request_names_it_whoever_logs_it() {
    let ground = Ground::small(&[UNTRACED]).await;
    let failed = ground.chat("/v1/chat", &prompt(BROKEN, "hi")).send().await;
    assert_eq!(failed.status, 502, "{failed:?}");
    let id = request_id(&failed);
    let by_worker = ground.line(&id, "model server failed a turn").await;
    let at_the_end = ground.line(&id, "request").await;
    for line in [&by_worker, &at_the_end] {
        assert_eq!(line["user_id"], ground.ada.user, "{line}");
        assert!(line["ip"].is_string(), "{line}");
    }
    assert_eq!((&at_the_end["outcome"], &at_the_end["kind"]), (&"failure".into(), &"upstream_error".into()));
    assert!(by_worker["target"].as_str().unwrap().starts_with("actors::model"), "{by_worker}");
    ground.finish().await;
}

#[tokio::test]
async fn a_client_that_leaves_is_told_as_such() {
    let ground = Ground::small(&[UNTRACED]).await;
    ground.ollama.control().change_model(MODEL, |model| {
        *model = model.clone().tokens(100_000).tokens_per_s(50.0);
    });
    let mut events = Streamed::new(ground.chat("/v1/chat/stream", &prompt(MODEL, "hi")).open().await);
    events.until("chunk").await;
    let id = events.header("x-request-id").unwrap().to_owned();
    drop(events);
    let line = ground.line(&id, "request").await;
    assert_eq!((&line["outcome"], &line["kind"]), (&"failure".into(), &"cancelled".into()), "{line}");
    ground.finish().await;
}

/// The requests that the log tells of, under this filter, after one of each kind.
async fn requests_told(filter: &str) -> Vec<(String, String)> {
    let ground = Ground::small(&[UNTRACED, ("RUST_LOG", filter)]).await;
    for path in ["/healthz", "/health", "/readyz"] {
        ground.get(path).send().await.expect_status(200);
    }
    ground.get("/v1/models").send().await.expect_status(200);
    ground.get("/v1/nothing").send().await.expect_status(404);
    ground.chat("/v1/chat", &prompt(MODEL, "hi")).send().await.expect_status(200);
    let last = ground.chat("/v1/chat", &prompt(BROKEN, "hi")).send().await;
    // Written before the end of the reply's account, by another target.
    until("the last line", async || {
        let log = ground.log();
        log.iter().any(|line| line["request_id"] == request_id(&last) && line["message"] != "request")
    })
    .await;
    if !filter.contains("off") {
        ground.line(&request_id(&last), "request").await;
    }
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let told = told(&ground).iter().map(|line| (text(&line["method"]), text(&line["route"]))).collect();
    ground.finish().await;
    told
}

#[tokio::test]
async fn the_filter_decides_which_requests_are_told_and_monitors_never_are() {
    let owned = |told: &[(&str, &str)]| -> Vec<_> {
        told.iter().map(|(method, route)| ((*method).to_owned(), (*route).to_owned())).collect()
    };
    let did_something = owned(&[
        ("POST", "/v1/auth/signup"),
        ("POST", "/v1/auth/login"),
        ("POST", "/v1/chat"),
        ("POST", "/v1/chat"),
    ]);
    assert_eq!(requests_told("info").await, did_something);
    let all = owned(&[
        ("POST", "/v1/auth/signup"),
        ("POST", "/v1/auth/login"),
        ("GET", "/v1/models"),
        ("GET", "none"),
        ("POST", "/v1/chat"),
        ("POST", "/v1/chat"),
    ]);
    assert_eq!(requests_told("info,access=debug").await, all);
    assert_eq!(requests_told("info,access=off").await, []);
}
