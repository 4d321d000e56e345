//! A3: what is stored of a password, and how many are hashed at once.

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{Options, PASSWORD, Reply, TestApp, both_stores, until};

/// More than have a place in the password room of one worker.
const AT_ONCE: usize = 90;

async fn log_in(app: &TestApp, email: &str, password: &str) -> Reply {
    app.post("/v1/auth/login", &json!({"email": email, "password": password})).send().await
}

/// The one account's hash.
async fn stored(app: &TestApp) -> String {
    app.database.texts("SELECT password_hash FROM users").await.remove(0)
}

both_stores! {
    async fn a03_a_hash_of_weaker_parameters_is_replaced_at_the_next_log_in(store) {
        let mut app = TestApp::start(Options::on(store).set("PASSWORD_HASH_MEMORY_KIB", 19_456)).await;
        app.sign_up_and_in("ada@example.org").await;
        let weak = stored(&app).await;
        assert!(weak.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{weak}");
        assert!(weak.split('$').nth(4).unwrap().len() >= 22, "a salt of 16 bytes at least: {weak}");

        app.restart(|config| config.system.password.cost.passes = 3).await;
        log_in(&app, "ada@example.org", "seven noisy herons").await.expect_status(401);
        assert_eq!(stored(&app).await, weak, "whoever does not know the password replaces nothing");
        log_in(&app, "ada@example.org", PASSWORD).await.expect_status(200);
        until("a stronger hash", async || stored(&app).await != weak).await;
        let strong = stored(&app).await;
        assert!(strong.starts_with("$argon2id$v=19$m=19456,t=3,p=1$"), "{strong}");
        log_in(&app, "ada@example.org", PASSWORD).await.expect_status(200);

        // One that is strong enough stays as it is, and parameters that were lowered weaken nothing.
        app.restart(|config| config.system.password.cost.passes = 2).await;
        log_in(&app, "ada@example.org", PASSWORD).await.expect_status(200);
        app.stop().await;
        assert_eq!(stored(&app).await, strong);
        app.finish().await;
    }

    async fn a03_log_ins_beyond_the_places_for_passwords_are_told_when_to_come_back(store) {
        // As slow as may be asked for: nobody can work them off within the longest wait.
        let options = Options::on(store).set("PASSWORD_HASH_MEMORY_KIB", 65_536).set("PASSWORD_HASH_PASSES", 3);
        let app = TestApp::start(options.tune(|config| config.system.password.workers = Some(1))).await;
        let session = app.sign_up_and_in("ada@example.org").await;
        // It costs one hash to find out that there is no such account.
        let strangers = (0..AT_ONCE).map(async |n| log_in(&app, &format!("user-{n}@example.org"), PASSWORD).await);
        let (looked_at, refused): (Vec<_>, Vec<_>) =
            join_all(strangers).await.into_iter().partition(|reply| reply.status == 401);
        assert!(!looked_at.is_empty() && !refused.is_empty(), "{} of {AT_ONCE} refused", refused.len());
        for reply in refused {
            let reply = reply.expect_error(503, "overloaded");
            assert!(reply.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
        }
        app.get("/v1/auth/me").bearer(&session.access).send().await.expect_status(200);
        log_in(&app, "ada@example.org", PASSWORD).await.expect_status(200);
        app.finish().await;
    }
}
