//! Few connections, a full server, and one that does not let us write.

use serde_json::json;
use support::{
    fake_ollama::{Model, Scenario},
    postgres::Cluster,
};

use crate::{
    harness::{MODEL, Options, PASSWORD, Store, TestApp, until},
    logs::Logs,
    turn::prompt,
};

const STREAMS: usize = 100;

#[tokio::test]
async fn e07_two_connections_serve_a_hundred_streams_and_everybody_else() {
    let stalling = Model::new(MODEL).parallel(STREAMS).scenario(Scenario::Stall { after: 1 });
    let options = Options::on(Store::Postgres)
        .set("DATABASE_READERS", 1)
        .set("DATABASE_WRITERS", 1)
        .set("OLLAMA_NUM_PARALLEL", STREAMS)
        .models([stalling]);
    let app = TestApp::start(options).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut events = app.ask(&ada, &prompt(MODEL, "go on")).await;
        events.until("chunk").await;
        streams.push(events);
    }
    let listed =
        app.get("/v1/conversations?limit=100").bearer(&ada.access).send().await.expect_status(200).json();
    assert_eq!(listed["data"].as_array().unwrap().len(), STREAMS);
    app.get("/v1/auth/me").bearer(&ada.access).send().await.expect_status(200);
    app.get("/readyz").send().await.expect_status(200);
    let credentials = json!({ "email": "eve@example.org", "password": PASSWORD });
    app.post("/v1/auth/signup", &credentials).send().await.expect_status(201);
    app.post("/v1/auth/login", &credentials).send().await.expect_status(200);
    let ours = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'deepersensor'";
    assert_eq!(app.database.number(ours).await, 2);
    drop(streams);
    app.finish().await;
}

#[tokio::test]
async fn e07_more_connections_than_are_good_for_the_server_are_told_at_the_start() {
    for (instances, is_told) in [(1, false), (50, true)] {
        let logs = Logs::listen();
        let app = TestApp::start(Options::on(Store::Postgres).set("INSTANCE_COUNT", instances)).await;
        let lines = logs.lines();
        let told = lines
            .iter()
            .find(|line| line.field("message").contains("too many of the database's connections"));
        assert_eq!(told.is_some(), is_told, "{lines:#?}");
        if let Some(line) = told {
            // 8 each, and what the cluster of tests leaves to those who are no superusers.
            assert_eq!((line.field("needed"), line.field("usable")), ("400", "197"));
        }
        app.finish().await;
    }
}

#[tokio::test]
async fn a_database_that_may_be_read_but_not_written_makes_the_service_unready_and_says_why() {
    let logs = Logs::listen();
    let app = TestApp::on(Store::Postgres).await;
    let database = app.database_url().rsplit_once('/').unwrap().1.to_owned();
    let cluster = Cluster::shared().await.unwrap();
    let sign_up = async |email: &str| {
        app.post("/v1/auth/signup", &json!({ "email": email, "password": PASSWORD })).send().await
    };
    sign_up("ada@example.org").await.expect_status(201);
    let reconnect =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'");
    cluster.run(&format!("ALTER DATABASE {database} SET default_transaction_read_only = on")).await.unwrap();
    cluster.run(&reconnect).await.unwrap();

    until("a change to be refused", async || sign_up("eve@example.org").await.status == 503).await;
    until("it to be unready", async || {
        let health = app.get("/health").send().await;
        health.status == 503 && health.text().contains("cannot be written to")
    })
    .await;
    let told = |message: &str| {
        let lines = logs.lines().into_iter().filter(|line| line.field("message") == message);
        lines.map(|line| line.field("error").to_owned() + line.field("cause")).collect::<Vec<_>>()
    };
    for _ in 0..5 {
        sign_up("eve@example.org").await.expect_status(503);
    }
    let causes = [told("changes are not written"), told("dependency cannot be written to")];
    for cause in &causes {
        assert_eq!(cause.len(), 1, "{causes:?}");
    }
    assert!(causes[1][0].contains("25006 (it is read-only"), "{causes:?}");

    cluster.run(&format!("ALTER DATABASE {database} RESET default_transaction_read_only")).await.unwrap();
    cluster.run(&reconnect).await.unwrap();
    until("it to be ready again", async || app.get("/readyz").send().await.status == 200).await;
    sign_up("eve@example.org").await.expect_status(201);
    app.finish().await;
}
