//! `GET /v1/conversations/{id}/export` and `GET /v1/auth/me/export`

use serde_json::{Value, json};

use crate::{
    harness::{MODEL, Session, Store, TestApp, both_stores, until_found},
    turn::prompt,
};

/// A picture of one pixel.
const PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// Messages that together are more than any buffer between the store and the reader.
const MANY: usize = 60;
const LARGE_BYTES: usize = 1_000_000;

/// A conversation of one turn; returns its id.
async fn say(app: &TestApp, session: &Session) -> String {
    let reply = app.chat(session, &prompt(MODEL, "What is 7 × 6?")).send().await.expect_status(200).json();
    reply["conversation_id"].as_str().unwrap().to_owned()
}

/// Puts many large messages into the one conversation there is.
async fn fill(app: &TestApp) {
    let (large, id) = match app.database {
        crate::harness::Database::Sqlite(_) => {
            (format!("hex(zeroblob({}))", LARGE_BYTES / 2), "randomblob(16)")
        }
        crate::harness::Database::Postgres { .. } => {
            (format!("repeat('0', {LARGE_BYTES})"), "gen_random_uuid()")
        }
    };
    let sql = format!(
        "INSERT INTO messages (id, conversation_id, turn_id, role, content, status, created_at)
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MANY})
         SELECT {id}, conversation_id, turn_id, role, {large}, status, created_at FROM messages, n WHERE role = 'user'
         RETURNING role"
    );
    assert_eq!(app.database.texts(&sql).await.len(), MANY);
}

async fn until_served(app: &TestApp, session: &Session, path: &str) {
    let served = until_found("an export that was left to be over", async || {
        let reply = app.get(path).bearer(&session.access).send().await;
        if reply.status == 429 { Err(reply) } else { Ok(reply) }
    });
    served.await.expect_status(200);
}

both_stores! {
    async fn a_conversation_is_taken_along_whole(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let mut body = prompt(MODEL, "What is 7 × 6?");
        body["messages"][0]["images"] = json!([PIXEL]);
        let chat = app.chat(&ada, &body).send().await.expect_status(200).json();
        let id = chat["conversation_id"].as_str().unwrap();
        let path = format!("/v1/conversations/{id}/export");

        let file = app.get(&path).bearer(&ada.access).send().await.expect_status(200);
        assert_eq!(file.header("content-type"), Some("application/json"));
        let disposition = format!("attachment; filename=\"conversation-{id}.json\"");
        assert_eq!(file.header("content-disposition"), Some(&*disposition));
        let file = file.json();
        assert_eq!((&file["object"], &file["conversation"]["id"]), (&json!("conversation.export"), &json!(id)));
        let messages = file["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 2);
        assert_eq!(messages[0]["images"], json!([PIXEL]));
        assert_eq!((&messages[1]["id"], &messages[1]["content"]), (&chat["message_id"], &chat["message"]["content"]));
        assert_eq!(messages[1]["status"], "complete");

        let file = app.get(&format!("{path}?format=markdown")).bearer(&ada.access).send().await.expect_status(200);
        assert_eq!(file.header("content-type"), Some("text/markdown; charset=utf-8"));
        assert!(file.header("content-disposition").unwrap().ends_with(".md\""));
        let text = file.text();
        assert!(text.starts_with("# What is 7 × 6?") && text.contains("\n## User · ") && text.contains("\n## Assistant · "), "{text}");
        assert!(text.contains("What is 7 × 6?") && text.contains(chat["message"]["content"].as_str().unwrap().trim()));

        app.get(&format!("{path}?format=pdf")).bearer(&ada.access).send().await.expect_error(400, "invalid_request");
        app.finish().await;
    }

    async fn an_export_that_cannot_be_finished_is_seen_to_be_broken(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let id = say(&app, &ada).await;
        fill(&app).await;
        let path = format!("/v1/conversations/{id}/export");
        let mut file = app.get(&path).bearer(&ada.access).open().await.expect_status(200);
        // It waits for its reader, who has one export and no more.
        let second = app.get("/v1/auth/me/export").bearer(&ada.access).send().await.expect_error(429, "rate_limited");
        assert!(second.header("retry-after").is_some());
        let gone = match store {
            Store::Sqlite => "UPDATE conversations SET deleted_at = 1 RETURNING title",
            Store::Postgres => "UPDATE conversations SET deleted_at = now() RETURNING title",
        };
        assert_eq!(app.database.texts(gone).await.len(), 1);
        assert!(!file.is_whole().await, "what is missing looks like the end");
        assert!(serde_json::from_slice::<Value>(&file.raw).is_err());
        drop(file);
        until_served(&app, &ada, "/v1/auth/me/export").await;
        app.finish().await;
    }

    async fn all_that_is_kept_about_somebody_is_one_document(store) {
        let app = TestApp::on(store).await;
        let (ada, eve) = (app.sign_up_and_in("ada@example.org").await, app.sign_up_and_in("eve@example.org").await);
        let (first, second) = (say(&app, &ada).await, say(&app, &ada).await);
        say(&app, &eve).await;
        let (key, secret) = app.create_key(&ada, "models").await;
        app.call("DELETE", &format!("/v1/api-keys/{key}")).bearer(&ada.access).send().await.expect_status(204);
        app.create_key(&eve, "models").await;

        let reply = app.get("/v1/auth/me/export").bearer(&ada.access).send().await.expect_status(200);
        let disposition = format!("attachment; filename=\"account-{}.json\"", ada.user);
        assert_eq!(reply.header("content-disposition"), Some(&*disposition));
        let (text, file) = (reply.text(), reply.json());
        let names: Vec<_> = file.as_object().unwrap().keys().collect();
        let expected =
            ["object", "exported_at", "account", "sessions", "api_keys", "conversations", "usage", "audit"];
        assert_eq!(names, expected);
        assert_eq!((&file["account"]["id"], &file["account"]["email"]), (&json!(ada.user), &json!("ada@example.org")));
        assert_eq!(file["sessions"].as_array().unwrap().len(), 1);
        let keys = file["api_keys"].as_array().unwrap();
        assert!(keys.len() == 1 && keys[0]["id"] == json!(key) && !keys[0]["revoked_at"].is_null(), "{keys:?}");
        let conversations = file["conversations"].as_array().unwrap();
        let ids: Vec<_> = conversations.iter().map(|conversation| conversation["id"].as_str().unwrap()).collect();
        assert_eq!(ids, [first, second]);
        assert!(conversations.iter().all(|conversation| conversation["messages"].as_array().unwrap().len() == 2));
        let usage = file["usage"].as_array().unwrap();
        assert!(usage.len() == 2 && usage.iter().all(|turn| turn["status"] == "complete" && turn["model"] == MODEL));
        let events: Vec<_> =
            file["audit"].as_array().unwrap().iter().map(|entry| entry["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["authn_token_revoked", "authn_token_created", "authn_login_success", "user_created"]);
        for foreign in [eve.user.as_str(), "eve@example.org", "hash", "argon2", &secret] {
            assert!(!text.contains(foreign), "{foreign}");
        }
        app.finish().await;
    }
}
