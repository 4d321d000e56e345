//! What the OpsActor last saw, for everybody to read without asking it: a probe costs no message and waits for nobody.
//!
//! # When it breaks
//!
//! A frozen or dead OpsActor publishes nothing, and what it saw last is good for [`STALE_AFTER`]: then the service is unready,
//! and says that it is the look that is missing.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::readiness::{self, Check, Readiness};

/// A look says nothing any more after this long; there is one each second.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(5);

/// Clones share what is published.
#[derive(Clone)]
pub(super) struct Published {
    last: Arc<ArcSwapOption<Look>>,
    closing: CancellationToken,
}

struct Look {
    checks: Vec<Check>,
    at: Instant,
}

impl Published {
    pub(super) fn new(closing: CancellationToken) -> Self {
        Self { last: Arc::default(), closing }
    }

    pub(super) fn publish(&self, checks: Vec<Check>) {
        self.last.store(Some(Arc::new(Look { checks, at: Instant::now() })));
    }

    /// Shutdown shows at once, everything else as it was at the last look.
    pub(super) fn readiness(&self) -> Readiness {
        let last = self.last.load();
        let mut checks = last.as_ref().map(|look| look.checks.clone()).unwrap_or_default();
        checks.push(readiness::looked(last.as_ref().map(|look| look.at.elapsed()), STALE_AFTER));
        checks.push(readiness::shutdown(self.closing.is_cancelled()));
        Readiness::of(checks)
    }
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Published").field(&self.readiness()).finish()
    }
}

/// The checks as gauges, so that an alert can name what failed. Read at the scrape, so that a frozen OpsActor shows.
impl Collector for Published {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Readiness { ready, checks } = self.readiness();
        let help = "Whether requests should come here: 1 or 0. Worry at 0 for longer than a restart takes; \
                    deepersensor_readiness_check_ok names the reason.";
        let gauge = encoder.encode_descriptor("deepersensor_ready", help, None, MetricType::Gauge)?;
        ConstGauge::new(u64::from(ready)).encode(gauge)?;
        let help = "Whether the check passed at the last look: 1 or 0. models, model_servers, redis and spill are there to be read and make \
                    nothing unready.";
        let mut family =
            encoder.encode_descriptor("deepersensor_readiness_check_ok", help, None, MetricType::Gauge)?;
        for check in &checks {
            ConstGauge::new(u64::from(check.ok)).encode(family.encode_family(&[("check", check.name)])?)?;
        }
        Ok(())
    }
}
