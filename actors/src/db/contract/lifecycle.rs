//! Starting and stopping.

use domain::turn::Settlement;

use super::{ground::Ground, samples::*};
use crate::db::{DbError, OldSchema, Standing};

/// How many files each database has.
const MIGRATIONS: i64 = 5;

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

/// What a later release's migration leaves in the book.
fn later_migration(ground: &Ground) -> String {
    let (checksum, time) = match ground.config.database_url {
        Some(_) => ("'\\x01'::bytea", "now()"),
        None => ("x'01'", "CURRENT_TIMESTAMP"),
    };
    format!(
        "INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time)
         VALUES (9999, 'of a later release', {time}, true, {checksum}, 0)"
    )
}

pub(super) async fn e06_a_schema_that_is_newer_is_worked_on(mut ground: Ground) {
    ground.room().await.stop().await;
    ground.execute(&later_migration(&ground)).await.unwrap();
    for old_schema in [OldSchema::Migrated, OldSchema::Refused] {
        ground.config.old_schema = old_schema;
        let room = ground.room().await;
        some_user(&room.db).await;
        room.stop().await;
    }
    crate::db::migrate(&ground.config).await.unwrap();
}

/// What is told before a start is what the start then does.
pub(super) async fn e06_a_look_at_a_schema_foretells_the_start(ground: Ground) {
    let foretold = async || {
        let schema = crate::db::schema(&ground.config).await.unwrap();
        (schema.found, schema.standing, schema.is_migrated)
    };
    let starts = async || match ground.try_room().await {
        Ok(room) => {
            room.stop().await;
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    };
    assert_eq!(foretold().await, (None, Ok(Standing::Older), true));
    starts().await.unwrap();
    assert_eq!(foretold().await, (Some(MIGRATIONS), Ok(Standing::Current), true));

    ground.execute(&later_migration(&ground)).await.unwrap();
    assert_eq!(foretold().await, (Some(9_999), Ok(Standing::Newer { by: 1 }), true));
    starts().await.unwrap();

    // Of another history, and half applied.
    let first = if ground.config.database_url.is_some() { "'\\x01'::bytea" } else { "x'01'" };
    let changes = [
        format!("UPDATE _sqlx_migrations SET checksum = {first} WHERE version = 1"),
        "UPDATE _sqlx_migrations SET success = false WHERE version = 9999".to_owned(),
    ];
    for change in changes {
        ground.execute(&change).await.unwrap();
        let (_, standing, _) = foretold().await;
        let why = standing.unwrap_err();
        let refused = starts().await.unwrap_err();
        assert!(refused.contains(&why), "{refused}: {why}");
    }
}

pub(super) async fn who_only_looks_changes_no_schema(mut ground: Ground) {
    ground.room().await.stop().await;
    let last = format!("DELETE FROM _sqlx_migrations WHERE version = {MIGRATIONS}");
    ground.execute(&last).await.unwrap();
    ground.config.old_schema = OldSchema::Refused;
    let refused = ground.try_room().await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("older than this binary: run `deepersensor migrate`"), "{refused}");
    assert_eq!(ground.count("SELECT count(*) FROM _sqlx_migrations").await, MIGRATIONS - 1);
}
