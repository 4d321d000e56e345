//! `/v1/chat`: a prompt, and its answer whole or as it comes.

use std::sync::Arc;

use actors::system::System;
use http::{HeaderName, HeaderValue, StatusCode, header::CACHE_CONTROL};

use crate::{
    dialects::native::{ChatBody, ChatReply, TurnNames, TurnStream},
    http::{ApiError, Call, Reply, json_reply, stream_reply},
};

const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Answers a chat when the whole answer is there.
#[utoipa::path(post, path = "/v1/chat", tag = "chat", request_body = ChatBody, responses(
    (status = 200, body = ChatReply), (status = 400), (status = 404, description = "No such model or \
    conversation"), (status = 413), (status = 502), (status = 503), (status = 504)))]
pub(crate) async fn reply(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let (request, options) = call.chat(ChatBody::into_request).await?;
    let mut started = system.models.start_turn(&call.principal()?, request, options).await?;
    let (answer, ending) = started.reader.finished().await;
    let names = TurnNames::of(&started);
    Ok(json_reply(StatusCode::OK, &ChatReply::whole(&names, answer, &ending)?))
}

/// Answers a chat as server-sent events, from the moment it has a place in the queue: `queue` while it waits, `start`,
/// then `chunk`, `thinking` and `tool_call` as they come, and one `done` or `error` at the end.
#[utoipa::path(post, path = "/v1/chat/stream", tag = "chat", request_body = ChatBody,
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 400),
    (status = 404, description = "No such model or conversation"), (status = 413), (status = 503)))]
pub(crate) async fn stream(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let (request, options) = call.chat(ChatBody::into_request).await?;
    let started = system.models.start_turn(&call.principal()?, request, options).await?;
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
