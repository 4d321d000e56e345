//! `/api/chat` and `/api/generate`.

use std::sync::Arc;

use actors::{model::TurnOptions, system::System};
use http::StatusCode;
use serde::de::DeserializeOwned;

use crate::{
    dialects::ollama::{Asked, Encoder, OllamaChatBody, OllamaGenerateBody, OllamaReply},
    http::{ApiError, Call, Reply, json_reply},
    routes::asking::{begin, check_offered, stream_answer, tell_queue, think_if_able},
};

/// Answers a chat in Ollama's words, line by line unless `stream` is `false`.
#[utoipa::path(post, path = "/api/chat", operation_id = "ollamaChat", tag = "ollama", request_body = OllamaChatBody,
    responses((status = 200,
    content((OllamaReply = "application/json"), (OllamaReply = "application/x-ndjson"))),
    (status = 404, description = "No such model")))]
pub(crate) async fn chat(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    answer(&system, call, OllamaChatBody::read).await
}

/// Answers or continues a text in Ollama's words, line by line unless `stream` is `false`.
#[utoipa::path(post, path = "/api/generate", operation_id = "ollamaGenerate", tag = "ollama",
    request_body = OllamaGenerateBody, responses((status = 200,
    content((OllamaReply = "application/json"), (OllamaReply = "application/x-ndjson"))),
    (status = 404, description = "No such model")))]
pub(crate) async fn generate(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    answer(&system, call, OllamaGenerateBody::read).await
}

async fn answer<B: DeserializeOwned>(
    system: &System,
    mut call: Call,
    read: impl FnOnce(B) -> Result<Asked, ApiError>,
) -> Result<Reply, ApiError> {
    let (mut request, manner, is_streamed) = match call.untyped_chat(|body: B, _| read(body)).await? {
        Asked::Turn { request, manner, is_streamed } => (request, manner, is_streamed),
        Asked::Residence { model, manner, is_to_go } => {
            call.pay_for_request(system).await?;
            check_offered(system, &call, &model)?;
            let now = system.clock().now();
            let reply = OllamaReply::residence(model.as_str(), now, manner, is_to_go);
            return Ok(json_reply(StatusCode::OK, &reply));
        }
    };
    think_if_able(system, &call, &mut request)?;
    let options = TurnOptions { deadline: Some(call.deadline), ..TurnOptions::default() };
    let mut started = begin(system, &call, *request, options).await??;
    let names = started.names();
    if !is_streamed {
        let (answer, ending) = started.reader.finished().await;
        let now = system.clock().now();
        let whole = OllamaReply::whole(names.model.as_str(), now, manner, &answer, &ending)?;
        let mut reply = json_reply(StatusCode::OK, &whole);
        tell_queue(reply.headers_mut(), started.position, ending.timings.queued);
        return Ok(reply);
    }
    let encoder = Encoder::new(names, call.request_id.clone(), manner, system.clock().clone());
    stream_answer("application/x-ndjson", started, encoder, call).await
}
