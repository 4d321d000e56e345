//! `/v1/chat`: a prompt, and its answer whole or as it comes.
//!
//! A request with an `Idempotency-Key` that was given before, by the same caller with the same body, asks for the answer that
//! was begun then, however far that is and whichever of the two routes began it.

use std::sync::Arc;

use actors::{
    model::{Attached, LetIn, ModelError, StartedTurn, TurnOptions, claim_of},
    system::System,
};
use domain::{id::TurnId, reply::Position, turn::Claim};
use http::{HeaderName, HeaderValue, StatusCode};

use super::{
    asking::{StreamEvent, begin, tell_queue},
    idempotency::{KeyParam, key_of},
    turns::{event_stream, streamed, whole},
};
use crate::{
    dialects::native::{ChatBody, ChatReply},
    http::{ApiError, Call, Reply, json_reply},
};

const REPLAY: HeaderName = HeaderName::from_static("idempotent-replay");

/// What a request came to.
enum Asked {
    New(StartedTurn),
    /// Its key stands for this turn.
    Again(Attached),
}

/// Answers a chat when the whole answer is there. `X-Queue-Position` is its place in line when it was let in (0 found a free
/// slot), `X-Queue-Wait-Ms` what it waited for one. `Idempotent-Replay: true` says that the `Idempotency-Key` was given before.
#[utoipa::path(post, path = "/v1/chat", operation_id = "chat", tag = "chat", request_body = ChatBody,
    params(KeyParam), responses((status = 200, body = ChatReply),
    (status = 404, description = "No such model or conversation, or no such message in it as `parent_id` names"),
    (status = 409, description = "Cancelled; or the answer that the key stands for was not stored; or the answer that \
    `parent_id` names is still being written"),
    (status = 422, description = "The key was given with another body")))]
pub(crate) async fn reply(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let mut started = match ask(&system, &mut call, false).await? {
        Asked::New(started) => started,
        Asked::Again(attached) => return Ok(again(whole(&system, attached).await?)),
    };
    let (answer, ending) = started.reader.finished().await;
    let names = started.names();
    let mut reply = json_reply(StatusCode::OK, &ChatReply::whole(&names, answer, &ending)?);
    tell_queue(reply.headers_mut(), started.position, ending.timings.queued);
    Ok(reply)
}

/// Answers a chat as server-sent events, from the moment it has a place in the queue: `queue` while it waits, `start`,
/// then `chunk`, `thinking` and `tool_call` as they come, and one `done` or `error` at the end. With the `turn_id` of `queue` or
/// `start` and the last `id`, `GET /v1/turns/{id}/stream` goes on where this stream was cut.
#[utoipa::path(post, path = "/v1/chat/stream", operation_id = "chatStream", tag = "chat", request_body = ChatBody,
    params(KeyParam),
    responses((status = 200, content_type = "text/event-stream", body = StreamEvent),
    (status = 404, description = "No such model or conversation, or no such message in it as `parent_id` names"),
    (status = 409, description = "The answer that the key stands for was not stored, or the one that `parent_id` names \
    is still being written"),
    (status = 422, description = "The key was given with another body")))]
pub(crate) async fn stream(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    match ask(&system, &mut call, true).await? {
        Asked::New(started) => {
            let names = started.names();
            Ok(event_stream(started.reader, names, Position::default(), call))
        }
        Asked::Again(attached) => Ok(again(streamed(&system, attached, Position::default(), call)?)),
    }
}

/// Reads what is asked for and begins it, unless it was asked for before.
async fn ask(system: &System, call: &mut Call, is_streamed: bool) -> Result<Asked, ApiError> {
    let key = key_of(&call.head.headers)?.cloned();
    let (request, options) = call
        .chat(|body: ChatBody, bytes| body.into_request(key.map(|key| claim_of(key.as_bytes(), bytes))))
        .await?;
    let options = TurnOptions { deadline: Some(call.deadline), is_streamed, ..options };
    let Some(claim) = options.claim else {
        return Ok(Asked::New(begin(system, call, request, options).await??));
    };
    let found = look_up(system, call, claim).await;
    // Only a turn that is to begin pays for its request itself.
    if !matches!(found, Ok((_, None))) {
        call.pay_for_request(system).await?;
    }
    // Whoever comes with the same key meanwhile finds the turn when this is over.
    let (_let_in, known) = found?;
    if let Some(turn) = known {
        return attach(system, call, turn).await;
    }
    match begin(system, call, request, options).await? {
        Ok(started) => Ok(Asked::New(started)),
        Err(ModelError::Exists(turn)) => attach(system, call, turn).await,
        Err(refusal) => Err(refusal.into()),
    }
}

/// The turn that a key stands for, if any, and the right to begin it while nobody else here does.
async fn look_up(system: &System, call: &Call, claim: Claim) -> Result<(LetIn, Option<TurnId>), ApiError> {
    let principal = call.principal()?;
    let let_in = system.models.line_up(&principal, claim).await?;
    let known = system.models.claimed(&principal, claim).await?;
    Ok((let_in, known))
}

async fn attach(system: &System, call: &Call, turn: TurnId) -> Result<Asked, ApiError> {
    let attached = system.models.attach(&call.principal()?, turn, Position::default()).await?;
    Ok(Asked::Again(attached))
}

fn again(mut reply: Reply) -> Reply {
    reply.headers_mut().insert(REPLAY, HeaderValue::from_static("true"));
    reply
}
