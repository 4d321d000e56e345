//! A real replica, followed, held back, killed and promoted.

use std::time::Duration;

use domain::{account::User, id::ConversationId, secret::Secret};
use support::postgres::{Cluster, Options};
use tokio::time::{sleep, timeout};

use super::{
    ground::{Ground, Running},
    samples::*,
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at the replica.
const LOOK: Duration = Duration::from_secs(1);

async fn until_it_is(up: bool, room: &Running) {
    let sample = format!("deepersensor_db_replica_up {}\n", u8::from(up));
    let seen = async {
        while !room.metrics().contains(&sample) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("never {sample}"));
}

/// Starts a conversation through the room.
async fn converse(room: &Running, user: &User) -> ConversationId {
    let begun = begin(user.id);
    room.db.begin_turn(begun.clone()).await.unwrap();
    stored(&begun).conversation
}

async fn titles(room: &Running, user: &User) -> Vec<String> {
    let page = room.db.conversations(user.id, None, 100).await.unwrap();
    page.items.into_iter().map(|conversation| conversation.title).collect()
}

#[tokio::test]
async fn a_replica_answers_what_may_lag_until_it_is_behind_gone_or_its_own_master() {
    let cluster = Cluster::start_with(Options { fsync: false, max_connections: 40 }).await.unwrap();
    let mut ground = Ground::on(&cluster).await;
    let database =
        ground.config.database_url.as_ref().unwrap().reveal().rsplit_once('/').unwrap().1.to_owned();
    let standby = cluster.standby().await.unwrap();
    ground.config.read_url = Some(Secret::new(standby.url(&database)));
    let room = ground.room().await;
    let (ada, eve) = (some_user(&room.db).await, some_user(&room.db).await);
    converse(&room, &eve).await;
    until_it_is(true, &room).await;

    // Whoever wrote sees it, however far the replica has come.
    standby.run("SELECT pg_wal_replay_pause()").await.unwrap();
    for count in 1..=20 {
        let started = converse(&room, &ada).await;
        let page = room.db.conversations(ada.id, None, 100).await.unwrap();
        assert_eq!((page.items.len(), page.items[0].id), (count, started));
        assert!(room.db.conversation(ada.id, started).await.unwrap().is_some());
        assert_eq!(room.db.messages(ada.id, started, None, 10).await.unwrap().items.len(), 2);
        assert_eq!(room.db.ledger(ada.id, Default::default(), None, 100).await.unwrap().items.len(), count);
    }
    let third = some_user(&room.db).await;
    let users = room.db.users(crate::db::UserSearch { limit: 1, ..Default::default() }).await.unwrap().items;
    assert_eq!(users[0].id, third.id, "an administrator sees the account that was just made");
    // And so does the model whose prompt continues it.
    let history = room.db.history(ada.id, converse(&room, &ada).await, 10, u32::MAX).await.unwrap();
    assert_eq!(history.unwrap().len(), 2);

    // What somebody else wrote elsewhere is seen a little later: the replica did answer.
    let mut attempt = 0;
    let answers = async {
        loop {
            attempt += 1;
            let title = format!("change {attempt}");
            standby.run("SELECT pg_wal_replay_pause()").await.unwrap();
            let change = format!("UPDATE conversations SET title = '{title}' WHERE user_id = '{}'", eve.id);
            ground.execute(&change).await.unwrap();
            if titles(&room, &eve).await != [title.as_str()] {
                return title;
            }
            // It had not been seen to have all of hers yet.
            standby.run("SELECT pg_wal_replay_resume()").await.unwrap();
            sleep(LOOK / 4).await;
        }
    };
    let title = timeout(PATIENCE, answers).await.expect("the replica is never asked");
    // Too far behind, it is asked no more.
    let seen = async { while titles(&room, &eve).await != [title.as_str()] {} };
    timeout(PATIENCE, seen).await.unwrap();
    until_it_is(false, &room).await;
    standby.run("SELECT pg_wal_replay_resume()").await.unwrap();
    until_it_is(true, &room).await;

    // Gone, it costs nobody an answer.
    standby.kill().unwrap();
    for _ in 0..20 {
        assert_eq!(titles(&room, &ada).await.len(), 21);
    }
    until_it_is(false, &room).await;
    standby.restart().await.unwrap();
    until_it_is(true, &room).await;

    // Promoted, it goes its own way.
    standby.run("SELECT pg_promote()").await.unwrap();
    until_it_is(false, &room).await;
    assert_eq!(titles(&room, &ada).await.len(), 21);
    room.stop().await;
}

/// Resolves when a first look was judged: the second began after that.
async fn until_looked_at(room: &Running) {
    let looks = || {
        let metrics = room.metrics();
        let count = metrics
            .lines()
            .find_map(|line| line.strip_prefix("deepersensor_db_acquire_seconds_count{pool=\"look\"} "));
        count.unwrap().parse::<u64>().unwrap()
    };
    let seen = async {
        while looks() < 2 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, seen).await.expect("it is not looked at");
}

#[tokio::test]
async fn only_a_standby_of_the_same_database_is_asked() {
    let cluster = Cluster::start_with(Options { fsync: false, max_connections: 40 }).await.unwrap();
    let (ground, other) = (Ground::on(&cluster).await, Ground::on(&cluster).await);
    let name = |ground: &Ground| {
        ground.config.database_url.as_ref().unwrap().reveal().rsplit_once('/').unwrap().1.to_owned()
    };
    // Ada's conversation, stored before any room that is asked for it: nothing sends her to the primary.
    let room = ground.room().await;
    let ada = some_user(&room.db).await;
    converse(&room, &ada).await;
    room.stop().await;
    // The other database has it under another title, so that whoever answers is known.
    cluster.drop_database(&name(&other)).await.unwrap();
    let copied = async {
        // Until the server has seen the last session off.
        while cluster.clone_database(&name(&ground), &name(&other)).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, copied).await.unwrap();
    for (database, title) in [(&ground, "the primary's"), (&other, "the stranger's")] {
        database.execute(&format!("UPDATE conversations SET title = $$ {title} $$")).await.unwrap();
    }
    let standby = cluster.standby().await.unwrap();

    let strangers = [
        // In recovery, of the same cluster, and with the same tables.
        standby.url(&name(&other)),
        // The right database, and no standby.
        cluster.url(&name(&ground)),
    ];
    for stranger in strangers {
        let mut config = ground.config.clone();
        config.read_url = Some(Secret::new(stranger.clone()));
        let room = Ground { config }.room().await;
        until_looked_at(&room).await;
        assert!(room.metrics().contains("deepersensor_db_replica_up 0\n"), "{stranger}");
        for _ in 0..20 {
            assert_eq!(titles(&room, &ada).await, [" the primary's "], "{stranger}");
        }
        room.stop().await;
    }

    // What does lead to the same database is believed.
    let mut config = ground.config.clone();
    config.read_url = Some(Secret::new(standby.url(&name(&ground))));
    let room = Ground { config }.room().await;
    until_it_is(true, &room).await;
    room.stop().await;
}
