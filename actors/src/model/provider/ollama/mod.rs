//! Ollama's own API as a provider.
//!
//! ```text
//! chat ───────────────▶ AnswerBytes with its Decoder ──▶ POST /api/chat, generate
//! everything else ────▶ Control ──▶ /api/tags ps show generate embed version
//! ```
//!
//! # How it breaks
//!
//! As [`super::transport`] says: within its bounds, and with the text so far.

mod control;
mod decoder;
mod details;
mod error;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwap;
use domain::{
    chat::ChatRequest,
    embedding::{EmbedRequest, Embeddings},
};
use futures_util::future::BoxFuture;

use http::{
    HeaderMap, Uri,
    header::{ACCEPT, HeaderValue},
};

use self::{control::Control, decoder::Decoder, details::Details, wire::Tag};
use crate::model::{
    Timeouts,
    provider::{
        AnswerStream, ModelCard, Provider, ProviderConfigError, UpstreamError,
        transport::{Address, AnswerBytes, Client, MODELS_MAX, Prompt},
    },
};

/// The most capabilities of one model we keep.
const CAPABILITIES_MAX: usize = 16;

/// The most families of one model we keep.
const FAMILIES_MAX: usize = 8;

/// The longest text of a model's details we keep, in characters.
const DETAIL_CHARS_MAX: usize = 128;

/// The first Ollama without the memory leak of CVE-2026-7482.
const SAFE_VERSION: [u32; 3] = [0, 17, 1];

/// One Ollama server.
pub struct OllamaProvider {
    /// As the configuration names it, for logs.
    name: String,
    client: Arc<Client>,
    chat: Uri,
    generate: Uri,
    control: Control,
    details: Details,
    version_checked: AtomicBool,
    timeouts: Arc<ArcSwap<Timeouts>>,
}

impl OllamaProvider {
    /// # Errors
    ///
    /// [`ProviderConfigError`] when the base URL cannot be used; says what to change.
    pub fn new(name: &str, base_url: &str, timeouts: Timeouts) -> Result<Self, ProviderConfigError> {
        let address = Address::parse(base_url)?;
        let accepted = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/x-ndjson"))]);
        let connect = timeouts.connect;
        let timeouts = Arc::new(ArcSwap::from_pointee(timeouts));
        Ok(Self {
            name: name.to_owned(),
            chat: address.target("api/chat")?,
            generate: address.target("api/generate")?,
            control: Control::new(&address, Arc::clone(&timeouts))?,
            client: Arc::new(Client::new(address, connect, accepted)?),
            details: Details::default(),
            version_checked: AtomicBool::new(false),
            timeouts,
        })
    }

    /// Its version, and whether that is one of those that are dangerous to share.
    pub(in crate::model) async fn version(&self) -> Result<(String, bool), UpstreamError> {
        let version = self.control.version().await?;
        let is_unsafe = is_older(&version, SAFE_VERSION);
        Ok((short(version), is_unsafe))
    }

    /// Warns once about a server old enough to be dangerous to share.
    async fn check_version(&self) {
        if self.version_checked.load(Ordering::Relaxed) {
            return;
        }
        let Ok((version, is_unsafe)) = self.version().await else { return };
        self.version_checked.store(true, Ordering::Relaxed);
        if is_unsafe {
            tracing::warn!(
                upstream = %self.name,
                %version,
                "this ollama has known security holes, 0.17.1 or newer has not"
            );
        }
    }
}

impl Provider for OllamaProvider {
    fn set_timeouts(&self, timeouts: Timeouts) {
        self.timeouts.store(Arc::new(timeouts));
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ModelCard>, UpstreamError>> {
        Box::pin(async move {
            let (tags, ()) = tokio::join!(self.control.tags(), self.check_version());
            let mut cards: Vec<ModelCard> = tags?.into_iter().take(MODELS_MAX).map(card).collect();
            self.details.fill(&self.control, &mut cards, self.timeouts.load().show).await;
            Ok(cards)
        })
    }

    fn loaded(&self) -> BoxFuture<'_, Result<Vec<String>, UpstreamError>> {
        Box::pin(self.control.loaded())
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), UpstreamError>> {
        Box::pin(async { self.control.version().await.map(drop) })
    }

    fn preload<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<(), UpstreamError>> {
        Box::pin(self.control.preload(model))
    }

    fn unload<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<(), UpstreamError>> {
        Box::pin(self.control.unload(model))
    }

    fn chat<'a>(
        &'a self,
        model: &'a str,
        request: &'a ChatRequest,
    ) -> BoxFuture<'a, Result<Box<dyn AnswerStream>, UpstreamError>> {
        Box::pin(async move {
            let (target, body) = match &request.completion {
                None => (&self.chat, wire::chat_body(model, request)?),
                Some(how) => (&self.generate, wire::generate_body(model, request, how)?),
            };
            let stream = AnswerBytes::open(
                Arc::clone(&self.client),
                Prompt { target: target.clone(), body: body.into() },
                Decoder::new(),
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
        Box::pin(self.control.embed(model, request))
    }
}

fn card(tag: Tag) -> ModelCard {
    let details = tag.details.unwrap_or_default();
    let is_set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    ModelCard {
        is_remote: is_set(&tag.remote_model) || is_set(&tag.remote_host),
        name: if tag.model.is_empty() { tag.name } else { tag.model },
        digest: short(tag.digest),
        modified_at: tag.modified_at,
        size_bytes: tag.size.and_then(|size| size.as_u64()).unwrap_or(0),
        format: short(details.format.unwrap_or_default()),
        family: short(details.family.unwrap_or_default()),
        families: details.families.unwrap_or_default().into_iter().take(FAMILIES_MAX).map(short).collect(),
        parameter_size: short(details.parameter_size.unwrap_or_default()),
        quantization: short(details.quantization_level.unwrap_or_default()),
        capabilities: tag
            .capabilities
            .unwrap_or_default()
            .into_iter()
            .take(CAPABILITIES_MAX)
            .map(short)
            .collect(),
        context_length: details.context_length,
        embedding_length: details.embedding_length,
    }
}

fn short(mut text: String) -> String {
    if let Some((cut, _)) = text.char_indices().nth(DETAIL_CHARS_MAX) {
        text.truncate(cut);
    }
    text
}

/// Whether a dotted version is older than `than`; one that is no version is not.
fn is_older(version: &str, than: [u32; 3]) -> bool {
    let mut parts = version.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
    match (parts.next(), parts.next(), parts.next()) {
        (Some(major), Some(minor), patch) => [major, minor, patch.unwrap_or(0)] < than,
        _ => false,
    }
}
