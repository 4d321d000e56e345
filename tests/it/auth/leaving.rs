//! `DELETE /v1/auth/me`

use serde_json::json;

use super::REFUSED;
use crate::{
    harness::{Call, MODEL, PASSWORD, Session, TestApp, both_stores, snapshot, until},
    turn::prompt,
};

fn leave(app: &TestApp, session: &Session, password: &str) -> Call {
    app.call("DELETE", "/v1/auth/me").json(&json!({"password": password})).bearer(&session.access)
}

/// Waits until a statement counts nothing.
async fn until_none(app: &TestApp, sql: &str) {
    until(sql, async || app.database.number(sql).await == 0).await;
}

both_stores! {
    async fn e08_whoever_leaves_is_gone_at_once_and_so_is_what_they_said(store) {
        let mut app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let eve = app.sign_up_and_in("eve@example.org").await;
        for somebody in [&ada, &eve] {
            app.chat(somebody, &prompt(MODEL, "hello")).send().await.expect_status(200);
        }
        let (_, key) = app.create_key(&ada, "models").await;

        let wrong = leave(&app, &ada, "not the password").send().await.expect_error(401, "unauthenticated");
        assert_eq!(wrong.json()["error"]["param"], "password");
        for body in [json!({}), json!({"password": PASSWORD, "sure": true})] {
            let call = app.call("DELETE", "/v1/auth/me").json(&body).bearer(&ada.access);
            call.send().await.expect_error(400, "invalid_request");
        }
        app.get("/v1/auth/me").bearer(&ada.access).send().await.expect_status(200);

        leave(&app, &ada, PASSWORD).send().await.expect_status(204);
        for credential in [&ada.access, &key] {
            let reply = app.get("/v1/models").bearer(credential).send().await;
            assert_eq!(snapshot(&reply), REFUSED);
        }
        let credentials = json!({"email": "ada@example.org", "password": PASSWORD});
        app.post("/v1/auth/login", &credentials).send().await.expect_error(401, "unauthenticated");
        let told = format!(
            "SELECT event FROM audit_log WHERE user_id = {} AND event IN ('authn_login_fail', 'user_deleted') ORDER BY id",
            quoted(&app, &ada.user)
        );
        assert_eq!(app.database.texts(&told).await, ["authn_login_fail", "user_deleted"]);
        // The address is free, and leads to nothing of before.
        let again = app.sign_up_and_in("ada@example.org").await;
        let list = app.get("/v1/conversations").bearer(&again.access).send().await.expect_status(200).json();
        assert_eq!(list["data"], json!([]));

        // Removal begins with the next round, and a start is one.
        app.restart(|_| ()).await;
        let hers = quoted(&app, &ada.user);
        until_none(&app, &format!("SELECT count(*) FROM conversations WHERE user_id = {hers}")).await;
        assert_eq!(app.database.number("SELECT count(*) FROM messages").await, 2, "what Eve said");
        let usage = format!("SELECT count(*) FROM turns WHERE user_id = {hers} AND conversation_id IS NULL");
        assert_eq!(app.database.number(&usage).await, 1, "what the turn took stays in the ledger");
        app.finish().await;
    }

    async fn a12_the_last_administrator_stays(store) {
        let app = TestApp::on(store).await;
        let root = app.administrator("root@example.org").await;
        leave(&app, &root, PASSWORD).send().await.expect_error(409, "conflict");
        app.get("/v1/admin/users").bearer(&root.access).send().await.expect_status(200);
        app.finish().await;
    }

    async fn e08_conversations_are_kept_as_long_as_the_operator_says(store) {
        let mut app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let old = app.chat(&ada, &prompt(MODEL, "long ago")).send().await.expect_status(200).json();
        let aged = match app.database {
            crate::harness::Database::Sqlite(_) => "updated_at - 172800000000",
            crate::harness::Database::Postgres { .. } => "updated_at - interval '2 days'",
        };
        let aged = format!("UPDATE conversations SET updated_at = {aged} RETURNING title");
        assert_eq!(app.database.texts(&aged).await.len(), 1);
        app.chat(&ada, &prompt(MODEL, "just now")).send().await.expect_status(200);
        app.restart(|_| ()).await;
        let path = format!("/v1/conversations/{}", old["conversation_id"].as_str().unwrap());
        app.get(&path).bearer(&ada.access).send().await.expect_status(200);

        let day = std::time::Duration::from_hours(24);
        app.restart(|config| config.system.upkeep.retention = Some(day)).await;
        until_none(&app, "SELECT count(*) - 1 FROM conversations").await;
        assert_eq!(app.database.number("SELECT count(*) FROM messages").await, 2);
        assert_eq!(app.database.number("SELECT count(*) FROM turns").await, 2);
        app.get(&path).bearer(&ada.access).send().await.expect_error(404, "not_found");
        app.finish().await;
    }
}

/// An id as the store's SQL writes it.
fn quoted(app: &TestApp, id: &str) -> String {
    match app.database {
        crate::harness::Database::Sqlite(_) => format!("unhex('{id}', '-')"),
        crate::harness::Database::Postgres { .. } => format!("'{id}'"),
    }
}
