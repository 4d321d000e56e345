//! What is counted of each model. The numbers live beside the model's queue and leave the page with it: labels are those
//! models that are in the catalogue at the moment of asking, never a name that a caller chose.
//!
//! A late end of a turn whose model is gone is counted where nobody looks any more.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

use domain::{
    limits::Priority,
    reply::{Timings, Usage},
    turn::TurnStatus,
};
use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        gauge::ConstGauge,
    },
    registry::Registry,
};

use crate::histogram::Histogram;

/// How a turn can have ended.
const ENDS: [TurnStatus; 4] =
    [TurnStatus::Complete, TurnStatus::Interrupted, TurnStatus::Cancelled, TurnStatus::Failed];

/// From a loaded model's first token to a queue that is as long as callers' patience.
static WAITS: [f64; 15] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];
/// From several tokens in one read of a fast model to a model that is swapped out.
static GAPS: [f64; 13] = [0.001, 0.002_5, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

type Waits = Histogram<15>;

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
    const ALL: [Self; 5] = [Self::Full, Self::UserFull, Self::Deadline, Self::Evicted, Self::Late];

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

/// The numbers of one model.
#[derive(Debug)]
pub(super) struct ModelMetrics {
    /// In the order of [`ENDS`].
    ended: [AtomicU64; ENDS.len()],
    tokens_in: AtomicU64,
    tokens_out: AtomicU64,
    /// By [`Refused`].
    refused: [AtomicU64; Refused::ALL.len()],
    /// By [`Priority`].
    queued: [Waits; Priority::ALL.len()],
    first_token: Waits,
    total: Waits,
    /// Between two reads of an answer that brought text.
    pub gaps: Histogram<13>,
    busy: AtomicI64,
}

impl Default for ModelMetrics {
    fn default() -> Self {
        Self {
            ended: Default::default(),
            tokens_in: AtomicU64::new(0),
            tokens_out: AtomicU64::new(0),
            refused: Default::default(),
            queued: [const { Waits::new(&WAITS) }; Priority::ALL.len()],
            first_token: Waits::new(&WAITS),
            total: Waits::new(&WAITS),
            gaps: Histogram::new(&GAPS),
            busy: AtomicI64::new(0),
        }
    }
}

/// A slot at work, for as long as this lives.
pub(super) struct Busy(Arc<ModelMetrics>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Relaxed);
    }
}

impl ModelMetrics {
    pub fn refused(&self, why: Refused) {
        self.refused[why as usize].fetch_add(1, Relaxed);
    }

    pub fn ended(&self, priority: Priority, status: TurnStatus, timings: &Timings, usage: Usage) {
        if let Some(place) = ENDS.iter().position(|end| *end == status) {
            self.ended[place].fetch_add(1, Relaxed);
        }
        self.tokens_in.fetch_add(usage.prompt_tokens.into(), Relaxed);
        self.tokens_out.fetch_add(usage.completion_tokens.into(), Relaxed);
        self.queued[priority as usize].observe(timings.queued);
        if let Some(first) = timings.first_token {
            self.first_token.observe(first);
        }
        self.total.observe(timings.total);
    }

    pub fn busy(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Relaxed);
        Busy(Arc::clone(self))
    }
}

/// How often turns went back to their queues; of all models together.
pub(super) fn register_holds(registry: &mut Registry) -> Counter {
    let holds = Counter::default();
    let help = "How often a turn went back to its queue because its user had as many running as may. Worry when it is most turns: \
                STREAMS_PER_USER is below what callers need";
    registry.register("deepersensor_stream_holds", help, holds.clone());
    holds
}

/// One model on the page.
pub(super) struct Shown<'a> {
    pub model: &'a str,
    pub metrics: &'a ModelMetrics,
}

/// What a family counts of one model, each count with its value of the family's own label.
type Counts = fn(&ModelMetrics) -> Vec<(&'static str, u64)>;

const COUNTERS: [(&str, &str, &str, Counts); 3] = [
    (
        "deepersensor_turns",
        "Turns that ended, by how. Worry when failed or interrupted ones are more than a few in a hundred.",
        "status",
        |metrics| ENDS.iter().map(|end| end.as_str()).zip(metrics.ended.iter().map(read)).collect(),
    ),
    (
        "deepersensor_tokens",
        "Tokens that models read (in) and wrote (out), by the servers' count where they gave one.",
        "direction",
        |metrics| vec![("in", read(&metrics.tokens_in)), ("out", read(&metrics.tokens_out))],
    ),
    (
        "deepersensor_model_queue_refused",
        "Turns that got no slot of their model, by why. Worry when it grows for minutes: the model needs more slots, or callers \
         fewer.",
        "reason",
        |metrics| Refused::ALL.iter().map(|why| why.as_str()).zip(metrics.refused.iter().map(read)).collect(),
    ),
];

/// What a family times of one model, each with the label that tells it from others.
type Times = fn(&ModelMetrics) -> Vec<(Option<(&'static str, &'static str)>, &Waits)>;

const TIMES: [(&str, &str, Times); 3] = [
    (
        "deepersensor_turn_queue_seconds",
        "Wait for a slot, by how urgent the turn was. Worry when the interactive p95 nears callers' patience.",
        |metrics| {
            let class = |priority: &Priority| Some(("class", priority.as_str()));
            Priority::ALL.iter().map(class).zip(&metrics.queued).collect()
        },
    ),
    (
        "deepersensor_turn_first_token_seconds",
        "From the slot to the first piece of the answer, loading the model included. Worry when it grows while queues are \
         short: prompts got longer, or the server slower.",
        |metrics| vec![(None, &metrics.first_token)],
    ),
    ("deepersensor_turn_seconds", "From admission to the end of a turn, however it ended.", |metrics| {
        vec![(None, &metrics.total)]
    }),
];

/// Writes the numbers of all `models`. Counters are there from the beginning; a histogram from its first observation on, or
/// each of a thousand models that nobody asks would take a hundred lines.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, models: &[Shown<'_>]) -> fmt::Result {
    for (name, help, label, of) in COUNTERS {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for Shown { model, metrics } in models {
            for (value, count) in of(metrics) {
                let labels = [("model", *model), (label, value)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
    }
    let name = "deepersensor_model_slots_busy";
    let help = "Slots that have a turn in hand. Compare with deepersensor_model_concurrency_limit: when they are equal for long, turns \
                wait.";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for Shown { model, metrics } in models {
        let busy = ConstGauge::new(metrics.busy.load(Relaxed));
        busy.encode(family.encode_family(&[("model", *model)])?)?;
    }
    encode_times(encoder, models)
}

fn encode_times(encoder: &mut DescriptorEncoder<'_>, models: &[Shown<'_>]) -> fmt::Result {
    for (name, help, of) in TIMES {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for Shown { model, metrics } in models {
            for (label, times) in of(metrics).into_iter().filter(|(_, times)| times.count() > 0) {
                let labels: Vec<_> = std::iter::once(("model", *model)).chain(label).collect();
                times.encode(family.encode_family(&labels)?)?;
            }
        }
    }
    let name = "deepersensor_turn_token_gap_seconds";
    let help = "Between two reads of an answer that brought text: what a reader sees as pace. Worry when its p95 is above a quarter of \
                a second: the server has more at once than it can do.";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for Shown { model, metrics } in models.iter().filter(|shown| shown.metrics.gaps.count() > 0) {
        metrics.gaps.encode(family.encode_family(&[("model", *model)])?)?;
    }
    Ok(())
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Relaxed)
}
