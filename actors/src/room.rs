//! What every room is given when it is built.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{clock::Clock, handle::GateCollector, tree::Tree};

/// The surroundings of a room; clones share them.
#[derive(Clone)]
pub struct RoomContext {
    /// Prefix of all actor names, so that two systems can live in one process.
    pub system: Arc<str>,
    pub clock: Clock,
    /// Every task outside an actor runs on it; stopping waits for it to be empty.
    pub tracker: TaskTracker,
    /// Cancelled when shutdown begins: queued work is refused, streams get their grace.
    pub closing: CancellationToken,
    /// Each room registers its own metrics here while it is built.
    pub registry: Arc<Mutex<Registry>>,
    /// What operators see; written by supervisors.
    pub tree: Tree,
    /// Gates that want to be scraped.
    pub gates: GateCollector,
}

impl RoomContext {
    /// The surroundings of a whole system; what its tree and gates show is registered as metrics.
    pub fn new(system: &str, clock: Clock) -> Self {
        let (tree, gates) = (Tree::new(), GateCollector::new());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(tree.clone()));
        registry.register_collector(Box::new(gates.clone()));
        Self {
            system: system.into(),
            clock,
            tracker: TaskTracker::new(),
            closing: CancellationToken::new(),
            registry: Arc::new(Mutex::new(registry)),
            tree,
            gates,
        }
    }
}
