//! Limits per caller, and the headers that tell about them.

mod outage;
mod skew;
mod turns;

use std::time::Duration;

use crate::harness::{Call, Options, Reply, Session, Store, TestApp};

/// One a second per user, three at once; an address has five times that.
fn limited() -> Options {
    Options::on(Store::Sqlite).set("RATE_LIMIT_REQUESTS_PER_MINUTE", 60).set("RATE_LIMIT_BURST", 3)
}

async fn me(app: &TestApp, session: &Session) -> Reply {
    app.get("/v1/auth/me").bearer(&session.access).send().await
}

fn number(reply: &Reply, name: &str) -> u64 {
    reply.header(name).unwrap_or_else(|| panic!("no {name}: {reply:?}")).parse().unwrap()
}

/// The `t` of `"user";r=0;t=1`.
fn field(reply: &Reply, name: &str) -> u64 {
    let text = reply.header("ratelimit").unwrap();
    let found = text.split(';').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[tokio::test]
async fn c08_a_caller_that_obeys_retry_after_is_served() {
    let app = TestApp::start(limited()).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    for left in (0..3).rev() {
        let reply = me(&app, &ada).await.expect_status(200);
        assert_eq!(reply.header("ratelimit-policy"), Some("\"user\";q=60;w=60"));
        assert_eq!(
            (number(&reply, "x-ratelimit-limit"), number(&reply, "x-ratelimit-remaining")),
            (60, left)
        );
        assert_eq!(field(&reply, "r"), left);
        assert!(reply.header("retry-after").is_none());
    }
    for _ in 0..3 {
        // Whoever waited a second longer than needed has two requests.
        let mut reply = me(&app, &ada).await;
        while reply.status == 200 {
            reply = me(&app, &ada).await;
        }
        let refused = reply.expect_error(429, "rate_limited");
        let wait = number(&refused, "retry-after");
        assert!((1..=2).contains(&wait), "{wait}");
        assert_eq!((number(&refused, "x-ratelimit-remaining"), field(&refused, "r")), (0, 0));
        assert!(wait >= field(&refused, "t") && wait >= number(&refused, "x-ratelimit-reset"));
        tokio::time::sleep(Duration::from_secs(wait)).await;
        me(&app, &ada).await.expect_status(200);
    }
    app.finish().await;
}

#[tokio::test]
async fn one_users_spending_is_not_anothers() {
    let app = TestApp::start(limited()).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let bob = app.sign_up_and_in("bob@example.org").await;
    for _ in 0..3 {
        me(&app, &ada).await.expect_status(200);
    }
    me(&app, &ada).await.expect_error(429, "rate_limited");
    me(&app, &bob).await.expect_status(200);
    app.finish().await;
}

#[tokio::test]
async fn c05_a_flood_without_an_account_never_reaches_the_store() {
    let app = TestApp::start(limited()).await;
    let flood = || app.get("/v1/auth/me").bearer("nonsense").from([192, 0, 2, 1]).send();
    for _ in 0..15 {
        let reply = flood().await.expect_error(401, "unauthenticated");
        assert_eq!(reply.header("ratelimit-policy"), Some("\"address\";q=300;w=60"));
    }
    for _ in 0..20 {
        let reply = flood().await;
        if reply.status != 401 {
            reply.expect_error(429, "rate_limited");
        }
    }
    let metrics = app.metrics().await;
    let refused = metrics.lines().find_map(|line| {
        line.strip_prefix("deepersensor_rate_limit_decisions_total{scope=\"address\",outcome=\"refused\"} ")
    });
    assert!(refused.unwrap().parse::<u64>().unwrap() > 10, "{metrics}");
    let mut look_ups =
        metrics.lines().filter(|line| line.starts_with("deepersensor_session_look_ups_total{"));
    assert!(look_ups.all(|line| line.ends_with(" 0")), "nonsense cost a query: {metrics}");
    app.finish().await;
}

#[tokio::test]
async fn d05_health_and_the_operators_listener_are_never_limited() {
    let app =
        TestApp::start(limited().set("RATE_LIMIT_REQUESTS_PER_MINUTE", 1).set("RATE_LIMIT_BURST", 1)).await;
    for _ in 0..30 {
        for path in ["/health", "/healthz", "/readyz"] {
            let reply = app.get(path).send().await;
            assert!(reply.status != 429 && reply.header("ratelimit").is_none(), "{reply:?}");
        }
        Call::new(app.ops_addr(), "GET", "/metrics").send().await.expect_status(200);
    }
    app.finish().await;
}

#[tokio::test]
async fn limits_can_be_turned_off() {
    let app = TestApp::start(limited().set("RATE_LIMIT_ENABLED", false)).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    for _ in 0..40 {
        let reply = me(&app, &ada).await.expect_status(200);
        assert!(reply.header("ratelimit").is_none() && reply.header("x-ratelimit-limit").is_none());
    }
    app.finish().await;
}
