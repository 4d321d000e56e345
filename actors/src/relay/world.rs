//! What the room needs of others: the turns that live here, and what the store knows of those that do not.

use domain::{
    id::{InstanceId, TurnId, UserId},
    reply::Answer,
    turn::StoredTurn,
};
use futures_util::future::BoxFuture;

use crate::{
    db::{DbError, DbHandle},
    reply::ReplyReader,
};

/// The turns of this instance.
pub(crate) trait LiveTurns: Send + Sync {
    /// Reads a turn of this user from its beginning without keeping it alive; `None`: it does not live here, or has too many
    /// readers.
    fn observe(&self, user: UserId, turn: TurnId) -> Option<ReplyReader>;

    /// Ends a turn as cancelled; says whether this is what ends it.
    fn cancel(&self, turn: TurnId) -> bool;

    fn is_empty(&self) -> bool;
}

/// The store, as far as turns of other instances go.
pub(crate) trait Records: Send + Sync {
    fn turn(
        &self,
        user: UserId,
        turn: TurnId,
    ) -> BoxFuture<'_, Result<Option<(StoredTurn, Answer)>, DbError>>;

    /// The running turns of `owner` that somebody wants ended.
    fn cancel_requests(&self, owner: InstanceId) -> BoxFuture<'_, Result<Vec<TurnId>, DbError>>;
}

impl Records for DbHandle {
    fn turn(
        &self,
        user: UserId,
        turn: TurnId,
    ) -> BoxFuture<'_, Result<Option<(StoredTurn, Answer)>, DbError>> {
        Box::pin(DbHandle::turn(self, user, turn))
    }

    fn cancel_requests(&self, owner: InstanceId) -> BoxFuture<'_, Result<Vec<TurnId>, DbError>> {
        Box::pin(DbHandle::cancel_requests(self, owner))
    }
}
