//! Two instances whose clocks differ by a minute and who count together: the server's clock is the only one (C2).

use std::{process::Command, time::Duration};

use serde_json::json;
use support::{gateway::Gateway, process::Scratch, redis::Redis};
use tokio::time::Instant;

use crate::harness::{Call, Database, PASSWORD, Reply, SECRET, Store, clock_ahead};

/// One of two instances on one database and one Redis, with its clock `ahead` of the machine's.
async fn instance(database: &Database, redis: &Redis, ahead: &str, scratch: &Scratch) -> Gateway {
    let Database::Postgres { url, .. } = database else { panic!("several instances need Postgres") };
    let mut command = Command::new(env!("CARGO_BIN_EXE_deepersensor"));
    command.env_clear().env("JWT_SECRET", SECRET).env("TRUSTED_PROXY_IPS", "127.0.0.1/32");
    // Nobody listens there: the discard port is privileged and unused.
    command
        .env("OLLAMA_BASE_URL", "http://127.0.0.1:9")
        .env("DATABASE_URL", url)
        .env("REDIS_URL", redis.url());
    // One a minute flows back: an instance that went by its own clock would give one more, at once.
    command
        .env("RATE_LIMIT_REQUESTS_PER_MINUTE", "1")
        .env("RATE_LIMIT_BURST", "20")
        .env("INSTANCE_COUNT", "2");
    if !ahead.is_empty() {
        command.envs(clock_ahead(ahead));
    }
    Gateway::start(command, scratch).await.unwrap()
}

async fn me(gateway: &Gateway, token: &str) -> Reply {
    Call::new(gateway.addr, "GET", "/v1/auth/me").bearer(token).send().await
}

#[tokio::test]
async fn c02_an_instance_whose_clock_is_a_minute_ahead_changes_nothing() {
    let scratch = [Scratch::new("skew", None).unwrap(), Scratch::new("skew", None).unwrap()];
    let database = Database::make(Store::Postgres, scratch[0].path()).await;
    let redis = Redis::start().await.unwrap();
    let punctual = instance(&database, &redis, "", &scratch[0]).await;
    let hasty = instance(&database, &redis, "+60s", &scratch[1]).await;

    let body = json!({"email": "ada@example.org", "password": PASSWORD});
    Call::new(hasty.addr, "POST", "/v1/auth/signup").json(&body).send().await.expect_status(201);
    let signed_in = |gateway: &Gateway| Call::new(gateway.addr, "POST", "/v1/auth/login").json(&body).send();
    let tokens = signed_in(&punctual).await.expect_status(200).json();
    let token = tokens["access_token"].as_str().unwrap();

    let begun = Instant::now();
    let mut admitted = 0;
    for round in 0..25 {
        for gateway in if round % 2 == 0 { [&punctual, &hasty] } else { [&hasty, &punctual] } {
            let reply = me(gateway, token).await;
            admitted += u32::from(reply.status == 200);
            assert!(matches!(reply.status, 200 | 429), "{reply:?}");
        }
    }
    let wait = async |gateway| {
        let refused = me(gateway, token).await.expect_error(429, "rate_limited");
        refused.header("x-ratelimit-reset").unwrap().parse::<u64>().unwrap()
    };
    let (one, other) = (wait(&punctual).await, wait(&hasty).await);
    assert!(begun.elapsed() < Duration::from_secs(55), "so slow that one flowed back");
    assert_eq!(admitted, 20);
    assert!(one.abs_diff(other) <= 2 && (1..=60).contains(&one), "{one} and {other} seconds");

    // That its clock really was ahead, it says itself.
    let log = hasty.said().unwrap();
    let stamp = |log: &str| {
        let line: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        chrono::DateTime::parse_from_rfc3339(line["timestamp"].as_str().unwrap()).unwrap()
    };
    let ahead = stamp(&log) - stamp(&punctual.said().unwrap());
    assert!(ahead.num_seconds() >= 50, "{ahead}");
    for gateway in [&punctual, &hasty] {
        let metrics = Call::new(gateway.ops, "GET", "/metrics").send().await.expect_status(200).text();
        assert!(metrics.contains("deepersensor_rate_limit_fallbacks_total 0"), "{metrics}");
    }
    drop((punctual, hasty));
    database.remove().await;
}
