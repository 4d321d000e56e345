//! Postgres: the store of a service that runs on several machines.
//!
//! Queries are checked while compiling, against `.sqlx` (`scripts/sqlx-prepare`). Readers and writers have pools of their
//! own, so neither can starve the other: `readers + 4` connections per instance.
//!
//! # When it breaks
//!
//! Every wait is bounded twice. The server ends statements after 5 s and idle transactions after 10 s; we end what the
//! server does not answer, because a half-open link answers nothing, and throw that connection away. sqlx reconnects
//! by itself.

mod accounts;
mod batch;
mod connect;
mod conversations;
mod sessions;
mod turns;

use domain::{
    account::{Account, Session, User},
    conversation::{Conversation, StoredMessage},
    email::EmailAddress,
    id::{ConversationId, MessageId, SessionId, UserId},
    secret::Secret,
};
use futures_util::future::BoxFuture;
use sqlx::{Connection, PgConnection, PgPool};

pub(super) use self::connect::migrate;
use super::{Applied, Asked, OpenError, Store, cut::Cut};
use crate::db::{DbConfig, DbError, message::Write};

/// Transactions at once: enough to keep the server's disk busy with commits.
const WRITE_LANES: usize = 4;

pub(in crate::db) struct PostgresStore {
    writers: PgPool,
    readers: PgPool,
}

impl PostgresStore {
    pub(super) async fn open(url: &Secret<String>, config: &DbConfig) -> Result<Self, OpenError> {
        migrate(url).await?;
        let options = connect::options(url)?;
        Ok(Self {
            writers: connect::pool(options.clone(), WRITE_LANES, config.acquire_timeout),
            readers: connect::pool(options, config.readers, config.acquire_timeout),
        })
    }

    /// Runs one question on a reader connection.
    async fn read<T>(
        &self,
        ask: impl AsyncFnOnce(&mut PgConnection) -> Result<T, DbError>,
    ) -> Result<T, DbError> {
        let mut cut = Cut::acquire(&self.readers).await?;
        let answer = ask(cut.connection()?).await;
        cut.keep();
        answer
    }

    async fn write(&self, batch: &[&Write]) -> Result<Applied, DbError> {
        let mut cut = Cut::acquire(&self.writers).await?;
        let mut transaction = cut.connection()?.begin().await?;
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

impl Store for PostgresStore {
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
        Box::pin(self.read(async move |db| Ok(db.ping().await?)))
    }

    fn apply<'a>(&'a self, batch: &'a [&'a Write]) -> Asked<'a, Applied> {
        Box::pin(self.write(batch))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.readers.close().await;
            self.writers.close().await;
        })
    }

    fn write_lanes(&self) -> usize {
        WRITE_LANES
    }
}
