//! Postgres behind a network that fails.

use std::{collections::HashSet, sync::Arc, time::Duration};

use domain::{
    account::User,
    id::{TurnId, UserId},
    secret::Secret,
    turn::TurnStatus,
};
use futures_util::future::join_all;
use support::{
    fault_proxy::FaultProxy,
    postgres::{Cluster, Options},
};
use tokio::time::{Instant, timeout};

use super::{
    ground::{Ground, Running},
    samples::*,
};
use crate::{
    clock::fresh_id,
    db::{
        DbConfig, DbError,
        message::Write,
        store::{self, Store},
    },
};

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

/// Waits until the room has found out that the database is back.
async fn let_in(room: &Running, user: &User) {
    let back = async {
        while room.db.user(user.id).await != Ok(Some(user.clone())) {
            tokio::time::sleep(PATIENCE / 40).await;
        }
    };
    timeout(PATIENCE * 40, back).await.unwrap();
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
    assert!(begin_again.as_ref().is_err_and(DbError::is_away), "{begin_again:?}");
    assert!(read.as_ref().is_err_and(DbError::is_away), "{read:?}");
    assert_eq!(told, Ok(Ok(())), "it is on the disk");
    assert!(started.elapsed() < PATIENCE * 2, "{:?}", started.elapsed());
    let is_named =
        |said: &Result<_, DbError>| matches!(said, Err(DbError::Away(cause)) if cause.contains("refused"));
    let named = async { while !is_named(&room.db.user(user.id).await) {} };
    timeout(PATIENCE * 40, named).await.unwrap();

    proxy.heal().await.unwrap();
    let_in(&room, &user).await;
    let replayed = async {
        while room.db.spilled() > 0 {
            tokio::time::sleep(PATIENCE / 40).await
        }
    };
    timeout(PATIENCE * 40, replayed).await.unwrap();
    assert_eq!(direct.count("SELECT count(*) FROM turns WHERE status = 'complete'").await, 1);
}

/// What an operator or a mistake keeps the service out with: the code, how, and how it is mended.
const REFUSALS: [(&str, &str, &str); 6] = [
    ("28000", "ALTER ROLE app NOLOGIN", "ALTER ROLE app LOGIN"),
    ("28P01", "ALTER ROLE app PASSWORD 'another'", "ALTER ROLE app PASSWORD 'first'"),
    ("3D000", "ALTER DATABASE refusing RENAME TO elsewhere", "ALTER DATABASE elsewhere RENAME TO refusing"),
    ("42501", "REVOKE CONNECT ON DATABASE refusing FROM app", "GRANT CONNECT ON DATABASE refusing TO app"),
    ("53300", "ALTER ROLE app CONNECTION LIMIT 0", "ALTER ROLE app CONNECTION LIMIT -1"),
    (
        "55000",
        "ALTER DATABASE refusing ALLOW_CONNECTIONS false",
        "ALTER DATABASE refusing ALLOW_CONNECTIONS true",
    ),
];

/// A cluster that asks its one role without power for a password, and a database of that role's.
async fn guarded() -> Cluster {
    let cluster = Cluster::start_with(Options { fsync: false, ..Options::default() }).await.unwrap();
    let statements = [
        "CREATE ROLE app LOGIN PASSWORD 'first'",
        "CREATE DATABASE refusing OWNER app",
        "REVOKE CONNECT ON DATABASE refusing FROM PUBLIC",
        "GRANT CONNECT ON DATABASE refusing TO app",
        "DO $$ BEGIN EXECUTE format('COPY (VALUES (''host all app all scram-sha-256''), (''host all all all trust'')) TO %L',
                                    current_setting('hba_file')); END $$",
        "SELECT pg_reload_conf()",
    ];
    for statement in statements {
        cluster.run(statement).await.unwrap();
    }
    cluster
}

