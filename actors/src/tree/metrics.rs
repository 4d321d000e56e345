//! The tree as metrics: who is up, and how often each child was restarted.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::Tree;

/// Register a clone; children come and go with the tree, so labels stay as bounded as it is.
impl Collector for Tree {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let entries = self.0.entries.read();

        let help = "Restarts of each supervised actor. Worry about one that restarts again and again: its last exit is in /actors.";
        let mut family =
            encoder.encode_descriptor("deepersensor_actor_restarts", help, None, MetricType::Counter)?;
        for (path, entry) in entries.iter() {
            let child = [("child", path.as_str())];
            ConstCounter::new(entry.restarts).encode(family.encode_family(&child)?)?;
        }

        let help = "Whether the actor is alive: 1 or 0. Worry at 0 for more than seconds.";
        let mut family = encoder.encode_descriptor("deepersensor_actor_up", help, None, MetricType::Gauge)?;
        for (path, entry) in entries.iter() {
            let child = [("child", path.as_str())];
            ConstGauge::new(u64::from(entry.is_up())).encode(family.encode_family(&child)?)?;
        }
        Ok(())
    }
}
