//! Buckets, guesses and running turns on a Redis server that all instances share.
//!
//! ```text
//! shard ──▶ Pipeline (batch, 50 ms) ──▶ Link (one connection, one breaker) ──▶ Lua script
//!              ╰── late, refused or away ──▶ Memory of this shard
//! ```
//!
//! # When it breaks
//!
//! A server that is away, slow or full costs a question [`RateLimitConfig::redis_patience`] at most, and nothing once the
//! breaker is open. Meanwhile each instance counts alone: users, addresses, keys and models get the instance's share of their
//! limits, log-ins, sign-ups and guesses the whole of theirs. A question that timed out may have been counted by the server
//! all the same. What a turn reserved is settled where it was reserved: on the server, or here; a reserve made there whose turn
//! ends while the server is away stays spent, and so does one made here whose shard died. When the server is back, what was
//! spent meanwhile is forgotten; what it knew, it still knows, unless it restarted empty, which refills buckets and forgets
//! failures. Which turns of its own run, each instance knows anyway: it counts on from there while the server is away, and
//! tells a server that is back.

mod link;
mod memory_advice;
mod pipeline;
mod scripts;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use domain::secret::Secret;
use tokio::{sync::mpsc, time::Instant};

#[cfg(doc)]
use crate::rate_limit::RateLimitConfig;

use self::{
    link::Link,
    pipeline::{Pipeline, Waiting},
};
use super::{Backend, MakeBackend, memory::Memory};
use crate::{
    rate_limit::{
        config::LiveLimits,
        message::RateLimitMessage,
        metrics::{Metrics, RedisMetrics},
    },
    redis::client,
    room::RoomContext,
    system::StartError,
};

/// One shard's way to the server.
struct Redis {
    questions: mpsc::UnboundedSender<Waiting>,
    patience: Duration,
}

impl Backend for Redis {
    fn ask(&mut self, question: RateLimitMessage) {
        let until = Instant::now() + self.patience;
        // The other end lives as long as this one, unless it panicked: then the asker is told at once that nobody answers.
        let _ = self.questions.send(Waiting { question, until });
    }
}

/// Asks the server at `url` whether it is there.
///
/// # Errors
///
/// Why not, for the operator; never with the address, which holds credentials.
pub(crate) async fn look(url: &Secret<String>) -> Result<(), String> {
    let client = client(url)?;
    let asked = async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("PING").query_async::<String>(&mut connection).await
    };
    asked.await.map(drop).map_err(|error| format!("cannot be asked: {}", error.category()))
}

/// Makes the shards' backends on the server at `url`; that it is away is no error.
pub(in crate::rate_limit) async fn connect(
    ctx: &RoomContext,
    url: &Secret<String>,
    live: LiveLimits,
    metrics: Metrics,
    numbers: RedisMetrics,
) -> Result<MakeBackend, StartError> {
    let client = client(url).map_err(|error| StartError::Config(error.to_owned()))?;
    let config = live.load_full();
    let link = Link::start(client, config.redis_patience, numbers.clone(), ctx).await;
    let tracker = ctx.tracker.clone();
    Ok(Arc::new(move |shard| {
        let (questions, waiting) = mpsc::unbounded_channel();
        let pipeline = Pipeline {
            questions: waiting,
            link: Arc::clone(&link),
            fallback: Memory::new(&live, metrics.shard(shard)),
            instances: config.instance_count.max(1),
            stream_lease: config.stream_lease,
            metrics: numbers.clone(),
            lost_settlements: metrics.lost_settlements().clone(),
        };
        tracker.spawn(pipeline.run());
        Box::new(Redis { questions, patience: config.redis_patience })
    }))
}
