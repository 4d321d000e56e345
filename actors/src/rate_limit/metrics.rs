//! The room's numbers: decisions, keys remembered, and how often there was no room for one.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::Scope;

/// What guesses at passwords are called among the scopes of buckets.
const GUESS: &str = "guess";
/// What leases of running turns are called there.
const STREAM: &str = "stream";

#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    Allowed,
    Refused,
    Unavailable,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    scope: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeysLabels {
    scope: &'static str,
    shard: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OverflowLabels {
    scope: &'static str,
}

/// Resolved once: a decision costs one atomic addition and no lookup. Clones share the numbers.
#[derive(Clone)]
pub(super) struct Metrics(Arc<Inner>);

struct Inner {
    /// By [`Scope`].
    decisions: [Outcomes; Scope::ALL.len()],
    guesses: Outcomes,
    streams: Outcomes,
    leases: Gauge,
    lost_settlements: Counter,
    shards: Vec<ShardMetrics>,
}

struct Outcomes {
    allowed: Counter,
    refused: Counter,
    unavailable: Counter,
}

impl Outcomes {
    fn count(&self, outcome: Outcome) {
        match outcome {
            Outcome::Allowed => &self.allowed,
            Outcome::Refused => &self.refused,
            Outcome::Unavailable => &self.unavailable,
        }
        .inc();
    }
}

/// The numbers of one shard.
#[derive(Default)]
pub(super) struct ShardMetrics {
    /// By [`Scope`].
    buckets: [TableMetrics; Scope::ALL.len()],
    pub accounts: TableMetrics,
    /// Users with running turns.
    pub streams: TableMetrics,
}

impl ShardMetrics {
    pub(super) const fn of(&self, scope: Scope) -> &TableMetrics {
        &self.buckets[scope as usize]
    }
}

/// The numbers of one table of one shard.
#[derive(Clone, Default)]
pub(super) struct TableMetrics {
    pub keys: Gauge,
    pub overflow: Counter,
}

impl Metrics {
    pub(super) fn register(registry: &Mutex<Registry>, shards: usize) -> Self {
        let decisions = Family::<DecisionLabels, Counter>::default();
        let keys = Family::<KeysLabels, Gauge>::default();
        let overflow = Family::<OverflowLabels, Counter>::default();
        let leases = Gauge::default();
        let lost_settlements = Counter::default();
        {
            let mut registry = registry.lock();
            registry.register(
                "deepersensor_rate_limit_decisions",
                "Answers of the rate limiter, by what was counted. Worry when refused ones are many (limits too low, or one caller too busy) or any are \
                 unavailable",
                decisions.clone(),
            );
            registry.register(
                "deepersensor_rate_limit_keys",
                "Buckets, accounts whose passwords were guessed and users with running turns that are remembered. Worry near 780 in one scope and shard",
                keys.clone(),
            );
            registry.register(
                "deepersensor_rate_limit_overflow",
                "How often a key had to share a bucket because no room was left for one of its own. Worry when it grows: a flood of addresses",
                overflow.clone(),
            );
            let help = "Turns of this instance that run under a lease of their user's streams";
            registry.register("deepersensor_stream_leases", help, leases.clone());
            registry.register(
                "deepersensor_rate_limit_lost_settlements",
                "Turns whose tokens stay reserved until they flow back, because their end did not reach the buckets. Worry when it grows while Redis is up",
                lost_settlements.clone(),
            );
        }
        let outcomes = |scope| {
            let counter = |outcome: Outcome| {
                decisions.get_or_create_owned(&DecisionLabels { scope, outcome: outcome.as_str() })
            };
            Outcomes {
                allowed: counter(Outcome::Allowed),
                refused: counter(Outcome::Refused),
                unavailable: counter(Outcome::Unavailable),
            }
        };
        let table = |scope, shard| TableMetrics {
            keys: keys.get_or_create_owned(&KeysLabels { scope, shard }),
            overflow: overflow.get_or_create_owned(&OverflowLabels { scope }),
        };
        let shard = |shard| ShardMetrics {
            buckets: Scope::ALL.map(|scope| table(scope.as_str(), shard)),
            accounts: table(GUESS, shard),
            streams: table(STREAM, shard),
        };
        Self(Arc::new(Inner {
            decisions: Scope::ALL.map(|scope| outcomes(scope.as_str())),
            guesses: outcomes(GUESS),
            streams: outcomes(STREAM),
            leases,
            lost_settlements,
            shards: (0..shards).map(shard).collect(),
        }))
    }

    pub(super) fn shards(&self) -> usize {
        self.0.shards.len()
    }

    pub(super) fn shard(&self, shard: usize) -> &ShardMetrics {
        &self.0.shards[shard]
    }

    pub(super) fn decided(&self, scope: Scope, outcome: Outcome) {
        self.0.decisions[scope as usize].count(outcome);
    }

    pub(super) fn lost_settlements(&self) -> &Counter {
        &self.0.lost_settlements
    }

    pub(super) fn guessed(&self, outcome: Outcome) {
        self.0.guesses.count(outcome);
    }

    pub(super) fn leased(&self, outcome: Outcome) {
        self.0.streams.count(outcome);
    }

    /// Turns that run under a lease.
    pub(super) fn leases(&self) -> &Gauge {
        &self.0.leases
    }
}

/// How it stands with the server that is shared; clones share the numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct RedisMetrics {
    pub up: Gauge,
    pub fallbacks: Counter,
}

impl RedisMetrics {
    pub(super) fn register(registry: &Mutex<Registry>) -> Self {
        let metrics = Self::default();
        let mut registry = registry.lock();
        let help = "Whether limits are counted on the Redis server: 1 or 0; not there without REDIS_URL. Worry at 0: each instance counts alone";
        registry.register("deepersensor_redis_up", help, metrics.up.clone());
        let help = "Questions about limits that this instance answered alone. Worry when it grows while deepersensor_redis_up is 1: the server is slow";
        registry.register("deepersensor_rate_limit_fallbacks", help, metrics.fallbacks.clone());
        drop(registry);
        metrics
    }
}
