//! `POST /v1/auth/refresh`

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::REFUSED;
use crate::harness::{Options, Reply, TestApp, both_stores, snapshot};

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

async fn refresh(app: &TestApp, token: &str) -> Reply {
    app.post("/v1/auth/refresh", &json!({"refresh_token": token})).send().await
}

fn text<'v>(tokens: &'v Value, name: &str) -> &'v str {
    tokens[name].as_str().unwrap()
}

/// How many times the store was told that a spent token came back.
async fn reuses(app: &TestApp) -> i64 {
    app.database.number("SELECT count(*) FROM audit_log WHERE event = 'authn_token_reuse'").await
}

both_stores! {
    async fn a10_every_refresh_gives_a_new_pair_that_works(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let mut token = ada.refresh;
        for _ in 0..3 {
            let reply = refresh(&app, &token).await;
            assert_eq!(snapshot(&reply), TOKENS);
            let tokens = reply.json();
            assert_ne!(text(&tokens, "refresh_token"), token);
            app.get("/v1/auth/me").bearer(text(&tokens, "access_token")).send().await.expect_status(200);
            token = text(&tokens, "refresh_token").to_owned();
        }
        assert_eq!(reuses(&app).await, 0);
        app.finish().await;
    }

    async fn a11_fifty_parallel_refreshes_with_one_token_get_one_successor(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let replies = join_all((0..50).map(|_| refresh(&app, &ada.refresh))).await;
        let mut successors: Vec<_> = replies
            .into_iter()
            .map(|reply| text(&reply.expect_status(200).json(), "refresh_token").to_owned())
            .collect();
        successors.sort_unstable();
        successors.dedup();
        assert_eq!(successors.len(), 1);
        refresh(&app, &successors[0]).await.expect_status(200);
        assert_eq!(reuses(&app).await, 0);
        app.finish().await;
    }

    async fn a10_a_replay_after_the_grace_ends_the_whole_session_and_is_audited_once(store) {
        // Without grace every replay is a late one.
        let options = Options::on(store).tune(|config| config.system.auth.refresh_grace = Duration::ZERO);
        let app = TestApp::start(options).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let bystander = app.sign_up_and_in("bob@example.org").await;
        let tokens = refresh(&app, &ada.refresh).await.expect_status(200).json();

        assert_eq!(snapshot(&refresh(&app, &ada.refresh).await), REFUSED);

        assert_eq!(snapshot(&refresh(&app, text(&tokens, "refresh_token")).await), REFUSED);
        for access in [ada.access.as_str(), text(&tokens, "access_token")] {
            app.get("/v1/auth/me").bearer(access).send().await.expect_error(401, "unauthenticated");
        }
        assert_eq!(snapshot(&refresh(&app, &ada.refresh).await), REFUSED);
        assert_eq!(reuses(&app).await, 1, "a dead session is not reported again");
        refresh(&app, &bystander.refresh).await.expect_status(200);
        app.finish().await;
    }

    async fn a10_the_grandparent_of_a_token_is_a_replay_even_within_the_grace(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let child = refresh(&app, &ada.refresh).await.expect_status(200).json();
        let grandchild = refresh(&app, text(&child, "refresh_token")).await.expect_status(200).json();
        assert_eq!(snapshot(&refresh(&app, &ada.refresh).await), REFUSED);
        assert_eq!(snapshot(&refresh(&app, text(&grandchild, "refresh_token")).await), REFUSED);
        assert_eq!(reuses(&app).await, 1);
        app.finish().await;
    }

    async fn a10_what_is_no_refresh_token_of_ours_gets_one_answer(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let changed = |at: usize| {
            let mut token = ada.refresh.clone();
            let other = if &token[at..=at] == "A" { "B" } else { "A" };
            token.replace_range(at..=at, other);
            token
        };
        let cut = &ada.refresh[..ada.refresh.len() - 1];
        let forged =
            [changed(5), changed(30), changed(60), cut.to_owned(), ada.access, String::new(), "dsr_".into()];
        for token in forged {
            assert_eq!(snapshot(&refresh(&app, &token).await), REFUSED, "{token}");
        }
        refresh(&app, &ada.refresh).await.expect_status(200);
        app.finish().await;
    }
}
