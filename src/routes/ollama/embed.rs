//! `/api/embed` and `/api/embeddings`.

use std::sync::Arc;

use actors::{model::TurnOptions, reply::Ending, system::System};
use domain::embedding::EmbedRequest;
use http::StatusCode;

use crate::{
    dialects::{
        native::finish_reason,
        ollama::{EmbedBody, Embedded, OldEmbedBody, OldEmbedded},
    },
    http::{ApiError, Call, Reply, json_reply},
    routes::asking::{begin_embedding, check_offered},
};

/// Turns texts into vectors.
#[utoipa::path(post, path = "/api/embed", operation_id = "ollamaEmbed", tag = "ollama", request_body = EmbedBody,
    responses((status = 200, body = Embedded), (status = 404, description = "No such model")))]
pub(crate) async fn embed(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let request = call.untyped_chat(|body: EmbedBody, _| body.read()).await?;
    let model = request.model.clone();
    let reply = match vectors(&system, &call, request).await? {
        None => json_reply(StatusCode::OK, &Embedded::nothing(model.as_str())),
        Some((vectors, ending)) => {
            json_reply(StatusCode::OK, &Embedded::new(model.as_str(), vectors, &ending))
        }
    };
    Ok(reply)
}

/// Turns one text into a vector, as older clients ask for it.
#[utoipa::path(post, path = "/api/embeddings", operation_id = "ollamaEmbedOne", tag = "ollama",
    request_body = OldEmbedBody, responses((status = 200, body = OldEmbedded),
    (status = 404, description = "No such model")))]
pub(crate) async fn embed_one(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let request = call.untyped_chat(|body: OldEmbedBody, _| body.read()).await?;
    let made = vectors(&system, &call, request).await?;
    let embedding = made.and_then(|(vectors, _)| vectors.into_iter().next()).unwrap_or_default();
    Ok(json_reply(StatusCode::OK, &OldEmbedded { embedding }))
}

/// The vectors of a request's texts; `None` where there are none.
async fn vectors(
    system: &System,
    call: &Call,
    request: EmbedRequest,
) -> Result<Option<(Vec<Vec<f32>>, Ending)>, ApiError> {
    if request.inputs.is_empty() {
        call.pay_for_request(system).await?;
        check_offered(system, call, &request.model)?;
        return Ok(None);
    }
    let options = TurnOptions { deadline: Some(call.deadline), ..TurnOptions::default() };
    let (made, ending) = begin_embedding(system, call, request, options).await?.finished().await;
    finish_reason(&ending)?;
    Ok(Some((made.vectors, ending)))
}
