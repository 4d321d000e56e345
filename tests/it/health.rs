//! `/health`, `/healthz`, `/readyz`

use serde_json::{Value, json};
use support::redis::Redis;

use crate::harness::{Options, Reply, Store, TestApp, both_stores, snapshot, until_found};

async fn get(app: &TestApp, path: &str) -> Reply {
    app.get(path).send().await
}

fn checks(health: &Value) -> &[Value] {
    health["checks"].as_array().unwrap()
}

/// Waits until readiness is this: the database is looked at after the start, and then each second.
async fn until_ready_is(app: &TestApp, status: u16) -> Reply {
    until_ready(app, |reply| reply.status == status).await
}

async fn until_ready(app: &TestApp, met: impl Fn(&Reply) -> bool) -> Reply {
    until_found("readiness to change", async || {
        let reply = get(app, "/readyz").await;
        assert_eq!(get(app, "/healthz").await.status, 200);
        if met(&reply) { Ok(reply) } else { Err(reply) }
    })
    .await
}

both_stores! {
    async fn a_service_that_has_started_is_healthy_and_ready(store) {
        let app = TestApp::on(store).await;
        assert_eq!(
            snapshot(&get(&app, "/healthz").await),
            "200\ncontent-type: application/json\nx-request-id: ‹uuid v7›\n{\n  \"status\": \"ok\"\n}\n"
        );
        let all_ok = |reply: &Reply| checks(&reply.json()).iter().all(|check| check["ok"] == true);
        let ready = until_ready(&app, all_ok).await.expect_status(200).json();
        assert_eq!(ready["status"], "ok");
        assert!(checks(&ready).iter().all(|check| check.get("detail").is_none()));
        let health = get(&app, "/health").await.expect_status(200).json();
        let names: Vec<_> = checks(&health).iter().map(|check| &check["name"]).collect();
        assert!(names.contains(&&json!("database")), "{names:?}");
        assert!(checks(&health).iter().all(|check| check["detail"].is_string()));
        app.finish().await;
    }
}

#[tokio::test]
async fn d06_without_its_database_a_service_is_alive_but_not_ready_and_recovers_by_itself() {
    let app = TestApp::start(Options::on(Store::Postgres).postgres_through_a_proxy()).await;
    until_ready_is(&app, 200).await;
    for frozen in [false, true] {
        if frozen {
            app.postgres_proxy().freeze();
        } else {
            app.postgres_proxy().cut().await;
        }
        let refused = until_ready_is(&app, 503).await.json();
        assert_eq!(refused["status"], "unavailable");
        let failed: Vec<_> = checks(&refused).iter().filter(|check| check["ok"] == false).collect();
        assert_eq!(failed, [&json!({"name": "database", "ok": false})]);
        assert_eq!(get(&app, "/health").await.status, 503);
        app.postgres_proxy().heal().await.unwrap();
        until_ready_is(&app, 200).await;
    }
    app.sign_up_and_in("ada@example.org").await;
    app.finish().await;
}

#[tokio::test]
async fn d06_health_names_redis_and_each_model_server_and_neither_makes_it_unready() {
    let redis = Redis::start().await.unwrap();
    let app = TestApp::start(Options::on(Store::Sqlite).set("REDIS_URL", redis.url())).await;
    let detail = async |name: &str| {
        let health = get(&app, "/health").await.expect_status(200).json();
        let check = checks(&health).iter().find(|check| check["name"] == name).unwrap();
        check["detail"].as_str().unwrap().to_owned()
    };
    let until = async |name: &str, words: &str| {
        until_found(words, async || {
            get(&app, "/v1/models").await;
            let said = detail(name).await;
            if said == words { Ok(()) } else { Err(said) }
        })
        .await;
    };
    until("redis", "answers: limits are counted with all instances").await;
    until("model_servers", "ollama answers").await;
    redis.kill().unwrap();
    app.ollama.control().close().await;
    until("redis", "does not answer: limits are counted by this instance alone").await;
    get(&app, "/readyz").await.expect_status(200);
    app.ollama.control().reopen().await.unwrap();
    app.finish().await;
}

#[tokio::test]
async fn d06_readiness_does_not_depend_on_model_servers() {
    let app = TestApp::on(Store::Sqlite).await;
    app.ollama.control().close().await;
    until_ready_is(&app, 200).await;
    let health = get(&app, "/health").await.expect_status(200).json();
    assert!(checks(&health).iter().any(|check| check["name"] == "models"));
    app.ollama.control().reopen().await.unwrap();
    app.finish().await;
}
