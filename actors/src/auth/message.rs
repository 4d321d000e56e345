//! What the room's actors can be asked.

use ractor::RpcReplyPort;

use super::truth::{Subject, Truth};
use crate::handle::Permit;

/// Why the truth about a session or key is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// The store is away or full.
    StoreAway,
    /// The store answered with something that cannot be.
    Broken,
}

/// A caller that waits for the truth; it keeps its place until it is answered.
pub(super) struct Waiter {
    pub(super) reply: RpcReplyPort<Result<Truth, Unknown>>,
    pub(super) permit: Permit,
}

pub(super) enum AuthMessage {
    /// Is it alive? Everybody who asks while the store is being asked gets the same answer.
    Check { subject: Subject, waiter: Waiter },
    /// From the look-up itself: what the store said.
    Checked { subject: Subject, found: Result<Truth, Unknown> },
    /// Tell the store what has been used since the last time.
    Note,
}

pub(super) enum CacheMessage {
    /// Forget what has not been used lately.
    Age,
}

pub(super) enum PurgeMessage {
    /// Remove a batch of what nobody needs any more.
    Purge,
}

pub(super) enum KeySetMessage {
    /// Look at the list of generations again.
    Look,
}
