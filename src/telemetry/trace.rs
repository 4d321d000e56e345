//! Where traces go: to an OpenTelemetry collector, over gRPC.
//!
//! ```text
//! a span ends ──▶ queue (bounded) ──▶ one thread: batches ──▶ collector
//!                   ╰─ full: dropped, counted                  ╰─ away, slow, lying: the batch is lost, counted
//! ```
//!
//! # When it breaks
//!
//! No request ever waits for any of this, and a stop only as long as it has time for. A collector that does not take what it
//! is sent within [`EXPORT_PATIENCE`] loses that batch: nothing is sent twice.

use std::{sync::OnceLock, time::Duration};

use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{RetryPolicy, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider},
};
use prometheus_client::registry::Registry;
use tonic::transport::{ClientTlsConfig, Endpoint};

use super::export::{Bounded, Exporter, Waiting};

/// Spans that wait to be sent; beyond them they are dropped. About a kilobyte each.
const SPANS_WAITING: usize = 8_192;

/// The most spans that are sent at once.
const SPANS_A_BATCH: usize = 512;

/// The longest that an ended span waits for company.
const EXPORT_EVERY: Duration = Duration::from_secs(1);

/// How long a collector has to take a batch, and to take a connection.
const EXPORT_PATIENCE: Duration = Duration::from_secs(3);

/// What one span may tell; we tell less.
const ATTRIBUTES_MAX: u32 = 32;

/// Where traces go, and how many of them.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceConfig {
    /// The collector (`OTEL_EXPORTER_OTLP_ENDPOINT`); `None` makes no traces at all.
    pub endpoint: Option<String>,
    /// What traces call this service (`OTEL_SERVICE_NAME`).
    pub service: String,
    /// Which part of the traces that begin here is recorded, 0 to 1 (`OTEL_TRACES_SAMPLER_ARG`). What a trusted caller has
    /// decided about its own trace counts for ours.
    pub share: f64,
}

/// The process's own, once there is one, and what waits in it.
static PROVIDER: OnceLock<(SdkTracerProvider, Waiting)> = OnceLock::new();

/// Begins to trace the process's requests, if there is somewhere to send traces to. A collector that is away is no error.
///
/// Call it within the runtime that outlives the requests. The first call in a process counts.
///
/// # Errors
///
/// The endpoint cannot be used as it is written; [`crate::config`] has refused such a one before.
pub fn init(config: &TraceConfig) -> anyhow::Result<()> {
    let Some(endpoint) = &config.endpoint else { return Ok(()) };
    let mut channel =
        Endpoint::from_shared(endpoint.clone())?.connect_timeout(EXPORT_PATIENCE).timeout(EXPORT_PATIENCE);
    if endpoint.starts_with("https:") {
        channel = channel.tls_config(ClientTlsConfig::new().with_native_roots())?;
    }
    let sender = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_channel(channel.connect_lazy())
        .with_timeout(EXPORT_PATIENCE)
        .with_retry_policy(RetryPolicy::disabled())
        .build()?;
    let waiting = Waiting::new(SPANS_WAITING);
    let batches = BatchSpanProcessor::builder(Exporter::new(sender, waiting.clone()))
        .with_batch_config(
            BatchConfigBuilder::default()
                .with_max_queue_size(SPANS_WAITING)
                .with_max_export_batch_size(SPANS_A_BATCH)
                .with_scheduled_delay(EXPORT_EVERY)
                .build(),
        )
        .build();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(Bounded::new(batches, waiting.clone()))
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.share))))
        .with_max_attributes_per_span(ATTRIBUTES_MAX)
        .with_resource(
            Resource::builder()
                .with_service_name(config.service.clone())
                .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
                .build(),
        )
        .build();
    if PROVIDER.set((provider.clone(), waiting)).is_ok() {
        global::set_tracer_provider(provider);
        actors::trace::record();
        tracing::info!(share = config.share, "traces are sent to the collector");
    }
    Ok(())
}

/// Shows operators what becomes of spans, where there are any.
pub(crate) fn register(registry: &mut Registry) {
    if let Some((_, waiting)) = PROVIDER.get() {
        registry.register_collector(Box::new(waiting.clone()));
    }
}

/// Sends what is left, for `patience` at most; from then on nothing is sent.
pub async fn finish(patience: Duration) {
    let Some((provider, _)) = PROVIDER.get() else { return };
    let flush = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(patience));
    let is_sent = matches!(tokio::time::timeout(patience, flush).await, Ok(Ok(Ok(()))));
    if !is_sent {
        tracing::warn!(event = "traces", outcome = "lost", "the last traces were not sent");
    }
}
