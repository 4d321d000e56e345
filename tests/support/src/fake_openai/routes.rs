//! Which endpoint answers, and who may ask.

use std::io;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::fake_ollama::Server;
use crate::fake_ollama::ask::Api;
use crate::fake_ollama::catalogue::Listing;
use crate::fake_ollama::http::request::Request;
use crate::fake_ollama::http::response::{ERROR_JSON, JSON, Wire};
use crate::fake_ollama::json::Members;
use crate::fake_ollama::{answer, embed};

pub(crate) async fn route(
    server: &Server,
    key: Option<&str>,
    request: &Request,
    wire: &mut Wire<'_>,
    cut: &CancellationToken,
) -> io::Result<()> {
    server.stats.update(|all| {
        all.requests += 1;
        match request.path.as_str() {
            "/v1/models" => all.tags_calls += 1,
            "/v1/chat/completions" => all.chat_calls += 1,
            "/v1/completions" => all.generate_calls += 1,
            "/v1/embeddings" => all.embed_calls += 1,
            _ => {}
        }
    });
    server.log.push(request);
    let given = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    if key.is_some() && given != key {
        let message = format!("Incorrect API key provided: {}.", given.unwrap_or_default());
        return refuse(wire, 401, &message).await;
    }
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/v1/models") => models(server, wire).await,
        ("POST", path @ ("/v1/chat/completions" | "/v1/completions" | "/v1/embeddings")) => {
            let body: Members = match serde_json::from_slice(&request.body) {
                Ok(body) => body,
                Err(error) => return refuse(wire, 400, &error.to_string()).await,
            };
            match path {
                "/v1/chat/completions" => {
                    answer::answer(server, request, Api::OpenAiChat, &body, wire, cut).await
                }
                "/v1/completions" => answer::answer(server, request, Api::OpenAiText, &body, wire, cut).await,
                _ => embed::embed(server, &body, embed::Shape::OpenAi, wire, cut).await,
            }
        }
        (method, path) => refuse(wire, 404, &format!("Invalid URL ({method} {path})")).await,
    }
}

async fn models(server: &Server, wire: &mut Wire<'_>) -> io::Result<()> {
    let listing = server.listing();
    if let Listing::Slow(delay) = listing {
        tokio::time::sleep(delay).await;
    }
    if let Listing::Fails(status) = listing {
        return refuse(wire, status, "listing failed").await;
    }
    let models = server.all_models().into_iter().filter(|_| listing != Listing::Empty);
    let data: Vec<Value> = models
        .map(|model| {
            // Here a name without a tag is a whole one.
            let id = model.name.strip_suffix(":latest").unwrap_or(&model.name);
            json!({ "id": id, "object": "model", "created": 1_787_306_441, "owned_by": "fake",
                    "max_model_len": model.details.context_length })
        })
        .collect();
    wire.reply(200, JSON, &json!({ "object": "list", "data": data }).to_string()).await
}

async fn refuse(wire: &mut Wire<'_>, status: u16, message: &str) -> io::Result<()> {
    wire.reply(status, ERROR_JSON, &error_body(status, message)).await
}

/// The body of an error reply.
pub(crate) fn error_body(status: u16, message: &str) -> String {
    let (kind, code) = match status {
        401 => ("invalid_request_error", json!("invalid_api_key")),
        404 if message.contains("model") => ("invalid_request_error", json!("model_not_found")),
        429 => ("requests", json!("rate_limit_exceeded")),
        500.. => ("server_error", Value::Null),
        _ => ("invalid_request_error", Value::Null),
    };
    json!({ "error": { "message": message, "type": kind, "param": null, "code": code } }).to_string()
}
