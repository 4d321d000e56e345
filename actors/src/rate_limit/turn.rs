//! What a turn costs: a request, and tokens whose number is known only when it is over.
//!
//! ```text
//! take_turn ── reserve ──▶ buckets          settle(real count) ──▶ what was too much flows back, what was too little is owed
//!     ╰──▶ TokenReserve ═▶ the turn ═▶ its end ──┤
//!                                           drop ──▶ all flows back
//! ```
//!
//! # When it breaks
//!
//! A reserve whose end gets lost (a crash, a full shard, a server that went away in between) stays spent, and has flowed
//! back after a window at the latest. A shard or a server that lost its memory meanwhile has given a burst away; what was
//! reserved before is given back to its new buckets all the same, up to another one.

use std::{fmt, sync::Arc};

use domain::{
    chat::ChatRequest,
    model_name::CanonicalName,
    principal::{Credential, Principal},
    quota::Quota,
};

use super::{
    Decision, LimitError, RateLimitHandle, Scope, Shards,
    key::{Charge, Charges, Key},
    message::RateLimitMessage,
};

/// How long a turn is going to be, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnSize {
    /// An estimate.
    pub prompt_tokens: u32,
    /// The most that the answer may have, if its caller said so.
    pub answer_tokens: Option<u32>,
}

impl TurnSize {
    pub fn of(request: &ChatRequest) -> Self {
        Self { prompt_tokens: request.estimated_prompt_tokens(), answer_tokens: request.sampling.num_predict }
    }
}

/// The part of token buckets that a turn took in advance. Dropping it gives all of it back.
#[must_use = "a reserve that is dropped is given back"]
pub struct TokenReserve(Option<Open>);

struct Open {
    shards: Arc<Shards>,
    /// Decides the shard.
    payer: Key,
    holds: Vec<Hold>,
}

/// What was taken from one bucket in advance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hold {
    pub scope: Scope,
    pub key: Key,
    pub quota: Quota,
    pub amount: u32,
    pub kept: Kept,
}

/// Where a bucket was when something was taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// On the server that all instances share.
    Server,
    /// In this process.
    Own,
    /// In this process, in the bucket of those who found no room.
    Shared,
}

impl RateLimitHandle {
    /// Spends what a turn costs: a request of the principal's user, of its key and of this user with this model, and the
    /// tokens it may come to of the user and of the key, wherever there is such a limit; from all of them or from none.
    /// The decision is `None` when limits are off.
    ///
    /// Tokens are reserved: no more than a bucket ever holds, and until the reserve is settled.
    ///
    /// # Errors
    ///
    /// [`LimitError::Unavailable`]: fail the request.
    pub async fn take_turn(
        &self,
        principal: &Principal,
        model: &CanonicalName,
        size: TurnSize,
    ) -> Result<(Option<Decision>, TokenReserve), LimitError> {
        let Some(shards) = &self.0 else { return Ok((None, TokenReserve::none())) };
        let config = shards.live.load_full();
        let mut charges = config.requests_of(principal, 1);
        if let Some(quota) = config.model {
            let key = Key::of_model(principal.user, model);
            charges.more.push(Charge { scope: Scope::Model, key, quota, cost: 1 });
        }
        let answer = size.answer_tokens.unwrap_or(config.reserve_tokens);
        let cost = size.prompt_tokens.saturating_add(answer);
        let tokens = config.tokens_of(principal).into_iter().flatten();
        charges.more.extend(tokens.map(|(scope, key, quota)| Charge { scope, key, quota, cost }));
        let reserve = if charges.more.iter().any(|charge| charge.scope.counts_tokens()) {
            TokenReserve::open(shards, charges.first.key)
        } else {
            TokenReserve::none()
        };
        let taken = shards.take(charges, reserve).await?;
        Ok((Some(taken.decision), taken.reserve))
    }
}

impl super::RateLimitConfig {
    /// What `requests` of this principal spend: of the user and, if it has a quota of its own, of the key.
    pub(super) fn requests_of(&self, principal: &Principal, requests: u32) -> Charges {
        let quota = principal.limits.requests().unwrap_or(self.user);
        let mut charges = Charges::one(Scope::User, principal.user.into(), quota, requests);
        if let Credential::Key { id, limits, .. } = principal.credential
            && let Some(quota) = limits.requests()
        {
            charges.more.push(Charge { scope: Scope::Key, key: id.into(), quota, cost: requests });
        }
        charges
    }

    /// The buckets of this principal's tokens, where there is a limit.
    fn tokens_of(&self, principal: &Principal) -> [Option<(Scope, Key, Quota)>; 2] {
        let of_user = principal.limits.tokens().or(self.tokens);
        let of_key = match principal.credential {
            Credential::Key { id, limits, .. } => limits.tokens().map(|quota| (id.into(), quota)),
            Credential::Session(_) => None,
        };
        [
            of_user.map(|quota| (Scope::Tokens, principal.user.into(), quota)),
            of_key.map(|(key, quota)| (Scope::KeyTokens, key, quota)),
        ]
    }
}

impl TokenReserve {
    /// Of a turn that no limit of tokens concerns.
    pub const fn none() -> Self {
        Self(None)
    }

    /// Holds nothing yet.
    fn open(shards: &Arc<Shards>, payer: Key) -> Self {
        Self(Some(Open { shards: Arc::clone(shards), payer, holds: Vec::new() }))
    }

    /// Spends `tokens` in place of what was reserved; never waits.
    pub fn settle(mut self, tokens: u32) {
        self.end(tokens);
    }

    /// Notes what was taken.
    pub(super) fn hold(&mut self, holds: Vec<Hold>) {
        if let Some(open) = &mut self.0 {
            open.holds = holds;
        }
    }

    fn end(&mut self, spent: u32) {
        let Some(Open { shards, payer, holds }) = self.0.take() else { return };
        if holds.iter().all(|hold| hold.amount == spent) {
            return;
        }
        let told = shards.of(payer).tell(|permit| RateLimitMessage::Settle { payer, holds, spent, permit });
        if told.is_err() {
            shards.metrics.lost_settlements().inc();
        }
    }
}

impl Drop for TokenReserve {
    fn drop(&mut self) {
        self.end(0);
    }
}

impl fmt::Debug for TokenReserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holds = self.0.as_ref().map(|open| &open.holds);
        f.debug_tuple("TokenReserve").field(&holds).finish()
    }
}
