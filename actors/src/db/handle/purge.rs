//! Removal of what nobody needs any more, in steps short enough for others to write between two of them.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::db::{DbError, DbHandle, message::Write};

impl DbHandle {
    /// Removes sessions that were ended, or expired, before this time; how many. If `limit`, there may be more.
    ///
    /// One that merely rested too long goes when it has expired. There are few of those: an account has at most
    /// [`SESSIONS_PER_USER`](domain::session::SESSIONS_PER_USER) sessions that have not ended.
    ///
    /// # Errors
    ///
    /// Nothing is lost: ask again later.
    pub async fn purge_sessions(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, DbError> {
        self.write(Uuid::nil(), Write::PurgeSessions { before, limit }).await
    }

    /// Throws away conversations in which nothing was said since then, the oldest first; how many. If `limit`, there may be
    /// more.
    ///
    /// # Errors
    ///
    /// As for [`DbHandle::purge_sessions`].
    pub async fn retire_conversations(
        &self,
        before: DateTime<Utc>,
        now: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, DbError> {
        self.write(Uuid::nil(), Write::RetireConversations { before, now, limit }).await
    }

    /// Removes a bounded part of the conversations of deleted accounts and of those thrown away; how many rows it touched. If any, there may be
    /// more. Their usage stays in the ledger.
    ///
    /// # Errors
    ///
    /// As for [`DbHandle::purge_sessions`].
    pub async fn purge_conversations(&self) -> Result<u64, DbError> {
        self.write(Uuid::nil(), Write::PurgeConversations).await
    }
}
