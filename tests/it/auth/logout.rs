//! `POST /v1/auth/logout`

use serde_json::json;

use super::{DONE, REFUSED};
use crate::harness::{Options, PASSWORD, Session, TestApp, both_stores, snapshot};

/// One more session of the account.
async fn again(app: &TestApp, session: &Session) -> Session {
    let credentials = json!({"email": session.email, "password": PASSWORD});
    let tokens = app.post("/v1/auth/login", &credentials).send().await.expect_status(200).json();
    let text = |name| tokens[name].as_str().unwrap().to_owned();
    Session { access: text("access_token"), refresh: text("refresh_token"), ..session.clone() }
}

async fn assert_ended(app: &TestApp, session: &Session) {
    let me = app.get("/v1/auth/me").bearer(&session.access).send().await;
    assert_eq!(snapshot(&me), REFUSED);
    let refreshed = app.post("/v1/auth/refresh", &json!({"refresh_token": session.refresh})).send().await;
    assert_eq!(snapshot(&refreshed), REFUSED);
}

async fn assert_lives(app: &TestApp, session: &Session) {
    app.get("/v1/auth/me").bearer(&session.access).send().await.expect_status(200);
}

both_stores! {
    async fn a12_a_log_out_ends_this_session_the_others_or_all(store) {
        let app = TestApp::on(store).await;
        let bystander = app.sign_up_and_in("bob@example.org").await;
        let first = app.sign_up_and_in("ada@example.org").await;
        let (second, third) = (again(&app, &first).await, again(&app, &first).await);

        // Without a body it is this one.
        let done = app.call("POST", "/v1/auth/logout").bearer(&third.access).send().await;
        assert_eq!(snapshot(&done), DONE);
        assert_ended(&app, &third).await;
        assert_lives(&app, &first).await;

        let third = again(&app, &first).await;
        let others = app.post("/v1/auth/logout", &json!({"scope": "others"})).bearer(&second.access);
        assert_eq!(snapshot(&others.send().await), DONE);
        assert_ended(&app, &first).await;
        assert_ended(&app, &third).await;
        assert_lives(&app, &second).await;

        let first = again(&app, &first).await;
        let all = app.post("/v1/auth/logout", &json!({"scope": "global"})).bearer(&second.access);
        assert_eq!(snapshot(&all.send().await), DONE);
        assert_ended(&app, &first).await;
        assert_ended(&app, &second).await;
        assert_lives(&app, &bystander).await;
        app.finish().await;
    }

    async fn a12_a_log_out_of_an_unknown_scope_ends_nothing(store) {
        let app = TestApp::start(Options::on(store)).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        for body in [json!({"scope": "everything"}), json!({"scope": null}), json!({"which": "local"})] {
            let reply = app.post("/v1/auth/logout", &body).bearer(&ada.access).send().await;
            reply.expect_error(400, "invalid_request");
        }
        assert_lives(&app, &ada).await;
        app.finish().await;
    }
}
