//! A13: who loses a right loses it at once here, and soon everywhere.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Call, Options, PASSWORD, Reply, Session, Store, TestApp, both_stores, until};

/// How long another service may go on letting in who is out.
const EVERYWHERE_WITHIN: Duration = Duration::from_secs(5);

/// Somebody who is let in until something ends it.
struct Case {
    how: &'static str,
    path: &'static str,
    credential: String,
    /// The refusal afterwards.
    refused: u16,
    end: Call,
}

impl Case {
    async fn ask(&self, service: SocketAddr) -> Reply {
        Call::new(service, "GET", self.path).bearer(&self.credential).send().await
    }

    /// Asks until it is refused. However slowly that is done, nothing that was sent too late may be let in.
    async fn is_refused_soon(&self, service: SocketAddr, ended: Instant) {
        loop {
            let sent = Instant::now();
            let reply = self.ask(service).await;
            if reply.status == self.refused {
                return;
            }
            assert_eq!(reply.status, 200, "{}: {reply:?}", self.how);
            let after = sent.duration_since(ended);
            assert!(after < EVERYWHERE_WITHIN, "{}: let in {after:?} after it", self.how);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn cases(app: &TestApp) -> Vec<Case> {
    let root = app.administrator("root@example.org").await;
    let former = app.administrator("former@example.org").await;
    let of = async |name: &str| app.sign_up_and_in(&format!("{name}@example.org")).await;
    let (out, all_out, changed) = (of("out").await, of("all-out").await, of("changed").await);
    let (disabled, holder) = (of("disabled").await, of("holder").await);
    let (deleted, keeper) = (of("deleted").await, of("keeper").await);
    let (key, of_key) = app.create_key(&keeper, "models").await;
    let (_, of_holder) = app.create_key(&holder, "models").await;

    let me = |how, who: &Session, end: Call| Case {
        how,
        path: "/v1/auth/me",
        credential: who.access.clone(),
        refused: 401,
        end,
    };
    let user = |method, who: &Session| {
        app.call(method, &format!("/v1/admin/users/{}", who.user)).bearer(&root.access)
    };
    let patch = |who: &Session, change: Value| user("PATCH", who).json(&change);
    let log_out = |who: &Session, body| app.post("/v1/auth/logout", &body).bearer(&who.access);
    let change = json!({"current_password": PASSWORD, "new_password": "eleven tame pelicans"});
    vec![
        me("logged out", &out, log_out(&out, json!({}))),
        me("logged out everywhere", &all_out, log_out(&all_out, json!({"scope": "global"}))),
        me("password changed", &changed, app.post("/v1/auth/password", &change).bearer(&changed.access)),
        me("disabled", &disabled, patch(&disabled, json!({"disabled": true}))),
        Case {
            how: "key of somebody disabled",
            path: "/v1/models",
            credential: of_holder,
            refused: 401,
            end: patch(&holder, json!({"disabled": true})),
        },
        me("deleted", &deleted, user("DELETE", &deleted)),
        Case {
            how: "key revoked",
            path: "/v1/models",
            credential: of_key,
            refused: 401,
            end: app.call("DELETE", &format!("/v1/api-keys/{key}")).bearer(&keeper.access),
        },
        Case {
            how: "role taken away",
            path: "/v1/admin/users",
            credential: former.access.clone(),
            refused: 403,
            end: patch(&former, json!({"role": "user"})),
        },
    ]
}

both_stores! {
    async fn a13_who_is_out_is_out_at_once_here_and_within_five_seconds_at_every_other_service(store) {
        let app = TestApp::on(store).await;
        // SQLite serves one service only.
        let twin = match store {
            Store::Sqlite => None,
            Store::Postgres => Some(app.start_twin(|_| ()).await),
        };
        let mut cases = cases(&app).await;
        for case in &cases {
            for service in [Some(app.addr()), twin.as_ref().map(|twin| twin.addr())].into_iter().flatten() {
                assert_eq!(case.ask(service).await.status, 200, "{}", case.how);
            }
        }
        let mut ended = Vec::new();
        for case in &mut cases {
            let end = std::mem::replace(&mut case.end, app.get("/healthz"));
            let reply = end.send().await;
            assert!((200..300).contains(&reply.status), "{}: {reply:?}", case.how);
            ended.push(Instant::now());
            assert_eq!(case.ask(app.addr()).await.status, case.refused, "{} is let in here", case.how);
        }
        if let Some(twin) = twin {
            let refused = cases.iter().zip(ended).map(|(case, ended)| case.is_refused_soon(twin.addr(), ended));
            join_all(refused).await;
            twin.stop().await;
        }
        app.finish().await;
    }
}

/// SQLite is never away.
#[tokio::test]
async fn a13_while_the_store_is_away_administration_is_closed_and_whoever_was_let_in_goes_on() {
    let options = Options::on(Store::Postgres).postgres_through_a_proxy().tune(|config| {
        // Nothing is believed without asking, so every call finds out that there is nobody to ask.
        config.system.auth.session_cache = Duration::ZERO;
        let wait = Duration::from_secs(1);
        (config.system.db.call_timeout, config.system.db.acquire_timeout) = (wait, wait / 2);
    });
    let app = TestApp::start(options).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let root = app.administrator("root@example.org").await;
    let user = || app.get("/v1/models").bearer(&ada.access).send();
    let administrator = || app.get("/v1/admin/actors").bearer(&root.access).send();
    user().await.expect_status(200);
    administrator().await.expect_status(200);

    app.postgres_proxy().cut().await;
    user().await.expect_status(200);
    let refused = administrator().await.expect_error(503, "overloaded");
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);

    app.postgres_proxy().heal().await.unwrap();
    until("administration to open again", async || administrator().await.status == 200).await;
    app.finish().await;
}
