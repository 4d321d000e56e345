//! Buckets, guesses and running turns in the shard's own memory: exact, bounded, gone with the shard.

mod buckets;
mod guesses;
mod streams;
mod table;
#[cfg(test)]
mod tests;

use domain::{id::TurnId, quota::Micros};
use tokio::time::Instant;

use self::{buckets::Buckets, guesses::Accounts, streams::Streams};
use super::Backend;
use crate::rate_limit::{
    config::LiveLimits,
    key::Key,
    message::{RateLimitMessage, Taken},
    metrics::ShardMetrics,
};

/// Decides at once, by the monotonic clock.
pub(in crate::rate_limit) struct Memory {
    origin: Instant,
    buckets: Buckets,
    accounts: Accounts,
    streams: Streams,
}

impl Memory {
    pub(in crate::rate_limit) fn new(live: &LiveLimits, metrics: &ShardMetrics) -> Self {
        let config = live.load();
        Self {
            origin: Instant::now(),
            buckets: Buckets::new(live, metrics),
            accounts: Accounts::new(config.accounts_per_shard, metrics.accounts.clone()),
            streams: Streams::new(config.keys_per_shard, config.stream_lease, metrics.streams.clone()),
        }
    }
}

impl Memory {
    /// Takes somebody else's word that these turns run.
    pub(in crate::rate_limit) fn renew(&mut self, user: Key, turns: &[TurnId]) {
        self.streams.renew(self.now(), user, turns);
    }

    fn now(&self) -> Micros {
        Micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

impl Backend for Memory {
    fn ask(&mut self, question: RateLimitMessage) {
        let now = self.now();
        match question {
            RateLimitMessage::Take { charges, mut reserve, answer } => {
                let (decision, holds) = self.buckets.pay(now, &charges);
                reserve.hold(holds);
                answer.send(Taken { decision, reserve });
            }
            RateLimitMessage::Settle { holds, spent, permit: _permit, .. } => {
                for hold in holds {
                    self.buckets.settle(now, &hold, spent);
                }
            }
            RateLimitMessage::Guess { account, network, is_known, answer } => {
                answer.send(self.accounts.admit(now, account, network, is_known).into());
            }
            RateLimitMessage::Looked { account, network, end, permit: _permit } => {
                self.accounts.looked(account, network, end);
            }
            RateLimitMessage::Lease { user, turn, cap, answer } => {
                answer.send(self.streams.lease(now, user, turn, cap));
            }
            RateLimitMessage::Release { user, turn, permit: _permit } => self.streams.release(user, turn),
            RateLimitMessage::Renew { user, turns, permit: _permit } => {
                self.streams.renew(now, user, &turns);
            }
        }
    }
}
