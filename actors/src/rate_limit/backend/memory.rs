//! Buckets in the shard's own memory: exact, bounded, gone with the shard.

mod table;
#[cfg(test)]
mod tests;

use domain::quota::Micros;
use tokio::time::Instant;

use self::table::Table;
use super::Backend;
use crate::rate_limit::{Decision, RateLimitConfig, key::Payer, message::Answer, metrics::ShardMetrics};

/// Decides at once, by the monotonic clock.
pub(in crate::rate_limit) struct Memory {
    origin: Instant,
    buckets: Buckets,
}

impl Memory {
    pub(in crate::rate_limit) fn new(config: &RateLimitConfig, metrics: ShardMetrics) -> Self {
        Self { origin: Instant::now(), buckets: Buckets::new(config, metrics) }
    }
}

impl Backend for Memory {
    fn take(&mut self, payer: Payer, cost: u32, answer: Answer) {
        let micros = self.origin.elapsed().as_micros();
        let now = Micros(u64::try_from(micros).unwrap_or(u64::MAX));
        answer.send(self.buckets.take(now, payer, cost));
    }
}

/// One table per scope, so that a flood of addresses cannot push users out of theirs.
struct Buckets {
    address: Table,
    user: Table,
}

impl Buckets {
    fn new(config: &RateLimitConfig, metrics: ShardMetrics) -> Self {
        Self {
            address: Table::new(config.address, config.keys_per_shard, metrics.address),
            user: Table::new(config.user, config.keys_per_shard, metrics.user),
        }
    }

    /// Spends `cost` from the bucket of `payer`, or nothing. `now` must not run backwards between calls.
    fn take(&mut self, now: Micros, payer: Payer, cost: u32) -> Decision {
        let (table, key) = match payer {
            Payer::Address(key) => (&mut self.address, key),
            Payer::User(key) => (&mut self.user, key),
        };
        Decision { scope: payer.scope(), verdict: table.take(now, key, cost) }
    }
}
