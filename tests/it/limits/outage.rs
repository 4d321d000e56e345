//! Redis killed, frozen and out of reach while requests keep coming: what their callers notice (C3).
//!
//! Small in the suite; `scripts/prove limits` runs the same at full size on the release build, where times are strict.

#![expect(clippy::print_stdout, reason = "its figures are what a proof is run for")]

use std::{env, time::Duration};

use domain::quota::Quota;
use futures_util::{StreamExt as _, stream};
use serde_json::json;
use support::{fault_proxy::FaultProxy, redis::Redis};
use tokio::time::{Instant, sleep};

use crate::{
    harness::{Options, Reply, Session, Store, TestApp},
    logs::Logs,
};

/// Requests under way at once.
const AT_ONCE: usize = 8;
/// A user's requests, none of which flows back while a test runs, and the share of one of four instances.
const BURST: u32 = 40;
const SHARE: usize = 10;
/// What an outage may add to the slowest but one in a hundred.
const ADDED: Duration = Duration::from_millis(60);
/// Until all instances count together again.
const BACK: Duration = Duration::from_secs(5);

/// The size that `PROVE_COUNT` asks for, if this is a proof.
#[expect(clippy::disallowed_methods, reason = "scripts/prove has no other way to tell a test its size")]
fn proof() -> Option<usize> {
    env::var("PROVE_COUNT").ok().map(|count| count.parse().expect("PROVE_COUNT is a number"))
}

struct Ground {
    app: TestApp,
    redis: Redis,
    network: FaultProxy,
    logs: Logs,
    /// Whose requests are the load.
    busy: Session,
}

impl Ground {
    async fn start() -> Self {
        let logs = Logs::listen();
        let redis = Redis::start().await.unwrap();
        let network = FaultProxy::start(redis.addr()).await.unwrap();
        let options = Options::on(Store::Sqlite).set("REDIS_URL", format!("redis://{}", network.addr()));
        let app = TestApp::start(options.tune(|config| {
            let limits = &mut config.system.rate_limit;
            limits.user = Quota { permits: 1, period: Duration::from_secs(3_600), burst: BURST };
            limits.instance_count = 4;
        }))
        .await;
        let busy = app.sign_up_and_in("busy@example.org").await;
        Self { app, redis, network, logs, busy }
    }

    async fn me(&self, session: &Session) -> Reply {
        self.app.get("/v1/auth/me").bearer(&session.access).send().await
    }

    /// Requests of strangers and of one user, in turn; whoever is refused cost two decisions as well. Returns the time that
    /// 99 in 100 took at most.
    async fn load(&self, what: &str, requests: usize) -> Duration {
        let asked = (0..requests).map(|number| async move {
            let begun = Instant::now();
            let reply = if number % 2 == 0 {
                self.app.get("/.well-known/jwks.json").send().await
            } else {
                self.me(&self.busy).await
            };
            assert!(matches!(reply.status, 200 | 429), "{reply:?}");
            begun.elapsed()
        });
        let mut took: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
        took.sort_unstable();
        let p99 = took[requests - 1 - requests / 100];
        println!(
            "{requests} requests, {what}: p50 {:?}, p99 {p99:?}, slowest {:?}",
            took[requests / 2],
            took[requests - 1]
        );
        p99
    }

    /// How many of these the limiter let through.
    async fn admitted(&self, requests: usize, ask: impl AsyncFn() -> Reply) -> usize {
        let mut admitted = 0;
        for _ in 0..requests {
            let reply = ask().await;
            assert!(reply.status < 500, "{reply:?}");
            admitted += usize::from(reply.status != 429);
        }
        admitted
    }

    /// How often the log says that Redis was found, and that it was lost: one line for each change of state.
    fn told(&self) -> (usize, usize) {
        let lines = self.logs.lines();
        let changes: Vec<_> = lines
            .iter()
            .filter(|line| line.field("event") == "redis")
            .map(|line| line.field("outcome"))
            .collect();
        let times = |outcome| changes.iter().filter(|change| **change == outcome).count();
        assert!(
            changes.iter().zip(["up", "down"].iter().cycle()).all(|(told, due)| told == due),
            "{changes:?}"
        );
        (times("up"), times("down"))
    }

    /// Waits until requests are counted on the server, which has all of a user's burst.
    async fn until_shared(&self, when: &str) {
        let begun = Instant::now();
        for stranger in 0.. {
            let session = self.app.sign_up_and_in(&format!("{when}-{stranger}@example.org")).await;
            let reply = self.me(&session).await.expect_status(200);
            if reply.header("x-ratelimit-remaining") == Some(&*(BURST - 1).to_string()) {
                break;
            }
            assert!(begun.elapsed() < BACK, "still alone after {BACK:?}");
            sleep(Duration::from_millis(100)).await;
        }
        println!("counted on the server {when}: after {:?}", begun.elapsed());
    }
}

/// Breaks Redis one way, looks what becomes of the limits, and heals it.
async fn outage(what: &str, fail: impl AsyncFnOnce(&Ground), heal: impl AsyncFnOnce(&Ground)) {
    let requests = proof().unwrap_or(200);
    let ground = Ground::start().await;
    let ada = ground.app.sign_up_and_in("ada@example.org").await;
    ground.until_shared("before").await;
    let before = ground.load("Redis is there", requests).await;

    fail(&ground).await;
    let during = ground.load(what, requests).await;
    if proof().is_some() {
        assert!(during <= before + ADDED, "{during:?} instead of {before:?}");
    }
    let (up, down) = ground.told();
    assert_eq!(up, down, "it is lost");
    let spent = ground.admitted(2 * SHARE, async || ground.me(&ada).await);
    assert_eq!(spent.await, SHARE, "this instance's share of what a user has");
    let guess = json!({"email": "ada@example.org", "password": "seven noisy herons"});
    let here = [192, 0, 2, 7];
    let log_ins =
        ground.admitted(20, async || ground.app.post("/v1/auth/login", &guess).from(here).send().await);
    assert_eq!(log_ins.await, 5, "the whole limit of log-ins, not a share of it, and not open");

    heal(&ground).await;
    ground.until_shared("after").await;
    ground.load("Redis is back", requests).await;
    // A neighbour on the same cores may hold Redis up as well, as often as it likes.
    let (up, down) = ground.told();
    println!("the log says {up} times that it was found and {down} times that it was lost");
    assert!(up >= 2, "it was found at the start and once more");
    ground.app.finish().await;
}

#[tokio::test]
async fn c03_a_killed_redis_costs_no_error_and_no_limit() {
    let fail = async |ground: &Ground| ground.redis.kill().unwrap();
    let heal = async |ground: &Ground| ground.redis.restart().await.unwrap();
    outage("Redis was killed", fail, heal).await;
}

#[tokio::test]
async fn c03_a_frozen_redis_costs_no_error_and_no_limit() {
    let fail = async |ground: &Ground| ground.redis.freeze().unwrap();
    let heal = async |ground: &Ground| ground.redis.unfreeze().unwrap();
    outage("Redis is frozen", fail, heal).await;
}

#[tokio::test]
async fn c03_a_redis_out_of_reach_costs_no_error_and_no_limit() {
    let fail = async |ground: &Ground| ground.network.freeze();
    let heal = async |ground: &Ground| ground.network.heal().await.unwrap();
    outage("every packet to Redis is lost", fail, heal).await;
}
