//! The room's numbers: decisions, keys remembered, and how often there was no room for one.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::Scope;

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
    address: Outcomes,
    user: Outcomes,
    shards: Vec<ShardMetrics>,
}

struct Outcomes {
    allowed: Counter,
    refused: Counter,
    unavailable: Counter,
}

/// The numbers of one shard.
#[derive(Clone)]
pub(super) struct ShardMetrics {
    pub address: TableMetrics,
    pub user: TableMetrics,
}

/// The numbers of the buckets of one scope on one shard.
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
        {
            let mut registry = registry.lock();
            registry.register(
                "deepersensor_rate_limit_decisions",
                "Answers of the rate limiter",
                decisions.clone(),
            );
            registry.register("deepersensor_rate_limit_keys", "Buckets remembered", keys.clone());
            registry.register(
                "deepersensor_rate_limit_overflow",
                "Decisions on the shared bucket because no room was left for the key's own",
                overflow.clone(),
            );
        }
        let outcomes = |scope: Scope| {
            let scope = scope.as_str();
            let counter = |outcome: Outcome| {
                decisions.get_or_create_owned(&DecisionLabels { scope, outcome: outcome.as_str() })
            };
            Outcomes {
                allowed: counter(Outcome::Allowed),
                refused: counter(Outcome::Refused),
                unavailable: counter(Outcome::Unavailable),
            }
        };
        let table = |scope: Scope, shard| {
            let scope = scope.as_str();
            TableMetrics {
                keys: keys.get_or_create_owned(&KeysLabels { scope, shard }),
                overflow: overflow.get_or_create_owned(&OverflowLabels { scope }),
            }
        };
        Self(Arc::new(Inner {
            address: outcomes(Scope::Address),
            user: outcomes(Scope::User),
            shards: (0..shards)
                .map(|shard| ShardMetrics {
                    address: table(Scope::Address, shard),
                    user: table(Scope::User, shard),
                })
                .collect(),
        }))
    }

    pub(super) fn shards(&self) -> usize {
        self.0.shards.len()
    }

    pub(super) fn shard(&self, shard: usize) -> ShardMetrics {
        self.0.shards[shard].clone()
    }

    pub(super) fn decided(&self, scope: Scope, outcome: Outcome) {
        let outcomes = match scope {
            Scope::Address => &self.0.address,
            Scope::User => &self.0.user,
        };
        match outcome {
            Outcome::Allowed => &outcomes.allowed,
            Outcome::Refused => &outcomes.refused,
            Outcome::Unavailable => &outcomes.unavailable,
        }
        .inc();
    }
}
