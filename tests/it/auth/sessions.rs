//! `/v1/auth/sessions`

use serde_json::{Value, json};

use super::{DONE, NOTHING, REFUSED};
use crate::harness::{PASSWORD, Session, TestApp, both_stores, snapshot};

const ONE: &str = r#"200
content-type: application/json
x-request-id: ‹uuid v7›
{
  "object": "list",
  "data": [
    {
      "id": "‹uuid v7›",
      "current": true,
      "device": "a laptop",
      "address": "203.0.113.9",
      "created_at": "‹utc time›",
      "last_used_at": "‹utc time›",
      "expires_at": "‹utc time›"
    }
  ],
  "next_cursor": null
}
"#;

async fn log_in(app: &TestApp, email: &str, device: &str) -> Value {
    let call = app.post("/v1/auth/login", &json!({"email": email, "password": PASSWORD}));
    let call = call.header("user-agent", device).from([203, 0, 113, 9]);
    call.send().await.expect_status(200).json()
}

async fn listed(app: &TestApp, access: &str) -> Vec<Value> {
    let list = app.get("/v1/auth/sessions").bearer(access).send().await.expect_status(200).json();
    list["data"].as_array().unwrap().clone()
}

both_stores! {
    async fn a12_sessions_are_listed_with_where_and_what_they_are_and_end_one_by_one(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        app.call("POST", "/v1/auth/logout").bearer(&ada.access).send().await.expect_status(204);
        let laptop = log_in(&app, "ada@example.org", "a laptop").await;
        let access = laptop["access_token"].as_str().unwrap();
        assert_eq!(snapshot(&app.get("/v1/auth/sessions").bearer(access).send().await), ONE);

        let phone = log_in(&app, "ada@example.org", &"long name ".repeat(40)).await;
        let sessions = listed(&app, access).await;
        assert_eq!(sessions.len(), 2);
        let other = sessions.iter().find(|session| session["current"] == false).unwrap();
        assert_eq!(other["device"].as_str().unwrap().chars().count(), 256);

        let path = format!("/v1/auth/sessions/{}", other["id"].as_str().unwrap());
        assert_eq!(snapshot(&app.call("DELETE", &path).bearer(access).send().await), DONE);
        let me = app.get("/v1/auth/me").bearer(phone["access_token"].as_str().unwrap()).send().await;
        assert_eq!(snapshot(&me), REFUSED);
        assert_eq!(listed(&app, access).await.len(), 1);
        assert_eq!(snapshot(&app.call("DELETE", &path).bearer(access).send().await), NOTHING);
        app.finish().await;
    }

    async fn a17_somebody_elses_session_is_not_found_and_goes_on(store) {
        let app = TestApp::on(store).await;
        let Session { access, .. } = app.sign_up_and_in("ada@example.org").await;
        let eve = app.sign_up_and_in("eve@example.org").await;
        let id = listed(&app, &access).await[0]["id"].as_str().unwrap().to_owned();
        for id in [id.as_str(), "01900000-0000-7000-8000-000000000000", "nonsense"] {
            let end = app.call("DELETE", &format!("/v1/auth/sessions/{id}")).bearer(&eve.access);
            assert_eq!(snapshot(&end.send().await), NOTHING, "{id}");
        }
        app.get("/v1/auth/me").bearer(&access).send().await.expect_status(200);
        app.finish().await;
    }
}
