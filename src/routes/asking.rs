//! Asking a model, as the routes of all dialects do it: pay, line up, and wait for the first word.

use std::time::Duration;

use actors::{
    model::{ModelError, StartedEmbedding, StartedTurn, TurnOptions},
    rate_limit::{TokenReserve, TurnSize},
    reply::{Ending, Outcome},
    system::System,
};
use domain::{chat::ChatRequest, embedding::EmbedRequest, model_name::ModelName};
use http::{HeaderMap, HeaderName, HeaderValue, header::CACHE_CONTROL};
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::{
    dialects::{Encode, Events, TurnStream, native::millis},
    http::{ApiError, Call, Reply, stream_reply},
};

const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const QUEUE_POSITION: HeaderName = HeaderName::from_static("x-queue-position");
const QUEUE_WAIT: HeaderName = HeaderName::from_static("x-queue-wait-ms");

/// What a model can that thinks before it answers.
const THINKING: &str = "thinking";

/// How long a stream of another dialect waits for its first word before it says 200. Most failures come sooner, and keep their
/// status (ollama-wire §10).
const FIRST_WORD_PATIENCE: Duration = Duration::from_secs(5);

/// An event of a stream, as its fields are named on the wire.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described; each dialect's encoder writes its own")]
pub(crate) struct StreamEvent {
    /// Where a stream goes on that was cut after this one.
    id: Option<String>,
    event: Option<String>,
    /// JSON, or OpenAI's `[DONE]`.
    data: String,
}

/// Has the turn paid for and lines it up.
///
/// # Errors
///
/// Outside: it is not to begin, and why. Inside: what the room says, of which [`ModelError::Exists`] is a way to an answer.
pub(super) async fn begin(
    system: &System,
    call: &Call,
    request: ChatRequest,
    options: TurnOptions,
) -> Result<Result<StartedTurn, ModelError>, ApiError> {
    let reserve = pay(system, call, &request.model, TurnSize::of(&request)).await?;
    Ok(system.models.start_turn(&call.principal()?, request, options, reserve).await)
}

/// The same for texts that are to become vectors.
///
/// # Errors
///
/// It is not to begin, and why.
pub(super) async fn begin_embedding(
    system: &System,
    call: &Call,
    request: EmbedRequest,
    options: TurnOptions,
) -> Result<StartedEmbedding, ApiError> {
    let size = TurnSize { prompt_tokens: request.estimated_tokens(), answer_tokens: Some(0) };
    let reserve = pay(system, call, &request.model, size).await?;
    Ok(system.models.start_embedding(&call.principal()?, request, options, reserve).await?)
}

async fn pay(
    system: &System,
    call: &Call,
    model: &ModelName,
    size: TurnSize,
) -> Result<TokenReserve, ApiError> {
    // A name that nobody offers has no bucket: whoever makes them up would fill those of models.
    if let Err(refusal) = check_offered(system, call, model) {
        call.pay_for_request(system).await?;
        return Err(refusal);
    }
    call.pay_for_turn(system, model, size).await
}

/// # Errors
///
/// 404 when nobody offers the caller a model of this name.
pub(super) fn check_offered(system: &System, call: &Call, model: &ModelName) -> Result<(), ApiError> {
    if system.models.offers(&call.principal()?, model) {
        return Ok(());
    }
    Err(ApiError::model_not_found(model.as_str()))
}

/// Forgets how to think where the model does not: clients of other dialects say it to every model, and a server refuses what it
/// cannot.
pub(super) fn think_if_able(system: &System, call: &Call, request: &mut ChatRequest) -> Result<(), ApiError> {
    if request.think.is_some() {
        let model = system.models.model(&call.principal()?, &request.model);
        // A server that says nothing of what its models can, as none of OpenAI's dialect does, skips what it cannot.
        let is_able = model.is_some_and(|model| {
            model.capabilities.is_empty() || model.capabilities.iter().any(|known| known == THINKING)
        });
        request.think = request.think.filter(|_| is_able);
    }
    Ok(())
}

/// Says in the head of a whole reply what its turn had to wait for.
pub(super) fn tell_queue(headers: &mut HeaderMap, position: usize, queued: Duration) {
    tell_position(headers, position);
    headers.insert(QUEUE_WAIT, millis(queued).into());
}

/// Says in the head of a reply which place in line its turn was let in at: 1 was next, 0 found a free slot.
fn tell_position(headers: &mut HeaderMap, position: usize) {
    headers.insert(QUEUE_POSITION, position.into());
}

/// A turn as a stream in the words of `encoder`, from its first word on.
///
/// # Errors
///
/// What the turn failed of, where it was over before there was anything to read.
pub(super) async fn stream_answer(
    content_type: &'static str,
    mut started: StartedTurn,
    encoder: impl Encode + 'static,
    call: Call,
) -> Result<Reply, ApiError> {
    let over = timeout(FIRST_WORD_PATIENCE, started.reader.first_word()).await.ok().flatten();
    if let Some(Ending { outcome: Outcome::Failed { code, message, retry_after }, .. }) = over {
        return Err(ApiError::turn_failed(code, &message, retry_after));
    }
    let mut reply = turn_stream(content_type, started.reader, encoder, call);
    tell_position(reply.headers_mut(), started.position);
    Ok(reply)
}

/// A turn's events as the reply to `call`, in the words of `encoder`.
pub(super) fn turn_stream(
    content_type: &'static str,
    events: impl Events + 'static,
    encoder: impl Encode + 'static,
    call: Call,
) -> Reply {
    let mut reply = stream_reply(content_type, TurnStream::new(events, encoder, call));
    let headers = reply.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    reply
}
