//! `POST /v1/embeddings`

use std::sync::Arc;

use actors::{model::TurnOptions, system::System};
use http::StatusCode;
use tokio::time::Instant;

use super::answering::tell_processing;
use crate::{
    dialects::{
        native::finish_reason,
        openai::embedding::{EmbeddingReply, EmbeddingRequest},
    },
    http::{ApiError, Call, Reply, json_reply},
    routes::asking::{begin_embedding, tell_queue},
};

/// Turns texts into vectors.
#[utoipa::path(post, path = "/v1/embeddings", tag = "openai", request_body = EmbeddingRequest, responses(
    (status = 200, body = EmbeddingReply), (status = 400), (status = 404, description = "No such model"), (status = 413),
    (status = 500), (status = 502), (status = 504)))]
pub(crate) async fn create(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let began = Instant::now();
    let (request, format) = call.chat(|body: EmbeddingRequest, _| body.read()).await?;
    let options = TurnOptions { deadline: Some(call.deadline), ..TurnOptions::default() };
    let started = begin_embedding(&system, &call, request, options).await?;
    let (position, model) = (started.position, started.model.clone());
    let (made, ending) = started.finished().await;
    finish_reason(&ending)?;
    let body = EmbeddingReply::new(model.as_str(), made.vectors, format, ending.usage);
    let mut reply = json_reply(StatusCode::OK, &body);
    tell_queue(reply.headers_mut(), position, ending.timings.queued);
    tell_processing(reply.headers_mut(), began.elapsed());
    Ok(reply)
}
