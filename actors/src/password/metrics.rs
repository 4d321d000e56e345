//! What the password room shows of itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{metrics::histogram::Histogram, registry::Registry};

/// Where an average of the last hashes starts: the reference machine's cost.
const FIRST_GUESS: Duration = Duration::from_millis(20);

#[derive(Clone)]
pub(super) struct PasswordMetrics {
    pub(super) wait: Histogram,
    cost: Histogram,
    recent_micros: Arc<AtomicU64>,
}

impl PasswordMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let wait = Histogram::new([0.001, 0.005, 0.02, 0.1, 0.25, 0.5, 1.0, 2.0]);
        let cost = Histogram::new([0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 1.0]);
        registry.register(
            "deepersensor_password_wait_seconds",
            "Time a password waited for its turn to be hashed. Worry above half a second: PASSWORD_WORKERS are too few",
            wait.clone(),
        );
        registry.register(
            "deepersensor_password_hash_seconds",
            "Time to hash one password. Worry when it grows at the same settings: the machine is short of processor or memory",
            cost.clone(),
        );
        let first_guess = u64::try_from(FIRST_GUESS.as_micros()).unwrap_or(u64::MAX);
        Self { wait, cost, recent_micros: Arc::new(AtomicU64::new(first_guess)) }
    }

    pub(super) fn record(&self, took: Duration) {
        self.cost.observe(took.as_secs_f64());
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // Two at once may lose one sample: it is an estimate.
        let recent = self.recent_micros.load(Ordering::Relaxed);
        self.recent_micros.store(recent - recent / 8 + took / 8, Ordering::Relaxed);
    }

    /// What one hash costs lately.
    pub(super) fn recent(&self) -> Duration {
        Duration::from_micros(self.recent_micros.load(Ordering::Relaxed))
    }
}
