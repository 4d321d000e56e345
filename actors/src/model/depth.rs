//! How long each model's queue is, how many turns it lets run and how much memory answers take, read from where it is
//! counted at each scrape.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use tokio::sync::Semaphore;

use super::router::Routing;
use crate::reply::ReplyBudget;

/// Shows the queues of the models that are in the catalogue at the moment of asking, and all live prompts and answers together.
pub(super) struct Depths {
    pub routing: Arc<Routing>,
    pub replies: ReplyBudget,
    /// What is left of the budget, in KiB.
    pub prompts: Arc<Semaphore>,
}

impl fmt::Debug for Depths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Depths").field(&self.routing.table.load().0.len()).finish()
    }
}

impl Collector for Depths {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let table = self.routing.table.load();
        let help = "Places taken in the model's queue, those of turns about to wait included";
        let name = "deepersensor_model_queue_places";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (model, route) in &table.0 {
            let places = ConstGauge::new(route.list.places() as u64);
            places.encode(family.encode_family(&[("model", model.as_str())])?)?;
        }
        let help = "Turns that the model is given at once at most";
        let name = "deepersensor_model_concurrency_limit";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (model, route) in &table.0 {
            let limit = ConstGauge::new(route.list.concurrency_limit() as u64);
            limit.encode(family.encode_family(&[("model", model.as_str())])?)?;
        }
        let help = "Memory that all live answers take";
        let answers = encoder.encode_descriptor("deepersensor_reply_bytes", help, None, MetricType::Gauge)?;
        ConstGauge::new(self.replies.used() as u64).encode(answers)?;
        let help = "Memory that the prompts of all live turns take, by estimate";
        let prompts =
            encoder.encode_descriptor("deepersensor_prompt_bytes", help, None, MetricType::Gauge)?;
        let left = self.prompts.available_permits() << 10;
        let used = self.routing.config.prompt_budget_bytes.saturating_sub(left);
        ConstGauge::new(used as u64).encode(prompts)
    }
}
