//! A collector of traces (OTLP over gRPC) that keeps what it is sent, or refuses it, lies or never answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::Span as Sent,
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use crate::door::Door;

/// Spans kept; later ones are only answered.
const MAX_SPANS: usize = 100_000;

/// What the collector does with a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Manners {
    #[default]
    Takes,
    /// Says that something is wrong with it.
    Refuses,
    /// Says that it took it, and that it did not.
    Lies,
    /// Takes it and says nothing.
    Freezes,
}

/// A span as it was sent; ids in hexadecimal, values as text.
#[derive(Debug, Clone)]
pub struct Span {
    pub service: String,
    pub trace: String,
    pub id: String,
    /// Empty for the first of its trace.
    pub parent: String,
    pub name: String,
    /// As OTLP counts: 1 internal, 2 server, 3 client.
    pub kind: i32,
    pub begins: u64,
    pub ends: u64,
    pub attributes: BTreeMap<String, String>,
    pub has_failed: bool,
    /// All of it, as text.
    pub whole: String,
}

/// A running collector. Dropping it closes its port and connections.
pub struct Collector {
    kept: Arc<Kept>,
    door: Door,
}

#[derive(Default)]
struct Kept {
    spans: Mutex<Vec<Span>>,
    batches: Mutex<u64>,
    manners: Mutex<Manners>,
    changed: Notify,
}

struct Receiver(Arc<Kept>);

impl Collector {
    /// Listens on loopback and serves.
    ///
    /// # Errors
    ///
    /// When there is no free port.
    pub async fn start() -> Result<Self> {
        let kept = Arc::new(Kept::default());
        let served = Arc::clone(&kept);
        let door = Door::open(0, move |stream, _| {
            let service = TowerToHyperService::new(TraceServiceServer::new(Receiver(Arc::clone(&served))));
            async move {
                // A peer that leaves is no fault.
                let _ = http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        });
        Ok(Self { kept, door: door.await.context("the collector cannot listen")? })
    }

    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.door.addr()
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` wants.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// What it does with batches from now on.
    pub fn behave(&self, manners: Manners) {
        *self.kept.manners.lock() = manners;
    }

    /// Refuses connections, and ends those that are open.
    pub async fn leave(&self) {
        self.door.shut().await;
    }

    /// Listens again.
    ///
    /// # Errors
    ///
    /// When another process has its port by now.
    pub async fn come_back(&self) -> Result<()> {
        Ok(self.door.reopen().await?)
    }

    /// All spans so far, in the order in which they came.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.kept.spans.lock().clone()
    }

    /// Batches so far, whatever became of them.
    #[must_use]
    pub fn batches(&self) -> u64 {
        *self.kept.batches.lock()
    }

    /// Waits until `find` finds something in what was sent.
    ///
    /// # Errors
    ///
    /// With the names of what was sent when nothing was found within `patience`.
    pub async fn wait_for<T>(
        &self,
        patience: Duration,
        mut find: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T> {
        let wait = async {
            loop {
                let changed = self.kept.changed.notified();
                if let Some(found) = find(self) {
                    return found;
                }
                changed.await;
            }
        };
        let waited = tokio::time::timeout(patience, wait).await;
        waited.map_err(|_| {
            let names: Vec<_> = self.spans().into_iter().map(|span| span.name).collect();
            anyhow!("not met within {patience:?}; {} batches with {names:#?}", self.batches())
        })
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.door.abandon();
    }
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let manners = *self.0.manners.lock();
        *self.0.batches.lock() += 1;
        if manners == Manners::Takes {
            let came = request.into_inner().resource_spans.into_iter().flat_map(|group| {
                let attributes = group.resource.map(|resource| resource.attributes).unwrap_or_default();
                let service = texts(attributes).remove("service.name").unwrap_or_default();
                let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
                spans.map(move |span| read(&service, span))
            });
            let mut spans = self.0.spans.lock();
            let room = MAX_SPANS - spans.len();
            spans.extend(came.take(room));
        }
        self.0.changed.notify_waiters();
        match manners {
            Manners::Takes => Ok(Response::new(ExportTraceServiceResponse::default())),
            Manners::Refuses => Err(Status::resource_exhausted("no ".repeat(1_000))),
            Manners::Lies => Ok(Response::new(ExportTraceServiceResponse {
                partial_success: Some(ExportTracePartialSuccess {
                    rejected_spans: i64::MAX,
                    error_message: "\r\nforged".to_owned(),
                }),
            })),
            Manners::Freezes => std::future::pending().await,
        }
    }
}

fn read(service: &str, span: Sent) -> Span {
    Span {
        whole: format!("{span:?}"),
        service: service.to_owned(),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        name: span.name,
        kind: span.kind,
        begins: span.start_time_unix_nano,
        ends: span.end_time_unix_nano,
        has_failed: span.status.is_some_and(|status| status.code == 2),
        attributes: texts(span.attributes),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|pair| (pair.key, text(pair.value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(is_so)) => is_so.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::ArrayValue(items)) => {
            items.values.into_iter().map(|item| text(Some(item))).collect::<Vec<_>>().join(",")
        }
        _ => String::new(),
    }
}
