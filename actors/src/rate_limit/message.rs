//! What a shard can be asked.

use domain::session::Network;
use ractor::RpcReplyPort;

use super::{
    Decision,
    guess::{AccountTag, Guess},
    key::Charges,
};
use crate::handle::Permit;

pub(super) enum RateLimitMessage {
    Take {
        charges: Charges,
        answer: Answer<Decision>,
    },
    /// Counts a look at a password in advance, or refuses it.
    Guess {
        account: AccountTag,
        network: Network,
        is_known: bool,
        answer: Answer<Guess>,
    },
    /// What became of a look.
    Looked {
        account: AccountTag,
        network: Network,
        end: LookEnd,
        permit: Permit,
    },
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