#[tokio::test]
async fn e4_a_refused_connection_is_a_database_that_is_away() {
    let cluster = guarded().await;
    let mut config =
        DbConfig::new(std::env::temp_dir().join(format!("deepersensor-{}", fresh_id::<UserId>())));
    config.database_url = Some(Secret::new(format!("postgres://app:first@{}/refusing", cluster.addr())));
    let known_within = config.acquire_timeout / 2;
    let ground = Ground { config };
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    for (code, refuse, mend) in REFUSALS {
        let begun = begin(user.id);
        room.db.begin_turn(begun.clone()).await.unwrap();
        // A database is renamed, and closed, only when nobody is in it.
        cluster.run("ALTER ROLE app CONNECTION LIMIT 0").await.unwrap();
        let out = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'app'";
        cluster.run(out).await.unwrap();
        cluster.run("ALTER ROLE app CONNECTION LIMIT -1").await.unwrap();
        cluster.run(refuse).await.unwrap();
        cluster.run(out).await.unwrap();

        let told = settle(&room.db, settlement(&begun, code)).await;
        assert_eq!(told, Ok(()), "{code}: it is on the disk");
        // Once it is known, the cause is told at once.
        let known = async {
            loop {
                let asked = Instant::now();
                let refused = room.db.begin_turn(begin(user.id)).await;
                let read = room.db.user(user.id).await;
                let is_told = |said: &DbError| matches!(said, DbError::Away(cause) if cause.contains(code));
                if refused.is_err_and(|said| is_told(&said))
                    && read.is_err_and(|said| is_told(&said))
                    && asked.elapsed() < known_within
                {
                    return;
                }
            }
        };
        timeout(PATIENCE * 40, known).await.unwrap_or_else(|_| panic!("{code} is not told at once"));

        cluster.run(mend).await.unwrap();
        let_in(&room, &user).await;
        let replayed = async {
            while room.db.spilled() > 0 {
                tokio::time::sleep(PATIENCE / 40).await;
            }
        };
        timeout(PATIENCE * 40, replayed).await.unwrap_or_else(|_| panic!("{code} is mended"));
        let (turn, answer) = room.db.turn(user.id, begun.turn).await.unwrap().unwrap();
        assert_eq!((turn.status, answer.content.as_str()), (TurnStatus::Complete, code));
    }
    assert_eq!(room.db.lost_settlements(), 0);
    room.stop().await;
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
    let all_come_to_life = async {
        let is_well = |read: Result<_, _>| read == Ok(Some(user.clone()));
        while !join_all((0..20).map(|_| room.db.user(user.id))).await.into_iter().all(is_well) {}
    };
    timeout(PATIENCE * 40, all_come_to_life).await.unwrap();
    let writers_come_to_life =
        async { while room.db.begin_turn(begin(user.id)).await.is_err_and(|error| error.is_away()) {} };
    timeout(PATIENCE * 40, writers_come_to_life).await.unwrap();
    assert_eq!(room.db.begin_turn(begin(user.id)).await, Ok(domain::turn::Begun::New));
}

/// Transactions cut of each kind, unless `scripts/prove cancel` asks for others.
const CUTS: usize = 60;
/// Who cuts them, at once: one for each of the pool's connections.
const CUTTERS: usize = 4;

