//! The published address of an actor that may be restarted.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use ractor::{ActorRef, Message};

/// Names the current incarnation of one actor; clones share it.
///
/// The spawn closure publishes each new incarnation. A dead address may stay here until then: sending to it
/// fails at once, so nobody needs to clear it.
pub struct Slot<M: Message>(Arc<ArcSwapOption<ActorRef<M>>>);

impl<M: Message> Clone for Slot<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Message> Default for Slot<M> {
    fn default() -> Self {
        Self(Arc::new(ArcSwapOption::empty()))
    }
}

impl<M: Message> Slot<M> {
    /// Makes a slot nobody answers at yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the address; calls that start from now on go to `actor`.
    pub fn publish(&self, actor: ActorRef<M>) {
        self.0.store(Some(Arc::new(actor)));
    }

    /// Forgets the address, so that calls fail with [`AskError::Down`](super::AskError::Down).
    pub fn clear(&self) {
        self.0.store(None);
    }

    /// The current address, which may have died a moment ago.
    pub fn load(&self) -> Option<Arc<ActorRef<M>>> {
        self.0.load_full()
    }
}
