//! Everything but chat: listing, describing and loading models, and turning texts into vectors.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use domain::embedding::{EmbedRequest, Embeddings};
use http::HeaderMap;
use reqwest::{RequestBuilder, StatusCode, Url};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use super::{
    error::{from_embed_status, from_status},
    wire::{
        EmbedBody, EmbedPreloadBody, EmbedReply, PreloadBody, Ps, Show, ShowBody, Tag, Tags, UnloadBody,
        Version,
    },
};
use crate::{
    model::{
        Timeouts,
        provider::{
            ProviderConfigError, UpstreamError,
            answer::embedding_usage,
            transport::{Address, Calls, MODELS_MAX, read},
        },
    },
    trace::tell_upstream,
};

/// Between two looks at whether a model is gone.
const UNLOAD_LOOK_EVERY: Duration = Duration::from_millis(50);

/// Control calls to one server; clones share connections.
#[derive(Clone)]
pub(super) struct Control {
    calls: Calls,
    tags: Url,
    ps: Url,
    show: Url,
    version: Url,
    generate: Url,
    embed: Url,
}

impl Control {
    /// # Errors
    ///
    /// [`ProviderConfigError`] when the HTTP client cannot be made (no usable TLS set-up).
    pub(super) fn new(
        address: &Address,
        timeouts: Arc<ArcSwap<Timeouts>>,
    ) -> Result<Self, ProviderConfigError> {
        Ok(Self {
            calls: Calls::new(address, HeaderMap::new(), timeouts)?,
            tags: address.endpoint("api/tags"),
            ps: address.endpoint("api/ps"),
            show: address.endpoint("api/show"),
            version: address.endpoint("api/version"),
            generate: address.endpoint("api/generate"),
            embed: address.endpoint("api/embed"),
        })
    }

    fn timeouts(&self) -> Timeouts {
        self.calls.timeouts()
    }

    pub(super) async fn tags(&self) -> Result<Vec<Tag>, UpstreamError> {
        let tags: Tags = self.ask(self.calls.get(&self.tags), self.timeouts().list).await?;
        let models = tags.models.unwrap_or_default();
        Ok(models.iter().filter_map(|model| serde_json::from_str(model.get()).ok()).collect())
    }

    /// The names of the loaded models. May stall while the server loads or evicts one; not a sign of ill health.
    pub(super) async fn loaded(&self) -> Result<Vec<String>, UpstreamError> {
        let ps: Ps = self.ask(self.calls.get(&self.ps), self.timeouts().list).await?;
        Ok(ps.models.unwrap_or_default().into_iter().take(MODELS_MAX).map(|model| model.name).collect())
    }

    pub(super) async fn show(&self, model: &str) -> Result<Show, UpstreamError> {
        self.ask(self.calls.post(&self.show, &ShowBody { model }), self.timeouts().show).await
    }

    pub(super) async fn version(&self) -> Result<String, UpstreamError> {
        let version: Version = self.ask(self.calls.get(&self.version), self.timeouts().list).await?;
        Ok(version.version)
    }

    /// Loads a model and returns when it is loaded. A model that only embeds refuses the first way and takes the second.
    pub(super) async fn preload(&self, model: &str) -> Result<(), UpstreamError> {
        let within = self.timeouts().first_byte;
        let generate = self.calls.post(&self.generate, &PreloadBody { model, stream: false });
        match self.ask::<serde_json::Value>(generate, within).await {
            Err(UpstreamError::Rejected(_)) => {}
            other => return other.map(drop),
        }
        let embed = self.calls.post(&self.embed, &EmbedPreloadBody { model, input: [] });
        self.ask::<serde_json::Value>(embed, within).await.map(drop)
    }

    /// Turns texts into vectors, which must not take longer than the first byte of an answer may: all come at once.
    pub(super) async fn embed(
        &self,
        model: &str,
        request: &EmbedRequest,
    ) -> Result<Embeddings, UpstreamError> {
        let EmbedRequest { inputs, dimensions, truncate, .. } = request;
        let body = EmbedBody { model, input: inputs, truncate: *truncate, dimensions: *dimensions };
        let mut traced = HeaderMap::new();
        tell_upstream(&mut traced);
        let asked = self.calls.post(&self.embed, &body).headers(traced);
        let (status, reply) = self.calls.reply_to(asked, self.timeouts().first_byte).await?;
        if status != StatusCode::OK {
            return Err(from_embed_status(status, &reply));
        }
        let reply: EmbedReply = read(&reply)?;
        let usage = embedding_usage(reply.prompt_eval_count.as_ref());
        Ok(Embeddings { vectors: reply.embeddings, usage })
    }

    /// Unloads a model and returns when the server no longer lists it as loaded.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Busy`] when it stays: somebody else uses it (ollama-wire §6, hazard 2).
    pub(super) async fn unload(&self, model: &str) -> Result<(), UpstreamError> {
        let body = UnloadBody { model, keep_alive: 0, stream: false };
        let unload = self.calls.post(&self.generate, &body);
        self.ask::<serde_json::Value>(unload, self.timeouts().unload).await?;
        let give_up = Instant::now() + self.timeouts().unload;
        loop {
            // A server that does not say what it holds is believed to have done what it answered.
            let Ok(loaded) = self.loaded().await else { return Ok(()) };
            if loaded.iter().all(|name| name != model) {
                return Ok(());
            }
            if Instant::now() >= give_up {
                return Err(UpstreamError::Busy);
            }
            sleep(UNLOAD_LOOK_EVERY).await;
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        within: Duration,
    ) -> Result<T, UpstreamError> {
        let (status, body) = self.calls.reply_to(request, within).await?;
        if status != StatusCode::OK {
            return Err(from_status(status, &body));
        }
        read(&body)
    }
}
