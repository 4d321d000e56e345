//! The operators' own listener: `/metrics`, `/actors`

use serde_json::json;

use crate::harness::{Call, MODEL, Raw, TestApp, both_stores};

both_stores! {
    async fn metrics_count_what_was_done(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "store": false});
        app.chat(&ada, &body).send().await.expect_status(200);
        app.get("/v1/nothing").send().await.expect_status(404);
        app.quiet().await;
        let reply = Call::new(app.ops_addr(), "GET", "/metrics").send().await.expect_status(200);
        assert_eq!(
            reply.header("content-type"),
            Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
        );
        let text = reply.text();
        assert!(text.ends_with("# EOF\n"));
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
        for room in ["root", "db_sup", "password", "auth_sup", "limits_sup", "models_sup", "ops"] {
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
    let app = TestApp::on(crate::harness::Store::Sqlite).await;
    assert!(app.ops_addr().ip().is_loopback());
    for path in ["/v1/models", "/v1/auth/login", "/openapi.json", "/"] {
        Call::new(app.ops_addr(), "GET", path).send().await.expect_error(404, "not_found");
    }
    let mut raw = Raw::connect(app.ops_addr()).await;
    raw.send("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    raw.reply().await.expect_error(403, "forbidden");
    app.finish().await;
}
