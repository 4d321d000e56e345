//! The ways a turn is refused before it begins.

use std::time::Duration;

use domain::id::TurnId;

use crate::db::DbError;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    #[error("no model {0}")]
    UnknownModel(String),
    #[error("no such conversation")]
    UnknownConversation,
    #[error("no such turn")]
    UnknownTurn,
    #[error("the answer has no such position")]
    NoSuchPosition,
    #[error("the turn has as many readers as one may have")]
    TooManyReaders,
    /// This `Idempotency-Key` was given with another request.
    #[error("the key stands for another request")]
    KeyTaken,
    /// This request's key stands for this turn already, which another instance began meanwhile; attach to it.
    #[error("the key stands for turn {0}")]
    Exists(TurnId),
    /// The conversation has no such message that the turn could follow.
    #[error("no such parent")]
    UnknownParent,
    /// The answer that the turn would follow is still being written.
    #[error("the parent is being written")]
    ParentUnderWay,
    /// Nothing new was said, and what the turn follows is no message that a model answers.
    #[error("nothing to answer")]
    NothingToAnswer,
    /// This user has as many turns waiting as one user may.
    #[error("too many turns of this user are waiting")]
    UserQueueFull { retry_after: Duration },
    #[error("the queue of the model is full")]
    QueueFull { retry_after: Duration },
    /// By the measured service rate the turn would not start before its deadline.
    #[error("the turn cannot start before its deadline")]
    CannotStartInTime { retry_after: Duration },
    /// The reply budget, the settlement lane or the database has no room now.
    #[error("no room: {0}")]
    NoRoom(&'static str),
    /// Its server fails; whether it is back is known then.
    #[error("the model server is away")]
    ServerAway { retry_after: Duration },
    /// An operator lets no turns begin on any of its servers.
    #[error("the model's servers are being drained")]
    Draining { retry_after: Duration },
    #[error("the model is degraded")]
    Degraded,
    /// There is no store to begin a turn in: nothing of it was written.
    #[error("the store is away: {0}")]
    StoreAway(String),
    /// Whether anything of it was written is unknown.
    #[error("the model room is unavailable: {0}")]
    Unavailable(String),
    #[error("the service is shutting down")]
    ShuttingDown,
    #[error("broken: {0}")]
    Internal(String),
}

impl From<DbError> for ModelError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::NotFound => Self::UnknownConversation,
            DbError::Overloaded => Self::NoRoom("the queue of the database is full"),
            DbError::Away(cause) => Self::StoreAway(cause),
            DbError::Unavailable(_) | DbError::Timeout => Self::Unavailable(error.to_string()),
            DbError::Conflict(_) | DbError::Broken(_) => Self::Internal(error.to_string()),
        }
    }
}
