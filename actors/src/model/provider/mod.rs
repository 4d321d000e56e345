//! Providers: one file per kind of model server, behind one trait.
//!
//! A provider knows a wire, not a dialect: it takes the domain's request and gives batches of deltas.

mod answer;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod decoded;
mod demo;
mod ollama;
mod openai;
#[cfg(test)]
pub(crate) mod scripted;
mod transport;

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{
    chat::ChatRequest,
    embedding::{EmbedRequest, Embeddings},
    reply::{Delta, FinishReason, Usage},
};
use futures_util::future::BoxFuture;

use self::{demo::DemoProvider, ollama::OllamaProvider, openai::OpenAiProvider};
use super::{Timeouts, UpstreamConfig, UpstreamKind};

/// A model as its server lists it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelCard {
    /// The exact name to send back to that server.
    pub name: String,
    pub digest: String,
    pub modified_at: Option<DateTime<Utc>>,
    pub size_bytes: u64,
    /// `gguf` or `safetensors`.
    pub format: String,
    pub family: String,
    pub families: Vec<String>,
    pub parameter_size: String,
    pub quantization: String,
    /// Empty when the server does not tell.
    pub capabilities: Vec<String>,
    pub context_length: Option<u32>,
    /// Numbers in one of its vectors.
    pub embedding_length: Option<u32>,
    /// Its server sends prompts for it to somebody else's machine, whatever the name says.
    pub is_remote: bool,
}

/// A configured model server that cannot be used as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the model server's base URL {base_url:?} {problem}")]
pub struct ProviderConfigError {
    pub base_url: String,
    pub problem: &'static str,
}

/// How a model server failed us. The texts are for logs; only `Rejected` has words meant for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("no answer within {0:?}")]
    FirstByteTimeout(Duration),
    #[error("silent for {0:?}")]
    IdleTimeout(Duration),
    /// It is full (503): not a failure of the server; the turn may wait and try again.
    #[error("the model server is busy")]
    Busy,
    /// It has no such model (404).
    #[error("the model server does not have the model")]
    NoSuchModel,
    /// It refused this request (400): the caller's fault.
    #[error("the model server refused the request: {0}")]
    Rejected(String),
    /// Any other status below 500: it answers, but not what we asked.
    #[error("the model server declined the request: {0}")]
    Declined(String),
    /// An error status from 500 up, or an error line in the stream.
    #[error("the model server failed: {0}")]
    Failed(String),
    /// The stream ended without its last line.
    #[error("the answer ended without its last line")]
    Incomplete,
    /// The answer is more than one answer may be: the model's doing, not its server's.
    #[error("the answer is too large")]
    TooLarge,
    /// Bytes that are not the protocol.
    #[error("the model server sent nonsense: {0}")]
    Garbage(String),
}

impl UpstreamError {
    /// All kinds, by their [`UpstreamError::kind`].
    pub(in crate::model) const KINDS: [&str; 11] = [
        "connect",
        "first_byte_timeout",
        "idle_timeout",
        "busy",
        "no_such_model",
        "rejected",
        "declined",
        "failed",
        "incomplete",
        "garbage",
        "too_large",
    ];

    /// Its place among [`UpstreamError::KINDS`], for the metrics.
    pub(in crate::model) const fn kind(&self) -> usize {
        match self {
            Self::Connect(_) => 0,
            Self::FirstByteTimeout(_) => 1,
            Self::IdleTimeout(_) => 2,
            Self::Busy => 3,
            Self::NoSuchModel => 4,
            Self::Rejected(_) => 5,
            Self::Declined(_) => 6,
            Self::Failed(_) => 7,
            Self::Incomplete => 8,
            Self::Garbage(_) => 9,
            Self::TooLarge => 10,
        }
    }

    /// Its word in metrics and traces.
    pub const fn label(&self) -> &'static str {
        Self::KINDS[self.kind()]
    }

    /// Whether the server itself failed, as opposed to being busy, not liking the request, or breaking off what it had begun.
    pub const fn is_the_servers_own(&self) -> bool {
        match self {
            Self::Connect(_) | Self::FirstByteTimeout(_) | Self::Failed(_) | Self::Garbage(_) => true,
            Self::IdleTimeout(_)
            | Self::Busy
            | Self::NoSuchModel
            | Self::Rejected(_)
            | Self::Declined(_)
            | Self::Incomplete
            | Self::TooLarge => false,
        }
    }
}

/// The last words of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finish {
    pub reason: FinishReason,
    /// As the server counted; `None` when it did not tell.
    pub usage: Option<Usage>,
    pub load: Duration,
}

