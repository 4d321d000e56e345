//! What the room's actors can be asked.

use domain::id::SessionId;
use ractor::RpcReplyPort;

use super::sessions::Truth;
use crate::handle::Permit;

/// Why the truth about a session is not known.
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
    /// Is this session alive? Everybody who asks while the store is being asked gets the same answer.
    Check { session: SessionId, waiter: Waiter },
    /// From the look-up itself: what the store said.
    Checked { session: SessionId, found: Result<Truth, Unknown> },
}

pub(super) enum CacheMessage {
    /// Forget what has not been used lately.
    Age,
}
