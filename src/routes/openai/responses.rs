//! `POST /v1/responses`

use std::sync::Arc;

use actors::system::System;

use super::answering::answer;
use crate::{
    dialects::openai::responses::{ResponseReply, Responses, ResponsesRequest},
    http::{ApiError, Call, Reply},
    routes::asking::StreamEvent,
};

/// Answers items with items, as OpenAI does: as one response, or with `stream` as typed events that end with `response.completed`,
/// `response.incomplete`, or `response.failed` and an `error`. What is asked with `store` can be gone on from by
/// `previous_response_id`. Headers are as those of `/v1/chat/completions`.
#[utoipa::path(post, path = "/v1/responses", operation_id = "openaiResponse", tag = "openai", request_body = ResponsesRequest,
    responses((status = 200, content((ResponseReply<'_> = "application/json"), (StreamEvent = "text/event-stream"))),
    (status = 404, description = "No such model, or no such response to go on from"),
    (status = 409, description = "The response to go on from is still being written")))]
pub(crate) async fn create(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    answer::<_, Responses>(&system, call, ResponsesRequest::read).await
}
