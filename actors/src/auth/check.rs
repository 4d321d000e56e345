//! The way of every request: from an access token to a principal, or not.

use std::time::Duration;

use domain::{id::SessionId, principal::Principal};
use tokio::time::{Instant, timeout};

use super::{
    AuthError, PATH, Room,
    access_token::Grant,
    message::{AuthMessage, Unknown, Waiter},
    sessions::Truth,
    tokens::Checked,
};

/// How long a caller that could be served by what was known waits for something newer.
const PATIENCE: Duration = Duration::from_millis(250);

impl Room {
    pub(super) async fn authenticate(&self, token: &str) -> Result<Principal, AuthError> {
        let outcome = match self.verified.check(&self.tokens, token, self.clock.now()) {
            None => Err(AuthError::BadToken),
            Some(Checked::Known(grant)) => {
                self.metrics.remembered.inc();
                self.check_session(&grant).await
            }
            Some(Checked::Verified(grant)) => self.check_session(&grant).await,
        };
        match &outcome {
            Ok(_) => self.metrics.accepted.inc(),
            Err(AuthError::BadToken) => self.metrics.refused.inc(),
            Err(_) => self.metrics.unavailable.inc(),
        };
        outcome
    }

    async fn check_session(&self, grant: &Grant) -> Result<Principal, AuthError> {
        let now = Instant::now();
        let known = self.sessions.known(grant.session);
        match known {
            Some(truth) if self.sessions.is_fresh(&truth, now) && !truth.is_behind(grant) => {
                truth.principal(grant).ok_or(AuthError::BadToken)
            }
            _ => self.ask_about(grant, known.filter(|truth| truth.may_serve_stale(now)), now).await,
        }
    }

    /// Asks the store, by way of the actor; `fallback` is what may be believed if that fails.
    async fn ask_about(
        &self,
        grant: &Grant,
        fallback: Option<Truth>,
        now: Instant,
    ) -> Result<Principal, AuthError> {
        let asked = match fallback {
            None => self.ask(grant).await,
            Some(_) if self.sessions.is_store_away(now) => Err(unavailable("the store is away")),
            Some(_) => timeout(PATIENCE, self.ask(grant))
                .await
                .unwrap_or_else(|_| Err(unavailable("the store is slow"))),
        };
        match (asked, fallback) {
            (Ok(truth), _) if !truth.is_behind(grant) => truth.principal(grant).ok_or(AuthError::BadToken),
            // The store has lost what we once committed: the token is of a session that never was.
            (Ok(_), _) => Err(AuthError::BadToken),
            (Err(AuthError::Unavailable(_)), Some(truth)) => {
                self.metrics.stale.inc();
                truth.principal(grant).ok_or(AuthError::BadToken)
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn ask(&self, grant: &Grant) -> Result<Truth, AuthError> {
        let truth = self.ask_once(grant.session).await?;
        if !truth.is_behind(grant) {
            return Ok(truth);
        }
        // We joined a look-up from before the token was made; the next one begins after it.
        self.ask_once(grant.session).await
    }

    async fn ask_once(&self, session: SessionId) -> Result<Truth, AuthError> {
        if self.tree.is_degraded(PATH) {
            return Err(unavailable("its actors keep dying"));
        }
        let check = |permit, reply| AuthMessage::Check { session, waiter: Waiter { reply, permit } };
        match self.actor.ask(check).await {
            Ok(Ok(truth)) => Ok(truth),
            Ok(Err(Unknown::StoreAway)) => Err(unavailable("the store is away")),
            Ok(Err(Unknown::Broken)) => Err(AuthError::Internal("the stored session is broken".to_owned())),
            Err(error) => Err(unavailable(&error.to_string())),
        }
    }
}

fn unavailable(why: &str) -> AuthError {
    AuthError::Unavailable(why.to_owned())
}
