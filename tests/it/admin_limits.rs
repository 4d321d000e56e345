//! `PATCH /v1/admin/users/{id}` and `PATCH /v1/admin/api-keys/{id}`: limits of one account or one key.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Call, Session, Store, TestApp, both_stores, snapshot};

/// How long another service may go on with the limits from before.
const EVERYWHERE_WITHIN: Duration = Duration::from_secs(5);

const ACCOUNT: &str = r#"200
content-type: application/json
x-request-id: ‹uuid v7›
{
  "id": "‹uuid v7›",
  "email": "ada@example.org",
  "role": "user",
  "disabled": false,
  "limits": {
    "requests_per_minute": 600,
    "tokens_per_minute": 200000,
    "streams": 8,
    "priority": "batch"
  },
  "models": null,
  "created_at": "‹utc time›"
}
"#;

const KEY: &str = r#"200
content-type: application/json
x-request-id: ‹uuid v7›
{
  "id": "‹uuid v7›",
  "name": "bulk",
  "prefix": "‹api key's prefix›",
  "scopes": [
    "models"
  ],
  "requests_per_minute": 60,
  "tokens_per_minute": 50000,
  "streams": null,
  "priority": "interactive",
  "models": null,
  "created_at": "‹utc time›",
  "expires_at": null,
  "last_used_at": null
}
"#;

fn account(user: &Session) -> String {
    format!("/v1/admin/users/{}", user.user)
}

async fn limits_of_me(service: SocketAddr, credential: &str) -> Value {
    let me = Call::new(service, "GET", "/v1/auth/me").bearer(credential).send().await;
    me.expect_status(200).json()["limits"].clone()
}

