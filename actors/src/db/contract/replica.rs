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
    begun.conversation
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

#[tokio::test]
async fn a_server_that_is_no_standby_of_the_primary_is_never_asked() {
    let (ground, stranger) = (Ground::postgres().await, Ground::postgres().await);
    // The same cluster even, but another database, with a schema of its own.
    crate::db::migrate(&stranger.config).await.unwrap();
    let mut config = ground.config.clone();
    config.read_url = stranger.config.database_url.clone();
    let ground = Ground { config };
    let room = ground.room().await;
    let ada = some_user(&room.db).await;
    converse(&room, &ada).await;
    until_it_is(false, &room).await;
    for _ in 0..20 {
        assert_eq!(titles(&room, &ada).await.len(), 1);
    }
    assert!(room.metrics().contains("deepersensor_db_replica_up 0\n"));
    room.stop().await;
}
