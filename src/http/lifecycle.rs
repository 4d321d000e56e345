//! The phases of a listener's end, each begun once and never taken back.

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Clones share the phases and the tracker of all connection tasks.
#[derive(Clone, Default)]
pub(crate) struct Lifecycle {
    /// Every reply is its connection's last, so that proxies come back by new connections or elsewhere.
    pub(crate) closing: CancellationToken,
    /// Nothing is accepted any more; idle connections close, busy ones close after their reply.
    pub(crate) draining: CancellationToken,
    /// Replies still running end now, telling their clients why.
    pub(crate) ending: CancellationToken,
    /// Connections still open are dropped.
    pub(crate) ended: CancellationToken,
    pub(crate) tasks: TaskTracker,
}
