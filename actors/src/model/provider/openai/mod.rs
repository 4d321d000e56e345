//! Any server that speaks OpenAI's dialect as a provider: vLLM, llama.cpp, LM Studio, hosted services.
//!
//! ```text
//! chat ───────────────▶ AnswerBytes with its Decoder ──▶ POST chat/completions, completions
//! everything else ────▶ Calls ──▶ models, embeddings
//! ```
//!
//! Its base URL is what those paths follow. The key goes into the headers of every request, marked as sensitive, and nowhere
//! else; nothing of a caller's own request does.
//!
//! Such a server holds its models by itself: there is nothing to load, to unload or to keep alive.
//!
//! # How it breaks
//!
//! As [`super::transport`] says: within its bounds, and with the text so far. A limit of the operator's account (429) is a busy
//! server, for the turn waits and another server may have room; an account that is empty is not.

mod decoder;
mod error;
mod messages;
mod sse;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use arc_swap::ArcSwap;
use chrono::DateTime;
use domain::{
    chat::ChatRequest,
    embedding::{EmbedRequest, Embeddings},
    secret::Secret,
};
use futures_util::future::BoxFuture;
use http::{
    HeaderMap, Uri,
    header::{ACCEPT, AUTHORIZATION, HeaderValue},
};
use reqwest::{StatusCode, Url};
use serde_json::Number;

use self::{
    decoder::Decoder,
    error::Meaning,
    wire::{EmbedBody, EmbedReply, Manners, Models},
};
use crate::{
    model::{
        Timeouts,
        provider::{
            AnswerStream, ModelCard, Provider, ProviderConfigError, UpstreamError,
            answer::embedding_usage,
            transport::{Address, AnswerBytes, Calls, Client, MODELS_MAX, Prompt, read},
        },
    },
    trace::tell_upstream,
};

/// One OpenAI-compatible server.
pub struct OpenAiProvider {
    client: Arc<Client>,
    calls: Calls,
    manners: Manners,
    meaning: Meaning,
    chat: Uri,
    completions: Uri,
    models: Url,
    embeddings: Url,
    timeouts: Arc<ArcSwap<Timeouts>>,
}

impl OpenAiProvider {
    /// # Errors
    ///
    /// [`ProviderConfigError`] when the base URL or the key cannot be used; says what to change.
    pub fn new(
        base_url: &str,
        key: Option<&Secret<String>>,
        timeouts: Timeouts,
    ) -> Result<Self, ProviderConfigError> {
        let address = Address::parse(base_url)?;
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            let mut value = HeaderValue::try_from(format!("Bearer {}", key.reveal()))
                .map_err(|_| address.refuse("has a key that no header can carry"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let connect = timeouts.connect;
        let timeouts = Arc::new(ArcSwap::from_pointee(timeouts));
        let calls = Calls::new(&address, headers.clone(), Arc::clone(&timeouts))?;
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        Ok(Self {
            calls,
            manners: Manners::of(address.host()),
            meaning: Meaning::new(key.cloned()),
            chat: address.target("chat/completions")?,
            completions: address.target("completions")?,
            models: address.endpoint("models"),
            embeddings: address.endpoint("embeddings"),
            client: Arc::new(Client::new(address, connect, headers)?),
            timeouts,
        })
    }

    async fn models(&self) -> Result<Models, UpstreamError> {
        let asked = self.calls.get(&self.models);
        let (status, reply) = self.calls.reply_to(asked, self.timeouts.load().list).await?;
        if status != StatusCode::OK {
            return Err(self.meaning.of(status, &reply));
        }
        read(&reply)
    }

    async fn make(&self, model: &str, request: &EmbedRequest) -> Result<Embeddings, UpstreamError> {
        let EmbedRequest { inputs, dimensions, .. } = request;
        let body = EmbedBody { model, input: inputs, encoding_format: "float", dimensions: *dimensions };
        let mut traced = HeaderMap::new();
        tell_upstream(&mut traced);
        let asked = self.calls.post(&self.embeddings, &body).headers(traced);
        let (status, reply) = self.calls.reply_to(asked, self.timeouts.load().first_byte).await?;
        if status != StatusCode::OK {
            return Err(self.meaning.of(status, &reply));
        }
        let EmbedReply { mut data, usage } = read(&reply)?;
        // A stable sort: without indexes they are in their order.
        data.sort_by_key(|vector| vector.index.unwrap_or(0));
        let usage = usage.and_then(|counts| embedding_usage(counts.prompt_tokens.as_ref()));
        Ok(Embeddings { vectors: data.into_iter().map(|vector| vector.embedding).collect(), usage })
    }
}

impl Provider for OpenAiProvider {
    fn set_timeouts(&self, timeouts: Timeouts) {
        self.timeouts.store(Arc::new(timeouts));
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ModelCard>, UpstreamError>> {
        Box::pin(async {
            let models = self.models().await?.data.unwrap_or_default();
            let read = models.iter().filter_map(|model| serde_json::from_str(model.get()).ok());
            Ok(read.take(MODELS_MAX).map(card).collect())
        })
    }

    fn loaded(&self) -> BoxFuture<'_, Result<Vec<String>, UpstreamError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), UpstreamError>> {
        Box::pin(async { self.models().await.map(drop) })
    }

    fn preload<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), UpstreamError>> {
        Box::pin(async { Ok(()) })
    }

    fn unload<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), UpstreamError>> {
        Box::pin(async { Ok(()) })
    }

    fn chat<'a>(
        &'a self,
        model: &'a str,
        request: &'a ChatRequest,
    ) -> BoxFuture<'a, Result<Box<dyn AnswerStream>, UpstreamError>> {
        Box::pin(async move {
            let (target, body) = match &request.completion {
                // Only here is a text the model's to continue as it is. What wants the template is a chat of one message.
                Some(how) if how.raw || how.suffix.is_some() => {
                    (&self.completions, wire::completion_body(model, request, how, self.manners)?)
                }
                _ => (&self.chat, wire::chat_body(model, request, self.manners)?),
            };
            let stream = AnswerBytes::open(
                Arc::clone(&self.client),
                Prompt { target: target.clone(), body: body.into() },
                Decoder::new(self.meaning.clone()),
                &self.timeouts.load(),
                request.may_pause(),
            )
            .await?;
            Ok(Box::new(stream) as Box<dyn AnswerStream>)
        })
    }

    fn embed<'a>(
        &'a self,
        model: &'a str,
        request: &'a EmbedRequest,
    ) -> BoxFuture<'a, Result<Embeddings, UpstreamError>> {
        Box::pin(self.make(model, request))
    }
}

fn card(model: wire::Model) -> ModelCard {
    let number = |number: Option<Number>| number.and_then(|number| number.as_u64());
    let small = |number: Option<u64>| number.and_then(|number| u32::try_from(number).ok());
    let meta = model.meta.unwrap_or_default();
    let context = number(model.max_model_len)
        .or_else(|| number(model.context_length))
        .or_else(|| number(meta.n_ctx_train));
    let created = model.created.and_then(|seconds| seconds.as_i64());
    ModelCard {
        name: model.id,
        modified_at: created.and_then(|seconds| DateTime::from_timestamp(seconds, 0)),
        size_bytes: number(meta.size).unwrap_or(0),
        context_length: small(context),
        embedding_length: small(number(meta.n_embd)),
        ..ModelCard::default()
    }
}
