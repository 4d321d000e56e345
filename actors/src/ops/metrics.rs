//! The room's numbers: the checks as gauges, so that an alert can name what failed.

use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use super::readiness::Readiness;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckLabels {
    check: &'static str,
}

#[derive(Clone)]
pub(super) struct Metrics {
    ready: Gauge,
    checks: Family<CheckLabels, Gauge>,
}

impl Metrics {
    pub(super) fn register(registry: &Mutex<Registry>) -> Self {
        let metrics = Self { ready: Gauge::default(), checks: Family::default() };
        let mut registry = registry.lock();
        registry.register(
            "deepersensor_ready",
            "Whether requests should come here: 1 or 0",
            metrics.ready.clone(),
        );
        registry.register(
            "deepersensor_readiness_check_ok",
            "Whether the check passed at the last look: 1 or 0",
            metrics.checks.clone(),
        );
        metrics
    }

    pub(super) fn show(&self, readiness: &Readiness) {
        self.ready.set(readiness.ready.into());
        for check in &readiness.checks {
            self.checks.get_or_create(&CheckLabels { check: check.name }).set(check.ok.into());
        }
    }
}
