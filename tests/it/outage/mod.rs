//! PostgreSQL stopped, frozen, out of reach and refusing to let the service in while fifty answers are streamed: what their
//! readers, and those who come meanwhile, notice (E4).
//!
//! Small in the suite, in a cluster of its own; `scripts/prove outage --count 60` has each outage last a minute, on the release
//! build.

#![expect(clippy::print_stdout, reason = "its figures are what a proof is run for")]

mod ground;

use std::time::Duration;

use serde_json::json;
use support::{fault_proxy::FaultProxy, postgres::Cluster, process::Scratch};
use tokio::time::{Instant, sleep};

use self::ground::{Ground, TOKENS_PER_S};
use crate::{
    harness::{Database, PATIENCE, Session, Store, asked, until},
    turn::Streamed,
};

/// Answers under way when the database goes.
const STREAMS: usize = 50;
/// How long an outage lasts in the suite, at least.
const SMALL: Duration = Duration::from_secs(3);
/// How long answers go on after it.
const AFTER: Duration = Duration::from_secs(3);
/// Between two rounds of requests while the database is away.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// Less than anybody waits for a connection: what is known to be away is not waited for.
const AT_ONCE: Duration = Duration::from_secs(1);
/// The deadline of every request that is no chat, with something for a busy machine.
const ANSWERED_WITHIN: Duration = Duration::from_secs(12);

/// Whoever comes while the database is away: refused with a time to come back, as somebody who is known.
async fn refused_meanwhile(ground: &Ground, ada: &Session, key: &str) -> usize {
    let begun = Instant::now();
    let calls = [
        ground.chat(&ada.access, "not now"),
        ground.chat(key, "not now"),
        ground.log_in(&ada.email),
        ground.call("GET", "/v1/conversations").bearer(&ada.access),
    ];
    let replies = futures_util::future::join_all(calls.map(|call| call.send())).await;
    for reply in &replies {
        let refused = reply.clone().expect_error(503, "overloaded");
        assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1, "{refused:?}");
    }
    ground.call("GET", "/healthz").send().await.expect_status(200);
    assert!(begun.elapsed() < ANSWERED_WITHIN, "{:?}", begun.elapsed());
    replies.len()
}

/// One outage: broken by `fail`, mended by `heal`, with fifty streams that end before, in and after it. Returns how long those
/// who came meanwhile waited at least.
async fn live_through(
    ground: &Ground,
    ada: &Session,
    key: &str,
    what: &str,
    fail: impl AsyncFnOnce(),
    heal: impl AsyncFnOnce(),
) -> Duration {
    let outage = asked("PROVE_COUNT").map_or(SMALL, Duration::from_secs);
    let longest = (outage + AFTER).as_secs_f64() * TOKENS_PER_S;
    let mut streams = Vec::new();
    for number in 1..=STREAMS {
        let tokens = (longest * number as f64 / STREAMS as f64).ceil() as u64;
        let mut stream = ground.stream(&ada.access, &format!("{what} {number}"), tokens).await;
        stream.until("start").await;
        streams.push((stream, tokens));
    }
    let reading = futures_util::future::join_all(streams.iter_mut().map(|(stream, _)| stream.last()));
    let breaking = async {
        fail().await;
        let broken = Instant::now();
        let (mut refused, mut shortest) = (0, ANSWERED_WITHIN);
        while broken.elapsed() < outage || ground.gauge("deepersensor_db_settlements_spilled").await == 0 {
            assert!(broken.elapsed() < outage + PATIENCE, "nothing goes to the disk");
            let asked = Instant::now();
            refused += refused_meanwhile(ground, ada, key).await;
            shortest = shortest.min(asked.elapsed());
            sleep(ASK_EVERY).await;
        }
        let spilled = ground.gauge("deepersensor_db_settlements_spilled").await;
        heal().await;
        let healed = Instant::now();
        until("the service to recover", async || ground.log_in(&ada.email).send().await.status == 200).await;
        println!(
            "{what} for {:?}: {refused} requests refused within {shortest:?}, {spilled} ends on the disk, logged in {:?} after it",
            healed - broken,
            healed.elapsed()
        );
        (broken, healed, shortest)
    };
    let (ends, (broken, healed, shortest)) = tokio::join!(reading, breaking);

    for end in &ends {
        assert_eq!(
            [&json!(end.event), &end.data["stored"]],
            [&json!("done"), &json!(true)],
            "{what}: {end:?}"
        );
    }
    let streamed_meanwhile = |stream: &Streamed| {
        stream.frames.iter().any(|frame| frame.event == "chunk" && broken < frame.at && frame.at < healed)
    };
    let went_on = streams.iter().filter(|(stream, _)| streamed_meanwhile(stream)).count();
    assert!(went_on >= STREAMS / 2, "{what}: only {went_on} streams went on");
    until("the disk to be empty", async || ground.gauge("deepersensor_db_settlements_spilled").await == 0)
        .await;
    for (stream, tokens) in &streams {
        ground.assert_stored(stream, *tokens).await;
    }
    let chat = ground.chat(&ada.access, "and again").send().await.expect_status(200);
    assert_eq!(chat.json()["done"], true);
    assert_eq!(ground.gauge("deepersensor_db_settlements_lost_total").await, 0, "{what}");
    assert_eq!(ground.turns("cancelled").await, 0, "{what}: who was refused has ended nothing");
    shortest
}

