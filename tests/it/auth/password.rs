//! `POST /v1/auth/password`

use futures_util::future::{self, join_all};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::REFUSED;
use crate::harness::{Options, PASSWORD, PATIENCE, Session, TestApp, both_stores, snapshot};

/// Changes of a password, each raced by as many people who know the old one.
const ROUNDS: usize = 30;
const RACERS: usize = 2;

const NEW: &str = "eleven tame pelicans";

const WRONG: &str = r#"401
content-type: application/json
www-authenticate: Bearer
x-request-id: ‹uuid v7›
{
  "error": {
    "code": "unauthenticated",
    "message": "the current password is wrong",
    "type": "authentication_error",
    "param": "current_password",
    "request_id": "‹uuid v7›"
  }
}
"#;

async fn log_in(app: &TestApp, password: &str) -> (u16, Value) {
    let credentials = json!({"email": "ada@example.org", "password": password});
    let reply = app.post("/v1/auth/login", &credentials).send().await;
    (reply.status, reply.json())
}

async fn me(app: &TestApp, access: &Value) -> u16 {
    app.get("/v1/auth/me").bearer(access.as_str().unwrap()).send().await.status
}

both_stores! {
    async fn a04_a_change_ends_every_other_session_and_every_token_from_before(store) {
        let app = TestApp::on(store).await;
        let Session { access, refresh, .. } = app.sign_up_and_in("ada@example.org").await;
        let (_, other) = log_in(&app, PASSWORD).await;
        let change = json!({"current_password": PASSWORD, "new_password": NEW});
        let changed = app.post("/v1/auth/password", &change).bearer(&access).send().await.expect_status(200);

        let tokens = changed.json();
        assert_eq!((me(&app, &json!(access)).await, me(&app, &tokens["access_token"]).await), (401, 200));
        assert_eq!(me(&app, &other["access_token"]).await, 401);
        for spent in [&json!(refresh), &other["refresh_token"]] {
            let refreshed = app.post("/v1/auth/refresh", &json!({"refresh_token": spent})).send().await;
            assert_eq!(snapshot(&refreshed), REFUSED);
        }
        assert_eq!(me(&app, &tokens["access_token"]).await, 200, "shut out by a token that was void");
        assert_eq!((log_in(&app, PASSWORD).await.0, log_in(&app, NEW).await.0), (401, 200));
        app.finish().await;
    }

    async fn a04_other_sessions_go_on_when_asked_to(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let (_, other) = log_in(&app, PASSWORD).await;
        let change =
            json!({"current_password": PASSWORD, "new_password": NEW, "keep_other_sessions": true});
        let changed = app.post("/v1/auth/password", &change).bearer(&ada.access).send().await;
        let tokens = changed.expect_status(200).json();
        assert_eq!(me(&app, &other["access_token"]).await, 200);
        let next = json!({"refresh_token": tokens["refresh_token"]});
        app.post("/v1/auth/refresh", &next).send().await.expect_status(200);
        app.finish().await;
    }

    async fn a04_a_change_needs_the_current_password_and_a_new_one_that_will_do(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let change = |current: &str, new: &str| {
            let body = json!({"current_password": current, "new_password": new});
            app.post("/v1/auth/password", &body).bearer(&ada.access).send()
        };
        assert_eq!(snapshot(&change("not my password", NEW).await), WRONG);
        for weak in ["short", "password1", "deepersensor1"] {
            let refused = change(PASSWORD, weak).await.expect_error(422, "invalid_request");
            assert_eq!(refused.json()["error"]["param"], "new_password", "{weak}");
        }
        assert_eq!(log_in(&app, PASSWORD).await.0, 200);
        app.finish().await;
    }

    async fn a04_a_log_in_that_races_a_change_leaves_no_session_of_the_old_password(store) {
        // Many wrong passwords are meant to be looked at, and soon.
        let options = Options::on(store).set("RATE_LIMIT_ENABLED", false).tune(|config| {
            config.system.password.workers = Some(RACERS + 1);
        });
        let app = TestApp::start(options).await;
        let mut owner = json!(app.sign_up_and_in("ada@example.org").await.access);
        let mut raced = 0;
        for round in 0..ROUNDS {
            let password = |round| if round == 0 { PASSWORD.to_owned() } else { format!("{NEW} {round}") };
            let (old, new) = (password(round), password(round + 1));
            // Each logs in again and again until it is told that it cannot, or not in the midst of a change.
            let race = async || {
                let mut let_in = Vec::new();
                loop {
                    let (status, tokens) = log_in(&app, &old).await;
                    match status {
                        200 => let_in.push(tokens),
                        401 | 503 => break let_in,
                        status => panic!("{status}: {tokens}"),
                    }
                }
            };
            let change = json!({"current_password": old, "new_password": new});
            let change = app.post("/v1/auth/password", &change).bearer(owner.as_str().unwrap()).send();
            let racers = join_all((0..RACERS).map(|_| race()));
            let all = timeout(PATIENCE, future::join(change, racers)).await;
            let (changed, racers) = all.expect("the change ends the race");
            owner = changed.expect_status(200).json()["access_token"].clone();
            assert_eq!(me(&app, &owner).await, 200);
            for let_in in racers {
                for tokens in let_in {
                    raced += 1;
                    assert_eq!(me(&app, &tokens["access_token"]).await, 401, "round {round}");
                    let refresh = json!({"refresh_token": tokens["refresh_token"]});
                    let refreshed = app.post("/v1/auth/refresh", &refresh).send().await;
                    assert_eq!(snapshot(&refreshed), REFUSED, "round {round}");
                }
            }
        }
        assert!(raced > 0, "nobody raced");
        let alive = "SELECT count(*) FROM sessions WHERE revoked_at IS NULL";
        assert_eq!(app.database.number(alive).await, 1, "the owner's");
        app.finish().await;
    }
}
