//! The bounds of the front end: what is above them is refused at once, and let in again when there is room.

use serde_json::json;
use support::fake_ollama::{Model, Scenario};

use crate::harness::{MODEL, Options, Raw, Store, TestApp};

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test]
async fn b08_a_connection_above_the_cap_is_told_so_and_a_later_one_is_served() {
    let app = TestApp::start(Options::on(Store::Sqlite).set("MAX_CONNECTIONS", 2)).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::connect(app.addr()).await;
        raw.send(HEALTH).await;
        raw.reply().await.expect_status(200);
        held.push(raw);
    }
    let mut above = Raw::connect(app.addr()).await;
    above.send(HEALTH).await;
    let refused = above.reply().await.expect_error(503, "overloaded");
    assert_eq!(refused.header("connection"), Some("close"));
    assert!((1..=3).contains(&refused.header("retry-after").unwrap().parse::<u64>().unwrap()));
    assert!(
        app.metrics().await.contains("deepersensor_http_connections_refused_total{reason=\"too_many\"} 1")
    );

    drop(held);
    loop {
        let mut raw = Raw::connect(app.addr()).await;
        raw.send(HEALTH).await;
        // The service has to notice first that the others are gone.
        if raw.reply().await.status == 200 {
            break;
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn d05_above_the_in_flight_cap_requests_are_refused_but_not_health_administration_and_logging_out() {
    let options = Options::on(Store::Sqlite)
        .set("MAX_INFLIGHT_REQUESTS", 2)
        .models([Model::new(MODEL).parallel(4).scenario(Scenario::Stall { after: 1 })]);
    let app = TestApp::start(options).await;
    let root = app.administrator("root@example.org").await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]});
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = app.ask(&ada, &body).await;
        stream.until("start").await;
        streams.push(stream);
    }
    for _ in 0..5 {
        let refused = app.get("/v1/models").bearer(&ada.access).send().await.expect_error(503, "overloaded");
        assert!(refused.header("retry-after").is_some());
        app.get("/healthz").send().await.expect_status(200);
        app.get("/v1/admin/users").bearer(&root.access).send().await.expect_status(200);
    }
    app.call("POST", "/v1/auth/logout").bearer(&root.access).send().await.expect_status(204);
    drop(streams);
    app.quiet().await;
    app.get("/v1/models").bearer(&ada.access).send().await.expect_status(200);
    app.finish().await;
}
