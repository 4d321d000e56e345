//! One piece of work in a trace.

use std::{borrow::Cow, sync::OnceLock};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context, KeyValue, Value,
    context::FutureExt as _,
    global::{self, BoxedTracer},
    trace::{SpanContext, SpanKind, Status, TraceContextExt as _, TraceFlags, Tracer as _},
};

use super::names;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

static TRACER: OnceLock<BoxedTracer> = OnceLock::new();

/// From now on spans are recorded, by OpenTelemetry's global provider. Once for each process, before its first request.
pub fn record() {
    let _ = TRACER.set(global::tracer(env!("CARGO_PKG_NAME")));
}

/// Whether anybody records spans.
pub fn is_recorded() -> bool {
    TRACER.get().is_some()
}

/// Where a trace goes on from: somebody else's span, as a header named it.
pub type Parent = SpanContext;

/// A piece of work under way, which ends when this is dropped; empty when its request is not traced.
#[derive(Debug, Default)]
#[must_use = "a span that is dropped has ended"]
pub struct Span(Option<Context>);

impl Span {
    /// The first span of a request, named only if it is recorded; `parent` decides about that, else the sampler.
    ///
    /// It is empty when nobody records spans. One that is not sampled still has a place, for whom we ask to know.
    pub fn root(parent: Option<Parent>, name: impl FnOnce() -> String) -> Self {
        let Some(tracer) = TRACER.get() else { return Self::default() };
        let context =
            parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
        let span = tracer.span_builder("").with_kind(SpanKind::Server).start_with_context(tracer, &context);
        let context = context.with_span(span);
        if is_sampled(&context) {
            context.span().update_name(name());
        }
        Self(Some(context))
    }

    /// Begins a piece of the work that the task at hand does.
    pub fn start(name: &'static str) -> Self {
        Self::named(|| name.into())
    }

    /// The same, by a name that is made only if it is wanted.
    pub fn named(name: impl FnOnce() -> Cow<'static, str>) -> Self {
        Self::here(SpanKind::Internal, name)
    }

    /// The same, where another process is asked and waited for.
    pub fn call(name: &'static str) -> Self {
        Self::here(SpanKind::Client, || name.into())
    }

    fn here(kind: SpanKind, name: impl FnOnce() -> Cow<'static, str>) -> Self {
        if is_recorded() {
            Context::map_current(|context| Self::under(context, kind, name))
        } else {
            Self(None)
        }
    }

    pub(super) fn under(parent: &Context, kind: SpanKind, name: impl FnOnce() -> Cow<'static, str>) -> Self {
        let Some(tracer) = TRACER.get().filter(|_| is_sampled(parent)) else { return Self::default() };
        let span = tracer.span_builder(name()).with_kind(kind).start_with_context(tracer, parent);
        Self(Some(parent.with_span(span)))
    }

    /// Whether anybody will read what it is told.
    pub fn is_recorded(&self) -> bool {
        self.0.as_ref().is_some_and(is_sampled)
    }

    /// Tells something about it; names are in [`names`].
    pub fn tell(&self, name: &'static str, value: impl Into<Value>) {
        if let Some(context) = &self.0 {
            tell(context, name, value);
        }
    }

    /// Says that the work failed, by a word of a closed list.
    pub fn fail(&self, kind: &'static str) {
        if let Some(context) = self.0.as_ref().filter(|context| is_sampled(context)) {
            let span = context.span();
            span.set_attribute(KeyValue::new(names::ERROR, kind));
            span.set_status(Status::error(kind));
        }
    }

    /// Does `work` in it, so that spans begun there are its children.
    pub async fn around<F: Future>(&self, work: F) -> F::Output {
        match &self.0 {
            Some(context) => work.with_context(context.clone()).await,
            None => work.await,
        }
    }

    pub(super) const fn context(&self) -> Option<&Context> {
        self.0.as_ref()
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

pub(super) fn tell(context: &Context, name: &'static str, value: impl Into<Value>) {
    if is_sampled(context) {
        context.span().set_attribute(KeyValue::new(name, value));
    }
}

pub(super) fn is_sampled(context: &Context) -> bool {
    context.has_active_span() && context.span().span_context().is_sampled()
}

/// Tells a server that we ask for the task at hand where in which trace it is asked (W3C Trace Context).
pub fn tell_upstream(headers: &mut HeaderMap) {
    let Some(place) = Context::map_current(|context| {
        context.has_active_span().then(|| context.span().span_context().clone())
    }) else {
        return;
    };
    let flags = place.trace_flags() & TraceFlags::SAMPLED;
    let parent = format!("00-{}-{}-{:02x}", place.trace_id(), place.span_id(), flags);
    if let Ok(parent) = HeaderValue::from_str(&parent) {
        headers.insert(TRACEPARENT, parent);
        let state = place.trace_state().header();
        if let Some(state) = HeaderValue::from_str(&state).ok().filter(|state| !state.is_empty()) {
            headers.insert(TRACESTATE, state);
        }
    }
}
