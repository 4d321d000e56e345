//! `/v1/chat`: a prompt, and its answer whole or as it comes.

use std::sync::Arc;

use actors::{
    model::{StartedTurn, TurnOptions},
    system::System,
};
use http::{HeaderName, HeaderValue, StatusCode, header::CACHE_CONTROL};

use crate::{
    dialects::native::{ChatBody, ChatReply, TurnNames, TurnStream, millis},
    http::{ApiError, Call, Reply, json_reply, stream_reply},
};

const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const QUEUE_POSITION: HeaderName = HeaderName::from_static("x-queue-position");
const QUEUE_WAIT: HeaderName = HeaderName::from_static("x-queue-wait-ms");

/// Answers a chat when the whole answer is there. `X-Queue-Position` is its place in line when it was let in (0 found a free
/// slot), `X-Queue-Wait-Ms` what it waited for one.
#[utoipa::path(post, path = "/v1/chat", tag = "chat", request_body = ChatBody, responses(
    (status = 200, body = ChatReply), (status = 400), (status = 404, description = "No such model or \
    conversation"), (status = 413), (status = 502), (status = 503), (status = 504)))]
pub(crate) async fn reply(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let mut started = start(&system, &mut call).await?;
    let (answer, ending) = started.reader.finished().await;
    let names = TurnNames::of(&started);
    let mut reply = json_reply(StatusCode::OK, &ChatReply::whole(&names, answer, &ending)?);
    let headers = reply.headers_mut();
    headers.insert(QUEUE_POSITION, started.position.into());
    headers.insert(QUEUE_WAIT, millis(ending.timings.queued).into());
    Ok(reply)
}

/// Answers a chat as server-sent events, from the moment it has a place in the queue: `queue` while it waits, `start`,
/// then `chunk`, `thinking` and `tool_call` as they come, and one `done` or `error` at the end.
#[utoipa::path(post, path = "/v1/chat/stream", tag = "chat", request_body = ChatBody,
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 400),
    (status = 404, description = "No such model or conversation"), (status = 413), (status = 503)))]
pub(crate) async fn stream(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let started = start(&system, &mut call).await?;
    let names = TurnNames::of(&started);
    let events = TurnStream::new(
        started.reader,
        names,
        call.request_id,
        call.config.heartbeat,
        call.deadline,
        call.ending,
    );
    let mut reply = stream_reply("text/event-stream", events);
    let headers = reply.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(reply)
}

/// Reads what is asked for, has it paid for and lines it up.
async fn start(system: &System, call: &mut Call) -> Result<StartedTurn, ApiError> {
    let (request, options) = call.chat(ChatBody::into_request).await?;
    // A name that nobody offers has no bucket: whoever makes them up would fill those of models.
    if !system.models.offers(&request.model) {
        call.pay_for_request(system).await?;
        return Err(ApiError::model_not_found(request.model.as_str()));
    }
    let options = TurnOptions { deadline: Some(call.deadline), ..options };
    let reserve = call.pay_for_turn(system, &request).await?;
    Ok(system.models.start_turn(&call.principal()?, request, options, reserve).await?)
}
