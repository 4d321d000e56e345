//! Which schema a database has, for somebody who asks before a start: nothing is written and nothing is made.

use sqlx::{Connection as _, sqlite::SqliteConnectOptions};

use super::{OpenError, postgres, sqlite};
use crate::db::{DbConfig, config::DATABASE_FILE};

/// How far a database is, and how far this service brings it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schema {
    /// The number of the last migration; `None` before the first.
    pub found: Option<i64>,
    pub newest: i64,
}

/// Where sqlx keeps book. It exists only once there was a migration, so no statement about it can be checked while compiling.
const LAST_MIGRATION: &str = "SELECT max(version) FROM _sqlx_migrations WHERE success";

/// Asks the configured database; waits for as long as it does.
pub(in crate::db) async fn of(config: &DbConfig) -> Result<Schema, OpenError> {
    match &config.database_url {
        Some(url) => {
            let options = postgres::connect::plain_options(url)?;
            let mut connection = sqlx::PgConnection::connect_with(&options).await?;
            let has_book: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
                .fetch_one(&mut connection)
                .await?;
            let last = sqlx::query_scalar(LAST_MIGRATION);
            let found = if has_book { last.fetch_one(&mut connection).await? } else { None };
            connection.close().await?;
            Ok(Schema { found, newest: postgres::connect::newest_migration() })
        }
        None => {
            let newest = sqlite::connect::newest_migration();
            if !config.has_store() {
                return Ok(Schema { found: None, newest });
            }
            let file = config.data_dir.join(DATABASE_FILE);
            let options = SqliteConnectOptions::new().filename(file).read_only(true);
            let mut connection = sqlx::SqliteConnection::connect_with(&options).await?;
            let found = sqlx::query_scalar(LAST_MIGRATION).fetch_one(&mut connection).await?;
            connection.close().await?;
            Ok(Schema { found, newest })
        }
    }
}
