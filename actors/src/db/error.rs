//! The ways the db room fails.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DbError {
    #[error("the queue of the database is full")]
    Overloaded,
    /// There is no connection to the database to be had: nothing was asked of it, and nothing written.
    #[error("the database is away: {0}")]
    Away(String),
    /// The database failed, or a worker died with the job: whether a write happened is unknown.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    #[error("already exists: {0}")]
    Conflict(&'static str),
    #[error("not found")]
    NotFound,
    #[error("the database did not answer in time")]
    Timeout,
    /// A query or a stored value that should not be possible.
    #[error("broken query or row: {0}")]
    Broken(String),
}

/// What ails the database, by a sign of life that it did not give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ailment {
    /// It does not answer.
    Silent(DbError),
    /// It answers, but changes come to nothing.
    Unwritable(DbError),
}

impl DbError {
    /// Somebody else's change came first, and ours was undone: it is to be tried again.
    pub(super) const LOST_RACE: Self = Self::Conflict("what somebody else is changing");

    /// Its word in traces.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::Away(_) | Self::Unavailable(_) => "unavailable",
            Self::Conflict(_) => "conflict",
            Self::NotFound => "not_found",
            Self::Timeout => "timeout",
            Self::Broken(_) => "broken",
        }
    }

    /// What a change is told that was not begun because of this.
    pub(super) fn not_begun(&self) -> Self {
        match self {
            Self::Away(cause) | Self::Unavailable(cause) => Self::Away(cause.clone()),
            other => Self::Away(other.to_string()),
        }
    }

    /// Whether the database, not the request, is at fault: nothing else will fare better right now.
    pub(super) const fn is_away(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Unavailable(_) | Self::Timeout)
    }
}
