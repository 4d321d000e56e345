//! `GET /v1/admin/audit`

use serde_json::{Value, json};

use tokio::time::timeout;

use crate::harness::{PASSWORD, PATIENCE, Session, Store, TestApp, both_stores, snapshot};

const ENTRY: &str = r#"200
content-type: application/json
x-request-id: ‹uuid v7›
{
  "object": "list",
  "data": [
    {
      "id": "‹uuid v7›",
      "event": "authn_login_success",
      "outcome": "success",
      "actor": "‹uuid v7›",
      "user": "‹uuid v7›",
      "detail": null,
      "address": "203.0.113.9",
      "request_id": "‹uuid v7›",
      "at": "‹utc time›"
    }
  ],
  "next_cursor": null
}
"#;

async fn events(app: &TestApp, root: &Session, query: &str) -> Vec<Value> {
    let list = app.get(&format!("/v1/admin/audit?{query}")).bearer(&root.access).send().await;
    list.expect_status(200).json()["data"].as_array().unwrap().clone()
}

both_stores! {
    async fn a19_what_happened_is_found_by_event_actor_account_address_and_time(store) {
        let app = TestApp::on(store).await;
        let root = app.administrator("root@example.org").await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let credentials = json!({"email": "ada@example.org", "password": PASSWORD});
        let log_in = app.post("/v1/auth/login", &credentials).from([203, 0, 113, 9]).send().await;
        let request_id = log_in.header("x-request-id").unwrap().to_owned();
        log_in.expect_status(200);

        let path = "/v1/admin/audit?event=authn_login_success&address=203.0.113.9";
        let found = app.get(path).bearer(&root.access).send().await;
        assert_eq!(snapshot(&found), ENTRY);
        assert_eq!(found.json()["data"][0]["request_id"], request_id.as_str());

        let body = json!({"disabled": true});
        let disable = app.call("PATCH", &format!("/v1/admin/users/{}", ada.user)).bearer(&root.access).json(&body);
        disable.send().await.expect_status(200);
        let by_root = events(&app, &root, &format!("actor={}&user={}", root.user, ada.user)).await;
        assert!(by_root.iter().any(|entry| entry["event"] == "user_updated"), "{by_root:?}");

        let newest = events(&app, &root, "limit=1").await;
        let at = newest[0]["at"].as_str().unwrap();
        assert!(!events(&app, &root, "").await.is_empty());
        assert_eq!(events(&app, &root, "since=2999-01-01T00:00:00Z").await.len(), 0);
        assert_eq!(events(&app, &root, "until=2001-01-01T00:00:00%2B02:00").await.len(), 0);
        assert_eq!(events(&app, &root, &format!("since={at}&limit=1")).await, newest);
        app.finish().await;
    }

    async fn a19_who_is_refused_a_right_is_told_of_once_in_a_minute(store) {
        let app = TestApp::on(store).await;
        let root = app.administrator("root@example.org").await;
        let eve = app.sign_up_and_in("eve@example.org").await;
        for _ in 0..3 {
            app.get("/v1/admin/users").bearer(&eve.access).send().await.expect_error(403, "forbidden");
        }
        let written = async {
            loop {
                let found = events(&app, &root, &format!("event=authz_fail&user={}", eve.user)).await;
                if !found.is_empty() {
                    break found;
                }
            }
        };
        // Refusals are written behind their callers' backs.
        let refused = timeout(PATIENCE, written).await.expect("the refusal is told of");
        assert_eq!(refused.len(), 1);
        assert_eq!((&refused[0]["detail"], &refused[0]["outcome"]), (&json!("/v1/admin/users"), &json!("failure")));
        app.finish().await;
    }
}

#[tokio::test]
async fn filters_that_mean_nothing_are_refused() {
    let app = TestApp::on(Store::Sqlite).await;
    let root = app.administrator("root@example.org").await;
    for (query, at) in [
        ("event=login", "event"),
        ("actor=ada", "actor"),
        ("user=%ff", "user"),
        ("address=localhost", "address"),
        ("since=yesterday", "since"),
        ("until=", "until"),
        ("limit=0", "limit"),
        ("cursor=x", "cursor"),
    ] {
        let reply = app.get(&format!("/v1/admin/audit?{query}")).bearer(&root.access).send().await;
        assert_eq!(reply.expect_error(400, "invalid_request").json()["error"]["param"], at);
    }
    app.finish().await;
}
