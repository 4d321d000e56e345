//! Where buckets live: the seam between a shard and its memory.
//!
//! A shard never awaits, so a backend is handed the *obligation to answer* instead of being asked for a value. One that
//! decides on the spot ([`memory`]) answers before it returns. One that has to ask a server ([`redis`]) queues the question
//! on its shard's own pipeline and returns; the task that drives the pipeline sends what waits as one batch, answers when
//! the replies come, and falls back to a [`memory`] backend of its own when they do not come in time. Such a pipeline
//! needs no bound of its own: every question holds a permit of the shard's gate.

pub(super) mod memory;
pub(super) mod redis;

use std::sync::Arc;

use super::message::RateLimitMessage;

/// The buckets, guesses and running turns of one shard.
pub(super) trait Backend: Send + 'static {
    /// Answers, now or later; never waits.
    fn ask(&mut self, question: RateLimitMessage);
}

/// Makes the backend for the next incarnation of the shard with this number.
pub(super) type MakeBackend = Arc<dyn Fn(usize) -> Box<dyn Backend> + Send + Sync>;
