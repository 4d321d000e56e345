//! Connections to SQLite: how they are opened and tested, and the schema they find.

use std::{path::Path, time::Duration};

use sqlx::{
    Connection, SqliteConnection,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::place::Place;
use crate::db::{
    DbError, OldSchema,
    store::{
        OpenError,
        schema::{self, Standing},
    },
};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// How long a statement waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// What the write-ahead log is cut back to after a checkpoint.
const LOG_SIZE_LIMIT_BYTES: &str = "67108864";

/// Brings the schema up to date.
pub(in crate::db::store) async fn migrate(data_dir: &Path) -> Result<(), OpenError> {
    prepare_schema(&Place::prepare(data_dir)?, OldSchema::Migrated).await
}

/// Sees to it that the schema is one that this binary works on.
pub(super) async fn prepare_schema(place: &Place, old_schema: OldSchema) -> Result<(), OpenError> {
    // sqlx locks nothing on SQLite: two processes that start together would migrate at once.
    let _lock = place.lock_for_migration().await?;
    let mut connection = SqliteConnection::connect_with(&options(&place.database())).await?;
    if !standing(&mut connection).await?.suits() {
        if old_schema == OldSchema::Refused {
            return Err(OpenError::OldSchema);
        }
        schema::forwards(&MIGRATIONS).run(&mut connection).await?;
    }
    connection.close().await?;
    Ok(())
}

/// How the schema of this database stands to this binary.
pub(in crate::db::store) async fn standing(db: &mut SqliteConnection) -> Result<Standing, OpenError> {
    if has_book(db).await? { Ok(schema::standing(db, &MIGRATIONS).await?) } else { Ok(Standing::Older) }
}

/// Whether there was a migration.
pub(in crate::db::store) async fn has_book(db: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) > 0 FROM sqlite_schema WHERE name = '_sqlx_migrations'")
        .fetch_one(db)
        .await
}

/// Whether a database has the history that ours have, however long.
pub(super) async fn is_ours(db: &mut SqliteConnection) -> bool {
    let first: Result<Option<Vec<u8>>, _> =
        sqlx::query_scalar("SELECT checksum FROM _sqlx_migrations ORDER BY version LIMIT 1")
            .fetch_optional(&mut *db)
            .await;
    let known = MIGRATIONS.iter().next().map(|migration| &*migration.checksum);
    first.is_ok_and(|found| found.is_some() && found.as_deref() == known) && standing(db).await.is_ok()
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

/// The number of the last migration that this service knows.
pub(in crate::db::store) fn newest_migration() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}
