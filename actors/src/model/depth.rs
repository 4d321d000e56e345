//! What is shown of each model and of the memory that turns take, read from where it is counted at each scrape.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};
use tokio::sync::Semaphore;

use super::{
    metrics::{self, Shown},
    route::Route,
    router::Routing,
    turns::Turns,
};
use crate::reply::ReplyBudget;

/// Shows the models that are in the catalogue at the moment of asking, and all live prompts and answers together.
pub(super) struct Depths {
    pub routing: Arc<Routing>,
    pub replies: ReplyBudget,
    pub turns: Arc<Turns>,
    /// What is left of the budget, in KiB.
    pub prompts: Arc<Semaphore>,
}

impl fmt::Debug for Depths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Depths").field(&self.routing.table.load().0.len()).finish()
    }
}

type Reading = fn(&Route) -> usize;

/// Of each model.
const DEPTHS: [(&str, &str, Reading); 3] = [
    (
        "deepersensor_model_queue_places",
        "Places taken in the model's queue, those of turns about to wait included. Worry when it stays near \
         deepersensor_model_queue_limit.",
        |route| route.list.places(),
    ),
    (
        "deepersensor_model_concurrency_limit",
        "Turns that the model is given at once at most. Worry when an adaptive model stays at 1: its first token comes late even so.",
        |route| route.list.concurrency_limit(),
    ),
    (
        "deepersensor_model_slots",
        "Slots that the model has, by OLLAMA_NUM_PARALLEL or MODEL_SLOTS; this instance's share of them.",
        |route| route.seats.len(),
    ),
];

impl Depths {
    fn prompt_bytes(&self) -> usize {
        let left = self.prompts.available_permits() << 10;
        self.routing.live.load().config.prompt_budget_bytes.saturating_sub(left)
    }
}

impl Collector for Depths {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let table = self.routing.table.load();
        for (name, help, read) in DEPTHS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (model, route) in &table.0 {
                let depth = ConstGauge::new(read(route) as u64);
                depth.encode(family.encode_family(&[("model", model.as_str())])?)?;
            }
        }
        let of_all: [(&str, &str, usize); 6] = [
            (
                "deepersensor_model_queue_limit",
                "Turns that may wait for one model (MODEL_QUEUE_LIMIT).",
                self.routing.live.load().config.queue_limit,
            ),
            (
                "deepersensor_reply_bytes",
                "Memory that all live answers take. Worry above 80 % of deepersensor_reply_bytes_limit: new turns get 503.",
                self.replies.used(),
            ),
            (
                "deepersensor_reply_bytes_limit",
                "What all live answers may take (REPLY_BUDGET_BYTES).",
                self.replies.limit(),
            ),
            (
                "deepersensor_turns_in_memory",
                "Turns whose answer is in memory: those that live, and those that ended less than a minute ago. Worry when it grows \
                 while deepersensor_turns_total does not.",
                self.turns.len(),
            ),
            (
                "deepersensor_prompt_bytes",
                "Memory that the prompts of all live turns take, by estimate. Worry near deepersensor_prompt_bytes_limit: new turns \
                 get 503.",
                self.prompt_bytes(),
            ),
            (
                "deepersensor_prompt_bytes_limit",
                "What the prompts of all live turns may take (PROMPT_BUDGET_BYTES).",
                self.routing.live.load().config.prompt_budget_bytes,
            ),
        ];
        for (name, help, value) in of_all {
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value as u64).encode(gauge)?;
        }
        let models: Vec<Shown<'_>> = table
            .0
            .iter()
            .map(|(model, route)| Shown { model: model.as_str(), metrics: route.list.metrics() })
            .collect();
        metrics::encode(&mut encoder, &models)
    }
}
