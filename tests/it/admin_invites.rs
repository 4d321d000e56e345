//! `/v1/admin/invites`, and who may sign up.

use serde_json::{Value, json};

use crate::{
    auth::{DONE, NOTHING},
    harness::{Options, PASSWORD, Reply, Session, Store, TestApp, both_stores, snapshot},
};

const CREATED: &str = r#"201
content-type: application/json
x-request-id: ‹uuid v7›
{
  "code": "‹invite›",
  "id": "‹uuid v7›",
  "role": "admin",
  "note": "for Ada",
  "created_by": "‹uuid v7›",
  "created_at": "‹utc time›",
  "expires_at": "‹utc time›",
  "used_at": null,
  "used_by": null,
  "revoked_at": null
}
"#;

const NEEDED: &str = r#"403
content-type: application/json
x-request-id: ‹uuid v7›
{
  "error": {
    "code": "forbidden",
    "message": "an invite is needed that is neither used nor expired: ask an administrator for one",
    "type": "permission_error",
    "param": "invite",
    "request_id": "‹uuid v7›"
  }
}
"#;

const CLOSED: &str = r#"403
content-type: application/json
x-request-id: ‹uuid v7›
{
  "error": {
    "code": "forbidden",
    "message": "sign-up is closed: ask an administrator for an account",
    "type": "permission_error",
    "param": null,
    "request_id": "‹uuid v7›"
  }
}
"#;

async fn sign_up(app: &TestApp, email: &str, invite: Option<&Value>) -> Reply {
    let mut body = json!({"email": email, "password": PASSWORD});
    if let Some(invite) = invite {
        body["invite"] = invite.clone();
    }
    app.post("/v1/auth/signup", &body).send().await
}

async fn invite(app: &TestApp, root: &Session, wanted: &Value) -> Reply {
    app.post("/v1/admin/invites", wanted).bearer(&root.access).send().await
}

both_stores! {
    async fn a18_an_invite_makes_one_account_of_its_role_and_nothing_else_does(store) {
        let app = TestApp::start(Options::on(store).set("SIGNUP_MODE", "invite")).await;
        let root = app.administrator("root@example.org").await;
        assert_eq!(snapshot(&sign_up(&app, "ada@example.org", None).await), NEEDED);

        let made = invite(&app, &root, &json!({"role": "admin", "note": "for Ada", "expires_in_days": 7})).await;
        assert_eq!(snapshot(&made), CREATED);
        let code = &made.json()["code"];
        let ada = sign_up(&app, "ada@example.org", Some(code)).await.expect_status(201).json();
        for unfit in [code, &json!("dsi_nonsense"), &json!("")] {
            assert_eq!(snapshot(&sign_up(&app, "eve@example.org", Some(unfit)).await), NEEDED, "{unfit}");
        }

        let list = app.get("/v1/admin/invites").bearer(&root.access).send().await.expect_status(200);
        assert!(!list.text().contains(code.as_str().unwrap()));
        assert_eq!(list.json()["data"][0]["used_by"], ada["id"]);
        let read = format!("/v1/admin/users/{}", ada["id"].as_str().unwrap());
        let read = app.get(&read).bearer(&root.access).send().await.expect_status(200);
        assert_eq!(read.json()["role"], "admin");
        app.finish().await;
    }

    async fn a18_a_revoked_invite_is_worth_nothing(store) {
        let app = TestApp::start(Options::on(store).set("SIGNUP_MODE", "invite")).await;
        let root = app.administrator("root@example.org").await;
        let made = app.call("POST", "/v1/admin/invites").bearer(&root.access).send().await;
        let made = made.expect_status(201).json();
        assert_eq!((made["role"].as_str(), made["expires_at"].is_null()), (Some("user"), true));
        let path = format!("/v1/admin/invites/{}", made["id"].as_str().unwrap());
        assert_eq!(snapshot(&app.call("DELETE", &path).bearer(&root.access).send().await), DONE);
        assert_eq!(snapshot(&app.call("DELETE", &path).bearer(&root.access).send().await), NOTHING);
        assert_eq!(snapshot(&sign_up(&app, "ada@example.org", Some(&made["code"])).await), NEEDED);
        app.finish().await;
    }

    async fn a18_where_sign_up_is_closed_no_invite_opens_it(store) {
        let app = TestApp::start(Options::on(store).set("SIGNUP_MODE", "closed")).await;
        let root = app.administrator("root@example.org").await;
        let made = invite(&app, &root, &json!({})).await.expect_status(201).json();
        for code in [None, Some(&made["code"])] {
            assert_eq!(snapshot(&sign_up(&app, "ada@example.org", code).await), CLOSED);
        }
        app.finish().await;
    }
}

#[tokio::test]
async fn what_is_wrong_with_an_invite_is_said_of_its_field() {
    let app = TestApp::on(Store::Sqlite).await;
    let root = app.administrator("root@example.org").await;
    for (body, status, at) in [
        (json!({"role": "owner"}), 400, "role"),
        (json!({"note": "x".repeat(201)}), 422, "note"),
        (json!({"expires_in_days": 0}), 422, "expires_in_days"),
        (json!({"code": "dsi_mine"}), 400, "code"),
    ] {
        let reply = invite(&app, &root, &body).await.expect_error(status, "invalid_request");
        assert_eq!(reply.json()["error"]["param"], at, "{body}");
    }
    app.finish().await;
}
