//! Buckets and guesses in the shard's own memory: exact, bounded, gone with the shard.

mod buckets;
mod guesses;
mod table;
#[cfg(test)]
mod tests;

use domain::quota::Micros;
use tokio::time::Instant;

use self::{buckets::Buckets, guesses::Accounts};
use super::Backend;
use crate::rate_limit::{RateLimitConfig, message::RateLimitMessage, metrics::ShardMetrics};

/// Decides at once, by the monotonic clock.
pub(in crate::rate_limit) struct Memory {
    origin: Instant,
    buckets: Buckets,
    accounts: Accounts,
}

impl Memory {
    pub(in crate::rate_limit) fn new(config: &RateLimitConfig, metrics: &ShardMetrics) -> Self {
        Self {
            origin: Instant::now(),
            buckets: Buckets::new(config, metrics),
            accounts: Accounts::new(config.accounts_per_shard, metrics.accounts.clone()),
        }
    }
}

impl Backend for Memory {
    fn ask(&mut self, question: RateLimitMessage) {
        let micros = self.origin.elapsed().as_micros();
        let now = Micros(u64::try_from(micros).unwrap_or(u64::MAX));
        match question {
            RateLimitMessage::Take { charges, answer } => answer.send(self.buckets.take(now, &charges)),
            RateLimitMessage::Guess { account, network, is_known, answer } => {
                answer.send(self.accounts.admit(now, account, network, is_known).into());
            }
            RateLimitMessage::Looked { account, network, end, permit: _permit } => {
                self.accounts.looked(account, network, end);
            }
        }
    }
}
