//! What clients get wrong: each mistake has its status, in our own words, on a connection that stays usable.

use serde_json::{Value, json};

use crate::harness::{Call, MODEL, Options, Reply, Session, Store, TestApp, snapshot};

const SIGN_UP: &str = "/v1/auth/signup";
const CHAT: &str = "/v1/chat";

/// A request with this body to a route about accounts, which reads none of it as anything else than JSON.
fn sign_up(app: &TestApp, body: impl Into<Vec<u8>>) -> Call {
    app.call("POST", SIGN_UP).body("application/json", body.into())
}

fn chat(app: &TestApp, session: &Session, body: &Value) -> Call {
    app.post(CHAT, body).bearer(&session.access)
}

fn param(reply: &Reply) -> String {
    reply.json()["error"]["param"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn b05_bodies_that_are_not_the_json_asked_for_are_refused_with_the_field_at_fault() {
    let app = TestApp::on(Store::Sqlite).await;
    let deep = format!(r#"{{"email":{}1{}}}"#, "[".repeat(70), "]".repeat(70));
    for (body, at) in [
        ("", ""),
        ("{", ""),
        ("null", ""),
        ("[]", ""),
        ("\"text\"", ""),
        ("{\"email\":\"a@b.c\",}", ""),
        (r#"{"email":"ada@example.org","password":"seven quiet herons"} {}"#, ""),
        (r#"{"password":"seven quiet herons"}"#, "email"),
        (r#"{"email":"ada@example.org"}"#, "password"),
        (r#"{"email":7,"password":"seven quiet herons"}"#, "email"),
        (r#"{"email":null,"password":"seven quiet herons"}"#, "email"),
        (r#"{"email":"ada@example.org","password":["x"]}"#, "password"),
        (r#"{"email":"ada@example.org","password":"seven quiet herons","role":"admin"}"#, "role"),
        (r#"{"email":"ada@example.org","email":"eve@example.org","password":"seven quiet herons"}"#, "email"),
        (deep.as_str(), ""),
    ] {
        let reply = sign_up(&app, body).send().await.expect_error(400, "invalid_request");
        assert_eq!(param(&reply), at, "{body}");
        assert!(!reply.text().contains("herons"), "a reply repeats what it was sent: {reply:?}");
    }
    let not_utf8 = b"{\"email\":\"\xff@example.org\",\"password\":\"seven quiet herons\"}";
    sign_up(&app, not_utf8).send().await.expect_error(400, "invalid_request");
    assert_eq!(app.database.number("SELECT count(*) FROM users").await, 0);
    app.finish().await;
}

#[tokio::test]
async fn a_chat_that_makes_no_sense_is_refused_before_it_is_stored_or_sent() {
    let app = TestApp::on(Store::Sqlite).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let hello = json!([{"role": "user", "content": "hi"}]);
    let changed = |name: &str, value: Value| {
        let mut body = json!({"model": MODEL, "messages": hello});
        body[name] = value;
        body
    };
    for (body, status, code, at) in [
        (json!({}), 400, "invalid_request", "model"),
        (json!({"model": MODEL}), 400, "invalid_request", "messages"),
        (changed("model", json!(5)), 400, "invalid_request", "model"),
        (changed("model", json!("")), 400, "invalid_request", "model"),
        (changed("model", json!("../../etc/passwd")), 400, "invalid_request", "model"),
        (changed("model", json!("no-such-model")), 404, "model_not_found", "model"),
        (changed("messages", json!([])), 400, "invalid_request", "messages"),
        (changed("messages", json!("hi")), 400, "invalid_request", "messages"),
        (changed("messages", json!([{"role": "user"}, 7])), 400, "invalid_request", "messages[1]"),
        (
            changed("messages", json!([{"role": "root", "content": "x"}])),
            400,
            "invalid_request",
            "messages[0].role",
        ),
        (
            changed("messages", json!([{"role": "user", "content": 1}])),
            400,
            "invalid_request",
            "messages[0].content",
        ),
        (changed("conversation_id", json!("mine")), 400, "invalid_request", "conversation_id"),
        (
            changed("conversation_id", json!("01900000-0000-7000-8000-000000000000")),
            404,
            "not_found",
            "conversation_id",
        ),
        (changed("store", json!("yes")), 400, "invalid_request", "store"),
        (changed("on_disconnect", json!("explode")), 400, "invalid_request", "on_disconnect"),
        (changed("options", json!({"temperature": "hot"})), 400, "invalid_request", "options.temperature"),
        (changed("format", json!("yaml")), 400, "invalid_request", "format"),
        (changed("think", json!(1)), 400, "invalid_request", "think"),
    ] {
        for path in [CHAT, "/v1/chat/stream"] {
            let reply = app.post(path, &body).bearer(&ada.access).send().await.expect_error(status, code);
            assert_eq!(param(&reply), at, "{body}");
        }
    }
    assert_eq!(app.database.number("SELECT count(*) FROM turns").await, 0);
    assert_eq!(app.database.number("SELECT count(*) FROM conversations").await, 0);
    assert_eq!(app.ollama.control().counters().chat_calls, 0);
    app.finish().await;
}

#[tokio::test]
async fn b04_a_body_above_its_bound_is_413_however_it_is_announced() {
    let options = Options::on(Store::Sqlite).set("MAX_REQUEST_SIZE_BYTES", 64 << 10);
    let app = TestApp::start(options).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let text = |length: usize| json!({"model": MODEL, "messages": [{"role": "user", "content": "x".repeat(length)}]});

    sign_up(&app, vec![b' '; 20 << 10]).send().await.expect_error(413, "invalid_request");
    chat(&app, &ada, &text(65 << 10)).send().await.expect_error(413, "invalid_request");
    chat(&app, &ada, &text(60 << 10)).send().await.expect_status(200);
    app.finish().await;
}

#[tokio::test]
async fn b04_a_body_that_is_compressed_or_not_json_is_415() {
    let app = TestApp::on(Store::Sqlite).await;
    let body = r#"{"email":"ada@example.org","password":"seven quiet herons"}"#;
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin1",
        "application/jsonp",
    ] {
        let call = app.call("POST", SIGN_UP).body(content_type, body);
        call.send().await.expect_error(415, "invalid_request");
    }
    for encoding in ["gzip", "br", "identity, gzip"] {
        let call = sign_up(&app, body).header("content-encoding", encoding);
        call.send().await.expect_error(415, "invalid_request");
    }
    sign_up(&app, body).header("content-encoding", "identity").send().await.expect_status(201);
    app.finish().await;
}

#[tokio::test]
async fn b11_unknown_paths_are_404_and_wrong_methods_405_with_those_there_are() {
    let app = TestApp::on(Store::Sqlite).await;
    for path in
        ["/v1", "/v1/nothing", "/v1/auth/login/", "/V1/auth/me", "/v1/models/%ff", "//v1/models", "/metrics"]
    {
        app.get(path).send().await.expect_error(404, "not_found");
    }
    for (method, path, allow) in [
        ("GET", "/v1/auth/login", "POST"),
        ("DELETE", "/v1/conversations", "POST, GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
        ("PUT", "/v1/chat", "POST"),
        ("OPTIONS", "/v1/chat", "POST"),
        ("TRACE", "/v1/chat", "POST"),
        ("BREW", "/v1/chat", "POST"),
        ("TRACE", "/nothing", "GET, HEAD, POST, PATCH, DELETE"),
    ] {
        let reply = app.call(method, path).send().await.expect_error(405, "invalid_request");
        assert_eq!(reply.header("allow"), Some(allow), "{method} {path}");
    }
    app.finish().await;
}

#[tokio::test]
async fn d04_a_caller_that_asks_for_a_senseless_time_is_refused() {
    let app = TestApp::on(Store::Sqlite).await;
    for time in ["0", "-1", "soon", "1.5"] {
        let reply = app.get("/openapi.json").header("x-request-timeout", time).send().await;
        assert_eq!(param(&reply.expect_error(400, "invalid_request")), "X-Request-Timeout");
    }
    app.get("/openapi.json").header("x-request-timeout", "5").send().await.expect_status(200);
    app.finish().await;
}

#[tokio::test]
async fn b12_a_refusal_is_these_bytes() {
    let app = TestApp::on(Store::Sqlite).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let body = json!({"model": "no-such-model", "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(
        snapshot(&chat(&app, &ada, &body).send().await),
        r#"404
content-type: application/json
x-request-id: ‹uuid v7›
{
  "error": {
    "code": "model_not_found",
    "message": "there is no model no-such-model",
    "type": "not_found_error",
    "param": "model",
    "request_id": "‹uuid v7›"
  }
}
"#
    );
    assert_eq!(
        snapshot(&app.get("/v1/chat").send().await),
        r#"405
allow: POST
content-type: application/json
x-request-id: ‹uuid v7›
{
  "error": {
    "code": "invalid_request",
    "message": "this path does not have this method",
    "type": "invalid_request_error",
    "param": null,
    "request_id": "‹uuid v7›"
  }
}
"#
    );
    assert_eq!(
        snapshot(&app.get("/v1/auth/me").send().await),
        r#"401
content-type: application/json
www-authenticate: Bearer
x-request-id: ‹uuid v7›
{
  "error": {
    "code": "unauthenticated",
    "message": "sign in and send the access token, or an API key, as `Authorization: Bearer …`",
    "type": "authentication_error",
    "param": null,
    "request_id": "‹uuid v7›"
  }
}
"#
    );
    app.finish().await;
}
