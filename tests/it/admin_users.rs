//! `/v1/admin/users`

use serde_json::{Value, json};

use crate::{
    auth::{DONE, NOTHING, REFUSED},
    harness::{PASSWORD, Session, Store, TestApp, both_stores, snapshot},
};

const DISABLED: &str = r#"200
content-type: application/json
x-request-id: ‹uuid v7›
{
  "id": "‹uuid v7›",
  "email": "ada@example.org",
  "role": "user",
  "disabled": true,
  "limits": {
    "requests_per_minute": null,
    "tokens_per_minute": null,
    "streams": null,
    "priority": null
  },
  "models": null,
  "created_at": "‹utc time›"
}
"#;

const LAST: &str = r#"409
content-type: application/json
x-request-id: ‹uuid v7›
{
  "error": {
    "code": "conflict",
    "message": "this is the last administrator: make another one first",
    "type": "invalid_request_error",
    "param": null,
    "request_id": "‹uuid v7›"
  }
}
"#;

fn path(user: &Session) -> String {
    format!("/v1/admin/users/{}", user.user)
}

async fn emails(app: &TestApp, root: &Session, query: &str) -> Vec<String> {
    let list = app.get(&format!("/v1/admin/users{query}")).bearer(&root.access).send().await;
    let list = list.expect_status(200).json();
    list["data"].as_array().unwrap().iter().map(|user| user["email"].as_str().unwrap().to_owned()).collect()
}

