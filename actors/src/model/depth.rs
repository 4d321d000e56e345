//! How long each model's queue is, read from the queues themselves at each scrape.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use super::router::Routing;

/// Shows the queues of the models that are in the catalogue at the moment of asking.
pub(super) struct QueueDepths(pub Arc<Routing>);

impl fmt::Debug for QueueDepths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QueueDepths").field(&self.0.table.load().0.len()).finish()
    }
}

impl Collector for QueueDepths {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let help = "Places taken in the model's queue, those of turns about to wait included";
        let name = "deepersensor_model_queue_places";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (model, route) in &self.0.table.load().0 {
            let places = ConstGauge::new(route.list.places() as u64);
            places.encode(family.encode_family(&[("model", model.as_str())])?)?;
        }
        Ok(())
    }
}
