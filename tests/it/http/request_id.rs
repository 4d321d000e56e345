//! B13: who may name a request, and how.

use crate::harness::{Options, Store, TestApp};

async fn named(app: &TestApp, id: &str) -> String {
    let reply = app.get("/nothing").header("x-request-id", id).send().await.expect_error(404, "not_found");
    reply.header("x-request-id").unwrap().to_owned()
}

fn is_fresh(id: &str) -> bool {
    uuid::Uuid::try_parse(id).is_ok_and(|id| id.get_version_num() == 7)
}

#[tokio::test]
async fn b13_a_stranger_does_not_name_requests() {
    let app = TestApp::start(Options::on(Store::Sqlite).set("TRUSTED_PROXY_IPS", "")).await;
    let (one, two) = (named(&app, "mine").await, named(&app, "mine").await);
    assert!(is_fresh(&one) && is_fresh(&two) && one != two, "{one} {two}");
    app.finish().await;
}

#[tokio::test]
async fn b13_a_trusted_proxy_names_requests_by_harmless_names_only() {
    let app = TestApp::on(Store::Sqlite).await;
    let longest = "a".repeat(128);
    for id in ["edge-7.A_b", "0", &longest] {
        assert_eq!(named(&app, id).await, id);
    }
    let too_long = "a".repeat(129);
    let huge = "a".repeat(10 << 10);
    for id in ["", "a b", "a\tb", "\"quoted\"", "a,b", "%0d%0aSet-Cookie:x", "../x", &too_long, &huge] {
        let given = named(&app, id).await;
        assert!(is_fresh(&given), "{id:?} became {given:?}");
    }
    app.finish().await;
}

#[tokio::test]
async fn b13_the_audit_trail_has_the_name_that_the_caller_was_told() {
    let app = TestApp::on(Store::Sqlite).await;
    let body = serde_json::json!({"email": "ada@example.org", "password": crate::harness::PASSWORD});
    let reply = app.post("/v1/auth/signup", &body).send().await.expect_status(201);
    let audited =
        app.database.texts("SELECT request_id FROM audit_log WHERE event <> 'authn_key_rotated'").await;
    assert_eq!(audited, [reply.header("x-request-id").unwrap()]);
    app.finish().await;
}
