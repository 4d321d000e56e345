//! What a shard can be asked.

use ractor::RpcReplyPort;

use super::{Decision, key::Payer};
use crate::handle::Permit;

pub(super) enum RateLimitMessage {
    /// Spends `cost` from the bucket of `payer`, or nothing.
    Take { payer: Payer, cost: u32, answer: Answer },
}

/// The obligation to answer one question, and the place in the mailbox that it holds until then.
///
/// Dropping it tells the caller at once that nobody will answer.
pub(super) struct Answer {
    permit: Permit,
    port: RpcReplyPort<Decision>,
}

impl Answer {
    pub(super) const fn new(permit: Permit, port: RpcReplyPort<Decision>) -> Self {
        Self { permit, port }
    }

    pub(super) fn send(self, decision: Decision) {
        // The place is free before the caller knows, so that whoever has an answer finds room for the next question.
        drop(self.permit);
        // A caller that left has no use for its answer; what it spent stays spent.
        let _ = self.port.send(decision);
    }
}
