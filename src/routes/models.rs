//! `/v1/models`: what can be asked, in OpenAI's shape with fields of our own.

use std::sync::Arc;

use actors::{
    model::{Model, ModelState},
    system::System,
};
use domain::model_name::ModelName;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::list::List;
use crate::{
    dialects::native::millis,
    http::{ApiError, Call, Reply, json_reply},
};

#[derive(Serialize, ToSchema)]
pub(crate) struct ModelCard {
    #[schema(example = "llama3.2:latest")]
    id: String,
    /// Which model stands for this name now, if it is an alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    alias_of: Option<String>,
    object: &'static str,
    /// Unix seconds; 0 when its server does not tell.
    created: i64,
    owned_by: &'static str,
    /// `available`, `loading` (asked for and not in memory yet), `unreachable` or `degraded`.
    state: &'static str,
    /// Whether a server holds it in memory, so that a turn need not wait for it to be loaded.
    loaded: bool,
    capabilities: Vec<String>,
    context_length: Option<u32>,
    family: String,
    parameter_size: String,
    quantization: String,
    size_bytes: u64,
    queue: Queue,
}

/// How busy the model is.
#[derive(Serialize, ToSchema)]
pub(crate) struct Queue {
    /// Turns it runs at once.
    slots: usize,
    running: usize,
    waiting: usize,
    /// Milliseconds until the next turn of somebody who has none waiting should start; `null` before any was measured.
    eta_ms: Option<u64>,
}

impl From<Model> for ModelCard {
    fn from(model: Model) -> Self {
        Self {
            id: model.display_name,
            alias_of: model.alias_of,
            object: "model",
            created: model.modified_at.map_or(0, |at| at.timestamp()),
            owned_by: "deepersensor",
            state: match model.state {
                ModelState::Available => "available",
                ModelState::Loading => "loading",
                ModelState::Unreachable => "unreachable",
                ModelState::Degraded => "degraded",
            },
            loaded: model.is_loaded,
            capabilities: model.capabilities,
            context_length: model.context_length,
            family: model.family,
            parameter_size: model.parameter_size,
            quantization: model.quantization,
            size_bytes: model.size_bytes,
            queue: Queue {
                slots: model.slots,
                running: model.running,
                waiting: model.waiting,
                eta_ms: model.wait.map(millis),
            },
        }
    }
}

/// Lists the models, by name.
#[utoipa::path(get, path = "/v1/models", operation_id = "listModels", tag = "models",
    responses((status = 200, body = List<ModelCard>)))]
pub(crate) async fn list(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let models = system.models.models_for(&call.principal()?).into_iter().map(ModelCard::from).collect();
    Ok(json_reply(StatusCode::OK, &List::new(models, None)))
}

/// Tells about one model. Its name may hold slashes and a colon, raw or percent-encoded.
#[utoipa::path(get, path = "/v1/models/{id}", operation_id = "readModel", tag = "models",
    params(("id" = String, Path, description = "Any spelling of the model's name")),
    responses((status = 200, body = ModelCard)))]
pub(crate) async fn read(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    // A name that is none cannot be shown back: it may hold anything.
    let name = ModelName::parse(call.param()).map_err(|_| ApiError::not_found("there is no such model"))?;
    let model = system
        .models
        .model(&call.principal()?, &name)
        .ok_or_else(|| ApiError::model_not_found(name.as_str()))?;
    Ok(json_reply(StatusCode::OK, &ModelCard::from(model)))
}
