//! Why one change of a batch came to nothing.

use crate::db::DbError;

pub(super) enum Stop {
    /// Refused before anything of it was written: the transaction is whole, and the others in it go on.
    Refused(DbError),
    /// The transaction is lost.
    Failed(DbError),
}

impl Stop {
    /// Refuses what is missing.
    pub(super) const NOT_FOUND: Self = Self::Refused(DbError::NotFound);

    pub(super) const fn conflict(with: &'static str) -> Self {
        Self::Refused(DbError::Conflict(with))
    }
}

impl From<DbError> for Stop {
    fn from(error: DbError) -> Self {
        Self::Failed(error)
    }
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error.into())
    }
}
