//! What is SQLite's alone: files, locks and the log.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::{
    db::contract::{ground::Ground, samples::some_user},
    system::StartError,
};

#[tokio::test]
async fn e5_the_data_directory_and_its_files_are_their_owners_alone() {
    let ground = Ground::sqlite().await;
    let room = ground.room().await;
    some_user(&room.db).await;
    let dir = &ground.config.data_dir;
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir), 0o700);
    let files: Vec<_> = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.iter().any(|file| file.ends_with("deepersensor.db-wal")), "{files:?}");
    for file in files {
        let expected = if file.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&file), expected, "{}", file.display());
    }
    room.stop().await;
}

#[tokio::test]
async fn e5_files_that_others_could_read_are_taken_from_them() {
    let ground = Ground::sqlite().await;
    let dir = &ground.config.data_dir;
    ground.room().await.stop().await;
    let open =
        ["deepersensor.db", "deepersensor.db-wal", "deepersensor.db-shm", "serve.lock", "migrate.lock"];
    for name in open {
        fs::OpenOptions::new().create(true).append(true).open(dir.join(name)).unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let room = ground.room().await;
    some_user(&room.db).await;
    for name in open {
        let mode = fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    room.stop().await;
}

#[tokio::test]
async fn a8_a_data_directory_that_others_may_write_to_is_refused_with_its_path() {
    let ground = Ground::sqlite().await;
    let dir = &ground.config.data_dir;
    fs::create_dir(dir).unwrap();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
    let refused = ground.try_room().await.map(drop).unwrap_err().to_string();
    assert!(
        refused.contains(&dir.display().to_string()) && refused.contains("others may write"),
        "{refused}"
    );
    assert_eq!(fs::read_dir(dir).unwrap().count(), 0, "nothing was put there");
}

#[tokio::test]
async fn e5_a_second_service_on_one_directory_is_refused_and_an_admin_verb_is_not() {
    let mut ground = Ground::sqlite().await;
    let room = ground.room().await;
    let refused = ground.try_room().await.map(drop).unwrap_err();
    assert!(matches!(&refused, StartError::Store(why) if why.contains("in use")), "{refused}");

    ground.config.exclusive = false;
    ground.room().await.stop().await;
    room.db.ping().await.unwrap().unwrap();
    room.stop().await;
}

#[tokio::test]
async fn e5_a_stopped_service_leaves_one_whole_file_and_no_log() {
    let ground = Ground::sqlite().await;
    let room = ground.room().await;
    some_user(&room.db).await;
    room.stop().await;
    let log = ground.config.data_dir.join("deepersensor.db-wal");
    assert!(fs::metadata(&log).map_or(0, |log| log.len()) == 0, "checkpointed and cut back");
    assert_eq!(ground.count("SELECT count(*) FROM users").await, 1);
}

#[tokio::test]
async fn e5_a_commit_waits_for_the_disk_and_foreign_keys_hold() {
    let ground = Ground::sqlite().await;
    let room = ground.room().await;
    let config = crate::db::DbConfig { exclusive: false, ..ground.config.clone() };
    let store = super::SqliteStore::open(&config).await.unwrap();
    let mut writer = store.writer.acquire().await.unwrap();
    for (pragma, expected) in [
        ("synchronous", 2i64),
        ("foreign_keys", 1),
        ("busy_timeout", 5_000),
        ("journal_size_limit", 67_108_864),
    ] {
        let sql = sqlx::AssertSqlSafe(format!("PRAGMA {pragma}"));
        let value: i64 = sqlx::query_scalar(sql).fetch_one(&mut *writer).await.unwrap();
        assert_eq!(value, expected, "{pragma}");
    }
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *writer).await.unwrap();
    assert_eq!(mode, "wal");
    let mut reader = store.readers.acquire().await.unwrap();
    sqlx::query("DELETE FROM users").execute(&mut *reader).await.unwrap_err();
    room.stop().await;
}
