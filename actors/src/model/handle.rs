//! The room's public handle; which models it shows to whom is in [`super::choice`], how a turn begins in [`super::start`].

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Model, claims::Lines, lease::Leases, route::Route, router::Routing, turns::Turns};
use crate::{rate_limit::RateLimitHandle, reply::ReplyBudget, tree::Tree};

/// Asks the model room; clones share one room.
#[derive(Clone)]
pub struct ModelHandle(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub routing: Arc<Routing>,
    pub leases: Leases,
    pub limits: RateLimitHandle,
    pub budget: ReplyBudget,
    /// Those whose answer is in memory.
    pub turns: Arc<Turns>,
    pub lines: Arc<Lines>,
    /// Memory for all prompts, in KiB.
    pub prompts: Arc<Semaphore>,
    pub tree: Tree,
    pub closing: CancellationToken,
}

impl ModelHandle {
    /// All known models, by name. Served from a snapshot, also while model servers are down.
    pub fn models(&self) -> Vec<Model> {
        self.0.routing.table.load().0.values().map(|route| route.describe(self.is_degraded(route))).collect()
    }

    /// Bytes of all live answers, and their bound.
    pub fn reply_bytes(&self) -> (usize, usize) {
        (self.0.budget.used(), self.0.budget.limit())
    }

    pub(super) fn is_degraded(&self, route: &Route) -> bool {
        self.0.tree.is_degraded(&route.tree_path)
    }
}
