//! What the model room counts. Model names are labels because they come from the catalogue, never from a caller.

use std::sync::Arc;

use domain::{
    limits::Priority,
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
struct ClassLabels {
    model: String,
    class: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RefusedLabels {
    model: String,
    reason: &'static str,
}

/// Why a turn got no slot of its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// No place was free.
    Full,
    /// Its user had as many turns waiting as one may.
    UserFull,
    /// On arrival it was clear that it could not start before its deadline.
    Deadline,
    /// It waited, and gave way to another turn.
    Evicted,
    /// Its deadline passed while it waited.
    Late,
}

impl Refused {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::UserFull => "user_full",
            Self::Deadline => "deadline",
            Self::Evicted => "evicted",
            Self::Late => "late",
        }
    }
}

/// Counts the refusals of one model.
#[derive(Debug, Clone, Default)]
pub(super) struct RefusedTurns {
    model: String,
    family: Family<RefusedLabels, Counter>,
}

impl RefusedTurns {
    pub fn count(&self, why: Refused) {
        let labels = RefusedLabels { model: self.model.clone(), reason: why.as_str() };
        self.family.get_or_create(&labels).inc();
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TokenLabels {
    model: String,
    direction: &'static str,
}

type Seconds<Labels = ModelLabel> = Family<Labels, Histogram, fn() -> Histogram>;

pub(super) struct ModelMetrics {
    turns: Family<TurnLabels, Counter>,
    tokens: Family<TokenLabels, Counter>,
    refused: Family<RefusedLabels, Counter>,
    queued: Seconds<ClassLabels>,
    first_token: Seconds,
    total: Seconds,
    busy: Family<ModelLabel, Gauge>,
    pub holds: Counter,
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
        let buckets: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.5, 16));
        let metrics = Self {
            turns: Family::default(),
            tokens: Family::default(),
            refused: Family::default(),
            queued: Seconds::new_with_constructor(buckets),
            first_token: Seconds::new_with_constructor(buckets),
            total: Seconds::new_with_constructor(buckets),
            busy: Family::default(),
            holds: Counter::default(),
        };
        registry.register("deepersensor_turns", "Turns by how they ended", metrics.turns.clone());
        registry.register("deepersensor_tokens", "Tokens read and written", metrics.tokens.clone());
        registry.register(
            "deepersensor_model_queue_refused",
            "Turns that got no slot, by why",
            metrics.refused.clone(),
        );
        registry.register("deepersensor_turn_queue_seconds", "Wait for a slot", metrics.queued.clone());
        registry.register(
            "deepersensor_turn_first_token_seconds",
            "From the slot to the first piece of the answer",
            metrics.first_token.clone(),
        );
        registry.register("deepersensor_turn_seconds", "From admission to the end", metrics.total.clone());
        registry.register("deepersensor_model_slots_busy", "Slots at work", metrics.busy.clone());
        let help = "How often a turn went back to its queue because its user had as many running as may";
        registry.register("deepersensor_stream_holds", help, metrics.holds.clone());
        Arc::new(metrics)
    }

    pub fn refused(&self, model: &str) -> RefusedTurns {
        RefusedTurns { model: model.to_owned(), family: self.refused.clone() }
    }

    pub fn ended(
        &self,
        model: &str,
        priority: Priority,
        status: TurnStatus,
        timings: &Timings,
        usage: Usage,
    ) {
        let label = ModelLabel { model: model.to_owned() };
        self.turns.get_or_create(&TurnLabels { model: model.to_owned(), status: StatusLabel(status) }).inc();
        for (direction, tokens) in [("in", usage.prompt_tokens), ("out", usage.completion_tokens)] {
            self.tokens
                .get_or_create(&TokenLabels { model: model.to_owned(), direction })
                .inc_by(tokens.into());
        }
        let class = ClassLabels { model: model.to_owned(), class: priority.as_str() };
        self.queued.get_or_create(&class).observe(timings.queued.as_secs_f64());
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
