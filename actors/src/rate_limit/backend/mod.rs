//! Where buckets live: the seam between a shard and its memory.
//!
//! A shard never awaits, so a backend is handed the *obligation to answer* instead of being asked for a value. One that
//! decides on the spot ([`memory`]) answers before it returns. One that has to ask a server (Redis) queues the question
//! on its shard's own pipeline and returns; the task that drives the pipeline sends what waits as one batch, answers when
//! the replies come, and falls back to a [`memory`] backend of its own when they do not come in time. Such a pipeline
//! needs no bound of its own: every [`Answer`] holds a permit of the shard's gate.

pub(super) mod memory;

use std::sync::Arc;

use super::{key::Payer, message::Answer};

/// The buckets of one shard.
pub(super) trait Backend: Send + 'static {
    /// Spends `cost` from the bucket of `payer`, or nothing, and answers, now or later; never waits.
    fn take(&mut self, payer: Payer, cost: u32, answer: Answer);
}

/// Makes the backend for the next incarnation of the shard with this number.
pub(super) type MakeBackend = Arc<dyn Fn(usize) -> Box<dyn Backend> + Send + Sync>;
