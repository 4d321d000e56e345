//! One model on one upstream: what a slot talks to.

use std::sync::Arc;

use domain::chat::ChatRequest;

use super::provider::{AnswerStream, AnyProvider, Provider, UpstreamError};

pub(super) struct ModelServer {
    upstreams: Arc<[AnyProvider]>,
    upstream: usize,
    model: Arc<str>,
}

impl ModelServer {
    /// `upstream` is an index into `upstreams`; `model` is that server's own name for it.
    pub fn new(upstreams: Arc<[AnyProvider]>, upstream: usize, model: Arc<str>) -> Arc<Self> {
        Arc::new(Self { upstreams, upstream, model })
    }

    pub fn model(&self) -> &str {
        &self.model
    }

    pub fn is_loaded(&self) -> bool {
        self.provider().is_loaded(&self.model)
    }

    /// Waits until the model is loaded. The load is the provider's: leaving it leaves it running (ollama-wire §6, hazard 3).
    pub async fn load(&self) -> Result<(), UpstreamError> {
        self.provider().preload(&self.model).await
    }

    /// Sends the prompt; see [`Provider::chat`].
    pub async fn chat(&self, request: &ChatRequest) -> Result<Box<dyn AnswerStream>, UpstreamError> {
        self.provider().chat(&self.model, request).await
    }

    fn provider(&self) -> &dyn Provider {
        self.upstreams[self.upstream].as_provider()
    }
}
