//! The room's numbers. How many turns are followed and told of, its two gates say.

use parking_lot::Mutex;
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// Clones share the numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct RelayMetrics {
    pub looks: Counter,
    pub cancels: Counter,
    /// Of the server, where there is one.
    pub up: Gauge,
}

impl RelayMetrics {
    pub(super) fn register(registry: &Mutex<Registry>, has_redis: bool) -> Self {
        let metrics = Self::default();
        let mut registry = registry.lock();
        let help = "Times a turn of another instance was looked up in the database because its owner told nothing. Worry when it grows for minutes while \
                    deepersensor_relay_up is 1: an instance is dead or does not hear";
        registry.register("deepersensor_relay_looks", help, metrics.looks.clone());
        let help = "Turns of this instance that were ended because another one was asked to. Worry at nothing: it is what callers want";
        registry.register("deepersensor_relay_cancels", help, metrics.cancels.clone());
        if has_redis {
            let help = "Whether this instance hears others through the Redis server: 1 or 0; not there without REDIS_URL. Worry at 0: turns of other \
                        instances are followed a checkpoint behind";
            registry.register("deepersensor_relay_up", help, metrics.up.clone());
        }
        drop(registry);
        metrics
    }
}
