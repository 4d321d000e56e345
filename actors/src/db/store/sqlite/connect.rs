//! Connections to SQLite: how they are opened and tested, and the schema they find.

use std::{path::Path, time::Duration};

use sqlx::{
    Connection, SqliteConnection,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::place::Place;
use crate::db::{DbError, store::OpenError};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// How long a statement waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// What the write-ahead log is cut back to after a checkpoint.
const LOG_SIZE_LIMIT_BYTES: &str = "67108864";

/// Brings the schema up to date.
pub(in crate::db::store) async fn migrate(data_dir: &Path) -> Result<(), OpenError> {
    migrate_at(&Place::prepare(data_dir)?).await
}

pub(super) async fn migrate_at(place: &Place) -> Result<(), OpenError> {
    // sqlx locks nothing on SQLite: two processes that start together would migrate at once.
    let _lock = place.lock_for_migration().await?;
    let mut connection = SqliteConnection::connect_with(&options(&place.database())).await?;
    MIGRATIONS.run(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

pub(super) fn options(database: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(database)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("journal_size_limit", LOG_SIZE_LIMIT_BYTES)
}

pub(in crate::db::store) async fn ping(db: &mut SqliteConnection) -> Result<(), DbError> {
    sqlx::query("SELECT 1 FROM users LIMIT 1").execute(db).await?;
    Ok(())
}