/// What one read brought: any number of deltas (neighbours of one kind are joined), and the end if it came.
#[derive(Debug, Default)]
pub struct Batch {
    pub deltas: Vec<Delta>,
    /// How many pieces, nearly always tokens, were joined into the deltas: what an answer that breaks off has cost.
    pub pieces: u32,
    pub finish: Option<Finish>,
}

impl Batch {
    /// Empties it for the next read and keeps its memory.
    pub fn clear(&mut self) {
        self.deltas.clear();
        self.pieces = 0;
        self.finish = None;
    }
}

/// An answer being received.
pub trait AnswerStream: Send {
    /// Waits for the next read, decodes all that it brought into `batch` (which is cleared first, and may stay empty).
    ///
    /// Bounded by the provider's own first-byte and idle timeouts. Cancel-safe: dropping the future loses nothing; dropping the
    /// stream ends the upstream request at once.
    ///
    /// # Errors
    ///
    /// Terminal: the stream must not be read again. Deltas received before the error are in `batch`.
    fn read<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), UpstreamError>>;

    /// Asks for reads of at least this many milliseconds of text when only an aggregating reader listens (speed guide §2).
    fn pace(&mut self, pace: Option<Duration>);
}

/// A kind of model server.
pub trait Provider: Send + Sync + 'static {
    /// What it offers. Bounded by the provider's own timeouts.
    fn list(&self) -> BoxFuture<'_, Result<Vec<ModelCard>, UpstreamError>>;
    /// The models it holds in memory. One that is being loaded need not be among them.
    fn loaded(&self) -> BoxFuture<'_, Result<Vec<String>, UpstreamError>>;
    /// Whether it is there, as cheaply as can be asked.
    fn probe(&self) -> BoxFuture<'_, Result<(), UpstreamError>>;
    /// Loads the model and returns when it is loaded; at once where there is nothing to load. Dropping the future may abort
    /// the load, so only the room itself calls this, never a turn.
    fn preload<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<(), UpstreamError>>;
    /// Frees the model's memory and returns when it is free. Nobody may use the model meanwhile.
    fn unload<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<(), UpstreamError>>;
    /// Sends the prompt. `model` is the server's own name. Resolves when the request was written; the answer's head is
    /// awaited by the first read.
    fn chat<'a>(
        &'a self,
        model: &'a str,
        request: &'a ChatRequest,
    ) -> BoxFuture<'a, Result<Box<dyn AnswerStream>, UpstreamError>>;
    /// Turns texts into vectors, one for each in their order. Bounded by the provider's own timeouts; dropping the future ends the
    /// request.
    fn embed<'a>(
        &'a self,
        model: &'a str,
        request: &'a EmbedRequest,
    ) -> BoxFuture<'a, Result<Embeddings, UpstreamError>>;
    /// From now on calls go by these; those under way by the ones they began with. The time to connect stays what it was.
    fn set_timeouts(&self, _: Timeouts) {}
}

/// All kinds of model servers; a new kind is one file and one arm here.
pub enum AnyProvider {
    Ollama(Box<OllamaProvider>),
    OpenAi(Box<OpenAiProvider>),
    Demo(DemoProvider),
    #[cfg(test)]
    Scripted(scripted::ScriptedProvider),
}

impl AnyProvider {
    /// # Errors
    ///
    /// [`ProviderConfigError`]: the service must not start; show it to the operator.
    pub fn from_config(config: &UpstreamConfig, timeouts: &Timeouts) -> Result<Self, ProviderConfigError> {
        match &config.kind {
            UpstreamKind::Ollama { base_url } => OllamaProvider::new(&config.name, base_url, *timeouts)
                .map(|provider| Self::Ollama(Box::new(provider))),
            UpstreamKind::OpenAi { base_url, key } => OpenAiProvider::new(base_url, key.as_ref(), *timeouts)
                .map(|provider| Self::OpenAi(Box::new(provider))),
            UpstreamKind::Demo => Ok(Self::Demo(DemoProvider::default())),
        }
    }

    /// From now on calls go by these; those under way by the ones they began with.
    pub fn set_timeouts(&self, timeouts: Timeouts) {
        self.as_provider().set_timeouts(timeouts);
    }

    /// The provider behind the arm.
    pub fn as_provider(&self) -> &dyn Provider {
        match self {
            Self::Ollama(provider) => provider.as_ref(),
            Self::OpenAi(provider) => provider.as_ref(),
            Self::Demo(provider) => provider,
            #[cfg(test)]
            Self::Scripted(provider) => provider,
        }
    }
}
