//! Postgres behind a network that fails.

use std::time::Duration;

use domain::secret::Secret;
use futures_util::future::join_all;
use support::{fault_proxy::FaultProxy, postgres::Cluster};
use tokio::time::{Instant, timeout};

use super::{ground::Ground, samples::*};
use crate::db::{DbError, message::Write, store};

const PATIENCE: Duration = Duration::from_millis(400);

/// A ground of which rooms see only what the proxy lets through.
async fn behind_a_proxy() -> (Ground, Ground, FaultProxy) {
    let direct = Ground::postgres().await;
    let proxy = FaultProxy::start(Cluster::shared().await.unwrap().addr()).await.unwrap();
    let mut config = direct.config.clone();
    let url = config.database_url.unwrap().into_inner();
    let (server, database) = url.rsplit_once('/').unwrap();
    let (user, _) = server.rsplit_once('@').unwrap();
    config.database_url = Some(Secret::new(format!("{user}@{}/{database}", proxy.addr())));
    config.acquire_timeout = PATIENCE;
    config.call_timeout = PATIENCE * 2;
    (direct, Ground { config }, proxy)
}

#[tokio::test]
async fn e4_a_refusing_database_costs_the_acquire_timeout_and_heals_by_itself() {
    let (direct, ground, proxy) = behind_a_proxy().await;
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let begun = begin(user.id);
    room.db.begin_turn(begun.clone()).await.unwrap();

    proxy.cut().await;
    let started = Instant::now();
    let told = settling(&room.db, settlement(&begun, "kept"));
    let (begin_again, read, told) =
        tokio::join!(room.db.begin_turn(begin(user.id)), room.db.user(user.id), told);
    assert!(matches!(begin_again, Err(DbError::Unavailable(_))), "{begin_again:?}");
    assert!(matches!(read, Err(DbError::Unavailable(_))), "{read:?}");
    assert!(matches!(told, Ok(Err(DbError::Unavailable(_)))), "{told:?}");
    assert!(started.elapsed() < PATIENCE * 2, "{:?}", started.elapsed());

    proxy.heal().await.unwrap();
    assert_eq!(room.db.user(user.id).await, Ok(Some(user.clone())));
    // A success in its lane makes the kept settlement due; the next answer there comes after it.
    let same_lane = || domain::turn::BeginTurn { turn: begun.turn, ..begin(user.id) };
    for _ in 0..2 {
        assert_eq!(room.db.begin_turn(same_lane()).await, Err(DbError::Conflict("row")));
    }
    assert_eq!(direct.count("SELECT count(*) FROM turns WHERE status = 'complete'").await, 1);
}

#[tokio::test]
async fn e4_a_link_that_answers_nothing_is_thrown_away() {
    let (_direct, ground, proxy) = behind_a_proxy().await;
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    // Connections that are trusted because they were used just now.
    join_all((0..8).map(|_| room.db.user(user.id))).await;

    proxy.freeze();
    for _ in 0..2 {
        let started = Instant::now();
        let reads = join_all((0..ground.config.readers).map(|_| room.db.user(user.id)));
        let (reads, write) = tokio::join!(reads, room.db.begin_turn(begin(user.id)));
        assert!(reads.iter().all(|read| read.as_ref().is_err_and(DbError::is_away)), "{reads:?}");
        assert!(write.as_ref().is_err_and(DbError::is_away), "{write:?}");
        assert!(started.elapsed() < PATIENCE * 3, "{:?}", started.elapsed());
    }
    // Connections made while frozen come to life too; new ones are made where the old were thrown away.
    proxy.heal().await.unwrap();
    let reads = join_all((0..20).map(|_| room.db.user(user.id))).await;
    assert!(reads.into_iter().all(|read| read == Ok(Some(user.clone()))));
    assert_eq!(room.db.begin_turn(begin(user.id)).await, Ok(domain::turn::Begun::New));
}

#[tokio::test]
async fn e1_acknowledged_turns_survive_transactions_cut_on_a_slow_link() {
    let (direct, ground, proxy) = behind_a_proxy().await;
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let store = store::open(&ground.config).await.unwrap();
    proxy.latency(Duration::from_millis(1));
    let (mut acknowledged, mut took) = (0, Duration::from_millis(50));
    for round in 0..60 {
        let write = Write::BeginTurn(Box::new(begin(user.id)));
        // Dropped, as by the kill of a writer, anywhere between connect, BEGIN, the statements and COMMIT; a new
        // connection makes it take twice as long, so three times as long is not cut.
        let cut = timeout(took * (round % 20) / 6, store.apply(&[&write])).await;
        acknowledged += i64::from(cut.is_ok_and(|applied| applied.is_ok()));
        // The next transaction meets whatever that one left behind.
        let write = Write::BeginTurn(Box::new(begin(user.id)));
        let started = Instant::now();
        store.apply(&[&write]).await.unwrap();
        took = started.elapsed();
        acknowledged += 1;
    }
    let turns = direct.count("SELECT count(*) FROM turns").await;
    assert!((acknowledged..=120).contains(&turns), "{acknowledged} acknowledged, {turns} stored");
    assert!((61..120).contains(&acknowledged), "some were cut and some were not: {acknowledged}");
    // Now only while BEGIN waits for its reply, which is where sqlx forgets the transaction (sqlx 4393).
    proxy.latency(Duration::from_millis(10));
    for _ in 0..40 {
        let write = Write::BeginTurn(Box::new(begin(user.id)));
        let _ = timeout(Duration::from_millis(15), store.apply(&[&write])).await;
    }
    // The pool still holds its connections: none of them may have a transaction open. The server needs a moment to see
    // that a connection was dropped, but less than the ten seconds after which it would end such a transaction itself.
    let idle = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    let none = async { while direct.count(idle).await != 0 {} };
    timeout(Duration::from_secs(3), none).await.unwrap();
}
