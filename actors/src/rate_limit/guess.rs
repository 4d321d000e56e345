//! Guessing passwords (A6): how long an account and a network wait after failures.

use std::{net::IpAddr, time::Duration};

use domain::{guessing::Wait, session::Network};

use super::{
    LimitError, RateLimitHandle,
    message::{Answer, LookEnd, RateLimitMessage},
    metrics::Outcome,
};
use crate::trace::Span;

/// A keyed hash of the normalised e-mail address, so that it says nothing to whoever reads memory or Redis; it is made for
/// accounts that do not exist, too.
pub type AccountTag = [u8; 16];

/// Whether a password may be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guess {
    /// Yes; it counts as a failure until [`RateLimitHandle::guessed_right`] or [`RateLimitHandle::guess_undone`].
    Admitted,
    /// Not before so long.
    Refused {
        retry_after: Duration,
        /// Whether it is only the account as a whole that waits: somebody from a network the account is known from may
        /// ask again, saying so.
        by_account_alone: bool,
    },
}

impl From<Result<(), Wait>> for Guess {
    fn from(judged: Result<(), Wait>) -> Self {
        match judged {
            Ok(()) => Self::Admitted,
            Err(Wait { retry_after, by_account_alone }) => Self::Refused { retry_after, by_account_alone },
        }
    }
}

impl RateLimitHandle {
    /// Asks whether a password for `account` may be looked at, and counts it as a failure if so. `is_known` tells that the
    /// account was signed in to from this network lately, which frees it of what strangers have done. Always
    /// [`Guess::Admitted`] when limits are off.
    ///
    /// # Errors
    ///
    /// [`LimitError::Unavailable`]: look at nothing.
    pub async fn guess(
        &self,
        account: AccountTag,
        address: IpAddr,
        is_known: bool,
    ) -> Result<Guess, LimitError> {
        let Some(shards) = &self.0 else { return Ok(Guess::Admitted) };
        let network = Network::of(address);
        let asked = Span::start("limits.guesses.take")
            .around(shards.of(account).ask(|permit, port| RateLimitMessage::Guess {
                account,
                network,
                is_known,
                answer: Answer::new(permit, port),
            }))
            .await;
        let (outcome, result) = match asked {
            Ok(Guess::Admitted) => (Outcome::Allowed, Ok(Guess::Admitted)),
            Ok(refused) => (Outcome::Refused, Ok(refused)),
            Err(_) => (Outcome::Unavailable, Err(LimitError::Unavailable)),
        };
        shards.metrics.guessed(outcome);
        result
    }

    /// The password was right: this network's failures at this account are forgotten, soon.
    pub fn guessed_right(&self, account: AccountTag, address: IpAddr) {
        self.looked(account, address, LookEnd::Right);
    }

    /// The password was not looked at after all: the failure counted in advance is taken back, soon.
    pub fn guess_undone(&self, account: AccountTag, address: IpAddr) {
        self.looked(account, address, LookEnd::Undone);
    }

    fn looked(&self, account: AccountTag, address: IpAddr, end: LookEnd) {
        let Some(shards) = &self.0 else { return };
        let network = Network::of(address);
        // What does not get through leaves failures that a day without one forgets.
        let _ = shards.of(account).tell(|permit| RateLimitMessage::Looked { account, network, end, permit });
    }
}
