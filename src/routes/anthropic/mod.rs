//! Anthropic's paths; see [`crate::dialects::anthropic`].

use std::sync::Arc;

use actors::system::System;
use http::StatusCode;

use super::asking::{StreamEvent, begin, check_offered, stream_answer, tell_queue, think_if_able};
use crate::{
    dialects::anthropic::{Asked, CountTokensRequest, Encoder, MessageReply, MessagesRequest, TokenCount},
    http::{ApiError, Call, Reply, json_reply},
};

/// Answers messages in Anthropic's words: whole, or with `stream` as server-sent events.
#[utoipa::path(post, path = "/v1/messages", operation_id = "anthropicMessage", tag = "anthropic",
    request_body = MessagesRequest, responses((status = 200,
    content((MessageReply = "application/json"), (StreamEvent = "text/event-stream"))),
    (status = 404, description = "No such model")))]
pub(crate) async fn messages(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let read = |body: MessagesRequest, _: &[u8]| body.read();
    let Asked { mut request, mut options, is_streamed } = call.chat(read).await?;
    options.deadline = Some(call.deadline);
    think_if_able(&system, &call, &mut request)?;
    let estimate = request.estimated_prompt_tokens();
    let mut started = begin(&system, &call, request, options).await??;
    let names = started.names();
    if is_streamed {
        let encoder = Encoder::new(names, call.request_id.clone(), estimate);
        return stream_answer("text/event-stream", started, encoder, call).await;
    }
    let (answer, ending) = started.reader.finished().await;
    let mut reply = json_reply(StatusCode::OK, &MessageReply::whole(&names, &answer, &ending)?);
    tell_queue(reply.headers_mut(), started.position, ending.timings.queued);
    Ok(reply)
}

/// Estimates how many tokens a model would be given to read: about a quarter of the text's bytes, and 512 for a picture. Only the
/// model's own server could count them.
#[utoipa::path(post, path = "/v1/messages/count_tokens", operation_id = "anthropicCountTokens", tag = "anthropic",
    request_body = CountTokensRequest, responses((status = 200, body = TokenCount),
    (status = 404, description = "No such model")))]
pub(crate) async fn count_tokens(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let request = call.chat(|body: CountTokensRequest, _| body.read()).await?;
    check_offered(&system, &call, &request.model)?;
    let input_tokens = request.estimated_prompt_tokens();
    Ok(json_reply(StatusCode::OK, &TokenCount { input_tokens }))
}