/// Begins turns, each of which is cut or not, and one after each that is not; the ids of those that were acknowledged.
async fn cut_and_go_on(
    store: &Arc<dyn Store>,
    user: UserId,
    rounds: usize,
    mut patience: impl FnMut(usize, Duration) -> Duration,
) -> Vec<TurnId> {
    let (mut acknowledged, mut took) = (Vec::new(), Duration::from_millis(50));
    for round in 0..rounds {
        // Dropped, as by the kill of a writer, anywhere between connect, BEGIN, the statements and COMMIT.
        let cut = begin(user);
        let write = Write::BeginTurn(Box::new(cut.clone()));
        let applied = timeout(patience(round, took), store.apply(&[&write])).await;
        if applied.is_ok_and(|applied| applied.is_ok()) {
            acknowledged.push(cut.turn);
        }
        // The next transaction meets whatever that one left behind.
        let next = begin(user);
        let write = Write::BeginTurn(Box::new(next.clone()));
        let started = Instant::now();
        store.apply(&[&write]).await.unwrap();
        took = started.elapsed();
        acknowledged.push(next.turn);
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn e1_acknowledged_turns_survive_transactions_cut_on_a_slow_link() {
    #[expect(clippy::disallowed_methods, reason = "scripts/prove has no other way to tell a test its size")]
    let asked = std::env::var("PROVE_COUNT").ok();
    let cuts = asked.map_or(CUTS, |count| count.parse().expect("PROVE_COUNT is a number"));
    let (direct, ground, proxy) = behind_a_proxy().await;
    let room = ground.room().await;
    let user = some_user(&room.db).await.id;
    let store = store::open(&ground.config).await.unwrap();
    let cut = async |patience: fn(usize, Duration) -> Duration| {
        let all = (0..CUTTERS).map(|_| cut_and_go_on(&store, user, cuts / CUTTERS, patience));
        join_all(all).await.concat()
    };
    proxy.latency(Duration::from_millis(1));
    // A new connection makes it take twice as long, so three times as long is not cut.
    let anywhere = cut(|round, took| took * (round as u32 * 7 % 20) / 6).await;
    // Now only while BEGIN waits for its reply, which is where sqlx forgets the transaction (sqlx 4393).
    proxy.latency(Duration::from_millis(10));
    let within_begin = cut(|_, _| Duration::from_millis(15)).await;

    let rounds = cuts / CUTTERS * CUTTERS;
    let some = rounds + 1..2 * rounds;
    assert!(
        some.contains(&anywhere.len()),
        "some were cut and some were not: {} acknowledged",
        anywhere.len()
    );
    // Seen from a connection that has nothing to do with the store's.
    let stored: HashSet<_> = direct.texts("SELECT id::text FROM turns").await.into_iter().collect();
    let acknowledged: Vec<_> = anywhere.iter().chain(&within_begin).map(ToString::to_string).collect();
    let lost: Vec<_> = acknowledged.iter().filter(|id| !stored.contains(*id)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {} of {}", lost.len(), acknowledged.len());
    assert!((acknowledged.len()..=4 * rounds).contains(&stored.len()), "{} stored", stored.len());
    // The pool still holds its connections: none of them may have a transaction open. The server needs a moment to see
    // that a connection was dropped, but less than the ten seconds after which it would end such a transaction itself.
    let idle = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    let none = async { while direct.count(idle).await != 0 {} };
    timeout(Duration::from_secs(3), none).await.unwrap();
}

#[tokio::test]
async fn e4_a_settlement_that_loses_a_deadlock_is_written_all_the_same() {
    let ground = Ground::postgres().await;
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let begun = begin(user.id);
    room.db.begin_turn(begun.clone()).await.unwrap();
    // Somebody who holds the message before the turn, and waits longer than we do.
    let message = stored(&begun).message;
    let held = format!(
        "SET LOCAL deadlock_timeout = '1min'; SELECT FROM messages WHERE id = '{message}' FOR UPDATE"
    );
    let mut other = ground.hold(&held).await;
    let told = settling(&room.db, settlement(&begun, "after all"));
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while ground.count(waiting).await == 0 {
        tokio::time::sleep(PATIENCE / 40).await;
    }
    other.take(&format!("SELECT FROM turns WHERE id = '{}' FOR UPDATE", begun.turn)).await;
    drop(other);
    assert_eq!(told.await, Ok(Ok(())));
    let (turn, answer) = room.db.turn(user.id, begun.turn).await.unwrap().unwrap();
    assert_eq!((turn.status, answer.content.as_str()), (TurnStatus::Complete, "after all"));
    assert_eq!((room.db.spilled(), room.db.lost_settlements()), (0, 0));
}
