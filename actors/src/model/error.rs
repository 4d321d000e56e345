//! The ways a turn is refused before it begins.

use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    #[error("no model {0}")]
    UnknownModel(String),
    #[error("no such conversation")]
    UnknownConversation,
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
    #[error("the model is degraded")]
    Degraded,
    #[error("the model room is unavailable: {0}")]
    Unavailable(String),
    #[error("the service is shutting down")]
    ShuttingDown,
    #[error("broken: {0}")]
    Internal(String),
}