#[tokio::test(flavor = "multi_thread")]
async fn e04_a_database_that_is_stopped_frozen_cut_and_closed_under_fifty_streams_costs_none_of_them() {
    let cluster = Cluster::start().await.unwrap();
    cluster.create_database("outages").await.unwrap();
    let proxy = FaultProxy::start(cluster.addr()).await.unwrap();
    let scratch = Scratch::new("outage", None).unwrap();
    // A role of its own, so that the cluster can keep it out.
    cluster.run("CREATE ROLE served LOGIN SUPERUSER").await.unwrap();
    let url = cluster.url("outages").replace("postgres://postgres@", "postgres://served@");
    let database = Database::Postgres { name: "outages".into(), url };
    let ground = Ground::start(&scratch, &database, &proxy).await;
    let ada = ground.sign_up_and_in("ada@example.org").await;
    let key = ground.create_key(&ada).await;

    let (fail, heal) = (async || cluster.kill().unwrap(), async || cluster.restart().await.unwrap());
    assert!(live_through(&ground, &ada, &key, "stopped", fail, heal).await < AT_ONCE);
    let (fail, heal) = (async || cluster.freeze().unwrap(), async || cluster.unfreeze().unwrap());
    live_through(&ground, &ada, &key, "frozen", fail, heal).await;
    let (fail, heal) = (async || proxy.cut().await, async || proxy.heal().await.unwrap());
    assert!(live_through(&ground, &ada, &key, "cut", fail, heal).await < AT_ONCE);
    let fail = async || {
        cluster.run("ALTER ROLE served NOLOGIN").await.unwrap();
        let out = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'served'";
        cluster.run(out).await.unwrap();
    };
    let heal = async || cluster.run("ALTER ROLE served LOGIN").await.unwrap();
    assert!(live_through(&ground, &ada, &key, "closed", fail, heal).await < AT_ONCE);
    let cause = ground.told("(it does not let the role in");
    assert!((1..=8).contains(&cause), "{cause} lines, and not one for each room that has noticed");
    until("the end of each spell to be told", async || {
        let begun = ground.told("the database does not take ends of turns");
        begun >= 4 && begun == ground.told("no ends of turns are on the disk any more")
    })
    .await;
    ground.stop().await;
}

/// What was told to be stored is on the disk of a process that is gone, and the next one brings it back.
#[tokio::test(flavor = "multi_thread")]
async fn e04_a_service_killed_during_an_outage_has_lost_nothing_that_it_said_is_stored() {
    let cluster = Cluster::shared().await.unwrap();
    let scratch = Scratch::new("outage-kill", None).unwrap();
    let database = Database::make(Store::Postgres, &scratch.path().join("data")).await;
    let proxy = FaultProxy::start(cluster.addr()).await.unwrap();
    let ground = Ground::start(&scratch, &database, &proxy).await;
    let ada = ground.sign_up_and_in("ada@example.org").await;
    let mut streams = Vec::new();
    for number in 0..5 {
        let mut stream = ground.stream(&ada.access, &format!("kept {number}"), 20).await;
        stream.until("chunk").await;
        streams.push(stream);
    }
    proxy.cut().await;
    for stream in &mut streams {
        let end = stream.last().await;
        assert_eq!([&json!(end.event), &end.data["stored"]], [&json!("done"), &json!(true)], "{end:?}");
    }
    let Ground { gateway, .. } = ground;
    gateway.kill();
    proxy.heal().await.unwrap();

    let ground = Ground::start(&scratch, &database, &proxy).await;
    until("the disk to be empty", async || ground.gauge("deepersensor_db_spill_bytes").await == 0).await;
    for stream in &streams {
        ground.assert_stored(stream, 20).await;
    }
    ground.stop().await;
    database.remove().await;
}