/// Asks until they are known. However slowly that is done, nothing that was sent too late may tell of others.
async fn are_known_soon(service: SocketAddr, credential: &str, limits: &Value, changed: Instant) {
    loop {
        let sent = Instant::now();
        if limits_of_me(service, credential).await == *limits {
            return;
        }
        let after = sent.duration_since(changed);
        assert!(after < EVERYWHERE_WITHIN, "as before {after:?} after the change");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

both_stores! {
    async fn limits_of_an_account_are_set_shown_to_it_at_once_and_removed_one_by_one(store) {
        let app = TestApp::on(store).await;
        // SQLite serves one service only.
        let twin = match store {
            Store::Sqlite => None,
            Store::Postgres => Some(app.start_twin(|_| ()).await),
        };
        let root = app.administrator("root@example.org").await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let services: Vec<_> = [Some(app.addr()), twin.as_ref().map(|twin| twin.addr())].into_iter().flatten().collect();
        let patch = |limits: Value| {
            app.call("PATCH", &account(&ada)).json(&json!({"limits": limits})).bearer(&root.access).send()
        };
        let none = json!({"requests_per_minute": null, "tokens_per_minute": null, "streams": null, "priority": null});
        for service in &services {
            assert_eq!(limits_of_me(*service, &ada.access).await, none);
        }

        let all = json!({"requests_per_minute": 600, "tokens_per_minute": 200_000, "streams": 8, "priority": "batch"});
        assert_eq!(snapshot(&patch(all.clone()).await), ACCOUNT);
        let changed = Instant::now();
        assert_eq!(limits_of_me(app.addr(), &ada.access).await, all, "not at once");
        for service in &services {
            are_known_soon(*service, &ada.access, &all, changed).await;
        }

        let fewer = patch(json!({"tokens_per_minute": null, "streams": 4})).await.expect_status(200).json();
        let expected = json!({"requests_per_minute": 600, "tokens_per_minute": null, "streams": 4, "priority": "batch"});
        assert_eq!(fewer["limits"], expected);
        let read = app.get(&account(&ada)).bearer(&root.access).send().await.expect_status(200).json();
        assert_eq!(read, fewer);
        let list = app.get("/v1/admin/users?search=ada").bearer(&root.access).send().await.expect_status(200).json();
        assert_eq!(list["data"], json!([read]));
        patch(none.clone()).await.expect_status(200);
        assert_eq!(limits_of_me(app.addr(), &ada.access).await, none);
        assert_eq!(limits_of_me(app.addr(), &root.access).await, none, "another's");

        let audit = format!("/v1/admin/audit?event=privilege_permissions_changed&user={}", ada.user);
        let told = app.get(&audit).bearer(&root.access).send().await.expect_status(200).json();
        let details: Vec<_> = told["data"].as_array().unwrap().iter().map(|entry| &entry["detail"]).collect();
        assert_eq!(details, [
            "requests_per_minute 600 to none, streams 4 to none, priority batch to none",
            "tokens_per_minute 200000 to none, streams 8 to 4",
            "requests_per_minute none to 600, tokens_per_minute none to 200000, streams none to 8, priority none to batch",
        ]);
        if let Some(twin) = twin {
            twin.stop().await;
        }
        app.finish().await;
    }

    async fn limits_of_a_key_are_chosen_by_its_owner_and_changed_by_administrators(store) {
        let app = TestApp::on(store).await;
        let root = app.administrator("root@example.org").await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let wanted = json!({
            "name": "bulk", "scopes": ["models"],
            "requests_per_minute": 30, "tokens_per_minute": 50_000, "streams": 2, "priority": "batch",
        });
        let made = app.post("/v1/api-keys", &wanted).bearer(&ada.access).send().await.expect_status(201).json();
        for (name, value) in wanted.as_object().unwrap() {
            assert_eq!(made[name], *value);
        }
        let key = made["key"].as_str().unwrap();
        let policy = async || {
            let reply = app.get("/v1/auth/me").bearer(key).send().await.expect_status(200);
            reply.header("ratelimit-policy").unwrap().to_owned()
        };
        assert!(policy().await.ends_with(", \"key\";q=30;w=60"));

        let path = format!("/v1/admin/api-keys/{}", made["id"].as_str().unwrap());
        let patch = |by: &Session, change: Value| app.call("PATCH", &path).json(&change).bearer(&by.access).send();
        let change = json!({"requests_per_minute": 60, "streams": null, "priority": "interactive"});
        patch(&ada, change.clone()).await.expect_error(403, "forbidden");
        let changed = patch(&root, change.clone()).await;
        assert_eq!(snapshot(&changed), KEY);
        assert!(policy().await.ends_with(", \"key\";q=60;w=60"), "not at once");
        let list = app.get("/v1/api-keys").bearer(&ada.access).send().await.expect_status(200).json();
        assert_eq!(list["data"], json!([changed.json()]));
        patch(&root, change).await.expect_status(200);

        let audit = format!("/v1/admin/audit?event=privilege_permissions_changed&user={}", ada.user);
        let told = app.get(&audit).bearer(&root.access).send().await.expect_status(200).json();
        let detail = format!(
            "{}: requests_per_minute 30 to 60, streams 2 to none, priority batch to interactive",
            made["id"].as_str().unwrap()
        );
        let told: Vec<_> = told["data"].as_array().unwrap().iter().map(|entry| (&entry["detail"], &entry["actor"])).collect();
        assert_eq!(told, [(&json!(detail), &json!(root.user))]);

        app.call("DELETE", &path).bearer(&root.access).send().await.expect_status(204);
        patch(&root, json!({"streams": 1})).await.expect_error(404, "not_found");
        app.finish().await;
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_limit_is_said_of_its_field_and_nothing_is_changed() {
    let app = TestApp::on(Store::Sqlite).await;
    let root = app.administrator("root@example.org").await;
    let (key, _) = app.create_key(&root, "models").await;
    let paths = [account(&root), format!("/v1/admin/api-keys/{key}")];
    for (limits, status, at) in [
        (json!({}), 422, None),
        (json!({"requests_per_minute": 0}), 422, Some("requests_per_minute")),
        (json!({"requests_per_minute": 1_000_001, "streams": 1}), 422, Some("requests_per_minute")),
        (json!({"tokens_per_minute": 1_000_000_001}), 422, Some("tokens_per_minute")),
        (json!({"streams": 10_001}), 422, Some("streams")),
        (json!({"streams": -1}), 400, Some("streams")),
        (json!({"streams": "2"}), 400, Some("streams")),
        (json!({"priority": "urgent"}), 400, Some("priority")),
        (json!({"tokens_per_hour": 1}), 400, Some("tokens_per_hour")),
    ] {
        let bodies = [json!({"limits": limits}), limits];
        for ((path, body), prefix) in paths.iter().zip(bodies).zip(["limits.", ""]) {
            let reply = app.call("PATCH", path).json(&body).bearer(&root.access).send().await;
            let reply = reply.expect_error(status, "invalid_request").json();
            let at = at.map(|at| format!("{prefix}{at}"));
            assert_eq!(reply["error"]["param"], json!(at), "{path} {body}");
        }
    }
    let null = app.call("PATCH", &paths[0]).json(&json!({"limits": null})).bearer(&root.access).send().await;
    assert_eq!(null.expect_error(400, "invalid_request").json()["error"]["param"], "limits");
    assert_eq!(app.database.number("SELECT count(*) FROM users WHERE streams IS NOT NULL").await, 0);
    let told = "SELECT count(*) FROM audit_log WHERE event = 'privilege_permissions_changed'";
    assert_eq!(app.database.number(told).await, 0);
    app.finish().await;
}
