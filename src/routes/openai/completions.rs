//! `POST /v1/completions`

use std::sync::Arc;

use actors::system::System;

use super::answering::answer;
use crate::{
    dialects::openai::{
        Completed,
        completion::{CompletionChoice, CompletionRequest, Completions},
    },
    http::{ApiError, Call, Reply},
    routes::asking::StreamEvent,
};

/// Goes on with a text, or fills a gap in one. Streams and headers are as those of `/v1/chat/completions`.
#[utoipa::path(post, path = "/v1/completions", operation_id = "openaiCompletion", tag = "openai",
    request_body = CompletionRequest,
    responses((status = 200,
    content((Completed<'_, CompletionChoice<'_>> = "application/json"), (StreamEvent = "text/event-stream"))),
    (status = 404, description = "No such model")))]
pub(crate) async fn create(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    answer::<_, Completions>(&system, call, CompletionRequest::read).await
}
