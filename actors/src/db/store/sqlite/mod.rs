//! SQLite: the default store, one file under the data directory.
//!
//! One connection writes and N read; write-ahead logging keeps readers off the writer's way, `synchronous=FULL` makes a
//! commit survive power loss. Admin verbs may write beside a running service: both wait for each other's short transactions.

mod accounts;
mod batch;
mod conversations;
mod place;
mod sessions;
#[cfg(test)]
mod tests;
mod turns;

use std::{fs::File, path::Path, time::Duration};

use domain::{
    account::{Account, Session, User},
    conversation::{Conversation, StoredMessage},
    email::EmailAddress,
    id::{ConversationId, MessageId, SessionId, UserId},
};
use futures_util::future::BoxFuture;
use sqlx::{
    Connection, SqliteConnection, SqlitePool,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use self::place::Place;
use super::{Applied, Asked, OpenError, Store, cut::Cut};
use crate::db::{DbConfig, DbError, message::Write};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// How long a statement waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// What the write-ahead log is cut back to after a checkpoint.
const LOG_SIZE_LIMIT_BYTES: &str = "67108864";

pub(in crate::db) struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    /// Held by the one service that runs on this directory.
    _lock: Option<File>,
}

impl SqliteStore {
    pub(super) async fn open(config: &DbConfig) -> Result<Self, OpenError> {
        let place = Place::prepare(&config.data_dir)?;
        let lock = if config.exclusive { Some(place.lock()?) } else { None };
        migrate_at(&place).await?;
        let options = connect_options(&place.database());
        let pool = |size: usize, options: SqliteConnectOptions| {
            SqlitePoolOptions::new()
                .max_connections(u32::try_from(size.max(1)).unwrap_or(u32::MAX))
                .acquire_timeout(config.acquire_timeout)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
                .connect_lazy_with(options)
        };
        Ok(Self {
            writer: pool(1, options.clone()),
            readers: pool(config.readers, options.pragma("query_only", "ON")),
            _lock: lock,
        })
    }

    /// Runs one question on a reader connection.
    async fn read<T>(
        &self,
        ask: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, DbError>,
    ) -> Result<T, DbError> {
        let mut cut = Cut::acquire(&self.readers).await?;
        let answer = ask(cut.connection()?).await;
        cut.keep();
        answer
    }

    async fn write(&self, batch: &[&Write]) -> Result<Applied, DbError> {
        let mut cut = Cut::acquire(&self.writer).await?;
        let mut transaction = cut.connection()?.begin_with("BEGIN IMMEDIATE").await?;
        match batch::apply(&mut transaction, batch).await {
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
    fn account_by_email<'a>(&'a self, email: &'a EmailAddress) -> Asked<'a, Option<Account>> {
        Box::pin(self.read(async move |db| accounts::by_email(db, email).await))
    }

    fn user(&self, user: UserId) -> Asked<'_, Option<User>> {
        Box::pin(self.read(async move |db| accounts::user(db, user).await))
    }

    fn session(&self, session: SessionId) -> Asked<'_, Option<(Session, User)>> {
        Box::pin(self.read(async move |db| sessions::with_user(db, session).await))
    }

    fn conversations(
        &self,
        owner: UserId,
        before: Option<ConversationId>,
        limit: u32,
    ) -> Asked<'_, Vec<Conversation>> {
        Box::pin(self.read(async move |db| conversations::list(db, owner, before, limit).await))
    }

    fn conversation(&self, owner: UserId, id: ConversationId) -> Asked<'_, Option<Conversation>> {
        Box::pin(self.read(async move |db| conversations::one(db, owner, id).await))
    }

    fn messages(
        &self,
        owner: UserId,
        conversation: ConversationId,
        after: Option<MessageId>,
        limit: u32,
    ) -> Asked<'_, Vec<StoredMessage>> {
        Box::pin(
            self.read(async move |db| conversations::messages(db, owner, conversation, after, limit).await),
        )
    }

    fn newest_messages(
        &self,
        owner: UserId,
        conversation: ConversationId,
        limit: u32,
        bytes_max: u32,
    ) -> Asked<'_, Vec<StoredMessage>> {
        Box::pin(
            self.read(async move |db| conversations::newest(db, owner, conversation, limit, bytes_max).await),
        )
    }

    fn ping(&self) -> Asked<'_, ()> {
        Box::pin(self.read(async move |db| {
            sqlx::query("SELECT 1 FROM users LIMIT 1").execute(db).await?;
            Ok(())
        }))
    }

    fn apply<'a>(&'a self, batch: &'a [&'a Write]) -> Asked<'a, Applied> {
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
}

impl SqliteStore {
    /// Moves the write-ahead log into the database file, so that the file alone is a whole backup.
    async fn checkpoint(&self) -> Result<(), sqlx::Error> {
        let mut writer = self.writer.acquire().await?;
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut *writer).await?;
        Ok(())
    }
}

/// Brings the schema up to date.
pub(super) async fn migrate(data_dir: &Path) -> Result<(), OpenError> {
    migrate_at(&Place::prepare(data_dir)?).await
}

async fn migrate_at(place: &Place) -> Result<(), OpenError> {
    // sqlx locks nothing on SQLite: two processes that start together would migrate at once.
    let _lock = place.lock_for_migration().await?;
    let mut connection = SqliteConnection::connect_with(&connect_options(&place.database())).await?;
    MIGRATIONS.run(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

fn connect_options(database: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(database)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("journal_size_limit", LOG_SIZE_LIMIT_BYTES)
}
