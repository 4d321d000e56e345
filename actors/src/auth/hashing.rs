//! What the password room is asked, and what its refusals are to a caller of this one.

use domain::{account::PasswordHash, password::Password};

use super::{AuthError, Room, throttle::Try};
use crate::password::{PasswordError, Verified};

impl Room {
    pub(super) async fn hash(&self, password: Password) -> Result<PasswordHash, AuthError> {
        self.passwords.hash(password).await.map_err(|error| self.password_failed(error))
    }

    /// Compares with the hash of an account, or with nobody's; a try that could not be looked at does not count.
    pub(super) async fn verify<'a>(
        &self,
        attempt: Try<'a>,
        password: Password,
        hash: Option<PasswordHash>,
    ) -> Result<(Try<'a>, Verified), AuthError> {
        match self.passwords.verify(password, hash).await {
            Ok(verified) => Ok((attempt, verified)),
            Err(error) => {
                attempt.never_was();
                Err(self.password_failed(error))
            }
        }
    }

    fn password_failed(&self, error: PasswordError) -> AuthError {
        match error {
            PasswordError::Overloaded => AuthError::Overloaded { retry_after: self.passwords.retry_after() },
            PasswordError::Unavailable => AuthError::Unavailable(error.to_string()),
        }
    }
}
