//! `POST /v1/embeddings`

use std::sync::Arc;

use actors::{model::TurnOptions, system::System};
use http::StatusCode;

use crate::{
    dialects::{
        native::finish_reason,
        openai::embedding::{EmbeddingReply, EmbeddingRequest},
    },
    http::{ApiError, Call, Reply, json_reply},
    routes::asking::{begin_embedding, tell_queue},
};

/// Turns texts into vectors.
#[utoipa::path(post, path = "/v1/embeddings", operation_id = "openaiEmbedding", tag = "openai",
    request_body = EmbeddingRequest, responses((status = 200, body = EmbeddingReply),
    (status = 404, description = "No such model")))]
pub(crate) async fn create(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let (request, format) = call.chat(|body: EmbeddingRequest, _| body.read()).await?;
    let options = TurnOptions { deadline: Some(call.deadline), ..TurnOptions::default() };
    let started = begin_embedding(&system, &call, request, options).await?;
    let (position, model) = (started.position, started.model.clone());
    let (made, ending) = started.finished().await;
    finish_reason(&ending)?;
    let body = EmbeddingReply::new(model.as_str(), made.vectors, format, ending.usage);
    let mut reply = json_reply(StatusCode::OK, &body);
    tell_queue(reply.headers_mut(), position, ending.timings.queued);
    Ok(reply)
}