both_stores! {
    async fn a12_a_disabled_account_is_out_with_all_its_credentials_until_it_is_enabled(store) {
        let app = TestApp::on(store).await;
        let root = app.administrator("root@example.org").await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let key = async || {
            let key = json!({"name": "job", "scopes": ["models"]});
            let made = app.post("/v1/api-keys", &key).bearer(&ada.access).send().await.expect_status(201);
            made.json()["key"].as_str().unwrap().to_owned()
        };
        // That the first one is refused is remembered for a while.
        let (key, other_key) = (key().await, key().await);
        let patch = |body: Value| app.call("PATCH", &path(&ada)).bearer(&root.access).json(&body).send();

        assert_eq!(snapshot(&patch(json!({"disabled": true})).await), DISABLED);
        for call in [app.get("/v1/auth/me").bearer(&ada.access), app.get("/v1/models").bearer(&key)] {
            assert_eq!(snapshot(&call.send().await), REFUSED);
        }
        let credentials = json!({"email": "ada@example.org", "password": PASSWORD});
        app.post("/v1/auth/login", &credentials).send().await.expect_error(401, "unauthenticated");

        patch(json!({"disabled": false})).await.expect_status(200);
        app.get("/v1/models").bearer(&other_key).send().await.expect_status(200);
        assert_eq!(snapshot(&app.get("/v1/auth/me").bearer(&ada.access).send().await), REFUSED);
        app.post("/v1/auth/login", &credentials).send().await.expect_status(200);
        app.finish().await;
    }

    async fn a18_a_role_counts_from_the_next_request_on_and_the_last_administrator_stays(store) {
        let app = TestApp::on(store).await;
        let root = app.administrator("root@example.org").await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let patch = |by: &Session, user: &Session, body: Value| {
            app.call("PATCH", &path(user)).bearer(&by.access).json(&body).send()
        };
        for body in [json!({"role": "user"}), json!({"disabled": true})] {
            assert_eq!(snapshot(&patch(&root, &root, body).await), LAST);
        }
        let delete = app.call("DELETE", &path(&root)).bearer(&root.access).send().await;
        assert_eq!(snapshot(&delete), LAST);

        app.get("/v1/admin/users").bearer(&ada.access).send().await.expect_error(403, "forbidden");
        patch(&root, &ada, json!({"role": "admin"})).await.expect_status(200);
        app.get("/v1/admin/users").bearer(&ada.access).send().await.expect_status(200);
        patch(&ada, &root, json!({"role": "user"})).await.expect_status(200);
        app.get("/v1/admin/users").bearer(&root.access).send().await.expect_error(403, "forbidden");
        app.finish().await;
    }

    async fn an_account_is_found_read_and_removed_with_all_that_is_its_own(store) {
        let app = TestApp::on(store).await;
        let root = app.administrator("root@example.org").await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        app.sign_up_and_in("bob_b@example.org").await;
        assert_eq!(emails(&app, &root, "").await, ["bob_b@example.org", "ada@example.org", "root@example.org"]);
        assert_eq!(emails(&app, &root, "?search=ADA%40").await, ["ada@example.org"]);
        assert_eq!(emails(&app, &root, "?search=b_b").await, ["bob_b@example.org"], "taken literally");
        assert_eq!(emails(&app, &root, "?limit=1").await, ["bob_b@example.org"]);
        let short = app.get("/v1/admin/users?search=ad").bearer(&root.access).send().await;
        assert_eq!(short.expect_error(400, "invalid_request").json()["error"]["param"], "search");

        let read = app.get(&path(&ada)).bearer(&root.access).send().await.expect_status(200).json();
        assert_eq!((read["id"].as_str(), read["disabled"].as_bool()), (Some(ada.user.as_str()), Some(false)));
        assert_eq!(snapshot(&app.call("DELETE", &path(&ada)).bearer(&root.access).send().await), DONE);
        assert_eq!(snapshot(&app.get("/v1/auth/me").bearer(&ada.access).send().await), REFUSED);
        assert_eq!(snapshot(&app.get(&path(&ada)).bearer(&root.access).send().await), NOTHING);
        assert_eq!(emails(&app, &root, "?search=ada").await, Vec::<String>::new());
        app.finish().await;
    }

    async fn a12_an_administrator_sees_and_ends_the_sessions_and_keys_of_an_account(store) {
        let app = TestApp::on(store).await;
        let root = app.administrator("root@example.org").await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let key = json!({"name": "job", "scopes": ["models"]});
        let key = app.post("/v1/api-keys", &key).bearer(&ada.access).send().await.expect_status(201).json();

        let keys = app.get(&format!("{}/api-keys", path(&ada))).bearer(&root.access).send().await;
        assert_eq!(keys.expect_status(200).json()["data"][0]["id"], key["id"]);
        let revoke = format!("/v1/admin/api-keys/{}", key["id"].as_str().unwrap());
        assert_eq!(snapshot(&app.call("DELETE", &revoke).bearer(&root.access).send().await), DONE);
        let used = app.get("/v1/models").bearer(key["key"].as_str().unwrap()).send().await;
        assert_eq!(snapshot(&used), REFUSED);

        let sessions = format!("{}/sessions", path(&ada));
        let list = app.get(&sessions).bearer(&root.access).send().await.expect_status(200).json();
        assert_eq!(list["data"].as_array().unwrap().len(), 1);
        assert_eq!(list["data"][0]["current"], false);
        assert_eq!(snapshot(&app.call("DELETE", &sessions).bearer(&root.access).send().await), DONE);
        assert_eq!(snapshot(&app.get("/v1/auth/me").bearer(&ada.access).send().await), REFUSED);
        app.finish().await;
    }
}

#[tokio::test]
async fn ids_that_lead_nowhere_are_not_found_and_patches_say_something() {
    let app = TestApp::on(Store::Sqlite).await;
    let root = app.administrator("root@example.org").await;
    for id in ["01900000-0000-7000-8000-000000000000", "nonsense"] {
        let user = format!("/v1/admin/users/{id}");
        for call in [
            app.get(&user),
            app.call("DELETE", &user),
            app.call("PATCH", &user).json(&json!({"disabled": true})),
            app.get(&format!("{user}/sessions")),
            app.call("DELETE", &format!("{user}/sessions")),
            app.get(&format!("{user}/api-keys")),
            app.call("DELETE", &format!("/v1/admin/api-keys/{id}")),
            app.call("PATCH", &format!("/v1/admin/api-keys/{id}")).json(&json!({"streams": null})),
            app.call("DELETE", &format!("/v1/admin/invites/{id}")),
        ] {
            assert_eq!(snapshot(&call.bearer(&root.access).send().await), NOTHING);
        }
    }
    for (body, status) in
        [(json!({}), 422), (json!({"role": "owner"}), 400), (json!({"email": "x@example.org"}), 400)]
    {
        let patch = app.call("PATCH", &path(&root)).bearer(&root.access).json(&body).send().await;
        patch.expect_error(status, "invalid_request");
    }
    app.finish().await;
}
