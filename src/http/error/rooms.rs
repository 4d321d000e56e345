//! What the rooms' errors look like to clients.
//!
//! They are matched exhaustively, so a new way to fail does not compile until somebody decides its status.

use actors::{auth::AuthError, db::DbError, model::ModelError, ops::OpsError, rate_limit::LimitError};
use domain::kind::Kind;
use http::StatusCode;

use super::{ApiError, Code};

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::MalformedEmail => Self::invalid("this is not an e-mail address").at("email"),
            AuthError::WeakPassword(why) => {
                let message = format!("choose another password: {why}");
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::InvalidRequest, Kind::Invalid, message)
                    .at("password")
            }
            AuthError::EmailTaken => {
                let message = "there is already an account with this e-mail address";
                Self::new(StatusCode::CONFLICT, Code::Conflict, Kind::Conflict, message).at("email")
            }
            AuthError::BadCredentials => {
                let message = "wrong e-mail address or password";
                Self::new(StatusCode::UNAUTHORIZED, Code::Unauthenticated, Kind::Unauthenticated, message)
            }
            AuthError::BadToken => {
                let message = "the token is not valid, or no longer";
                Self::new(StatusCode::UNAUTHORIZED, Code::Unauthenticated, Kind::Unauthenticated, message)
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
            ModelError::UserQueueFull { retry_after } => {
                let message = "too many of your turns are waiting for this model";
                Self::new(StatusCode::TOO_MANY_REQUESTS, Code::RateLimited, Kind::Limited, message)
                    .retry_after(retry_after)
            }
            ModelError::QueueFull { retry_after } => {
                let message = "the queue of this model is full";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Overloaded, Kind::Overloaded, message)
                    .retry_after(retry_after)
            }
            ModelError::NoRoom(what) => Self::overloaded().caused_by(what),
            ModelError::Degraded => Self::unavailable().caused_by("the model is degraded"),
            ModelError::Unavailable(cause) => Self::unavailable().caused_by(cause),
            ModelError::ShuttingDown => Self::shutting_down(),
            ModelError::Internal(cause) => Self::internal(cause),
        }
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Overloaded => Self::overloaded().caused_by("the queue of the database is full"),
            DbError::Unavailable(cause) => Self::unavailable().caused_by(cause),
            DbError::Timeout => Self::unavailable().caused_by("the database did not answer in time"),
            DbError::Conflict(what) => {
                let message = "this already exists";
                Self::new(StatusCode::CONFLICT, Code::Conflict, Kind::Conflict, message).caused_by(what)
            }
            DbError::NotFound => Self::not_found("there is no such thing"),
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

impl From<OpsError> for ApiError {
    fn from(OpsError: OpsError) -> Self {
        Self::unavailable().caused_by("the ops room is unavailable")
    }
}
