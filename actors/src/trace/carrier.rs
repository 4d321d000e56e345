//! What takes a request's name and its place in a trace from one task to another.

use std::sync::Arc;

use opentelemetry::{Context, ContextGuard, context::FutureExt as _, trace::SpanKind};

use super::{Errand, Span};

/// The request that somebody works for and the span they work in; empty outside of requests. Two counters to clone.
#[derive(Debug, Clone, Default)]
pub struct Carrier(pub(super) Context);

/// Makes a thread work for a carrier's request until it is dropped.
#[must_use = "the thread works for the request only while this lives"]
pub struct Entered(#[expect(dead_code, reason = "held for its Drop")] ContextGuard);

impl Carrier {
    /// A request at its front door. `root` may be empty.
    pub fn new(errand: Arc<Errand>, root: &Span) -> Self {
        let place = root.context().cloned().unwrap_or_default();
        Self(place.with_value(errand))
    }

    /// What the task at hand works for.
    pub fn here() -> Self {
        Self(Context::current())
    }

    /// Does `work` for the carrier's request.
    pub fn around<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        work.with_context(self.0.clone())
    }

    /// The same, for what does not wait.
    pub fn enter(&self) -> Entered {
        Entered(self.0.clone().attach())
    }

    /// As [`Span::start`], whoever asks for it.
    pub fn span(&self, name: &'static str) -> Span {
        Span::under(&self.0, SpanKind::Internal, || name.into())
    }

    /// As [`Span::call`], whoever asks for it.
    pub fn call(&self, name: &'static str) -> Span {
        Span::under(&self.0, SpanKind::Client, || name.into())
    }

    /// Hands over the request, if there is one.
    pub fn errand(&self) -> Option<&Errand> {
        self.0.get::<Arc<Errand>>().map(AsRef::as_ref)
    }

    /// Whether anybody will read what is told of it.
    pub fn is_recorded(&self) -> bool {
        super::span::is_sampled(&self.0)
    }

    /// Tells something of the span that the carrier was made in.
    pub fn tell(&self, name: &'static str, value: impl Into<opentelemetry::Value>) {
        super::span::tell(&self.0, name, value);
    }
}
