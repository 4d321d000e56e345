//! The ways the auth room says no.

use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("malformed e-mail address")]
    MalformedEmail,
    /// The password breaks the rules; the text says which, for the person choosing it.
    #[error("password refused: {0}")]
    WeakPassword(&'static str),
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// Unknown account, wrong password or disabled account: never said which.
    #[error("wrong e-mail or password")]
    BadCredentials,
    #[error("the token is not valid")]
    BadToken,
    /// Too many password hashes are waiting; try again after this long.
    #[error("too many sign-ins at once")]
    Overloaded { retry_after: Duration },
    #[error("the auth room is unavailable: {0}")]
    Unavailable(String),
    #[error("broken: {0}")]
    Internal(String),
}
