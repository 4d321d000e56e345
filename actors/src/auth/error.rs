//! The ways the auth room says no.

use std::time::Duration;

use domain::password::WeakPassword;

use crate::db::DbError;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("malformed e-mail address")]
    MalformedEmail,
    /// The password breaks the rules; it says which, for the person choosing it.
    #[error("password refused")]
    WeakPassword(#[from] WeakPassword),
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// Unknown account, wrong password or disabled account: never said which.
    #[error("wrong e-mail or password")]
    BadCredentials,
    #[error("the token is not valid")]
    BadToken,
    /// Only somebody who signed in may do this; a key may not.
    #[error("this needs a session")]
    NeedsSession,
    /// There is none, or it is not the caller's.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// A field will not do; the text is for the person who wrote it.
    #[error("{field}: {why}")]
    BadRequest { field: &'static str, why: &'static str },
    /// The account has as many as it may have; the text says of what.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// Nobody could administer the service afterwards.
    #[error("this is the last administrator")]
    LastAdministrator,
    /// Accounts are made by invitation, and this one is missing, spent or expired.
    #[error("an invite is needed")]
    NeedsInvite,
    /// No accounts are made at all.
    #[error("sign-up is closed")]
    SignUpClosed,
    /// Too many tries from this address or at this account; the next one is looked at after this long.
    #[error("too many tries")]
    Throttled { retry_after: Duration },
    /// Too many password hashes are waiting; try again after this long.
    #[error("too many sign-ins at once")]
    Overloaded { retry_after: Duration },
    #[error("the auth room is unavailable: {0}")]
    Unavailable(String),
    #[error("broken: {0}")]
    Internal(String),
}

/// What a failure of the store is to a caller of this room. Conflicts are the caller's to tell apart first.
pub(super) fn store_failed(error: DbError) -> AuthError {
    match error {
        DbError::Overloaded | DbError::Away(_) | DbError::Unavailable(_) | DbError::Timeout => {
            AuthError::Unavailable(error.to_string())
        }
        DbError::Conflict(_) | DbError::NotFound | DbError::Broken(_) => {
            AuthError::Internal(error.to_string())
        }
    }
}
