//! `/v1/api-keys`

use serde_json::{Value, json};

use super::{DONE, NOTHING, REFUSED};
use crate::harness::{Session, Store, TestApp, both_stores, snapshot};

const CREATED: &str = r#"201
content-type: application/json
x-request-id: ‹uuid v7›
{
  "key": "‹api key›",
  "id": "‹uuid v7›",
  "name": "nightly job",
  "prefix": "‹api key's prefix›",
  "scopes": [
    "chat",
    "models"
  ],
  "requests_per_minute": 30,
  "tokens_per_minute": null,
  "streams": null,
  "priority": null,
  "models": null,
  "created_at": "‹utc time›",
  "expires_at": "‹utc time›",
  "last_used_at": null
}
"#;

const NEEDS_SESSION: &str = r#"403
content-type: application/json
x-request-id: ‹uuid v7›
{
  "error": {
    "code": "forbidden",
    "message": "this needs a session: sign in, an API key does not do",
    "type": "permission_error",
    "param": null,
    "request_id": "‹uuid v7›"
  }
}
"#;

fn wanted() -> Value {
    json!({"name": "nightly job", "scopes": ["models", "chat"], "expires_in_days": 90, "requests_per_minute": 30})
}

async fn make(app: &TestApp, owner: &Session, wanted: &Value) -> Value {
    app.post("/v1/api-keys", wanted).bearer(&owner.access).send().await.expect_status(201).json()
}

both_stores! {
    async fn a15_a_key_is_shown_once_used_in_either_header_listed_and_revoked(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let made = app.post("/v1/api-keys", &wanted()).bearer(&ada.access).send().await;
        assert_eq!(snapshot(&made), CREATED);
        let made = made.json();
        let (key, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());

        let me = app.get("/v1/auth/me").bearer(key).send().await.expect_status(200).json();
        assert_eq!(me["id"], ada.user);
        assert_eq!(me["credential"], json!({"type": "api_key", "id": id, "scopes": ["chat", "models"]}));
        app.get("/v1/models").header("x-api-key", key).send().await.expect_status(200);

        let list = app.get("/v1/api-keys").bearer(&ada.access).send().await.expect_status(200);
        assert!(!list.text().contains(key));
        let mut described = made.clone();
        described.as_object_mut().unwrap().remove("key");
        assert_eq!(list.json()["data"], json!([described]));

        let path = format!("/v1/api-keys/{id}");
        assert_eq!(snapshot(&app.call("DELETE", &path).bearer(&ada.access).send().await), DONE);
        for call in [app.get("/v1/models").bearer(key), app.get("/v1/models").header("x-api-key", key)] {
            assert_eq!(snapshot(&call.send().await), REFUSED);
        }
        assert_eq!(snapshot(&app.call("DELETE", &path).bearer(&ada.access).send().await), NOTHING);
        app.finish().await;
    }

    async fn a17_somebody_elses_key_is_neither_seen_nor_revoked(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let eve = app.sign_up_and_in("eve@example.org").await;
        let made = make(&app, &ada, &wanted()).await;
        for id in [made["id"].as_str().unwrap(), "01900000-0000-7000-8000-000000000000", "nonsense"] {
            let revoke = app.call("DELETE", &format!("/v1/api-keys/{id}")).bearer(&eve.access);
            assert_eq!(snapshot(&revoke.send().await), NOTHING, "{id}");
        }
        let list = app.get("/v1/api-keys").bearer(&eve.access).send().await.expect_status(200).json();
        assert_eq!(list["data"], json!([]));
        app.get("/v1/models").bearer(made["key"].as_str().unwrap()).send().await.expect_status(200);
        app.finish().await;
    }

    async fn a15_keys_make_no_keys_and_do_nothing_about_the_account(store) {
        let app = TestApp::on(store).await;
        let root = app.administrator("root@example.org").await;
        let all = ["chat", "models", "embeddings", "conversations", "usage", "admin"];
        let key = make(&app, &root, &json!({"name": "all", "scopes": all})).await;
        let key = key["key"].as_str().unwrap();
        for call in [
            app.post("/v1/api-keys", &wanted()),
            app.get("/v1/api-keys"),
            app.get("/v1/auth/sessions"),
            app.call("POST", "/v1/auth/logout"),
            app.post("/v1/auth/password", &json!({"current_password": "x", "new_password": "y"})),
        ] {
            assert_eq!(snapshot(&call.header("x-api-key", key).send().await), NEEDS_SESSION);
        }
        app.get("/v1/admin/users").header("x-api-key", key).send().await.expect_status(200);
        app.finish().await;
    }

    async fn a15_what_is_wrong_with_a_key_is_said_of_its_field(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let changed = |name: &str, value: Value| {
            let mut body = wanted();
            body[name] = value;
            body
        };
        let mut twice = wanted();
        twice["expires_at"] = json!("2999-01-01T00:00:00Z");
        let mut past = wanted();
        past.as_object_mut().unwrap().remove("expires_in_days");
        past["expires_at"] = json!("2001-01-01T00:00:00Z");
        for (body, status, at) in [
            (changed("name", json!("")), 422, "name"),
            (changed("name", json!("x".repeat(101))), 422, "name"),
            (changed("scopes", json!([])), 422, "scopes"),
            (changed("scopes", json!(["admin"])), 422, "scopes"),
            (changed("scopes", json!(["everything"])), 400, "scopes[0]"),
            (changed("expires_in_days", json!(0)), 422, "expires_in_days"),
            (changed("expires_in_days", json!(3_651)), 422, "expires_in_days"),
            (changed("requests_per_minute", json!(0)), 422, "requests_per_minute"),
            (changed("tokens_per_minute", json!(1_000_000_001)), 422, "tokens_per_minute"),
            (changed("streams", json!(0)), 422, "streams"),
            (changed("streams", json!(-1)), 400, "streams"),
            (changed("priority", json!("urgent")), 400, "priority"),
            (twice, 422, "expires_at"),
            (past, 422, "expires_at"),
            (changed("user", json!("x")), 400, "user"),
        ] {
            let reply = app.post("/v1/api-keys", &body).bearer(&ada.access).send().await;
            let reply = reply.expect_error(status, "invalid_request");
            assert_eq!(reply.json()["error"]["param"], at, "{body}");
        }
        assert_eq!(app.database.number("SELECT count(*) FROM api_keys").await, 0);
        app.finish().await;
    }
}

#[tokio::test]
async fn keys_are_listed_page_by_page_newest_first() {
    let app = TestApp::on(Store::Sqlite).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    for name in ["one", "two", "three"] {
        make(&app, &ada, &json!({"name": name, "scopes": ["chat"]})).await;
    }
    let page = |query: String| {
        let call = app.get(&format!("/v1/api-keys{query}")).bearer(&ada.access);
        async move { call.send().await.expect_status(200).json() }
    };
    let first = page("?limit=2".to_owned()).await;
    let second = page(format!("?limit=2&cursor={}", first["next_cursor"].as_str().unwrap())).await;
    let names = |page: &Value| -> Vec<String> {
        page["data"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((names(&first), names(&second)), (vec!["three".into(), "two".into()], vec!["one".into()]));
    assert!(second["next_cursor"].is_null());
    app.finish().await;
}
