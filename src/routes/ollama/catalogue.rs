//! What there is: `/`, `/api/version`, `/api/tags`, `/api/ps`, `/api/show`.

use std::sync::Arc;

use actors::system::System;
use domain::model_name::ModelName;
use http::StatusCode;

use crate::{
    dialects::ollama::catalogue::{
        Loaded, LoadedModel, OLLAMA_VERSION, ShowBody, Shown, Tag, Tags, VersionView,
    },
    http::{ApiError, Call, Reply, json_reply, text_reply},
};

/// Says that somebody is here, in the words that Ollama's clients look for.
#[utoipa::path(get, path = "/", operation_id = "isRunning", tag = "ollama",
    responses((status = 200, content_type = "text/plain", body = String)))]
pub(crate) async fn running(_: Arc<System>, _: Call) -> Result<Reply, ApiError> {
    Ok(text_reply("text/plain; charset=utf-8", "Ollama is running".to_owned()))
}

/// Says which Ollama this speaks like.
#[utoipa::path(get, path = "/api/version", operation_id = "ollamaVersion", tag = "ollama",
    responses((status = 200, body = VersionView)))]
pub(crate) async fn version(_: Arc<System>, _: Call) -> Result<Reply, ApiError> {
    let version = VersionView { version: OLLAMA_VERSION, deepersensor: env!("CARGO_PKG_VERSION") };
    Ok(json_reply(StatusCode::OK, &version))
}

/// Lists the models that the caller may ask.
#[utoipa::path(get, path = "/api/tags", operation_id = "ollamaListModels", tag = "ollama",
    responses((status = 200, body = Tags)))]
pub(crate) async fn tags(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let models = system.models.models_for(&call.principal()?).into_iter().map(Tag::from).collect();
    Ok(json_reply(StatusCode::OK, &Tags { models }))
}

/// Lists those of them that are in memory.
#[utoipa::path(get, path = "/api/ps", operation_id = "ollamaListLoaded", tag = "ollama",
    responses((status = 200, body = Loaded)))]
pub(crate) async fn loaded(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let models = system.models.models_for(&call.principal()?).into_iter();
    let models = models.filter(|model| model.is_loaded).map(LoadedModel::from).collect();
    Ok(json_reply(StatusCode::OK, &Loaded { models }))
}

/// Describes a model, without its template and licence.
#[utoipa::path(post, path = "/api/show", operation_id = "ollamaShow", tag = "ollama", request_body = ShowBody,
    responses((status = 200, body = Shown), (status = 404, description = "No such model")))]
pub(crate) async fn show(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let name = call.untyped_chat(|body: ShowBody, _| Ok(body.model.or(body.name))).await?;
    let name = name.ok_or_else(|| ApiError::invalid("model is required").at("model"))?;
    let name = ModelName::parse(&name).map_err(|_| ApiError::not_found("there is no such model"))?;
    let model = system.models.model(&call.principal()?, &name);
    let model = model.ok_or_else(|| ApiError::model_not_found(name.as_str()))?;
    Ok(json_reply(StatusCode::OK, &Shown::from(model)))
}
