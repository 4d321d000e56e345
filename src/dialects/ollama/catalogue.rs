//! Models as Ollama lists and describes them. Nothing of how a server keeps them is in it: no paths, no templates, no licences.

use actors::model::Model;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

/// The release of Ollama whose clients find here what they know.
pub(crate) const OLLAMA_VERSION: &str = "0.32.15";

#[derive(Serialize, ToSchema)]
pub(crate) struct VersionView {
    /// The Ollama that this speaks like.
    pub(crate) version: &'static str,
    pub(crate) deepersensor: &'static str,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Tags {
    pub(crate) models: Vec<Tag>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Tag {
    name: String,
    model: String,
    modified_at: Option<DateTime<Utc>>,
    size: u64,
    digest: String,
    details: Details,
    capabilities: Vec<String>,
}

#[derive(Serialize, ToSchema)]
struct Details {
    parent_model: &'static str,
    format: String,
    family: String,
    families: Vec<String>,
    parameter_size: String,
    quantization_level: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_length: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding_length: Option<u32>,
}

/// Models in memory. How long each stays, and where in memory it lies, is not told.
#[derive(Serialize, ToSchema)]
pub(crate) struct Loaded {
    pub(crate) models: Vec<LoadedModel>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct LoadedModel {
    name: String,
    model: String,
    size: u64,
    digest: String,
    details: Details,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_length: Option<u32>,
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct ShowBody {
    /// Or `name`, by which older clients say it.
    pub(crate) model: Option<String>,
    pub(crate) name: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Shown {
    /// Always empty.
    modelfile: &'static str,
    template: &'static str,
    details: Details,
    #[schema(value_type = Object)]
    model_info: Map<String, Value>,
    capabilities: Vec<String>,
    modified_at: Option<DateTime<Utc>>,
}

fn details(model: &Model) -> Details {
    Details {
        parent_model: "",
        format: model.format.clone(),
        family: model.family.clone(),
        families: model.families.clone(),
        parameter_size: model.parameter_size.clone(),
        quantization_level: model.quantization.clone(),
        context_length: model.context_length,
        embedding_length: model.embedding_length,
    }
}

impl From<Model> for Tag {
    fn from(model: Model) -> Self {
        Self {
            details: details(&model),
            model: model.display_name.clone(),
            name: model.display_name,
            modified_at: model.modified_at,
            size: model.size_bytes,
            digest: model.digest,
            capabilities: model.capabilities,
        }
    }
}

impl From<Model> for LoadedModel {
    fn from(model: Model) -> Self {
        Self {
            details: details(&model),
            model: model.display_name.clone(),
            name: model.display_name,
            size: model.size_bytes,
            digest: model.digest,
            context_length: model.context_length,
        }
    }
}

impl From<Model> for Shown {
    fn from(model: Model) -> Self {
        let family = model.family.as_str();
        let mut model_info = Map::from_iter([("general.architecture".to_owned(), json!(family))]);
        let lengths =
            [("context_length", model.context_length), ("embedding_length", model.embedding_length)];
        for (name, length) in lengths {
            if let Some(length) = length {
                model_info.insert(format!("{family}.{name}"), json!(length));
            }
        }
        Self {
            modelfile: "",
            template: "",
            details: details(&model),
            model_info,
            capabilities: model.capabilities,
            modified_at: model.modified_at,
        }
    }
}
