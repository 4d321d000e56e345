//! Guessing is slow (A6): nobody's password is looked at before their address, their network and the account have tries left.
//!
//! ```text
//! address's log-ins ──▶ network's and account's failures ──▶ known from this network? ──▶ look at the password
//! ```
//!
//! A try counts as a failure from the start, so that a thousand at once are not all looked at before the first has
//! failed; a caller that leaves meanwhile has guessed wrong. Whether the account exists changes nothing here.
//!
//! # When it breaks
//!
//! Without the rate limit room, or without the store when it must be asked, nothing is looked at:
//! [`AuthError::Unavailable`].

use std::net::IpAddr;

use chrono::TimeDelta;
use domain::{
    audit::{AuditEntry, AuditEvent},
    email::EmailAddress,
    session::Network,
};

use super::{AuthError, Origin, Room, audit::Culprit, error::store_failed};
use crate::rate_limit::{AccountTag, Decision, Guess, LimitError, RateLimitHandle};

/// How long a network that somebody signed in from stays familiar.
pub(super) const FAMILIAR: TimeDelta = TimeDelta::days(30);

/// A look at a password; a failure unless something else is said of it.
#[must_use = "a try that is dropped was a wrong guess"]
pub(super) struct Try<'a> {
    limits: &'a RateLimitHandle,
    /// `None` when it is not counted.
    counted: Option<(AccountTag, IpAddr)>,
}

impl Try<'_> {
    pub(super) fn was_right(self) {
        if let Some((account, address)) = self.counted {
            self.limits.guessed_right(account, address);
        }
    }

    /// The password could not be looked at, through no fault of the caller's.
    pub(super) fn never_was(self) {
        if let Some((account, address)) = self.counted {
            self.limits.guess_undone(account, address);
        }
    }
}

impl Room {
    /// Admits one look at the password of this account, whether there is one or not.
    pub(super) async fn admit_try(
        &self,
        email: &EmailAddress,
        origin: &Origin,
    ) -> Result<Try<'_>, AuthError> {
        let limits = &self.limits;
        // The command line: whoever holds the store need not guess.
        let Some(address) = origin.address else { return Ok(Try { limits, counted: None }) };
        if let Err(wait) = spent(limits.take_log_in(address).await)? {
            self.report_lock(Culprit::Network(Network::of(address)), email, origin).await;
            return Err(wait);
        }
        let account = self.keys.guess_tag(email);
        let mut guess = limits.guess(account, address, false).await.map_err(limiter_failed)?;
        if matches!(guess, Guess::Refused { by_account_alone: true, .. })
            && self.is_familiar(email, address).await?
        {
            guess = limits.guess(account, address, true).await.map_err(limiter_failed)?;
        }
        match guess {
            Guess::Admitted => Ok(Try { limits, counted: Some((account, address)) }),
            Guess::Refused { retry_after, .. } => {
                self.report_lock(Culprit::Account(account), email, origin).await;
                Err(AuthError::Throttled { retry_after })
            }
        }
    }

    /// Admits one more sign-up of an address (A5).
    pub(super) async fn admit_sign_up(&self, origin: &Origin) -> Result<(), AuthError> {
        let Some(address) = origin.address else { return Ok(()) };
        let taken = spent(self.limits.take_sign_up(address).await)?;
        let event = AuditEvent::ExcessRateLimitExceeded;
        if taken.is_err() && self.told.is_news(event, Culprit::Network(Network::of(address))) {
            let detail = Some("sign-ups of an address".to_owned());
            self.note(AuditEntry { detail, ..self.entry(event, origin) }, None);
        }
        taken
    }

    async fn is_familiar(&self, email: &EmailAddress, address: IpAddr) -> Result<bool, AuthError> {
        let since = self.clock.now() - FAMILIAR;
        self.db.knows_network(email.clone(), Network::of(address), since).await.map_err(store_failed)
    }

    /// Tells that somebody must wait before the next try.
    async fn report_lock(&self, culprit: Culprit, email: &EmailAddress, origin: &Origin) {
        if !self.told.is_news(AuditEvent::AuthnLoginLock, culprit) {
            return;
        }
        let (user, detail) = match culprit {
            // Asked for whether there is one or not, and only for the trail: the answer is the same.
            Culprit::Account(_) => {
                let found = self.db.account_by_email(email.clone()).await;
                let account = found.unwrap_or_else(|error| {
                    tracing::warn!(%error, "auth.lock.account_unknown");
                    None
                });
                (account.map(|account| account.user.id), "tries at an account")
            }
            _ => (None, "log-ins of an address"),
        };
        let entry = self.entry(AuditEvent::AuthnLoginLock, origin);
        self.note(AuditEntry { user, detail: Some(detail.to_owned()), ..entry }, Some(email));
    }
}

/// What a bucket said, as an error of the caller's to pass on or to tell of first.
fn spent(taken: Result<Option<Decision>, LimitError>) -> Result<Result<(), AuthError>, AuthError> {
    Ok(match taken.map_err(limiter_failed)? {
        Some(Decision { verdict, .. }) if !verdict.allowed => {
            Err(AuthError::Throttled { retry_after: verdict.retry_after })
        }
        Some(_) | None => Ok(()),
    })
}

fn limiter_failed(error: LimitError) -> AuthError {
    AuthError::Unavailable(error.to_string())
}
