//! Keys with which a caller asks again, and the turns they stand for. They are taken by
//! [`begin_turn`](DbHandle::begin_turn).

use chrono::{DateTime, Utc};
use domain::id::{TurnId, UserId};
use uuid::Uuid;

use crate::db::{DbError, DbHandle, message::Write};

impl DbHandle {
    /// The turn that a key of this user's stands for, and the request it was first asked with.
    pub async fn claimed(&self, user: UserId, key: [u8; 32]) -> Result<Option<(TurnId, [u8; 32])>, DbError> {
        self.read(move |store| store.claimed(user, key)).await
    }

    /// Frees keys that were taken before this time; how many. If `limit`, there may be more.
    ///
    /// # Errors
    ///
    /// Nothing is lost: ask again later.
    pub async fn release_claims_before(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, DbError> {
        self.write(Uuid::nil(), Write::ReleaseClaims { before, limit }).await
    }
}
