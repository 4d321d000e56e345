//! Everything but chat: listing, describing and loading models, and turning texts into vectors. Rare, or slow by itself, so an
//! ordinary pooled client serves it.
//!
//! Each call is bounded in time and in bytes, follows no redirect and uses no proxy from the environment: the operator's
//! base URL is the only place these go.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use domain::{
    embedding::{EmbedRequest, Embeddings},
    reply::{Usage, UsageSource},
};
use http::HeaderMap;
use reqwest::{RequestBuilder, StatusCode, Url, redirect};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use super::{
    MODELS_MAX,
    address::Address,
    error::{from_embed_status, from_status, sanitise},
    wire::{
        EmbedBody, EmbedPreloadBody, EmbedReply, PreloadBody, Ps, Show, ShowBody, Tag, Tags, UnloadBody,
        Version,
    },
};
use crate::{
    model::{
        Timeouts,
        provider::{ProviderConfigError, UpstreamError},
    },
    trace::tell_upstream,
};

/// The most bytes of one reply: a thousand models take half a megabyte, a licence and a template a few hundred KB.
const REPLY_BYTES_MAX: usize = 8 << 20;

/// Between two looks at whether a model is gone.
const UNLOAD_LOOK_EVERY: Duration = Duration::from_millis(50);

/// Idle control connections kept to one server.
const IDLE_CONNECTIONS_MAX: usize = 4;

/// Control calls to one server; clones share connections.
#[derive(Clone)]
pub(super) struct Control {
    http: reqwest::Client,
    tags: Url,
    ps: Url,
    show: Url,
    version: Url,
    generate: Url,
    embed: Url,
    timeouts: Arc<ArcSwap<Timeouts>>,
}

impl Control {
    /// # Errors
    ///
    /// [`ProviderConfigError`] when the HTTP client cannot be made (no usable TLS set-up).
    pub(super) fn new(
        address: &Address,
        connect: Duration,
        timeouts: Arc<ArcSwap<Timeouts>>,
    ) -> Result<Self, ProviderConfigError> {
        let http = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(connect)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .user_agent(super::USER_AGENT)
            .build()
            .map_err(|_| ProviderConfigError {
                base_url: address.endpoint("").to_string(),
                problem: "cannot be served: the HTTP client does not start",
            })?;
        Ok(Self {
            http,
            tags: address.endpoint("api/tags"),
            ps: address.endpoint("api/ps"),
            show: address.endpoint("api/show"),
            version: address.endpoint("api/version"),
            generate: address.endpoint("api/generate"),
            embed: address.endpoint("api/embed"),
            timeouts,
        })
    }

    fn timeouts(&self) -> Timeouts {
        **self.timeouts.load()
    }

    pub(super) async fn tags(&self) -> Result<Vec<Tag>, UpstreamError> {
        let tags: Tags = self.ask(self.http.get(self.tags.clone()), self.timeouts().list).await?;
        let models = tags.models.unwrap_or_default();
        Ok(models.iter().filter_map(|model| serde_json::from_str(model.get()).ok()).collect())
    }

    /// The names of the loaded models. May stall while the server loads or evicts one; not a sign of ill health.
    pub(super) async fn loaded(&self) -> Result<Vec<String>, UpstreamError> {
        let ps: Ps = self.ask(self.http.get(self.ps.clone()), self.timeouts().list).await?;
        Ok(ps.models.unwrap_or_default().into_iter().take(MODELS_MAX).map(|model| model.name).collect())
    }

    pub(super) async fn show(&self, model: &str) -> Result<Show, UpstreamError> {
        self.ask(self.http.post(self.show.clone()).json(&ShowBody { model }), self.timeouts().show).await
    }

    pub(super) async fn version(&self) -> Result<String, UpstreamError> {
        let version: Version = self.ask(self.http.get(self.version.clone()), self.timeouts().list).await?;
        Ok(version.version)
    }

    /// Loads a model and returns when it is loaded. A model that only embeds refuses the first way and takes the second.
    pub(super) async fn preload(&self, model: &str) -> Result<(), UpstreamError> {
        let within = self.timeouts().first_byte;
        let generate = self.http.post(self.generate.clone()).json(&PreloadBody { model, stream: false });
        match self.ask::<serde_json::Value>(generate, within).await {
            Err(UpstreamError::Rejected(_)) => {}
            other => return other.map(drop),
        }
        let embed = self.http.post(self.embed.clone()).json(&EmbedPreloadBody { model, input: [] });
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
        let asked = self.http.post(self.embed.clone()).headers(traced).json(&body);
        let (status, reply) = self.reply_to(asked, self.timeouts().first_byte).await?;
        if status != StatusCode::OK {
            return Err(from_embed_status(status, &reply));
        }
        let reply: EmbedReply = read(&reply)?;
        let usage = reply.prompt_eval_count.and_then(|count| count.as_u64()).map(|count| Usage {
            prompt_tokens: u32::try_from(count).unwrap_or(u32::MAX),
            completion_tokens: 0,
            source: UsageSource::Reported,
        });
        Ok(Embeddings { vectors: reply.embeddings, usage })
    }

    /// Unloads a model and returns when the server no longer lists it as loaded.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Busy`] when it stays: somebody else uses it (ollama-wire §6, hazard 2).
    pub(super) async fn unload(&self, model: &str) -> Result<(), UpstreamError> {
        let body = UnloadBody { model, keep_alive: 0, stream: false };
        let unload = self.http.post(self.generate.clone()).json(&body);
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
        let (status, body) = self.reply_to(request, within).await?;
        if status != StatusCode::OK {
            return Err(from_status(status, &body));
        }
        read(&body)
    }

    /// A reply's status and body, whatever they are.
    async fn reply_to(
        &self,
        request: RequestBuilder,
        within: Duration,
    ) -> Result<(StatusCode, Vec<u8>), UpstreamError> {
        let lost = |error: reqwest::Error| {
            if error.is_connect() {
                UpstreamError::Connect(sanitise(&error.without_url().to_string()))
            } else if error.is_timeout() {
                UpstreamError::FirstByteTimeout(within)
            } else {
                UpstreamError::Failed(sanitise(&error.without_url().to_string()))
            }
        };
        let mut response = request.timeout(within).send().await.map_err(lost)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if body.len() + chunk.len() > REPLY_BYTES_MAX {
                return Err(UpstreamError::Garbage(format!("a reply of more than {REPLY_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((response.status(), body))
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, UpstreamError> {
    serde_json::from_slice(body)
        .map_err(|error| UpstreamError::Garbage(format!("a reply that is no JSON of ours: {error}")))
}
