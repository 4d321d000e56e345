//! What stands on either side of the exporter's queue: a count of what waits in it, and a word when it cannot be sent.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanExporter, SpanProcessor},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// Characters of a failure that are logged.
const WORDS_MAX: usize = 200;

/// Spans between their end and the collector; clones share the count.
#[derive(Debug, Clone)]
pub(super) struct Waiting(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    limit: usize,
    waiting: AtomicUsize,
    sent: AtomicU64,
    lost: AtomicU64,
    /// Of the lost ones, how many the log knows of.
    told: AtomicU64,
}

impl Waiting {
    pub(super) fn new(limit: usize) -> Self {
        Self(Arc::new(Counts {
            limit,
            waiting: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            told: AtomicU64::new(0),
        }))
    }

    /// Counts one more in, or a loss.
    fn enter(&self) -> bool {
        let one_more = |waiting| (waiting < self.0.limit).then_some(waiting + 1);
        let has_room = self.0.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok();
        if !has_room {
            self.lose(1);
        }
        has_room
    }

    fn leave(&self, spans: usize) {
        self.0.waiting.fetch_sub(spans, Ordering::Relaxed);
    }

    fn lose(&self, spans: usize) {
        self.0.lost.fetch_add(spans as u64, Ordering::Relaxed);
    }

    /// How many were lost since this was last asked.
    fn lost_lately(&self) -> u64 {
        let lost = self.0.lost.load(Ordering::Relaxed);
        lost - self.0.told.swap(lost, Ordering::Relaxed)
    }
}

impl Collector for Waiting {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Spans between their end and the collector of traces";
        let name = "deepersensor_trace_spans_waiting";
        let waiting = ConstGauge::new(self.0.waiting.load(Ordering::Relaxed) as u64);
        waiting.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        let help = "Spans that were sent, and that were dropped or not taken";
        let mut family =
            encoder.encode_descriptor("deepersensor_trace_spans", help, None, MetricType::Counter)?;
        for (outcome, count) in [("sent", &self.0.sent), ("lost", &self.0.lost)] {
            let count = ConstCounter::new(count.load(Ordering::Relaxed));
            count.encode(family.encode_family(&[("outcome", outcome)])?)?;
        }
        Ok(())
    }
}

/// Lets no more spans into the queue behind it than it holds: which it would drop, but not tell.
pub(super) struct Bounded<P> {
    queue: P,
    waiting: Waiting,
}

impl<P> Bounded<P> {
    pub(super) const fn new(queue: P, waiting: Waiting) -> Self {
        Self { queue, waiting }
    }
}

impl<P> fmt::Debug for Bounded<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bounded").field(&self.waiting).finish()
    }
}

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.queue.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.waiting.enter() {
            self.queue.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.queue.set_resource(resource);
    }
}

/// Sends batches, and says when that begins to fail and when it works again: once each, however many are lost.
#[derive(Debug)]
pub(super) struct Exporter<E> {
    sender: E,
    waiting: Waiting,
    fails: AtomicBool,
}

impl<E> Exporter<E> {
    pub(super) const fn new(sender: E, waiting: Waiting) -> Self {
        Self { sender, waiting, fails: AtomicBool::new(false) }
    }
}

impl<E: SpanExporter> SpanExporter for Exporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.waiting.leave(spans);
        let sent = self.sender.export(batch).await;
        match &sent {
            Ok(()) => {
                self.waiting.0.sent.fetch_add(spans as u64, Ordering::Relaxed);
                let lost = self.waiting.lost_lately();
                if self.fails.swap(false, Ordering::Relaxed) {
                    tracing::info!(event = "traces", outcome = "up", lost, "traces are sent again");
                } else if lost > 0 {
                    tracing::warn!(event = "traces", outcome = "lost", lost, "more spans than can be sent");
                }
            }
            Err(error) => {
                self.waiting.lose(spans);
                if !self.fails.swap(true, Ordering::Relaxed) {
                    // Partly the collector's words.
                    let error: String = error.to_string().chars().take(WORDS_MAX).collect();
                    tracing::warn!(
                        event = "traces",
                        outcome = "down",
                        error,
                        "the collector does not take traces; they are lost until it does"
                    );
                }
            }
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.sender.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.sender.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.sender.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Span as _, Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::{error::OTelSdkError, trace::SdkTracerProvider};
    use parking_lot::Mutex;
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    /// Keeps what comes through.
    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanProcessor for Kept {
        fn on_start(&self, _: &mut Span, _: &Context) {}

        fn on_end(&self, span: SpanData) {
            self.0.lock().push(span);
        }

        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }

        fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
            Ok(())
        }
    }

    /// Takes batches as long as it is told to.
    #[derive(Debug, Clone, Default)]
    struct Sender(Arc<AtomicBool>);

    impl SpanExporter for Sender {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            if self.0.load(Ordering::Relaxed) { Ok(()) } else { Err(OTelSdkError::AlreadyShutdown) }
        }
    }

    fn shown(waiting: &Waiting) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(waiting.clone()));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_what_is_lost_is_counted() {
        let (waiting, kept, sender) = (Waiting::new(3), Kept::default(), Sender::default());
        let bounded = Bounded::new(kept.clone(), waiting.clone());
        let exporter = Exporter::new(sender.clone(), waiting.clone());
        let provider = SdkTracerProvider::builder().with_span_processor(bounded).build();
        let tracer = provider.tracer("test");
        let end = |spans: usize| (0..spans).for_each(|_| tracer.start("x").end());
        let batch = || std::mem::take(&mut *kept.0.lock());

        end(5);
        let text = shown(&waiting);
        assert!(text.contains("deepersensor_trace_spans_waiting 3\n"), "{text}");
        assert!(text.contains("deepersensor_trace_spans_total{outcome=\"lost\"} 2\n"), "{text}");
        assert!(exporter.export(batch()).await.is_err());
        end(1);
        sender.0.store(true, Ordering::Relaxed);
        assert!(exporter.export(batch()).await.is_ok());
        let text = shown(&waiting);
        assert!(text.contains("deepersensor_trace_spans_waiting 0\n"), "{text}");
        assert!(text.contains("deepersensor_trace_spans_total{outcome=\"lost\"} 5\n"), "{text}");
        assert!(text.contains("deepersensor_trace_spans_total{outcome=\"sent\"} 1\n"), "{text}");
        assert_eq!(waiting.lost_lately(), 0, "the log was told of all of them");
    }
}
