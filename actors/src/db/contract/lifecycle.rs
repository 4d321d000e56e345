//! Starting and stopping.

use domain::turn::Settlement;

use super::{ground::Ground, samples::*};
use crate::db::DbError;

/// How many files each database has.
const MIGRATIONS: i64 = 3;

pub(super) async fn a_room_that_stops_writes_what_waits_and_refuses_what_comes_after(mut ground: Ground) {
    // Nothing but the stop can end this wait.
    ground.config.usage_linger = std::time::Duration::from_secs(3_600);
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let begun = begin(user.id);
    let unstored = Settlement { stored: None, ..settlement(&begun, "") };
    let settled = settling(&room.db, unstored.clone());
    let db = room.db.clone();
    room.stop().await;

    assert_eq!(settled.await.unwrap(), Ok(()));
    assert_eq!(ground.count("SELECT count(*) FROM turns WHERE status = 'complete'").await, 1);
    assert!(matches!(settle(&db, unstored).await, Err(DbError::Unavailable(_))));
    assert!(matches!(db.begin_turn(begun).await, Err(DbError::Unavailable(_))));
    assert!(matches!(db.user(user.id).await, Err(DbError::Unavailable(_))));
}

pub(super) async fn e6_two_rooms_that_start_together_migrate_once(mut ground: Ground) {
    ground.config.exclusive = false;
    let (first, second) = tokio::join!(ground.room(), ground.room());
    let user = some_user(&first.db).await;
    assert_eq!(second.db.user(user.id).await, Ok(Some(user)));
    assert_eq!(ground.count("SELECT count(*) FROM _sqlx_migrations").await, MIGRATIONS);
    crate::db::migrate(&ground.config).await.unwrap();
    assert_eq!(ground.count("SELECT count(*) FROM _sqlx_migrations").await, MIGRATIONS);
}

pub(super) async fn what_was_written_is_there_after_a_restart(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    room.db.ping().await.unwrap().unwrap();
    room.stop().await;
    let room = ground.room().await;
    assert_eq!(room.db.user(user.id).await, Ok(Some(user)));
}
