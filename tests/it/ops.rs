//! The operators' own listener: `/metrics`, `/actors`, and who may ask.

use serde_json::json;

use crate::harness::{Call, MODEL, Options, Raw, SECRET, Store, TestApp, both_stores};

both_stores! {
    async fn metrics_count_what_was_done(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "store": false});
        app.chat(&ada, &body).send().await.expect_status(200);
        app.get("/v1/nothing").send().await.expect_status(404);
        app.quiet().await;
        let text = app.metrics().await;
        for line in [
            "deepersensor_http_requests_total{route=\"/v1/chat\",status=\"2xx\",outcome=\"ok\"} 1",
            "deepersensor_http_requests_total{route=\"none\",status=\"4xx\",outcome=\"not_found\"} 1",
            "deepersensor_turns_total{model=\"qwen3:8b\",status=\"complete\"} 1",
            "deepersensor_tokens_total{model=\"qwen3:8b\",direction=\"out\"} 32",
            "deepersensor_model_queue_places{model=\"qwen3:8b\"} 0",
            "deepersensor_sign_ins_total{action=\"log_in\",outcome=\"success\"} 1",
            "deepersensor_http_panics_total 0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n--- is not in ---\n{text}");
        }
        for secret in [ada.access.as_str(), ada.refresh.as_str(), ada.user.as_str(), "ada@example.org"] {
            assert!(!text.contains(secret), "a metric tells {secret}");
        }
        app.finish().await;
    }

    async fn the_tree_shows_every_room_running(store) {
        let app = TestApp::on(store).await;
        let tree = app.actors().await;
        let nodes = tree["nodes"].as_array().unwrap();
        for room in
            ["root", "db_sup", "password", "auth_sup", "limits_sup", "models_sup", "relay", "upkeep_sup", "ops"]
        {
            assert!(
                nodes.iter().any(|node| node["path"] == room && node["kind"] != "leaf"),
                "no {room} in {tree:#}"
            );
        }
        let slots = nodes.iter().filter(|node| node["path"].as_str().unwrap().starts_with("models_sup/qwen3:8b/"));
        assert_eq!(slots.count(), 4, "{tree:#}");
        for node in nodes {
            assert_eq!((&node["status"], &node["restarts"]), (&json!("running"), &json!(0)), "{node:#}");
        }
        assert!(tree["gates"].as_array().unwrap().iter().any(|gate| gate["name"] == "ops"));
        app.finish().await;
    }
}

#[tokio::test]
async fn g10_the_operators_listener_answers_loopback_names_only_and_has_no_other_route() {
    let app = TestApp::on(Store::Sqlite).await;
    assert!(app.ops_addr().ip().is_loopback());
    for path in ["/v1/models", "/v1/auth/login", "/openapi.json", "/"] {
        Call::new(app.ops_addr(), "GET", path).send().await.expect_error(404, "not_found");
    }
    let mut raw = Raw::connect(app.ops_addr()).await;
    raw.send("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    raw.reply().await.expect_error(403, "forbidden");
    app.finish().await;
}

/// Drawn once for these tests.
const TOKEN: &str = "hV2kQ9wZ4tR7mX1cL8bN5sF3dG6jP0yA-ops";

#[tokio::test]
async fn g12_operators_show_their_token_where_there_is_one_and_it_opens_nothing_else() {
    let app = TestApp::start(Options::on(Store::Sqlite).set("OPS_TOKEN", TOKEN)).await;
    let root = app.administrator("root@example.org").await;
    let ask = |path: &str| Call::new(app.ops_addr(), "GET", path);
    for path in ["/metrics", "/actors"] {
        let refused = ask(path).send().await.expect_error(401, "unauthenticated");
        assert!(refused.header("www-authenticate").is_some(), "{refused:?}");
        for wrong in ["x", &TOKEN[1..], &format!("{TOKEN}x"), SECRET, &root.access] {
            ask(path).bearer(wrong).send().await.expect_error(401, "unauthenticated");
        }
        ask(path)
            .bearer(TOKEN)
            .header("X-Api-Key", "another")
            .send()
            .await
            .expect_error(401, "unauthenticated");
        ask(path).bearer(TOKEN).send().await.expect_status(200);
    }
    ask("/healthz").send().await.expect_status(200);
    ask("/v1/models").bearer(TOKEN).send().await.expect_error(404, "not_found");

    // A scraper that reaches it by any name.
    let mut raw = Raw::connect(app.ops_addr()).await;
    raw.send(format!(
        "GET /metrics HTTP/1.1\r\nHost: api.internal:9464\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    ))
    .await;
    raw.reply().await.expect_status(200);

    // For clients there is no such door, and the token is none of theirs.
    for path in ["/metrics", "/actors"] {
        app.get(path).bearer(TOKEN).send().await.expect_error(404, "not_found");
    }
    for path in ["/v1/admin/actors", "/v1/models", "/v1/auth/me"] {
        app.get(path).bearer(TOKEN).send().await.expect_error(401, "unauthenticated");
    }
    let page = app.metrics().await;
    let refused =
        "deepersensor_http_requests_total{route=\"/metrics\",status=\"4xx\",outcome=\"unauthenticated\"} 7";
    assert!(page.lines().any(|line| line == refused), "{page}");
    assert!(!page.contains(TOKEN));
    app.finish().await;
}

#[tokio::test]
async fn whoever_guesses_the_operators_token_is_told_to_wait() {
    let options = Options::on(Store::Sqlite).set("OPS_TOKEN", TOKEN);
    let app =
        TestApp::start(options.without("RATE_LIMIT_REQUESTS_PER_MINUTE").without("RATE_LIMIT_BURST")).await;
    let guess = || Call::new(app.ops_addr(), "GET", "/metrics").from([192, 0, 2, 7]).bearer("a guess");
    let mut guesses = 0;
    while guess().send().await.status == 401 {
        guesses += 1;
        assert!(guesses < 1_000, "nobody is tired of guesses");
    }
    guess().send().await.expect_error(429, "rate_limited");
    app.ops("/metrics").from([192, 0, 2, 7]).send().await.expect_status(200);
    app.finish().await;
}

#[tokio::test]
async fn a_scraper_gets_the_format_it_asks_for() {
    let app = TestApp::on(Store::Sqlite).await;
    let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let reply = app.ops("/metrics").header("Accept", prometheus).send().await.expect_status(200);
    assert_eq!(reply.header("content-type"), Some(openmetrics));
    assert!(reply.text().ends_with("# EOF\n"));
    let reply = app.ops("/metrics").send().await.expect_status(200);
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(
        !reply.text().contains("# EOF") && reply.text().contains("# TYPE deepersensor_turns_total counter\n")
    );
    app.finish().await;
}
