//! What a shard can be asked.

use domain::{id::TurnId, session::Network};
use ractor::RpcReplyPort;

use super::{
    Decision, TokenReserve,
    guess::{AccountTag, Guess},
    key::{Charges, Key},
    turn::Hold,
};
use crate::{handle::Permit, trace::Carrier};

pub(super) enum RateLimitMessage {
    Take {
        charges: Charges,
        /// Comes back with the answer, with what it holds.
        reserve: TokenReserve,
        answer: Answer<Taken>,
    },
    /// What became of a reserve: it cost `spent`.
    Settle { payer: Key, holds: Vec<Hold>, spent: u32, permit: Permit },
    /// Counts a look at a password in advance, or refuses it.
    Guess { account: AccountTag, network: Network, is_known: bool, answer: Answer<Guess> },
    /// What became of a look.
    Looked { account: AccountTag, network: Network, end: LookEnd, permit: Permit },
    /// Whether a turn may run beside fewer than `cap` others of its user.
    Lease { user: Key, turn: TurnId, cap: u32, answer: Answer<bool> },
    /// A turn has ended, or never ran.
    Release { user: Key, turn: TurnId, permit: Permit },
    /// These turns still run.
    Renew { user: Key, turns: Vec<TurnId>, permit: Permit },
}

impl RateLimitMessage {
    /// Whom it is asked for.
    pub(super) const fn carrier(&self) -> &Carrier {
        match self {
            Self::Take { answer, .. } => answer.permit.carrier(),
            Self::Guess { answer, .. } => answer.permit.carrier(),
            Self::Lease { answer, .. } => answer.permit.carrier(),
            Self::Settle { permit, .. }
            | Self::Looked { permit, .. }
            | Self::Release { permit, .. }
            | Self::Renew { permit, .. } => permit.carrier(),
        }
    }

    /// What a trace calls it where a server is asked.
    pub(super) const fn span_name(&self) -> &'static str {
        match self {
            Self::Take { .. } => "redis.limits.take",
            Self::Settle { .. } => "redis.limits.settle",
            Self::Guess { .. } => "redis.guesses.take",
            Self::Looked { .. } => "redis.guesses.settle",
            Self::Lease { .. } => "redis.streams.lease",
            Self::Release { .. } => "redis.streams.release",
            Self::Renew { .. } => "redis.streams.renew",
        }
    }
}

/// Whoever does not wait for it any more gives what it reserved back by dropping it.
pub(super) struct Taken {
    pub decision: Decision,
    pub reserve: TokenReserve,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LookEnd {
    Right,
    /// Nobody looked.
    Undone,
}

/// The obligation to answer one question, and the place in the mailbox that it holds until then.
///
/// Dropping it tells the caller at once that nobody will answer.
pub(super) struct Answer<R> {
    permit: Permit,
    port: RpcReplyPort<R>,
}

impl<R> Answer<R> {
    pub(super) const fn new(permit: Permit, port: RpcReplyPort<R>) -> Self {
        Self { permit, port }
    }

    pub(super) fn send(self, answer: R) {
        // The place is free before the caller knows, so that whoever has an answer finds room for the next question.
        drop(self.permit);
        // A caller that left has no use for its answer; what it spent stays spent.
        let _ = self.port.send(answer);
    }
}
