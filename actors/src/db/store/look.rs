//! Which schema a database has, for somebody who asks before a start: nothing is written and nothing is made.

use sqlx::{Connection as _, migrate::MigrateError, sqlite::SqliteConnectOptions};

use super::{OpenError, postgres, schema::Standing, sqlite};
use crate::db::{DbConfig, OldSchema, config::DATABASE_FILE};

/// How far a database is, and how far this service brings it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// The number of the last migration; `None` before the first.
    pub found: Option<i64>,
    pub newest: i64,
    /// As a start finds it; or why none works on it.
    pub standing: Result<Standing, String>,
    /// Whether a start brings an older one up to date.
    pub is_migrated: bool,
}

/// Where sqlx keeps book. It exists only once there was a migration, so no statement about it can be checked while compiling.
const LAST_MIGRATION: &str = "SELECT max(version) FROM _sqlx_migrations WHERE success";

/// Asks the configured database; waits for as long as it does.
pub(in crate::db) async fn of(config: &DbConfig) -> Result<Schema, OpenError> {
    let migrates = config.old_schema == OldSchema::Migrated;
    match &config.database_url {
        Some(url) => {
            let options = postgres::connect::plain_options(url)?;
            let mut connection = sqlx::PgConnection::connect_with(&options).await?;
            let last = sqlx::query_scalar(LAST_MIGRATION);
            let has_book = postgres::connect::has_book(&mut connection).await?;
            let found = if has_book { last.fetch_one(&mut connection).await? } else { None };
            let standing = judged(postgres::connect::standing(&mut connection).await)?;
            let may_migrate =
                config.migrate_url.is_some() || postgres::connect::may_migrate(&mut connection).await?;
            connection.close().await?;
            let newest = postgres::connect::newest_migration();
            Ok(Schema { found, newest, standing, is_migrated: migrates && may_migrate })
        }
        None => {
            let newest = sqlite::connect::newest_migration();
            let none = Schema { found: None, newest, standing: Ok(Standing::Older), is_migrated: migrates };
            if !config.has_store() {
                return Ok(none);
            }
            let file = config.data_dir.join(DATABASE_FILE);
            let options = SqliteConnectOptions::new().filename(file).read_only(true);
            let mut connection = sqlx::SqliteConnection::connect_with(&options).await?;
            let last = sqlx::query_scalar(LAST_MIGRATION);
            let has_book = sqlite::connect::has_book(&mut connection).await?;
            let found = if has_book { last.fetch_one(&mut connection).await? } else { None };
            let standing = judged(sqlite::connect::standing(&mut connection).await)?;
            connection.close().await?;
            Ok(Schema { found, standing, ..none })
        }
    }
}

/// What a start makes of it, apart from what keeps it from being asked.
fn judged(standing: Result<Standing, OpenError>) -> Result<Result<Standing, String>, OpenError> {
    match standing {
        Ok(standing) => Ok(Ok(standing)),
        Err(OpenError::Migrate(unfit @ (MigrateError::Dirty(_) | MigrateError::VersionMismatch(_)))) => {
            Ok(Err(unfit.to_string()))
        }
        Err(other) => Err(other),
    }
}
