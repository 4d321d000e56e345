//! SQLite: the default store, one file under the data directory.
//!
//! One connection writes and N read; write-ahead logging keeps readers off the writer's way, `synchronous=FULL` makes a
//! commit survive power loss. Admin verbs may write beside a running service: both wait for each other's short transactions.

pub(super) mod accounts;
mod administrators;
pub(super) mod api_keys;
pub(super) mod audit;
mod backup;
pub(super) mod claims;
mod columns;
pub(super) mod connect;
pub(super) mod conversations;
pub(super) mod held;
pub(super) mod invites;
pub(super) mod ledger;
mod passwords;
mod place;
mod purge;
pub(super) mod search;
pub(super) mod sessions;
#[path = "../shared/mod.rs"]
#[expect(clippy::duplicate_mod, reason = "said once, compiled over the statements of each store")]
mod shared;
pub(super) mod signing_keys;
#[cfg(test)]
mod tests;
mod touch;
mod turns;
pub(super) mod usage;

use std::{fs::File, sync::Arc};

use futures_util::future::BoxFuture;
use sqlx::{
    Connection as _, Sqlite,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};

pub use self::backup::{BackupError, back_up, restore};
pub(super) use self::connect::migrate;
use self::place::Place;
use super::{Applied, Door, OpenError, PoolUse, Store, cut::Cut, failure, pool::Pool};
use crate::db::{DbConfig, DbError, message::Write};

type Connection = sqlx::SqliteConnection;

pub(in crate::db) struct SqliteStore {
    writer: Pool<Sqlite>,
    pub(super) readers: Pool<Sqlite>,
    /// Held by the one service that runs on this directory.
    lock: Option<File>,
    door: Arc<Door>,
    options: SqliteConnectOptions,
}

impl SqliteStore {
    pub(super) async fn open(config: &DbConfig) -> Result<Self, OpenError> {
        let place = Place::prepare(&config.data_dir)?;
        let lock = if config.exclusive { Some(place.lock()?) } else { None };
        connect::prepare_schema(&place, config.old_schema).await?;
        let options = connect::options(&place.database());
        let pool = |size: usize, options: SqliteConnectOptions| {
            SqlitePoolOptions::new()
                .max_connections(u32::try_from(size.max(1)).unwrap_or(u32::MAX))
                .acquire_timeout(config.acquire_timeout)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
                .connect_lazy_with(options)
        };
        let door = Door::new();
        Ok(Self {
            writer: Pool::new("write", pool(1, options.clone()), Some(&door)),
            readers: Pool::new(
                "read",
                pool(config.readers, options.clone().pragma("query_only", "ON")),
                Some(&door),
            ),
            lock,
            door,
            options,
        })
    }

    async fn write(&self, batch: &[&Write]) -> Result<Applied, DbError> {
        let mut cut = Cut::acquire(&self.writer).await?;
        let mut transaction = cut.connection()?.begin_with("BEGIN IMMEDIATE").await?;
        match shared::batch::apply(&mut transaction, batch).await {
            Ok(applied) => {
                transaction.commit().await?;
                cut.keep();
                Ok(applied)
            }
            Err(error) => {
                transaction.rollback().await?;
                cut.keep();
                Err(error)
            }
        }
    }
}

impl Store for SqliteStore {
    fn apply<'a>(&'a self, batch: &'a [&'a Write]) -> BoxFuture<'a, Result<Applied, DbError>> {
        Box::pin(self.write(batch))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.readers.close().await;
            if let Err(error) = self.checkpoint().await {
                tracing::warn!(%error, "the write-ahead log stays for the next start");
            }
            self.writer.close().await;
        })
    }

    fn write_lanes(&self) -> usize {
        // SQLite has one writer; more of them only wait for each other.
        1
    }

    fn door(&self) -> Option<&Arc<Door>> {
        Some(&self.door)
    }

    fn knock(&self) -> BoxFuture<'_, Result<(), DbError>> {
        Box::pin(async move {
            let knocked = async {
                let mut db = sqlx::SqliteConnection::connect_with(&self.options).await?;
                db.ping().await?;
                db.close().await
            };
            knocked.await.map_err(|error| failure::not_let_in(&error))
        })
    }

    fn is_exclusive(&self) -> bool {
        self.lock.is_some()
    }

    fn pools(&self) -> Vec<PoolUse<'_>> {
        vec![self.writer.usage(), self.readers.usage()]
    }
}

impl SqliteStore {
    /// Moves the write-ahead log into the database file, so that the file alone is a whole backup.
    async fn checkpoint(&self) -> Result<(), DbError> {
        let mut writer = self.writer.acquire().await?;
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut *writer).await?;
        Ok(())
    }
}
