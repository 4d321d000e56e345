//! Running streams per user (C7): a turn runs under a lease, and of one user only so many are out at once.
//!
//! ```text
//! worker ── lease_stream(user, turn, cap) ──▶ the user's shard ──▶ StreamLease ── drop ──▶ Release
//!                                                   ▲ Renew, every third of a lease's life
//!                                             LeaseActor
//! ```
//!
//! # When it breaks
//!
//! Leases run out on their own, so those of a process that died are free after [`RateLimitConfig::stream_lease`], and a
//! release that got lost costs its user no more than that. Renewing makes a lease anew that was forgotten, so a shard or
//! a server that restarted empty knows all that runs again after a third of that time; until then users may run more.
//!
//! [`RateLimitConfig::stream_lease`]: super::RateLimitConfig::stream_lease

use std::sync::Arc;

use domain::{
    id::{TurnId, UserId},
    principal::{Credential, Principal},
};

use super::{
    LimitError, RateLimitHandle, Shards,
    key::Key,
    message::{Answer, RateLimitMessage},
    metrics::Outcome,
};
use crate::trace::Span;

/// The right of one turn to run; dropping it gives the right back, soon and without waiting.
#[must_use = "a lease dropped early lets another turn run"]
pub struct StreamLease {
    /// `None` when limits are off.
    _held: Option<Held>,
}

/// What was asked for, from before the question on: whoever leaves before the answer keeps nothing.
struct Held {
    shards: Arc<Shards>,
    user: UserId,
    turn: TurnId,
}

impl RateLimitHandle {
    /// How many turns of this caller may run at once: what was set for the account, else for everybody; a key with a
    /// number of its own narrows that. At least one.
    pub fn streams_of(&self, principal: &Principal) -> u32 {
        let Some(shards) = &self.0 else { return u32::MAX };
        let account = principal.limits.streams.unwrap_or_else(|| shards.live.load().streams);
        let key = match principal.credential {
            Credential::Key { limits, .. } => limits.streams.unwrap_or(u32::MAX),
            Credential::Session(_) => u32::MAX,
        };
        account.min(key).max(1)
    }

    /// Lets `turn` run if fewer than `cap` others of `user` do, on all instances together; `None` if as many run as may.
    /// An empty lease when limits are off.
    ///
    /// Dropping the future gives back what it may have been granted.
    ///
    /// # Errors
    ///
    /// [`LimitError::Unavailable`]: nothing is known about what else runs. A turn that is lost is worse than one too many.
    pub async fn lease_stream(
        &self,
        user: UserId,
        turn: TurnId,
        cap: u32,
    ) -> Result<Option<StreamLease>, LimitError> {
        let Some(shards) = &self.0 else { return Ok(Some(StreamLease { _held: None })) };
        let held = Held { shards: Arc::clone(shards), user, turn };
        let key = Key::from(user);
        let asked = Span::start("limits.streams.lease")
            .around(shards.of(key).ask(|permit, port| RateLimitMessage::Lease {
                user: key,
                turn,
                cap,
                answer: Answer::new(permit, port),
            }))
            .await;
        let (outcome, result) = match asked {
            Ok(true) => {
                shards.leases.add(user, turn);
                (Outcome::Allowed, Ok(Some(StreamLease { _held: Some(held) })))
            }
            // Releasing what one does not have harms nobody, and frees what was granted behind a refusal that came late.
            Ok(false) => (Outcome::Refused, Ok(None)),
            Err(_) => (Outcome::Unavailable, Err(LimitError::Unavailable)),
        };
        shards.metrics.leased(outcome);
        result
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shards.leases.remove(self.user, self.turn, || {
            let (user, turn) = (Key::from(self.user), self.turn);
            // What does not get through runs out.
            let _ = self.shards.of(user).tell(|permit| RateLimitMessage::Release { user, turn, permit });
        });
    }
}
