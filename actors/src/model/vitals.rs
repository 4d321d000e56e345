//! How it stands with each model server, read from its own books at each scrape.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::{router::Routing, upstream::Upstream};

/// Shows the configured model servers.
pub(super) struct Vitals(pub Arc<Routing>);

impl fmt::Debug for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Vitals").field(&self.0.live.load().upstreams.len()).finish()
    }
}

type Reading = fn(&Upstream) -> u64;

const GAUGES: [(&str, &str, Reading); 5] = [
    (
        "deepersensor_upstream_up",
        "Whether the model server answers: 1 or 0. Worry at 0: its models' turns get 503 until it is back.",
        |upstream| upstream.is_up().into(),
    ),
    (
        "deepersensor_upstream_breaker",
        "The model server's breaker: 0 closed, 1 half-open, 2 open. Worry when it is not 0 for longer than a restart of the server takes.",
        |upstream| upstream.breaker() as u64,
    ),
    (
        "deepersensor_upstream_draining",
        "Whether an operator lets no turn begin on the model server: 1 or 0. Worry at 1 when nobody works on it.",
        |upstream| upstream.is_draining().into(),
    ),
    (
        "deepersensor_upstream_models_loaded",
        "Models that the server holds in memory, as far as we know.",
        |upstream| upstream.occupancy().residents as u64,
    ),
    (
        "deepersensor_upstream_load_waiting",
        "Turns in slots that wait for a model to be loaded. Worry when it is seldom 0: models take turns in too little memory.",
        |upstream| upstream.occupancy().waiting as u64,
    ),
];

const COUNTERS: [(&str, &str, Reading); 3] = [
    (
        "deepersensor_upstream_loads",
        "Models we had the server load. Worry at several a minute: they displace each other.",
        |upstream| upstream.occupancy().loads,
    ),
    (
        "deepersensor_upstream_moved",
        "Turns that the model server failed before it said anything and that went to another. Worry when it grows: only the others hide \
         that this one fails.",
        |upstream| upstream.moved(),
    ),
    ("deepersensor_upstream_unloads", "Models we had the server unload.", |upstream| {
        upstream.occupancy().unloads
    }),
];

impl Collector for Vitals {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let live = self.0.live.load();
        for (name, help, read) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for upstream in &*live.upstreams {
                let metric = ConstGauge::new(read(upstream));
                metric.encode(family.encode_family(&[("upstream", &*upstream.name())])?)?;
            }
        }
        for (name, help, read) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for upstream in &*live.upstreams {
                let metric = ConstCounter::new(read(upstream));
                metric.encode(family.encode_family(&[("upstream", &*upstream.name())])?)?;
            }
        }
        let help = "Calls of the model server that failed, by kind. Worry about connect, first_byte_timeout, failed and garbage, which are \
                    the server's own faults and open its breaker; busy is tried again, rejected is the caller's fault.";
        let name = "deepersensor_upstream_failures";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for upstream in &*live.upstreams {
            let name = upstream.name();
            for (kind, count) in upstream.failures() {
                let labels = [("upstream", &*name), ("kind", kind)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
