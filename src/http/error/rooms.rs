//! What the rooms' errors look like to clients.
//!
//! They are matched exhaustively, so a new way to fail does not compile until somebody decides its status.

use actors::{
    auth::AuthError, db::DbError, model::ModelError, ops::OpsError, rate_limit::LimitError, relay::RelayError,
};

use super::{ApiError, RETRY_SOON};

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::MalformedEmail => Self::invalid("this is not an e-mail address").at("email"),
            AuthError::WeakPassword(why) => {
                Self::unfit(format!("choose another password: {why}")).at("password")
            }
            AuthError::EmailTaken => {
                Self::conflict("there is already an account with this e-mail address").at("email")
            }
            AuthError::BadCredentials => Self::refused("wrong e-mail address or password"),
            AuthError::BadToken => Self::refused("the token is not valid, or no longer"),
            AuthError::NeedsSession => Self::needs_session(),
            AuthError::NotFound(what) => Self::nothing().caused_by(what),
            AuthError::BadRequest { field, why } => Self::unfit(why).at(field),
            AuthError::TooMany(what) => Self::conflict(format!("this account has too many {what}")),
            AuthError::LastAdministrator => {
                Self::conflict("this is the last administrator: make another one first")
            }
            AuthError::NeedsInvite => Self::forbidden(
                "an invite is needed that is neither used nor expired: ask an administrator for one",
            )
            .at("invite"),
            AuthError::SignUpClosed => {
                Self::forbidden("sign-up is closed: ask an administrator for an account")
            }
            AuthError::Throttled { retry_after } => {
                Self::limited("too many tries; wait as long as Retry-After says", retry_after)
            }
            AuthError::Overloaded { retry_after } => Self::overloaded().retry_after(retry_after),
            AuthError::Unavailable(cause) => Self::unavailable().caused_by(cause),
            AuthError::Internal(cause) => Self::internal(cause),
        }
    }
}

impl From<ModelError> for ApiError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::UnknownModel(name) => Self::model_not_found(&name),
            ModelError::UnknownConversation => {
                Self::not_found("there is no such conversation").at("conversation_id")
            }
            ModelError::UnknownTurn => Self::not_found("there is no such turn"),
            ModelError::NoSuchPosition => Self::no_such_position(),
            ModelError::TooManyReaders => {
                Self::limited("this turn has as many readers as one may have", RETRY_SOON)
            }
            ModelError::KeyTaken => Self::key_taken(),
            ModelError::Exists(turn) => Self::conflict("another request with this Idempotency-Key was first")
                .caused_by(turn.to_string()),
            ModelError::UnknownParent => {
                Self::not_found("there is no such message in this conversation").at("parent_id")
            }
            ModelError::ParentUnderWay => {
                Self::conflict("the answer that this would follow is still being written").at("parent_id")
            }
            ModelError::NothingToAnswer => Self::invalid(
                "`messages` may be empty only where `parent_id` names a message of a user or a tool, to answer it anew",
            )
            .at("messages"),
            ModelError::UserQueueFull { retry_after } => {
                Self::limited("too many of your turns are waiting for this model", retry_after)
            }
            ModelError::QueueFull { retry_after } => {
                Self::full("the queue of this model is full", retry_after).paced()
            }
            ModelError::CannotStartInTime { retry_after } => {
                Self::full("this model is too busy to begin before the request's time is over", retry_after)
                    .paced()
            }
            ModelError::NoRoom(what) => Self::overloaded().caused_by(what),
            ModelError::ServerAway { retry_after } => {
                Self::full("the model server is away; try again later", retry_after)
            }
            ModelError::Draining { retry_after } => {
                Self::full("this model's servers take no new turns now; try again later", retry_after)
            }
            ModelError::Degraded => Self::unavailable().caused_by("the model is degraded"),
            ModelError::StoreAway(cause) | ModelError::Unavailable(cause) => Self::unavailable().caused_by(cause),
            ModelError::ShuttingDown => Self::shutting_down(),
            ModelError::Internal(cause) => Self::internal(cause),
        }
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Overloaded => Self::overloaded().caused_by("the queue of the database is full"),
            DbError::Away(cause) | DbError::Unavailable(cause) => Self::unavailable().caused_by(cause),
            DbError::Timeout => Self::unavailable().caused_by("the database did not answer in time"),
            DbError::Conflict(what) => Self::conflict("this already exists").caused_by(what),
            DbError::NotFound => Self::nothing(),
            DbError::Broken(cause) => Self::internal(cause),
        }
    }
}

impl From<LimitError> for ApiError {
    fn from(error: LimitError) -> Self {
        match error {
            LimitError::Unavailable => Self::unavailable().caused_by("the rate limiter is unavailable"),
        }
    }
}

impl From<RelayError> for ApiError {
    fn from(error: RelayError) -> Self {
        match error {
            RelayError::Full => Self::overloaded().caused_by("too many turns of other instances are read"),
        }
    }
}

impl From<OpsError> for ApiError {
    fn from(OpsError: OpsError) -> Self {
        Self::unavailable().caused_by("the ops room is unavailable")
    }
}
