//! `POST /v1/auth/login`, `GET /v1/auth/me`

use serde_json::json;

use crate::harness::{PASSWORD, TestApp, both_stores, snapshot};

const TOKENS: &str = r#"200
content-type: application/json
x-request-id: ‹uuid v7›
{
  "access_token": "‹access token›",
  "refresh_token": "‹refresh token›",
  "token_type": "Bearer",
  "expires_in": 900
}
"#;

const ME: &str = r#"200
content-type: application/json
x-request-id: ‹uuid v7›
{
  "id": "‹uuid v7›",
  "email": "ada@example.org",
  "role": "user",
  "created_at": "‹utc time›",
  "limits": {
    "requests_per_minute": null,
    "tokens_per_minute": null,
    "streams": null,
    "priority": null
  },
  "credential": {
    "type": "session",
    "id": "‹uuid v7›",
    "scopes": [
      "chat",
      "models",
      "embeddings",
      "conversations",
      "usage"
    ]
  }
}
"#;

const REFUSED: &str = r#"401
content-type: application/json
www-authenticate: Bearer
x-request-id: ‹uuid v7›
{
  "error": {
    "code": "unauthenticated",
    "message": "wrong e-mail address or password",
    "type": "authentication_error",
    "param": null,
    "request_id": "‹uuid v7›"
  }
}
"#;

both_stores! {
    async fn whoever_signs_in_is_told_who_they_are(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let credentials = json!({"email": "Ada@example.org", "password": PASSWORD});
        let tokens = app.post("/v1/auth/login", &credentials).send().await;
        assert_eq!(snapshot(&tokens), TOKENS);
        let me = app.get("/v1/auth/me").bearer(tokens.json()["access_token"].as_str().unwrap()).send().await;
        assert_eq!(snapshot(&me), ME);
        assert_eq!(me.json()["id"], ada.user);
        let by_key = app.get("/v1/auth/me").header("x-api-key", &ada.access).send().await;
        assert_eq!(snapshot(&by_key), ME);
        app.finish().await;
    }

    async fn a05_a_wrong_password_and_an_unknown_account_get_one_answer(store) {
        let app = TestApp::on(store).await;
        app.sign_up_and_in("ada@example.org").await;
        for email in ["ada@example.org", "nobody@example.org"] {
            let body = json!({"email": email, "password": "seven noisy herons"});
            assert_eq!(snapshot(&app.post("/v1/auth/login", &body).send().await), REFUSED);
        }
        // Each cost one hash: the first two made and opened the account.
        assert!(app.metrics().await.contains("deepersensor_password_hash_seconds_count 4"));
        app.finish().await;
    }

    async fn a16_two_different_credentials_in_one_request_are_refused(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let bob = app.sign_up_and_in("bob@example.org").await;
        let both = app.get("/v1/auth/me").bearer(&ada.access).header("x-api-key", &bob.access).send().await;
        both.expect_error(400, "invalid_request");
        let same = app.get("/v1/auth/me").bearer(&ada.access).header("x-api-key", &ada.access).send().await;
        same.expect_status(200);
        app.finish().await;
    }

    async fn a12_sessions_of_one_account_live_side_by_side(store) {
        let app = TestApp::on(store).await;
        let first = app.sign_up_and_in("ada@example.org").await;
        let credentials = json!({"email": "ada@example.org", "password": PASSWORD});
        let second = app.post("/v1/auth/login", &credentials).send().await.expect_status(200).json();
        for access in [first.access.as_str(), second["access_token"].as_str().unwrap()] {
            app.get("/v1/auth/me").bearer(access).send().await.expect_status(200);
        }
        app.finish().await;
    }
}
