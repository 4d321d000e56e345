//! One model on one upstream: what a slot talks to.

use std::{sync::Arc, time::Duration};

use domain::{
    chat::ChatRequest,
    embedding::{EmbedRequest, Embeddings},
};

use super::{
    embedding::checked,
    provider::{AnswerStream, UpstreamError},
    residents::{Standing, Stay},
    upstream::Upstream,
};

pub(super) struct ModelServer {
    upstream: Arc<Upstream>,
    model: Arc<str>,
}

impl ModelServer {
    /// `model` is the server's own name for it.
    pub fn new(upstream: Arc<Upstream>, model: Arc<str>) -> Arc<Self> {
        Arc::new(Self { upstream, model })
    }

    /// Whether it is this model on this very server.
    pub fn is(&self, upstream: &Arc<Upstream>, model: &str) -> bool {
        Arc::ptr_eq(&self.upstream, upstream) && *self.model == *model
    }

    pub fn model(&self) -> &str {
        &self.model
    }

    /// The server's name in the configuration.
    pub fn upstream(&self) -> Arc<str> {
        self.upstream.name()
    }

    /// Whether it is the same server as that other's, whatever the models.
    pub fn is_on(&self, other: &Arc<Upstream>) -> bool {
        Arc::ptr_eq(&self.upstream, other)
    }

    /// The server itself.
    pub const fn host(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Whether turns may begin here now: its breaker is closed and nobody drains it.
    pub fn takes_turns(&self) -> bool {
        self.upstream.takes_turns()
    }

    /// Waits until turns may begin here: while its breaker is open, what waits would only fail by the dozen.
    pub async fn will_take_turns(&self) {
        self.upstream.will_take_turns().await;
    }

    pub fn is_draining(&self) -> bool {
        self.upstream.is_draining()
    }

    /// Waits until its breaker is not closed.
    pub async fn given_up(&self) {
        self.upstream.given_up().await;
    }

    /// Waits until the server is worth asking, for a turn that has begun here.
    pub async fn worth_asking(&self) {
        self.upstream.worth_asking().await;
    }

    /// How long until it is known whether the server is back; `None` while it is worth asking.
    pub fn refuses_for(&self) -> Option<Duration> {
        self.upstream.refuses_for()
    }

    /// Whether the server answers, as far as we know.
    pub fn is_up(&self) -> bool {
        self.upstream.is_up()
    }

    pub fn standing(&self) -> Standing {
        self.upstream.standing(&self.model)
    }

    /// Waits until the model may be used, and keeps it loaded while the stay lives; see [`Upstream::enter`].
    pub async fn enter(&self, tell: impl Fn(Option<Duration>)) -> Result<Stay, UpstreamError> {
        self.upstream.enter(&self.model, tell).await
    }

    /// Sends the prompt; see [`super::provider::Provider::chat`]. Only for who has a [`Stay`].
    pub async fn chat(&self, request: &ChatRequest) -> Result<Box<dyn AnswerStream>, UpstreamError> {
        let answer = self.upstream.provider().chat(&self.model, request).await;
        answer.inspect_err(|error| self.failed(error))
    }

    /// Turns texts into vectors; see [`super::provider::Provider::embed`]. Only for who has a [`Stay`].
    pub async fn embed(&self, request: &EmbedRequest) -> Result<Embeddings, UpstreamError> {
        let made = self.upstream.provider().embed(&self.model, request).await;
        let made = made.and_then(|made| checked(made, request.inputs.len()));
        made.inspect(|_| self.worked()).inspect_err(|error| self.failed(error))
    }

    /// The answer began.
    pub fn worked(&self) {
        self.upstream.worked();
    }

    /// The answer broke off after it had begun.
    pub fn broke_off(&self, error: &UpstreamError) {
        self.upstream.count(error);
    }

    /// The answer broke off before it began.
    pub fn failed(&self, error: &UpstreamError) {
        self.upstream.failed(error);
    }

    /// Whether a turn that found no connection may be tried once more.
    pub fn may_retry(&self) -> bool {
        self.upstream.may_retry()
    }
}
