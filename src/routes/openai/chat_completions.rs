//! `POST /v1/chat/completions`

use std::sync::Arc;

use actors::system::System;

use super::answering::answer;
use crate::{
    dialects::openai::{
        Completed,
        chat::{ChatCompletionChoice, ChatCompletionRequest, ChatCompletions},
    },
    http::{ApiError, Call, Reply},
    routes::asking::StreamEvent,
};

/// Answers a chat as OpenAI does: as one object, or with `stream` as `data:` lines that end with `data: [DONE]`, or with an
/// `error` in place of it. A stream says 200 at its first word or after five seconds, and while it waits it tells its place in
/// line in comments. `X-Queue-Position` is that place when the request was let in (0 found a free slot).
#[utoipa::path(post, path = "/v1/chat/completions", operation_id = "openaiChatCompletion", tag = "openai",
    request_body = ChatCompletionRequest,
    responses((status = 200,
    content((Completed<'_, ChatCompletionChoice<'_>> = "application/json"), (StreamEvent = "text/event-stream"))),
    (status = 404, description = "No such model")))]
pub(crate) async fn create(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    answer::<_, ChatCompletions>(&system, call, ChatCompletionRequest::read).await
}
