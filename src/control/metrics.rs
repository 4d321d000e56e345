//! How often the settings were read again, and when they were last put in force.

use std::sync::atomic::AtomicU64;

use chrono::{DateTime, Utc};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

pub(super) struct ReloadMetrics {
    reloads: Family<OutcomeLabel, Counter>,
    reloaded_at: Gauge<f64, AtomicU64>,
}

impl ReloadMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self { reloads: Family::default(), reloaded_at: Gauge::default() };
        let help = "Times the settings were read again, by what came of it. Worry at refused: the file is wrong and the service goes by the old one";
        registry.register("deepersensor_config_reloads", help, metrics.reloads.clone());
        let help =
            "When the settings in force were last found valid, by a start or a reload, in seconds since 1970";
        registry.register(
            "deepersensor_config_reloaded_timestamp_seconds",
            help,
            metrics.reloaded_at.clone(),
        );
        for outcome in ["applied", "unchanged", "refused"] {
            drop(metrics.reloads.get_or_create(&OutcomeLabel { outcome }));
        }
        metrics
    }

    pub(super) fn started(&self, now: DateTime<Utc>) {
        self.reloaded_at.set(now.timestamp() as f64);
    }

    pub(super) fn reloaded(&self, outcome: &'static str, now: DateTime<Utc>) {
        self.reloads.get_or_create(&OutcomeLabel { outcome }).inc();
        self.started(now);
    }

    pub(super) fn refused(&self) {
        self.reloads.get_or_create(&OutcomeLabel { outcome: "refused" }).inc();
    }
}
