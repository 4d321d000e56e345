//! The store: one set of questions and changes, answered by SQLite or Postgres.
//!
//! ```text
//! questions ──▶ one statement on a reader ───────────────┐
//!                                                        ├──▶ sqlite/ or postgres/: statements, and nothing else
//! batch ──▶ shared: in which order, on which condition ──┘
//! ```
//!
//! Both keep the same schema under the same migration numbers, and one contract suite (`db::contract`) runs over both.
//! What they do alike is said once, in `shared`, which is compiled over the statements of each. Everything that reads an
//! object carries its owner into the query, so a foreign id is an id that does not exist.
//!
//! # When it breaks
//!
//! A connection on which a transaction or a query was cut short (timeout, killed worker) is thrown away: sqlx 0.9 can
//! return one to its pool with the transaction still open, and what later callers write on it is lost (sqlx 4393).

mod cut;
mod door;
mod failure;
mod look;
mod plan;
mod pool;
mod postgres;
mod questions;
mod rotation;
mod rows;
mod schema;
mod sqlite;
mod stop;
mod stored;

use std::sync::Arc;

use futures_util::future::{BoxFuture, ready};

use super::{
    DbConfig, DbError,
    message::{Write, Written},
};
use crate::system::StartError;
pub(super) use door::{Door, Keeping, StoreKeeper};
pub use look::Schema;
pub(super) use look::of as schema_of;
pub(super) use pool::PoolUse;
use postgres::PostgresStore;
pub(super) use postgres::replica::Replica;
pub(super) use questions::Questions;
pub use schema::Standing;
use sqlite::SqliteStore;
pub use sqlite::{BackupError, back_up, restore};

/// What a transaction of several changes led to, change by change: a refusal among them harms none of the others.
pub(super) type Applied = Vec<Result<Written, DbError>>;

/// What the db room needs of a database.
pub(super) trait Store: Questions {
    /// Writes all of `batch` in one transaction.
    ///
    /// # Errors
    ///
    /// Nothing was written, or, with [`DbError::Unavailable`] and [`DbError::Timeout`], nobody knows. After any other error
    /// one change of the batch is at fault: apply each alone.
    fn apply<'a>(&'a self, batch: &'a [&'a Write]) -> BoxFuture<'a, Result<Applied, DbError>>;

    /// Gives up all connections in good order; SQLite folds its log into the database file.
    fn close(&self) -> BoxFuture<'_, ()>;

    /// How many transactions may usefully run at once.
    fn write_lanes(&self) -> usize;

    /// Where it is known whether it lets us in.
    fn door(&self) -> Option<&Arc<Door>> {
        None
    }

    /// Finds out whether it lets somebody in who comes anew; takes a few seconds at most.
    fn knock(&self) -> BoxFuture<'_, Result<(), DbError>> {
        Box::pin(ready(Ok(())))
    }

    /// Whether no other service can be on it.
    fn is_exclusive(&self) -> bool {
        false
    }

    /// The replica that answers some of its questions, if there is one.
    fn replica(&self) -> Option<&Replica> {
        None
    }

    /// Looks how far the replica has come; takes a few seconds at most.
    fn look_at_replica(&self) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }

    /// Its connections, as they are now.
    fn pools(&self) -> Vec<PoolUse<'_>>;
}

/// Opens the configured database with its schema up to date.
pub(super) async fn open(config: &DbConfig) -> Result<Arc<dyn Store>, StartError> {
    let opened: Result<Arc<dyn Store>, OpenError> = async {
        Ok(match &config.database_url {
            Some(url) => Arc::new(PostgresStore::open(url, config).await?) as Arc<dyn Store>,
            None => Arc::new(SqliteStore::open(config).await?),
        })
    }
    .await;
    opened.map_err(|error| StartError::Store(error.to_string()))
}

/// Brings the schema up to date and lets go of the database again.
///
/// # Errors
///
/// [`StartError::Store`]: show it to the operator. Migrations that had already succeeded stay.
pub async fn migrate(config: &DbConfig) -> Result<(), StartError> {
    let migrated = match &config.database_url {
        Some(url) => postgres::migrate(config.migrate_url.as_ref().unwrap_or(url)).await,
        None => sqlite::migrate(&config.data_dir).await,
    };
    migrated.map_err(|error| StartError::Store(error.to_string()))
}

/// Why a database cannot be opened; for the operator who starts the service.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("{path}: {cause}")]
    File { path: std::path::PathBuf, cause: std::io::Error },
    #[error("{0} is in use by another running service")]
    InUse(std::path::PathBuf),
    #[error(
        "{path} is on a network file system ({kind}), where SQLite's locks cannot be trusted; set DATA_DIR to a local disk"
    )]
    NetworkFileSystem { path: std::path::PathBuf, kind: String },
    #[error("cannot connect: {0}")]
    Connect(#[from] sqlx::Error),
    #[error("cannot migrate: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error(
        "the schema is missing or older than this binary, and this role may not change it: run `deepersensor migrate` with \
         MIGRATE_DATABASE_URL, the role that owns the schema"
    )]
    MayNotMigrate,
    #[error("the schema is missing or older than this binary: run `deepersensor migrate` first")]
    OldSchema,
    #[error(
        "DATABASE_URL leads to an older schema than MIGRATE_DATABASE_URL, which was just brought up to date: name the same \
         database in both"
    )]
    TwoDatabases,
    #[error("the database did not answer in time")]
    Timeout,
}
