//! What the model room counts. Model names are labels because they come from the catalogue, never from a caller.

use std::sync::Arc;

use domain::{
    reply::{Timings, Usage},
    turn::TurnStatus,
};
use prometheus_client::{
    encoding::{EncodeLabelSet, LabelValueEncoder},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ModelLabel {
    model: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TurnLabels {
    model: String,
    status: StatusLabel,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct StatusLabel(TurnStatus);

impl prometheus_client::encoding::EncodeLabelValue for StatusLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        use std::fmt::Write;
        encoder.write_str(self.0.as_str())
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TokenLabels {
    model: String,
    direction: &'static str,
}

type Seconds = Family<ModelLabel, Histogram, fn() -> Histogram>;

pub(super) struct ModelMetrics {
    turns: Family<TurnLabels, Counter>,
    tokens: Family<TokenLabels, Counter>,
    queued: Seconds,
    first_token: Seconds,
    total: Seconds,
    busy: Family<ModelLabel, Gauge>,
}

/// A slot at work, for as long as this lives.
pub(super) struct Busy(Gauge);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl ModelMetrics {
    pub fn register(registry: &mut Registry) -> Arc<Self> {
        let seconds =
            || Seconds::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.5, 16)));
        let metrics = Self {
            turns: Family::default(),
            tokens: Family::default(),
            queued: seconds(),
            first_token: seconds(),
            total: seconds(),
            busy: Family::default(),
        };
        registry.register("deepersensor_turns", "Turns by how they ended", metrics.turns.clone());
        registry.register("deepersensor_tokens", "Tokens read and written", metrics.tokens.clone());
        registry.register("deepersensor_turn_queue_seconds", "Wait for a slot", metrics.queued.clone());
        registry.register(
            "deepersensor_turn_first_token_seconds",
            "From the slot to the first piece of the answer",
            metrics.first_token.clone(),
        );
        registry.register("deepersensor_turn_seconds", "From admission to the end", metrics.total.clone());
        registry.register("deepersensor_model_slots_busy", "Slots at work", metrics.busy.clone());
        Arc::new(metrics)
    }

    pub fn ended(&self, model: &str, status: TurnStatus, timings: &Timings, usage: Usage) {
        let label = ModelLabel { model: model.to_owned() };
        self.turns.get_or_create(&TurnLabels { model: model.to_owned(), status: StatusLabel(status) }).inc();
        for (direction, tokens) in [("in", usage.prompt_tokens), ("out", usage.completion_tokens)] {
            self.tokens
                .get_or_create(&TokenLabels { model: model.to_owned(), direction })
                .inc_by(tokens.into());
        }
        self.queued.get_or_create(&label).observe(timings.queued.as_secs_f64());
        if let Some(first) = timings.first_token {
            self.first_token.get_or_create(&label).observe(first.as_secs_f64());
        }
        self.total.get_or_create(&label).observe(timings.total.as_secs_f64());
    }

    pub fn busy(&self, model: &str) -> Busy {
        let gauge = self.busy.get_or_create(&ModelLabel { model: model.to_owned() }).clone();
        gauge.inc();
        Busy(gauge)
    }
}
