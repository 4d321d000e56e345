//! What every kind of model server has to do, held against each over real sockets.
//!
//! A case is written once and runs for each [`Kind`] against a scripted server in its dialect. What only one of them has stands
//! in that provider's own tests.

mod answers;
mod calls;
mod failures;
mod requests;

use std::time::Duration;

use domain::{
    chat::{ChatMessage, ChatRequest, Role, ToolCall},
    embedding::EmbedRequest,
    model_name::ModelName,
    reply::{Delta, TokenLogprob},
    secret::Secret,
};
use support::{
    fake_ollama::{self, Control, FakeOllama, Model, Request, Scenario},
    fake_openai::FakeOpenAi,
};
use tokio::time::timeout;

use super::{AnswerStream, AnyProvider, Batch, Finish, UpstreamError};
use crate::model::{Timeouts, UpstreamConfig, UpstreamKind};

pub(super) const MODEL: &str = "qwen3:8b";
pub(super) const EMBEDDER: &str = "embedder:latest";
pub(super) const SOON: Duration = Duration::from_secs(10);

/// What the server wants of who asks it, where its dialect has that.
pub(super) const KEY: &str = "sk-canary-4f1c";

/// Runs each case for every kind of server.
macro_rules! each_kind {
    ($($(#[$attribute:meta])* async fn $name:ident($kind:ident) $body:block)+) => {$(
        mod $name {
            use super::*;

            $(#[$attribute])*
            async fn test($kind: Kind) $body

            #[tokio::test]
            async fn by_ollama() {
                test(Kind::Ollama).await;
            }

            #[tokio::test]
            async fn by_openai() {
                test(Kind::OpenAi).await;
            }
        }
    )+};
}
use each_kind;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ollama,
    OpenAi,
}

/// A server in that dialect; alive as long as it is held.
pub(super) enum Fake {
    Ollama(FakeOllama),
    OpenAi(FakeOpenAi),
}

impl Fake {
    pub(super) fn control(&self) -> &Control {
        match self {
            Self::Ollama(fake) => fake.control(),
            Self::OpenAi(fake) => fake.control(),
        }
    }

    fn addr(&self) -> std::net::SocketAddr {
        match self {
            Self::Ollama(fake) => fake.addr(),
            Self::OpenAi(fake) => fake.addr(),
        }
    }
}

impl Kind {
    pub(super) async fn serving(self, models: impl IntoIterator<Item = Model>) -> (Fake, AnyProvider) {
        let config = fake_ollama::Config::with(models);
        let fake = match self {
            Self::Ollama => Fake::Ollama(FakeOllama::start(config).await.unwrap()),
            Self::OpenAi => Fake::OpenAi(FakeOpenAi::start(config, Some(KEY)).await.unwrap()),
        };
        let provider = self.at(fake.addr());
        (fake, provider)
    }

    pub(super) async fn playing(self, scenario: Scenario) -> (Fake, AnyProvider) {
        self.serving([Model::new(MODEL).tokens(10).scenario(scenario)]).await
    }

    /// The provider of a server at this address.
    fn at(self, addr: std::net::SocketAddr) -> AnyProvider {
        let kind = match self {
            Self::Ollama => UpstreamKind::Ollama { base_url: format!("http://{addr}") },
            Self::OpenAi => UpstreamKind::OpenAi {
                base_url: format!("http://{addr}/v1"),
                key: Some(Secret::new(KEY.to_owned())),
            },
        };
        AnyProvider::from_config(&UpstreamConfig::new("test", kind), &timeouts()).unwrap()
    }

    /// Where chats are asked, and texts to continue.
    const fn paths(self) -> [&'static str; 2] {
        match self {
            Self::Ollama => ["/api/chat", "/api/generate"],
            Self::OpenAi => ["/v1/chat/completions", "/v1/completions"],
        }
    }
}

pub(super) fn timeouts() -> Timeouts {
    Timeouts { connect: Duration::from_millis(500), ..Timeouts::default() }
}

pub(super) fn request() -> ChatRequest {
    ChatRequest::new(
        ModelName::parse("client/spelling").unwrap(),
        vec![ChatMessage::text(Role::User, "tell me something")],
    )
}

pub(super) fn texts(inputs: &[&str]) -> EmbedRequest {
    EmbedRequest {
        model: ModelName::parse("client/spelling").unwrap(),
        inputs: inputs.iter().map(|text| (*text).to_owned()).collect(),
        dimensions: None,
        truncate: true,
    }
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) content: String,
    pub(super) thinking: String,
    pub(super) calls: Vec<ToolCall>,
    pub(super) logprobs: Vec<TokenLogprob>,
    pub(super) pieces: u32,
    pub(super) end: Result<Finish, UpstreamError>,
}

impl Answered {
    fn with(end: Result<Finish, UpstreamError>) -> Self {
        let (content, thinking) = (String::new(), String::new());
        Self { content, thinking, calls: Vec::new(), logprobs: Vec::new(), pieces: 0, end }
    }
}

pub(super) async fn read_all(stream: &mut Box<dyn AnswerStream>) -> Answered {
    let mut answered = Answered::with(Err(UpstreamError::Incomplete));
    let mut batch = Batch::default();
    loop {
        let read = timeout(SOON, stream.read(&mut batch)).await.expect("a read is bounded");
        answered.pieces += batch.pieces;
        for delta in batch.deltas.drain(..) {
            match delta {
                Delta::Content(text) => answered.content += &text,
                Delta::Thinking(text) => answered.thinking += &text,
                Delta::ToolCall(call) => answered.calls.push(call),
                Delta::Logprobs(tokens) => answered.logprobs.extend(tokens),
            }
        }
        match (read, batch.finish) {
            (Err(error), _) => answered.end = Err(error),
            (Ok(()), Some(finish)) => answered.end = Ok(finish),
            (Ok(()), None) => continue,
        }
        return answered;
    }
}

pub(super) async fn ask(provider: &AnyProvider) -> Answered {
    ask_for(provider, &request()).await
}

pub(super) async fn ask_for(provider: &AnyProvider, request: &ChatRequest) -> Answered {
    match provider.as_provider().chat(MODEL, request).await {
        Ok(mut stream) => read_all(&mut stream).await,
        Err(error) => Answered::with(Err(error)),
    }
}

/// The last request to this path.
pub(super) fn last_request(control: &Control, path: &str) -> Request {
    control.requests().into_iter().rfind(|request| request.path == path).unwrap()
}

async fn chats(control: &Control, expected: u64) {
    control.wait_until(|counters| counters.chat_calls >= expected, SOON).await.unwrap();
}
